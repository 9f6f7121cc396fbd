//! Sessions and epochs.

use super::*;

// 13
#[test]
fn a_repeated_open_session_changes_nothing_and_any_other_is_refused() {
    let mut cell = Cell::new();
    cell.open(1, "/a", CREATE, NONE);
    let before = cell.db.digest();
    assert_eq!(cell.apply(1, open_session(1, "alice", 100)).reply, Some(Reply::OK));
    let other_user = open_session(1, "bob", 100);
    let other_number = open_session(1, "alice", 101);
    let user = UserName::new(b"alice").unwrap();
    let other_peer =
        Action::OpenSession { sid: 1, user, peer: peer(9001), xid: 100, order: 100, terms: None };
    let terms = Some(Terms { lease_ms: 30_000, grace_ms: 45_000 });
    let other_kind = open_extended(1, "alice", 100, terms);
    let other_xid = Action::OpenSession { sid: 1, user, peer: peer(9000), xid: 101, order: 100, terms: None };
    for other in [other_user, other_number, other_peer, other_xid, other_kind] {
        assert_eq!(cell.apply(1, other).reply, Some(Reply::Code(Code::SessExists)));
    }
    assert_eq!(cell.db.digest(), before);
}

#[test]
fn the_terms_of_a_session_are_those_of_its_first_request_on_every_replica() {
    let mut cell = Cell::new();
    let terms = Terms { lease_ms: 2_000, grace_ms: 600_000 };
    let other = Terms { lease_ms: 30_000, grace_ms: 45_000 };
    assert_eq!(cell.apply(1, open_extended(7, "alice", 100, Some(terms))).reply, Some(Reply::OK));
    assert_eq!(cell.apply(1, open_extended(7, "alice", 100, Some(other))).reply, Some(Reply::OK));
    let copy = Snapshot::decode(snapshot(&cell.db).as_slice(), SUPPORTED).unwrap();
    for db in [&cell.db, &copy] {
        assert_eq!(db.session(7).unwrap().terms, Some(terms));
        assert_eq!(db.session(1).unwrap().terms, None, "it is a plain one");
    }
    assert_eq!(cell.apply(1, open_session(7, "alice", 100)).reply, Some(Reply::Code(Code::SessExists)));
}

#[test]
fn a_session_that_never_was_or_has_ended_is_unknown() {
    let mut cell = Cell::new();
    assert_eq!(cell.code(77, del("/a")), Code::SessInval);
    let effects = cell.write(1, Write::EndSession);
    assert_eq!((effects.reply, effects.ended), (Some(Reply::OK), Some(1)));
    assert_eq!(cell.code(1, del("/a")), Code::SessInval);
    assert_eq!(cell.expire(1), Effects::default());
}

#[test]
fn a_session_ends_with_all_its_handles() {
    let mut cell = Cell::new();
    let fh = cell.open(1, "/a", CREATE | WRITE, UPDATED);
    let other = cell.open(2, "/a", WRITE, NONE);
    cell.expire(1);
    assert_eq!((cell.db.totals().sessions, cell.db.totals().handles), (2, 1));
    assert!(told(&cell.write(2, put(other, b"x"))).is_empty());
    cell.session(1, "alice");
    assert_eq!(cell.get(1, fh), Err(Code::FhInval));
}

#[test]
fn an_expiry_of_an_older_epoch_is_ignored() {
    let mut cell = Cell::new();
    cell.epoch(5);
    assert_eq!(cell.apply(4, Action::ExpireSession { sid: 1 }), Effects::default());
    assert!(cell.db.session(1).is_some());
    assert_eq!(cell.apply(5, Action::ExpireSession { sid: 1 }).ended, Some(1));
}

#[test]
fn the_epoch_never_falls() {
    let mut cell = Cell::new();
    cell.epoch(5);
    cell.epoch(4);
    assert_eq!(cell.db.epoch(), 5);
}

// 31
#[test]
fn many_sessions_are_kept_apart() {
    let mut cell = Cell { db: Database::new(), at: 0, numbers: BTreeMap::new() };
    for sid in (0..2000).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        assert_eq!(cell.db.apply(&command(open_session(sid, "alice", 7))).reply, Some(Reply::OK));
    }
    assert_eq!(cell.db.sessions().count(), 2000);
    for sid in (0..2000).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let write = open("/a", CREATE, NONE);
        let action = Action::Request { sid, xid: 1, order: 8, settled: Settled::default(), write };
        assert_eq!(cell.db.apply(&command(action)).reply, Some(Reply::Opened(2)));
        assert_eq!(cell.db.session(sid).unwrap().handles.len(), 1);
    }
    assert_in_order(&cell.db);
}

fn command(action: Action) -> Command {
    Command { at: 0, epoch: 0, action }
}

#[test]
fn user_names_have_1_to_31_bytes() {
    assert_eq!(UserName::new(b""), None);
    assert_eq!(UserName::new(&[b'x'; 32]), None);
    assert_eq!(UserName::new(&[b'x'; 31]).unwrap().as_bytes(), [b'x'; 31]);
    assert_eq!(UserName::new(b"a\n").unwrap().to_string(), "a\\n");
}

#[test]
fn the_state_can_be_handed_to_another_thread() {
    fn send<T: Send + Sync>() {}
    send::<Database>();
    send::<Snapshot>();
}
