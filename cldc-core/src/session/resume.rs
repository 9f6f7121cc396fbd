//! How an extended session goes on from another address, at another server, or after a restart of the server
//! (docs/protocol.md 7.4).

use super::config::{OFFERED, RESUMED_WITHIN};
use super::event::{Handle, Rejected};
use super::{Datagram, Phase, Session, Transmit};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::answer::outcome;
use crate::wire::extended::{HELLO_PACKET, Resume, challenge, fill, resumed};
use crate::wire::{Ack, Code, Op, Packet, Part, Request, Rider, Writer};

/// How often each server is asked before it is the next one's turn.
const TIMES: u32 = 2;

/// How long an answer is waited for in the first round; twice as long in the next ones, up to four times.
const PAUSE: Duration = Duration::from_millis(250);
const DOUBLINGS: u32 = 2;

/// The shortest time between two resumptions that are begun because a server hints at it.
const HINTS: Duration = Duration::from_secs(1);

/// A session that is looking for its server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resuming {
    /// The number of the RESUME; the new stream of this session begins with the one after it.
    number: u64,
    xid: u64,
    /// The server's challenge; 0 as long as there is none.
    cookie: u64,
    /// When the RESUME left for the first time with this number and cookie.
    sent: Option<Instant>,
    /// When it leaves next, or the next server is asked.
    due: Instant,
    /// How often this server has been asked without an answer.
    times: u32,
    /// How many servers have been left in vain.
    left: u32,
    /// The beginning of the answer is here, and with it the new streams.
    is_taking: bool,
}

impl Resuming {
    fn begin(now: Instant, rng: &mut Rng, left: u32) -> Self {
        let (number, xid) = (rng.next_u64(), rng.next_u64());
        Self { number, xid, cookie: 0, sent: None, due: now, times: 0, left, is_taking: false }
    }

    /// Whether the answer is being taken in.
    pub(super) const fn is_taking(&self) -> bool {
        self.is_taking
    }

    /// Whether a packet answers this RESUME.
    pub(super) const fn is_named(&self, number: u64) -> bool {
        self.number == number
    }

    pub(super) const fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// Whether the RESUME leaves now; it counts as sent. `pause` is the time for an answer.
    fn poll(&mut self, now: Instant, pause: Duration) -> bool {
        if self.is_taking || self.times >= TIMES || now < self.due {
            return false;
        }
        self.sent.get_or_insert(now);
        // The server sends an answer again of itself; a challenge it does not.
        self.due = now + if self.cookie == 0 { pause } else { pause.times(2) };
        self.times = self.times.saturating_add(1);
        true
    }

    /// Whether this server has had its time.
    fn is_in_vain(&self, now: Instant) -> bool {
        now >= self.due && (self.is_taking || self.times >= TIMES)
    }
}

