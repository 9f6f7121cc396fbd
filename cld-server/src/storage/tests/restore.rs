//! A snapshot restored into a directory: whole, or known to be not, whenever the machine goes off.

use super::*;

const CELL: u128 = 0xabc;

fn restore(disk: &FaultyDisk, cell: u128) -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity { cell, ..IDENTITY };
    let mut restoration = Restoration::begin_on(Arc::new(disk.clone()), identity)?;
    let point = point(40, 3);
    let mut copy = restoration.store().snapshots().receive(point.clone())?;
    for chunk in chunks(&point) {
        copy.write_chunk(&chunk)?;
    }
    let hard_state = HardState { term: 3, vote: 0, commit: 40 };
    let write = LogWrite { snapshot: Some(copy.finish()?), entries: Vec::new(), hard_state };
    restoration.store().append(&[write])?;
    Ok(restoration.finish()?)
}

#[test]
fn a_restore_cut_anywhere_is_known_to_be_unfinished_and_can_be_done_again() {
    let mut random = Random(11);
    let (mut unfinished, mut done) = (0, false);
    for changes in 1.. {
        let disk = FaultyDisk::new();
        disk.crash_after(changes);
        done = restore(&disk, CELL).is_ok();
        disk.crash(&mut random);
        match open(&disk, OpenMode::Existing) {
            // The last name's change may be durable or not when the machine goes off.
            Ok((store, recovered)) => {
                assert_eq!((store.identity().cell, recovered.log.base.at.index), (CELL, 40));
                assert_eq!(read_chunks(recovered.snapshot.unwrap()), chunks(&point(40, 3)));
            }
            Err(OpenError::Unfinished { .. } | OpenError::NoCell { .. }) => {
                assert!(!done, "it said that it was done");
                unfinished += 1;
                restore(&disk, CELL + 1).unwrap();
                let (store, recovered) = open(&disk, OpenMode::Existing).unwrap();
                assert_eq!((store.identity().cell, recovered.log.base.at.index), (CELL + 1, 40));
            }
            Err(error) => panic!("after {changes} changes: {error}"),
        }
        if done {
            break;
        }
    }
    assert!(done && unfinished > 10, "{unfinished}");
}

#[test]
fn what_was_unfinished_is_opened_in_no_other_way() {
    let disk = FaultyDisk::new();
    let begun = Restoration::begin_on(Arc::new(disk.clone()), IDENTITY).unwrap();
    drop(begun);
    for mode in [OpenMode::Existing, NEW_CELL, OpenMode::NewMember(IDENTITY)] {
        assert!(matches!(open(&disk, mode), Err(OpenError::Unfinished { .. })), "{mode:?}");
    }
}

#[test]
fn a_snapshot_is_restored_over_nothing() {
    let disk = FaultyDisk::new();
    let (mut store, _) = open(&disk, NEW_CELL).unwrap();
    fill(&mut store, 60);
    drop(store);
    let error = Restoration::begin_on(Arc::new(disk.clone()), IDENTITY).unwrap_err();
    assert!(matches!(error, OpenError::Occupied { .. }), "{error}");
    let (_, recovered) = open(&disk, OpenMode::Existing).unwrap();
    assert_eq!(recovered.log.entries.len(), 59);
}
