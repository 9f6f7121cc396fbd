//! Extended sessions: negotiation, lease, keep-alive, and their operations (docs/protocol.md 7.1, 7.3, 7.6).

use std::net::SocketAddr;

use cld_server::node::NodeConfig;
use cldc_core::time::Duration;
use cldc_core::wire::extended::{Features, Sequencer, Welcome};
use cldc_core::wire::{Answer, Code, EventMask, LockFlags, Op, Packet, Part, Request, Writer};

use crate::extended_peer::Grant;
use crate::world::World;

const LOCK: LockFlags = LockFlags::NONE;

#[test]
fn an_extended_session_opens_writes_and_reads() {
    let mut world = World::new();
    let peer = world.extend(1);
    let welcome = world.extended[peer].welcome.clone().unwrap();
    assert_eq!((welcome.version, welcome.features), (1, Features::FENCING));
    assert_eq!((welcome.epoch, welcome.lease_ms, welcome.grace_ms), (1, 30_000, 45_000));
    assert_eq!((welcome.window, welcome.max_message, welcome.requests), (64, 196_608, 64));
    let fh = world.handle(peer, b"/file", EventMask::UPDATED);
    assert_eq!(world.says(peer, &Request::Put { fh, data: b"hello" }), Code::Ok);
    let said = world.answer(peer, &Request::Get { fh });
    assert!(said.body.windows(5).any(|bytes| bytes == b"hello"));
    assert_eq!(world.extended[peer].unacknowledged.len(), 0);
}

#[test]
fn without_a_hello_the_answer_is_hails_to_the_byte() {
    let mut world = World::new();
    // A body that is no hello, and a hello in a packet that is shorter than its answer would be.
    let mut buffer = [0; 64];
    let mut out = Writer::new(&mut buffer);
    world.add_extended(99);
    world.extended[0].hello.emit(&mut out).unwrap();
    let hello = out.written().to_vec();
    for (sid, body) in [(1, Vec::new()), (2, vec![0x55; 300]), (3, hello)] {
        let peer = world.add(sid);
        let xid = world.send(peer, &Request::NewSess { extension: &body });
        world.sent.clear();
        world.run(Duration::from_millis(5));
        let (_, _, datagram) = &world.sent[0];
        let packet = Packet::parse(datagram).unwrap();
        let Part::Only { xid: header, op: Op::NewSess } = packet.part else { panic!("{packet:?}") };
        let mut buffer = [0; 64];
        let mut out = Writer::new(&mut buffer);
        Answer::Done { op: Op::NewSess, xid, code: Code::Ok }.emit(&mut out).unwrap();
        let part = Part::Only { xid: header, op: Op::NewSess };
        assert_eq!(*datagram, world.peers[peer].packet(part, packet.number, out.written()));
        assert_eq!(world.code(peer, &Request::Nop), Code::Ok);
        assert_eq!(world.node.database().session(sid).unwrap().terms, None);
    }
}

#[test]
fn a_newer_client_gets_what_the_server_has() {
    let mut world = World::new();
    let peer = world.add_extended(1);
    world.extended[peer].hello.version = 9;
    world.extended[peer].hello.features = Features(u32::MAX);
    world.greet(peer);
    let welcome = world.extended[peer].welcome.clone().unwrap();
    assert_eq!((welcome.version, welcome.features), (1, Features::FENCING));
    assert_eq!(world.says(peer, &Request::Nop), Code::Ok);
    // What a later version may say behind the hello is ignored.
    let peer = world.add_extended(2);
    let mut body = vec![0; 512];
    let mut out = Writer::new(&mut body);
    world.extended[peer].hello.emit(&mut out).unwrap();
    out.raw(&[0xee; 300]).unwrap();
    let body = out.written().to_vec();
    let (xid, number) = (world.extended[peer].next_xid, world.extended[peer].next);
    world.extended[peer].new_sess();
    let packet = world.extended[peer].emit(None, Part::Only { xid, op: Op::NewSess }, number, &body);
    world.inject(world.extended[peer].addr, packet);
    world.run(Duration::from_millis(20));
    assert!(world.extended[peer].welcome.is_some());
}

