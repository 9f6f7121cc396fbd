//! The tail of the log in memory: what the engine reads, and the only copy that it does read while it runs.

use std::cell::Cell;
use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState as RaftHardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::message::{is_configuration, payload, to_entry, to_snapshot};
use crate::storage::{
    Configuration, EntryKind, HardState, LogEntry, LogImage, LogPosition, SnapshotFile, SnapshotPoint,
    SnapshotRecord,
};

/// The most entries that are trimmed at once, and the most bytes of payload, but for one entry: what waits for the log's
/// disk meanwhile does not wait long.
const TRIM_ENTRIES: usize = 1000;
const TRIM_BYTES: u64 = 1 << 20;

/// The entries after the last trimming, durable or on their way to the disk.
#[derive(Debug)]
pub(super) struct LogTail {
    /// As found at start; read once.
    hard_state: HardState,
    /// The latest durable snapshot, or where a new cell begins.
    base: SnapshotPoint,
    /// The snapshot file at the base, if there is one.
    file: Option<SnapshotFile>,
    /// The position before the first entry.
    start: LogPosition,
    entries: VecDeque<Entry>,
    /// Set when a server needs a snapshot and none that is here will do.
    wanted: Cell<bool>,
}

impl LogTail {
    pub(super) fn new(image: LogImage) -> Self {
        let LogImage { hard_state, base, file, start, entries } = image;
        let entries = entries.into_iter().map(to_raft).collect();
        Self { hard_state, base, file, start, entries, wanted: Cell::new(false) }
    }

    /// Appends consecutive entries; those that were there from the first one's index on are replaced.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            self.entries.truncate(self.offset(first.index).unwrap_or(0));
            self.entries.extend(entries.iter().cloned());
        }
    }

    /// Forgets the entries up to this index, which a snapshot holds.
    pub(super) fn compact(&mut self, snapshot: SnapshotRecord, trim_through: u64) {
        self.file = Some(snapshot.file());
        self.base = snapshot.point;
        self.wanted.set(false);
        while let Some(entry) = self.entries.front().filter(|entry| entry.index <= trim_through) {
            self.start = LogPosition { index: entry.index, term: entry.term };
            self.entries.pop_front();
        }
    }

    /// Begins anew at a snapshot of another server.
    pub(super) fn restore(&mut self, snapshot: &SnapshotRecord) {
        self.start = snapshot.point.at;
        self.entries.clear();
        self.compact(snapshot.clone(), self.start.index);
    }

    /// Up to where entries may be trimmed next when a snapshot of this index is there, if the last `entries` before it that
    /// together have at most `bytes` are to stay. It is where the log begins already, or before, if nothing is left to do.
    pub(super) fn trim_point(&self, snapshot: u64, entries: u64, bytes: u64) -> u64 {
        let Some(end) = self.offset(snapshot + 1).map(|end| end.min(self.entries.len())) else {
            return snapshot;
        };
        let count = |entries: &mut dyn Iterator<Item = &Entry>, bytes: u64| {
            let mut size = 0;
            let within = entries.take_while(|entry| {
                size += payload(entry).len() as u64;
                size <= bytes
            });
            within.count() as u64
        };
        let kept = usize::try_from(entries).unwrap_or(usize::MAX);
        let kept = count(&mut self.entries.range(..end).rev().take(kept), bytes);
        let step = count(&mut self.entries.iter().take(TRIM_ENTRIES), TRIM_BYTES).max(1);
        snapshot.saturating_sub(kept).min(self.start.index.saturating_add(step))
    }

    /// Whether a snapshot is wanted for another server that the one at the base does not serve.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.wanted.take()
    }

    /// The changes of members that the log holds behind the base.
    pub(super) fn changes(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().filter(|entry| is_configuration(entry)).map(payload)
    }

    pub(super) fn base(&self) -> &SnapshotPoint {
        &self.base
    }

    pub(super) fn first(&self) -> u64 {
        self.start.index + 1
    }

    pub(super) fn last(&self) -> LogPosition {
        self.entries.back().map_or(self.start, |entry| LogPosition { index: entry.index, term: entry.term })
    }

    /// Where an index is, or would be, in the queue; `None` if it was trimmed.
    fn offset(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first())?).ok()
    }
}

impl Storage for LogTail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let HardState { term, vote, commit } = self.hard_state;
        let hard_state = RaftHardState { term, vote, commit, ..RaftHardState::default() };
        Ok(RaftState::new(hard_state, conf_state(&self.base.configuration)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let low = self.offset(low).ok_or(StorageError::Compacted)?;
        let high = self.offset(high).ok_or(StorageError::Compacted)?;
        if low > high || high > self.entries.len() {
            return Err(StorageError::Unavailable.into());
        }
        let mut entries: Vec<Entry> = self.entries.range(low..high).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.start.index {
            return Ok(self.start.term);
        }
        let offset = self.offset(index).ok_or(StorageError::Compacted)?;
        Ok(self.entries.get(offset).ok_or(StorageError::Unavailable)?.term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index)
    }

    /// The latest snapshot as a reference to its file. It must know its receiver as a member, or that one ignores it.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        match self.file {
            Some(SnapshotFile { length, checksum })
                if self.base.at.index >= request_index && self.base.configuration.contains(to) =>
            {
                Ok(to_snapshot(&SnapshotRecord { point: self.base.clone(), length, checksum }))
            }
            _ => {
                self.wanted.set(true);
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}

/// The members as the engine counts them.
pub(super) fn conf_state(configuration: &Configuration) -> ConfState {
    let members = (configuration.voters().collect::<Vec<_>>(), configuration.learners().collect::<Vec<_>>());
    ConfState::from(members)
}

fn to_raft(entry: LogEntry) -> Entry {
    to_entry(entry.at, entry.kind == EntryKind::Configuration, entry.payload)
}

/// An engine's entry, as it is stored.
pub(super) fn from_raft(entry: &Entry) -> LogEntry {
    let kind = if is_configuration(entry) { EntryKind::Configuration } else { EntryKind::Command };
    let at = LogPosition { index: entry.index, term: entry.term };
    LogEntry { at, kind, payload: payload(entry).to_vec() }
}
