//! Whatever is done when the machine goes off: what was acknowledged is there, and nothing else but the call under way.

use super::*;

/// What the log must be, kept beside the store.
struct Model {
    /// All that was acknowledged.
    log: LogImage,
    has_snapshot: bool,
}

fn last(log: &LogImage) -> LogPosition {
    log.entries.last().map_or(log.start, |entry| entry.at)
}

fn apply(log: &mut LogImage, writes: &[LogWrite]) {
    for write in writes {
        if let Some(record) = &write.snapshot {
            log.base = record.point.clone();
            log.file = Some(record.file());
            log.start = log.base.at;
            log.entries.clear();
        }
        if let Some(first) = write.entries.first() {
            log.entries.retain(|entry| entry.at.index < first.at.index);
            log.entries.extend(write.entries.iter().cloned());
        }
        log.hard_state = write.hard_state;
    }
    log.hard_state.commit = log.hard_state.commit.max(log.base.at.index);
}

fn trim(log: &mut LogImage, snapshot: &SnapshotRecord, through: u64) {
    log.base = snapshot.point.clone();
    log.file = Some(snapshot.file());
    log.hard_state.commit = log.hard_state.commit.max(log.base.at.index);
    if let Some(trimmed) = log.entries.iter().find(|entry| entry.at.index == through) {
        log.start = trimmed.at;
        log.entries.retain(|entry| entry.at.index > through);
    }
}

/// One or a few writes that an engine could ask for: new entries, the end replaced by a newer term, or a vote.
fn random_writes(log: &LogImage, random: &mut Random) -> Vec<LogWrite> {
    let mut log = log.clone();
    let count = 1 + random.below(2);
    let mut writes = Vec::new();
    for _ in 0..count {
        let replaceable = last(&log).index - log.hard_state.commit;
        let mut hard_state = log.hard_state;
        let mut first = last(&log).index + 1;
        if random.one_in(6) {
            hard_state = HardState { term: hard_state.term + 1, vote: random.below(3), ..hard_state };
            first -= random.below(replaceable + 1);
        }
        let entries: Vec<LogEntry> = (first..first + random.below(5))
            .map(|index| {
                let size = if random.one_in(20) { random.below(100_000) } else { random.below(600) };
                entry(index, hard_state.term, vec![random.next() as u8; size as usize])
            })
            .collect();
        let end = if entries.is_empty() { last(&log).index } else { first - 1 + entries.len() as u64 };
        hard_state.commit += random.below(end - hard_state.commit + 1);
        let write = LogWrite { snapshot: None, entries, hard_state };
        apply(&mut log, std::slice::from_ref(&write));
        writes.push(write);
    }
    writes
}

/// Copies a snapshot of another server, and begins the log anew with it.
fn receive(store: &Store, log: &LogImage, random: &mut Random) -> Result<LogWrite, SnapshotError> {
    let term = log.hard_state.term + random.below(2);
    let point = point(log.hard_state.commit + 1 + random.below(10), term);
    let mut writer = store.snapshots().receive(point.clone())?;
    chunks(&point).iter().try_for_each(|chunk| writer.write_chunk(chunk))?;
    let record = writer.finish()?;
    let hard_state = HardState { term, vote: 0, commit: point.at.index };
    let entries = (1..=random.below(3)).map(|next| entry(point.at.index + next, term, "behind")).collect();
    Ok(LogWrite { snapshot: Some(record), entries, hard_state })
}

