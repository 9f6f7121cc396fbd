//! The streams of extended sessions: many requests at a time, acknowledgements, events (docs/protocol.md 7.2, 7.7).

use cldc_core::time::Duration;
use cldc_core::wire::{Ack, Code, EventMask, LockFlags, Request};

use crate::extended_peer::Event;
use crate::world::{Faults, World};

fn version(world: &World) -> u64 {
    world.node.database().stat(b"/f").unwrap().version
}

#[test]
fn sixty_four_requests_at_once_are_answered_in_order_with_few_log_entries() {
    let mut world = World::new();
    let peer = world.extend(1);
    let fh = world.handle(peer, b"/f", EventMask::NONE);
    let entries = world.entries();
    let begin = world.now;
    let xids: Vec<u64> = (0..64u8).map(|at| world.ask(peer, &Request::Put { fh, data: &[at] })).collect();
    world.run(Duration::from_millis(40));
    let answered: Vec<u64> = world.extended[peer].said.iter().map(|said| said.xid).collect();
    assert!(answered.ends_with(&xids));
    assert_eq!(version(&world), 65);
    assert!(world.entries() - entries <= 4, "{}", world.entries() - entries);
    assert!(world.now.since(begin) < Duration::from_millis(50));
}

#[test]
fn requests_are_taken_while_sixty_four_answers_wait_and_refused_when_there_is_no_room() {
    let mut world = World::new();
    let peer = world.extend(1);
    let fh = world.handle(peer, b"/f", EventMask::NONE);
    // It hears nothing, and so acknowledges nothing.
    world.extended[peer].claims = Some(world.extended[peer].ack());
    world.deaf = true;
    let mut xids: Vec<u64> = (0..64).map(|_| world.ask(peer, &Request::Put { fh, data: b"x" })).collect();
    world.run(Duration::from_millis(50));
    assert_eq!(version(&world), 65);
    xids.extend((0..64).map(|_| world.ask(peer, &Request::Put { fh, data: b"y" })));
    world.run(Duration::from_millis(50));
    // The table of replies is full: they are taken, and wait. After so many, no more are taken.
    assert_eq!(version(&world), 65);
    assert_eq!(world.node.status().endpoint.requests, 1 + 128);
    xids.extend((0..64).map(|_| world.ask(peer, &Request::Get { fh })));
    world.run(Duration::from_millis(50));
    assert_eq!(world.node.status().endpoint.requests, 1 + 160);
    assert!(world.node.status().endpoint.limits["messages_per_session"] >= 32);
    world.deaf = false;
    world.extended[peer].claims = None;
    world.run(Duration::from_secs(5));
    let said: Vec<u64> = world.extended[peer].said.iter().map(|said| said.xid).skip(1).collect();
    assert_eq!(said, xids);
    assert_eq!(version(&world), 129);
}

#[test]
fn a_lost_answer_is_repeated_alone() {
    let mut world = World::new();
    let peer = world.extend(1);
    let fh = world.handle(peer, b"/f", EventMask::NONE);
    let lost = world.extended[peer].expected.unwrap() + 2;
    world.extended[peer].misses.push(lost);
    world.extended[peer].arrived.clear();
    let xids: Vec<u64> = (0..8).map(|_| world.ask(peer, &Request::Get { fh })).collect();
    world.sent.clear();
    world.run(Duration::from_millis(30));
    // Three later ones were acknowledged, so that no timer was needed.
    let numbers: Vec<u64> = world.extended[peer].arrived.clone();
    let first = lost - 2;
    assert_eq!(numbers, [0, 1, 3, 4, 5, 6, 7, 2].map(|at| first + at));
    assert!(xids.iter().all(|&xid| world.extended[peer].answers(xid).len() == 1));
    world.run(Duration::from_secs(2));
    assert_eq!(world.extended[peer].arrived.len(), 8);
}

