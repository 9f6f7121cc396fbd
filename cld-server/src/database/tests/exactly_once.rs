//! Every request takes effect once, however often it is in the log.

use super::*;

fn nothing() -> Settled {
    Settled::default()
}

// 11
#[test]
fn a_repeated_put_raises_the_version_once_and_gives_the_recorded_reply() {
    let mut cell = Cell::new();
    let fh = cell.open(1, "/a", CREATE | READ | WRITE, UPDATED);
    let first = cell.request(1, 777, 200, nothing(), put(fh, b"x"));
    let again = cell.request(1, 777, 200, nothing(), put(fh, b"x"));
    assert_eq!((first.reply, again.reply), (Some(Reply::OK), Some(Reply::OK)));
    assert!(again.events.is_empty());
    assert_eq!(cell.version("/a"), 2);
}

// 11
#[test]
fn a_repeated_open_returns_the_same_handle() {
    let mut cell = Cell::new();
    let first = cell.request(1, 777, 200, nothing(), open("/a", CREATE | EXCL, NONE));
    let again = cell.request(1, 777, 200, nothing(), open("/a", CREATE | EXCL, NONE));
    assert_eq!(first.reply, Some(Reply::Opened(2)));
    assert_eq!(again.reply, Some(Reply::Opened(2)));
    assert_eq!(cell.db.session(1).unwrap().handles.len(), 1);
}

#[test]
fn a_refusal_is_recorded_too() {
    let mut cell = Cell::new();
    let refused = cell.request(1, 777, 200, nothing(), del("/a"));
    cell.open(2, "/a", CREATE, NONE);
    let again = cell.request(1, 777, 200, nothing(), del("/a"));
    assert_eq!(
        (refused.reply, again.reply),
        (Some(Reply::Code(Code::NameInval)), Some(Reply::Code(Code::NameInval)))
    );
    assert!(cell.db.stat(b"/a").is_some());
}

#[test]
fn an_acknowledged_reply_is_forgotten_but_its_request_is_not_executed_again() {
    let mut cell = Cell::new();
    let fh = cell.open(1, "/a", CREATE | WRITE, NONE);
    cell.request(1, 777, 200, nothing(), put(fh, b"x"));
    let settled = Settled { replies: vec![777], events: vec![] };
    cell.request(1, 778, 201, settled, put(fh, b"y"));
    let recorded: Vec<_> = cell.db.session(1).unwrap().replies.iter().map(|(xid, _)| *xid).collect();
    assert!(!recorded.contains(&777) && recorded.contains(&778));
    let again = cell.request(1, 777, 200, nothing(), put(fh, b"x"));
    assert_eq!((again, cell.version("/a")), (Effects::default(), 3));
}

#[test]
fn the_order_of_requests_may_wrap() {
    let mut cell = Cell::new();
    cell.apply(1, open_session(9, "alice", u64::MAX - 1));
    for (number, fh) in [(u64::MAX, 2), (0, 3), (1, 4)] {
        let effects = cell.request(9, number, number, nothing(), open("/a", CREATE, NONE));
        assert_eq!(effects.reply, Some(Reply::Opened(fh)));
    }
    assert_eq!(cell.db.session(9).unwrap().last_order, 1);
}

#[test]
fn what_a_client_acknowledged_is_forgotten_before_its_request_needs_room() {
    let mut cell = Cell::new();
    for n in 0..REPLIES_MAX as u64 {
        cell.request(1, n, 200 + n, nothing(), del("/no"));
    }
    let settled = Settled { replies: vec![0], events: vec![] };
    let effects = cell.request(1, 500, 500, settled, open("/a", CREATE, NONE));
    assert_eq!(effects.reply, Some(Reply::Opened(2)));
    assert_eq!(cell.db.session(1).unwrap().replies.len(), REPLIES_MAX);
}

#[test]
fn without_room_for_its_reply_a_request_is_neither_executed_nor_recorded() {
    let mut cell = Cell::new();
    for n in 0..REPLIES_MAX as u64 {
        cell.request(1, n, 200 + n, nothing(), del("/no"));
    }
    let before = cell.db.digest();
    let effects = cell.request(1, 500, 500, nothing(), open("/a", CREATE, NONE));
    assert_eq!((effects.reply, effects.refused), (Some(Reply::Code(Code::Limit)), Some(LimitKind::Replies)));
    assert_eq!(cell.db.digest(), before);
    let repeated = cell.request(1, 0, 200, nothing(), del("/no"));
    assert_eq!(repeated.reply, Some(Reply::Code(Code::NameInval)), "what is recorded is still answered");
    let settled = Settled { replies: (0..REPLIES_MAX as u64).collect(), events: vec![] };
    let effects = cell.request(1, 500, 500, settled, open("/a", CREATE, NONE));
    assert_eq!(effects.reply, Some(Reply::Opened(2)), "and the same request succeeds later");
}

#[test]
fn the_end_of_a_session_needs_no_room() {
    let mut cell = Cell::new();
    for n in 0..REPLIES_MAX as u64 {
        cell.request(1, n, 200 + n, nothing(), del("/no"));
    }
    let effects = cell.request(1, 500, 500, nothing(), Write::EndSession);
    assert_eq!((effects.reply, effects.ended), (Some(Reply::OK), Some(1)));
}

#[test]
fn the_same_request_id_in_two_sessions_is_two_requests() {
    let mut cell = Cell::new();
    cell.request(1, 777, 200, nothing(), open("/a", CREATE, NONE));
    let effects = cell.request(2, 777, 200, nothing(), del("/a"));
    assert_eq!(effects.reply, Some(Reply::OK));
}
