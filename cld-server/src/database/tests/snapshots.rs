//! Snapshots and log entries as bytes.

use super::*;
use crate::codec::{CodecError, Writer};
use crate::versions::{FIRST, VersionError, Versions};

/// A database with something of everything: directories, contents, all kinds of handles and claims, replies, events
/// that wait to be acknowledged, plain and extended sessions.
fn rich() -> Cell {
    let mut cell = Cell::new();
    cell.open(1, "/d", CREATE | DIRECTORY, UPDATED);
    let fh = cell.open(1, "/d/a", CREATE | READ | WRITE | LOCK, UPDATED | DELETED);
    cell.code(1, put(fh, b"contents"));
    for sid in 2..=3 {
        let fh = cell.open(sid, "/d/a", LOCK, NONE);
        cell.share(sid, fh);
    }
    cell.lock(1, fh);
    cell.open(2, "/gone", CREATE, DELETED);
    cell.write(3, del("/gone"));
    let terms = Some(Terms { lease_ms: 30_000, grace_ms: 45_000 });
    cell.apply(1, open_extended(4, "bob", 100, terms));
    cell.open(4, "/e", CREATE | WRITE | LOCK, UPDATED);
    let fh = cell.open(2, "/e", LOCK, NONE);
    cell.lock(2, fh);
    cell.share(4, 2);
    cell.code(4, put(2, b"x"));
    cell.write(2, Write::Unlock { fh });
    for setting in
        [add("alice", b"\0 any bytes"), add("bob", b"b"), Setting::UserAsKey(true), Setting::Adopted]
    {
        cell.apply(1, Action::Set(setting));
    }
    cell
}

#[test]
fn a_snapshot_reads_back_as_it_was() {
    let cell = rich();
    let copy = Snapshot::decode(snapshot(&cell.db).as_slice(), SUPPORTED).unwrap();
    assert_eq!(copy.digest(), cell.db.digest());
    assert_eq!(format!("{copy:?}"), format!("{:?}", cell.db));
}

#[test]
fn a_clone_does_not_change_with_the_original() {
    let mut cell = rich();
    let clone = cell.db.clone();
    let pieces = Snapshot::encode(&cell.db);
    let before = cell.db.digest();
    cell.write(1, put(3, b"other"));
    cell.expire(2);
    assert_eq!(clone.digest(), before);
    assert_eq!(pieces.flatten().collect::<Vec<_>>(), snapshot(&clone));
    assert_ne!(cell.db.digest(), before);
}

#[test]
fn pieces_are_bounded() {
    let mut cell = Cell::new();
    for n in 0..4 {
        let fh = cell.open(1, &format!("/{n}"), CREATE | WRITE, NONE);
        cell.code(1, put(fh, &vec![n; 131_072]));
    }
    let lengths: Vec<_> = Snapshot::encode(&cell.db).map(|piece| piece.len()).collect();
    assert!(lengths.len() >= 4 && lengths.iter().all(|&len| len < 65_536 + 132_096), "{lengths:?}");
}

#[test]
fn the_largest_session_fits_in_a_snapshot() {
    let mut db = Database::new();
    let limits = Limits { handles_per_session: HANDLES_MAX, ..Limits::default() };
    let mut number = 100;
    let mut apply = |action| db.apply(&Command { at: 0, epoch: 0, action });
    apply(Action::SetLimits(limits));
    apply(open_session(1, "alice", number));
    for n in 0..2 * HANDLES_MAX {
        number += 1;
        let replies = if n <= 2 * HANDLES_MAX - 64 { vec![number - 1] } else { vec![] };
        let write = match n % 2 {
            0 => open(&format!("/{n}"), CREATE | LOCK, UPDATED),
            _ => Write::Lock { fh: 2 + n / 2, flags: LockFlags::NONE, wait: true },
        };
        let settled = Settled { replies, events: vec![] };
        apply(Action::Request { sid: 1, xid: number, order: number, settled, write });
    }
    assert_eq!(db.totals().claims, HANDLES_MAX);
    assert_eq!(db.session(1).unwrap().replies.len(), 64);
    assert_eq!(Snapshot::decode(snapshot(&db).as_slice(), SUPPORTED).unwrap().digest(), db.digest());
}

