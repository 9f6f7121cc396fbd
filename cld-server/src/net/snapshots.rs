//! The work of the thread for snapshot files: writes those of this server, reads them for others, and takes in theirs.

use std::collections::BTreeMap;

use tracing::warn;

use super::disk::failed;
use super::recover::decode;
use crate::database::{Database, Snapshot};
use crate::node::{DiskDone, DiskJob};
use crate::storage::{SnapshotCopy, SnapshotError, SnapshotPoint, SnapshotRecord, SnapshotSource, Snapshots};

/// The files, and those that are open.
#[derive(Debug)]
pub(super) struct SnapshotThread {
    files: Snapshots,
    /// Those that are being sent, by the number of the transfer. There is one to each other server.
    sources: BTreeMap<u64, SnapshotSource>,
    /// The one that is being received, and its number.
    copy: Option<(u64, Result<SnapshotCopy, SnapshotError>)>,
}

impl SnapshotThread {
    pub(super) const fn new(files: Snapshots) -> Self {
        Self { files, sources: BTreeMap::new(), copy: None }
    }

    /// Does one job.
    pub(super) fn perform(&mut self, job: DiskJob) -> DiskDone {
        match job {
            DiskJob::Append { .. } | DiskJob::RecordSnapshot { .. } | DiskJob::MarkDiverged { .. } => {
                failed("a job of the log came to the snapshots")
            }
            DiskJob::Snapshot { database, .. } if database.recomputed_digest() != database.digest() => {
                failed(
                    "the state in memory is not what was applied: its memory was spoiled, or the program is wrong. The log on \
                 the disk is as it was; test the machine's memory, then start the server again",
                )
            }
            DiskJob::Snapshot { point, database } => match self.write(point, &database) {
                Ok(record) => DiskDone::SnapshotWritten { record },
                Err(error) => {
                    failed(format_args!("{error}; make room or mend the disk, then start the server again"))
                }
            },
            DiskJob::RemoveSnapshots { before } => {
                if let Err(error) = self.files.remove_before(before) {
                    warn!("an old snapshot stays until the next start: {error}");
                }
                DiskDone::Noted
            }
            DiskJob::Forget { database } => {
                drop(database);
                DiskDone::Noted
            }
            DiskJob::ReadSnapshot { transfer, index, offset, length } => {
                let bytes = self.read(transfer, index, offset, length).map_err(|error| error.to_string());
                DiskDone::SnapshotRead { transfer, bytes }
            }
            DiskJob::EndRead { transfer } => {
                self.sources.remove(&transfer);
                DiskDone::Noted
            }
            DiskJob::BeginCopy { copy, record } => {
                // What is left of the one before is removed first: it may have the same name.
                self.copy = None;
                self.copy = Some((copy, self.files.copy(record)));
                DiskDone::Noted
            }
            DiskJob::WriteCopy { copy, bytes } => {
                let result = match self.copy.as_mut().filter(|(number, _)| *number == copy) {
                    Some((_, Ok(file))) => file.write(&bytes).map_err(|error| error.to_string()),
                    Some((_, Err(error))) => Err(error.to_string()),
                    None => Err("it was given up".to_owned()),
                };
                DiskDone::CopyWritten { copy, result }
            }
            DiskJob::FinishCopy { copy } => DiskDone::CopyFinished { copy, database: self.finish(copy) },
            DiskJob::DropCopy { copy } => {
                self.copy.take_if(|(number, _)| *number == copy);
                DiskDone::Noted
            }
        }
    }

    fn write(&self, point: SnapshotPoint, database: &Database) -> Result<SnapshotRecord, SnapshotError> {
        let mut writer = self.files.create(point)?;
        for chunk in Snapshot::encode(database) {
            writer.write_chunk(&chunk)?;
        }
        writer.finish()
    }

    fn read(
        &mut self,
        transfer: u64,
        index: u64,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, SnapshotError> {
        if let Some(source) = self.sources.get(&transfer) {
            return source.read(offset, length);
        }
        let source = self.files.source(index)?;
        let bytes = source.read(offset, length);
        self.sources.insert(transfer, source);
        bytes
    }

    fn finish(&mut self, copy: u64) -> Result<Box<Database>, String> {
        let (_, file) = self.copy.take_if(|(number, _)| *number == copy).ok_or("it was given up")?;
        let reader = file.and_then(SnapshotCopy::finish).map_err(|error| error.to_string())?;
        decode(reader).map(Box::new).map_err(|error| error.to_string())
    }
}
