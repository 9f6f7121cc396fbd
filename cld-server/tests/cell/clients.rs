//! What clients see of a cell whose servers die.

use cld_server::peer::frame::{Frame, Relay, RelayWay};
use cldc_core::session::{End, LockState};
use cldc_core::time::Duration;
use cldc_core::wire::{EventMask, Key, Op, Packet};

use crate::client::{Got, News};
use crate::world::{SOCKET, World, server_addr};
use crate::{ms, secs};

const ALL: [u64; 3] = [1, 2, 3];

#[test]
fn a_session_with_its_locks_and_waiters_survives_the_master() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        let (holder, first, second) =
            (world.join(&ALL, true), world.join(&ALL, true), world.join(&ALL, true));
        let watcher = world.join(&ALL, true);
        let events = EventMask::LOCKED;
        let [a, b, c] = [holder, first, second].map(|at| world.open(at, b"/lock", events));
        let watched = world.open(watcher, b"/lock", EventMask::UPDATED);
        let locked = world.lock(holder, a);
        assert_eq!(world.answer(holder, locked, secs(5)), Ok(Got::Locked));
        for (at, handle) in [(first, b), (second, c)] {
            let waits = world.lock(at, handle);
            assert_eq!(world.answer(at, waits, secs(5)), Ok(Got::Pending));
        }
        world.write(holder, a, b"before");

        let (master, _) = world.await_master(secs(1));
        // These are on their way when the master dies.
        let in_flight: Vec<_> = (0..10u8).map(|value| world.put(holder, a, &[value])).collect();
        world.run(Duration::from_micros(seed * 150));
        world.crash(master);
        let (next, took) = world.await_master(secs(5));
        assert!(next != master && took < ms(1500), "seed {seed}: {took:?}");
        for request in in_flight {
            assert_eq!(world.answer(holder, request, secs(10)), Ok(Got::Done), "seed {seed}");
        }
        assert_eq!(world.read(holder, a), [9], "seed {seed}");
        // Each was executed once: creation, one write before, ten in flight.
        let version = world.node(next).database().stat(b"/lock").unwrap().version;
        assert_eq!(version, 12, "seed {seed}");

        assert_eq!(world.clients[holder].session.lock_state(a), LockState::Held);
        world.run(secs(12));
        for at in [holder, first, second, watcher] {
            assert_eq!(world.clients[at].failovers(), 1, "seed {seed}, client {at}");
            let gone = world.clients[at].news.iter().any(|news| matches!(news, News::Ended(_) | News::Lease));
            assert!(!gone, "seed {seed}, client {at}: {:?}", world.clients[at].news);
        }
        assert!(world.clients[watcher].told(watched, EventMask::UPDATED) > 0, "seed {seed}");

        let unlocked = world.unlock(holder, a);
        assert_eq!(world.answer(holder, unlocked, secs(5)), Ok(Got::Done));
        assert!(
            world.wait(secs(2), |world| world.clients[first].told(b, EventMask::LOCKED) == 1),
            "seed {seed}"
        );
        assert_eq!(
            world.clients[second].session.lock_state(c),
            LockState::Waiting,
            "first come, first served"
        );
        let unlocked = world.unlock(first, b);
        assert_eq!(world.answer(first, unlocked, secs(5)), Ok(Got::Done));
        assert!(
            world.wait(secs(2), |world| world.clients[second].told(c, EventMask::LOCKED) == 1),
            "seed {seed}"
        );
        world.start(master);
        world.agree();
    }
}

#[test]
fn another_server_serves_within_a_second_after_the_master_died() {
    let mut times: Vec<Duration> = (0..40)
        .map(|seed| {
            let mut world = World::new(seed, 3);
            let (master, _) = world.await_master(secs(1));
            world.run(ms(1000 + seed * 7));
            world.crash(master);
            world.await_master(secs(5)).1
        })
        .collect();
    times.sort();
    assert!(times[times.len() / 2] < secs(1), "{times:?}");
}

/// How long a client that writes waits for an answer after something happened to the master, each time for another seed.
fn interruptions(happens: impl Fn(&mut World, u64)) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..20)
        .map(|seed| {
            let mut world = World::new(seed, 3);
            let at = world.join(&ALL, true);
            let file = world.open(at, b"/file", EventMask::NONE);
            world.write(at, file, b"before");
            world.run(ms(1000 + seed * 37));
            let (master, _) = world.await_master(secs(1));
            happens(&mut world, master);
            let begun = world.now;
            world.write(at, file, b"after");
            assert_eq!(world.clients[at].failovers(), 1, "seed {seed}");
            Duration::from_micros(world.now - begun)
        })
        .collect();
    times.sort();
    times
}

