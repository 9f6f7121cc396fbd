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
    /// A state that a majority was found to have, when it was time for a snapshot.
    confirmed: Option<(SnapshotPoint, Box<Database>)>,
}

impl Snapshots {
    pub(super) const fn new(policy: SnapshotPolicy, at: u64) -> Self {
        Self { policy, entries: 0, bytes: 0, busy: false, wanted: false, at, last: None, confirmed: None }
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
    pub(super) fn restored(&mut self, at: u64) {
        (self.entries, self.bytes, self.at, self.confirmed) = (0, 0, at, None);
    }

    /// Whether it is time for a snapshot.
    pub(super) const fn is_due(&self) -> bool {
        let due = self.entries >= self.policy.entries || self.bytes >= self.policy.bytes;
        !self.busy && (self.wanted || (due && self.entries > 0))
    }

    /// A majority of the servers has this state.
    pub(super) fn confirmed(&mut self, point: SnapshotPoint, state: Box<Database>) {
        if self.is_due() {
            self.confirmed = Some((point, state));
        }
    }

    /// Begins a snapshot if it is time: of the state that was confirmed, if states are `compared`, or of that of now. All
    /// that the engine gave out must be applied.
    pub(super) fn begin(
        &mut self,
        engine: &impl Engine,
        database: &Database,
        compared: bool,
    ) -> Option<DiskJob> {
        if !self.is_due() {
            return None;
        }
        let (point, database) = if compared {
            self.confirmed.take()?
        } else {
            (engine.snapshot_point(), Box::new(database.clone()))
        };
        if point.at.index <= self.at {
            return None;
        }
        (self.entries, self.bytes, self.busy, self.wanted, self.at) = (0, 0, true, false, point.at.index);
        Some(DiskJob::Snapshot { point, database })
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
