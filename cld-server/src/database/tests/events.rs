//! Events: who is told what, and what is remembered until it is acknowledged.

use super::*;

fn unsettled(cell: &Cell, sid: u64, fh: u64) -> Option<EventMask> {
    Some(cell.db.session(sid)?.handle(fh)?.unsettled())
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
