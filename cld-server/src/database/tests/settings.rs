//! Users and limits as replicated state.

use super::*;
use crate::versions::FIRST;
use cldc_core::wire::{Key, Packet, Part, Seal};

pub(super) fn add(user: &str, secret: &[u8]) -> Setting {
    Setting::AddUser { user: name(user), secret: Secret::new(secret).unwrap(), replace: false }
}

fn name(user: &str) -> UserName {
    UserName::new(user.as_bytes()).unwrap()
}

fn set(cell: &mut Cell, setting: Setting) -> Result<(), SettingError> {
    let before = cell.db.digest();
    let result = cell.apply(1, Action::Set(setting)).set.unwrap();
    assert!(result.is_ok() || cell.db.digest() == before, "what is refused changes nothing");
    result
}

/// Whether a packet that this user has signed with this secret is let in.
fn is_let_in(db: &Database, user: &str, secret: &[u8]) -> bool {
    let (mut buffer, key) = ([0; 1500], Key::new(secret).unwrap());
    let seal = Seal { sid: 1, user: user.as_bytes(), key: &key };
    let len = seal.emit(Part::Last, 1, b"piece", &mut buffer).unwrap();
    let packet = Packet::parse(&buffer[..len]).unwrap();
    db.users().key_of(packet.user).is_some_and(|key| packet.verify(&key).is_ok())
}

#[test]
fn those_who_are_listed_are_let_in_with_their_secrets() {
    let mut cell = Cell::new();
    assert!(!is_let_in(&cell.db, "web", b"one") && !is_let_in(&cell.db, "web", b"web"));
    assert_eq!(set(&mut cell, add("web", b"one")), Ok(()));
    assert!(is_let_in(&cell.db, "web", b"one"));
    assert!(!is_let_in(&cell.db, "web", b"two") && !is_let_in(&cell.db, "other", b"one"));
    assert_eq!(set(&mut cell, Setting::RemoveUser { user: name("web") }), Ok(()));
    assert!(!is_let_in(&cell.db, "web", b"one"));
    assert_eq!(set(&mut cell, Setting::RemoveUser { user: name("web") }), Err(SettingError::NoSuchUser));
}

#[test]
fn a_user_who_is_there_keeps_the_secret_unless_it_is_to_be_replaced() {
    let mut cell = Cell::new();
    set(&mut cell, add("web", b"one")).unwrap();
    assert_eq!(set(&mut cell, add("web", b"one")), Ok(()), "the same again, as after a lost answer");
    assert_eq!(set(&mut cell, add("web", b"two")), Err(SettingError::UserExists));
    assert!(is_let_in(&cell.db, "web", b"one"));
    let secret = Secret::new(b"two").unwrap();
    set(&mut cell, Setting::AddUser { user: name("web"), secret, replace: true }).unwrap();
    assert!(is_let_in(&cell.db, "web", b"two") && !is_let_in(&cell.db, "web", b"one"));
}

#[test]
fn with_user_as_key_a_listed_user_still_needs_the_secret() {
    let mut cell = Cell::new();
    set(&mut cell, add("web", b"one")).unwrap();
    set(&mut cell, Setting::UserAsKey(true)).unwrap();
    assert!(is_let_in(&cell.db, "anybody", b"anybody") && !is_let_in(&cell.db, "anybody", b"other"));
    assert!(is_let_in(&cell.db, "web", b"one") && !is_let_in(&cell.db, "web", b"web"));
    set(&mut cell, Setting::UserAsKey(false)).unwrap();
    assert!(!is_let_in(&cell.db, "anybody", b"anybody"));
}

