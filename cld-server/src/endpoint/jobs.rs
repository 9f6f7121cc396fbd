//! A session's requests that are taken and not answered: they take effect in the order in which they were sent.
//!
//! Commands go to the log together; a read waits until the commands before it are applied, and a command waits until
//! the reads before it are answered.

use std::collections::VecDeque;

use cldc_core::link::Message;
use cldc_core::wire::{Code, Malformed, Op, Request};

use crate::database::Write;

/// A request.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// Changes something: goes through the log.
    Command { xid: u64, number: u64, write: Write },
    /// Reads a file, or only its metadata.
    Read { xid: u64, fh: u64, metadata_only: bool },
    /// Is answered by a code that does not depend on anything.
    Say { op: Op, xid: u64, code: Code },
}

impl Job {
    /// What a message asks for; nothing for an operation that no client sends.
    pub(super) fn of(message: &Message<'_>) -> Option<Self> {
        let Message { op, xid, number, body, cut } = *message;
        let write = match Request::parse(op, body) {
            Err(Malformed::Op) | Ok(Request::NewSess { .. }) => return None,
            Err(_) => return Some(Self::Say { op, xid, code: Code::BadPkt }),
            Ok(_) if cut => return Some(Self::Say { op, xid, code: Code::BadPkt }),
            Ok(Request::Nop) => return Some(Self::Say { op, xid, code: Code::Ok }),
            Ok(Request::Get { fh }) => return Some(Self::Read { xid, fh, metadata_only: false }),
            Ok(Request::GetMeta { fh }) => return Some(Self::Read { xid, fh, metadata_only: true }),
            Ok(Request::Open { mode, events, path }) => Write::Open { mode, events, path: path.into() },
            Ok(Request::Put { fh, data }) => Write::Put { fh, data: data.into(), fence: None },
            Ok(Request::Close { fh }) => Write::Close { fh },
            Ok(Request::Del { path }) => Write::Del { path: path.into(), fence: None },
            Ok(Request::Lock { fh, flags, wait }) => Write::Lock { fh, flags, wait },
            Ok(Request::Unlock { fh }) => Write::Unlock { fh },
            Ok(Request::EndSess) => Write::EndSession,
            Ok(_) => return None,
        };
        Some(Self::Command { xid, number, write })
    }
}

/// The requests of one session, oldest first.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    queue: VecDeque<Job>,
    /// How many of the first ones, all of them commands, are on their way through the log.
    handed: usize,
}

impl Jobs {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) const fn handed(&self) -> usize {
        self.handed
    }

    pub(super) fn push(&mut self, job: Job) {
        self.queue.push_back(job);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes out the oldest request if it needs no log.
    pub(super) fn next_answer(&mut self) -> Option<Job> {
        match self.queue.front()? {
            Job::Command { .. } => None,
            Job::Read { .. } | Job::Say { .. } => self.take_front(),
        }
    }

    /// The command to go to the log next: all those before it went there.
    pub(super) fn next_command(&self) -> Option<&Write> {
        match self.queue.get(self.handed)? {
            Job::Command { write, .. } => Some(write),
            Job::Read { .. } | Job::Say { .. } => None,
        }
    }

    /// Hands that command over.
    pub(super) fn hand_over(&mut self) -> Option<(u64, u64, Write)> {
        let Job::Command { xid, number, write } = self.queue.get(self.handed)? else { return None };
        self.handed = self.handed.saturating_add(1);
        Some((*xid, *number, write.clone()))
    }

    /// The command with this number is applied.
    pub(super) fn finish(&mut self, applied: u64) -> bool {
        match self.queue.front() {
            Some(Job::Command { number, .. }) if *number == applied && self.handed > 0 => {
                self.handed = self.handed.saturating_sub(1);
                self.take_front().is_some()
            }
            _ => false,
        }
    }

    fn take_front(&mut self) -> Option<Job> {
        let job = self.queue.pop_front();
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        job
    }
}
