//! The log as its users see it: the data that is stored, and the trait of a store that makes it durable.

use std::fmt::Debug;
use std::num::NonZeroU64;
use std::path::PathBuf;

use thiserror::Error;

use super::configuration::Configuration;

/// The largest payload of one log entry, in bytes: a group of commands of 1 MiB and room for its framing.
pub const MAX_ENTRY_SIZE: usize = (1 << 20) + (128 << 10);

/// Who a data directory belongs to. Made once, when the directory is made; every fresh disk has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The server's number in the cell, random.
    pub node: NonZeroU64,
    /// The cell's number, random, the same on all its servers.
    pub cell: u128,
}

/// A place in the log: an index, and the term of the entry there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogPosition {
    /// Counts entries, from 1.
    pub index: u64,
    /// The term in which the entry was proposed.
    pub term: u64,
}

/// What an entry of the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntryKind {
    /// Commands for the database, or nothing.
    #[default]
    Command,
    /// A change of the cell's members.
    Configuration,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogEntry {
    /// Its index and term.
    pub at: LogPosition,
    /// What the payload is.
    pub kind: EntryKind,
    /// At most [`MAX_ENTRY_SIZE`] bytes. Empty for the entry with which a new master begins its term.
    pub payload: Vec<u8>,
}

/// What the consensus engine must remember besides the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    /// The newest term seen.
    pub term: u64,
    /// The server voted for in that term, 0 for none.
    pub vote: u64,
    /// The last index known to be committed. May lag: the engine finds it again.
    pub commit: u64,
}

/// What a snapshot stands for: the database after the entry at `at`, and who the members were then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotPoint {
    /// The last entry that the snapshot contains.
    pub at: LogPosition,
    /// The cell's members after that entry.
    pub configuration: Configuration,
}

/// A finished snapshot file, as the log records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// What it stands for.
    pub point: SnapshotPoint,
    /// The file's length in bytes.
    pub length: u64,
    /// The CRC32C that the file ends with, of all before it.
    pub checksum: u32,
}

impl SnapshotRecord {
    /// The file without what it stands for.
    #[must_use]
    pub const fn file(&self) -> SnapshotFile {
        SnapshotFile { length: self.length, checksum: self.checksum }
    }
}

/// How the snapshot file at the log's base is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The file's length in bytes.
    pub length: u64,
    /// The CRC32C that the file ends with, of all before it.
    pub checksum: u32,
}

/// One change of the log, made durable as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogWrite {
    /// Forget all entries first, and begin anew at this snapshot, which came from another server: see
    /// [`Snapshots::receive`](super::Snapshots::receive).
    pub snapshot: Option<SnapshotRecord>,
    /// Consecutive entries. Whatever the log holds from the first one's index on is replaced.
    pub entries: Vec<LogEntry>,
    /// The hard state from now on.
    pub hard_state: HardState,
}

/// The log as it was found at start: what the consensus engine resumes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogImage {
    /// The hard state; its commit index lies within the log.
    pub hard_state: HardState,
    /// Where replay begins: the latest snapshot, or in a new cell the position before the first entry.
    pub base: SnapshotPoint,
    /// The snapshot file at the base; none in a new cell, or one that joins a cell, until the first snapshot.
    pub file: Option<SnapshotFile>,
    /// The position just before the first entry kept, at or before the base.
    pub start: LogPosition,
    /// All entries after `start`, without a gap.
    pub entries: Vec<LogEntry>,
}

/// A durable log.
///
/// Every call is durable when it returns `Ok`. After any error other than [`LogError::Misuse`] the log on disk is as
/// it was before the call or after it, nobody knows which, and the store takes no further call: the node must stop,
/// and find out by opening it again.
pub trait LogStore: Debug + Send {
    /// Whose log this is.
    fn identity(&self) -> Identity;

    /// Does these writes, in order, as one: one sync of the disk however many they are. A commit index that lags behind
    /// the recorded snapshot, as that of a write begun before it does, is raised to it.
    ///
    /// # Errors
    /// See [`LogError`].
    fn append(&mut self, writes: &[LogWrite]) -> Result<(), LogError>;

    /// Makes a finished snapshot file the one to start from, and deletes the entries up to and including `trim_through`,
    /// which may be at most the snapshot's index. Entries that are gone already are no error. A snapshot that is older
    /// than the log's base, because one from another server was installed meanwhile, changes nothing.
    ///
    /// # Errors
    /// See [`LogError`].
    fn record_snapshot(&mut self, snapshot: &SnapshotRecord, trim_through: u64) -> Result<(), LogError>;
}

/// Why the log could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk failed, or is full. Fatal: a failed sync must never be tried again, as the kernel may have dropped
    /// the data that it could not write and would then report success.
    #[error("{}: {source}; the server must stop, and may be started again once the disk is in order", file.display())]
    Disk {
        /// The file that was written.
        file: PathBuf,
        /// What failed.
        source: Box<redb::Error>,
    },
    /// An earlier call failed; nothing was done.
    #[error("the log takes no more writes since one of them failed; the server must be started again")]
    Stopped,
    /// The call makes no sense in this log; nothing was done. A bug of the caller.
    #[error("refused to damage the log: {0}")]
    Misuse(&'static str),
}
