//! The life of a session: opening, lease, expiry, end; and who may use it.

use std::net::SocketAddr;

use cldc_core::time::Duration;
use cldc_core::wire::{Code, EventMask, Key, Op, Part, Request};

use crate::world::World;

const NEW_SESS: Request<'static> = Request::NewSess { extension: &[] };

#[test]
fn a_session_opens_and_a_file_is_written_and_read() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/file", EventMask::NONE);
    assert_eq!(world.put(peer, fh, b"hello"), Code::Ok);
    assert_eq!(world.get(peer, fh), b"hello");
}

#[test]
fn a_packet_without_the_right_key_gets_silence_and_changes_nothing() {
    let mut world = World::new();
    let peer = world.add(1);
    world.peers[peer].key = Key::new(b"wrong").unwrap();
    world.send(peer, &NEW_SESS);
    world.inject(world.peers[peer].addr, b"no packet at all".to_vec());
    world.run(Duration::from_secs(10));
    assert!(world.sent.is_empty());
    assert_eq!(world.entries(), world.entries_at_start);
    let counters = world.node.status().endpoint;
    assert_eq!((counters.malformed, counters.forged > 0), (1, true));
}

#[test]
fn strangers_and_unknown_sessions_get_sess_inval_outside_the_stream_but_acks_get_silence() {
    let mut world = World::new();
    let peer = world.join(1);
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], 9));
    world.sent.clear();
    // From another address, by another user, and to a session that does not exist.
    let nop = Part::Only { xid: 77, op: Op::Nop };
    let packet = world.peers[peer].packet(nop, world.peers[peer].next, &[]);
    world.inject(elsewhere, packet);
    let other = world.add(1);
    world.peers[other].user = b"other".to_vec();
    world.peers[other].key = Key::new(b"other").unwrap();
    let packet = world.peers[other].packet(nop, 5, &[]);
    world.inject(world.peers[peer].addr, packet);
    let unknown = world.add(99);
    let packet = world.peers[unknown].packet(nop, 6, &[]);
    world.inject(elsewhere, packet);
    let stray = world.peers[unknown].packet(Part::Last, 6, b"piece");
    world.inject(elsewhere, stray);
    let ack = world.peers[unknown].ack(6);
    world.inject(elsewhere, ack);
    // Only the second would be for a client of ours, and it could not read it.
    world.deaf = true;
    world.run(Duration::from_millis(10));
    world.deaf = false;
    let numbers: Vec<u64> = world.sent_packets().iter().map(|packet| packet.number).collect();
    assert_eq!(numbers, [world.peers[peer].next, 5, 6]);
    for packet in world.sent_packets() {
        assert_eq!(packet.answer, Some((Op::Nop, 77, Code::SessInval)));
    }
    // The session itself is as it was.
    assert_eq!(world.code(peer, &Request::Nop), Code::Ok);
}

#[test]
fn results_outside_the_streams_are_limited() {
    let mut world = World::new();
    let peer = world.add(1);
    for number in 0..1000 {
        let packet = world.peers[peer].packet(Part::Only { xid: 1, op: Op::Nop }, number, &[]);
        world.inject(world.peers[peer].addr, packet);
        world.run(Duration::from_micros(100));
    }
    assert_eq!(world.sent.len(), 100);
    assert_eq!(world.node.status().endpoint.limits["refusals_per_second"], 900);
}

#[test]
fn requests_are_held_until_the_client_has_acknowledged_the_new_sess_reply() {
    let mut world = World::new();
    let peer = world.add(1);
    world.peers[peer].acks = false;
    world.send(peer, &NEW_SESS);
    world.run(Duration::from_millis(200));
    let mode = cldc_core::wire::OpenMode::CREATE;
    let xid = world.send(peer, &Request::Open { mode, events: EventMask::NONE, path: b"/held" });
    world.sent.clear();
    world.peers[peer].acks = true;
    world.run(Duration::from_millis(1));
    assert!(world.node.database().stat(b"/held").is_none());
    // The request brought the reply again at once, and so its acknowledgement.
    let first = world.sent_packets().remove(0);
    assert_eq!(first.op, Some(Op::NewSess));
    world.run(Duration::from_secs(6));
    assert_eq!(world.peers[peer].code(xid), Some(Code::Ok));
}

#[test]
fn a_session_that_is_never_proved_ends_with_its_lease() {
    let mut world = World::new();
    let peer = world.add(1);
    world.peers[peer].acks = false;
    world.send(peer, &NEW_SESS);
    world.run(Duration::from_millis(59_900));
    assert!(world.node.database().session(1).is_some());
    world.run(Duration::from_millis(200));
    world.peers[peer].forget_pending();
    assert!(world.node.database().session(1).is_none());
    assert_eq!(world.node.status().sessions, 0);
}

#[test]
fn a_repeated_new_sess_opens_nothing_and_another_one_gets_sess_exists() {
    let mut world = World::new();
    let peer = world.join(1);
    let entries = world.entries();
    let (addr, first) = world.recorded[0].clone();
    world.inject(addr, first);
    world.run(Duration::from_millis(10));
    assert_eq!(world.entries(), entries);
    let xid = world.send(peer, &NEW_SESS);
    world.run(Duration::from_millis(10));
    let number = world.peers[peer].next - 1;
    assert_eq!(world.peers[peer].one_shots, [(number, Op::NewSess, xid, Code::SessExists)]);
}