#[test]
fn a_client_writes_again_within_a_second_after_the_master_died() {
    let times = interruptions(World::crash);
    assert!(times[times.len() / 2] < ms(800) && times.last() < Some(&ms(2500)), "{times:?}");
}

#[test]
fn a_client_writes_again_soon_after_the_master_was_stopped() {
    let times = interruptions(|world, master| world.pause(master, secs(20)));
    assert!(times[times.len() / 2] < secs(1) && times.last() < Some(&ms(2500)), "{times:?}");
}

#[test]
fn a_silent_waiter_hears_of_its_lock_soon_after_a_fail_over() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        let (holder, waiter) = (world.join(&ALL, true), world.join(&ALL, true));
        let [a, b] = [holder, waiter].map(|at| world.open(at, b"/lock", EventMask::LOCKED));
        let locked = world.lock(holder, a);
        assert_eq!(world.answer(holder, locked, secs(5)), Ok(Got::Locked));
        let waits = world.lock(waiter, b);
        assert_eq!(world.answer(waiter, waits, secs(5)), Ok(Got::Pending));
        world.run(ms(500 + seed * 11));
        let (master, _) = world.await_master(secs(1));
        world.crash(master);
        let unlocked = world.unlock(holder, a);
        assert_eq!(world.answer(holder, unlocked, secs(5)), Ok(Got::Done));
        let begun = world.now;
        assert!(
            world.wait(secs(5), |world| world.clients[waiter].told(b, EventMask::LOCKED) == 1),
            "seed {seed}"
        );
        // The event may overtake the answer to RESUME, and comes again then after 50 ms.
        assert!(world.now - begun < 100_000, "seed {seed}: {} µs after it was given", world.now - begun);
        assert_eq!(world.clients[waiter].failovers(), 1, "seed {seed}");
    }
}

#[test]
fn a_plain_client_is_told_when_there_has_been_no_master_for_long() {
    let mut world = World::new(1, 3);
    let (master, _) = world.await_master(secs(1));
    let follower = if master == 1 { 2 } else { 1 };
    let at = world.join(&[follower], false);
    let file = world.open(at, b"/file", EventMask::NONE);
    let others: Vec<u64> = ALL.into_iter().filter(|&id| id != follower).collect();
    others.iter().for_each(|&id| world.crash(id));
    let put = world.put(at, file, b"x");
    world.run(ms(1500));
    assert_eq!(world.node(follower).status().endpoint.redirects, 0, "a master may be chosen yet");
    world.run(secs(10));
    let told = world.node(follower).status().endpoint.redirects;
    assert!(told > 0);
    let said = world.clients[at].last_heard.clone();
    let packet = Packet::parse(&said).unwrap();
    packet.verify(&Key::new(b"tester").unwrap()).unwrap();
    assert_eq!((packet.part.op(), packet.piece), (Some(Op::NotMaster), &[][..]), "as Hail says it");
    world.start(others[0]);
    assert_eq!(world.answer(at, put, secs(30)), Ok(Got::Done), "it has not given up");
}

#[test]
fn an_event_that_happened_during_the_fail_over_is_told() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        let (writer, watcher) = (world.join(&ALL, true), world.join(&ALL, true));
        let file = world.open(writer, b"/file", EventMask::NONE);
        let watched = world.open(watcher, b"/file", EventMask::UPDATED);
        let (master, _) = world.await_master(secs(1));
        let put = world.put(writer, file, b"value");
        world.run(Duration::from_micros(seed * 200));
        world.crash(master);
        assert_eq!(world.answer(writer, put, secs(10)), Ok(Got::Done));
        assert!(
            world.wait(secs(15), |world| world.clients[watcher].told(watched, EventMask::UPDATED) > 0),
            "seed {seed}"
        );
    }
}

#[test]
fn a_client_that_knows_one_follower_only_finds_the_master() {
    let mut world = World::new(1, 3);
    let (master, _) = world.await_master(secs(1));
    for follower in ALL.into_iter().filter(|&id| id != master) {
        let at = world.join(&[follower], true);
        let began = world.now;
        let file = world.open(at, b"/file", EventMask::NONE);
        world.write(at, file, b"x");
        assert!(world.now - began < 100_000, "it talks to the master itself");
        assert!(world.node(follower).status().endpoint.redirects > 0);
        assert_eq!(world.node(follower).status().peers.relayed, 0, "nothing of it is passed on");
    }
}

