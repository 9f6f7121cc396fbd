//! Events: who is told what, and what is remembered until it is acknowledged.

use super::*;

fn unsettled(cell: &Cell, sid: u64, fh: u64) -> Option<EventMask> {
    Some(cell.db.session(sid)?.handle(fh)?.unsettled())
}

/// The events that wait for the acknowledgement of session 2 on handle 2: what, at which version, and their number.
fn pending(cell: &Cell) -> Vec<(EventMask, u64, u64)> {
    let handle = cell.db.session(2).unwrap().handle(2).unwrap();
    let notices = handle.notices(2);
    notices
        .map(|notice| {
            assert_eq!((notice.sid, notice.fh), (2, 2));
            (notice.events, notice.version, notice.serial)
        })
        .collect()
}

/// A cell where session 2 is told of everything about /a, where session 1 holds the lock that it waits for.
fn watched() -> Cell {
    let mut cell = Cell::new();
    cell.open(1, "/a", CREATE | WRITE | LOCK, NONE);
    cell.open(2, "/a", LOCK, UPDATED | DELETED);
    cell.lock(1, 2);
    cell.lock(2, 2);
    cell
}

// 7
#[test]
fn only_handles_that_asked_are_told_of_updates_and_deletions() {
    let mut cell = Cell::new();
    let writer = cell.open(1, "/a", CREATE | WRITE, UPDATED);
    let watcher = cell.open(2, "/a", READ, UPDATED | DELETED);
    cell.open(3, "/a", READ, NONE);
    let effects = cell.write(1, put(writer, b"x"));
    assert_eq!(
        told(&effects),
        [(1, writer, UPDATED), (2, watcher, UPDATED)],
        "the writer is told of its own write"
    );
    assert!(effects.events.iter().all(|notice| notice.version == 2));
    let effects = cell.write(3, del("/a"));
    assert_eq!(told(&effects), [(2, watcher, DELETED)]);
}

#[test]
fn watchers_of_a_directory_are_told_of_children_created_and_deleted_but_not_written() {
    let mut cell = Cell::new();
    let dir = cell.open(2, "/", DIRECTORY, UPDATED);
    let effects = cell.write(1, open("/a", CREATE | WRITE, UPDATED));
    assert_eq!(told(&effects), [(2, dir, UPDATED)], "and who creates a file is not told that it did");
    assert!(told(&cell.write(1, open("/a", READ, NONE))).is_empty());
    assert_eq!(told(&cell.write(1, put(2, b"x"))), [(1, 2, UPDATED)]);
    let effects = cell.write(1, del("/a"));
    assert_eq!(told(&effects), [(2, dir, UPDATED)]);
}

#[test]
fn a_deletion_is_told_before_the_change_of_the_parent() {
    let mut cell = Cell::new();
    let dir = cell.open(1, "/", DIRECTORY, UPDATED);
    let file = cell.open(1, "/a", CREATE, DELETED);
    assert_eq!(told(&cell.write(1, del("/a"))), [(1, file, DELETED), (1, dir, UPDATED)]);
}

// 6
#[test]
fn a_refused_request_tells_nobody_anything() {
    let mut cell = Cell::new();
    cell.open(2, "/", DIRECTORY, UPDATED);
    cell.open(2, "/d", CREATE | DIRECTORY, DELETED | UPDATED);
    cell.open(2, "/d/a", CREATE, NONE);
    for refused in [del("/d"), open("/d/a/b", CREATE, NONE), open("/d", CREATE | EXCL, NONE), put(77, b"x")] {
        let digest = cell.db.clone().namespace;
        assert!(told(&cell.write(1, refused)).is_empty());
        assert_eq!(format!("{digest:?}"), format!("{:?}", cell.db.namespace));
    }
}

