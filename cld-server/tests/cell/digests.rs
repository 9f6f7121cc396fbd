//! Replicas whose states differ: the minority stops, and without a majority all do (failures.md 46).

use cld_server::database::{Action, Command, Database, Settled, UserName, Write};
use cld_server::node::{NodeConfig, SnapshotPolicy};
use cldc_core::session::Handle;
use cldc_core::wire::{EventMask, OpenMode};

use crate::client::Got;
use crate::world::World;
use crate::{ms, secs};

/// Makes a file that is nowhere else.
fn spoil(path: &'static str) -> impl FnOnce(&mut Database) {
    move |database| {
        let sid = 77;
        let user = UserName::new(b"nobody").unwrap();
        let peer = ([127, 0, 0, 1], 9).into();
        let open =
            Write::Open { mode: OpenMode::CREATE, events: EventMask::NONE, path: path.as_bytes().into() };
        let request =
            |order, write| Action::Request { sid, xid: order, order, settled: Settled::default(), write };
        for action in [
            Action::OpenSession { sid, user, peer, xid: 1, order: 1, terms: None },
            request(2, open),
            request(3, Write::EndSession),
        ] {
            database.apply(&Command { at: 1, epoch: 1, action });
        }
        assert!(database.stat(path.as_bytes()).is_some());
    }
}

/// A cell with a client and a file.
fn cell(seed: u64, size: u64) -> (World, usize, Handle) {
    let mut world = World::new(seed, size);
    let all: Vec<u64> = (1..=size).collect();
    let at = world.join(&all, true);
    let file = world.open(at, b"/file", EventMask::NONE);
    world.write(at, file, b"first");
    (world, at, file)
}

fn restart_spoiled(world: &mut World, id: u64, path: &'static str) {
    world.crash(id);
    world.start_changed(id, spoil(path));
    world.run(secs(1));
}

/// The servers that are not the master.
fn followers(world: &mut World) -> Vec<u64> {
    let (master, _) = world.await_master(secs(5));
    world.ids().into_iter().filter(|&id| id != master).collect()
}

fn stopped(world: &World) -> Vec<u64> {
    world.servers.iter().filter(|(_, server)| server.stopped.is_some()).map(|(&id, _)| id).collect()
}

fn hand_over(world: &mut World, to: u64) {
    let (master, _) = world.await_master(secs(5));
    let clock = world.clock(master);
    world.node(master).transfer(clock, to).unwrap();
    world.drain(master);
    assert!(world.wait(secs(5), |world| world.master() == Some(to)), "the mastership was handed over");
}

#[test]
fn servers_with_the_same_state_go_on_and_know_it() {
    let (mut world, at, file) = cell(1, 3);
    world.drift(10_000);
    for number in 0..30u8 {
        world.write(at, file, &[number]);
        world.run(secs(1));
    }
    world.agree();
    assert_eq!(stopped(&world), [0u64; 0]);
    for id in 1..=3 {
        let status = world.node(id).status();
        assert!(status.confirmed.is_some_and(|index| index + 15 > status.replica.applied), "{status:?}");
        assert_eq!(status.others_diverged, [0u64; 0]);
    }
}

#[test]
fn a_follower_whose_state_differs_stops_and_its_data_is_not_used_again() {
    let (mut world, at, file) = cell(2, 3);
    let wrong = followers(&mut world)[0];
    let master = world.master();
    restart_spoiled(&mut world, wrong, "/odd");
    world.write(at, file, b"second");
    assert!(world.wait(secs(15), |world| !stopped(world).is_empty()), "it stops");
    assert_eq!((stopped(&world), world.master()), (vec![wrong], master));
    let why = world.server(wrong).stopped.clone().unwrap();
    assert!(why.contains("the state here is wrong: behind entry"), "{why}");
    world.start(wrong);
    assert!(!world.up().contains(&wrong), "its data was used again");
    world.write(at, file, b"third");
    assert_eq!(world.read(at, file), b"third");
    world.agree();
}

#[test]
fn a_master_whose_state_differs_steps_down_before_it_stops_and_no_acknowledged_write_is_lost() {
    let (mut world, at, file) = cell(3, 3);
    let wrong = followers(&mut world)[0];
    restart_spoiled(&mut world, wrong, "/odd");
    hand_over(&mut world, wrong);
    let mut written = 0u32;
    let end = world.now + secs(5).as_micros();
    while world.now < end {
        written += 1;
        world.write(at, file, &written.to_be_bytes());
    }
    assert!(world.wait(secs(15), |world| world.node_ref(wrong).is_none_or(|node| !node.serves())));
    // From here on it answers nobody.
    let last = world.put(at, file, b"meanwhile");
    assert!(world.wait(secs(5), |world| !stopped(world).is_empty()));
    assert_eq!(stopped(&world), [wrong]);
    let leads = |id: &u64| world.node_ref(*id).unwrap().status().replica.leader == Some(*id);
    assert!(world.up().iter().any(leads), "another is the leader already");
    world.await_master(ms(300));
    let version =
        world.up().iter().map(|&id| world.node(id).database().stat(b"/file").unwrap().version).max();
    assert!(version.is_some_and(|version| version > u64::from(written)), "an acknowledged write is lost");
    assert_eq!(world.answer(at, last, secs(30)), Ok(Got::Done));
    assert_eq!(world.read(at, file), b"meanwhile");
    world.write(at, file, b"last");
    world.agree();
    for id in world.up() {
        assert!(world.node(id).database().stat(b"/odd").is_none(), "the wrong state has spread");
    }
}

