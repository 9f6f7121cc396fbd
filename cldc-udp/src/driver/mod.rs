//! A session and all who wait for it, without any I/O: what both clients share.
//!
//! Like the core beneath it, the driver is fed with the time and with datagrams, and is asked for datagrams and for when
//! it wants to be called next. On top of the core it has callers: each holds a ticket, has a deadline, and is woken
//! when its result is there. A caller that gives up, or comes too late, leaves nothing behind: its handle is closed,
//! its lock released, its place in a lock's queue left.

mod call;
mod desk;
mod readers;
#[cfg(test)]
mod tests;
mod tickets;

use std::net::SocketAddr;
use std::task::{Poll, Waker};

use cldc_core::lease::LeaseState;
use cldc_core::session::{
    CallError, Config, ConfigError, Datagram, FullSession, Handle, LockState, PLAIN_TERMS, Transmit,
};
use cldc_core::time::{Duration, Instant};

pub(crate) use call::{Call, Reply};
pub(crate) use readers::ReaderId;
pub(crate) use tickets::TicketId;

#[cfg(feature = "std")]
use crate::error::Error;
use crate::error::Result;
use crate::types::{FileEvent, LeaseTerms};
use desk::{Desk, Lane, Over};
use tickets::Wait;

/// How long a session whose last user is gone goes on trying to end itself.
const LAST_TRY: Duration = Duration::from_secs(5);

/// What `connect` was doing when its deadline passed. Servers answer a stranger with silence.
const CONNECTING: &str = "connecting: no server opened the session \
    (a server that does not know the user or the key does not answer)";

/// A session and all who wait for it.
#[derive(Debug)]
pub(crate) struct Driver {
    session: Box<FullSession>,
    desk: Desk,
    /// When to give up ending the session, once the last user is gone.
    last_try: Option<Instant>,
    /// An OPEN waits because the session holds no more handles.
    short_of_handles: bool,
}

impl Driver {
    /// A driver whose session begins at once. It needs a few megabytes of stack for a moment.
    pub(crate) fn new(config: &Config<'_>, now: Instant) -> std::result::Result<Self, ConfigError> {
        let session = Box::new(FullSession::new(config, now)?);
        Ok(Self { session, desk: Desk::default(), last_try: None, short_of_handles: false })
    }

    /// Waits until the session is open.
    pub(crate) fn wait_connected(&mut self, deadline: Instant) -> TicketId {
        let ticket = self.desk.tickets.issue(Wait::Connecting, CONNECTING, Some(deadline));
        match self.desk.over() {
            // The answer was faster than the caller.
            Some(over) => self.desk.tickets.complete(ticket, Err(over.error())),
            None if self.session.is_open() => self.desk.tickets.complete(ticket, Ok(Reply::Done)),
            None => {}
        }
        ticket
    }

    /// Makes a call, which ends by its deadline.
    pub(crate) fn submit(&mut self, now: Instant, call: Call, deadline: Instant) -> TicketId {
        let ticket = self.desk.tickets.issue(Wait::Queued, call.doing(), Some(deadline));
        self.desk.submit(ticket, call);
        self.settle(now);
        ticket
    }

    /// Waits until the lock of a handle is not certain any more. Without a deadline, it waits for as long as that takes.
    pub(crate) fn wait_lost(&mut self, now: Instant, handle: Handle, deadline: Option<Instant>) -> TicketId {
        let ticket = self.desk.tickets.issue(Wait::Lost(handle), "holding a lock", deadline);
        self.settle(now);
        ticket
    }

    /// Waits until the lease is to be trusted more, or less, than `from` says.
    pub(crate) fn wait_lease(&mut self, now: Instant, from: LeaseState, deadline: Instant) -> TicketId {
        let ticket =
            self.desk.tickets.issue(Wait::Lease(from), "waiting for a change of the lease", Some(deadline));
        self.settle(now);
        ticket
    }

    /// The result of a ticket, once; until then the caller will be woken.
    pub(crate) fn poll(&mut self, ticket: TicketId, waker: &Waker) -> Poll<Result<Reply>> {
        self.desk.tickets.poll(ticket, waker)
    }

    /// The caller does not wait any more.
    pub(crate) fn abandon(&mut self, now: Instant, ticket: TicketId) {
        if let Some(wait) = self.desk.tickets.remove(ticket) {
            self.release(ticket, wait);
            self.settle(now);
        }
    }

    /// Closes a handle in the background, if it is open.
    pub(crate) fn close_later(&mut self, now: Instant, handle: Handle) {
        self.desk.close_later(handle);
        self.settle(now);
    }

    /// Releases a lock in the background.
    pub(crate) fn unlock_later(&mut self, now: Instant, handle: Handle) {
        self.desk.unlock_later(handle);
        self.settle(now);
    }

    /// The last user is gone: ends the session, as long as that does not take too long.
    pub(crate) fn end_later(&mut self, now: Instant) {
        if self.session.safe_until().is_none() {
            // It has never been open.
            return self.stop();
        }
        self.last_try = Some(now + LAST_TRY);
        if self.session.is_open() && self.desk.over().is_none() {
            self.desk.end_later();
            self.settle(now);
        }
    }

    /// What moves the datagrams is gone: nothing will be answered any more.
    pub(crate) fn stop(&mut self) {
        self.desk.finish(Over::Stopped);
    }