#[test]
fn a_plain_client_works_through_a_follower_and_a_fail_over() {
    for seed in 0..10 {
        let mut world = World::new(seed, 3);
        let (master, _) = world.await_master(secs(1));
        let follower = if master == 1 { 2 } else { 1 };
        let at = world.join(&[follower], false);
        let file = world.open(at, b"/file", EventMask::NONE);
        world.write(at, file, b"one");
        let relayed = world.node(follower).status().peers.relayed;
        assert!(relayed > 0 && world.node(follower).status().sessions == 0);

        let put = world.put(at, file, b"two");
        world.run(Duration::from_micros(seed * 200));
        world.crash(master);
        assert_eq!(world.answer(at, put, secs(30)), Ok(Got::Done), "seed {seed}");
        assert_eq!(world.read(at, file), b"two");
        let (next, _) = world.await_master(secs(1));
        assert_eq!(world.node(next).database().stat(b"/file").unwrap().version, 3, "seed {seed}");
        // And when its own server is a follower again, or the master.
        world.start(master);
        world.run(secs(70));
        world.write(at, file, b"three");
        assert!(!world.clients[at].news.contains(&News::Ended(End::Expired)));
    }
}

#[test]
fn a_silent_plain_client_is_called_through_its_own_server_after_a_fail_over() {
    let mut tried = 0;
    for seed in 0..10 {
        let mut world = World::new(seed, 3);
        let (master, _) = world.await_master(secs(1));
        let follower = if master == 1 { 2 } else { 1 };
        let at = world.join(&[follower], false);
        world.open(at, b"/file", EventMask::NONE);
        world.run(secs(1));
        world.crash(master);
        let (next, _) = world.await_master(secs(5));
        if next == follower {
            continue;
        }
        tried += 1;
        // It says nothing of itself, as Hail's clients do.
        world.unreachable = ALL.into_iter().map(|id| (at, id)).collect();
        let silent_since = world.now + 100_000;
        world.run(secs(40));
        let called = world.clients[at]
            .heard
            .iter()
            .any(|&(when, from)| when > silent_since && from == server_addr(follower));
        assert!(called, "seed {seed}");
    }
    assert!(tried > 0);
}

#[test]
fn what_was_passed_on_is_not_passed_on_again() {
    let mut world = World::new(1, 3);
    let (master, _) = world.await_master(secs(1));
    let follower = if master == 1 { 2 } else { 1 };
    let at = world.join(&[follower], false);
    let (relayed, dropped) = {
        let peers = world.node(follower).status().peers;
        (peers.relayed, peers.relays_dropped)
    };
    let client = world.clients[at].addr;
    let datagram = world.last_datagram(at);
    let relay = Relay { way: RelayWay::ToMaster, client, socket: SOCKET, datagram };
    let clock = world.clock(follower);
    world.node(follower).handle_peer(clock, master, Frame::Relay(relay));
    let peers = world.node(follower).status().peers;
    assert_eq!((peers.relayed, peers.relays_dropped), (relayed, dropped + 1));
}

#[test]
fn nothing_is_acknowledged_without_a_quorum_and_all_goes_on_with_one() {
    let mut world = World::new(3, 3);
    let at = world.join(&ALL, true);
    let file = world.open(at, b"/file", EventMask::NONE);
    world.write(at, file, b"before");
    let (master, _) = world.await_master(secs(1));
    let others: Vec<u64> = ALL.into_iter().filter(|&id| id != master).collect();
    others.iter().for_each(|&id| world.crash(id));
    let put = world.put(at, file, b"after");
    let get = world.get(at, file);
    world.run(secs(10));
    assert_eq!(world.clients[at].answer(put), None);
    assert_eq!(world.clients[at].answer(get), None);
    assert_eq!(world.master(), None, "a master without a quorum steps down");
    world.start(others[0]);
    assert_eq!(world.answer(at, put, secs(10)), Ok(Got::Done));
    assert_eq!(world.read(at, file), b"after");
}

#[test]
fn a_lease_is_never_in_doubt_though_a_third_of_all_datagrams_is_lost() {
    for seed in 0..40 {
        let mut world = World::new(seed, 1);
        let (writer, watcher) = (world.join(&[1], true), world.join(&[1], true));
        let file = world.open(writer, b"/file", EventMask::NONE);
        world.open(watcher, b"/file", EventMask::UPDATED);
        (world.faults.loss, world.faults.duplicates) = (33, 10);
        for _ in 0..6 {
            for _ in 0..10 {
                world.put(writer, file, b"value");
            }
            world.run(secs(20));
        }
        for at in [writer, watcher] {
            let news = &world.clients[at].news;
            let doubt = news.iter().any(|news| matches!(news, News::Ended(_) | News::Lease));
            assert!(!doubt, "seed {seed}, client {at}: {news:?}");
        }
    }
}
