//! Sessions that go on from another address or after a restart (docs/protocol.md 7.4, 7.8): what was asked is executed
//! once, what stands is told, and nobody else and no recording can move a session.

use std::net::SocketAddr;

use cldc_core::time::Duration;
use cldc_core::wire::extended::{Standing, Stands};
use cldc_core::wire::{Code, EventMask, LockFlags, Op, Packet, Part, Request};

use crate::extended_peer::Extended;
use crate::world::World;

const LOCK: LockFlags = LockFlags::NONE;

fn version(world: &World) -> u64 {
    world.node.database().stat(b"/f").map_or(0, |meta| meta.version)
}

fn replies(world: &World) -> usize {
    world.node.database().session(1).unwrap().replies.len()
}

/// A session with an open file, that writes so often without hearing of it.
fn with_writes(count: u8) -> (World, usize, u64, Vec<u64>) {
    let mut world = World::new();
    let peer = world.extend(1);
    let fh = world.handle(peer, b"/f", EventMask::NONE);
    world.deaf = true;
    let puts = (0..count).map(|at| world.ask(peer, &Request::Put { fh, data: &[at] })).collect();
    (world, peer, fh, puts)
}

/// The same, when the first write is durable, and the others are on their way through the log together.
fn with_writes_in_the_log(count: u8) -> (World, usize, u64, Vec<u64>) {
    let mut world = World::new();
    let peer = world.extend(1);
    let fh = world.handle(peer, b"/f", EventMask::NONE);
    world.disk_latency = Some(Duration::from_millis(5));
    world.deaf = true;
    let puts = (0..count).map(|at| world.ask(peer, &Request::Put { fh, data: &[at] })).collect();
    world.run(Duration::from_millis(6));
    world.disk_latency = None;
    world.run(Duration::from_millis(10));
    assert_eq!(version(&world), 2);
    world.deaf = false;
    (world, peer, fh, puts)
}

fn assert_answered_once(world: &World, peer: usize, xids: &[u64]) {
    for &xid in xids {
        let codes: Vec<Code> = world.extended[peer].answers(xid).iter().map(|said| said.code).collect();
        assert_eq!(codes, [Code::Ok], "{xid}");
    }
}

#[test]
fn a_session_goes_on_from_another_address_and_requests_in_flight_are_executed_once() {
    let (mut world, peer, fh, puts) = with_writes(10);
    world.run(Duration::from_millis(20));
    assert_eq!(version(&world), 11);
    let entries = world.entries();
    world.deaf = false;
    world.extended[peer].addr.set_port(30_000);
    world.resume(peer);
    assert_eq!((world.extended[peer].resumed, world.extended[peer].challenges), (1, 1));
    world.run(Duration::from_millis(50));
    assert_answered_once(&world, peer, &puts);
    // Neither the resume nor the recorded answers cost the log anything.
    assert_eq!((version(&world), world.entries()), (11, entries));
    assert_eq!(world.says(peer, &Request::Put { fh, data: b"x" }), Code::Ok);
    assert_eq!(world.node.status().endpoint.resumed, 1);
}

#[test]
fn a_session_goes_on_after_a_restart_and_its_requests_are_executed_once() {
    for durable in [true, false] {
        let (mut world, peer, fh, puts) = with_writes(10);
        if durable {
            world.run(Duration::from_millis(20));
        } else {
            world.disk_latency = None;
            world.run(Duration::from_millis(20));
        }
        world.crash();
        world.disk_latency = Some(Duration::from_millis(1));
        world.deaf = false;
        world.run(Duration::from_millis(20));
        assert_eq!(version(&world), if durable { 11 } else { 1 });
        world.resume(peer);
        assert_eq!(world.extended[peer].welcome.as_ref().unwrap().epoch, 2);
        world.run(Duration::from_millis(50));
        assert_answered_once(&world, peer, &puts);
        assert_eq!(version(&world), 11);
        assert_eq!(world.says(peer, &Request::Put { fh, data: b"x" }), Code::Ok);
        assert_eq!(version(&world), 12);
    }
}

