//! Requests and their answers: order, durability, duplicates, fragments, events.

use cldc_core::time::Duration;
use cldc_core::wire::{Code, EventMask, Op, Part, Request};

use crate::peer::Told;
use crate::world::World;

#[test]
fn a_reply_leaves_only_when_its_command_is_durable() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::UPDATED);
    world.disk_latency = None;
    world.sent.clear();
    let xid = world.send(peer, &Request::Put { fh, data: b"x" });
    world.run(Duration::from_millis(500));
    assert!(world.sent.is_empty());
    world.disk_latency = Some(Duration::ZERO);
    world.run(Duration::from_millis(1));
    // The event precedes the reply.
    assert_eq!(world.peers[peer].events(), [(fh, EventMask::UPDATED)]);
    assert_eq!(world.peers[peer].code(xid), Some(Code::Ok));
}

#[test]
fn commands_that_wait_for_the_log_share_one_entry_of_at_most_a_mebibyte() {
    let mut world = World::new();
    let peers: Vec<usize> = (1..=20).map(|sid| world.join(sid)).collect();
    let handles: Vec<u64> = peers.iter().map(|&peer| world.open(peer, b"/f", EventMask::NONE)).collect();
    let entries = world.entries();
    world.disk_latency = None;
    let xids: Vec<u64> = peers
        .iter()
        .map(|&peer| world.send(peer, &Request::Put { fh: handles[peer], data: b"small" }))
        .collect();
    world.run(Duration::from_millis(10));
    world.disk_latency = Some(Duration::ZERO);
    world.run(Duration::from_millis(10));
    assert_eq!(world.entries(), entries + 2);
    assert!(peers.iter().all(|&peer| world.peers[peer].code(xids[peer]) == Some(Code::Ok)));
    // 20 times 128 KiB need several entries.
    let entries = world.entries();
    world.disk_latency = None;
    for &peer in &peers {
        world.send(peer, &Request::Put { fh: handles[peer], data: &[7; 131_072] });
    }
    world.run(Duration::from_millis(10));
    world.disk_latency = Some(Duration::ZERO);
    world.run(Duration::from_millis(100));
    assert!((entries + 3..=entries + 5).contains(&world.entries()));
    assert_eq!(world.node.database().stat(b"/f").unwrap().version, 41);
}

#[test]
fn requests_of_a_session_take_effect_in_the_order_in_which_they_were_sent() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.put(peer, fh, b"old");
    world.disk_latency = None;
    world.send(peer, &Request::Put { fh, data: b"one" });
    let first = world.send(peer, &Request::Get { fh });
    world.send(peer, &Request::Put { fh, data: b"two" });
    world.send(peer, &Request::Put { fh, data: b"three" });
    let second = world.send(peer, &Request::Get { fh });
    world.run(Duration::from_millis(100));
    assert_eq!(world.peers[peer].answer(first), None);
    world.disk_latency = Some(Duration::from_millis(5));
    world.run(Duration::from_millis(100));
    let read = |xid| match world.peers[peer].answer(xid) {
        Some(Told::Contents { data, .. }) => data.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((read(first), read(second)), (b"one".to_vec(), b"three".to_vec()));
}

#[test]
fn a_duplicate_executes_nothing_and_brings_a_lost_reply_again() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.run(Duration::from_secs(1));
    world.deaf = true;
    let xid = world.send(peer, &Request::Put { fh, data: b"x" });
    world.run(Duration::from_millis(300));
    world.deaf = false;
    let (addr, datagram) = world.recorded.last().unwrap().clone();
    world.inject(addr, datagram);
    world.run(Duration::from_millis(10));
    assert_eq!(world.peers[peer].code(xid), Some(Code::Ok));
    assert_eq!(world.node.database().stat(b"/f").unwrap().version, 2);
}

#[test]
fn fragments_of_every_size_arrive_in_both_directions() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    for len in [0, 1, 1003, 1011, 1012, 1013, 1023, 1024, 1025, 2036, 2048, 2049, 50_000, 131_071, 131_072] {
        let data: Vec<u8> = (0..len).map(|at: usize| (at / 7) as u8).collect();
        assert_eq!(world.put(peer, fh, &data), Code::Ok, "{len}");
        assert_eq!(world.get(peer, fh), data, "{len}");
    }
}