#[test]
fn a_client_without_fencing_gets_none() {
    let mut world = World::new();
    let peer = world.add_extended(1);
    world.extended[peer].hello.features = Features::NONE;
    world.greet(peer);
    let fh = world.handle(peer, b"/lock", EventMask::NONE);
    let said = world.answer(peer, &Request::Lock { fh, flags: LOCK, wait: true });
    assert_eq!((said.code, said.body.len()), (Code::Ok, 12));
    assert_eq!(world.says(peer, &Request::GetSequencer { fh }), Code::Unsupported);
}

#[test]
fn an_operation_that_is_not_known_is_answered() {
    let mut world = World::new();
    let peer = world.extend(1);
    // Those that have another meaning, or are the server's, are not: their answer could be taken for something else.
    let unsupported = Some(Code::Unsupported);
    for (op, code) in [
        (Op::Unknown(77), unsupported),
        (Op::Unknown(-1), unsupported),
        (Op::Event, None),
        (Op::NewSess, None),
        (Op::Resume, None),
    ] {
        let (xid, packets) = world.extended[peer].message(op, vec![1, 2, 3]);
        world.inject(world.extended[peer].addr, packets[0].clone());
        world.run(Duration::from_millis(20));
        assert_eq!(world.extended[peer].answers(xid).first().map(|said| said.code), code, "{op:?}");
        assert!(world.extended[peer].unacknowledged.is_empty());
    }
    // In a plain session none of the new operations exists, whatever their bodies.
    let plain = world.join(2);
    world.sent.clear();
    for op in [Op::Resume, Op::GetSequencer, Op::CheckSequencer, Op::PutFenced, Op::DelFenced] {
        for body in [vec![], vec![0; 8], vec![0; 64]] {
            if op == Op::Resume {
                continue;
            }
            let (_, packets) = world.peers[plain].message(op, &body);
            world.inject(world.peers[plain].addr, packets[0].clone());
        }
    }
    world.run(Duration::from_millis(50));
    assert_eq!(world.sent.len(), 0);
    world.peers[plain].forget_pending();
    assert_eq!(world.code(plain, &Request::Nop), Code::Ok);
}

#[test]
fn a_plain_session_takes_no_packets_of_extended_ones() {
    let mut world = World::new();
    let plain = world.join(2);
    let fh = world.open(plain, b"/f", EventMask::NONE);
    let peer = world.add_extended(2);
    world.extended[peer].addr = world.peers[plain].addr;
    world.extended[peer].next = world.peers[plain].next;
    let (_, packets) = world.extended[peer].request(&Request::Put { fh, data: b"x" });
    world.extended[peer].dead = true;
    world.inject(world.peers[plain].addr, packets[0].clone());
    world.sent.clear();
    world.run(Duration::from_millis(50));
    assert_eq!((world.sent.len(), world.node.status().endpoint.malformed), (0, 1));
    assert_eq!(world.node.database().stat(b"/f").unwrap().version, 1);
}

#[test]
fn the_addresses_told_are_those_configured_or_bound_and_the_answer_is_no_longer_than_the_request() {
    let addresses: Vec<SocketAddr> =
        (1..=9).map(|n| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 8081))).collect();
    for (configured, told) in [(0, 0), (1, 1), (3, 3), (9, 5)] {
        let config =
            NodeConfig { client_addresses: addresses[..configured].to_vec(), ..NodeConfig::default() };
        let mut world = World::with(config);
        let peer = world.extend(1);
        let welcome = world.extended[peer].welcome.clone().unwrap();
        assert_eq!(*welcome.servers, addresses[..told]);
    }
    // Also with the longest name.
    let config = NodeConfig { client_addresses: addresses, ..NodeConfig::default() };
    let mut world = World::with(config);
    let peer = world.add_extended(1);
    let name = "a-user-with-quite-a-long-name-x";
    world.extended[peer] = crate::extended_peer::Extended::new(1, name, 20_000);
    world.greet(peer);
    assert_eq!(world.extended[peer].welcome.as_ref().unwrap().servers.len(), 5);
    let longest = world.sent.iter().map(|(_, _, datagram)| datagram.len()).max();
    assert_eq!(longest, Some(248));
}