#[test]
fn a_recorded_answer_is_the_same_as_the_first_one() {
    let mut world = World::new();
    let peer = world.extend(1);
    let mode = cldc_core::wire::OpenMode::CREATE | cldc_core::wire::OpenMode::LOCK;
    let open = Request::Open { mode, events: EventMask::NONE, path: b"/f" };
    let requests = [open, Request::Lock { fh: 2, flags: LOCK, wait: true }, Request::Close { fh: 77 }];
    let lost: Vec<u64> = (0..3).map(|at| world.extended[peer].expected.unwrap() + at).collect();
    let xids: Vec<u64> = requests.iter().map(|request| world.ask(peer, request)).collect();
    // The first of them is lost, so that it has none; the server sends all of them.
    world.extended[peer].misses = lost.clone();
    world.sent.clear();
    world.run(Duration::from_millis(10));
    let first: Vec<Vec<u8>> = (world.sent.iter())
        .filter_map(|(_, _, datagram)| {
            Packet::parse(datagram).ok().filter(|packet| lost.contains(&packet.number))
        })
        .map(|packet| packet.piece.to_vec())
        .collect();
    world.crash();
    world.run(Duration::from_millis(10));
    world.resume(peer);
    world.run(Duration::from_millis(10));
    let again: Vec<Vec<u8>> =
        xids.iter().map(|&xid| world.extended[peer].answers(xid)[0].body.clone()).collect();
    assert_eq!((first.len(), again), (3, first));
}

#[test]
fn commands_on_their_way_through_the_log_when_the_session_moves_are_answered_once() {
    // The log is done before, or after the client has sent them again, or both streams' commands are in it.
    for (before, after) in [(true, false), (false, true), (false, false)] {
        let (mut world, peer, fh, puts) = with_writes_in_the_log(5);
        let number = 1 << 40;
        let resume = world.extended[peer].resume(number);
        world.inject(world.extended[peer].addr, resume);
        world.run(Duration::from_micros(1));
        if before {
            world.disk_latency = Some(Duration::from_micros(1));
        }
        world.run(Duration::from_millis(20));
        assert_eq!(world.extended[peer].resumed, 1);
        assert_eq!(version(&world) > 2, before);
        if after {
            world.run(Duration::from_secs(2));
        }
        world.disk_latency = Some(Duration::from_millis(5));
        world.run(Duration::from_millis(100));
        assert_answered_once(&world, peer, &puts);
        assert_eq!(version(&world), 6);
        // The session is not stuck, and its table is emptied in time.
        assert_eq!(world.says(peer, &Request::Put { fh, data: b"x" }), Code::Ok);
        assert_eq!(world.says(peer, &Request::Put { fh, data: b"x" }), Code::Ok);
        assert_eq!((version(&world), replies(&world)), (8, 1));
    }
}

#[test]
fn the_answer_to_a_command_that_nobody_waits_for_any_more_does_not_stay_in_the_table() {
    let (mut world, peer, fh, puts) = with_writes_in_the_log(5);
    // The client has lost interest in them, and says so by the oldest that it waits for.
    world.extended[peer].pending.clear();
    world.resume(peer);
    world.disk_latency = Some(Duration::from_millis(1));
    world.run(Duration::from_millis(50));
    assert_eq!((version(&world), replies(&world)), (6, 5));
    assert!(puts.iter().all(|&put| world.extended[peer].answers(put).is_empty()));
    assert_eq!(world.says(peer, &Request::Put { fh, data: b"x" }), Code::Ok);
    assert_eq!(replies(&world), 1);
}

#[test]
fn the_table_of_replies_is_pruned_by_acknowledgements_and_by_the_oldest_request() {
    let (mut world, peer, fh, puts) = with_writes(20);
    world.run(Duration::from_millis(20));
    // Those of OPEN and of all writes.
    assert_eq!(replies(&world), 20);
    world.crash();
    world.deaf = false;
    world.run(Duration::from_millis(20));
    for put in &puts[..15] {
        world.extended[peer].pending.remove(put);
    }
    world.resume(peer);
    world.run(Duration::from_millis(50));
    assert_answered_once(&world, peer, &puts[15..]);
    // Nothing was written only to prune.
    assert_eq!(replies(&world), 20);
    world.says(peer, &Request::Put { fh, data: b"x" });
    assert_eq!(replies(&world), 1);
}

#[test]
fn handles_and_locks_that_stand_are_told() {
    let mut world = World::new();
    let (one, other) = (world.extend(1), world.extend(2));
    let handles = [b"/a", b"/b", b"/c"].map(|path| world.handle(one, path, EventMask::NONE));
    let rival = world.handle(other, b"/b", EventMask::NONE);
    world.says(other, &Request::Lock { fh: rival, flags: LOCK, wait: true });
    world.says(one, &Request::Lock { fh: handles[0], flags: LOCK, wait: true });
    let wait = Request::Lock { fh: handles[1], flags: LOCK, wait: true };
    assert_eq!(world.says(one, &wait), Code::LockPending);
    let expected = [Standing::Held, Standing::Waiting, Standing::Free];
    let expected: Vec<Stands> = handles.iter().zip(expected).map(|(&fh, lock)| Stands { fh, lock }).collect();
    for crash in [false, true] {
        if crash {
            world.crash();
            world.run(Duration::from_millis(50));
        }
        world.resume(one);
        assert_eq!(world.extended[one].stands, expected);
    }
}