#[test]
fn each_packet_of_the_server_says_what_it_has_and_silence_is_broken_by_an_acknowledgement() {
    let mut world = World::new();
    let peer = world.extend(1);
    let fh = world.handle(peer, b"/f", EventMask::NONE);
    // The disk is slow: no answer can carry the acknowledgement.
    world.disk_latency = None;
    world.ask(peer, &Request::Put { fh, data: b"x" });
    world.sent.clear();
    world.run(Duration::from_millis(9));
    assert_eq!(world.sent.len(), 0);
    world.run(Duration::from_millis(2));
    assert_eq!(world.sent.len(), 1);
    assert!(world.extended[peer].unacknowledged.is_empty());
    // Four at a time, or one out of order, are acknowledged at once.
    for _ in 0..4 {
        world.ask(peer, &Request::Put { fh, data: b"x" });
    }
    world.run(Duration::from_millis(1));
    assert!(world.extended[peer].unacknowledged.is_empty());
    world.extended[peer].request(&Request::Put { fh, data: b"missing" });
    world.ask(peer, &Request::Put { fh, data: b"early" });
    world.run(Duration::from_millis(1));
    assert_eq!(world.extended[peer].unacknowledged.len(), 1);
}

#[test]
fn a_packet_with_an_acknowledgement_of_another_stream_is_dropped() {
    let mut world = World::new();
    let peer = world.extend(1);
    let fh = world.handle(peer, b"/f", EventMask::NONE);
    let Ack { next, .. } = world.extended[peer].ack();
    // It repeats nothing of itself.
    world.extended[peer].dead = true;
    let foreign = |world: &World| world.node.status().endpoint.foreign;
    for (count, claims) in (1..).zip([
        // Before the stream, beyond it, a number that was not sent, somewhere else.
        Ack { next: next - 3, held: 0 },
        Ack { next: next + 1, held: 0 },
        Ack { next, held: 1 << 63 },
        Ack { next: next ^ (1 << 40), held: 0 },
    ]) {
        world.extended[peer].claims = Some(claims);
        let (_, packets) = world.extended[peer].request(&Request::Put { fh, data: b"x" });
        world.extended[peer].next -= 1;
        world.sent.clear();
        world.inject(world.extended[peer].addr, packets[0].clone());
        let keepalive = world.extended[peer].keepalive(900, 1);
        world.inject(world.extended[peer].addr, keepalive);
        world.run(Duration::from_millis(50));
        assert_eq!(foreign(&world), 2 * count, "{claims:?}");
        assert_eq!((version(&world), world.sent.len()), (1, 0));
    }
    // And so is one without any.
    let packet = world.peer_packet(peer, &Request::Put { fh, data: b"x" });
    world.inject(world.extended[peer].addr, packet);
    world.run(Duration::from_millis(50));
    assert_eq!((version(&world), foreign(&world)), (1, 9));
}

#[test]
fn requests_wait_until_the_greeting_is_acknowledged_and_the_greeting_until_it_is_asked_for() {
    let mut world = World::new();
    let peer = world.add_extended(1);
    world.extended[peer].acks = false;
    world.greet(peer);
    let Ack { next, .. } = world.extended[peer].ack();
    world.sent.clear();
    world.run(Duration::from_secs(10));
    assert_eq!(world.sent.len(), 0);
    // It knows the number, but does not say that it has the greeting.
    world.extended[peer].claims = Some(Ack { next: next - 1, held: 0 });
    let xid = world.ask(peer, &Request::Nop);
    world.run(Duration::from_millis(100));
    assert_eq!(world.sent.len(), 0);
    let again = world.extended[peer].new_sess();
    world.inject(world.extended[peer].addr, again);
    world.run(Duration::from_millis(50));
    assert_eq!(world.sent.len(), 1);
    // Any packet that acknowledges the greeting proves the client.
    world.extended[peer].claims = None;
    world.run(Duration::from_millis(400));
    assert_eq!(world.extended[peer].answers(xid).len(), 1);
}

#[test]
fn events_come_once_and_in_order_with_what_happened() {
    let mut world = World::new();
    let (writer, reader) = (world.extend(1), world.extend(2));
    let fh = world.handle(writer, b"/f", EventMask::NONE);
    let watched = world.handle(reader, b"/f", EventMask::UPDATED | EventMask::DELETED);
    world.faults = Faults { loss: 30, duplicates: 20, delay: Duration::from_millis(20) };
    for _ in 0..20 {
        world.ask(writer, &Request::Put { fh, data: b"x" });
        world.run(Duration::from_secs(1));
    }
    world.ask(writer, &Request::Del { path: b"/f" });
    world.run(Duration::from_secs(20));
    let mut expected: Vec<Event> = (1..=20)
        .map(|at| Event {
            fh: watched,
            events: EventMask::UPDATED,
            serial: at,
            version: at + 1,
            granted: None,
        })
        .collect();
    let deleted = EventMask::DELETED;
    expected.push(Event { fh: watched, events: deleted, serial: 21, version: 21, granted: None });
    assert_eq!(world.extended[reader].events, expected);
}