// 7
#[test]
fn an_event_is_remembered_until_it_is_acknowledged() {
    let mut cell = Cell::new();
    let fh = cell.open(1, "/a", CREATE | WRITE, UPDATED);
    assert_eq!(unsettled(&cell, 1, fh), Some(NONE));
    let effects = cell.write(1, put(fh, b"x"));
    assert_eq!(effects.events[0].serial, 1);
    assert_eq!(unsettled(&cell, 1, fh), Some(UPDATED));
    cell.settle(1, fh, 1);
    assert_eq!(unsettled(&cell, 1, fh), Some(NONE));
}

#[test]
fn an_acknowledgement_does_not_settle_a_later_event() {
    let mut cell = Cell::new();
    let fh = cell.open(1, "/a", CREATE | WRITE, UPDATED);
    cell.write(1, put(fh, b"x"));
    cell.write(1, put(fh, b"y"));
    for (serial, left) in [(1, UPDATED), (3, UPDATED), (2, NONE)] {
        cell.settle(1, fh, serial);
        assert_eq!(unsettled(&cell, 1, fh), Some(left));
    }
}

#[test]
fn a_granted_lock_is_announced_whatever_the_mask_and_remembered() {
    let mut cell = Cell::new();
    cell.open(1, "/l", CREATE | LOCK, NONE);
    cell.open(2, "/l", LOCK, NONE);
    cell.lock(1, 2);
    cell.lock(2, 2);
    cell.write(1, Write::Unlock { fh: 2 });
    assert_eq!(unsettled(&cell, 2, 2), Some(LOCKED));
    assert_eq!(unsettled(&cell, 1, 2), Some(NONE), "who gets the lock at once is told by the reply");
}

#[test]
fn a_lock_given_back_is_not_announced_again() {
    let mut cell = Cell::new();
    cell.open(1, "/l", CREATE | LOCK, NONE);
    cell.open(2, "/l", LOCK, NONE);
    cell.lock(1, 2);
    cell.lock(2, 2);
    cell.write(1, Write::Unlock { fh: 2 });
    cell.write(2, Write::Unlock { fh: 2 });
    assert_eq!(unsettled(&cell, 2, 2), Some(NONE));
}

#[test]
fn a_deleted_files_handle_stays_until_its_client_knows_or_closes_it() {
    let mut cell = Cell::new();
    for sid in 1..=3 {
        cell.open(sid, "/a", CREATE, DELETED);
    }
    cell.open(1, "/a", READ, UPDATED);
    let effects = cell.write(1, del("/a"));
    assert_eq!(told(&effects), [(1, 2, DELETED), (2, 2, DELETED), (3, 2, DELETED)]);
    assert_eq!(unsettled(&cell, 1, 3), None, "nothing is to be told on this handle");
    assert_eq!(unsettled(&cell, 1, 2), Some(DELETED));
    cell.settle(1, 2, 1);
    assert_eq!(cell.code(2, Write::Close { fh: 2 }), Code::FhInval);
    cell.expire(3);
    assert_eq!((unsettled(&cell, 1, 2), unsettled(&cell, 2, 2), unsettled(&cell, 3, 2)), (None, None, None));
    assert_eq!(cell.db.usage(&UserName::new(b"alice").unwrap()).handles, 0);
}

#[test]
fn a_client_that_may_not_know_of_its_grant_is_told_that_the_file_is_gone() {
    let mut cell = Cell::new();
    cell.open(1, "/l", CREATE | LOCK, NONE);
    cell.open(2, "/l", LOCK, NONE);
    cell.lock(1, 2);
    cell.lock(2, 2);
    cell.write(1, Write::Unlock { fh: 2 });
    let effects = cell.write(3, del("/l"));
    assert_eq!(told(&effects), [(2, 2, DELETED)]);
    assert_eq!(unsettled(&cell, 2, 2), Some(DELETED), "and not of the lock any more");
}