#[test]
fn a_long_list_of_handles_takes_several_packets() {
    let mut world = World::new();
    let peer = world.extend(1);
    for _ in 0..300 {
        world.ask(
            peer,
            &Request::Open { mode: cldc_core::wire::OpenMode::CREATE, events: EventMask::NONE, path: b"/f" },
        );
        world.run(Duration::from_millis(5));
    }
    world.faults.loss = 30;
    world.resume(peer);
    world.run(Duration::from_secs(10));
    assert_eq!((world.extended[peer].stands.len(), world.extended[peer].resumed), (300, 1));
    world.faults.loss = 0;
    // A client that cannot take it in is told so, and nothing has changed.
    world.extended[peer].hello.max_message = 2000;
    world.resume(peer);
    assert_eq!(world.extended[peer].outside.last().unwrap().3, Code::TooLarge);
    assert_eq!(world.node.status().endpoint.resumed, 1);
}

#[test]
fn the_same_resume_again_gets_its_answer_again_and_moves_nothing() {
    let mut world = World::new();
    let peer = world.extend(1);
    let addr = world.extended[peer].addr;
    let first = world.extended[peer].resume(4000);
    world.inject(addr, first.clone());
    world.deaf = true;
    world.run(Duration::from_millis(5));
    let challenge = world.sent.last().unwrap().2.clone();
    world.deaf = false;
    // Its answer is lost.
    let resume = world.extended[peer].receive(&challenge).remove(0);
    world.deaf = true;
    world.inject(addr, resume.clone());
    world.run(Duration::from_millis(150));
    world.deaf = false;
    world.sent.clear();
    world.inject(addr, resume.clone());
    world.run(Duration::from_millis(20));
    assert_eq!((world.extended[peer].resumed, world.node.status().endpoint.resumed), (1, 1));
    // Once it is acknowledged, both say nothing any more.
    world.sent.clear();
    for packet in [&first, &resume] {
        world.inject(addr, packet.clone());
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.sent.len(), 0);
    assert_eq!(world.says(peer, &Request::Nop), Code::Ok);
}

#[test]
fn a_wrong_cookie_moves_nothing_and_gets_a_challenge() {
    let mut world = World::new();
    let peer = world.extend(1);
    let here = world.extended[peer].addr;
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], 9));
    // The cookie is for this number and this address.
    let packet = world.extended[peer].resume(4000);
    world.inject(here, packet);
    world.deaf = true;
    world.run(Duration::from_millis(5));
    world.deaf = false;
    let challenge = world.sent.last().unwrap().2.clone();
    let cookie = cldc_core::wire::extended::challenge(Packet::parse(&challenge).unwrap().piece).unwrap();
    world.extended[peer].resuming = None;
    world.sent.clear();
    for (from, number, cookie) in
        [(here, 4000, cookie ^ 1), (here, 4001, cookie), (elsewhere, 4000, cookie), (here, 4000, 0)]
    {
        let packet = world.extended[peer].resume_packet(number, cookie);
        world.inject(from, packet);
    }
    world.run(Duration::from_millis(50));
    assert_eq!((world.sent.len(), world.node.status().endpoint.resumed), (4, 0));
    assert_eq!(world.node.status().endpoint.challenges, 5);
    assert_eq!(world.says(peer, &Request::Nop), Code::Ok);
    // After a restart of the server, and for another session with the same id, it is worth nothing either.
    let right = world.extended[peer].resume_packet(4000, cookie);
    world.crash();
    world.run(Duration::from_millis(50));
    world.inject(here, right.clone());
    world.run(Duration::from_millis(50));
    assert_eq!(world.node.status().endpoint.resumed, 0);
    world.resume(peer);
    world.inject(here, right);
    world.run(Duration::from_millis(50));
    assert_eq!(world.node.status().endpoint.resumed, 1);
}

