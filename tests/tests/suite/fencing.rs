//! Locks that a server further on can check (docs/protocol.md 7.6).

use cld_tests::raw::Request;
use cld_tests::raw::codes::{code, event, lock, mode, op};
use cld_tests::raw::extended::{Extended, HELLO, Hello, Sequencer};

use crate::servers::{Servers, connect, connect_briefly};

/// A holder of the lock of `/l`, and its handle and sequencer; and a session that guards `/f`, and its handle.
#[track_caller]
fn holder_and_guard(cld: &Servers) -> ((Extended, u64, Sequencer), (Extended, u64)) {
    let (mut holder, mut guard) = (connect_briefly(cld, "holder"), connect(cld, "guard"));
    let held = holder.create("/l");
    let sequencer = holder.lock(held, lock::EXCLUSIVE).unwrap();
    let file = guard.create("/f");
    ((holder, held, sequencer), (guard, file))
}

/// Nothing is done for this sequencer.
#[track_caller]
fn assert_refused(guard: &mut Extended, file: u64, sequencer: &Sequencer) {
    let before = guard.get(file);
    assert_eq!(guard.check_sequencer(sequencer), code::STALE, "{sequencer:?}");
    assert_eq!(guard.put_fenced(sequencer, file, b"stale"), code::STALE, "{sequencer:?}");
    assert_eq!(guard.del_fenced(sequencer, "/f"), code::STALE, "{sequencer:?}");
    assert_eq!(guard.get(file), before);
}

/// What the sequencer is for is done.
#[track_caller]
fn assert_stands(guard: &mut Extended, file: u64, sequencer: &Sequencer) {
    let before = guard.get(file).version;
    assert_eq!(guard.check_sequencer(sequencer), code::OK, "{sequencer:?}");
    assert_eq!(guard.put_fenced(sequencer, file, b"fresh"), code::OK, "{sequencer:?}");
    let node = guard.get(file);
    assert_eq!((node.version, node.data), (before + 1, b"fresh".to_vec()));
}

#[test]
fn each_grant_to_a_free_lock_has_a_higher_generation() {
    let cld = Servers::start();
    let (mut one, mut other) = (connect(&cld, "one"), connect(&cld, "other"));
    let (mine, theirs) = (one.create("/l"), other.create("/l"));
    let inode = one.get(mine).inum;
    let first = one.lock(mine, lock::EXCLUSIVE).unwrap();
    assert!(first.generation > 0);
    assert_eq!((first.inode, first.mode, &first.path[..]), (inode, lock::EXCLUSIVE, &b"/l"[..]));
    assert_eq!(one.get_sequencer(mine), Ok(first.clone()));
    assert_eq!(other.get_sequencer(theirs), Err(code::LOCK_INVAL));
    assert_eq!(other.lock(theirs, lock::EXCLUSIVE), Err(code::LOCK_PENDING));
    assert_eq!(other.get_sequencer(theirs), Err(code::LOCK_INVAL), "it waits");
    assert_eq!(one.unlock(mine), code::OK);
    let told = other.event();
    assert_eq!((told.fh, told.events, told.version), (theirs, event::LOCKED, one.get(mine).version));
    let second = Sequencer { generation: first.generation + 1, ..first.clone() };
    assert_eq!(told.granted, Some(second.clone()));
    assert_eq!(other.get_sequencer(theirs), Ok(second));
    assert_eq!(one.get_sequencer(mine), Err(code::LOCK_INVAL));
    assert_eq!(other.unlock(theirs), code::OK);
    let third = one.call(&Request::TryLock { fh: mine, flags: lock::EXCLUSIVE }).sequencer();
    assert_eq!(third, Sequencer { generation: first.generation + 2, ..first });
}

#[test]
fn those_who_share_a_lock_share_its_generation() {
    let cld = Servers::start();
    let (mut one, mut other) = (connect(&cld, "one"), connect(&cld, "other"));
    let (mine, theirs) = (one.create("/l"), other.create("/l"));
    let first = one.lock(mine, lock::SHARED).unwrap();
    assert_eq!(first.mode, lock::SHARED);
    assert_eq!(other.lock(theirs, lock::SHARED), Ok(first.clone()));
    assert_eq!(one.unlock(mine), code::OK);
    assert_eq!(one.check_sequencer(&first), code::OK, "the other holds it still");
    assert_eq!(one.lock(mine, lock::SHARED), Ok(first.clone()));
    assert_eq!((one.unlock(mine), other.unlock(theirs)), (code::OK, code::OK));
    assert_eq!(one.check_sequencer(&first), code::STALE);
    assert_eq!(one.lock(mine, lock::SHARED).map(|next| next.generation), Ok(first.generation + 1));
    assert_eq!(one.check_sequencer(&first), code::STALE);
}

#[test]
fn a_lock_that_a_plain_session_takes_counts_too() {
    let cld = Servers::start();
    let (mut plain, mut extended) = (cld.connect("plain"), connect(&cld, "extended"));
    let (theirs, ours) = (plain.create("/l"), extended.create("/l"));
    let first = extended.lock(ours, lock::EXCLUSIVE).unwrap();
    assert_eq!(extended.unlock(ours), code::OK);
    // The plain client takes no bytes behind a result.
    assert_eq!(plain.lock(theirs, lock::EXCLUSIVE), code::OK);
    assert_eq!(extended.check_sequencer(&first), code::STALE);
    assert_eq!(plain.unlock(theirs), code::OK);
    assert_eq!(extended.lock(ours, lock::EXCLUSIVE).map(|next| next.generation), Ok(first.generation + 2));
    assert!(plain.strange.is_empty(), "{:?}", plain.strange);
}

