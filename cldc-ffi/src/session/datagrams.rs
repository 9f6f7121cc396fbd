//! What comes in from outside: datagrams and the time; and what is asked about it.
#![expect(unsafe_code, reason = "functions under names of C")]

use core::ffi::{c_int, c_void};
use core::ptr;

use cldc_core::lease::LeaseState;
use cldc_core::session::Rejected;

use super::{Session, entry, turn};
use crate::pointers;
use crate::types::Errno;

/// `cldc_receive_pkt`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_receive_pkt(
    session: *mut Session,
    net_addr: *const c_void,
    net_addrlen: usize,
    buf: *const c_void,
    buflen: usize,
) -> c_int {
    let result = entry::session(session).and_then(|session| {
        if session.busy {
            return Err(Errno::Busy);
        }
        let from = pointers::bytes(net_addr, net_addrlen)?;
        let datagram = pointers::bytes(buf, buflen)?;
        Ok((session.receive(from, datagram), turn::run(ptr::from_mut(session), true)))
    });
    match result {
        Ok((_, told)) if told < 0 => told,
        Ok((Err(errno), _)) | Err(errno) => -(errno as c_int),
        Ok((Ok(()), _)) => 0,
    }
}

/// `cldc_session_timeout`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_session_timeout(session: *mut Session) -> c_int {
    match entry::session(session) {
        Ok(session) if session.busy => -(Errno::Busy as c_int),
        Ok(session) => {
            if !session.is_over() {
                let now = session.now();
                session.core.handle_timeout(now);
            }
            turn::run(ptr::from_mut(session), true).min(0)
        }
        Err(errno) => -(errno as c_int),
    }
}

/// What C's timer calls. Gives for how many seconds it has been set again.
pub(super) unsafe extern "C" fn timer(session: *mut Session, _: *mut c_void) -> c_int {
    match entry::session(session) {
        Ok(session) if !session.busy => session.forget_timer(),
        _ => return 0,
    }
    // What callbacks say of datagrams is of no use to a timer.
    let _ = cldc_session_timeout(session);
    let Ok(session) = entry::session(session) else { return 0 };
    let Some(next) = session.next_timeout() else { return 0 };
    c_int::try_from(turn::seconds(session.time_left(Some(next)))).unwrap_or(c_int::MAX)
}

/// `cldc_session_next_timeout`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_session_next_timeout(session: *const Session) -> u64 {
    entry::session(session).map_or(u64::MAX, |session| session.time_left(session.next_timeout()))
}

/// `cldc_session_lease`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_session_lease(session: *const Session) -> c_int {
    match entry::session(session) {
        Ok(session) => match session.lease() {
            LeaseState::Safe => 0,
            LeaseState::Jeopardy => 1,
            LeaseState::Expired => 2,
        },
        Err(errno) => -(errno as c_int),
    }
}

/// `cldc_session_safe_us`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_session_safe_us(session: *const Session) -> u64 {
    entry::session(session).map_or(0, |session| session.safe_us())
}

/// `cldc_session_is_extended`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_session_is_extended(session: *const Session) -> c_int {
    match entry::session(session) {
        Ok(session) => session.core.is_extended().into(),
        Err(errno) => -(errno as c_int),
    }
}

/// `cldc_session_sid`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_session_sid(session: *const Session, sid: *mut u8) -> c_int {
    let copied = entry::session(session).and_then(|session| {
        pointers::bytes_mut(sid.cast(), 8)?.copy_from_slice(&session.core.sid().to_le_bytes());
        Ok(())
    });
    crate::types::result(copied)
}

impl Session {
    fn receive(&mut self, from: &[u8], datagram: &[u8]) -> Result<(), Errno> {
        if self.is_over() {
            return Err(Errno::Pipe);
        }
        let from = self.addresses.to_core(from).ok_or(Errno::BadE)?;
        let now = self.now();
        self.core.handle_datagram(now, from, datagram).map_err(|rejected| match rejected {
            Rejected::Address => Errno::BadE,
            Rejected::Malformed => Errno::Proto,
            Rejected::Session | Rejected::Forged => Errno::Acces,
            Rejected::Ended => Errno::Pipe,
            _ => Errno::BadSlt,
        })
    }

    fn lease(&self) -> LeaseState {
        if self.is_over() { LeaseState::Expired } else { self.core.lease_state(self.now()) }
    }

    /// For how long the lease is safe.
    pub(super) fn safe_us(&self) -> u64 {
        match self.lease() {
            LeaseState::Safe => self.core.safe_until().map_or(0, |until| self.time_left(Some(until))),
            LeaseState::Jeopardy | LeaseState::Expired => 0,
        }
    }
}