#[test]
fn a_cookie_of_a_session_that_ended_is_worth_nothing_for_the_next_one_with_its_id() {
    let mut world = World::new();
    let peer = world.extend(1);
    let here = world.extended[peer].addr;
    world.resume(peer);
    let recorded = world.recorded.clone();
    assert_eq!(world.says(peer, &Request::EndSess), Code::Ok);
    world.run(Duration::from_secs(1));
    world.extended[peer].dead = true;
    assert_eq!(world.node.status().sessions, 0);
    for (_, datagram) in recorded {
        world.inject(here, datagram);
        world.run(Duration::from_millis(20));
    }
    // The NEW_SESS has opened it again, but nobody can use it.
    assert_eq!((world.node.status().sessions, world.node.status().endpoint.resumed), (1, 1));
}

#[test]
fn nobody_else_can_resume_a_session() {
    let mut world = World::new();
    let peer = world.extend(1);
    let plain = world.join(50);
    let mut stranger = Extended::new(1, "other", 20_500);
    let mut unknown = Extended::new(77, "tester", 20_501);
    let mut hails = Extended::new(50, "tester", 20_502);
    hails.addr = world.peers[plain].addr;
    world.deaf = true;
    for client in [&mut stranger, &mut unknown, &mut hails] {
        world.sent.clear();
        let packet = client.resume(33);
        world.inject(client.addr, packet);
        world.run(Duration::from_millis(20));
        let (_, to, datagram) = world.sent.last().unwrap().clone();
        assert_eq!((to, world.sent.len()), (client.addr, 1));
        client.receive(&datagram);
        assert_eq!(client.outside, [(33, Op::Resume, 33 ^ 0x5555, Code::SessInval)]);
    }
    world.deaf = false;
    assert_eq!(world.node.status().endpoint.resumed, 0);
    assert_eq!(world.says(peer, &Request::Nop), Code::Ok);
}

#[test]
fn packets_from_elsewhere_or_after_a_restart_get_a_hint_that_is_not_longer() {
    let mut world = World::new();
    let peer = world.extend(1);
    let fh = world.handle(peer, b"/f", EventMask::NONE);
    world.extended[peer].tick_at = None;
    for crash in [false, true] {
        if crash {
            world.crash();
            world.run(Duration::from_millis(50));
        } else {
            world.extended[peer].addr.set_port(30_000);
        }
        let addr = world.extended[peer].addr;
        let (number, _) = (world.extended[peer].next, world.extended[peer].hints.clear());
        let (xid, packets) = world.extended[peer].request(&Request::Put { fh, data: &[1; 2000] });
        let ack = world.extended[peer].loose_ack();
        let keepalive = world.extended[peer].keepalive(5, 6);
        let short = world.extended[peer].emit(world.extended[peer].rider(false), Part::Last, 9, b"x");
        world.sent.clear();
        let mut bytes = 0;
        for packet in packets.iter().chain([&ack, &keepalive, &short]) {
            bytes += packet.len();
            world.inject(addr, packet.clone());
        }
        world.run(Duration::from_millis(50));
        // The first piece, the other one, and the NOP; an acknowledgement and what is too short get nothing.
        assert_eq!(world.extended[peer].hints, [(number, xid), (number + 1, 0), (5, 6)]);
        assert!(world.sent.iter().map(|(_, _, datagram)| datagram.len()).sum::<usize>() < bytes);
        assert_eq!(version(&world), 1);
        world.extended[peer].pending.clear();
        world.resume(peer);
    }
    assert_eq!(world.extended[peer].resumed, 2);
}

#[test]
fn after_a_restart_a_client_for_whom_events_wait_is_given_a_few_hints_unasked() {
    let mut world = World::new();
    let (writer, reader) = (world.extend(1), world.extend(2));
    let idle = world.extend(3);
    let fh = world.handle(writer, b"/f", EventMask::NONE);
    let watched = world.handle(reader, b"/f", EventMask::UPDATED);
    world.handle(idle, b"/f", EventMask::NONE);
    world.extended[reader].dead = true;
    world.says(writer, &Request::Put { fh, data: b"x" });
    world.crash();
    world.extended[reader].dead = false;
    world.extended[reader].tick_at = None;
    world.run(Duration::from_secs(60));
    let hints = &world.extended[reader].hints;
    assert_eq!(hints.len(), 4);
    assert!(hints.iter().all(|&hint| hint == (0, 0)));
    assert!(world.extended[idle].hints.is_empty());
    world.resume(reader);
    let event = world.extended[reader].events[0].clone();
    assert_eq!((event.fh, event.serial, event.version), (watched, 1, 2));
}

