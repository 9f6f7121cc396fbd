//! A flipped bit, anywhere: the data comes back as it was, or not at all.

use super::*;

/// A store with entries, a snapshot and a trimmed beginning, as it is while it runs: the disk has all, nothing is closed.
fn running_store() -> (FaultyDisk, Store) {
    let disk = FaultyDisk::new();
    let (mut store, _) = open(&disk, NEW_CELL).unwrap();
    fill(&mut store, 40);
    for index in 41..60 {
        store.append(&[write(vec![entry(index, 1, vec![index as u8; 700])], index - 1)]).unwrap();
    }
    let record = make_snapshot(store.snapshots(), point(45, 1)).unwrap();
    store.record_snapshot(&record, 30).unwrap();
    store.append(&[write(vec![entry(60, 1, "the one before the last")], 59)]).unwrap();
    store.append(&[write(vec![entry(61, 1, "the last")], 60)]).unwrap();
    (disk, store)
}

/// Flips a bit in a copy of the disk and gives what opening that finds.
fn open_flipped(disk: &FaultyDisk, name: &str, byte: usize, bit: u32) -> Result<LogImage, OpenError> {
    let disk = disk.copy();
    disk.flip_bit(name, byte, bit);
    let (_store, recovered) = open(&disk, OpenMode::Existing)?;
    let found = read_chunks(recovered.snapshot.expect("the snapshot"));
    assert_eq!(found, chunks(&recovered.log.base));
    Ok(recovered.log)
}

/// Bits to flip: in the header each byte's, and behind it in some bytes, more where they are not zero.
fn places(content: &[u8], seed: u64) -> Vec<(usize, u32)> {
    let random = &mut Random(seed);
    let mut places = Vec::new();
    for (place, byte) in content.iter().enumerate() {
        if place < 512 || random.one_in(if *byte == 0 { 900 } else { 60 }) {
            places.push((place, random.below(8) as u32));
        }
    }
    places
}

#[test]
fn a_flipped_bit_in_a_closed_log_is_never_served() {
    let (disk, store) = running_store();
    drop(store);
    let (_, recovered) = open(&disk.copy(), OpenMode::Existing).unwrap();
    let (mut found, mut harmless) = (0, 0);
    for (byte, bit) in places(&disk.content("log.redb"), 1) {
        match open_flipped(&disk, "log.redb", byte, bit) {
            Ok(log) => {
                assert_eq!(log, recovered.log, "byte {byte}, bit {bit}");
                harmless += 1;
            }
            Err(OpenError::Corrupt { .. } | OpenError::Database { .. }) => found += 1,
            Err(error) => panic!("byte {byte}, bit {bit}: {error}"),
        }
    }
    assert!(found > 100, "found {found}, harmless {harmless}");
}

#[test]
fn a_flipped_bit_after_a_crash_takes_back_the_last_write_at_most() {
    let (disk, store) = running_store();
    let (_, recovered) = open(&disk.copy(), OpenMode::Existing).unwrap();
    let mut before = recovered.log.clone();
    before.entries.pop();
    before.hard_state.commit -= 1;
    let mut found = 0;
    for (byte, bit) in places(&disk.content("log.redb"), 2) {
        match open_flipped(&disk, "log.redb", byte, bit) {
            Ok(log) => assert!(log == recovered.log || log == before, "byte {byte}, bit {bit}"),
            Err(OpenError::Corrupt { .. } | OpenError::Database { .. }) => found += 1,
            Err(error) => panic!("byte {byte}, bit {bit}: {error}"),
        }
    }
    assert!(found > 100, "found {found}");
    drop(store);
}

#[test]
fn a_flipped_bit_in_a_snapshot_is_found() {
    let (disk, store) = running_store();
    drop(store);
    let name = "snapshot-000000000000002d";
    for byte in 0..disk.content(name).len() {
        match open_flipped(&disk, name, byte, (byte % 8) as u32) {
            Err(
                OpenError::Corrupt { file, .. }
                | OpenError::NewerFormat { file, .. }
                | OpenError::OlderFormat { file, .. },
            ) => {
                assert!(file.ends_with(name))
            }
            other => panic!("byte {byte}: {other:?}"),
        }
    }
}

#[test]
fn a_cut_file_is_found() {
    let (disk, store) = running_store();
    drop(store);
    for (name, steps) in [("log.redb", 5000), ("snapshot-000000000000002d", 300)] {
        let length = disk.content(name).len();
        for size in (0..length).step_by(steps) {
            let disk = disk.copy();
            disk.open(name).unwrap().resize(size as u64).unwrap();
            match open(&disk, OpenMode::Existing) {
                Err(OpenError::Corrupt { file, .. }) => assert!(file.ends_with(name)),
                other => panic!("{name} cut to {size}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_read_error_is_told_from_damage() {
    let (disk, store) = running_store();
    drop(store);
    disk.fail_reads();
    assert!(matches!(open(&disk, OpenMode::Existing), Err(OpenError::Disk { .. })));
}
