//! After a restart: sessions go on with their handles and locks, nothing is executed twice or lost, and nothing that
//! was recorded counts.

use cldc_core::time::Duration;
use cldc_core::wire::{Code, EventMask, Op, Request};

use crate::peer::Told;
use crate::world::World;

fn version(world: &World) -> u64 {
    world.node.database().stat(b"/f").unwrap().version
}

/// The packets that were accepted since, but for how they were acknowledged.
fn ops(world: &World, peer: usize, since: usize) -> Vec<Op> {
    world.peers[peer].accepted[since..].iter().filter_map(|&(_, op)| op).collect()
}

#[test]
fn two_sessions_contend_for_a_lock_across_a_restart() {
    let mut world = World::new();
    let (one, other) = (world.join(1), world.join(2));
    let fh = world.open(one, b"/lock", EventMask::NONE);
    let wait = world.open(other, b"/lock", EventMask::NONE);
    assert_eq!(world.lock(one, fh), Code::Ok);
    assert_eq!(world.lock(other, wait), Code::LockPending);
    world.crash();
    world.run(Duration::from_secs(1));
    assert_eq!(world.code_within(one, &Request::Unlock { fh }, 10), Code::Ok);
    world.run(Duration::from_secs(40));
    // The waiter has said nothing: the server has called it.
    assert_eq!(world.peers[other].events(), [(wait, EventMask::LOCKED)]);
    assert_eq!(
        world.code_within(one, &Request::Lock { fh, flags: Default::default(), wait: true }, 10),
        Code::LockPending
    );
}

#[test]
fn a_lost_reply_is_given_again_after_a_restart_and_the_request_is_executed_once() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.deaf = true;
    let put = world.send(peer, &Request::Put { fh, data: b"x" });
    let get = world.send(peer, &Request::Get { fh });
    world.run(Duration::from_millis(50));
    assert_eq!(version(&world), 2);
    world.crash();
    world.deaf = false;
    world.run(Duration::from_secs(12));
    assert_eq!(world.peers[peer].code(put), Some(Code::Ok));
    assert!(matches!(world.peers[peer].answer(get), Some(Told::Contents { data, .. }) if data == b"x"));
    assert_eq!(version(&world), 2);
    assert_eq!(world.put(peer, fh, b"y"), Code::Ok);
    assert_eq!(version(&world), 3);
}

#[test]
fn a_request_that_was_not_durable_is_executed_after_the_restart() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.disk_latency = None;
    let put = world.send(peer, &Request::Put { fh, data: &[1; 5000] });
    world.run(Duration::from_millis(50));
    world.crash();
    world.disk_latency = Some(Duration::from_millis(1));
    world.run(Duration::from_millis(20));
    assert_eq!(version(&world), 1);
    world.run(Duration::from_secs(12));
    assert_eq!(world.peers[peer].code(put), Some(Code::Ok));
    assert_eq!(version(&world), 2);
}

#[test]
fn many_requests_in_flight_newest_first_are_executed_in_order() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    // Reads after the last command: their numbers are in no log.
    for _ in 0..3 {
        world.code(peer, &Request::Nop);
    }
    world.disk_latency = None;
    let xids: Vec<u64> = (0..9u8).map(|at| world.send(peer, &Request::Put { fh, data: &[at] })).collect();
    let get = world.send(peer, &Request::Get { fh });
    world.run(Duration::from_millis(20));
    world.crash();
    world.disk_latency = Some(Duration::from_millis(1));
    world.run(Duration::from_secs(20));
    assert!(xids.iter().all(|&xid| world.peers[peer].code(xid) == Some(Code::Ok)));
    assert!(matches!(world.peers[peer].answer(get), Some(Told::Contents { data, .. }) if *data == [8]));
    assert_eq!(version(&world), 10);
}

#[test]
fn the_request_after_the_last_command_is_not_kept_waiting() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.crash();
    world.run(Duration::from_millis(100));
    // It wakes the session; the next one, or its repetition, is taken at once.
    let (xid, packets) = world.peers[peer].request(&Request::Put { fh, data: b"x" });
    let addr = world.peers[peer].addr;
    world.inject(addr, packets[0].clone());
    world.run(Duration::from_millis(20));
    world.inject(addr, packets[0].clone());
    world.run(Duration::from_millis(20));
    assert_eq!(world.peers[peer].code(xid), Some(Code::Ok));
}

#[test]
fn many_restarts_in_a_row_do_not_fill_the_table_of_replies() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    // Each restart takes the acknowledgement of the last reply with it, and comes too soon for that to be forgotten.
    for restart in 1..=100 {
        world.crash();
        let put = Request::Put { fh, data: b"x" };
        assert_eq!(world.code_within(peer, &put, 20), Code::Ok, "after {restart} restarts");
    }
    assert_eq!(version(&world), 101);
}

#[test]
fn a_recorded_conversation_executes_nothing_after_a_restart_and_keeps_nothing_alive() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.lock(peer, fh);
    world.unlock(peer, fh);
    world.put(peer, fh, b"x");
    // Requests that never got into the log are the interesting ones.
    world.disk_latency = None;
    world.send(peer, &Request::Put { fh, data: b"lost" });
    world.send(peer, &Request::Lock { fh, flags: Default::default(), wait: true });
    world.run(Duration::from_millis(10));
    world.peers[peer].dead = true;
    world.crash();
    world.disk_latency = Some(Duration::from_millis(1));
    world.run(Duration::from_millis(100));
    let (entries, recording) = (world.entries(), world.recorded.clone());
    for _ in 0..100 {
        for (addr, datagram) in recording.clone() {
            world.inject(addr, datagram);
        }
        world.run(Duration::from_secs(1));
    }
    assert_eq!(world.entries(), entries);
    assert_eq!(version(&world), 2);
    world.run(Duration::from_secs(10));
    assert!(world.node.database().session(1).is_none());
}