#[test]
fn an_event_after_a_restart_brings_a_hint_to_whom_it_is_for() {
    let mut world = World::new();
    let (writer, reader) = (world.extend(1), world.extend(2));
    let fh = world.handle(writer, b"/f", EventMask::NONE);
    world.handle(reader, b"/f", EventMask::UPDATED);
    world.crash();
    world.run(Duration::from_secs(1));
    world.resume(writer);
    assert!(world.extended[reader].hints.is_empty());
    assert_eq!(world.says(writer, &Request::Put { fh, data: b"x" }), Code::Ok);
    assert_eq!(world.extended[reader].hints.len(), 1);
}

#[test]
fn events_come_once_and_in_order_across_resumes() {
    let mut world = World::new();
    let (writer, reader) = (world.extend(1), world.extend(2));
    let fh = world.handle(writer, b"/f", EventMask::NONE);
    let watched = world.handle(reader, b"/f", EventMask::UPDATED | EventMask::DELETED);
    let put = Request::Put { fh, data: b"x" };
    world.says(writer, &put);
    world.says(writer, &put);
    assert_eq!(world.extended[reader].events.len(), 2);
    // What it has acknowledged does not come again, though the log does not know that yet.
    world.resume(reader);
    assert_eq!(world.extended[reader].events.len(), 2);
    world.extended[reader].dead = true;
    world.says(writer, &put);
    world.says(writer, &put);
    world.says(writer, &Request::Del { path: b"/f" });
    world.extended[reader].dead = false;
    world.resume(reader);
    world.run(Duration::from_secs(5));
    let events: Vec<_> =
        world.extended[reader].events.iter().map(|event| (event.fh, event.serial, event.version)).collect();
    assert_eq!(
        events,
        [1, 2, 3, 4]
            .map(|serial| (watched, serial, serial + 1))
            .into_iter()
            .chain([(watched, 5, 5)])
            .collect::<Vec<_>>()
    );
}

#[test]
fn an_end_of_the_session_that_is_on_its_way_when_it_moves_is_told() {
    let mut world = World::new();
    let peer = world.extend(1);
    world.deaf = true;
    world.disk_latency = None;
    let xid = world.ask(peer, &Request::EndSess);
    world.run(Duration::from_millis(10));
    world.deaf = false;
    world.resume(peer);
    assert_eq!(world.extended[peer].resumed, 1);
    world.disk_latency = Some(Duration::from_millis(1));
    world.run(Duration::from_secs(1));
    assert!(world.node.database().session(1).is_none());
    assert_eq!(world.extended[peer].answers(xid)[0].code, Code::Ok);
    world.run(Duration::from_secs(31));
    assert_eq!(world.node.status().sessions, 0);
}

#[test]
fn a_new_sess_that_was_never_answered_is_answered_after_a_restart_but_not_once_it_was_used() {
    let mut world = World::new();
    let peer = world.add_extended(1);
    world.deaf = true;
    world.greet(peer);
    world.crash();
    world.deaf = false;
    world.run(Duration::from_secs(1));
    assert!(world.extended[peer].welcome.is_some());
    world.handle(peer, b"/f", EventMask::NONE);
    // The recording of it gets nothing any more, whatever the server remembers.
    let (addr, recorded) = world.recorded[0].clone();
    for crash in [false, true] {
        if crash {
            world.crash();
            world.run(Duration::from_millis(50));
        }
        world.sent.clear();
        world.inject(addr, recorded.clone());
        world.run(Duration::from_secs(1));
        assert_eq!(world.sent.len(), 0);
    }
}