#[test]
fn a_held_lock_lets_pass_and_one_that_was_released_or_handed_over_does_not() {
    let cld = Servers::start();
    let ((mut holder, held, first), (mut guard, file)) = holder_and_guard(&cld);
    assert_stands(&mut guard, file, &first);
    assert_eq!(holder.unlock(held), code::OK);
    assert_refused(&mut guard, file, &first);
    let mut next = connect(&cld, "next");
    let theirs = next.create("/l");
    let second = next.lock(theirs, lock::EXCLUSIVE).unwrap();
    assert_refused(&mut guard, file, &first);
    assert_stands(&mut guard, file, &second);
    assert_eq!(guard.del_fenced(&second, "/f"), code::OK);
    assert_eq!(
        guard.call(&Request::Open { mode: mode::READ, events: 0, path: b"/f".to_vec() }).code,
        code::NAME_INVAL
    );
}

#[test]
fn a_sequencer_stands_for_one_lock_in_one_mode_and_generation() {
    let cld = Servers::start();
    let ((mut holder, held, fresh), (mut guard, file)) = holder_and_guard(&cld);
    let other = holder.create("/other");
    let other = holder.get(other).inum;
    for wrong in [
        Sequencer { inode: other, ..fresh.clone() },
        Sequencer { inode: fresh.inode + 1_000, ..fresh.clone() },
        Sequencer { inode: u64::MAX, ..fresh.clone() },
        Sequencer { generation: fresh.generation + 1, ..fresh.clone() },
        Sequencer { generation: fresh.generation - 1, ..fresh.clone() },
        Sequencer { mode: lock::SHARED, ..fresh.clone() },
        Sequencer { path: b"/other".to_vec(), ..fresh.clone() },
        Sequencer { path: b"/none".to_vec(), ..fresh.clone() },
        Sequencer { path: Vec::new(), ..fresh.clone() },
    ] {
        assert_refused(&mut guard, file, &wrong);
    }
    assert_stands(&mut guard, file, &fresh);
    // A mode that there is not is held by nobody, and half a sequencer is no request.
    assert_refused(&mut guard, file, &Sequencer { mode: 2, ..fresh.clone() });
    assert_refused(&mut guard, file, &Sequencer { mode: 3, ..fresh.clone() });
    let mut malformed = fresh.encode();
    malformed.truncate(19);
    assert_eq!(guard.call_raw(op::CHECK_SEQUENCER, &malformed).code, code::BAD_PKT);
    assert_eq!(holder.unlock(held), code::OK);
}

#[test]
fn a_fenced_request_is_refused_as_a_plain_one_would_be() {
    let cld = Servers::start();
    let ((_holder, _, fresh), (mut guard, _)) = holder_and_guard(&cld);
    let unwritable = guard.open("/f", mode::READ, 0);
    assert_eq!(guard.put_fenced(&fresh, unwritable, b"x"), code::MODE_INVAL);
    assert_eq!(guard.put_fenced(&fresh, 999, b"x"), code::FH_INVAL);
    assert_eq!(guard.del_fenced(&fresh, "/none"), code::NAME_INVAL);
    assert_eq!(guard.get_sequencer(999), Err(code::FH_INVAL));
}

#[test]
fn the_lock_of_a_session_that_expired_lets_nothing_pass() {
    let cld = Servers::start();
    let ((holder, _, first), (mut guard, file)) = holder_and_guard(&cld);
    let mut waiter = connect(&cld, "waiter");
    let wanted = waiter.create("/l");
    assert_eq!(waiter.lock(wanted, lock::EXCLUSIVE), Err(code::LOCK_PENDING));
    assert_stands(&mut guard, file, &first);
    let granted = waiter.event().granted.unwrap();
    assert_eq!(granted.generation, first.generation + 1);
    assert_refused(&mut guard, file, &first);
    assert_stands(&mut guard, file, &granted);
    drop(holder);
}

#[test]
fn a_file_that_is_made_anew_under_its_old_name_has_another_lock() {
    let cld = Servers::start();
    let ((_holder, _, first), (mut guard, file)) = holder_and_guard(&cld);
    assert_eq!(guard.call(&Request::Del { path: b"/l".to_vec() }).code, code::OK);
    assert_refused(&mut guard, file, &first);
    let made = guard.create("/l");
    let second = guard.lock(made, lock::EXCLUSIVE).unwrap();
    assert_refused(&mut guard, file, &first);
    assert_stands(&mut guard, file, &second);
    assert_ne!(first.inode, second.inode);
}

#[test]
fn who_was_not_granted_sequencers_is_told_none() {
    let cld = Servers::start();
    let (mut client, _) = Extended::connect_with(cld.master(), "tester", Hello { features: 0, ..HELLO });
    let mut other = connect(&cld, "other");
    let (mine, theirs) = (client.create("/l"), other.create("/l"));
    let granted = client.call(&Request::Lock { fh: mine, flags: lock::EXCLUSIVE });
    assert_eq!((granted.code, &granted.rest[..]), (code::OK, &[][..]));
    assert!(other.lock(theirs, lock::SHARED).is_err() && client.unlock(mine) == code::OK);
    assert!(other.event().granted.is_some());
    assert_eq!(client.call(&Request::Lock { fh: mine, flags: lock::EXCLUSIVE }).code, code::LOCK_PENDING);
    assert_eq!(other.unlock(theirs), code::OK);
    let told = client.event();
    assert_eq!((told.events, told.granted), (event::LOCKED, None));
}
