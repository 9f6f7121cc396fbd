//! What goes into a node and what comes out of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cldc_core::time::Instant;

use super::settings::Authority;
use crate::database::{Database, Digest, Limits, SettingError, Totals};
use crate::endpoint::{Counters, QueueLimits, SocketId, Timing};
use crate::replica;
use crate::storage::{Configuration, Identity, LogImage, LogWrite, SnapshotPoint, SnapshotRecord};
use crate::versions::Versions;

/// The time. It must be read *after* what is handed in with it came: a datagram that was received after the clock was read
/// could be answered under a lease that is over by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// On a clock that never goes back and counts while the machine is suspended. Every deadline goes by it.
    pub now: Instant,
    /// Seconds since 1970, for the times of files. Nothing else depends on it.
    pub wall: u64,
}

/// What a node is told at its start.
#[derive(Clone, Debug, Default)]
pub struct NodeConfig {
    /// How long things take.
    pub timing: Timing,
    /// Who says what users and limits there are.
    pub authority: Authority,
    /// How much the cell takes on, if that is to be put in force.
    pub limits: Limits,
    /// How much a session and a user may take of this server's memory.
    pub queue: QueueLimits,
    /// When to take a snapshot.
    pub snapshot: SnapshotPolicy,
    /// Which versions of the cell it can apply; all that this program knows, but for tests.
    pub versions: Versions,
    /// How many entries of the log are kept before a snapshot for servers that lag a little; the usual number if none.
    pub keep_entries: Option<u64>,
    /// This server's sockets and the addresses that they are bound to.
    pub sockets: Vec<(SocketId, SocketAddr)>,
    /// Where the cell's servers may be reached by clients; if it is empty, at the addresses of the sockets.
    pub client_addresses: Vec<SocketAddr>,
    /// Must differ at every start, and come from a good source.
    pub seed: [u8; 32],
}

/// When to take a snapshot: when the log has grown so far since the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// By so many entries.
    pub entries: u64,
    /// Or by so many bytes.
    pub bytes: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self { entries: 100_000, bytes: 64 << 20 }
    }
}

/// What a node goes on from.
#[derive(Debug)]
pub struct Start {
    /// Who this server is.
    pub identity: Identity,
    /// The log as its store was opened with.
    pub log: LogImage,
    /// The state at the log's base: decoded from the snapshot there, or new if there is none.
    pub database: Database,
}

/// Something to be done on the disk.
#[derive(Debug)]
pub enum DiskJob {
    /// Make this part of the log durable.
    Append {
        /// Comes back when it is done. When several are done at once, the last will do.
        ticket: u64,
        /// What to write.
        write: LogWrite,
    },
    /// Write a snapshot file.
    Snapshot {
        /// What it stands for.
        point: SnapshotPoint,
        /// Its content; a clone that does not change any more.
        database: Box<Database>,
    },
    /// Make a finished snapshot file the one to start from, and trim the log. Comes again for the same file until the log
    /// is trimmed as far as it is to be.
    RecordSnapshot {
        /// The file.
        record: SnapshotRecord,
        /// The last entry to be trimmed now.
        trim_through: u64,
    },
    /// Mark the data, so that it is not used again ([`Store::mark_diverged`](crate::storage::Store::mark_diverged)).
    MarkDiverged {
        /// Why, for the operator.
        why: String,
    },
    /// Remove the snapshots older than this index, which are not recorded any more.
    RemoveSnapshots {
        /// The index of the one that is.
        before: u64,
    },
    /// Give this state up, which was replaced by that of a snapshot: to free very many files takes a while.
    Forget {
        /// The state.
        database: Box<Database>,
    },
    /// Read a part of a recorded snapshot's file ([`Snapshots::source`](crate::storage::Snapshots::source)), to be sent to
    /// another server. The file stays open for the transfer: a newer snapshot may take its place meanwhile.
    ReadSnapshot {
        /// The transfer.
        transfer: u64,
        /// The snapshot's index.
        index: u64,
        /// Where the part begins.
        offset: u64,
        /// Its length.
        length: usize,
    },
    /// No more will be read for this transfer.
    EndRead {
        /// The transfer.
        transfer: u64,
    },
    /// Begin the copy of another server's snapshot ([`Snapshots::copy`](crate::storage::Snapshots::copy)), in the place of
    /// the copy before.
    BeginCopy {
        /// Counts copies.
        copy: u64,
        /// What the file must be in the end.
        record: SnapshotRecord,
    },
    /// Append to the copy.
    WriteCopy {
        /// The copy.
        copy: u64,
        /// The next part.
        bytes: Vec<u8>,
    },
    /// Complete the copy, durably, verify it, and decode it.
    FinishCopy {
        /// The copy.
        copy: u64,
    },
    /// Give the copy up.
    DropCopy {
        /// The copy.
        copy: u64,
    },
}

