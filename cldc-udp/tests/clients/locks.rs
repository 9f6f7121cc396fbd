//! Locks of the blocking client: waiting, holding, losing and releasing them.

use std::thread;

use cldc_udp::blocking::Client;
use cldc_udp::{Code, Error, EventMask, LockKind, OpenMode};

use crate::support::{Asked, LONG, Peer, SHORT, Say, connect, options};

const MODE: OpenMode = OpenMode(OpenMode::LOCK.0 | OpenMode::CREATE.0);

fn asked_lock(fh: u64) -> Asked {
    Asked::Lock { fh, shared: false, wait: true }
}

/// A peer whose locks are held by others.
fn contended() -> Peer {
    Peer::scripted(|asked| match asked {
        Asked::Lock { wait: true, .. } => Say::Code(Code::LockPending),
        Asked::Lock { wait: false, .. } => Say::Code(Code::LockConflict),
        _ => Say::Usual,
    })
}

#[test]
fn a_lock_is_held_until_its_guard_is_dropped() {
    let peer = Peer::start();
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    let lock = file.lock(LockKind::Shared).unwrap();
    peer.await_asked(&Asked::Lock { fh: 1, shared: true, wait: true });
    assert!(lock.is_safe());
    assert!(!lock.lost(SHORT));
    drop(lock);
    peer.await_asked(&Asked::Unlock(1));
    // Free again for another guard.
    assert!(file.try_lock(LockKind::Exclusive).unwrap().unwrap().is_safe());
}

#[test]
fn a_released_lock_is_released_once_and_the_file_stays_open() {
    let peer = Peer::start();
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    file.lock(LockKind::Exclusive).unwrap().release().unwrap();
    file.write(b"open").unwrap();
    file.close().unwrap();
    let releases = peer.all_asked().into_iter().filter(|asked| *asked == Asked::Unlock(1)).count();
    assert_eq!(releases, 1);
}

#[test]
fn a_lock_by_path_closes_its_file_when_it_is_released() {
    let peer = Peer::start();
    let client = connect(&peer);
    client.write("/l", b"").unwrap();
    client.lock("/l", LockKind::Exclusive).unwrap().release().unwrap();
    assert!(peer.all_asked().ends_with(&[asked_lock(2), Asked::Close(2)]));
    drop(client.try_lock("/l", LockKind::Exclusive).unwrap().unwrap());
    peer.await_asked(&Asked::Close(3));
}

#[test]
fn a_guard_keeps_its_file_open() {
    let peer = Peer::start();
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    let lock = file.lock(LockKind::Exclusive).unwrap();
    drop(file);
    client.nop().unwrap();
    assert!(lock.is_safe());
    assert!(!peer.all_asked().contains(&Asked::Close(1)));
    drop(lock);
    assert_eq!(peer.await_asked(&Asked::Close(1)), [Asked::Unlock(1)]);
}

#[test]
fn try_lock_of_a_held_lock_gives_none() {
    let peer = contended();
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    assert!(file.try_lock(LockKind::Exclusive).unwrap().is_none());
    assert!(client.try_lock("/l", LockKind::Exclusive).unwrap().is_none());
}

#[test]
fn a_waiting_lock_is_granted_by_its_event() {
    let peer = contended();
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    let mut events = client.events();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| file.lock(LockKind::Exclusive));
        peer.await_asked(&asked_lock(1));
        peer.event(1, EventMask::LOCKED);
        assert!(waiting.join().unwrap().unwrap().is_safe());
    });
    // The grant is for the lock alone.
    assert!(matches!(events.next_timeout(SHORT), Err(Error::Timeout { .. })));
}

#[test]
fn a_grant_that_overtakes_the_answer_counts() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Lock { fh, .. } => Say::EventFirst(*fh, EventMask::LOCKED, Code::LockPending),
        _ => Say::Usual,
    });
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    assert!(file.lock(LockKind::Exclusive).unwrap().is_safe());
}

#[test]
fn a_lock_that_is_not_granted_in_time_leaves_the_queue() {
    let peer = contended();
    let client = connect(&peer);
    client.write("/l", b"").unwrap();
    let hasty = client.with_timeout(SHORT);
    let error = hasty.lock("/l", LockKind::Exclusive).unwrap_err();
    assert_eq!(error.to_string(), "the deadline passed while waiting for a lock");
    peer.await_asked(&asked_lock(2));
    peer.await_asked(&Asked::Close(2));

    let file = hasty.open("/l", MODE, EventMask::NONE).unwrap();
    assert!(matches!(file.lock(LockKind::Exclusive), Err(Error::Timeout { .. })));
    peer.await_asked(&asked_lock(3));
    assert_eq!(peer.await_asked(&Asked::Unlock(3)), []);
}

