//! Extended sessions: what is agreed on, where they go when their server changes, and what is waited for meanwhile.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use cldc_core::wire::extended::Master;
use cldc_udp::blocking::Client;
use cldc_udp::{Code, Error, EventMask, FileEvent, LeaseState, LockKind, OpenMode};

use crate::support::{Asked, Grant, LONG, Peer, SHORT, Say, connect, options};

const MODE: OpenMode = OpenMode(OpenMode::READ.0 | OpenMode::WRITE.0 | OpenMode::CREATE.0);

fn peer(grant: Grant) -> Peer {
    Peer::extended(grant, |_| Say::Usual)
}

/// A lease that is soon over without renewal; it is renewed after two thirds of a second.
fn brief() -> Grant {
    Grant { lease: Duration::from_millis(1500), ..Grant::default() }
}

fn with_epoch(epoch: u64) -> Grant {
    Grant { epoch, ..Grant::default() }
}

fn master(epoch: u64, address: SocketAddr) -> Master {
    Master { epoch, address: Some(address) }
}

/// An address that nobody answers at.
fn nobody() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

#[test]
fn what_the_server_grants_is_told() {
    let peer = peer(Grant { epoch: 9, ..brief() });
    let client = Client::connect(options([&peer]).lease(Duration::from_secs(2))).unwrap();
    assert!(client.is_extended());
    assert_eq!(client.epoch(), Some(9));
    let terms = client.terms();
    assert_eq!(terms.lease, Duration::from_millis(1500));
    assert_eq!(terms.grace, Duration::from_secs(45));
    // Two clocks, each of which may be off by 1 %.
    assert_eq!(terms.counted.as_micros(), 1_500_000 * 99 / 101);
}

#[test]
fn the_lease_that_is_wanted_is_proposed() {
    let peer = peer(Grant::default());
    let _default = connect(&peer);
    peer.await_asked(&Asked::NewSess);
    assert_eq!(peer.proposed(), Some(30_000));
    let _other = Client::connect(options([&peer]).lease(Duration::from_millis(2500))).unwrap();
    assert_eq!(peer.proposed(), Some(2_500));
}

#[test]
fn a_session_is_plain_if_either_side_wants_it_so() {
    let old_server = Peer::start();
    let new_server = peer(Grant::default());
    let unwilling = Client::connect(options([&new_server]).plain()).unwrap();
    assert_eq!(new_server.proposed(), None);
    for client in [connect(&old_server), unwilling] {
        assert!(!client.is_extended());
        assert_eq!(client.epoch(), None);
        assert_eq!(client.terms().lease, Duration::from_secs(60));
        client.write("/a", b"x").unwrap();
        assert_eq!(client.read("/a").unwrap().data, b"x");
    }
}

#[test]
fn eight_servers_may_be_named() {
    let peer = peer(Grant::default());
    let named = |count: u16| {
        let others = (0..count - 1).map(|i| ([127, 0, 0, 1], 1 + i).into());
        options([&peer]).servers(others)
    };
    assert!(Client::connect(named(8)).is_ok());
    assert!(matches!(Client::connect(named(9)), Err(Error::Config(_))));
}

#[test]
fn the_master_that_a_follower_names_is_gone_to() {
    let leader = peer(with_epoch(4));
    let follower = Peer::follower(master(4, leader.address()));
    let client = connect(&follower);
    assert_eq!((client.server(), client.epoch()), (Some(leader.address()), Some(4)));
    client.nop().unwrap();
}

#[test]
fn a_session_follows_its_server_to_the_next_master_and_keeps_what_it_has() {
    let old = peer(with_epoch(4));
    let new = old.join("127.0.0.1:0", with_epoch(5));
    let client = connect(&old);
    let file = client.open("/a", MODE, EventMask::UPDATED).unwrap();
    let lock = client.create("/l").unwrap().lock(LockKind::Exclusive).unwrap();
    let sequencer = lock.sequencer().unwrap();
    old.step_down(master(5, new.address()));
    file.write(b"at the new one").unwrap();
    new.await_asked(&Asked::Resume);
    assert_eq!((client.server(), client.epoch()), (Some(new.address()), Some(5)));
    assert!(lock.is_safe());
    assert!(client.check_sequencer(&sequencer).unwrap());
    assert_eq!(file.read().unwrap().data, b"at the new one");
}