#[test]
fn there_are_only_so_many_users() {
    let mut db = Database::new();
    let mut set = |setting| db.apply(&Command { at: 1, epoch: 1, action: Action::Set(setting) }).set.unwrap();
    for number in 0..USERS_MAX {
        set(add(&number.to_string(), b"x")).unwrap();
    }
    assert_eq!(set(add("one more", b"x")), Err(SettingError::TooManyUsers));
    assert_eq!(set(add("7", b"y")), Err(SettingError::UserExists));
    set(Setting::RemoveUser { user: name("7") }).unwrap();
    assert_eq!(set(add("one more", b"x")), Ok(()));
    assert!(
        db.users().names_after(None).map(ToString::to_string).is_sorted(),
        "in the order of their letters"
    );
    let pieces: Vec<_> = Snapshot::encode(&db).collect();
    assert!(pieces.iter().all(|piece| piece.len() < (64 << 10) + 256), "users are written in pieces");
    let copy = Snapshot::decode(pieces.concat().as_slice(), SUPPORTED).unwrap();
    assert!(copy.users().names_after(None).eq(db.users().names_after(None)));
}

#[test]
fn one_limit_is_set_and_the_others_stay() {
    let mut cell = Cell::new();
    for limit in LimitKind::SETTABLE {
        let before = *cell.db.limits();
        set(&mut cell, Setting::Limit { limit, value: 77 }).unwrap();
        assert_eq!(*cell.db.limits(), before.with(limit, 77));
        assert_eq!(cell.db.limits().get(limit), Some(77), "{limit:?}");
    }
    for (value, timeout) in [(0, 2), (1000, 600)] {
        set(&mut cell, Setting::Limit { limit: LimitKind::SessionTimeout, value }).unwrap();
        assert_eq!(cell.db.limits().session_timeout, timeout, "it stays within what a session needs");
    }
    let before = *cell.db.limits();
    set(&mut cell, Setting::Limit { limit: LimitKind::Replies, value: 1 }).unwrap();
    assert_eq!(*cell.db.limits(), before);
}

#[test]
fn settings_and_a_snapshot_of_them_read_back_as_they_were() {
    let mut settings =
        vec![add("web", &[0xff; 127]), Setting::RemoveUser { user: name("x") }, Setting::Adopted];
    settings.extend([true, false].map(Setting::UserAsKey));
    settings.extend(LimitKind::SETTABLE.map(|limit| Setting::Limit { limit, value: u64::MAX }));
    let mut batch = Batch::new(FIRST);
    let mut db = Database::new();
    for setting in &settings {
        let command = Command { at: 1, epoch: 1, action: Action::Set(setting.clone()) };
        assert!(batch.push(&command));
        db.apply(&command);
    }
    let read = Batch::decode(&batch.into_entry(), SUPPORTED).unwrap();
    assert!(
        read.iter().map(|command| &command.action).eq(settings
            .iter()
            .cloned()
            .map(Action::Set)
            .collect::<Vec<_>>()
            .iter())
    );
    let copy = Snapshot::decode(snapshot(&db).as_slice(), SUPPORTED).unwrap();
    assert_eq!(copy.digest(), db.digest());
    assert!(copy.has_adopted() && !Database::new().has_adopted());
    assert_eq!(copy.limits(), db.limits());
    assert!(is_let_in(&copy, "web", &[0xff; 127]) && !is_let_in(&copy, "x", b"x"));
}

#[test]
fn users_that_are_out_of_order_or_missing_are_refused() {
    let mut cell = Cell::new();
    set(&mut cell, add("anna", b"AAAA")).unwrap();
    set(&mut cell, add("bert", b"BBBB")).unwrap();
    let bytes = snapshot(&cell.db);
    let change = |from: &[u8], to: &[u8]| {
        let at = (0..bytes.len()).find(|&at| bytes[at..].starts_with(from)).unwrap();
        let mut changed = bytes.clone();
        changed.splice(at..at + from.len(), to.iter().copied());
        Snapshot::decode(changed.as_slice(), SUPPORTED).unwrap_err().to_string()
    };
    assert!(change(b"anna", b"cleo").contains("out of order"));
    assert!(change(b"bert", b"anna").contains("out of order"));
    // A record is its length, its kind, and two fields behind their lengths.
    let record = |user: &[u8], secret: &[u8]| {
        [&[0, 0, 0, 17, 4, 0, 0, 0, 4][..], user, &[0, 0, 0, 4], secret].concat()
    };
    assert!(change(&record(b"bert", b"BBBB"), b"").contains("not as many users as it says"));
}
