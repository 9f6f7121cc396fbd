//! Which directories are refused, and how they are treated: on the real disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use redb::{Database, ReadableTable};
use tempfile::TempDir;

use super::*;
use crate::storage::record::Encoder;
use crate::storage::store::{Base, LOG, META, State, open_database, put_meta};

/// A directory with a log up to index 20 and a snapshot at 15, closed.
fn used_directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    let (mut store, _) = Store::open(directory.path(), NEW_CELL).unwrap();
    fill(&mut store, 20);
    let record = make_snapshot(store.snapshots(), point(15, 1)).unwrap();
    store.record_snapshot(&record, 10).unwrap();
    directory
}

fn refusal(directory: &Path) -> OpenError {
    Store::open(directory, OpenMode::Existing).map(drop).unwrap_err()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names = OsDisk::new(directory).list().unwrap();
    names.sort();
    names
}

/// Puts a record of our own into a log.
fn forge(directory: &Path, key: &str, body: &[u8]) {
    let file = OsDisk::new(directory).open("log.redb").unwrap();
    let database: Database = open_database(file).unwrap();
    let transaction = database.begin_write().unwrap();
    put_meta(&transaction, key, body).unwrap();
    transaction.commit().unwrap();
}

const SNAPSHOT: &str = "snapshot-000000000000000f";

#[test]
fn a_new_directory_is_private_and_opens_again_with_its_identity() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("data");
    let (mut store, recovered) = Store::open(&directory, NEW_CELL).unwrap();
    assert_eq!(recovered.log.base, point(1, 1));
    assert!(recovered.snapshot.is_none());
    fill(&mut store, 5);
    let record = make_snapshot(store.snapshots(), point(5, 1)).unwrap();
    store.record_snapshot(&record, 5).unwrap();
    drop(store);

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(names(&directory), ["LOCK", "log.redb", "snapshot-0000000000000005"]);
    for name in names(&directory) {
        assert_eq!(mode(&directory.join(&name)), 0o600, "{name}");
    }
    let other = OpenMode::NewCell(Identity { cell: 1, ..IDENTITY });
    let (store, recovered) = Store::open(&directory, other).unwrap();
    assert_eq!(store.identity(), IDENTITY, "what is there is not replaced");
    assert_eq!(read_chunks(recovered.snapshot.unwrap()), chunks(&point(5, 1)));
}

#[test]
fn a_second_daemon_on_the_directory_is_refused_and_told_by_whom() {
    let directory = TempDir::new().unwrap();
    let (store, _) = Store::open(directory.path(), NEW_CELL).unwrap();
    match refusal(directory.path()) {
        OpenError::Locked { pid, .. } => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other}"),
    }
    drop(store);
    Store::open(directory.path(), OpenMode::Existing).unwrap();
}

#[test]
fn a_missing_or_empty_directory_is_no_cell_unless_one_is_wanted() {
    let parent = TempDir::new().unwrap();
    assert!(matches!(refusal(&parent.path().join("misspelt")), OpenError::NoCell { .. }));
    assert!(matches!(refusal(parent.path()), OpenError::NoCell { .. }));
    assert_eq!(names(parent.path()), [""; 0], "nothing was made");
}

#[test]
fn data_that_was_marked_is_refused_until_the_mark_is_removed() {
    let directory = used_directory();
    assert_eq!(read_mark(directory.path()), None);
    let (store, _) = Store::open(directory.path(), OpenMode::Existing).unwrap();
    store.mark_diverged(&"first").unwrap();
    store.mark_diverged(&"second").unwrap();
    drop(store);
    for mode in [OpenMode::Existing, NEW_CELL] {
        match Store::open(directory.path(), mode).map(drop).unwrap_err() {
            OpenError::Diverged { file, why } => {
                assert!(file.ends_with("DIVERGED") && why == "first", "{why}");
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(read_mark(directory.path()).as_deref(), Some("first"));
    fs::remove_file(directory.path().join("DIVERGED")).unwrap();
    Store::open(directory.path(), OpenMode::Existing).unwrap();
}

#[test]
fn a_foreign_directory_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("thesis.txt"), "years of work").unwrap();
    match Store::open(directory.path(), NEW_CELL).map(drop).unwrap_err() {
        OpenError::Foreign { file } => assert!(file.ends_with("thesis.txt")),
        other => panic!("{other}"),
    }
    assert_eq!(names(directory.path()), ["thesis.txt"]);
}

#[test]
fn a_file_that_is_no_log_is_refused_and_left_alone() {
    for content in [&b""[..], b"not a database", &[0; 100_000]] {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("log.redb"), content).unwrap();
        match Store::open(directory.path(), NEW_CELL).map(drop).unwrap_err() {
            OpenError::Corrupt { file, .. } => assert!(file.ends_with("log.redb")),
            other => panic!("{other}"),
        }
        assert_eq!(fs::read(directory.path().join("log.redb")).unwrap(), content);
    }
}