#[test]
fn events_for_a_client_that_does_not_acknowledge_are_merged_with_the_last_version() {
    let mut world = World::new();
    let (writer, reader) = (world.extend(1), world.extend(2));
    let fh = world.handle(writer, b"/f", EventMask::NONE);
    let watched = world.handle(reader, b"/f", EventMask::UPDATED);
    let claims = world.extended[reader].ack();
    world.extended[reader].claims = Some(claims);
    world.extended[reader].dead = true;
    for _ in 0..100 {
        assert_eq!(world.says(writer, &Request::Put { fh, data: b"x" }), Code::Ok);
    }
    world.extended[reader].dead = false;
    world.extended[reader].claims = None;
    world.run(Duration::from_secs(10));
    let events = &world.extended[reader].events;
    assert_eq!(events.len(), 33);
    let last = events.last().unwrap();
    assert_eq!((last.fh, last.serial, last.version), (watched, 100, 101));
}

#[test]
fn a_grant_is_told_with_its_sequencer_and_locks_need_not_wait_for_events() {
    let mut world = World::new();
    let (one, other) = (world.extend(1), world.extend(2));
    let held = world.handle(one, b"/lock", EventMask::NONE);
    let wanted = world.handle(other, b"/lock", EventMask::NONE);
    let lock = |fh| Request::Lock { fh, flags: LockFlags::NONE, wait: true };
    world.says(one, &lock(held));
    assert_eq!(world.says(other, &lock(wanted)), Code::LockPending);
    world.extended[other].dead = true;
    world.says(one, &Request::Unlock { fh: held });
    // The event is not acknowledged yet, and the lock is given back and asked for again.
    world.extended[other].dead = false;
    let unlocked = world.ask(other, &Request::Unlock { fh: wanted });
    let again = world.ask(other, &lock(wanted));
    world.run(Duration::from_millis(30));
    assert_eq!(world.node.database().sequencer(2, wanted).unwrap().generation, 3);
    world.run(Duration::from_secs(2));
    let events = &world.extended[other].events;
    assert_eq!((events.len(), events[0].granted.as_ref().unwrap().generation), (1, 2));
    assert_eq!(world.extended[other].answers(unlocked)[0].code, Code::Ok);
    assert_eq!(world.extended[other].answers(again)[0].code, Code::Ok);
}

#[test]
fn a_held_packet_that_comes_again_renews_nothing() {
    let mut world = World::new();
    let peer = world.extend(1);
    let addr = world.extended[peer].addr;
    world.extended[peer].request(&Request::Nop);
    let (_, packets) = world.extended[peer].request(&Request::Nop);
    world.extended[peer].dead = true;
    let begin = world.now;
    while world.node.database().session(1).is_some() && world.now.since(begin) < Duration::from_secs(60) {
        world.inject(addr, packets[0].clone());
        world.run(Duration::from_secs(1));
    }
    assert!(world.now.since(begin) <= Duration::from_secs(31));
}

#[test]
fn long_messages_arrive_through_loss_in_both_directions() {
    for seed in 0..4 {
        let mut world = World::new();
        let peer = world.extend(1);
        let fh = world.handle(peer, b"/f", EventMask::NONE);
        world.seed(seed);
        world.faults = Faults { loss: 10, duplicates: 5, delay: Duration::from_millis(20) };
        let data: Vec<u8> = (0..60_000u32).map(|at| at.to_le_bytes()[0] ^ 0x33).collect();
        let put = world.ask(peer, &Request::Put { fh, data: &data });
        let get = world.ask(peer, &Request::Get { fh });
        world.run(Duration::from_secs(20));
        assert_eq!(world.extended[peer].answers(put)[0].code, Code::Ok);
        assert!(world.extended[peer].answers(get)[0].body.ends_with(&data));
    }
}

#[test]
fn end_sess_is_answered_and_ends_the_session() {
    let mut world = World::new();
    let peer = world.extend(1);
    assert_eq!(world.says(peer, &Request::EndSess), Code::Ok);
    assert!(world.node.database().session(1).is_none());
    world.run(Duration::from_millis(50));
    assert_eq!(world.node.status().sessions, 0);
}