/// Does one random thing. On failure gives back what the log is if the thing was done after all.
fn step(store: &mut Store, model: &mut Model, random: &mut Random) -> Result<(), Box<LogImage>> {
    let mut after = Box::new(model.log.clone());
    if random.one_in(8) && model.log.hard_state.commit > model.log.base.at.index {
        let index = model.log.hard_state.commit;
        let term = model.log.entries.iter().find(|entry| entry.at.index == index).unwrap().at.term;
        let Ok(record) = make_snapshot(store.snapshots(), point(index, term)) else { return Err(after) };
        let through = model.log.start.index + random.below(index - model.log.start.index + 1);
        trim(&mut after, &record, through);
        store.record_snapshot(&record, through).map_err(|_| after.clone())?;
        model.log = (*after).clone();
        model.has_snapshot = true;
        store.snapshots().remove_before(index).map_err(|_| after)
    } else if random.one_in(20) {
        let Ok(write) = receive(store, &model.log, random) else { return Err(after) };
        apply(&mut after, std::slice::from_ref(&write));
        store.append(&[write]).map_err(|_| after.clone())?;
        model.log = *after;
        model.has_snapshot = true;
        Ok(())
    } else {
        let writes = random_writes(&model.log, random);
        apply(&mut after, &writes);
        store.append(&writes).map_err(|_| after.clone())?;
        model.log = *after;
        Ok(())
    }
}

