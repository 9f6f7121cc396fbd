//! Tests of the storage, on a disk that crashes, lies and fills up, and on the real one.

mod copy;
mod crash;
mod damage;
mod faulty_disk;
mod install;
mod refusal;
mod restore;

use std::num::NonZeroU64;
use std::sync::Arc;

use super::*;
use faulty_disk::{FaultyDisk, Random};

const IDENTITY: Identity = Identity { node: NonZeroU64::new(7).unwrap(), cell: 0xce11 };
const NEW_CELL: OpenMode = OpenMode::NewCell(IDENTITY);

fn open(disk: &FaultyDisk, mode: OpenMode) -> Result<(Store, Recovered), OpenError> {
    Store::open_on(Arc::new(disk.clone()), mode)
}

fn entry(index: u64, term: u64, payload: impl Into<Vec<u8>>) -> LogEntry {
    LogEntry { at: LogPosition { index, term }, payload: payload.into(), ..LogEntry::default() }
}

fn write(entries: Vec<LogEntry>, commit: u64) -> LogWrite {
    LogWrite { snapshot: None, entries, hard_state: HardState { term: 1, vote: 7, commit } }
}

/// Appends entries of term 1, from 2 (where a new cell's log begins) to `last`, and commits them.
fn fill(store: &mut Store, last: u64) {
    let entries = (2..=last).map(|index| entry(index, 1, format!("entry {index}"))).collect();
    store.append(&[write(entries, last)]).unwrap();
}

fn point(index: u64, term: u64) -> SnapshotPoint {
    SnapshotPoint { at: LogPosition { index, term }, configuration: Configuration::of_voters([7]) }
}

/// The chunks that the tests' snapshot of this point has.
fn chunks(point: &SnapshotPoint) -> Vec<Vec<u8>> {
    let mut random = Random(point.at.index);
    (0..1 + random.below(4)).map(|_| vec![random.next() as u8; 1 + random.below(2000) as usize]).collect()
}

fn make_snapshot(snapshots: &Snapshots, point: SnapshotPoint) -> Result<SnapshotRecord, SnapshotError> {
    let chunks = chunks(&point);
    let mut writer = snapshots.create(point)?;
    for chunk in &chunks {
        writer.write_chunk(chunk)?;
    }
    writer.finish()
}

fn read_chunks(mut reader: SnapshotReader) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| reader.next_chunk().unwrap()).collect()
}