#[test]
fn the_largest_session_fits_in_a_snapshot_with_all_its_events_pending() {
    let mut db = Database::new();
    let limits = Limits { handles_per_session: HANDLES_MAX, ..Limits::default() };
    let mut number = 100;
    let mut apply = |action| db.apply(&Command { at: 0, epoch: 0, action });
    let mut request = |apply: &mut dyn FnMut(Action) -> Effects, sid, write| {
        number += 1;
        let settled = Settled { replies: vec![number - 64], events: vec![] };
        apply(Action::Request { sid, xid: number, order: number, settled, write })
    };
    apply(Action::SetLimits(limits));
    let terms = Terms { lease_ms: 30_000, grace_ms: 45_000 };
    apply(open_extended(1, &"u".repeat(31), 36, Some(terms)));
    apply(open_session(2, "alice", 36));
    request(&mut apply, 2, open("/f", CREATE | WRITE | LOCK, NONE));
    request(&mut apply, 2, Write::Lock { fh: 2, flags: LockFlags::NONE, wait: true });
    for fh in 2..HANDLES_MAX + 2 {
        request(&mut apply, 1, open("/f", LOCK, UPDATED));
        request(&mut apply, 1, Write::Lock { fh, flags: LockFlags::SHARED, wait: true });
    }
    assert_eq!(request(&mut apply, 2, put(2, b"x")).events.len() as u64, HANDLES_MAX);
    assert_eq!(apply(Action::ExpireSession { sid: 2 }).events.len() as u64, HANDLES_MAX);
    assert!(db.session(1).unwrap().handles.iter().all(|handle| handle.pending.len() == 2));
    assert_eq!(Snapshot::decode(snapshot(&db).as_slice(), SUPPORTED).unwrap().digest(), db.digest());
}

#[test]
fn a_snapshot_that_is_cut_or_too_long_is_refused() {
    let bytes = snapshot(&rich().db);
    for len in 0..bytes.len() {
        assert!(Snapshot::decode(&bytes[..len], SUPPORTED).is_err(), "{len}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(
        Snapshot::decode(longer.as_slice(), SUPPORTED),
        Err(SnapshotError::Malformed(CodecError::Trailing(1)))
    ));
}

#[test]
fn another_version_is_named() {
    let mut bytes = snapshot(&rich().db);
    bytes[..4].copy_from_slice(&9u32.to_be_bytes());
    let can = Versions { lowest: 1, highest: 8 };
    let error = Snapshot::decode(bytes.as_slice(), can).unwrap_err();
    assert!(
        error.to_string().contains("of version 9 of the cell, and this server can apply 1 to 8"),
        "{error}"
    );
    // It is read, but that is not the state that was written.
    let read = Snapshot::decode(bytes.as_slice(), Versions { lowest: 9, highest: 9 });
    assert!(matches!(read, Err(SnapshotError::Inconsistent { kind: "end", .. })), "{read:?}");
    let error = Batch::decode(&[0, 0, 0, 9], can).unwrap_err();
    assert_eq!(error, CodecError::CellVersion(VersionError { what: "a log entry", found: 9, known: can }));
    assert_eq!(Batch::decode(&[0, 0, 0, 8], can), Ok(vec![]));
}

#[test]
fn a_huge_length_is_refused_before_anything_is_allocated() {
    let bytes = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
    assert!(matches!(
        Snapshot::decode(&bytes[..], SUPPORTED),
        Err(SnapshotError::Malformed(CodecError::TooLong { length: 0xffff_ffff, .. }))
    ));
}

