//! When to take a snapshot, one at a time.

use super::interface::{DiskJob, SnapshotPolicy};
use crate::database::Database;
use crate::replica::Engine;
use crate::storage::SnapshotPoint;

/// Counts what was applied since the last snapshot.
#[derive(Debug)]
pub(super) struct Snapshots {
    policy: SnapshotPolicy,
    entries: u64,
    bytes: u64,
    /// One is being written or recorded.
    busy: bool,
    /// Another server needs one.
    wanted: bool,
    /// The index of the last one, or of the state at the start: there is none to be taken at the same.
    at: u64,
    last: Option<u64>,
}

impl Snapshots {
    pub(super) const fn new(policy: SnapshotPolicy, at: u64) -> Self {
        Self { policy, entries: 0, bytes: 0, busy: false, wanted: false, at, last: None }
    }

    /// An entry of `len` bytes was applied.
    pub(super) fn applied(&mut self, len: usize) {
        self.entries = self.entries.saturating_add(1);
        self.bytes = self.bytes.saturating_add(len as u64);
    }

    /// Another server needs a snapshot of now.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    /// The state is that of another server's snapshot.
    pub(super) const fn restored(&mut self, at: u64) {
        (self.entries, self.bytes, self.at) = (0, 0, at);
    }

    /// Begins a snapshot if it is time. All that the engine gave out must be applied.
    pub(super) fn begin(&mut self, engine: &impl Engine, database: &Database) -> Option<DiskJob> {
        let due = self.entries >= self.policy.entries || self.bytes >= self.policy.bytes;
        if self.busy || !(self.wanted || (due && self.entries > 0)) {
            return None;
        }
        let point = engine.snapshot_point();
        if point.at.index <= self.at {
            return None;
        }
        (self.entries, self.bytes, self.busy, self.wanted, self.at) = (0, 0, true, false, point.at.index);
        Some(DiskJob::Snapshot { point, database: Box::new(database.clone()) })
    }

    /// The snapshot is durable and recorded.
    pub(super) const fn finished(&mut self, point: &SnapshotPoint) {
        self.busy = false;
        self.last = Some(point.at.index);
    }

    /// The index of the last snapshot.
    pub(super) const fn last(&self) -> Option<u64> {
        self.last
    }
}
