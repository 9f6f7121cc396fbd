//! A session's requests that are taken and not answered: they take effect in the order in which they were sent.
//!
//! Commands go to the log together; a read waits until the commands before it are applied, and a command waits until
//! the reads before it are answered.

use std::collections::VecDeque;

use cldc_core::link::Message;
use cldc_core::wire::extended::Features;
use cldc_core::wire::{Code, Malformed, Op, Request};

use super::content::from_wire;
use crate::database::{Sequencer, Write};

/// A request.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// Changes something: goes through the log.
    Command { xid: u64, order: u64, write: Write },
    /// Is answered from the replicated state.
    Read { xid: u64, read: Read },
    /// Is answered by a code that does not depend on anything.
    Say { op: Op, xid: u64, code: Code },
}

/// What is to be read.
#[derive(Clone, Debug)]
pub(super) enum Read {
    /// A file.
    File { fh: u64 },
    /// Its metadata.
    Metadata { fh: u64 },
    /// The epoch: NOP in an extended session.
    Epoch,
    /// The sequencer of a lock.
    Sequencer { fh: u64 },
    /// Whether a sequencer stands.
    Check(Sequencer),
    /// The recorded reply to a request that was executed, and came again with a resumed session.
    Recorded { op: Op },
}

impl Job {
    /// What a message asks for, in an extended session with these features or in a plain one. Nothing for an operation
    /// that no client sends; in a plain session, that is one that no client of Hail sends.
    pub(super) fn of(message: &Message<'_>, extended: Option<Features>) -> Option<Self> {
        let Message { op, xid, number, body, cut } = *message;
        let say = |code| Some(Self::Say { op, xid, code });
        let read = |read| Some(Self::Read { xid, read });
        let fencing = extended.is_some_and(|features| features.contains(Features::FENCING));
        if is_fencing(op) && !fencing {
            return extended.and_then(|_| say(Code::Unsupported));
        }
        let write = match Request::parse(op, body) {
            Err(Malformed::Op) if matches!(op, Op::Unknown(_)) && extended.is_some() => {
                return say(Code::Unsupported);
            }
            Err(Malformed::Op) | Ok(Request::NewSess { .. }) => return None,
            _ if op == Op::Resume => return None,
            Err(_) => return say(Code::BadPkt),
            Ok(_) if cut => return say(Code::BadPkt),
            Ok(Request::Nop) if extended.is_some() => return read(Read::Epoch),
            Ok(Request::Nop) => return say(Code::Ok),
            Ok(Request::Get { fh }) => return read(Read::File { fh }),
            Ok(Request::GetMeta { fh }) => return read(Read::Metadata { fh }),
            Ok(Request::GetSequencer { fh }) => return read(Read::Sequencer { fh }),
            Ok(Request::CheckSequencer { ref sequencer }) => match from_wire(sequencer) {
                Some(sequencer) => return read(Read::Check(sequencer)),
                None => return say(Code::Stale),
            },
            Ok(Request::Open { mode, events, path }) => Write::Open { mode, events, path: path.into() },
            Ok(Request::Put { fh, data }) => Write::Put { fh, data: data.into(), fence: None },
            Ok(Request::PutFenced { ref sequencer, fh, data }) => match from_wire(sequencer) {
                fence @ Some(_) => Write::Put { fh, data: data.into(), fence },
                None => return say(Code::Stale),
            },
            Ok(Request::Close { fh }) => Write::Close { fh },
            Ok(Request::Del { path }) => Write::Del { path: path.into(), fence: None },
            Ok(Request::DelFenced { ref sequencer, path }) => match from_wire(sequencer) {
                fence @ Some(_) => Write::Del { path: path.into(), fence },
                None => return say(Code::Stale),
            },
            Ok(Request::Lock { fh, flags, wait }) => Write::Lock { fh, flags, wait },
            Ok(Request::Unlock { fh }) => Write::Unlock { fh },
            Ok(Request::EndSess) => Write::EndSession,
            Ok(_) => return None,
        };
        // Numbers begin anew when an extended session is resumed; its xids go on.
        let order = if extended.is_some() { xid } else { number };
        Some(Self::Command { xid, order, write })
    }
}

/// Whether the operation is one of [`Features::FENCING`].
const fn is_fencing(op: Op) -> bool {
    matches!(op, Op::GetSequencer | Op::CheckSequencer | Op::PutFenced | Op::DelFenced)
}

/// The requests of one session, oldest first.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    queue: VecDeque<Job>,
    /// How many of the first ones, all of them commands, are on their way through the log.
    handed: usize,
    /// How many were ever taken; up to which of them the state is being made sure of, and is known to be new enough.
    taken: u64,
    asked: u64,
    readable: u64,
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
        self.taken = self.taken.saturating_add(1);
    }

    pub(super) fn clear(&mut self) {
        // The numbers go on: a read that was begun for the requests before must not count for later ones.
        let taken = self.taken;
        *self = Self { taken, asked: taken, readable: taken, ..Self::default() };
    }

    /// Takes out the oldest request if it needs no log, and the state is new enough: `leased`, or made sure of after it
    /// had come. Every answer counts for the client as a renewal of its lease, also one that says the same always.
    pub(super) fn next_answer(&mut self, leased: bool) -> Option<Job> {
        match self.queue.front()? {
            Job::Command { .. } => None,
            Job::Read { .. } | Job::Say { .. } if leased || self.first() <= self.readable => {
                self.take_front()
            }
            Job::Read { .. } | Job::Say { .. } => None,
        }
    }

    /// Whether the oldest request waits for a state that is new enough, and nobody makes sure of it yet.
    pub(super) fn waits_to_read(&self) -> bool {
        let reads = matches!(self.queue.front(), Some(Job::Read { .. } | Job::Say { .. }));
        reads && self.first() > self.readable.max(self.asked)
    }

    /// The state is being made sure of for all requests up to the one that this gives.
    pub(super) const fn ask(&mut self) -> u64 {
        self.asked = self.taken;
        self.taken
    }

    /// The state is new enough for all requests up to this one.
    pub(super) fn readable(&mut self, last: u64) {
        self.readable = self.readable.max(last);
    }

    /// The count of the oldest request.
    fn first(&self) -> u64 {
        let later = self.queue.len().saturating_sub(1);
        self.taken.saturating_sub(u64::try_from(later).unwrap_or(u64::MAX))
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
        let Job::Command { xid, order, write } = self.queue.get(self.handed)? else { return None };
        self.handed = self.handed.saturating_add(1);
        Some((*xid, *order, write.clone()))
    }

    /// The command of this order is applied; `false` if it is not the one that was handed over first.
    pub(super) fn finish(&mut self, applied: u64) -> bool {
        match self.queue.front() {
            Some(Job::Command { order, .. }) if *order == applied && self.handed > 0 => {
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