/// What became of a [`DiskJob`].
#[derive(Debug)]
pub enum DiskDone {
    /// All up to this ticket is durable.
    Appended {
        /// The ticket.
        ticket: u64,
    },
    /// The snapshot file is durable.
    SnapshotWritten {
        /// The file.
        record: SnapshotRecord,
    },
    /// The snapshot is recorded, and the log is trimmed.
    SnapshotRecorded {
        /// The file.
        record: SnapshotRecord,
        /// The last entry trimmed.
        trim_through: u64,
    },
    /// The data is marked.
    MarkedDiverged,
    /// A part of a snapshot was read, or why not.
    SnapshotRead {
        /// The transfer.
        transfer: u64,
        /// The part, as long as was asked for.
        bytes: Result<Vec<u8>, String>,
    },
    /// A part of a copy was written, or why not.
    CopyWritten {
        /// The copy.
        copy: u64,
        /// Why it was not.
        result: Result<(), String>,
    },
    /// The copy is durable and what it must be, or why not.
    CopyFinished {
        /// The copy.
        copy: u64,
        /// What it holds.
        database: Result<Box<Database>, String>,
    },
    /// A job of which nobody needs to know more is done. If a copy could not be begun, that is told when it is written to.
    Noted,
    /// A job failed. That is the end: nobody knows what is on the disk.
    Failed {
        /// What failed, in words for the operator.
        what: String,
    },
}

/// Something that the shell may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The members are others, or are reached elsewhere: see [`Node::members`](super::Node::members).
    MembersChanged(Configuration),
    /// The cell has another version.
    VersionChanged {
        /// It.
        version: u32,
    },
    /// This server is the master, and answers.
    Serving {
        /// Its epoch.
        epoch: u64,
    },
    /// This server is not the master any more. Changes of members and settings that it was asked for may be made or not.
    Deposed,
    /// What [`Node::reconfigure`](super::Node::reconfigure) was told is in force.
    Configured,
    /// What came of [`Node::set`](super::Node::set).
    Set {
        /// As that gave it.
        ticket: u64,
        /// Whether it is done, durably, or why not.
        result: Result<(), SettingError>,
    },
}

/// Where a node stands.
#[derive(Clone, Debug)]
pub struct Status {
    /// The consensus engine.
    pub replica: replica::Status,
    /// Whether this server is the master, and answers.
    pub serves: bool,
    /// The epoch of the latest master that has begun.
    pub epoch: u64,
    /// Sessions that the endpoint keeps.
    pub sessions: usize,
    /// What the cell has.
    pub totals: Totals,
    /// What the endpoint has counted.
    pub endpoint: Counters,
    /// Datagrams that came while the server could not serve, and found no room.
    pub lost: u64,
    /// The checksum of the state as of the last entry applied.
    pub digest: Digest,
    /// The last entry behind which a majority of the voters was found to have the same state as this server; none yet in
    /// the life of this process, or in a cell of one.
    pub confirmed: Option<u64>,
    /// Whether the state here was found to be not that of a majority: the server is about to stop.
    pub diverged: bool,
    /// The other servers whose state was found to be another than that of the majority with this server.
    pub others_diverged: Vec<u64>,
    /// The index of the last snapshot taken since the start.
    pub snapshot: Option<u64>,
    /// The version of the cell.
    pub version: u32,
    /// The other servers to which there is a link, and which versions they can apply.
    pub versions: BTreeMap<u64, Versions>,
    /// Until when the master lease lasts, if this server has it.
    pub lease_until: Option<Instant>,
    /// What was counted of the other servers.
    pub peers: PeerCounters,
}

/// What a node has counted of the other servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounters {
    /// Messages that could not be read.
    pub malformed: u64,
    /// Messages that the consensus engine refused.
    pub refused: u64,
    /// Datagrams of plain clients passed on to the master, or from it.
    pub relayed: u64,
    /// Such datagrams that were dropped: there was no room, or no longer a way.
    pub relays_dropped: u64,
    /// Snapshots sent to others, whole.
    pub snapshots_sent: u64,
    /// Snapshots of others that took the place of the state here.
    pub snapshots_restored: u64,
}