#[test]
fn long_replies_arrive_through_loss_and_are_never_garbled() {
    for (seed, exact, loss) in
        (0..20).map(|seed| (seed, false, 1)).chain((20..25).map(|seed| (seed, true, 20)))
    {
        let mut world = World::new();
        let peer = world.join(1);
        world.peers[peer].exact = exact;
        let fh = world.open(peer, b"/f", EventMask::NONE);
        let data: Vec<u8> = (0..131_072_u32).map(|at| (at / 3) as u8).collect();
        assert_eq!(world.put(peer, fh, &data), Code::Ok);
        world.seed(seed);
        world.faults.loss = loss;
        let xid = world.send(peer, &Request::Get { fh });
        world.run(Duration::from_secs(300));
        let Some(Told::Contents { data: got, .. }) = world.peers[peer].answer(xid) else {
            panic!("seed {seed}: no answer")
        };
        assert!(*got == data, "seed {seed}: garbled");
    }
}

#[test]
fn an_ack_between_two_fragments_does_no_harm() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    let (xid, packets) = world.peers[peer].request(&Request::Put { fh, data: &[5; 3000] });
    let addr = world.peers[peer].addr;
    for datagram in packets {
        world.inject(addr, datagram);
        let ack = world.peers[peer].ack(world.peers[peer].expected.unwrap() - 1);
        world.inject(addr, ack);
        world.run(Duration::from_millis(1));
    }
    world.run(Duration::from_millis(10));
    assert_eq!(world.peers[peer].code(xid), Some(Code::Ok));
    assert_eq!(world.get(peer, fh), [5; 3000]);
}

#[test]
fn packets_in_any_order_are_put_in_order() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    let data: Vec<u8> = (0..100_000_u32).map(|at| (at / 5) as u8).collect();
    let (put, mut packets) = world.peers[peer].request(&Request::Put { fh, data: &data });
    let (get, more) = world.peers[peer].request(&Request::Get { fh });
    packets.extend(more);
    let addr = world.peers[peer].addr;
    for datagram in packets.into_iter().rev() {
        world.inject(addr, datagram.clone());
        world.inject(addr, datagram);
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.peers[peer].code(put), Some(Code::Ok));
    assert!(matches!(world.peers[peer].answer(get), Some(Told::Contents { data: got, .. }) if *got == data));
    assert_eq!(world.node.database().stat(b"/f").unwrap().version, 2);
}

#[test]
fn a_stray_last_piece_executes_nothing() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.put(peer, fh, b"x");
    let number = world.peers[peer].next;
    world.peers[peer].next += 1;
    let stray = world.peers[peer].packet(Part::Last, number, &[0; 20]);
    world.inject(world.peers[peer].addr, stray);
    // Its number is used up.
    assert_eq!(world.code(peer, &Request::Nop), Code::Ok);
    assert_eq!(world.node.database().stat(b"/f").unwrap().version, 2);
}

#[test]
fn malformed_and_oversized_bodies_are_answered_and_unknown_operations_are_not() {
    let mut world = World::new();
    let peer = world.join(1);
    let addr = world.peers[peer].addr;
    let (short, packets) = world.peers[peer].message(Op::Put, &[0; 6]);
    packets.into_iter().for_each(|datagram| world.inject(addr, datagram));
    let (long, packets) = world.peers[peer].message(Op::Nop, &vec![0; 196_609]);
    packets.into_iter().for_each(|datagram| world.inject(addr, datagram));
    let (unknown, packets) = world.peers[peer].message(Op::Unknown(5), &[]);
    packets.into_iter().for_each(|datagram| world.inject(addr, datagram));
    world.run(Duration::from_secs(1));
    assert_eq!(world.peers[peer].code(short), Some(Code::BadPkt));
    assert_eq!(world.peers[peer].code(long), Some(Code::BadPkt));
    assert_eq!(world.peers[peer].code(unknown), None);
    world.peers[peer].forget_pending();
    assert_eq!(world.code(peer, &Request::Nop), Code::Ok);
}