#[test]
fn recorded_conversations_execute_nothing_move_nothing_and_bring_nothing_long() {
    let mut world = World::new();
    let peer = world.extend(1);
    let here = world.extended[peer].addr;
    let fh = world.handle(peer, b"/f", EventMask::UPDATED);
    world.says(peer, &Request::Put { fh, data: &[1; 3000] });
    world.says(peer, &Request::Get { fh });
    let keepalive = world.extended[peer].keepalive(3, 9);
    world.inject(here, keepalive);
    world.run(Duration::from_millis(20));
    world.resume(peer);
    world.resume(peer);
    world.says(peer, &Request::Put { fh, data: &[2; 3000] });
    world.says(peer, &Request::Get { fh });
    let recorded = world.recorded.clone();
    world.extended[peer].dead = true;
    let begin = world.now;
    let mut crashed = false;
    // In this life of the server and in the next one, from there and from elsewhere.
    for from in [here, SocketAddr::from(([127, 0, 0, 1], 9))] {
        for crash in [false, true] {
            if crash {
                crashed = true;
                world.crash();
                world.run(Duration::from_millis(50));
            }
            let digest = world.node.database().digest();
            for (_, packet) in &recorded {
                world.sent.clear();
                world.inject(from, packet.clone());
                world.run(Duration::from_millis(20));
                let bytes: usize = world.sent.iter().map(|(_, _, datagram)| datagram.len()).sum();
                assert!(bytes <= packet.len(), "{bytes} bytes for {:?}", Packet::parse(packet));
            }
            assert_eq!(world.node.database().digest(), digest);
            assert_eq!(world.node.status().endpoint.resumed, if crashed { 0 } else { 2 });
        }
    }
    // They keep nothing alive: two restarts have given it time, and nothing else.
    let mut at = 0;
    while world.node.database().session(1).is_some() && at < 2000 {
        world.inject(here, recorded[at % recorded.len()].1.clone());
        world.run(Duration::from_millis(100));
        at += 1;
    }
    assert!(world.now.since(begin) <= Duration::from_secs(30 + 45 + 5), "{:?}", world.now.since(begin));
}

#[test]
fn a_recorded_new_sess_makes_a_session_that_says_no_more_than_it_was_asked() {
    let mut world = World::new();
    let peer = world.add_extended(1);
    world.extended[peer].dead = true;
    let packet = world.extended[peer].new_sess();
    let addr = world.extended[peer].addr;
    for count in 1..=100 {
        world.inject(addr, packet.clone());
        world.run(Duration::from_millis(17));
        let bytes: usize = world.sent.iter().map(|(_, _, datagram)| datagram.len()).sum();
        assert!(bytes <= count * packet.len());
    }
    world.sent.clear();
    world.run(Duration::from_secs(31));
    assert_eq!((world.sent.len(), world.node.status().sessions), (0, 0));
}

#[test]
fn challenges_are_limited_apart_from_other_results() {
    let mut world = World::new();
    let peer = world.extend(1);
    let nobody = world.add_extended(2);
    world.extended[nobody].expected = Some(1);
    for number in 0..300 {
        let packet = world.extended[nobody].keepalive(number, 1);
        world.inject(SocketAddr::from(([127, 0, 0, 1], 9)), packet);
    }
    world.run(Duration::from_millis(1));
    assert_eq!(world.node.status().endpoint.refusals, 100);
    // Who has a session can resume it all the same.
    world.resume(peer);
    assert_eq!(world.extended[peer].resumed, 1);
    world.run(Duration::from_secs(1));
    world.extended[peer].resuming = None;
    for number in 0..3000 {
        let packet = world.extended[peer].resume_packet(number, 0);
        world.inject(SocketAddr::from(([127, 0, 0, 1], 9)), packet);
    }
    world.run(Duration::from_millis(1));
    assert_eq!(world.node.status().endpoint.limits["challenges_per_second"], 1000);
}

#[test]
fn every_request_takes_effect_once_whatever_the_network_the_client_and_the_server_do() {
    for seed in 0..12 {
        let mut world = World::new();
        let peer = world.extend(1);
        let fh = world.handle(peer, b"/f", EventMask::NONE);
        world.seed(seed);
        world.faults.loss = 15;
        world.faults.duplicates = 10;
        world.faults.delay = Duration::from_millis(30);
        let mut puts = Vec::new();
        for _ in 0..400 {
            if world.extended[peer].pending.len() < 64 && world.extended[peer].resuming.is_none() {
                puts.push(world.ask(peer, &Request::Put { fh, data: b"x" }));
            }
            let pause = world.random(40);
            world.run(Duration::from_millis(pause));
            match world.random(40) {
                0 => world.crash(),
                1 => world.extended[peer].addr.set_port(30_000 + u16::try_from(puts.len()).unwrap()),
                2 => world.resume(peer),
                _ if !world.extended[peer].hints.is_empty() => world.resume(peer),
                _ => {}
            }
            if world.extended[peer].resuming.is_none() {
                world.extended[peer].hints.clear();
            }
        }
        world.faults = Default::default();
        world.run(Duration::from_secs(2));
        world.resume(peer);
        world.run(Duration::from_secs(10));
        assert!(world.extended[peer].pending.is_empty(), "seed {seed}");
        assert_answered_once(&world, peer, &puts);
        assert_eq!(version(&world), 1 + puts.len() as u64, "seed {seed}");
    }
}