/// Replaces the only place in the snapshot of `rich` that holds `from`.
fn forge(from: &[u8], to: &[u8]) -> Result<Database, SnapshotError> {
    let mut bytes = snapshot(&rich().db);
    let places: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    assert_eq!(places.len(), 1, "{}", from.escape_ascii());
    bytes[places[0]..places[0] + from.len()].copy_from_slice(to);
    Snapshot::decode(bytes.as_slice(), SUPPORTED)
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let problem = |result: Result<Database, SnapshotError>| match result {
        Err(SnapshotError::Inconsistent { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(problem(forge(b"\0\0\0\x02/d", b"\0\0\0\x02d/")), "its path is malformed");
    assert_eq!(problem(forge(b"\0\0\0\x04/d/a", b"\0\0\0\x04/e/a")), "its directory is missing");
    assert_eq!(problem(forge(b"\0\0\0\x02/d", b"\0\0\0\x02/\0")), "its path is malformed");
    let [lock, no_lock] = [b"\0\0\0\x17\0\0\0\x03", b"\0\0\0\x13\0\0\0\x03"];
    assert_eq!(problem(forge(lock, no_lock)), "its lock was never given out");
    // The claim of session 1's handle 3: kind 3 (exclusive), inode 52, ticket 3.
    let claim = |kind: u8, inode: u8, ticket: u8| {
        let number = |n: u8| [0, 0, 0, 0, 0, 0, 0, n];
        [&[kind][..], &number(inode), &number(ticket)].concat()
    };
    let original = claim(3, 52, 3);
    assert_eq!(problem(forge(&original, &claim(3, 51, 3))), "its lock was never given out");
    assert_eq!(problem(forge(&original, &claim(3, 52, 6))), "its lock was never given out");
    assert_eq!(problem(forge(&original, &claim(3, 99, 3))), "its lock was never given out");
    assert!(forge(&original, &claim(3, 52, 3)).is_ok());
    assert!(forge(&original, &claim(9, 52, 3)).is_err());
}

#[test]
fn a_snapshot_of_another_state_than_its_digest_says_is_refused() {
    let result = forge(b"contents", b"content$");
    assert!(matches!(result, Err(SnapshotError::Inconsistent { kind: "end", .. })), "{result:?}");
}

#[test]
fn a_snapshot_with_events_out_of_order_is_refused() {
    // The events of session 4's handle 2, each with its version and number, behind the number of the last one.
    let events = |last: u64, events: [(u32, u64, u64); 2]| {
        let mut out = Writer::new();
        out.u64(last);
        out.count(events.len());
        for (event, version, serial) in events {
            out.u32(event);
            out.u64(version);
            out.u64(serial);
        }
        out.into_vec()
    };
    let original = events(2, [(1, 2, 1), (4, 2, 2)]);
    assert!(forge(&original, &original).is_ok());
    for (last, other) in
        [(2, [(1, 2, 2), (4, 2, 1)]), (2, [(1, 2, 2), (4, 2, 2)]), (1, [(1, 2, 1), (4, 2, 2)])]
    {
        let forged = forge(&original, &events(last, other));
        assert!(
            matches!(
                &forged,
                Err(SnapshotError::Inconsistent { problem: "its events are out of order", .. })
            ),
            "{forged:?}"
        );
    }
    for other in [[(4, 2, 1), (4, 2, 2)], [(3, 2, 1), (4, 2, 2)], [(0, 2, 1), (4, 2, 2)]] {
        let forged = forge(&original, &events(2, other));
        assert!(matches!(&forged, Err(SnapshotError::Malformed(_))), "{forged:?}");
    }
}

#[test]
fn a_batch_takes_commands_until_the_entry_is_full() {
    let write = put(2, &[7; 131_072]);
    let action = Action::Request { sid: 1, xid: 1, order: 1, settled: Settled::default(), write };
    let command = Command { at: 1, epoch: 2, action };
    let mut batch = Batch::new(FIRST);
    while batch.push(&command) {}
    assert_eq!(batch.len(), 7);
    let small = Command { at: 1, epoch: 2, action: Action::BeginEpoch };
    assert!(batch.push(&small), "a smaller one still fits");
    let entry = batch.into_entry();
    assert!(entry.len() <= ENTRY_MAX);
    let commands = Batch::decode(&entry, SUPPORTED).unwrap();
    assert_eq!((commands.len(), commands.first(), commands.last()), (8, Some(&command), Some(&small)));
}

#[test]
fn an_entry_that_is_too_long_is_refused() {
    let entry = vec![1; ENTRY_MAX + 1];
    assert_eq!(
        Batch::decode(&entry, SUPPORTED),
        Err(CodecError::TooLong { length: ENTRY_MAX + 1, limit: ENTRY_MAX })
    );
}

#[test]
fn a_command_stands_in_no_entry_of_a_version_that_does_not_have_it() {
    let newer = Command { at: 1, epoch: 2, action: Action::CompareDigests };
    let since = newer.action.since();
    assert!(since > FIRST);
    let mut batch = Batch::new(since - 1);
    assert!(!batch.push(&newer) && batch.is_empty());
    let mut batch = Batch::new(since);
    assert!(batch.push(&newer));
    let mut entry = batch.into_entry();
    assert_eq!(Batch::decode(&entry, SUPPORTED), Ok(vec![newer]));
    entry[..4].copy_from_slice(&(since - 1).to_be_bytes());
    assert!(matches!(Batch::decode(&entry, SUPPORTED), Err(CodecError::Invalid { .. })));
}
