//! What is known of a session beside the session itself: calls that wait or are on their way, open files, readers.

use std::collections::{BTreeMap, VecDeque};

use cldc_core::lease::LeaseState;
use cldc_core::session::{CallError, End, Event, Handle, Outcome, RequestId};
use cldc_core::wire::{Code, EventMask};

use super::call::{Call, Reply};
use super::readers::Readers;
use super::tickets::{TicketId, Tickets, Wait};
use crate::error::{Error, Result};
use crate::sequencer::Sequencer;
use crate::types::{Contents, FileEvent};

/// How many calls may wait for room in the session.
const MAX_WAITING: usize = 4096;

/// A call that waits for room in the session; without a ticket it is made in the background.
#[derive(Debug)]
struct Queued {
    ticket: Option<TicketId>,
    call: Call,
}

/// Which of two queues a call waits in. Calls on open handles go first: they are what makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Calls,
    Opens,
}

/// An open file.
#[derive(Debug)]
struct OpenFile {
    path: Vec<u8>,
    /// A caller holds its lock, or has asked for it.
    locking: bool,
    /// What the grant of a lock that waited has told, until its caller takes it.
    granted: Option<Sequencer>,
    deleted: bool,
}

/// Why nothing can be asked any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// A user ended the session, and the server has agreed.
    Closed,
    /// The lease has run out, or the server has forgotten the session.
    Lost,
    /// The server did not open the session.
    Refused(Code),
    /// Nobody moves datagrams any more.
    Stopped,
}

impl Over {
    pub(super) fn error(self) -> Error {
        match self {
            Self::Closed | Self::Stopped => Error::Closed,
            Self::Lost => Error::SessionLost,
            Self::Refused(code) => Error::Server(code),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) tickets: Tickets,
    pub(super) readers: Readers,
    calls: VecDeque<Queued>,
    opens: VecDeque<Queued>,
    sent: BTreeMap<RequestId, (Option<TicketId>, Call)>,
    files: BTreeMap<Handle, OpenFile>,
    /// The callers whose locks wait in the server's queue.
    lock_queue: BTreeMap<Handle, TicketId>,
    over: Option<Over>,
}

impl Desk {
    /// Queues a call, or says at once why it cannot be made.
    pub(super) fn submit(&mut self, ticket: TicketId, call: Call) {
        if let Err(error) = self.admit(&call) {
            self.tickets.complete(ticket, Err(error));
        } else if self.over == Some(Over::Closed) {
            // To end what has ended is no error; `admit` refuses everything else.
            self.tickets.complete(ticket, Ok(Reply::Done));
        } else {
            self.queue(Some(ticket), call);
        }
    }

    fn admit(&mut self, call: &Call) -> Result<()> {
        match (self.over, call) {
            (None, _) | (Some(Over::Closed), Call::End) => {}
            (Some(over), _) => return Err(over.error()),
        }
        if self.calls.len().saturating_add(self.opens.len()) >= MAX_WAITING {
            return Err(Error::Call(CallError::Busy));
        }
        match *call {
            Call::Close(handle) => {
                self.files.remove(&handle);
                self.leave_lock_queue(handle, Code::FhInval);
            }
            Call::Unlock(handle) => self.set_locking(handle, false),
            // A second request on the same handle could not be told from the first one.
            Call::Lock { handle, .. } if self.is_locking(handle) => {
                return Err(Error::Server(Code::LockConflict));
            }
            Call::Lock { handle, .. } => self.set_locking(handle, true),
            _ => {}
        }
        Ok(())
    }

