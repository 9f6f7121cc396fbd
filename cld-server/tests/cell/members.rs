//! Servers that come, catch up, hand over and go.

use cld_server::node::{NodeConfig, SnapshotPolicy};
use cld_server::replica::{ChangeError, MemberChange};
use cldc_core::wire::EventMask;

use crate::client::Got;
use crate::world::{World, server_addr};
use crate::{ms, secs};

const ALL: [u64; 3] = [1, 2, 3];

/// Takes a snapshot every 20 entries, and keeps next to none beyond.
fn forgetful() -> NodeConfig {
    let snapshot = SnapshotPolicy { entries: 20, bytes: u64::MAX };
    NodeConfig { snapshot, keep_entries: Some(5), ..NodeConfig::default() }
}

fn change(world: &mut World, change: MemberChange) -> Result<(), ChangeError> {
    let (master, _) = world.await_master(secs(5));
    let clock = world.clock(master);
    let result = world.node(master).change_members(clock, change);
    world.drain(master);
    result
}

#[test]
fn a_follower_that_was_away_gets_a_snapshot_while_the_cell_serves_and_trims() {
    let mut world = World::with(1, 3, forgetful());
    let at = world.join(&ALL, true);
    let file = world.open(at, b"/file", EventMask::NONE);
    let (master, _) = world.await_master(secs(1));
    let away = ALL.into_iter().find(|&id| id != master).unwrap();
    world.crash(away);
    // More than fits in one chunk of the transfer, and in its window.
    for number in 0..20u8 {
        let large = world.open(at, format!("/large-{number}").as_bytes(), EventMask::NONE);
        world.write(at, large, &vec![number; 100_000]);
    }
    for number in 0..100u8 {
        world.write(at, file, &[number]);
    }
    let status = world.node(master).status();
    assert!(status.replica.first_index > 50, "{status:?}");
    world.start(away);
    for number in 0..100u8 {
        world.write(at, file, &[100, number]);
    }
    world.agree();
    // Once will do, unless the log, which keeps next to nothing here, is trimmed past it while it is on its way.
    let restored = world.node(away).status().peers.snapshots_restored;
    assert!((1..=5).contains(&restored), "{restored}");
    assert_eq!(world.node(away).database().stat(b"/file").unwrap().version, 201);
    // It goes on from there after a crash, too, and may be the master.
    world.crash(away);
    world.start(away);
    world.run(secs(2));
    world.agree();
    let other = ALL.into_iter().find(|&id| id != master && id != away).unwrap();
    world.crash(other);
    world.run(secs(1));
    world.crash(master);
    world.run(secs(1));
    world.start(other);
    world.await_master(secs(10));
    assert_eq!(world.read(at, file), [100, 99]);
}

#[test]
fn a_snapshot_that_takes_long_to_take_in_is_sent_once() {
    let mut world = World::with(1, 3, forgetful());
    let at = world.join(&ALL, true);
    let file = world.open(at, b"/file", EventMask::NONE);
    let (master, _) = world.await_master(secs(1));
    let away = ALL.into_iter().find(|&id| id != master).unwrap();
    world.crash(away);
    (0..100u8).for_each(|number| world.write(at, file, &[number]));
    // Several times as long as the master waits for a word of it.
    world.decode_latency = secs(30).as_micros();
    world.start(away);
    assert!(!world.wait(secs(29), |world| {
        let node = world.servers[&away].node.as_ref().unwrap();
        node.status().peers.snapshots_restored > 0
    }));
    world.run(secs(5));
    world.agree();
    assert_eq!(world.node(away).status().peers.snapshots_restored, 1);
    assert_eq!(world.node(master).status().peers.snapshots_sent, 1);
}

#[test]
fn a_member_added_catches_up_votes_and_may_be_removed() {
    let mut world = World::with(2, 3, forgetful());
    let at = world.join(&ALL, true);
    let file = world.open(at, b"/file", EventMask::NONE);
    (0..60u8).for_each(|number| world.write(at, file, &[number]));
    let addresses = world.add_newcomer(4);
    world.run(secs(3));
    assert!(!world.node(4).serves() && world.node(4).members().members.is_empty(), "it waits to be added");
    change(&mut world, MemberChange::AddLearner { node: 4, addresses }).unwrap();
    let votes = |world: &World| {
        let node = world.servers[&4].node.as_ref().unwrap();
        node.members().members.get(&4).is_some_and(|member| member.votes)
    };
    assert!(world.wait(secs(10), votes), "it was not promoted");
    world.agree();
    assert!(world.node(4).status().peers.snapshots_restored > 0, "the log from the beginning is gone");

    // Four voters need three: without it and with one of the others down, nothing goes on.
    let (master, _) = world.await_master(secs(1));
    let others: Vec<u64> = ALL.into_iter().filter(|&id| id != master).collect();
    world.crash(others[0]);
    world.write(at, file, b"with the newcomer");
    world.crash(4);
    let put = world.put(at, file, b"without a quorum");
    world.run(secs(3));
    assert_eq!(world.clients[at].answer(put), None);
    world.start(4);
    world.start(others[0]);
    assert_eq!(world.answer(at, put, secs(10)), Ok(Got::Done));

    let (master, _) = world.await_master(secs(5));
    let gone = ALL.into_iter().find(|&id| id != master).unwrap();
    world.run(secs(1));
    change(&mut world, MemberChange::Remove { node: gone }).unwrap();
    assert!(
        world.wait(secs(5), |world| {
            !world.servers[&master].node.as_ref().unwrap().members().contains(gone)
        })
    );
    world.write(at, file, b"after");
    let applied = world.node(gone).status().replica.applied;
    world.run(secs(5));
    (0..30u8).for_each(|number| world.write(at, file, &[number]));
    assert!(world.node(gone).status().replica.applied <= applied + 1, "it is told nothing more");
    assert_eq!(world.master(), Some(master), "and disturbs nobody");
    let addresses = world.add_newcomer(5);
    assert_eq!(
        change(&mut world, MemberChange::AddLearner { node: gone, addresses }),
        Err(ChangeError::Removed { node: gone })
    );
}