// 7
#[test]
fn each_pending_event_keeps_the_version_and_the_number_that_it_was_told_with() {
    let mut cell = watched();
    cell.write(1, put(2, b"x"));
    cell.write(1, Write::Unlock { fh: 2 });
    assert_eq!(pending(&cell), [(UPDATED, 2, 1), (LOCKED, 2, 2)]);
    let effects = cell.write(1, put(2, b"y"));
    assert_eq!(
        pending(&cell),
        [(LOCKED, 2, 2), (UPDATED, 3, 3)],
        "the last of a kind stands for those before it"
    );
    let last = cell.db.session(2).unwrap().handle(2).unwrap().notices(2).last();
    assert_eq!(effects.events.last().copied(), last, "it comes again as it was");
    let copy = Snapshot::decode(snapshot(&cell.db).as_slice(), SUPPORTED).unwrap();
    assert_eq!(copy.session(2), cell.db.session(2));
}

// 7
#[test]
fn an_acknowledgement_settles_the_events_before_it_and_none_after() {
    for (serial, left) in [
        (0, vec![(LOCKED, 2, 2), (UPDATED, 3, 3)]),
        (1, vec![(LOCKED, 2, 2), (UPDATED, 3, 3)]),
        (2, vec![(UPDATED, 3, 3)]),
        (3, vec![]),
        (4, vec![(LOCKED, 2, 2), (UPDATED, 3, 3)]),
    ] {
        let mut cell = watched();
        cell.write(1, put(2, b"x"));
        cell.write(1, Write::Unlock { fh: 2 });
        cell.write(1, put(2, b"y"));
        cell.settle(2, 2, serial);
        assert_eq!(pending(&cell), left, "{serial}");
    }
}

// 7
#[test]
fn numbers_of_events_are_never_used_again() {
    let mut cell = watched();
    cell.write(1, Write::Unlock { fh: 2 });
    cell.write(2, Write::Unlock { fh: 2 });
    assert_eq!(pending(&cell), []);
    cell.write(1, put(2, b"x"));
    assert_eq!(pending(&cell), [(UPDATED, 2, 2)], "though the event before it was taken back");
    cell.settle(2, 2, 2);
    cell.write(1, put(2, b"y"));
    assert_eq!(pending(&cell), [(UPDATED, 3, 3)]);
}

#[test]
fn a_lock_given_back_leaves_the_other_events_to_be_told() {
    let mut cell = watched();
    cell.write(1, put(2, b"x"));
    cell.write(1, Write::Unlock { fh: 2 });
    cell.write(1, put(2, b"y"));
    cell.write(2, Write::Unlock { fh: 2 });
    assert_eq!(pending(&cell), [(UPDATED, 3, 3)]);
}

#[test]
fn a_deletion_is_all_that_is_left_to_be_told_of_a_file() {
    let mut cell = watched();
    cell.write(1, put(2, b"x"));
    cell.write(1, Write::Unlock { fh: 2 });
    cell.write(3, del("/a"));
    assert_eq!(pending(&cell), [(DELETED, 2, 3)]);
    cell.settle(2, 2, 2);
    assert_eq!(pending(&cell), [(DELETED, 2, 3)], "to have the events before it is not to have it");
    cell.settle(2, 2, 3);
    assert_eq!(unsettled(&cell, 2, 2), None);
}

#[test]
fn an_event_of_a_granted_lock_is_told_when_its_sequencer_is_known() {
    let mut cell = watched();
    let effects = cell.write(1, Write::Unlock { fh: 2 });
    assert_eq!(told(&effects), [(2, 2, LOCKED)]);
    let sequencer = cell.db.sequencer(2, 2).unwrap();
    assert_eq!((sequencer.generation, cell.db.check_sequencer(&sequencer)), (2, Ok(())));
}

#[test]
fn a_handle_that_was_told_everything_keeps_no_memory_for_events() {
    let mut cell = watched();
    cell.write(1, put(2, b"x"));
    cell.settle(2, 2, 1);
    assert_eq!(cell.db.session(2).unwrap().handle(2).unwrap().pending.capacity(), 0);
}