#[test]
fn a_lock_without_an_answer_in_time_is_released_if_it_was_granted_after_all() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Lock { .. } => Say::Later,
        _ => Say::Usual,
    });
    let client = connect(&peer);
    let file = client.with_timeout(SHORT).open("/l", MODE, EventMask::NONE).unwrap();
    assert!(matches!(file.try_lock(LockKind::Exclusive), Err(Error::Timeout { .. })));
    peer.await_asked(&Asked::Unlock(1));
}

#[test]
fn a_second_lock_through_the_same_file_conflicts_and_leaves_the_first_alone() {
    let peer = Peer::start();
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    let lock = file.lock(LockKind::Exclusive).unwrap();
    assert!(matches!(file.lock(LockKind::Exclusive), Err(Error::Server(Code::LockConflict))));
    assert!(file.try_lock(LockKind::Exclusive).unwrap().is_none());
    assert!(lock.is_safe());
}

#[test]
fn a_refused_lock_can_be_asked_for_again() {
    let mut first = true;
    let peer = Peer::scripted(move |asked| match asked {
        Asked::Lock { .. } if std::mem::take(&mut first) => Say::Code(Code::ModeInval),
        _ => Say::Usual,
    });
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    assert!(matches!(file.lock(LockKind::Exclusive), Err(Error::Server(Code::ModeInval))));
    assert!(file.lock(LockKind::Exclusive).unwrap().is_safe());
}

#[test]
fn a_lock_is_lost_when_the_lease_is_in_jeopardy_and_safe_again_when_it_is_renewed() {
    let peer = Peer::start();
    let client = Client::connect(options([&peer]).drift_ppm(990_000)).unwrap();
    let lock = client.create("/l").unwrap().lock(LockKind::Exclusive).unwrap();
    assert!(lock.lost(LONG));
    client.nop().unwrap();
    assert!(lock.is_safe());
}

#[test]
fn a_lock_is_lost_with_its_file() {
    let peer = contended();
    let client = connect(&peer);
    let waiting = client.create("/waiting").unwrap();
    thread::scope(|scope| {
        let lock = scope.spawn(|| waiting.lock(LockKind::Exclusive));
        peer.await_asked(&asked_lock(1));
        peer.event(1, EventMask::DELETED);
        assert!(matches!(lock.join().unwrap(), Err(Error::Server(Code::InodeInval))));
    });

    let peer = Peer::start();
    let client = connect(&peer);
    let lock = client.create("/held").unwrap().lock(LockKind::Exclusive).unwrap();
    // The server tells only those who asked.
    let asked =
        |asked: &Asked| matches!(asked, Asked::Open { events, .. } if events.contains(EventMask::DELETED));
    assert!(peer.all_asked().iter().any(asked));
    peer.event(1, EventMask::DELETED);
    assert!(lock.lost(LONG));
    assert!(!lock.is_safe());
}

#[test]
fn a_lock_that_waits_ends_when_its_file_is_closed() {
    let peer = contended();
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    thread::scope(|scope| {
        let lock = scope.spawn(|| file.lock(LockKind::Exclusive));
        peer.await_asked(&asked_lock(1));
        // The answer to this one follows that to the lock.
        client.nop().unwrap();
        file.with_timeout(LONG).close().unwrap();
        assert!(matches!(lock.join().unwrap(), Err(Error::Server(Code::FhInval))));
    });
}

#[test]
fn a_lock_that_begins_to_wait_after_its_file_was_closed_ends() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Lock { .. } => Say::Later,
        _ => Say::Usual,
    });
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    thread::scope(|scope| {
        let lock = scope.spawn(|| file.lock(LockKind::Exclusive));
        peer.await_asked(&asked_lock(1));
        file.with_timeout(LONG).close().unwrap();
        peer.answer(Code::LockPending);
        assert!(matches!(lock.join().unwrap(), Err(Error::Server(Code::FhInval))));
    });
}

#[test]
fn a_lock_is_lost_with_its_session() {
    let peer = Peer::start();
    let client = connect(&peer);
    let lock = client.create("/l").unwrap().lock(LockKind::Exclusive).unwrap();
    client.close().unwrap();
    assert!(lock.lost(LONG));
    assert!(!lock.is_safe());
}