#[test]
fn a_log_that_is_gone_is_not_begun_anew() {
    let directory = used_directory();
    fs::remove_file(directory.path().join("log.redb")).unwrap();
    match Store::open(directory.path(), NEW_CELL).map(drop).unwrap_err() {
        OpenError::LogMissing { file } => assert!(file.ends_with("log.redb")),
        other => panic!("{other}"),
    }
}

#[test]
fn a_snapshot_that_is_gone_is_named() {
    let directory = used_directory();
    fs::remove_file(directory.path().join(SNAPSHOT)).unwrap();
    match refusal(directory.path()) {
        OpenError::SnapshotMissing { file } => assert!(file.ends_with(SNAPSHOT)),
        other => panic!("{other}"),
    }
}

#[test]
fn a_snapshot_of_another_time_is_not_loaded() {
    let directory = used_directory();
    let elsewhere = TempDir::new().unwrap();
    let (mut store, _) = Store::open(elsewhere.path(), NEW_CELL).unwrap();
    fill(&mut store, 20);
    let mut writer = store.snapshots().create(point(15, 1)).unwrap();
    writer.write_chunk(b"other content").unwrap();
    writer.finish().unwrap();
    fs::copy(elsewhere.path().join(SNAPSHOT), directory.path().join(SNAPSHOT)).unwrap();
    assert!(matches!(refusal(directory.path()), OpenError::SnapshotForeign { .. }));
}

#[test]
fn an_old_log_beside_a_newer_snapshot_is_refused() {
    let directory = used_directory();
    let old = fs::read(directory.path().join("log.redb")).unwrap();
    let (mut store, _) = Store::open(directory.path(), OpenMode::Existing).unwrap();
    store.append(&[write((21..=30).map(|index| entry(index, 1, "more")).collect(), 30)]).unwrap();
    make_snapshot(store.snapshots(), point(30, 1)).unwrap();
    drop(store);
    fs::write(directory.path().join("log.redb"), old).unwrap();
    match refusal(directory.path()) {
        OpenError::LogOutdated { file, last } => {
            assert!(file.ends_with("snapshot-000000000000001e"));
            assert_eq!(last, 20);
        }
        other => panic!("{other}"),
    }
    assert!(directory.path().join("snapshot-000000000000001e").exists());
}

#[test]
fn a_newer_format_is_refused() {
    let directory = used_directory();
    let mut identity = Encoder::default();
    identity.u32(4).u64(7).u128(1).u64(0xfeed);
    forge(directory.path(), "identity", &identity.0);
    assert!(matches!(refusal(directory.path()), OpenError::NewerFormat { found: 4, known: 3, .. }));

    let directory = used_directory();
    let mut snapshot = fs::read(directory.path().join(SNAPSHOT)).unwrap();
    snapshot[8] = 4;
    fs::write(directory.path().join(SNAPSHOT), snapshot).unwrap();
    assert!(matches!(refusal(directory.path()), OpenError::NewerFormat { found: 4, known: 3, .. }));
}

#[test]
fn an_older_format_is_refused() {
    let directory = used_directory();
    let mut identity = Encoder::default();
    identity.u32(2).u64(7).u128(1);
    forge(directory.path(), "identity", &identity.0);
    assert!(matches!(refusal(directory.path()), OpenError::OlderFormat { found: 2, known: 3, .. }));
}

