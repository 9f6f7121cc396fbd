//! What follows from a change: callbacks, datagrams, the timer.
//!
//! A turn is run by the outermost call on a session. Calls that C makes from its callbacks only change the session;
//! what follows from that comes later in the same turn.
#![expect(unsafe_code, reason = "calls functions of C, and looks at the session again afterwards")]

use core::ffi::{c_int, c_void};
use core::ptr;

use cldc_core::lease::LeaseState;
use cldc_core::session::{Datagram, End, Event, Outcome};
use cldc_core::time::Instant;
use cldc_core::wire::limits::MAX_PACKET;
use cldc_core::wire::{Code, EventMask};

use super::reply::Reply;
use super::{ALIVE, Callback, File, FileState, Session, Stage, datagrams};
use crate::address;
use crate::types::{CE_LEASE_JEOPARDY, CE_LEASE_SAFE, CallOpts};

/// What C is told next.
enum Telling {
    /// The outcome of a request, if somebody wants it.
    Answer(Option<Callback>, Code),
    /// An event of a file, or, without one, of the session.
    Event(*mut File, u32),
    /// Nothing, but there may be more.
    Nothing,
}

/// Lets the session tell and send. Gives the first negative result of a callback, or 0.
///
/// The pointer is that of a session that lives.
pub(super) fn run(session: *mut Session, tells: bool) -> c_int {
    // SAFETY: no reference to the session lives here; the caller passes a session that lives, whose memory the header
    // asks to keep until this turn is over. This holds for all that follows in this file.
    if core::mem::replace(unsafe { &mut (*session).busy }, true) {
        return 0;
    }
    let mut outcome = 0;
    while tells && is_alive(session) {
        let mut reply = Reply::empty();
        // SAFETY: as above; the reference ends before C's code runs.
        let Some(telling) = (unsafe { &mut *session }).next_telling(&mut reply) else { break };
        let answered = tell(session, telling, &reply);
        if outcome == 0 && answered < 0 {
            outcome = answered;
        }
    }
    transmit(session);
    set_timer(session);
    // SAFETY: as above.
    unsafe { (*session).busy = false };
    if !is_alive(session) {
        super::open::finish_kill(session);
    }
    outcome
}

fn is_alive(session: *mut Session) -> bool {
    // SAFETY: as in `run`.
    unsafe { (*session).magic == ALIVE }
}

fn tell(session: *mut Session, telling: Telling, reply: &Reply) -> c_int {
    match telling {
        Telling::Answer(Some(callback), code) => {
            let mut copts = CallOpts {
                cb: Some(callback.cb),
                private: callback.private,
                reply: ptr::from_ref(reply).cast(),
                check: 0,
            };
            let copts = &raw mut copts;
            // SAFETY: points to the struct above. The callback is C's own, and is given what the header promises.
            unsafe {
                (*copts).check = Reply::check(copts);
                (callback.cb)(copts, code.to_wire())
            }
        }
        Telling::Event(file, bits) => {
            // SAFETY: as in `run`; the function is C's own, and is given what the header promises.
            unsafe {
                let (event, private) = ((*session).ops.event, (*session).private);
                if let Some(event) = event {
                    event(private, session, file, bits);
                }
            }
            0
        }
        Telling::Answer(None, _) | Telling::Nothing => 0,
    }
}

/// Sends what is to be sent.
fn transmit(session: *mut Session) {
    let mut datagram: Datagram = [0; MAX_PACKET];
    while is_alive(session) {
        // SAFETY: as in `run`; the reference ends before C's code runs.
        let Some((to, len)) = (unsafe { &mut *session }).next_datagram(&mut datagram) else { return };
        // SAFETY: as in `run`; the function is C's own, and is given buffers that are good while it runs.
        unsafe {
            let (send, private) = ((*session).ops.pkt_send, (*session).private);
            if let Some(send) = send {
                // One that cannot be sent now is lost like others: it is sent again.
                let _ = send(private, to.as_ptr().cast(), to.len(), datagram.as_ptr().cast(), len);
            }
        }
    }
}

/// Sets C's timer for what is due next, if that has changed.
fn set_timer(session: *mut Session) {
    if !is_alive(session) {
        return;
    }
    // SAFETY: as in `run`; the reference ends before C's code runs.
    let (next, delay) = {
        let session = unsafe { &mut *session };
        let next = session.next_timeout();
        if next == session.armed {
            return;
        }
        session.armed = next;
        (next, next.map_or(0, |at| at.since(session.now()).as_micros()))
    };
    ask_timer(session, next.is_some(), delay);
}

