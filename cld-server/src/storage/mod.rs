//! What a server keeps on disk: its identity, the log of the cell, and snapshots of the database.
//!
//! One data directory holds, and nothing else of ours:
//!
//! | name | is |
//! |---|---|
//! | `LOCK` | held (flock) by the running daemon; its process id |
//! | `RESTORING` | a snapshot is being restored here, or that was not finished ([`Restoration`]) |
//! | `log.redb` | identity, hard state, log entries, the record of the latest snapshot ([`store`]) |
//! | `snapshot-<index>` | the database as of that log index ([`snapshot`]) |
//! | `snapshot-<index>.received` | one that came from another server, until the log begins with it |
//! | `*.tmp` of these | unfinished; removed at open |
//! | `DIVERGED` | only if the server's state was found wrong: why. Data with it is refused |
//!
//! [`Store::open`] is the way in. What it returns was verified whole: every record of the log and every byte of the
//! snapshot. The disk itself is behind [`Disk`], so tests run the real code on a disk that tears and loses writes.

mod configuration;
mod disk;
mod log;
mod mark;
mod open;
mod record;
mod recover;
mod restore;
pub mod snapshot;
pub mod store;
#[cfg(test)]
mod tests;

pub use configuration::{Addresses, Configuration, MAX_MEMBERS, MAX_REMOVED, Member};
pub use disk::{Disk, DiskFile, OsDisk};
pub use log::{
    EntryKind, HardState, Identity, LogEntry, LogError, LogImage, LogPosition, LogStore, LogWrite,
    MAX_ENTRY_SIZE, SnapshotFile, SnapshotPoint, SnapshotRecord,
};
pub use mark::{DIVERGED, read_mark};
pub use open::{OpenError, OpenMode};
pub use recover::Recovered;
pub use restore::{Restoration, Unfinished};
pub use snapshot::{SnapshotCopy, SnapshotError, SnapshotReader, SnapshotSource, SnapshotWriter, Snapshots};
pub use store::Store;
