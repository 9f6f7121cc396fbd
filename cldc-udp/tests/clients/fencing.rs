//! Sequencers, and writes that are refused when theirs is stale.

use std::thread;

use cldc_udp::{Code, Error, EventMask, LockKind, Sequencer};

use crate::support::{Asked, Grant, Peer, Say, connect};

/// A peer with sequencers.
fn fencing() -> Peer {
    Peer::extended(Grant::default(), |_| Say::Usual)
}

fn is_stale<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Server(Code::Stale)))
}

#[test]
fn a_lock_has_a_sequencer_that_stands_until_it_is_released() {
    let peer = fencing();
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    let lock = file.lock(LockKind::Shared).unwrap();
    let sequencer = lock.sequencer().unwrap();
    let expected = Sequencer { path: b"/l".to_vec(), inode: 7, kind: LockKind::Shared, generation: 1 };
    assert_eq!(sequencer, expected);
    assert_eq!(file.sequencer().unwrap(), expected);
    assert!(client.check_sequencer(&sequencer).unwrap());
    lock.release().unwrap();
    assert!(!client.check_sequencer(&sequencer).unwrap());
    assert!(matches!(file.sequencer(), Err(Error::Server(Code::LockInval))));
    let next = file.try_lock(LockKind::Exclusive).unwrap().unwrap().sequencer().unwrap();
    assert_eq!((next.generation, next.kind), (2, LockKind::Exclusive));
}

#[test]
fn a_lock_that_was_waited_for_has_the_sequencer_of_its_grant() {
    let peer = Peer::extended(Grant::default(), |asked| match asked {
        Asked::Lock { .. } => Say::Code(Code::LockPending),
        _ => Say::Usual,
    });
    let client = connect(&peer);
    let file = client.create("/l").unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| file.lock(LockKind::Exclusive));
        peer.await_asked(&Asked::Lock { fh: 1, shared: false, wait: true });
        peer.event(1, EventMask::LOCKED);
        let lock = waiting.join().unwrap().unwrap();
        assert_eq!(lock.sequencer().unwrap().to_string(), "x:7:1:/l");
    });
}

#[test]
fn a_grant_that_overtakes_the_answer_has_its_sequencer() {
    let peer = Peer::extended(Grant::default(), |asked| match asked {
        Asked::Lock { fh, .. } => Say::EventFirst(*fh, EventMask::LOCKED, Code::LockPending),
        _ => Say::Usual,
    });
    let client = connect(&peer);
    let lock = client.create("/l").unwrap().lock(LockKind::Exclusive).unwrap();
    assert_eq!(lock.sequencer().unwrap().to_string(), "x:7:1:/l");
}

#[test]
fn what_is_shown_with_a_stale_sequencer_changes_nothing() {
    let peer = fencing();
    let holder = connect(&peer);
    let lock = holder.create("/l").unwrap().lock(LockKind::Exclusive).unwrap();
    let sequencer = lock.sequencer().unwrap();
    let file = holder.create("/data").unwrap();
    file.write_fenced(&sequencer, b"in time").unwrap();
    peer.revoke_lock(1);
    assert!(is_stale(file.write_fenced(&sequencer, b"too late")));
    assert!(is_stale(holder.remove_fenced("/data", &sequencer)));
    assert_eq!(holder.read("/data").unwrap().data, b"in time");
    let next = holder.create("/l").unwrap().lock(LockKind::Exclusive).unwrap();
    holder.remove_fenced("/data", &next.sequencer().unwrap()).unwrap();
    assert!(matches!(holder.read("/data"), Err(Error::Server(Code::NameInval))));
}

#[test]
fn a_plain_server_has_no_sequencers_and_nothing_is_asked_of_it() {
    let without = Grant { fencing: false, ..Grant::default() };
    for peer in [Peer::start(), Peer::extended(without, |_| Say::Usual)] {
        let client = connect(&peer);
        let file = client.create("/l").unwrap();
        let lock = file.lock(LockKind::Exclusive).unwrap();
        assert_eq!(lock.sequencer(), None);
        peer.await_asked(&Asked::Lock { fh: 1, shared: false, wait: true });
        let made_up = "x:7:1:/l".parse().unwrap();
        let error = client.check_sequencer(&made_up).unwrap_err();
        assert!(error.to_string().starts_with("not supported by this server"), "{error}");
        assert!(matches!(file.sequencer(), Err(Error::Unsupported)));
        assert!(matches!(file.write_fenced(&made_up, b"x"), Err(Error::Unsupported)));
        assert!(matches!(client.remove_fenced("/l", &made_up), Err(Error::Unsupported)));
        client.nop().unwrap();
        assert_eq!(peer.all_asked(), [Asked::Nop]);
    }
}

#[test]
fn a_server_that_does_not_know_the_operation_is_told_apart_from_one_that_refuses() {
    let peer = Peer::extended(Grant::default(), |asked| match asked {
        Asked::CheckSequencer(..) => Say::Code(Code::Unsupported),
        _ => Say::Usual,
    });
    let checked = connect(&peer).check_sequencer(&"x:7:1:/l".parse().unwrap());
    assert!(matches!(checked, Err(Error::Unsupported)), "{checked:?}");
}