fn run(seed: u64) {
    let random = &mut Random(seed);
    let disk = FaultyDisk::new();
    let mut known: Option<Model> = None;
    let mut possible: Option<LogImage> = None;
    for _ in 0..4 {
        if random.one_in(3) {
            // Also while it is made or recovered.
            disk.crash_after(random.below(40));
        }
        let mode = if known.is_none() { NEW_CELL } else { OpenMode::Existing };
        let (mut store, recovered) = match open(&disk, mode) {
            Ok(opened) => opened,
            Err(error) => {
                assert!(
                    matches!(error, OpenError::Disk { .. } | OpenError::Database { .. }),
                    "seed {seed}: {error}"
                );
                disk.crash(random);
                open(&disk, mode).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
            }
        };
        if let Some(model) = &known {
            let as_known = recovered.log == model.log;
            assert!(
                as_known || Some(&recovered.log) == possible.as_ref(),
                "seed {seed}: {:?}",
                recovered.log
            );
        }
        let has_snapshot = recovered.snapshot.is_some();
        if let Some(reader) = recovered.snapshot {
            assert_eq!(read_chunks(reader), chunks(&recovered.log.base), "seed {seed}");
        }
        assert!(has_snapshot || known.is_none_or(|model| !model.has_snapshot), "seed {seed}");
        let mut model = Model { log: recovered.log, has_snapshot };
        possible = None;

        disk.crash_after(random.below(250));
        for _ in 0..60 {
            if let Err(after) = step(&mut store, &mut model, random) {
                possible = Some(*after);
                break;
            }
        }
        // As kill -9 does it: nothing is closed.
        disk.crash(random);
        drop(store);
        known = Some(model);
    }
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_any_moment() {
    (0..400).for_each(run);
}

#[test]
fn an_append_costs_one_sync_however_many_writes_it_has() {
    let disk = FaultyDisk::new();
    let (mut store, _) = open(&disk, NEW_CELL).unwrap();
    let mut index = 1;
    let mut append = |writes: u64, size: usize| {
        let next = |index: u64| write(vec![entry(index, 1, vec![1; size])], 1);
        let writes: Vec<LogWrite> = (index + 1..=index + writes).map(next).collect();
        index += writes.len() as u64;
        let before = disk.syncs();
        store.append(&writes).unwrap();
        disk.syncs() - before
    };
    assert_eq!(append(1, 300), 1);
    assert_eq!(append(10, 300), 1);
    // Another one only when the file grows.
    let syncs: u64 = (0..1000).map(|_| append(1, 300)).sum();
    assert!((1000..1010).contains(&syncs), "{syncs} syncs for 1,000 appends");
}

#[test]
fn the_largest_entry_comes_back_and_a_larger_one_is_refused() {
    let disk = FaultyDisk::new();
    let (mut store, _) = open(&disk, NEW_CELL).unwrap();
    let large = entry(2, 1, vec![7; MAX_ENTRY_SIZE]);
    store.append(&[write(vec![large.clone()], 1)]).unwrap();
    let larger = entry(3, 1, vec![7; MAX_ENTRY_SIZE + 1]);
    assert!(matches!(store.append(&[write(vec![larger], 1)]), Err(LogError::Misuse(_))));
    store.append(&[write(vec![entry(3, 1, "small")], 1)]).unwrap();
    drop(store);
    let (_, recovered) = open(&disk, OpenMode::Existing).unwrap();
    assert_eq!(recovered.log.entries, [large, entry(3, 1, "small")]);
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing_acknowledged() {
    for writes in 0..60 {
        let disk = FaultyDisk::new();
        let (mut store, _) = open(&disk, NEW_CELL).unwrap();
        fill(&mut store, 9);
        disk.full_after(writes);
        let mut acknowledged = 9;
        let error = loop {
            let next = write(vec![entry(acknowledged + 1, 1, vec![1; 50_000])], 9);
            match store.append(&[next]) {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LogError::Disk { .. }), "{error}");
        assert!(matches!(store.append(&[write(Vec::new(), 9)]), Err(LogError::Stopped)), "it is fatal");
        drop(store);
        disk.crash(&mut Random(writes));
        let (_, recovered) = open(&disk, OpenMode::Existing).unwrap();
        let found = last(&recovered.log).index;
        assert!(found == acknowledged || found == acknowledged + 1, "{found} of {acknowledged}");
    }
}

#[test]
fn a_failed_sync_is_fatal_and_never_tried_again() {
    for seed in 0..20 {
        let disk = FaultyDisk::new();
        let (mut store, before) = open(&disk, NEW_CELL).unwrap();
        assert_eq!(before.log.entries, []);
        fill(&mut store, 9);
        disk.fail_syncs();
        assert!(matches!(store.append(&[write(vec![entry(10, 1, "lost")], 9)]), Err(LogError::Disk { .. })));
        let syncs = disk.syncs();
        assert!(matches!(store.append(&[write(vec![entry(10, 1, "again")], 9)]), Err(LogError::Stopped)));
        assert_eq!(disk.syncs(), syncs);
        drop(store);
        disk.crash(&mut Random(seed));
        let (_, recovered) = open(&disk, OpenMode::Existing).unwrap();
        assert_eq!(last(&recovered.log).index, 9);
    }
}

#[test]
fn a_snapshot_that_does_not_fit_leaves_the_log_and_no_file() {
    let disk = FaultyDisk::new();
    let (mut store, _) = open(&disk, NEW_CELL).unwrap();
    fill(&mut store, 9);
    disk.full_after(3);
    assert!(matches!(make_snapshot(store.snapshots(), point(9, 1)), Err(SnapshotError::Disk { .. })));
    assert_eq!(disk.list().unwrap(), ["log.redb"]);
    disk.full_after(u64::MAX);
    let record = make_snapshot(store.snapshots(), point(9, 1)).unwrap();
    store.record_snapshot(&record, 9).unwrap();
}

#[test]
fn trimming_keeps_the_entries_behind_and_the_term_before_them() {
    let disk = FaultyDisk::new();
    let (mut store, _) = open(&disk, NEW_CELL).unwrap();
    fill(&mut store, 9);
    let record = make_snapshot(store.snapshots(), point(8, 1)).unwrap();
    store.record_snapshot(&record, 5).unwrap();
    drop(store);
    let (mut store, recovered) = open(&disk, OpenMode::Existing).unwrap();
    assert_eq!(recovered.log.start, LogPosition { index: 5, term: 1 });
    assert_eq!(recovered.log.base, point(8, 1));
    assert_eq!(recovered.log.entries.iter().map(|entry| entry.at.index).collect::<Vec<_>>(), [6, 7, 8, 9]);
    assert_eq!(recovered.snapshot.unwrap().record(), &record);

    let replace = write(vec![entry(8, 1, "a snapshot holds this one")], 8);
    assert!(matches!(store.append(&[replace]), Err(LogError::Misuse(_))));
    let gap = write(vec![entry(11, 1, "after nothing")], 9);
    assert!(matches!(store.append(&[gap]), Err(LogError::Misuse(_))));
    assert!(matches!(store.record_snapshot(&record, 9), Err(LogError::Misuse(_))));
    store.append(&[write(vec![entry(9, 1, "another")], 9)]).unwrap();
}