#[test]
fn a_recorded_conversation_executes_nothing_after_its_session_has_ended() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.put(peer, fh, b"x");
    world.code(peer, &Request::EndSess);
    world.peers[peer].dead = true;
    world.run(Duration::from_secs(60));
    for (addr, datagram) in world.recorded.clone() {
        world.inject(addr, datagram);
        world.run(Duration::from_millis(10));
    }
    // It is opened again, as nobody can tell, but that is all.
    assert!(world.node.database().session(1).unwrap().handles.is_empty());
    assert_eq!(version(&world), 2);
    world.run(Duration::from_secs(61));
    assert!(world.node.database().session(1).is_none());
}

#[test]
fn a_silent_session_has_its_lease_and_its_grace_after_a_restart() {
    let mut world = World::new();
    let peer = world.join(1);
    world.run(Duration::from_secs(50));
    world.peers[peer].dead = true;
    world.crash();
    world.run(Duration::from_millis(104_900));
    assert!(world.node.database().session(1).is_some());
    world.run(Duration::from_millis(300));
    assert!(world.node.database().session(1).is_none());
}

#[test]
fn an_idle_client_is_called_and_keeps_its_session() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.crash();
    let since = world.peers[peer].accepted.len();
    world.run(Duration::from_secs(300));
    assert_eq!(ops(&world, peer, since)[..2], [Op::NewSess, Op::Ping]);
    assert_eq!(world.code_within(peer, &Request::Put { fh, data: b"x" }, 10), Code::Ok);
}

#[test]
fn the_call_is_repeated_only_until_it_is_answered() {
    let mut world = World::new();
    let peer = world.join(1);
    world.crash();
    world.deaf = true;
    world.send(peer, &Request::Nop);
    world.run(Duration::from_millis(4_500));
    let called = world.sent_packets().iter().rev().take_while(|packet| packet.op != Some(Op::Open)).count();
    assert!(called >= 6, "{called}");
    world.deaf = false;
    world.run(Duration::from_secs(10));
    let since = world.peers[peer].accepted.len();
    world.run(Duration::from_secs(25));
    assert_eq!(ops(&world, peer, since), []);
}

#[test]
fn an_event_that_was_not_acknowledged_comes_again_after_a_restart_and_one_that_was_does_not() {
    let mut world = World::new();
    let (writer, watcher) = (world.join(1), world.join(2));
    let fh = world.open(writer, b"/f", EventMask::NONE);
    let watched = world.open(watcher, b"/f", EventMask::UPDATED);
    world.deaf = true;
    world.send(writer, &Request::Put { fh, data: b"x" });
    world.run(Duration::from_millis(20));
    world.crash();
    world.deaf = false;
    world.run(Duration::from_secs(20));
    assert_eq!(world.peers[watcher].events(), [(watched, EventMask::UPDATED)]);
    // What the client has acknowledged is told by its next command.
    assert_eq!(world.code_within(watcher, &Request::Del { path: b"/no" }, 10), Code::NameInval);
    world.crash();
    world.run(Duration::from_secs(60));
    assert_eq!(world.peers[watcher].events().len(), 1);
}

#[test]
fn a_request_that_comes_too_late_is_refused_and_not_executed_out_of_order() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.code(peer, &Request::Nop);
    world.disk_latency = None;
    let addr = world.peers[peer].addr;
    let (early, early_packets) = world.peers[peer].request(&Request::Put { fh, data: b"early" });
    let (late, late_packets) = world.peers[peer].request(&Request::Put { fh, data: b"late" });
    world.peers[peer].tick_at = None;
    world.crash();
    world.disk_latency = Some(Duration::from_millis(1));
    world.run(Duration::from_millis(100));
    // The network loses every copy of the first one until the second one is executed.
    for _ in 0..2 {
        world.inject(addr, late_packets[0].clone());
        world.run(Duration::from_secs(2));
    }
    assert_eq!(world.peers[peer].code(late), Some(Code::Ok));
    world.inject(addr, early_packets[0].clone());
    world.run(Duration::from_secs(1));
    assert_eq!(world.peers[peer].code(early), Some(Code::InternalErr));
    assert_eq!(version(&world), 2);
}

#[test]
fn a_stream_that_was_found_wrongly_is_found_again() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    let (_, packets) = world.peers[peer].request(&Request::Nop);
    let (addr, recorded) = (world.peers[peer].addr, packets[0].clone());
    world.inject(addr, recorded.clone());
    for _ in 0..5 {
        world.code(peer, &Request::Nop);
    }
    world.crash();
    // Somebody else sends a recorded NOP in the moment after the client has answered the call.
    world.run(Duration::from_secs(40));
    world.inject(addr, recorded);
    world.run(Duration::from_secs(2));
    assert_eq!(world.code_within(peer, &Request::Put { fh, data: b"x" }, 40), Code::Ok);
    assert_eq!(version(&world), 2);
}

#[test]
fn a_snapshot_and_the_log_behind_it_bring_everything_back() {
    let mut config = cld_server::node::NodeConfig::default();
    config.snapshot.entries = 10;
    let mut world = World::with(config);
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    for at in 0..45u8 {
        assert_eq!(world.put(peer, fh, &[at]), Code::Ok);
    }
    assert!(world.entries() < 15, "{} entries are kept", world.entries());
    assert!(world.node.status().snapshot.is_some());
    let before = world.node.database().digest();
    world.crash();
    world.run(Duration::from_secs(1));
    assert_eq!(version(&world), 46);
    assert_ne!(before, cld_server::database::Database::new().digest());
    assert_eq!(world.code_within(peer, &Request::Put { fh, data: b"x" }, 10), Code::Ok);
}
