//! A disk in memory, at the level of a node's jobs: what it has done is durable, what it has not is lost when the machine
//! goes off.

use std::collections::BTreeMap;

use cld_server::database::{Database, Snapshot};
use cld_server::node::{DiskDone, DiskJob};
use cld_server::storage::{
    Configuration, HardState, LogImage, LogPosition, LogWrite, SnapshotPoint, SnapshotRecord,
};
use cld_server::versions::Versions;

/// The node decides about versions, not its disk.
const ALL: Versions = Versions { lowest: 1, highest: u32::MAX };

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) image: LogImage,
    files: BTreeMap<u64, Vec<u8>>,
    received: BTreeMap<u64, Vec<u8>>,
    /// Open files of transfers, and the copy that is being written: both are lost at a crash.
    sources: BTreeMap<u64, Vec<u8>>,
    copy: Option<(u64, SnapshotRecord, Vec<u8>)>,
}

impl Disk {
    /// The disk of a member of a new cell.
    pub(super) fn of_cell(configuration: Configuration) -> Self {
        let at = LogPosition { index: 1, term: 1 };
        let base = SnapshotPoint { at, configuration };
        let hard_state = HardState { term: 1, vote: 0, commit: 1 };
        Self::of(LogImage { hard_state, base, file: None, start: at, entries: Vec::new() })
    }

    fn of(image: LogImage) -> Self {
        let (files, received, sources) = Default::default();
        Self { image, files, received, sources, copy: None }
    }

    /// The state at the log's base.
    pub(super) fn database(&self) -> Result<Database, String> {
        match (self.image.file, self.files.get(&self.image.base.at.index)) {
            (None, _) => Ok(Database::new()),
            (Some(_), None) => Err("the snapshot at the log's base is missing".to_owned()),
            (Some(_), Some(file)) => Snapshot::decode(&file[..], ALL).map_err(|error| error.to_string()),
        }
    }

    /// The machine went off.
    pub(super) fn crash(&mut self) {
        self.sources.clear();
        self.received.clear();
        self.copy = None;
    }

    pub(super) fn perform(&mut self, job: DiskJob) -> DiskDone {
        match job {
            DiskJob::Append { ticket, write } => {
                self.append(write);
                DiskDone::Appended { ticket }
            }
            DiskJob::Snapshot { point, database } => {
                let bytes: Vec<u8> = Snapshot::encode(&database).flatten().collect();
                let length = bytes.len() as u64 + 4;
                let checksum = crc32c::crc32c(&bytes);
                self.files.insert(point.at.index, bytes);
                DiskDone::SnapshotWritten { record: SnapshotRecord { point, length, checksum } }
            }
            DiskJob::RecordSnapshot { record, trim_through } => {
                if record.point.at.index >= self.image.base.at.index {
                    self.image.base = record.point.clone();
                    self.image.file = Some(record.file());
                    let commit = &mut self.image.hard_state.commit;
                    *commit = record.point.at.index.max(*commit);
                    while self.image.entries.first().is_some_and(|entry| entry.at.index <= trim_through) {
                        self.image.start = self.image.entries.remove(0).at;
                    }
                }
                DiskDone::SnapshotRecorded { record, trim_through }
            }
            DiskJob::RemoveSnapshots { before } => {
                self.files.retain(|&index, _| index >= before);
                DiskDone::Noted
            }
            DiskJob::Forget { .. } => DiskDone::Noted,
            // The node stops, and that ends the run.
            DiskJob::MarkDiverged { .. } => DiskDone::MarkedDiverged,
            DiskJob::ReadSnapshot { transfer, index, offset, length } => {
                if let (None, Some(file)) = (self.sources.get(&transfer), self.files.get(&index)) {
                    self.sources.insert(transfer, file.clone());
                }
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = self
                    .sources
                    .get(&transfer)
                    .and_then(|file| file.get(offset..offset.saturating_add(length)));
                let bytes = part.map(<[u8]>::to_vec).ok_or_else(|| "there is no such file".to_owned());
                DiskDone::SnapshotRead { transfer, bytes }
            }
            DiskJob::EndRead { transfer } => {
                self.sources.remove(&transfer);
                DiskDone::Noted
            }
            DiskJob::BeginCopy { copy, record } => {
                self.copy = Some((copy, record, Vec::new()));
                DiskDone::Noted
            }
            DiskJob::WriteCopy { copy, bytes } => {
                let found = self.copy.as_mut().filter(|(number, _, _)| *number == copy);
                let result = found.map(|(_, _, file)| file.extend(bytes)).ok_or_else(String::new);
                DiskDone::CopyWritten { copy, result }
            }
            DiskJob::FinishCopy { copy } => DiskDone::CopyFinished { copy, database: self.finish(copy) },
            DiskJob::DropCopy { copy } => {
                self.copy.take_if(|(number, _, _)| *number == copy);
                DiskDone::Noted
            }
        }
    }

    fn append(&mut self, write: LogWrite) {
        let image = &mut self.image;
        if let Some(record) = &write.snapshot {
            assert!(record.point.at.index > image.base.at.index, "an older snapshot");
            let file = self.received.remove(&record.point.at.index).expect("it was copied before");
            self.files.insert(record.point.at.index, file);
            image.base = record.point.clone();
            image.file = Some(record.file());
            image.start = record.point.at;
            image.entries.clear();
        }
        for entry in write.entries {
            image.entries.retain(|old| old.at.index < entry.at.index);
            let last = image.entries.last().map_or(image.start, |entry| entry.at);
            assert!(entry.at.index == last.index + 1 && entry.at.term >= last.term, "a gap");
            image.entries.push(entry);
        }
        image.hard_state = write.hard_state;
        image.hard_state.commit = write.hard_state.commit.max(image.base.at.index);
    }

    fn finish(&mut self, copy: u64) -> Result<Box<Database>, String> {
        let found = self.copy.take_if(|(number, _, _)| *number == copy);
        let (_, record, file) = found.ok_or("it was given up")?;
        if (file.len() as u64 + 4, crc32c::crc32c(&file)) != (record.length, record.checksum) {
            return Err("it is damaged".to_owned());
        }
        let database = Snapshot::decode(&file[..], ALL).map_err(|error| error.to_string())?;
        self.received.insert(record.point.at.index, file);
        Ok(Box::new(database))
    }
}
