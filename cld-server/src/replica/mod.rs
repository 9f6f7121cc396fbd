//! Consensus: the engine that turns proposals into one log that all servers of the cell agree on.
//!
//! [`Engine`] is the interface; [`RaftEngine`] is the one implementation, on the `raft` crate. It is a state machine:
//! it is given proposals, ticks and finished writes, and then asked by [`Engine::poll_output`], until there is no more,
//! what to write and what is committed. It has no clock, no disk and no randomness of its own. A single server is a
//! cell of one and takes the same way: nothing is committed before it is on its disk.

mod engine;
mod logger;
mod tail;
#[cfg(test)]
mod tests;

pub use engine::{EngineConfig, RaftEngine, StartError};

use thiserror::Error;

use crate::storage::{LogPosition, LogWrite, SnapshotPoint};

/// A consensus engine, driven from outside: *change once, then poll until nothing is left.*
pub trait Engine {
    /// Appends a payload of 1 to [`MAX_ENTRY_SIZE`](crate::storage::MAX_ENTRY_SIZE) bytes to the log. Taking it is no
    /// promise: only [`Output::Committed`] is, and after [`Output::Deposed`] it may never come.
    ///
    /// # Errors
    /// See [`ProposeError`].
    fn propose(&mut self, payload: Vec<u8>) -> Result<(), ProposeError>;

    /// Passes one tick of the engine's time.
    fn handle_tick(&mut self);

    /// The writes up to and including this ticket are durable. Writes finish in the order given, but a call may be left
    /// out when one for a later ticket follows.
    fn handle_persisted(&mut self, ticket: u64);

    /// The next thing to do or to know.
    fn poll_output(&mut self) -> Option<Output>;

    /// Where a snapshot taken now stands: after all that [`Engine::poll_output`] has given out.
    fn snapshot_point(&self) -> SnapshotPoint;

    /// Forgets the entries up to and including `trim_through` (but none after `snapshot`), which the store has trimmed
    /// with this durable snapshot.
    fn compact(&mut self, snapshot: SnapshotPoint, trim_through: u64);

    /// Where the engine stands.
    fn status(&self) -> Status;
}

/// What the engine wants done, in the order in which it must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make this durable, after all earlier writes; then call [`Engine::handle_persisted`]. If that fails, the server
    /// must stop.
    Persist {
        /// Counts writes.
        ticket: u64,
        /// What to write.
        write: LogWrite,
    },
    /// A payload is committed and durable here; apply it now. Comes once for every payload in the log, in log order,
    /// after a start from that behind the snapshot on.
    Committed {
        /// The entry's place.
        at: LogPosition,
        /// What was proposed.
        payload: Vec<u8>,
    },
    /// This server is the master, and has committed the first entry of its own term: all that was ever committed was
    /// given out before. It may propose from now on.
    BecameMaster {
        /// The term of its mastership.
        term: u64,
    },
    /// This server is no longer the master that it had become in that term.
    Deposed {
        /// The term that is over.
        term: u64,
    },
}

/// What a server is in its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes the log from a master, if there is one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Chosen by the others. It is the master once it has committed an entry: see [`Output::BecameMaster`].
    Leader,
}

/// Where the engine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What this server is.
    pub role: Role,
    /// The newest term seen.
    pub term: u64,
    /// The leader in that term, if known.
    pub leader: Option<u64>,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last index given out by [`Engine::poll_output`].
    pub applied: u64,
    /// The first index kept in the log.
    pub first_index: u64,
    /// The last index in the log, written or not; one less than the first if the log is empty.
    pub last_index: u64,
}

/// Why a proposal was not taken. It had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// This server is not the master, or not yet.
    #[error("this server is not the master")]
    NotMaster,
    /// Too much is waiting to be committed: propose again later.
    #[error("too many proposals wait to be committed")]
    Busy,
    /// The payload is empty or too large.
    #[error("a proposal of {size} bytes; it must have 1 to {limit}")]
    Size {
        /// The payload's size.
        size: usize,
        /// The largest allowed.
        limit: usize,
    },
}
