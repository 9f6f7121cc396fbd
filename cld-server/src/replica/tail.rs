//! The tail of the log in memory: what the engine reads, and the only copy that it does read while it runs.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState as RaftHardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::storage::{Configuration, HardState, LogEntry, LogImage, LogPosition, SnapshotPoint};

/// The entries after the last trimming, durable or on their way to the disk.
#[derive(Debug)]
pub(super) struct LogTail {
    /// As found at start; read once.
    hard_state: HardState,
    /// The latest durable snapshot, or where a new cell begins.
    base: SnapshotPoint,
    /// The position before the first entry.
    start: LogPosition,
    entries: VecDeque<Entry>,
}

impl LogTail {
    pub(super) fn new(image: LogImage) -> Self {
        let LogImage { hard_state, base, start, entries } = image;
        Self { hard_state, base, start, entries: entries.into_iter().map(to_raft).collect() }
    }

    /// Appends consecutive entries; those that were there from the first one's index on are replaced.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            self.entries.truncate(self.offset(first.index).unwrap_or(0));
            self.entries.extend(entries.iter().cloned());
        }
    }

    /// Forgets the entries up to this index, which a snapshot holds.
    pub(super) fn compact(&mut self, snapshot: SnapshotPoint, trim_through: u64) {
        self.base = snapshot;
        while let Some(entry) = self.entries.front().filter(|entry| entry.index <= trim_through) {
            self.start = LogPosition { index: entry.index, term: entry.term };
            self.entries.pop_front();
        }
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

    /// The latest snapshot as a reference: its index names the file, the data stays empty.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        if self.base.at.index < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.base.at.index;
        metadata.term = self.base.at.term;
        metadata.set_conf_state(conf_state(&self.base.configuration));
        Ok(snapshot)
    }
}

fn conf_state(configuration: &Configuration) -> ConfState {
    ConfState::from((configuration.voters.clone(), configuration.learners.clone()))
}

fn to_raft(entry: LogEntry) -> Entry {
    Entry { index: entry.at.index, term: entry.at.term, data: entry.payload.into(), ..Entry::default() }
}

/// An engine's entry, as it is stored.
pub(super) fn from_raft(entry: &Entry) -> LogEntry {
    LogEntry { at: LogPosition { index: entry.index, term: entry.term }, payload: entry.data.to_vec() }
}