#[test]
fn entries_missing_behind_the_snapshot_are_a_gap() {
    let directory = used_directory();
    forge(directory.path(), "base", &Base { point: point(8, 1), file: None }.encode());
    assert!(matches!(refusal(directory.path()), OpenError::Gap { first: 11, snapshot: 8, .. }));
}

#[test]
fn a_log_that_lost_its_end_or_its_beginning_is_damaged() {
    let at = |index| LogPosition { index, term: 1 };
    let hard_state = HardState { term: 1, vote: 7, commit: 20 };
    for (start, last) in [(10, 21), (9, 20)] {
        let directory = used_directory();
        let state = State { hard_state, start: at(start), last: at(last) };
        forge(directory.path(), "state", &state.encode());
        assert!(matches!(refusal(directory.path()), OpenError::Corrupt { .. }), "{start} to {last}");
    }
}

#[test]
fn a_flipped_bit_in_a_record_is_found_even_if_the_database_does_not_see_it() {
    let flip = |stored: &[u8], bit: usize| {
        let mut stored = stored.to_vec();
        let length = stored.len();
        stored[bit / 8 % length] ^= 1 << (bit % 8);
        stored
    };
    for (bit, record) in ["identity", "state", "base", "entry"].iter().cycle().take(60).enumerate() {
        let directory = used_directory();
        let database = open_database(OsDisk::new(directory.path()).open("log.redb").unwrap()).unwrap();
        let transaction = database.begin_write().unwrap();
        if *record == "entry" {
            let mut log = transaction.open_table(LOG).unwrap();
            let flipped = flip(log.get(13).unwrap().unwrap().value(), bit);
            log.insert(13, flipped.as_slice()).unwrap();
        } else {
            let mut meta = transaction.open_table(META).unwrap();
            let flipped = flip(meta.get(*record).unwrap().unwrap().value(), bit);
            meta.insert(*record, flipped.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
        drop(database);
        match refusal(directory.path()) {
            OpenError::Corrupt { what, .. } => assert!(what.contains("checksum"), "{what}"),
            other => panic!("{record}, bit {bit}: {other}"),
        }
    }
}

#[test]
fn leftovers_are_removed_and_files_that_are_not_ours_stay() {
    let directory = used_directory();
    let leftovers = ["log.redb.tmp", "snapshot-0000000000000009", "snapshot-0000000000000012.tmp"];
    let strangers = ["notes", "snapshot-9", "snapshot-000000000000000F", "snapshot-copy.tmp"];
    for name in leftovers.iter().chain(&strangers) {
        fs::write(directory.path().join(name), "x").unwrap();
    }
    Store::open(directory.path(), OpenMode::Existing).unwrap();
    let names = names(directory.path());
    for name in leftovers {
        assert!(!names.iter().any(|found| found == name), "{name}");
    }
    for name in strangers.iter().chain(&[SNAPSHOT, "log.redb"]) {
        assert!(names.iter().any(|found| found == name), "{name}");
    }
}

#[test]
fn a_refusal_names_the_file_and_the_remedy() {
    let directory = used_directory();
    fs::remove_file(directory.path().join(SNAPSHOT)).unwrap();
    let text = refusal(directory.path()).to_string();
    assert!(text.contains(SNAPSHOT) && text.contains("restore"), "{text}");
}

#[test]
fn a_snapshot_is_not_overwritten_and_an_abandoned_one_leaves_nothing() {
    let directory = used_directory();
    let (store, _) = Store::open(directory.path(), OpenMode::Existing).unwrap();
    let exists = store.snapshots().create(point(15, 1)).map(drop);
    assert!(matches!(exists, Err(SnapshotError::Exists { .. })));
    let mut writer = store.snapshots().create(point(18, 1)).unwrap();
    assert!(matches!(writer.write_chunk(b""), Err(SnapshotError::ChunkSize { size: 0 })));
    let large = vec![0; snapshot::MAX_CHUNK + 1];
    assert!(matches!(writer.write_chunk(&large), Err(SnapshotError::ChunkSize { .. })));
    writer.write_chunk(b"begun").unwrap();
    drop(writer);
    assert_eq!(names(directory.path()), ["LOCK", "log.redb", SNAPSHOT]);
}