#[test]
fn a_client_that_answers_pings_keeps_its_session() {
    let mut world = World::new();
    world.join(1);
    world.run(Duration::from_secs(3600));
    assert!(world.node.database().session(1).is_some());
    // One PING in half a minute, no storm.
    assert!((110..=125).contains(&world.sent.len()), "{}", world.sent.len());
}

#[test]
fn a_silent_client_loses_its_lock_after_its_lease_and_not_before() {
    let mut world = World::new();
    let (dead, waiter) = (world.join(1), world.join(2));
    let held = world.open(dead, b"/lock", EventMask::NONE);
    let wanted = world.open(waiter, b"/lock", EventMask::NONE);
    assert_eq!(world.lock(dead, held), Code::Ok);
    assert_eq!(world.lock(waiter, wanted), Code::LockPending);
    world.peers[dead].dead = true;
    world.run(Duration::from_secs(59));
    assert!(world.peers[waiter].events().is_empty());
    world.run(Duration::from_secs(2));
    assert_eq!(world.peers[waiter].events(), [(wanted, EventMask::LOCKED)]);
    assert!(world.node.database().session(1).is_none());
}

#[test]
fn the_wall_clock_ends_no_lease_and_keeps_none() {
    let mut world = World::new();
    let (live, dead) = (world.join(1), world.join(2));
    world.peers[dead].dead = true;
    for wall in [world.wall + 3600, world.wall - 3600, 0, u64::MAX] {
        world.wall = wall;
        world.run(Duration::from_secs(10));
        assert_eq!(world.code(live, &Request::Nop), Code::Ok);
        assert!(world.node.database().session(2).is_some());
    }
    world.run(Duration::from_secs(25));
    assert!(world.node.database().session(2).is_none());
    assert!(world.node.database().session(1).is_some());
}

#[test]
fn repeated_packets_keep_no_session_alive() {
    let mut world = World::new();
    let peer = world.join(1);
    assert_eq!(world.code(peer, &Request::Nop), Code::Ok);
    world.peers[peer].dead = true;
    let recording = world.recorded.clone();
    for _ in 0..61 {
        for (addr, datagram) in recording.clone() {
            world.inject(addr, datagram);
        }
        world.run(Duration::from_secs(1));
    }
    // The recorded NEW_SESS has opened it once more, for whoever can prove to be there.
    assert_eq!(world.node.status().endpoint.expired, 1);
    assert!(world.node.database().session(1).unwrap().handles.is_empty());
}

#[test]
fn nothing_is_answered_once_an_expiry_is_proposed() {
    let mut world = World::new();
    let peer = world.join(1);
    world.peers[peer].dead = true;
    world.disk_latency = None;
    world.run(Duration::from_secs(61));
    world.sent.clear();
    world.peers[peer].dead = false;
    world.send(peer, &Request::Nop);
    world.run(Duration::from_secs(20));
    assert!(world.sent.is_empty());
    world.disk_latency = Some(Duration::from_millis(1));
    world.run(Duration::from_secs(1));
    assert!(world.node.database().session(1).is_none());
}

#[test]
fn end_sess_releases_locks_at_once_and_its_reply_is_sent_until_it_is_acknowledged() {
    let mut world = World::new();
    let (one, other) = (world.join(1), world.join(2));
    let held = world.open(one, b"/lock", EventMask::NONE);
    let wanted = world.open(other, b"/lock", EventMask::NONE);
    world.lock(one, held);
    world.lock(other, wanted);
    world.deaf = true;
    let xid = world.send(one, &Request::EndSess);
    world.run(Duration::from_millis(50));
    assert!(world.node.database().session(1).is_none());
    world.deaf = false;
    world.run(Duration::from_secs(3));
    assert_eq!(world.peers[one].code(xid), Some(Code::Ok));
    assert_eq!(world.peers[other].events(), [(wanted, EventMask::LOCKED)]);
    assert_eq!(world.node.status().sessions, 1);
    // What comes now is for a session that is none.
    let late = world.send(one, &Request::Nop);
    world.run(Duration::from_millis(10));
    assert_eq!(world.peers[one].one_shots.last().map(|shot| (shot.2, shot.3)), Some((late, Code::SessInval)));
    // And the same id may be used for a new session.
    world.peers[one].forget_pending();
    let again = world.send(one, &NEW_SESS);
    world.run(Duration::from_millis(50));
    assert_eq!(world.peers[one].code(again), Some(Code::Ok));
}

#[test]
fn the_reply_to_end_sess_is_given_up_after_a_while() {
    let mut world = World::new();
    let peer = world.join(1);
    world.peers[peer].acks = false;
    world.send(peer, &Request::EndSess);
    world.run(Duration::from_secs(29));
    assert_eq!(world.node.status().sessions, 1);
    world.run(Duration::from_secs(2));
    assert_eq!(world.node.status().sessions, 0);
    let sent = world.sent.len();
    world.run(Duration::from_secs(60));
    assert_eq!(world.sent.len(), sent);
}

#[test]
fn a_new_session_survives_heavy_loss() {
    for seed in 0..200 {
        let mut world = World::new();
        world.seed(seed);
        world.faults.loss = 30;
        let peer = world.add(1);
        world.send(peer, &NEW_SESS);
        // Its acknowledgement of the reply is lost more often than not.
        world.run(Duration::from_secs(40));
        let nop = world.send(peer, &Request::Nop);
        world.run(Duration::from_secs(60));
        assert_eq!(world.peers[peer].code(nop), Some(Code::Ok), "seed {seed}");
    }
}