#[test]
fn a_ping_follows_an_event_and_its_acknowledgement_ends_the_resends() {
    let mut world = World::new();
    let (writer, watcher) = (world.join(1), world.join(2));
    let fh = world.open(writer, b"/f", EventMask::NONE);
    let watched = world.open(watcher, b"/f", EventMask::UPDATED);
    world.run(Duration::from_secs(3));
    world.put(writer, fh, b"x");
    world.run(Duration::from_millis(1500));
    let told = world.peers[watcher].accepted.clone();
    assert!(
        matches!(told[told.len() - 2..], [(event, Some(Op::Event)), (ping, Some(Op::Ping))] if ping == event + 1)
    );
    world.run(Duration::from_secs(20));
    assert_eq!(world.peers[watcher].accepted.len(), told.len());
    assert_eq!(world.peers[watcher].events(), [(watched, EventMask::UPDATED)]);
}

#[test]
fn writes_wait_while_the_table_of_replies_is_full_and_go_on_when_replies_are_acknowledged() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.run(Duration::from_secs(1));
    world.peers[peer].acks = false;
    let xids: Vec<u64> = (0..90).map(|_| world.send(peer, &Request::Put { fh, data: b"x" })).collect();
    world.run(Duration::from_secs(1));
    assert_eq!(world.node.database().session(1).unwrap().replies.len(), 64);
    world.peers[peer].acks = true;
    world.run(Duration::from_secs(20));
    assert!(xids.iter().all(|&xid| world.peers[peer].code(xid) == Some(Code::Ok)));
    assert_eq!(world.node.database().stat(b"/f").unwrap().version, 91);
    assert_eq!(world.node.status().endpoint.limits.get("replies"), None);
}

#[test]
fn a_fatal_disk_failure_ends_everything() {
    let mut world = World::new();
    let peer = world.join(1);
    world.disk_latency = None;
    world.send(peer, &Request::EndSess);
    world.run(Duration::from_millis(10));
    world.fail_disk("no space left on device");
    assert_eq!(world.node.fatal(), Some("no space left on device"));
    world.sent.clear();
    world.send(peer, &Request::Nop);
    world.run(Duration::from_secs(100));
    assert!(world.sent.is_empty());
    assert_eq!(world.node.poll_timeout(), None);
}

#[test]
fn a_shut_down_answers_what_was_taken_and_takes_no_more() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.disk_latency = None;
    let taken = world.send(peer, &Request::Put { fh, data: b"x" });
    world.run(Duration::from_millis(10));
    world.node.shut_down(world.clock());
    let refused = world.send(peer, &Request::Nop);
    world.run(Duration::from_millis(10));
    assert!(!world.node.is_idle());
    world.disk_latency = Some(Duration::ZERO);
    world.run(Duration::from_millis(10));
    assert!(world.node.is_idle());
    assert_eq!(world.peers[peer].code(taken), Some(Code::Ok));
    assert_eq!(world.peers[peer].code(refused), None);
}

#[test]
fn a_lock_is_not_asked_for_again_while_the_last_grant_may_still_be_sent_again() {
    let mut world = World::new();
    let (one, other) = (world.join(1), world.join(2));
    let held = world.open(one, b"/lock", EventMask::NONE);
    let wanted = world.open(other, b"/lock", EventMask::NONE);
    world.lock(one, held);
    world.lock(other, wanted);
    world.peers[other].acks = false;
    world.unlock(one, held);
    assert_eq!(world.peers[other].events(), [(wanted, EventMask::LOCKED)]);
    assert_eq!(world.unlock(other, wanted), Code::Ok);
    world.lock(one, held);
    let again = world.send(other, &Request::Lock { fh: wanted, flags: Default::default(), wait: true });
    world.run(Duration::from_millis(500));
    // Hail's client would take the old event, if it came again now, for the new grant.
    assert_eq!(world.peers[other].code(again), None);
    world.peers[other].acks = true;
    world.run(Duration::from_secs(10));
    assert_eq!(world.peers[other].code(again), Some(Code::LockPending));
    assert_eq!(world.peers[other].events_once.len(), 1);
}
