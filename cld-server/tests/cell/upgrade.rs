//! Programs of several versions in one cell: when its version rises, and who stays out.

use cld_server::database::{Action, Batch, Command};
use cld_server::node::{Event, NodeConfig, SnapshotPolicy};
use cld_server::replica::MemberChange;
use cld_server::storage::{LogEntry, LogPosition};
use cld_server::versions::Versions;
use cldc_core::session::Handle;
use cldc_core::wire::EventMask;

use crate::world::World;
use crate::{ms, secs};

const ALL: [u64; 3] = [1, 2, 3];

/// A cell of three servers whose programs can apply these versions.
fn cell(seed: u64, lowest: u32, highest: u32) -> World {
    let snapshot = SnapshotPolicy { entries: 1_000, bytes: u64::MAX };
    let versions = Versions { lowest, highest };
    World::with(seed, 3, NodeConfig { snapshot, versions, ..NodeConfig::default() })
}

fn file(world: &mut World) -> (usize, Handle) {
    let at = world.join(&ALL, true);
    (at, world.open(at, b"/file", EventMask::NONE))
}

fn version(world: &World, id: u64) -> u32 {
    world.servers[&id].node.as_ref().unwrap().database().version()
}

fn await_version(world: &mut World, wanted: u32) {
    let all = |world: &World| world.up().into_iter().all(|id| version(world, id) == wanted);
    assert!(world.wait(secs(10), all), "the version is not {wanted} everywhere");
}

/// The versions that a server has told of, since it was started the first time.
fn told(world: &World, id: u64) -> Vec<u32> {
    let versions = world.servers[&id].events.iter().filter_map(|event| match event {
        Event::VersionChanged { version } => Some(*version),
        _ => None,
    });
    versions.collect()
}

fn add(world: &mut World, id: u64) {
    let addresses = world.add_newcomer(id);
    world.run(secs(1));
    add_prepared(world, MemberChange::AddLearner { node: id, addresses });
}

fn add_prepared(world: &mut World, change: MemberChange) {
    let (master, _) = world.await_master(secs(5));
    let clock = world.clock(master);
    world.node(master).change_members(clock, change).unwrap();
    world.drain(master);
}

fn votes(world: &World, id: u64) -> bool {
    let node = world.servers[&id].node.as_ref();
    node.is_some_and(|node| node.members().members.get(&id).is_some_and(|member| member.votes))
}

#[test]
fn the_version_rises_once_when_the_last_member_can_apply_it() {
    let mut world = cell(1, 1, 1);
    let (at, file) = file(&mut world);
    for (number, id) in [2, 3, 1].into_iter().enumerate() {
        assert!(ALL.into_iter().all(|id| version(&world, id) == 1), "{number}");
        world.write(at, file, b"before");
        world.change_program(id, 1, 2).unwrap();
        world.write(at, file, b"after");
        if number < 2 {
            // A fail-over while the programs differ, to whichever of them.
            world.run(secs(2));
            let (master, _) = world.await_master(secs(5));
            world.crash(master);
            world.write(at, file, b"mixed");
            world.start(master);
            world.run(secs(2));
        }
    }
    await_version(&mut world, 2);
    world.write(at, file, b"risen");
    world.run(secs(5));
    world.agree();
    for id in ALL {
        assert_eq!(told(&world, id).iter().filter(|&&version| version == 2).count(), 1, "{id}");
    }
    assert_eq!(world.read(at, file), b"risen");
}

#[test]
fn a_fail_over_amid_the_rise_leaves_one_version() {
    for seed in 0..20 {
        let mut world = cell(seed, 1, 1);
        let (at, file) = file(&mut world);
        for id in ALL {
            world.change_program(id, 1, 2).unwrap();
            if id != 3 {
                world.run(secs(2));
            }
        }
        let moment = world.random(400);
        world.run(ms(moment));
        if let Some(master) = world.master() {
            world.crash(master);
            world.run(secs(2));
            world.start(master);
        }
        await_version(&mut world, 2);
        world.write(at, file, b"x");
        world.agree();
    }
}

#[test]
fn what_a_version_brings_is_used_only_once_the_cell_has_it() {
    let mut world = cell(9, 1, 1);
    let (at, file) = file(&mut world);
    world.change_program(2, 1, 2).unwrap();
    world.change_program(3, 1, 2).unwrap();
    for _ in 0..40 {
        world.write(at, file, b"x");
        world.run(secs(1));
    }
    let confirmed =
        |world: &World| ALL.map(|id| world.servers[&id].node.as_ref().unwrap().status().confirmed);
    assert_eq!(confirmed(&world), [None; 3], "states are compared from version 2 on");
    world.change_program(1, 1, 2).unwrap();
    await_version(&mut world, 2);
    world.write(at, file, b"y");
    assert!(world.wait(secs(30), |world| confirmed(world).iter().all(Option::is_some)));
}

#[test]
fn a_member_that_is_not_linked_holds_the_version_back() {
    let mut world = cell(2, 1, 1);
    let (at, file) = file(&mut world);
    world.crash(3);
    for id in [1, 2] {
        world.change_program(id, 1, 2).unwrap();
        world.run(secs(2));
    }
    world.write(at, file, b"two of three");
    world.run(secs(5));
    assert_eq!((version(&world, 1), version(&world, 2)), (1, 1));
    world.change_program(3, 1, 2).unwrap();
    await_version(&mut world, 2);
}