#[test]
fn a_lease_is_granted_between_two_seconds_and_ten_minutes() {
    let mut world = World::new();
    let cases = [(0, 30_000), (1, 2000), (5000, 5000), (600_000, 600_000), (u32::MAX, 600_000)];
    for (sid, (proposed, granted)) in (1..).zip(cases) {
        let peer = world.add_extended(sid);
        world.extended[peer].hello.lease_ms = proposed;
        world.greet(peer);
        assert_eq!(world.extended[peer].welcome.as_ref().unwrap().lease_ms, granted);
        assert_eq!(world.node.database().session(sid).unwrap().terms.unwrap().lease_ms, granted);
    }
}

/// When a session has ended, in milliseconds from now.
fn end(world: &mut World, sid: u64) -> u64 {
    let begin = world.now;
    while world.node.database().session(sid).is_some() && world.now.since(begin) < Duration::from_secs(600) {
        world.run(Duration::from_millis(10));
    }
    world.now.since(begin).as_micros() / 1000
}

#[test]
fn a_session_lives_for_its_lease_from_its_last_news_and_gets_no_ping() {
    let mut world = World::new();
    let peer = world.add_extended(1);
    world.extended[peer].hello.lease_ms = 5000;
    world.greet(peer);
    world.run(Duration::from_secs(4));
    assert_eq!(world.says(peer, &Request::Nop), Code::Ok);
    world.run(Duration::from_millis(100));
    world.sent.clear();
    let end = end(&mut world, 1);
    assert!((4800..=4900).contains(&end), "{end}");
    assert_eq!(world.sent.len(), 0);
}

#[test]
fn after_a_restart_a_session_has_its_lease_and_its_grace() {
    let mut world = World::new();
    let peer = world.add_extended(1);
    world.extended[peer].hello.lease_ms = 5000;
    world.greet(peer);
    world.extended[peer].dead = true;
    world.crash();
    world.run(Duration::from_millis(20));
    let end = end(&mut world, 1);
    assert!((49_900..=50_100).contains(&end), "{end}");
}

#[test]
fn a_keepalive_renews_the_lease_and_costs_neither_log_nor_queue() {
    let mut world = World::new();
    let peer = world.extend(1);
    let entries = world.entries();
    for number in 1..=100 {
        let packet = world.extended[peer].keepalive(number, 5000 + number);
        world.inject(world.extended[peer].addr, packet);
        world.sent.clear();
        world.run(Duration::from_secs(10));
        assert_eq!(world.extended[peer].alive.last(), Some(&(number, 5000 + number, 1)));
        // Nobody has acknowledged the answer, and it is not repeated.
        assert_eq!(world.sent.len(), 1);
    }
    assert_eq!(world.entries(), entries);
    assert_eq!(world.node.status().endpoint.keepalives, 100);
    assert_eq!(world.node.status().endpoint.requests, 0);
}

#[test]
fn a_repeated_keepalive_is_answered_again_but_only_a_new_one_renews() {
    let mut world = World::new();
    let peer = world.extend(1);
    let addr = world.extended[peer].addr;
    let (fourth, fifth) = (world.extended[peer].keepalive(4, 70), world.extended[peer].keepalive(5, 71));
    world.inject(addr, fifth.clone());
    world.run(Duration::from_millis(10));
    let begin = world.now;
    world.inject(addr, fourth);
    world.run(Duration::from_millis(10));
    assert_eq!(world.extended[peer].alive, [(5, 71, 1)]);
    while world.node.database().session(1).is_some() && world.now.since(begin) < Duration::from_secs(60) {
        world.inject(addr, fifth.clone());
        world.run(Duration::from_secs(1));
    }
    assert!(world.extended[peer].alive.len() > 25);
    assert!(world.now.since(begin) <= Duration::from_secs(31));
}

#[test]
fn a_numbered_nop_is_answered_with_the_epoch() {
    let mut world = World::new();
    let peer = world.extend(1);
    world.crash();
    world.run(Duration::from_millis(50));
    world.resume(peer);
    let said = world.answer(peer, &Request::Nop);
    assert_eq!(cldc_core::wire::extended::alive(&said.body).map(|(epoch, _)| epoch), Some(2));
    assert_eq!(Welcome::of(&said.body), None);
}

