//! The callers that wait: what for, until when, and how to wake them.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Poll, Waker};

use cldc_core::lease::LeaseState;
use cldc_core::session::{Handle, RequestId};
use cldc_core::time::Instant;

use super::call::Reply;
use crate::error::{Error, Result};

/// Names a caller that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TicketId(u64);

/// What a caller waits for.
#[derive(Debug)]
pub(super) enum Wait {
    /// Its request waits for room in the session.
    Queued,
    /// Its request is on its way.
    Sent(RequestId),
    /// Its lock waits in the server's queue.
    LockQueue(Handle),
    /// The session is being opened.
    Connecting,
    /// The session is being ended.
    Ending,
    /// The lock of this handle is held; the caller wants to know when that is not certain any more.
    Lost(Handle),
    /// The lease is to be trusted as much as this; the caller wants to know when that changes.
    Lease(LeaseState),
    /// Nothing: here is the result.
    Over(Result<Reply>),
}

#[derive(Debug)]
struct Ticket {
    wait: Wait,
    doing: &'static str,
    deadline: Option<Instant>,
    waker: Option<Waker>,
}

/// The callers that wait, and those whose result has not been taken yet.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    next: u64,
    tickets: BTreeMap<TicketId, Ticket>,
    deadlines: BTreeSet<(Instant, TicketId)>,
    /// To be woken when the driver is not locked any more.
    woken: Vec<Waker>,
}

impl Tickets {
    pub(super) fn issue(&mut self, wait: Wait, doing: &'static str, deadline: Option<Instant>) -> TicketId {
        let id = TicketId(self.next);
        self.next = self.next.wrapping_add(1);
        self.deadlines.extend(deadline.map(|at| (at, id)));
        self.tickets.insert(id, Ticket { wait, doing, deadline, waker: None });
        id
    }

    /// The caller's turn to look: the result, once, or it will be woken.
    pub(super) fn poll(&mut self, id: TicketId, waker: &Waker) -> Poll<Result<Reply>> {
        match self.tickets.get_mut(&id) {
            Some(ticket) if !matches!(ticket.wait, Wait::Over(_)) => {
                ticket.waker = Some(waker.clone());
                Poll::Pending
            }
            _ => match self.remove(id) {
                Some(Wait::Over(result)) => Poll::Ready(result),
                _ => Poll::Ready(Err(Error::Closed)),
            },
        }
    }

    /// Now it waits for something else.
    pub(super) fn set(&mut self, id: TicketId, wait: Wait) {
        if let Some(ticket) = self.tickets.get_mut(&id) {
            ticket.wait = wait;
        }
    }

    /// Here is the result; the caller will be woken.
    pub(super) fn complete(&mut self, id: TicketId, result: Result<Reply>) {
        let Some(ticket) = self.tickets.get_mut(&id) else { return };
        ticket.wait = Wait::Over(result);
        self.woken.extend(ticket.waker.take());
        if let Some(at) = ticket.deadline.take() {
            self.deadlines.remove(&(at, id));
        }
    }

    /// Gives every caller that waits the result for what it waits for.
    pub(super) fn complete_all(&mut self, result: impl Fn(&Wait) -> Option<Result<Reply>>) {
        let over: Vec<_> =
            self.tickets.iter().filter_map(|(&id, ticket)| Some((id, result(&ticket.wait)?))).collect();
        for (id, result) in over {
            self.complete(id, result);
        }
    }

    /// The caller is gone; gives what it waited for.
    pub(super) fn remove(&mut self, id: TicketId) -> Option<Wait> {
        let ticket = self.tickets.remove(&id)?;
        if let Some(at) = ticket.deadline {
            self.deadlines.remove(&(at, id));
        }
        Some(ticket.wait)
    }

    /// Ends the wait of a caller whose deadline has passed; gives what it waited for.
    pub(super) fn expire(&mut self, now: Instant) -> Option<(TicketId, Wait)> {
        let &(_, id) = self.deadlines.first().filter(|&&(at, _)| at <= now)?;
        self.deadlines.pop_first();
        let ticket = self.tickets.get_mut(&id)?;
        ticket.deadline = None;
        self.woken.extend(ticket.waker.take());
        let late = Wait::Over(Err(Error::Timeout { doing: ticket.doing }));
        Some((id, std::mem::replace(&mut ticket.wait, late)))
    }

    /// The handles whose locks callers keep an eye on.
    pub(super) fn watched(&self) -> impl Iterator<Item = Handle> {
        self.tickets.values().filter_map(|ticket| match ticket.wait {
            Wait::Lost(handle) => Some(handle),
            _ => None,
        })
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// Has others woken together with the callers.
    pub(super) fn wake(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.woken.extend(wakers);
    }

    pub(super) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }
}