#[test]
fn a_learner_holds_the_version_back_too() {
    let mut world = cell(3, 1, 1);
    add(&mut world, 4);
    assert!(world.wait(secs(10), |world| votes(world, 4)));
    let (master, _) = world.await_master(secs(5));
    world.crash(4);
    let addresses = world.add_newcomer(5);
    world.run(secs(1));
    add_prepared(&mut world, MemberChange::AddLearner { node: 5, addresses });
    world.run(secs(3));
    for id in ALL {
        world.change_program(id, 1, 2).unwrap();
        world.run(secs(2));
    }
    world.change_program(4, 1, 2).unwrap();
    world.run(secs(3));
    assert_eq!(version(&world, master), 1, "server 5 cannot apply more");
    world.change_program(5, 1, 2).unwrap();
    await_version(&mut world, 2);
}

#[test]
fn an_old_program_on_the_disk_of_a_cell_that_rose_refuses_to_start_and_loses_nothing() {
    let mut world = cell(4, 1, 2);
    let (at, file) = file(&mut world);
    await_version(&mut world, 2);
    world.write(at, file, b"of version 2");
    world.agree();
    let (master, _) = world.await_master(secs(1));
    let entries = world.servers[&master].disk.image.entries.len();
    let error = world.change_program(master, 1, 1).unwrap_err().to_string();
    assert!(
        error.contains("of version 2 of the cell, and this server can apply 1 to 1: start a newer"),
        "{error}"
    );
    assert_eq!(world.servers[&master].disk.image.entries.len(), entries);
    world.write(at, file, b"without it");
    world.change_program(master, 1, 2).unwrap();
    world.agree();
    assert_eq!(world.node(master).database().stat(b"/file").unwrap().version, 3);
}

#[test]
fn an_old_program_that_missed_the_rise_is_not_linked_and_comes_back_with_a_new_one() {
    let mut world = cell(5, 1, 1);
    let (at, file) = file(&mut world);
    for id in ALL {
        world.change_program(id, 1, 2).unwrap();
        if id == 3 {
            // Its link is up, and carries nothing: the others believe that it hears of the rise.
            world.isolate(&[3]);
        }
        world.run(secs(2));
    }
    assert_eq!([1, 2, 3].map(|id| version(&world, id)), [2, 2, 1]);
    world.crash(3);
    world.heal();
    world.change_program(3, 1, 1).unwrap();
    world.write(at, file, b"without it");
    world.run(secs(5));
    assert_eq!(version(&world, 3), 1);
    assert!(world.node(3).status().versions.is_empty(), "it is linked with nobody");
    world.change_program(3, 1, 2).unwrap();
    await_version(&mut world, 2);
    world.agree();
}

#[test]
fn an_old_program_that_hears_of_the_rise_stops() {
    let mut world = World::with(6, 1, NodeConfig::default());
    world.crash(1);
    let mut batch = Batch::new(1);
    assert!(batch.push(&Command { at: 1, epoch: 1, action: Action::RaiseVersion { to: 2 } }));
    let image = &mut world.server(1).disk.image;
    let last = image.entries.last().unwrap().at;
    let at = LogPosition { index: last.index + 1, term: last.term };
    image.entries.push(LogEntry { at, payload: batch.into_entry(), ..LogEntry::default() });
    image.hard_state.commit = at.index;
    let error = world.change_program(1, 1, 1).unwrap_err().to_string();
    assert!(error.contains("version 2 of the cell, and this server can apply 1 to 1"), "{error}");
    world.change_program(1, 1, 2).unwrap();
    world.await_master(secs(5));
}

#[test]
fn a_newcomer_that_cannot_apply_the_version_is_never_promoted() {
    let mut world = cell(7, 1, 1);
    let (at, file) = file(&mut world);
    // It waits, linked, while the cell rises without it: it is no member yet.
    let addresses = world.add_newcomer(4);
    for id in ALL {
        world.change_program(id, 1, 2).unwrap();
        world.run(secs(2));
    }
    await_members(&mut world, 2);
    world.write(at, file, b"x");
    add_prepared(&mut world, MemberChange::AddLearner { node: 4, addresses });
    world.run(secs(20));
    let (master, _) = world.await_master(secs(5));
    assert!(!world.node(master).members().members[&4].votes);
    assert_eq!(world.node(4).status().peers.snapshots_restored, 0);
    world.change_program(4, 1, 2).unwrap();
    assert!(world.wait(secs(20), |world| votes(world, 4)), "with a newer program it is");
    world.agree();
}

fn await_members(world: &mut World, wanted: u32) {
    let all = |world: &World| ALL.into_iter().all(|id| version(world, id) == wanted);
    assert!(world.wait(secs(10), all), "the version is not {wanted} on all members");
}

#[test]
fn a_program_that_knows_no_old_version_joins_after_the_rise_and_not_before() {
    let mut world = cell(8, 1, 1);
    let (at, file) = file(&mut world);
    world.config.versions = Versions { lowest: 2, highest: 3 };
    let addresses = world.add_newcomer(4);
    world.run(secs(1));
    add_prepared(&mut world, MemberChange::AddLearner { node: 4, addresses });
    world.run(secs(5));
    let (master, _) = world.await_master(secs(5));
    assert!(!world.node(master).members().members[&4].votes);
    add_prepared(&mut world, MemberChange::Remove { node: 4 });
    world.run(secs(1));
    for id in ALL {
        world.change_program(id, 1, 2).unwrap();
        world.run(secs(2));
        world.write(at, file, b"x");
    }
    await_members(&mut world, 2);
    world.run(secs(2));
    add(&mut world, 5);
    assert!(world.wait(secs(20), |world| votes(world, 5)), "it needs nothing of what was before the rise");
    // All go on to it, one after the other.
    for id in ALL {
        world.change_program(id, 2, 3).unwrap();
        world.run(secs(3));
        world.write(at, file, b"y");
    }
    await_members(&mut world, 3);
    assert_eq!(world.read(at, file), b"y");
}
