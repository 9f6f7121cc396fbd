//! Limits: what is refused, with which code, and that it can be counted. (30)

use super::*;

fn limited(limits: Limits) -> Cell {
    let mut cell = Cell::new();
    assert_eq!(cell.apply(1, Action::SetLimits(limits)), Effects::default());
    cell
}

fn refused(effects: &Effects, code: Code, limit: LimitKind) {
    assert_eq!((effects.reply, effects.refused), (Some(Reply::Code(code)), Some(limit)));
}

#[test]
fn sessions_are_limited_in_all_and_for_each_user() {
    let mut cell = limited(Limits { sessions: 5, sessions_per_user: 4, ..Limits::default() });
    assert_eq!(cell.session(4, "alice").reply, Some(Reply::OK));
    refused(&cell.session(5, "alice"), Code::Limit, LimitKind::SessionsPerUser);
    assert_eq!(cell.session(5, "bob").reply, Some(Reply::OK));
    refused(&cell.session(6, "carol"), Code::Limit, LimitKind::Sessions);
    assert_eq!(cell.session(5, "bob").reply, Some(Reply::OK), "a repeated request is no new session");
    cell.expire(1);
    assert_eq!(cell.session(6, "carol").reply, Some(Reply::OK));
}

#[test]
fn handles_are_limited_for_each_session_and_user() {
    let mut cell = limited(Limits { handles_per_session: 2, handles_per_user: 3, ..Limits::default() });
    cell.open(1, "/a", CREATE, NONE);
    cell.open(1, "/a", READ, NONE);
    refused(&cell.write(1, open("/a", READ, NONE)), Code::Limit, LimitKind::HandlesPerSession);
    refused(&cell.write(1, open("/b", CREATE, NONE)), Code::Limit, LimitKind::HandlesPerSession);
    assert!(cell.db.stat(b"/b").is_none(), "a file that cannot be opened is not created");
    cell.open(2, "/a", READ, NONE);
    refused(&cell.write(2, open("/a", READ, NONE)), Code::Limit, LimitKind::HandlesPerUser);
    cell.write(1, Write::Close { fh: 2 });
    assert_eq!(cell.code(2, open("/a", READ, NONE)), Code::Ok);
}

#[test]
fn handles_of_deleted_files_count_until_they_are_gone() {
    let mut cell = limited(Limits { handles_per_session: 1, ..Limits::default() });
    cell.open(1, "/a", CREATE, DELETED);
    cell.write(1, del("/a"));
    refused(&cell.write(1, open("/a", CREATE, NONE)), Code::Limit, LimitKind::HandlesPerSession);
    cell.settle(1, 2, 1);
    assert_eq!(cell.code(1, open("/a", CREATE, NONE)), Code::Ok);
}

#[test]
fn payloads_are_limited() {
    let mut cell = limited(Limits { payload: 4, ..Limits::default() });
    let fh = cell.open(1, "/a", CREATE | READ | WRITE, NONE);
    assert_eq!(cell.code(1, put(fh, b"four")), Code::Ok);
    refused(&cell.write(1, put(fh, b"five!")), Code::TooLarge, LimitKind::Payload);
    assert_eq!((cell.get(1, fh), cell.version("/a")), (Ok(b"four".to_vec()), 2));
}

#[test]
fn paths_of_new_files_are_limited_and_old_ones_stay_usable() {
    let mut cell = Cell::new();
    cell.open(1, "/long", CREATE, NONE);
    cell.apply(1, Action::SetLimits(Limits { path_length: 4, ..Limits::default() }));
    cell.open(1, "/abc", CREATE, NONE);
    refused(&cell.write(1, open("/abcd", CREATE, NONE)), Code::NameInval, LimitKind::PathLength);
    assert_eq!(cell.code(1, open("/long", CREATE, NONE)), Code::Ok);
    assert_eq!(cell.code(1, del("/long")), Code::Ok);
}

#[test]
fn all_data_together_is_limited_and_shrinking_is_always_allowed() {
    let root = 1 + INODE_COST;
    let mut cell = limited(Limits { total_data: root + 2 + INODE_COST + 10, ..Limits::default() });
    let fh = cell.open(1, "/a", CREATE | WRITE, NONE);
    refused(&cell.write(1, open("/b", CREATE, NONE)), Code::Limit, LimitKind::TotalData);
    assert_eq!(cell.code(1, put(fh, &[0; 10])), Code::Ok);
    refused(&cell.write(1, put(fh, &[0; 11])), Code::Limit, LimitKind::TotalData);
    assert_eq!(cell.db.totals().data, cell.db.limits().total_data);
    cell.apply(1, Action::SetLimits(Limits { total_data: 0, ..Limits::default() }));
    assert_eq!(cell.code(1, put(fh, &[0; 9])), Code::Ok);
    assert_eq!(cell.code(1, del("/a")), Code::Ok);
    assert_eq!(cell.db.totals().data, root);
}

#[test]
fn limits_cannot_be_set_above_what_the_protocol_carries() {
    let most = u64::MAX;
    let limits = Limits { handles_per_session: most, path_length: most, payload: most, ..Limits::default() };
    let mut cell = limited(limits);
    let set = cell.db.limits();
    assert_eq!((set.handles_per_session, set.path_length, set.payload), (HANDLES_MAX, 256, 131_072));
    let fh = cell.open(1, "/a", CREATE | WRITE, NONE);
    refused(&cell.write(1, put(fh, &[0; 131_073])), Code::TooLarge, LimitKind::Payload);
}

#[test]
fn an_idle_session_takes_less_than_a_kibibyte() {
    // The session, its handle and its last reply, and an entry in each index. Nodes of the maps are at least half
    // full. (Measured, with a file and a held lock of its own: about 890 bytes.)
    let session = size_of::<Session>() + size_of::<Handle>() + size_of::<(u64, Reply)>();
    let indexes = 2 * (size_of::<(u64, usize)>() + size_of::<(u64, u64, u64)>());
    assert!(session + indexes < 400, "{session} + {indexes}");
    assert!(size_of::<Handle>() <= 80, "{} bytes, and 24 for each event pending", size_of::<Handle>());
}