#[test]
fn a_server_that_lags_behind_is_not_followed() {
    let leader = peer(with_epoch(7));
    let client = connect(&leader);
    let lagging = Peer::follower(master(6, nobody()));
    leader.step_down(master(6, lagging.address()));
    let hasty = client.with_timeout(SHORT).nop();
    assert!(matches!(hasty, Err(Error::Timeout { .. })), "{hasty:?}");
    assert_ne!(client.server(), Some(lagging.address()));
}

#[test]
fn servers_that_the_session_was_told_of_are_gone_to_when_its_own_is_silent() {
    let first = peer(Grant::default());
    let second = first.join("127.0.0.1:0", with_epoch(2));
    let told = Grant { servers: vec![first.address(), second.address()], ..Grant::default() };
    let introducing = first.join("127.0.0.1:0", told);
    let client = connect(&introducing);
    client.write("/a", b"before").unwrap();
    introducing.fall_silent();
    first.fall_silent();
    assert_eq!(client.read("/a").unwrap().data, b"before");
    assert_eq!((client.server(), client.epoch()), (Some(second.address()), Some(2)));
}

#[test]
fn a_session_goes_to_a_server_of_the_other_family() {
    let first = peer(Grant::default());
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return eprintln!("skipped: no IPv6 here");
    }
    let second = first.join("[::1]:0", with_epoch(2));
    let client = connect(&first);
    client.write("/a", b"over IPv4").unwrap();
    first.step_down(master(2, second.address()));
    assert_eq!(client.read("/a").unwrap().data, b"over IPv4");
    assert_eq!(client.server(), Some(second.address()));
}

#[test]
fn requests_in_flight_run_once_when_the_session_moves() {
    // The request is acknowledged: that its answer will not come is noticed when the lease is to be renewed.
    let old = Peer::extended(brief(), |asked| match asked {
        Asked::Del(_) => Say::Later,
        _ => Say::Usual,
    });
    let new = old.join("127.0.0.1:0", with_epoch(2));
    let client = connect(&old);
    client.write("/a", b"").unwrap();
    thread::scope(|scope| {
        let removal = scope.spawn(|| client.remove("/a"));
        old.await_asked(&Asked::Del("/a".into()));
        old.step_down(master(2, new.address()));
        removal.join().unwrap().unwrap();
    });
    let asked = new.all_asked();
    assert_eq!(asked.iter().filter(|asked| matches!(asked, Asked::Del(_))).count(), 1, "{asked:?}");
}

#[test]
fn a_fail_over_is_told_to_every_reader_once() {
    let server = peer(with_epoch(1));
    let client = connect(&server);
    let file = client.open("/a", MODE, EventMask::UPDATED).unwrap();
    let mut readers = [client.events(), client.events()];
    server.restart(2);
    client.nop().unwrap();
    // The same epoch again: nothing to tell.
    server.restart(2);
    client.nop().unwrap();
    server.event(1, EventMask::UPDATED);
    for events in &mut readers {
        let failover = events.next_timeout(LONG).unwrap();
        let expected = FileEvent {
            path: Vec::new(),
            handle: FileEvent::SESSION,
            events: EventMask::MASTER_FAILOVER,
            version: None,
            missed: 0,
        };
        assert_eq!(failover, expected);
        assert_eq!(events.next_timeout(LONG).unwrap().handle, file.handle());
    }
    assert_eq!(client.epoch(), Some(2));
}

#[test]
fn events_tell_the_version() {
    let server = peer(Grant::default());
    let client = connect(&server);
    let file = client.open("/a", MODE, EventMask::UPDATED).unwrap();
    let mut events = client.events();
    file.write(b"four").unwrap();
    server.event(1, EventMask::UPDATED);
    assert_eq!(events.next_timeout(LONG).unwrap().version, Some(4));
}

