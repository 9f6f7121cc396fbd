//! Snapshots that are copied from one server's disk to another's.

use super::*;

/// Copies what the source gives out, changed by `change`, in parts.
fn copy(
    from: &Snapshots,
    record: &SnapshotRecord,
    to: &Snapshots,
    change: impl Fn(&mut Vec<u8>),
) -> Result<SnapshotReader, SnapshotError> {
    let source = from.source(record.point.at.index)?;
    let length = usize::try_from(SnapshotSource::length(record)).unwrap();
    let mut bytes = source.read(0, length / 2)?;
    bytes.extend(source.read(length as u64 / 2, length - length / 2)?);
    change(&mut bytes);
    let mut copy = to.copy(record.clone())?;
    for part in bytes.chunks(100) {
        copy.write(part)?;
    }
    copy.finish()
}

#[test]
fn a_copy_is_the_snapshot_and_the_log_can_begin_with_it() {
    let (first, second) = (FaultyDisk::new(), FaultyDisk::new());
    let (mut store, _) = open(&first, NEW_CELL).unwrap();
    fill(&mut store, 30);
    let record = make_snapshot(store.snapshots(), point(20, 1)).unwrap();
    let (mut other, _) = open(&second, NEW_CELL).unwrap();
    let reader = copy(store.snapshots(), &record, other.snapshots(), |_| {}).unwrap();
    assert_eq!(read_chunks(reader), chunks(&record.point));
    let hard_state = HardState { term: 1, vote: 0, commit: 20 };
    other.append(&[LogWrite { snapshot: Some(record.clone()), entries: Vec::new(), hard_state }]).unwrap();
    drop(other);
    let (_, recovered) = open(&second, NEW_CELL).unwrap();
    assert_eq!(recovered.log.base, record.point);
}

#[test]
fn a_copy_that_is_not_what_was_announced_is_refused() {
    let (first, second) = (FaultyDisk::new(), FaultyDisk::new());
    let (mut store, _) = open(&first, NEW_CELL).unwrap();
    fill(&mut store, 30);
    let record = make_snapshot(store.snapshots(), point(20, 1)).unwrap();
    let (other, _) = open(&second, NEW_CELL).unwrap();
    let changes: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes[50] ^= 1, |bytes| bytes.truncate(60), |bytes| bytes.push(0)];
    for change in changes {
        let refused = copy(store.snapshots(), &record, other.snapshots(), change);
        assert!(matches!(refused, Err(SnapshotError::Corrupt { .. })), "{refused:?}");
    }
    assert!(matches!(store.snapshots().source(21), Err(SnapshotError::Missing { .. })));
}

#[test]
fn a_copy_of_another_cells_snapshot_is_refused() {
    let (first, second) = (FaultyDisk::new(), FaultyDisk::new());
    let (mut store, _) = open(&first, NEW_CELL).unwrap();
    fill(&mut store, 30);
    let record = make_snapshot(store.snapshots(), point(20, 1)).unwrap();
    let elsewhere = OpenMode::NewCell(Identity { cell: 77, ..IDENTITY });
    let (other, _) = open(&second, elsewhere).unwrap();
    let refused = copy(store.snapshots(), &record, other.snapshots(), |_| {});
    assert!(matches!(refused, Err(SnapshotError::Corrupt { .. })), "{refused:?}");
}
