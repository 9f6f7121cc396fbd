//! Limits: what a session and a user may take, and that nothing grows without bound.

use cld_server::database::Limits;
use cld_server::keys::Keys;
use cld_server::node::NodeConfig;
use cldc_core::time::Duration;
use cldc_core::wire::{Code, EventMask, Part, Request};

use crate::peer::Told;
use crate::world::World;

const NEW_SESS: Request<'static> = Request::NewSess { extension: &[] };

#[test]
fn sessions_that_nobody_proved_are_limited_per_user() {
    let mut world = World::new();
    for sid in 1..=100 {
        let peer = world.add(sid);
        world.peers[peer].acks = false;
        world.send(peer, &NEW_SESS);
    }
    world.run(Duration::from_secs(4));
    assert_eq!(world.node.database().totals().sessions, 64);
    assert!(world.node.status().endpoint.limits["unproved_per_user"] >= 36);
    // Another user is not kept out.
    let other = world.add(1000);
    world.peers[other].user = b"other".to_vec();
    world.peers[other].key = cldc_core::wire::Key::new(b"other").unwrap();
    let xid = world.send(other, &NEW_SESS);
    world.run(Duration::from_millis(50));
    assert_eq!(world.peers[other].code(xid), Some(Code::Ok));
}

#[test]
fn a_refused_session_is_told_so_and_new_limits_go_through_the_log() {
    let mut world = World::new();
    world.join(1);
    let limits = Limits { sessions: 2, ..Limits::default() };
    world.node.reconfigure(world.clock(), Keys::UserAsKey, limits);
    world.run(Duration::from_millis(10));
    assert_eq!(world.node.database().limits().sessions, 2);
    world.join(2);
    let third = world.add(3);
    let xid = world.send(third, &NEW_SESS);
    world.run(Duration::from_millis(50));
    assert_eq!(world.peers[third].one_shots.last().map(|shot| (shot.2, shot.3)), Some((xid, Code::Limit)));
    assert_eq!(world.node.status().endpoint.limits["sessions"], 1);
    assert_eq!(world.node.status().sessions, 2);
}

#[test]
fn a_client_that_never_acknowledges_can_queue_only_so_much_and_goes_on_when_it_does() {
    let mut world = World::new();
    let peer = world.join(1);
    let fh = world.open(peer, b"/f", EventMask::NONE);
    world.put(peer, fh, &[1; 100_000]);
    world.run(Duration::from_secs(1));
    world.peers[peer].acks = false;
    let gets: Vec<u64> = (0..300).map(|_| world.send(peer, &Request::Get { fh })).collect();
    world.run(Duration::from_secs(20));
    let counters = world.node.status().endpoint;
    assert!(counters.limits["packets_per_session"] > 100);
    // Six replies of 98 packets, and no more than a window of them is on its way.
    assert!(counters.requests < 20, "{}", counters.requests);
    world.peers[peer].acks = true;
    world.run(Duration::from_secs(300));
    let answered =
        gets.iter().filter(|&&xid| matches!(world.peers[peer].answer(xid), Some(Told::Contents { .. })));
    assert_eq!(answered.count(), 300);
}

#[test]
fn events_without_room_are_merged_into_one_for_each_handle_and_none_is_lost() {
    let mut world = World::new();
    let (writer, watcher) = (world.join(1), world.join(2));
    let fh = world.open(writer, b"/f", EventMask::NONE);
    let watched = world.open(watcher, b"/f", EventMask::UPDATED | EventMask::DELETED);
    world.run(Duration::from_secs(1));
    world.peers[watcher].acks = false;
    for _ in 0..500 {
        world.put(writer, fh, b"x");
    }
    assert_eq!(world.code(writer, &Request::Del { path: b"/f" }), Code::Ok);
    let queued = world.peers[watcher].events_once.len();
    assert!(queued <= 100, "{queued}");
    world.peers[watcher].told.clear();
    world.peers[watcher].acks = true;
    world.run(Duration::from_secs(30));
    let last = *world.peers[watcher].events().last().unwrap();
    assert_eq!(last, (watched, EventMask::UPDATED | EventMask::DELETED));
}

#[test]
fn unfinished_messages_are_limited_per_user() {
    let mut config = NodeConfig::default();
    config.queue.streams_per_user = 3;
    let mut world = World::with(config);
    let peers: Vec<usize> = (1..=5).map(|sid| world.join(sid)).collect();
    for &peer in &peers {
        let (_, packets) = world.peers[peer].request(&Request::Put { fh: 1, data: &[0; 5000] });
        world.peers[peer].forget_pending();
        world.inject(world.peers[peer].addr, packets[0].clone());
        world.run(Duration::from_millis(1));
    }
    assert_eq!(world.node.status().endpoint.limits["streams_per_user"], 2);
    // Single packets pass all the same.
    world.peers[peers[4]].next -= 5;
    assert_eq!(world.code(peers[4], &Request::Nop), Code::Ok);
}

#[test]
fn packets_far_ahead_of_their_turn_are_not_held() {
    let mut world = World::new();
    let peer = world.join(1);
    let addr = world.peers[peer].addr;
    let next = world.peers[peer].next;
    for ahead in 1..1000 {
        let part = Part::Only { xid: 1, op: cldc_core::wire::Op::Nop };
        let packet = world.peers[peer].packet(part, next.wrapping_add(ahead), &[]);
        world.inject(addr, packet);
    }
    world.run(Duration::from_millis(10));
    assert_eq!(world.code(peer, &Request::Nop), Code::Ok);
    // Those held behind it are taken, and those beyond are not.
    let requests = world.node.status().endpoint.requests;
    assert!((90..=161).contains(&requests), "{requests}");
}

#[test]
fn idle_sessions_cost_nothing_between_their_deadlines() {
    let mut world = World::new();
    for sid in 1..=200 {
        world.join(sid);
    }
    let before = world.node.status().endpoint.received;
    world.run(Duration::from_secs(20));
    // Only the clients' own silence: nothing was sent, nothing was received.
    assert_eq!(world.node.status().endpoint.received, before);
    let mut timeouts = 0;
    let mut now = world.now;
    let end = now + Duration::from_secs(2);
    while let Some(at) = world.node.poll_timeout().filter(|&at| at <= end) {
        now = now.max(at);
        world.now = now;
        world.node.handle_timeout(world.clock());
        timeouts += 1;
    }
    assert_eq!(timeouts, 40);
}