/// Makes the servers 4, 5 and 6 the members instead of 1, 2 and 3, which go on running.
fn replace_all(world: &mut World) {
    for newcomer in 4..=6 {
        let addresses = world.add_newcomer(newcomer);
        change(world, MemberChange::AddLearner { node: newcomer, addresses }).unwrap();
        let votes = |world: &World| {
            let mut nodes = world.servers.values().filter_map(|server| server.node.as_ref());
            nodes.any(|node| {
                node.serves() && node.members().members.get(&newcomer).is_some_and(|member| member.votes)
            })
        };
        assert!(world.wait(secs(10), votes), "{newcomer} was not promoted");
    }
    for old in ALL {
        let (master, _) = world.await_master(secs(5));
        if master == old {
            let clock = world.clock(old);
            world.node(old).transfer(clock, 4).unwrap();
            world.drain(old);
            assert!(world.wait(secs(5), |world| world.master() == Some(4)));
        }
        change(world, MemberChange::Remove { node: old }).unwrap();
        let gone = |world: &World| {
            world
                .master()
                .and_then(|id| world.servers[&id].node.as_ref())
                .is_some_and(|node| !node.members().contains(old))
        };
        assert!(world.wait(secs(5), gone), "{old} was not removed");
    }
}

#[test]
fn clients_go_on_when_all_servers_that_they_were_told_of_at_first_are_gone() {
    let mut world = World::new(4, 3);
    let (idle, busy) = (world.join(&ALL, true), world.join(&ALL, true));
    let [a, b] = [idle, busy].map(|at| world.open(at, b"/file", EventMask::NONE));
    replace_all(&mut world);
    for _ in 0..35 {
        world.write(busy, b, b"x");
        world.run(secs(1));
    }
    ALL.into_iter().for_each(|id| world.crash(id));
    let (master, _) = world.await_master(secs(5));
    world.crash(master);
    world.write(idle, a, b"idle");
    world.write(busy, b, b"busy");
    assert_eq!(world.read(idle, a), b"busy");
}

#[test]
fn a_client_that_was_away_while_all_servers_were_replaced_is_led_to_the_new_ones() {
    let mut world = World::new(5, 3);
    let at = world.join_with(&ALL, true, secs(600));
    let file = world.open(at, b"/file", EventMask::NONE);
    world.unreachable = (1..=6).map(|id| (at, id)).collect();
    replace_all(&mut world);
    world.run(secs(5));
    world.unreachable.clear();
    // A new one that knows only those of before, too.
    world.write(at, file, b"led");
    let new = world.join(&ALL, true);
    assert_eq!(world.clients[new].session.server().map(|server| server != server_addr(1)), Some(true));
}

#[test]
fn only_the_master_changes_members() {
    let mut world = World::new(3, 3);
    let (master, _) = world.await_master(secs(1));
    let other = ALL.into_iter().find(|&id| id != master).unwrap();
    let clock = world.clock(other);
    let refused = world.node(other).change_members(clock, MemberChange::Remove { node: master });
    assert_eq!(refused, Err(ChangeError::NotMaster));
}

#[test]
fn a_server_that_shuts_down_hands_over_first() {
    for seed in 0..10 {
        let mut world = World::new(seed, 3);
        let at = world.join(&ALL, true);
        let file = world.open(at, b"/file", EventMask::NONE);
        let (master, _) = world.await_master(secs(1));
        world.run(ms(500));
        let clock = world.clock(master);
        world.node(master).shut_down(clock);
        world.drain(master);
        let began = world.now;
        let idle = world.wait(secs(3), |world| world.servers[&master].node.as_ref().unwrap().is_idle());
        assert!(idle, "seed {seed}");
        world.crash(master);
        let (next, _) = world.await_master(secs(3));
        let took = world.now - began;
        assert!(next != master && took < 400_000, "seed {seed}: {took} µs, an election would take 500 ms");
        world.write(at, file, b"x");
        assert_eq!(world.clients[at].session.server(), Some(server_addr(next)));
    }
}