#[test]
fn an_answer_that_the_client_cannot_take_in_is_too_large() {
    let mut world = World::new();
    let peer = world.add_extended(1);
    world.extended[peer].hello.max_message = 2000;
    world.greet(peer);
    let fh = world.handle(peer, b"/f", EventMask::NONE);
    assert_eq!(world.says(peer, &Request::Put { fh, data: &[7; 1900] }), Code::Ok);
    assert_eq!(world.says(peer, &Request::Get { fh }), Code::Ok);
    assert_eq!(world.says(peer, &Request::Put { fh, data: &[7; 2000] }), Code::Ok);
    assert_eq!(world.says(peer, &Request::Get { fh }), Code::TooLarge);
    assert_eq!(world.says(peer, &Request::GetMeta { fh }), Code::Ok);
}

#[test]
fn a_write_with_the_sequencer_of_a_lock_that_was_handed_over_is_refused() {
    let mut world = World::new();
    let (one, other) = (world.extend(1), world.extend(2));
    let lock = world.handle(one, b"/lock", EventMask::NONE);
    let data = world.handle(one, b"/data", EventMask::NONE);
    let wanted = world.handle(other, b"/lock", EventMask::NONE);
    let said = world.answer(one, &Request::Lock { fh: lock, flags: LOCK, wait: true });
    let old = Grant::of(&Sequencer::of(&said.body).unwrap());
    assert_eq!((old.generation, old.path.as_slice()), (1, b"/lock".as_slice()));
    let request = Request::Lock { fh: wanted, flags: LOCK, wait: true };
    assert_eq!(world.says(other, &request), Code::LockPending);
    let put = Request::PutFenced { sequencer: old.sequencer(), fh: data, data: b"x" };
    let check = Request::CheckSequencer { sequencer: old.sequencer() };
    assert_eq!((world.says(one, &put), world.says(one, &check)), (Code::Ok, Code::Ok));
    assert_eq!(world.says(one, &Request::Unlock { fh: lock }), Code::Ok);
    let event = world.extended[other].events[0].clone();
    let new = event.granted.unwrap();
    assert_eq!((event.fh, event.events, new.generation), (wanted, EventMask::LOCKED, 2));
    let version = world.node.database().stat(b"/data").unwrap().version;
    let del = Request::DelFenced { sequencer: old.sequencer(), path: b"/data" };
    for request in [put, check, del] {
        assert_eq!(world.says(one, &request), Code::Stale);
    }
    assert_eq!(world.says(one, &Request::GetSequencer { fh: lock }), Code::LockInval);
    assert_eq!(world.node.database().stat(b"/data").unwrap().version, version);
    let said = world.answer(other, &Request::GetSequencer { fh: wanted });
    assert_eq!(Grant::of(&Sequencer::of(&said.body).unwrap()), new);
    // A mode that no lock has stands for none.
    let odd = Sequencer { mode: LockFlags(7), ..new.sequencer() };
    assert_eq!(world.says(one, &Request::CheckSequencer { sequencer: odd }), Code::Stale);
    assert_eq!(world.says(one, &Request::PutFenced { sequencer: odd, fh: data, data: b"" }), Code::Stale);
    let del = Request::DelFenced { sequencer: new.sequencer(), path: b"/data" };
    assert_eq!(world.says(one, &del), Code::Ok);
}

#[test]
fn a_check_takes_effect_after_the_commands_before_it() {
    let mut world = World::new();
    let peer = world.extend(1);
    let fh = world.handle(peer, b"/lock", EventMask::NONE);
    let said = world.answer(peer, &Request::Lock { fh, flags: LockFlags::SHARED, wait: false });
    let grant = Grant::of(&Sequencer::of(&said.body).unwrap());
    assert_eq!(grant.mode, LockFlags::SHARED);
    let check = Request::CheckSequencer { sequencer: grant.sequencer() };
    let before = world.ask(peer, &check);
    world.ask(peer, &Request::Unlock { fh });
    let after = world.ask(peer, &check);
    world.run(Duration::from_millis(50));
    assert_eq!(world.extended[peer].answers(before)[0].code, Code::Ok);
    assert_eq!(world.extended[peer].answers(after)[0].code, Code::Stale);
}