    /// Takes in a datagram.
    pub(crate) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        // Most that is refused is noise, or comes twice.
        let _ = self.session.handle_datagram(now, from, datagram);
        self.settle(now);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
        while let Some((ticket, wait)) = self.desk.tickets.expire(now) {
            self.give_up(ticket, wait);
        }
        self.settle(now);
    }

    /// The next datagram to send now. To be called until there is none.
    pub(crate) fn poll_transmit(&mut self, now: Instant, buffer: &mut Datagram) -> Option<Transmit> {
        self.session.poll_transmit(now, buffer)
    }

    /// When [`Driver::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.session.poll_timeout(), self.desk.tickets.next_deadline(), self.last_try]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether there is nothing left to do: the session has ended, or nobody wants it and ending it took too long.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.desk.over().is_some() || self.last_try.is_some_and(|at| now >= at)
    }

    /// Who is to be woken, as soon as the driver is not locked any more.
    pub(crate) fn take_woken(&mut self) -> Vec<Waker> {
        self.desk.tickets.take_woken()
    }

    /// Adds a reader of file events.
    pub(crate) fn subscribe(&mut self) -> ReaderId {
        self.desk.readers.add()
    }

    /// Removes a reader.
    pub(crate) fn unsubscribe(&mut self, reader: ReaderId) {
        self.desk.readers.remove(reader);
    }

    /// A reader's next event; none when the session has ended.
    pub(crate) fn poll_file_event(&mut self, reader: ReaderId, waker: &Waker) -> Poll<Option<FileEvent>> {
        self.desk.readers.poll(reader, waker)
    }

    /// Why there are no events any more.
    #[cfg(feature = "std")]
    pub(crate) fn end_error(&self) -> Error {
        self.desk.over().map_or(Error::Closed, Over::error)
    }

    /// How far the lease is to be trusted at this moment.
    pub(crate) fn lease_state(&self, now: Instant) -> LeaseState {
        if self.desk.over().is_some() { LeaseState::Expired } else { self.session.lease_state(now) }
    }

    /// Whether the lock of this handle is held for certain at this moment.
    pub(crate) fn is_held(&self, now: Instant, handle: Handle) -> bool {
        self.lease_state(now) == LeaseState::Safe
            && self.desk.is_locking(handle)
            && self.session.lock_state(handle) == LockState::Held
    }

    /// For how long the lock of this handle is held for certain from now on, if nothing renews the lease.
    pub(crate) fn held_for(&self, now: Instant, handle: Handle) -> Duration {
        let until = self.session.safe_until().filter(|_| self.is_held(now, handle));
        until.map_or(Duration::ZERO, |until| until.since(now))
    }

    /// What the server has granted.
    pub(crate) fn terms(&self) -> LeaseTerms {
        // Only who waits for a session to be open is without.
        LeaseTerms::new(self.session.terms().unwrap_or(PLAIN_TERMS))
    }

    /// The highest epoch that the session has been told of, if it is an extended one.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.session.epoch()
    }

    /// Whether the session is an extended one.
    pub(crate) fn is_extended(&self) -> bool {
        self.session.is_extended()
    }

    /// The session's id.
    pub(crate) fn sid(&self) -> u64 {
        self.session.sid()
    }

    /// The session's server.
    pub(crate) fn server(&self) -> Option<SocketAddr> {
        self.session.server()
    }

    /// Draws the consequences of what has happened: takes the session's events, sends what waits for room, and
    /// looks after those who wait for a state.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.session.poll_event() {
            self.desk.tell(event);
        }
        self.send_waiting(now);
        let session = &self.session;
        self.desk.grant(|handle| session.lock_state(handle) == LockState::Held);
        let lease = self.lease_state(now);
        let lost =
            self.desk.tickets.watched().filter(|&handle| !self.is_held(now, handle)).collect::<Vec<_>>();
        self.desk.tickets.complete_all(|wait| match wait {
            Wait::Lost(handle) if lost.contains(handle) => Some(Ok(Reply::Done)),
            Wait::Lease(from) if *from != lease => Some(Ok(Reply::Lease(lease))),
            _ => None,
        });
    }

    /// Hands waiting calls to the session, in order of arrival, until it has no room. A call that needs much room is
    /// not overtaken by small ones.
    fn send_waiting(&mut self, now: Instant) {
        self.short_of_handles = false;
        for lane in [Lane::Calls, Lane::Opens] {
            while let Some(call) = self.desk.first(lane) {
                match call.start(&mut self.session, now) {
                    Err(CallError::Busy) => return,
                    Err(CallError::TooManyHandles) => {
                        self.short_of_handles = true;
                        return;
                    }
                    result => self.desk.started(lane, result),
                }
            }
        }
    }

    /// A caller's deadline has passed.
    fn give_up(&mut self, ticket: TicketId, wait: Wait) {
        if matches!(wait, Wait::Queued) && self.short_of_handles && self.desk.is_queued(Lane::Opens, ticket) {
            self.desk.tickets.complete(ticket, Err(CallError::TooManyHandles.into()));
        }
        self.release(ticket, wait);
    }

    /// Gives back what was taken, or asked for, on behalf of a caller that does not wait any more.
    fn release(&mut self, ticket: TicketId, wait: Wait) {
        match wait {
            Wait::Queued => self.desk.forget_queued(ticket),
            Wait::Sent(request) => {
                self.session.abandon(request);
                self.desk.forget_sent(request);
            }
            Wait::LockQueue(handle) => self.desk.forget_lock(handle),
            Wait::Over(result) => self.desk.forget_result(&result),
            Wait::Connecting | Wait::Ending | Wait::Lost(_) | Wait::Lease(_) => {}
        }
    }
}