    fn queue(&mut self, ticket: Option<TicketId>, call: Call) {
        let lane = if matches!(call, Call::Open { .. }) { Lane::Opens } else { Lane::Calls };
        self.lane(lane).push_back(Queued { ticket, call });
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<Queued> {
        match lane {
            Lane::Calls => &mut self.calls,
            Lane::Opens => &mut self.opens,
        }
    }

    /// The call that is next in its lane.
    pub(super) fn first(&mut self, lane: Lane) -> Option<&Call> {
        self.lane(lane).front().map(|queued| &queued.call)
    }

    pub(super) fn is_queued(&mut self, lane: Lane, ticket: TicketId) -> bool {
        self.lane(lane).iter().any(|queued| queued.ticket == Some(ticket))
    }

    /// Closes a handle in the background, if it is open.
    pub(super) fn close_later(&mut self, handle: Handle) {
        if self.files.remove(&handle).is_some() && self.over.is_none() {
            self.queue(None, Call::Close(handle));
        }
    }

    /// Releases a handle's lock in the background, if it is held or asked for.
    pub(super) fn unlock_later(&mut self, handle: Handle) {
        if self.is_locking(handle) && self.over.is_none() {
            self.set_locking(handle, false);
            self.queue(None, Call::Unlock(handle));
        }
    }

    /// Ends the session in the background.
    pub(super) fn end_later(&mut self) {
        self.queue(None, Call::End);
    }

    /// The first call of a lane has been given to the session.
    pub(super) fn started(&mut self, lane: Lane, result: std::result::Result<Option<RequestId>, CallError>) {
        let Some(Queued { ticket, mut call }) = self.lane(lane).pop_front() else { return };
        match result {
            Ok(Some(request)) => {
                if let Some(ticket) = ticket {
                    self.tickets.set(ticket, Wait::Sent(request));
                }
                if let Call::Put(_, data) | Call::PutFenced(_, _, data) = &mut call {
                    // The session has its own copy.
                    *data = Vec::new();
                }
                self.sent.insert(request, (ticket, call));
            }
            Ok(None) => {
                if let Some(ticket) = ticket {
                    self.tickets.set(ticket, Wait::Ending);
                }
            }
            Err(error) => self.conclude(ticket, &call, Err(error.into())),
        }
    }

    /// Takes a call out of its lane because nobody waits for it any more. What gives something back stays.
    pub(super) fn forget_queued(&mut self, ticket: TicketId) {
        for lane in [Lane::Calls, Lane::Opens] {
            let queue = self.lane(lane);
            let Some(index) = queue.iter().position(|queued| queued.ticket == Some(ticket)) else { continue };
            if let Some(release) = queue.get_mut(index).filter(|queued| queued.call.is_release()) {
                release.ticket = None;
            } else if let Some(Queued { call: Call::Lock { handle, .. }, .. }) = queue.remove(index) {
                self.set_locking(handle, false);
            }
        }
    }

    /// Nobody waits for this answer any more.
    pub(super) fn forget_sent(&mut self, request: RequestId) {
        if let Some((_, Call::Lock { handle, .. })) = self.sent.remove(&request) {
            self.unlock_later(handle);
        }
    }

    /// Nobody waits for this lock any more: leaves its queue.
    pub(super) fn forget_lock(&mut self, handle: Handle) {
        self.lock_queue.remove(&handle);
        self.unlock_later(handle);
    }

    /// Nobody has taken this result: gives back what it says is ours.
    pub(super) fn forget_result(&mut self, result: &Result<Reply>) {
        match result {
            Ok(Reply::Opened(handle)) => self.close_later(*handle),
            Ok(Reply::Locked(handle, _)) => self.unlock_later(*handle),
            _ => {}
        }
    }

    /// Takes in what the session tells.
    pub(super) fn tell(&mut self, event: Event<'_>) {
        match event {
            Event::Connected => {
                self.tickets.complete_all(|wait| matches!(wait, Wait::Connecting).then_some(Ok(Reply::Done)))
            }
            Event::Done { request, result } => {
                if let Some((ticket, call)) = self.sent.remove(&request) {
                    self.answered(ticket, &call, result);
                }
            }
            Event::Handle { handle, events, version, sequencer, .. } => {
                self.happened(handle, events, version, sequencer.as_ref().map(Sequencer::from_wire));
            }
            Event::MasterFailover { .. } => self.tell_readers(FileEvent {
                path: Vec::new(),
                handle: FileEvent::SESSION,
                events: EventMask::MASTER_FAILOVER,
                version: None,
                missed: 0,
            }),
            Event::Ended(end) => self.finish(match end {
                End::Closed => Over::Closed,
                End::Refused(code) => Over::Refused(code),
                _ => Over::Lost,
            }),
            // The lease is looked at by the time.
            _ => {}
        }
    }

    fn answered(
        &mut self,
        ticket: Option<TicketId>,
        call: &Call,
        result: std::result::Result<Outcome<'_>, Code>,
    ) {
        let result = match (call, result) {
            (Call::Open { path, .. }, Ok(Outcome::Opened(handle))) => {
                let file = OpenFile { path: path.clone(), locking: false, granted: None, deleted: false };
                self.files.insert(handle, file);
                Ok(Reply::Opened(handle))
            }
            (Call::Get(_) | Call::GetMeta(_), Ok(Outcome::Contents { metadata, path, data })) => {
                Ok(Reply::Contents(Contents { metadata, path: path.to_vec(), data: data.to_vec() }))
            }
            (Call::Lock { handle, wait: true, .. }, Ok(Outcome::LockPending)) => {
                if let Some(ticket) = ticket {
                    self.tickets.set(ticket, Wait::LockQueue(*handle));
                    self.lock_queue.insert(*handle, ticket);
                }
                if !self.files.contains_key(handle) {
                    self.leave_lock_queue(*handle, Code::FhInval);
                }
                return;
            }
            (Call::Lock { handle, .. }, Ok(Outcome::Locked { sequencer })) => {
                Ok(Reply::Locked(*handle, sequencer.as_ref().map(Sequencer::from_wire)))
            }
            (Call::GetSequencer(_), Ok(Outcome::Sequencer(sequencer))) => {
                Ok(Reply::Sequencer(Sequencer::from_wire(&sequencer)))
            }
            // The handle went with its file: closed it is.
            (Call::Close(_), Err(Code::FhInval)) => Ok(Reply::Done),
            (
                Call::Close(_)
                | Call::Put(..)
                | Call::PutFenced(..)
                | Call::Del(_)
                | Call::DelFenced(..)
                | Call::Unlock(_)
                | Call::CheckSequencer(_)
                | Call::Nop,
                Ok(Outcome::Done),
            ) => Ok(Reply::Done),
            (_, Err(Code::Timeout)) => Err(Error::SessionLost),
            (_, Err(Code::Unsupported)) => Err(Error::Unsupported),
            (_, Err(code)) => Err(Error::Server(code)),
            (_, Ok(_)) => Err(Error::BadAnswer),
        };
        self.conclude(ticket, call, result);
    }

    fn conclude(&mut self, ticket: Option<TicketId>, call: &Call, result: Result<Reply>) {
        match (call, &result) {
            // Who knows what the server has done.
            (Call::Lock { handle, .. }, Err(Error::BadAnswer)) => self.unlock_later(*handle),
            (Call::Lock { handle, .. }, Err(_)) => self.set_locking(*handle, false),
            _ => {}
        }
        if let Some(ticket) = ticket {
            self.tickets.complete(ticket, result);
        }
    }

    fn happened(
        &mut self,
        handle: Handle,
        events: EventMask,
        version: Option<u64>,
        granted: Option<Sequencer>,
    ) {
        let Some(file) = self.files.get_mut(&handle) else { return };
        if events.contains(EventMask::DELETED) {
            file.deleted = true;
        }
        if granted.is_some() {
            file.granted = granted;
        }
        // Grants are for those who wait for a lock; `grant` finds them.
        let told = events.without(EventMask::LOCKED);
        if told != EventMask::NONE {
            let event = FileEvent { path: file.path.clone(), handle, events: told, version, missed: 0 };
            self.tell_readers(event);
        }
        if events.contains(EventMask::DELETED) {
            self.leave_lock_queue(handle, Code::InodeInval);
        }
    }

    fn tell_readers(&mut self, event: FileEvent) {
        self.tickets.wake(self.readers.tell(&event));
    }

    /// A lock that is waited for will not be granted any more.
    fn leave_lock_queue(&mut self, handle: Handle, why: Code) {
        if let Some(ticket) = self.lock_queue.remove(&handle) {
            self.set_locking(handle, false);
            self.tickets.complete(ticket, Err(Error::Server(why)));
        }
    }

    /// Tells the callers whose locks waited in the server's queue, and have been granted.
    pub(super) fn grant(&mut self, is_held: impl Fn(Handle) -> bool) {
        let granted: Vec<_> = self
            .lock_queue
            .iter()
            .map(|(&handle, &ticket)| (handle, ticket))
            .filter(|&(h, _)| is_held(h))
            .collect();
        for (handle, ticket) in granted {
            self.lock_queue.remove(&handle);
            let sequencer = self.files.get_mut(&handle).and_then(|file| file.granted.take());
            self.tickets.complete(ticket, Ok(Reply::Locked(handle, sequencer)));
        }
    }

    /// Nothing can be asked any more; tells all who wait.
    pub(super) fn finish(&mut self, over: Over) {
        if self.over.is_some() {
            return;
        }
        self.over = Some(over);
        self.calls.clear();
        self.opens.clear();
        self.sent.clear();
        self.lock_queue.clear();
        self.tickets.complete_all(|wait| match wait {
            Wait::Over(_) => None,
            Wait::Ending if over == Over::Closed => Some(Ok(Reply::Done)),
            Wait::Lost(_) => Some(Ok(Reply::Done)),
            Wait::Lease(_) => Some(Ok(Reply::Lease(LeaseState::Expired))),
            _ => Some(Err(over.error())),
        });
        self.tickets.wake(self.readers.end());
    }

    pub(super) fn over(&self) -> Option<Over> {
        self.over
    }

    /// Whether a caller holds the lock of this handle, or has asked for it, as far as the desk knows.
    pub(super) fn is_locking(&self, handle: Handle) -> bool {
        self.files.get(&handle).is_some_and(|file| file.locking && !file.deleted)
    }

    fn set_locking(&mut self, handle: Handle, locking: bool) {
        if let Some(file) = self.files.get_mut(&handle) {
            file.locking = locking;
        }
    }
}