#[test]
fn calls_wait_in_jeopardy_and_succeed_when_the_server_comes_back() {
    let server = peer(brief());
    let client = connect(&server);
    let file = client.create("/a").unwrap();
    let lock = file.lock(LockKind::Exclusive).unwrap();
    server.fall_silent();
    thread::scope(|scope| {
        let early = scope.spawn(|| file.write(b"early"));
        assert_eq!(client.wait_lease_change(LeaseState::Safe, LONG), LeaseState::Jeopardy);
        assert!(!lock.is_safe());
        assert_eq!(lock.safe_for(), Duration::ZERO);
        let late = scope.spawn(|| client.read("/a"));
        thread::sleep(SHORT);
        assert!(!early.is_finished() && !late.is_finished());
        server.speak_again();
        early.join().unwrap().unwrap();
        assert_eq!(late.join().unwrap().unwrap().data, b"early");
    });
    assert!(lock.is_safe());
    assert_eq!(client.lease_state(), LeaseState::Safe);
}

#[test]
fn calls_in_jeopardy_end_by_their_deadline() {
    let server = peer(brief());
    let client = connect(&server);
    let file = client.with_timeout(SHORT).create("/a").unwrap();
    server.fall_silent();
    assert_eq!(client.wait_lease_change(LeaseState::Safe, LONG), LeaseState::Jeopardy);
    let begun = Instant::now();
    assert!(matches!(file.write(b"x"), Err(Error::Timeout { doing: "writing a file" })));
    assert!(matches!(file.lock(LockKind::Shared), Err(Error::Timeout { doing: "waiting for a lock" })));
    assert_eq!(client.lease_state(), LeaseState::Jeopardy);
    let closed = client.with_timeout(SHORT).close();
    assert!(matches!(closed, Err(Error::Timeout { doing: "ending the session" })), "{closed:?}");
    assert!(begun.elapsed() >= 3 * SHORT && begun.elapsed() < LONG);
}

#[test]
fn the_lease_watch_tells_safe_jeopardy_and_expired() {
    let server = peer(Grant { grace: SHORT, ..brief() });
    let client = connect(&server);
    let mut events = client.events();
    assert_eq!(client.lease_state(), LeaseState::Safe);
    server.fall_silent();
    assert_eq!(client.wait_lease_change(LeaseState::Safe, LONG), LeaseState::Jeopardy);
    assert_eq!(client.wait_lease_change(LeaseState::Jeopardy, LONG), LeaseState::Expired);
    assert!(matches!(client.nop(), Err(Error::SessionLost)));
    assert!(matches!(events.next_timeout(LONG), Err(Error::SessionLost)));
}

#[test]
fn the_lease_is_kept_without_calls_and_a_lock_says_how_long_it_is_safe() {
    let server = peer(brief());
    let client = connect(&server);
    let lock = client.create("/l").unwrap().lock(LockKind::Exclusive).unwrap();
    assert!(lock.safe_for() <= client.terms().counted);
    // Longer than the lease.
    assert!(!lock.lost(2 * client.terms().lease));
    assert!(lock.safe_for() > Duration::ZERO);
}

#[test]
fn a_session_that_a_restarted_server_does_not_know_is_lost() {
    let server = peer(Grant::default());
    let client = connect(&server);
    server.forget_sessions();
    assert!(matches!(client.nop(), Err(Error::SessionLost)));
}

#[test]
fn a_refusal_is_the_same_in_an_extended_session() {
    let server = Peer::extended(Grant::default(), |asked| match asked {
        Asked::Put(..) => Say::Code(Code::Limit),
        _ => Say::Usual,
    });
    assert!(matches!(connect(&server).write("/a", b"x"), Err(Error::Server(Code::Limit))));
}

#[test]
fn a_file_of_the_longest_kind_goes_there_and_back() {
    let server = peer(Grant::default());
    let client = connect(&server);
    let data: Vec<u8> = (0..131_072_u32).map(|i| (i % 251) as u8).collect();
    client.write("/long", &data).unwrap();
    assert!(client.read("/long").unwrap().data == data);
}
