//! What a disk would hold, in memory.

use std::num::NonZeroU64;

use crate::storage::{
    Configuration, HardState, Identity, LogEntry, LogError, LogImage, LogPosition, LogStore, LogWrite,
    SnapshotPoint, SnapshotRecord,
};

/// A log that notices what the real store would refuse.
#[derive(Debug, Clone)]
pub(super) struct MemoryStore {
    pub(super) node: NonZeroU64,
    pub(super) image: LogImage,
}

impl MemoryStore {
    /// The log of a member of a new cell with these voters.
    pub(super) fn of_cell(node: NonZeroU64, voters: impl IntoIterator<Item = u64>) -> Self {
        let at = LogPosition { index: 1, term: 1 };
        let base = SnapshotPoint { at, configuration: Configuration::of_voters(voters) };
        let hard_state = HardState { term: 1, vote: 0, commit: 1 };
        Self { node, image: LogImage { hard_state, base, file: None, start: at, entries: Vec::new() } }
    }

    /// The log of a server that joins.
    pub(super) fn of_newcomer(node: NonZeroU64) -> Self {
        let (base, start) = (SnapshotPoint::default(), LogPosition::default());
        let image =
            LogImage { hard_state: HardState::default(), base, file: None, start, entries: Vec::new() };
        Self { node, image }
    }

    fn last(&self) -> LogPosition {
        self.image.entries.last().map_or(self.image.start, |entry| entry.at)
    }

    pub(super) fn payloads_after(&self, index: u64, through: u64) -> Vec<&LogEntry> {
        let wanted =
            |entry: &&LogEntry| (index + 1..=through).contains(&entry.at.index) && !entry.payload.is_empty();
        self.image.entries.iter().filter(wanted).collect()
    }
}

impl LogStore for MemoryStore {
    fn identity(&self) -> Identity {
        Identity { node: self.node, cell: 1 }
    }

    fn append(&mut self, writes: &[LogWrite]) -> Result<(), LogError> {
        for write in writes {
            if let Some(record) = &write.snapshot {
                assert!(record.point.at.index > self.image.base.at.index, "an older snapshot");
                self.image.base = record.point.clone();
                self.image.file = Some(record.file());
                self.image.start = record.point.at;
                self.image.entries.clear();
            }
            for entry in &write.entries {
                assert!(
                    entry.at.index > self.image.hard_state.commit || write.snapshot.is_some(),
                    "a committed entry is replaced"
                );
                self.image.entries.retain(|old| old.at.index < entry.at.index);
                let last = self.last();
                assert!(entry.at.index == last.index + 1 && entry.at.term >= last.term, "a gap");
                self.image.entries.push(entry.clone());
            }
            assert!(
                write.hard_state.term >= self.last().term && write.hard_state.commit <= self.last().index
            );
            self.image.hard_state = write.hard_state;
            self.image.hard_state.commit = write.hard_state.commit.max(self.image.base.at.index);
        }
        Ok(())
    }

    fn record_snapshot(&mut self, snapshot: &SnapshotRecord, trim_through: u64) -> Result<(), LogError> {
        if snapshot.point.at.index < self.image.base.at.index {
            return Ok(());
        }
        assert!(snapshot.point.at.index <= self.last().index && trim_through <= snapshot.point.at.index);
        self.image.base = snapshot.point.clone();
        self.image.file = Some(snapshot.file());
        self.image.hard_state.commit = self.image.hard_state.commit.max(snapshot.point.at.index);
        while self.image.entries.first().is_some_and(|entry| entry.at.index <= trim_through) {
            self.image.start = self.image.entries.remove(0).at;
        }
        Ok(())
    }
}