/// Sets C's timer, or cancels it.
pub(super) fn ask_timer(session: *mut Session, add: bool, delay_us: u64) {
    let callback = add.then_some(datagrams::timer as crate::types::TimerFn);
    // SAFETY: as in `run`; the functions are C's own.
    unsafe {
        let (ops, env, private) = ((*session).ops, (*session).env, (*session).private);
        // If it did not work, there is nothing to be done: the session waits for its next datagram.
        if let Some(timer_us) = env.timer_us {
            timer_us(private, add, callback, ptr::null_mut::<c_void>(), delay_us);
        } else if let Some(timer_ctl) = ops.timer_ctl {
            timer_ctl(private, add, callback, ptr::null_mut::<c_void>(), seconds(delay_us));
        }
    }
}

/// Whole seconds, never too few.
pub(super) const fn seconds(micros: u64) -> i64 {
    let seconds = micros.div_ceil(1_000_000);
    if seconds == 0 { 1 } else { seconds.cast_signed() }
}

impl Session {
    /// What C is to be told next; what belongs to it goes into `reply`.
    fn next_telling(&mut self, reply: &mut Reply) -> Option<Telling> {
        if core::mem::take(&mut self.failed_untold) {
            self.log(c"the CLD session is lost");
            return Some(Telling::Event(ptr::null_mut(), EventMask::SESS_FAILED.0));
        }
        match self.stage {
            Stage::Over | Stage::GivenUp => return None,
            Stage::Opening { callback, until } if self.now() >= until => {
                self.lose(Stage::GivenUp);
                return Some(Telling::Answer(callback, Code::Timeout));
            }
            _ => {}
        }
        Some(match self.core.poll_event()? {
            Event::Connected => match core::mem::replace(&mut self.stage, Stage::Open) {
                Stage::Opening { callback, .. } => Telling::Answer(callback, Code::Ok),
                _ => Telling::Nothing,
            },
            Event::Done { request, result } => {
                let file = self.files.iter_mut().find(|file| file.state == FileState::Opening(request));
                let code = match result {
                    Ok(Outcome::LockPending) => Code::LockPending,
                    Ok(outcome) => {
                        reply.fill(&outcome);
                        Code::Ok
                    }
                    Err(code) => code,
                };
                match (file, result) {
                    (Some(file), Ok(Outcome::Opened(handle))) => file.state = FileState::Open(handle),
                    (Some(file), _) => file.state = FileState::Free,
                    (None, _) => {}
                }
                let place = self.calls.iter().position(|call| call.request == request);
                let callback = place.and_then(|place| self.calls.swap_remove(place).callback);
                Telling::Answer(callback, code)
            }
            Event::Handle { handle, events, .. } => {
                let file = self.find(handle);
                if file.is_null() { Telling::Nothing } else { Telling::Event(file, events.0) }
            }
            Event::MasterFailover { .. } => Telling::Event(ptr::null_mut(), EventMask::MASTER_FAILOVER.0),
            Event::Lease(state) => match state {
                LeaseState::Safe if self.tell_lease => Telling::Event(ptr::null_mut(), CE_LEASE_SAFE),
                LeaseState::Jeopardy if self.tell_lease => Telling::Event(ptr::null_mut(), CE_LEASE_JEOPARDY),
                _ => Telling::Nothing,
            },
            Event::Ended(end) => self.ended(end),
            _ => Telling::Nothing,
        })
    }

    fn ended(&mut self, end: End) -> Telling {
        match (core::mem::replace(&mut self.stage, Stage::Over), end) {
            (Stage::Ending { callback }, End::Closed) => {
                if callback.is_none() {
                    // Nobody will.
                    self.magic = 0;
                }
                Telling::Answer(callback, Code::Ok)
            }
            (Stage::Opening { callback, .. }, End::Refused(code)) => {
                self.log(c"the server has refused the CLD session");
                Telling::Answer(callback, code)
            }
            (Stage::Opening { callback, .. } | Stage::Ending { callback }, _) => {
                self.lose(Stage::Over);
                Telling::Answer(callback, Code::Timeout)
            }
            (Stage::Open | Stage::Over | Stage::GivenUp, _) => {
                self.lose(Stage::Over);
                Telling::Nothing
            }
        }
    }

    fn lose(&mut self, stage: Stage) {
        self.stage = stage;
        self.failed_untold = true;
    }

    fn next_datagram(&mut self, datagram: &mut Datagram) -> Option<(address::Bytes, usize)> {
        if matches!(self.stage, Stage::GivenUp) {
            return None;
        }
        let transmit = self.core.poll_transmit(self.now(), datagram)?;
        Some((self.addresses.to_c(transmit.to), transmit.len))
    }

    pub(super) fn forget_timer(&mut self) {
        self.armed = None;
    }

    pub(super) fn time_left(&self, until: Option<Instant>) -> u64 {
        until.map_or(u64::MAX, |at| at.since(self.now()).as_micros())
    }
}