impl<const RX: usize, const TX: usize, const REQUESTS: usize, const HANDLES: usize, const EARLY: usize>
    Session<RX, TX, REQUESTS, HANDLES, EARLY>
{
    /// Begins to resume at the present server, if that has not begun yet.
    pub(super) fn resume(&mut self) {
        let Some(extended) = &mut self.extended else { return };
        if extended.resuming.is_none() {
            extended.keep_alive.cancel();
            extended.resuming = Some(Resuming::begin(self.now, &mut self.rng, 0));
        }
    }

    /// Asks the present server, which is another one than before.
    pub(super) fn resume_here(&mut self) {
        let Some(extended) = &mut self.extended else { return };
        extended.keep_alive.cancel();
        let left = extended.resuming.as_ref().map_or(0, |resuming| resuming.left);
        extended.resuming = Some(Resuming::begin(self.now, &mut self.rng, left));
    }

    /// Goes on to the next server if this one is silent.
    pub(super) fn handle_resume_timeout(&mut self) {
        let now = self.now;
        let Some(resuming) = self.resuming_mut() else { return };
        if resuming.is_in_vain(now) {
            resuming.left = resuming.left.saturating_add(1);
            self.refusals = 0;
            self.go_to_next();
            self.resume_here();
        }
    }

    fn resuming_mut(&mut self) -> Option<&mut Resuming> {
        self.extended.as_mut()?.resuming.as_mut()
    }

    /// The RESUME, if it leaves now.
    pub(super) fn transmit_resume(&mut self, buffer: &mut Datagram) -> Option<Transmit> {
        let (now, round_trip) = (self.now, self.sender.round_trip().unwrap_or_default());
        let servers = u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        let extended = self.extended.as_mut()?;
        let next = extended.coming_xid();
        let resuming = extended.resuming.as_mut()?;
        let rounds = resuming.left.checked_div(servers).unwrap_or(0).min(DOUBLINGS);
        if !resuming.poll(now, PAUSE.times(1 << rounds).max(round_trip.times(2))) {
            return None;
        }
        let Resuming { number, xid, cookie, .. } = *resuming;
        let oldest = self.sender.get(0).map_or(next, |message| message.xid);
        let mut body = [0; HELLO_PACKET];
        let mut out = Writer::new(&mut body);
        Request::Resume(Resume { hello: self.hello(), cookie, oldest }).emit(&mut out).ok()?;
        fill(&self.user, &mut out).ok()?;
        self.emit(None, Part::Only { xid, op: Op::Resume }, number, out.written(), buffer)
    }

    /// A RESUME from the server outside the streams: a challenge, a hint that this session should resume, or the
    /// refusal of that.
    pub(super) fn handle_challenge(&mut self, packet: &Packet<'_>) -> Result<(), Rejected> {
        let (Part::Only { .. }, Ok((code, xid))) = (packet.part, outcome(packet.piece)) else {
            return Err(Rejected::Malformed);
        };
        let now = self.now;
        let Some(extended) = &mut self.extended else { return Err(Rejected::Malformed) };
        let cookie = challenge(packet.piece).filter(|&cookie| cookie != 0);
        let Some(resuming) = &mut extended.resuming else {
            let is_hint = code == Code::Challenge && cookie.is_none();
            if !is_hint || extended.hinted.is_some_and(|at| now.since(at) < HINTS) {
                return Err(Rejected::Number);
            }
            extended.hinted = Some(now);
            self.resume();
            return Ok(());
        };
        if (resuming.number, resuming.xid) != (packet.number, xid) || resuming.is_taking {
            return Err(Rejected::Number);
        }
        match (code, cookie) {
            (Code::Challenge, Some(cookie)) if resuming.cookie == 0 => {
                (resuming.cookie, resuming.sent) = (cookie, None);
                (resuming.due, resuming.times) = (now, 0);
            }
            // It has taken the one before, and its answer was lost: another number tells its next one from that.
            (Code::Challenge, Some(cookie)) if resuming.cookie != cookie => {
                let due = resuming.due;
                *resuming = Resuming { due, ..Resuming::begin(now, &mut self.rng, resuming.left) };
            }
            (Code::SessInval, _) => self.lose(),
            // It will not say anything else when it is asked again.
            (Code::Challenge, _) => return Err(Rejected::Number),
            _ => resuming.times = TIMES,
        }
        Ok(())
    }

    /// If this is the first packet of the answer to the RESUME, goes over to the new streams. It tells from others by
    /// what it acknowledges: only who has the RESUME knows its number.
    pub(super) fn begin_streams(&mut self, packet: &Packet<'_>, rider: Rider) {
        let Some(extended) = &mut self.extended else { return };
        let Some(resuming) = &mut extended.resuming else { return };
        let first = resuming.number.wrapping_add(1);
        let is_first = packet.part.is_first() && packet.part.op() == Some(Op::Resume);
        let is_answer = is_first && resuming.cookie != 0 && rider.ack == Ack { next: first, held: 0 };
        if is_answer && !resuming.is_taking {
            resuming.is_taking = true;
            resuming.due = self.now + RESUMED_WITHIN;
            self.sender.renumber(first);
            self.receiver.restart(packet.number);
            extended.acknowledger.sent();
        }
    }

    /// The answer to the RESUME is whole. One that is of no use is left; when its time is over, the next server is
    /// asked.
    pub(super) fn handle_resumed(&mut self) {
        let Some(message) = self.receiver.message().filter(|message| !message.cut) else { return };
        let Some(extended) = &mut self.extended else { return };
        let Some(resuming) = extended.resuming.filter(Resuming::is_taking) else { return };
        let is_answer = outcome(message.body) == Ok((Code::Ok, resuming.xid));
        let Some((welcome, stands)) = resumed(message.body).filter(|_| is_answer) else { return };
        if welcome.epoch < self.seen_epoch {
            return;
        }
        let sender = &self.sender;
        self.handles.reconcile(stands, |handle: Handle| {
            let changes = |op| matches!(op, Op::Lock | Op::TryLock | Op::Unlock | Op::Close);
            sender.iter().any(|message| message.body.handle == Some(handle) && changes(message.op))
        });
        self.failover_untold |= welcome.epoch != extended.epoch;
        if welcome.window != extended.window {
            self.sender.set_selective(welcome.window.into());
            self.sender.renumber(resuming.number.wrapping_add(1));
        }
        extended.adopt(&welcome, OFFERED);
        extended.resuming = None;
        self.refusals = 0;
        self.accept_terms(&welcome, resuming.sent.unwrap_or(self.now));
    }

    /// Whether the master is being looked for, or the session is as it was.
    pub(super) fn is_resuming(&self) -> bool {
        self.extended.as_ref().is_some_and(|extended| extended.resuming.is_some())
            && !matches!(self.phase, Phase::Ended(_))
    }
}
