//! Consensus: the engine that turns proposals into one log that all servers of the cell agree on.
//!
//! [`Engine`] is the interface; [`RaftEngine`] is the one implementation, on the `raft` crate. It is a state machine:
//! it is given proposals, ticks, finished writes and the other servers' messages, and then asked by
//! [`Engine::poll_output`], until there is no more, what to write, what to send and what is committed. It has no clock, no
//! disk, no network and no randomness of its own. A single server is a cell of one and takes the same way: nothing is
//! committed before it is on its disk.

mod admit;
mod config;
mod engine;
mod lease;
mod logger;
mod members;
mod message;
mod status;
mod tail;
#[cfg(test)]
mod tests;

pub use admit::MessageError;
pub use config::{EngineConfig, StartError};
pub use engine::RaftEngine;
pub use members::{ChangeError, MemberChange};
pub use message::{MAX_MESSAGE_SIZE, MESSAGE_VERSION, Message};
pub use status::{MemberStatus, Role, Status};

use cldc_core::time::Instant;
use thiserror::Error;

use crate::storage::{Configuration, LogPosition, LogWrite, SnapshotPoint, SnapshotRecord};

/// A consensus engine, driven from outside: *change once, then poll until nothing is left.*
pub trait Engine {
    /// Appends a payload of 1 to [`MAX_ENTRY_SIZE`](crate::storage::MAX_ENTRY_SIZE) bytes to the log. Taking it is no
    /// promise: only [`Output::Committed`] is, and after [`Output::Deposed`] it may never come.
    ///
    /// # Errors
    /// See [`ProposeError`].
    fn propose(&mut self, payload: Vec<u8>) -> Result<(), ProposeError>;

    /// Passes one tick of the engine's time, which is `now`. Ticks must be a tick or more apart: after a stall there is
    /// one, not many.
    fn handle_tick(&mut self, now: Instant);

    /// Takes in a message that the server `from` has sent, as its link has proved.
    ///
    /// # Errors
    /// See [`MessageError`]. The engine is as it was before.
    fn handle_message(&mut self, from: u64, message: Message) -> Result<(), MessageError>;

    /// Takes in a message with a [`Message::snapshot`], whose file was streamed beside it, is whole and durable here, and
    /// has exactly that record. [`Output::Restored`] follows, unless this server has got the entries meanwhile.
    ///
    /// # Errors
    /// See [`MessageError`]. The engine is as it was before.
    fn restore(&mut self, from: u64, message: Message) -> Result<(), MessageError>;

    /// Whether the other server has got the file of [`Output::SendSnapshot`], and the message behind it.
    fn snapshot_sent(&mut self, to: u64, ok: bool);

    /// The file of [`Output::SendSnapshot`] makes progress, and so needs more time.
    fn snapshot_progress(&mut self, to: u64);

    /// Asks for a change of the members. [`Output::MembersChanged`] follows when it is applied; after
    /// [`Output::Deposed`] it may never come.
    ///
    /// # Errors
    /// See [`ChangeError`].
    fn change_members(&mut self, change: MemberChange) -> Result<(), ChangeError>;

    /// Asks another voter to become the master at once, and gives the lease up for the rest of the term. Until it is, or
    /// for an election timeout, proposals are [`ProposeError::Busy`].
    ///
    /// # Errors
    /// See [`TransferError`].
    fn transfer_leadership(&mut self, to: u64) -> Result<(), TransferError>;

    /// Until when no other server can be the master, so that what is applied here is the newest state. Read the value
    /// that is asked for *first*, and then compare the lease with the clock.
    fn lease_until(&self) -> Option<Instant>;

    /// Begins a read without a lease: [`Output::Readable`] with this ticket or a later one follows when all that was
    /// committed before the call is given out, or [`Output::Deposed`]. `None` if this server is not the master. Many
    /// readers may get the same ticket.
    fn read(&mut self, now: Instant) -> Option<ReadTicket>;

    /// The writes up to and including this ticket are durable. Writes finish in the order given, but a call may be left
    /// out when one for a later ticket follows.
    fn handle_persisted(&mut self, ticket: u64);

    /// The next thing to do or to know.
    fn poll_output(&mut self) -> Option<Output>;

    /// Where a snapshot taken now stands: after all that [`Engine::poll_output`] has given out.
    fn snapshot_point(&self) -> SnapshotPoint;

    /// Up to where the log should be trimmed next once a snapshot of this index is recorded: a part stays for servers that
    /// lag a little, within [`EngineConfig::keep_entries`] and [`EngineConfig::keep_bytes`]. It is a bounded step; when
    /// [`Engine::compact`] was told of it there may be another, until nothing beyond is left to trim.
    fn trim_point(&self, snapshot: u64) -> u64;

    /// Forgets the entries up to and including `trim_through` (but none after `snapshot`), which the store has trimmed
    /// with this durable snapshot.
    fn compact(&mut self, snapshot: SnapshotRecord, trim_through: u64);

    /// Where the engine stands.
    fn status(&self) -> Status;
}

/// Stands for a read that waits for [`Output::Readable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadTicket(u64);

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
    /// Send this to another server. It may get lost or be late.
    Send {
        /// The other server.
        to: u64,
        /// The message.
        message: Message,
    },
    /// Stream this snapshot file to another server and give it the message with it, for its [`Engine::restore`]; then call
    /// [`Engine::snapshot_sent`], also if it failed. A second one to the same server takes the place of the first.
    SendSnapshot {
        /// The other server.
        to: u64,
        /// The file.
        record: SnapshotRecord,
        /// What goes with it.
        message: Message,
    },
    /// Take a snapshot soon: another server needs one, and none that is recorded will do. Comes again, if needed, after
    /// [`Engine::compact`].
    TakeSnapshot,
    /// The log begins anew at this snapshot, which is durable: load its file in the place of all state.
    Restored {
        /// What it stands for.
        point: SnapshotPoint,
    },
    /// The members are others from here on in the log.
    MembersChanged {
        /// All members.
        configuration: Configuration,
    },
    /// The reads that got this ticket or an earlier one can be answered from what is applied now.
    Readable {
        /// The ticket.
        ticket: ReadTicket,
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

/// Why the mastership is not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransferError {
    /// This server is not the master.
    #[error("this server is not the master; ask the master")]
    NotMaster,
    /// The other server does not vote.
    #[error("server {node:x} is not a voting member of the cell")]
    NotVoter {
        /// The other server.
        node: u64,
    },
    /// It is this server.
    #[error("this server is the master already")]
    Master,
    /// The other server was not heard of for an election timeout.
    #[error("server {node:x} does not answer")]
    Dead {
        /// The other server.
        node: u64,
    },
}