#[test]
fn three_servers_with_three_states_all_stop() {
    let (mut world, at, file) = cell(4, 3);
    let others = followers(&mut world);
    restart_spoiled(&mut world, others[0], "/odd");
    restart_spoiled(&mut world, others[1], "/even");
    world.write(at, file, b"second");
    assert!(world.wait(secs(15), |world| stopped(world).len() == 3), "{:?}", stopped(&world));
    for id in 1..=3 {
        let why = world.server(id).stopped.clone().unwrap();
        assert!(why.contains("no majority of the servers has the same state"), "{why}");
        world.start(id);
    }
    assert_eq!(world.up(), [0u64; 0]);
}

#[test]
fn two_wrong_ones_of_five_stop_be_they_alike_or_not() {
    for (seed, paths) in [(5, ["/odd", "/even"]), (6, ["/odd", "/odd"])] {
        let (mut world, at, file) = cell(seed, 5);
        let wrong = followers(&mut world)[..2].to_vec();
        restart_spoiled(&mut world, wrong[0], paths[0]);
        restart_spoiled(&mut world, wrong[1], paths[1]);
        hand_over(&mut world, wrong[1]);
        world.write(at, file, b"second");
        assert!(world.wait(secs(15), |world| stopped(world).len() == 2));
        world.run(secs(30));
        assert_eq!(stopped(&world), wrong);
        assert_eq!(world.read(at, file), b"second");
        world.agree();
    }
}

#[test]
fn two_against_two_of_five_is_no_majority() {
    let (mut world, at, file) = cell(7, 5);
    let others = followers(&mut world);
    restart_spoiled(&mut world, others[0], "/odd");
    restart_spoiled(&mut world, others[1], "/odd");
    restart_spoiled(&mut world, others[2], "/even");
    world.write(at, file, b"second");
    assert!(world.wait(secs(15), |world| stopped(world).len() == 5), "{:?}", stopped(&world));
}

#[test]
fn who_is_right_is_left_to_a_third_server_that_comes_in_time() {
    for comes in [true, false] {
        let (mut world, at, file) = cell(8, 3);
        let others = followers(&mut world);
        let (wrong, away) = (others[0], others[1]);
        restart_spoiled(&mut world, wrong, "/odd");
        world.crash(away);
        world.write(at, file, b"second");
        // Time enough to compare, but not to give up.
        world.run(secs(15));
        assert_eq!(stopped(&world), [0u64; 0], "two of three disagree, and the third may know");
        if comes {
            world.start(away);
            assert!(world.wait(secs(5), |world| !stopped(world).is_empty()));
            world.run(secs(30));
            assert_eq!(stopped(&world), [wrong]);
            assert_eq!(world.read(at, file), b"second");
        } else {
            assert!(world.wait(secs(10), |world| stopped(world).len() == 2));
        }
    }
}

#[test]
fn a_state_that_no_majority_has_is_not_sent_as_a_snapshot() {
    let snapshot = SnapshotPolicy { entries: 20, bytes: u64::MAX };
    let config = NodeConfig { snapshot, keep_entries: Some(5), ..NodeConfig::default() };
    let mut world = World::with(9, 3, config);
    let at = world.join(&[1, 2, 3], true);
    let file = world.open(at, b"/file", EventMask::NONE);
    let others = followers(&mut world);
    let (wrong, away) = (others[0], others[1]);
    world.crash(away);
    for number in 0..100u8 {
        world.write(at, file, &[number]);
    }
    restart_spoiled(&mut world, wrong, "/odd");
    hand_over(&mut world, wrong);
    let before = world.server(wrong).disk.image.base.at.index;
    world.start(away);
    // It lacks what the others have trimmed, and the present state of the master is not to be trusted.
    for number in 0..40u8 {
        world.write(at, file, &[number]);
    }
    world.wait(secs(15), |world| !stopped(world).is_empty());
    assert!(world.server(away).node.as_ref().is_none_or(|node| node.database().stat(b"/odd").is_none()));
    assert_eq!(world.server(wrong).disk.image.base.at.index, before, "a wrong state became a snapshot");
}
