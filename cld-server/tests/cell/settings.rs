//! Users and limits of a cell: replicated, set by the master, and never taken from a configuration that is out of date.

use std::collections::BTreeMap;

use cld_server::database::{LimitKind, Limits, Setting, SettingError, UserName};
use cld_server::keys::{Keys, Secret};
use cld_server::node::{Authority, Event, NodeConfig, SetError, SnapshotPolicy};
use cld_server::replica::MemberChange;
use cldc_core::wire::EventMask;

use crate::world::World;
use crate::{ms, secs};

const ALL: [u64; 3] = [1, 2, 3];

fn own() -> NodeConfig {
    NodeConfig { authority: Authority::Operator, ..NodeConfig::default() }
}

fn name(user: &str) -> UserName {
    UserName::new(user.as_bytes()).unwrap()
}

fn add(user: &str, secret: &[u8]) -> Setting {
    Setting::AddUser { user: name(user), secret: Secret::new(secret).unwrap(), replace: false }
}

fn listed(users: &[(&str, &str)]) -> Keys {
    let secret = |secret: &str| Secret::new(secret.as_bytes()).unwrap();
    Keys::Listed(users.iter().map(|&(user, text)| (user.to_owned(), secret(text))).collect())
}

/// Has the master make a setting: what came of it.
fn set(world: &mut World, setting: Setting) -> Result<(), SettingError> {
    let (master, _) = world.await_master(secs(5));
    let clock = world.clock(master);
    let ticket = world.node(master).set(clock, setting).unwrap();
    world.drain(master);
    let outcome = move |world: &World| {
        world.servers[&master].events.iter().find_map(|event| match event {
            Event::Set { ticket: told, result } if *told == ticket => Some(*result),
            _ => None,
        })
    };
    assert!(world.wait(secs(5), |world| outcome(world).is_some()));
    outcome(world).unwrap()
}

fn users(world: &mut World, id: u64) -> Vec<String> {
    let users = world.node(id).database().users();
    users.names_after(None).map(ToString::to_string).collect()
}

/// Lets in only those who are listed, of whom the clients' user is one.
fn list_tester(world: &mut World) {
    set(world, add("tester", b"tester")).unwrap();
    set(world, Setting::UserAsKey(false)).unwrap();
}

#[test]
fn a_user_added_at_the_master_is_let_in_by_a_server_whose_configuration_never_named_the_user() {
    let nobody = || ALL.into_iter().map(|id| (id, listed(&[]))).collect();
    let mut world = World::with_keys(1, 3, own(), nobody());
    let (master, _) = world.await_master(secs(1));
    assert!(users(&mut world, master).is_empty());
    assert_eq!(set(&mut world, add("tester", b"tester")), Ok(()));
    assert_eq!(set(&mut world, add("tester", b"other")), Err(SettingError::UserExists));
    let limit = LimitKind::SessionTimeout;
    assert_eq!(set(&mut world, Setting::Limit { limit, value: 7 }), Ok(()));
    let at = world.join(&ALL, true);
    let file = world.open(at, b"/file", EventMask::NONE);
    world.write(at, file, b"before");
    world.crash(master);
    let (next, _) = world.await_master(secs(5));
    assert_ne!(next, master);
    world.write(at, file, b"after");
    world.join(&[next], false);
    assert_eq!(users(&mut world, next), ["tester"]);
    assert_eq!(world.node(next).database().limits().session_timeout, 7);
}

#[test]
fn what_the_configuration_of_a_follower_says_changes_nothing_even_when_it_becomes_the_master() {
    let mut world = World::with(2, 3, own());
    list_tester(&mut world);
    set(&mut world, Setting::Limit { limit: LimitKind::Payload, value: 1000 }).unwrap();
    let (first, _) = world.await_master(secs(1));
    // The others are started again with what was right long ago.
    world.config.limits = Limits { sessions: 1, payload: 5, session_timeout: 99, ..Limits::default() };
    for id in ALL {
        world.keys.insert(id, listed(&[("gone", "secret"), ("tester", "an old secret")]));
    }
    for id in ALL.into_iter().filter(|&id| id != first) {
        world.crash(id);
        world.run(ms(100));
        world.start(id);
        world.run(secs(2));
    }
    world.crash(first);
    let (next, _) = world.await_master(secs(5));
    let clock = world.clock(next);
    let (keys, limits) = (world.keys[&next].clone(), world.config.limits);
    world.node(next).reconfigure(clock, keys, limits);
    world.drain(next);
    world.run(secs(1));
    assert_eq!(users(&mut world, next), ["tester"]);
    assert!(!world.node(next).database().users().user_as_key());
    let expected = Limits { payload: 1000, ..Limits::default() };
    assert_eq!(*world.node(next).database().limits(), expected);
    let (one, two) = (world.join(&ALL, true), world.join(&ALL, false));
    assert_ne!(one, two, "the user's secret is the one that was set, and there is room for two sessions");
}

#[test]
fn a_snapshot_brings_users_and_limits_to_a_newcomer() {
    let snapshot = SnapshotPolicy { entries: 20, bytes: u64::MAX };
    let mut world = World::with(3, 3, NodeConfig { snapshot, keep_entries: Some(5), ..own() });
    list_tester(&mut world);
    set(&mut world, Setting::Limit { limit: LimitKind::TotalData, value: 1 << 20 }).unwrap();
    let at = world.join(&ALL, true);
    let file = world.open(at, b"/file", EventMask::NONE);
    (0..60u8).for_each(|number| world.write(at, file, &[number]));
    world.keys.insert(4, listed(&[("gone", "secret")]));
    let addresses = world.add_newcomer(4);
    let (master, _) = world.await_master(secs(5));
    let clock = world.clock(master);
    world.node(master).change_members(clock, MemberChange::AddLearner { node: 4, addresses }).unwrap();
    world.drain(master);
    let votes = |world: &World| {
        let node = world.servers[&4].node.as_ref().unwrap();
        node.members().members.get(&4).is_some_and(|member| member.votes)
    };
    assert!(world.wait(secs(10), votes), "it was not promoted");
    world.agree();
    assert!(world.node(4).status().peers.snapshots_restored > 0);
    assert_eq!(users(&mut world, 4), ["tester"]);
    assert_eq!(world.node(4).database().limits().total_data, 1 << 20);
}

#[test]
fn the_first_configuration_of_a_new_cell_is_taken_whole_and_once() {
    let many: Vec<String> = (0..2500).map(|number| format!("user-{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|user| (user.as_str(), "secret")).collect();
    let mut world = World::with_keys(4, 1, own(), BTreeMap::from([(1, listed(&many))]));
    // It serves only when all of them are in, though they fill several entries.
    assert_eq!(world.node(1).database().users().len(), 2500);
    assert!(world.node(1).database().has_adopted());
    for setting in many.iter().map(|(user, _)| Setting::RemoveUser { user: name(user) }) {
        set(&mut world, setting).unwrap();
    }
    world.crash(1);
    world.start(1);
    world.await_master(secs(5));
    world.run(secs(1));
    assert!(users(&mut world, 1).is_empty(), "a cell without users is not a new one");
}

#[test]
fn a_cell_of_one_follows_its_configuration_from_its_start_and_when_it_changes() {
    let mut world =
        World::with_keys(5, 1, NodeConfig::default(), BTreeMap::from([(1, listed(&[("a", "1")]))]));
    assert_eq!(users(&mut world, 1), ["a"]);
    let clock = world.clock(1);
    assert_eq!(world.node(1).set(clock, add("b", b"2")), Err(SetError::Configured));
    world.node(1).reconfigure(clock, listed(&[("b", "2"), ("tester", "tester")]), Limits::default());
    world.drain(1);
    world.run(ms(100));
    assert_eq!(users(&mut world, 1), ["b", "tester"]);
    assert_eq!(world.server(1).events.last(), Some(&Event::Configured));
    world.join(&[1], true);
    world.crash(1);
    world.keys.insert(1, listed(&[("b", "3")]));
    world.config.limits = Limits { sessions: 9, ..Limits::default() };
    world.start(1);
    world.await_master(secs(5));
    let database = world.node(1).database();
    assert_eq!(database.users().secret(&name("b")), Secret::new(b"3").as_ref());
    assert_eq!((database.users().len(), database.limits().sessions), (1, 9));
    world.crash(1);
    world.keys.insert(1, Keys::UserAsKey);
    world.start(1);
    world.await_master(secs(5));
    assert!(world.node(1).database().users().user_as_key() && users(&mut world, 1).is_empty());
}

#[test]
fn the_sessions_of_a_user_who_was_removed_hear_nothing_more_and_run_out() {
    for extended in [true, false] {
        let mut world = World::with(6, 3, own());
        list_tester(&mut world);
        let at = world.join(&ALL, extended);
        let file = world.open(at, b"/file", EventMask::NONE);
        let lock = world.lock(at, file);
        world.answer(at, lock, secs(5)).unwrap();
        set(&mut world, Setting::RemoveUser { user: name("tester") }).unwrap();
        let put = world.put(at, file, b"too late");
        world.run(secs(5));
        assert_eq!(world.clients[at].answer(put), None);
        let (master, _) = world.await_master(secs(1));
        let state = |world: &mut World| {
            let database = world.node(master).database();
            let file = database.stat(b"/file").unwrap();
            (database.totals().sessions, database.lock_queue(file.inode).count(), file.version)
        };
        assert_eq!(state(&mut world), (1, 1, 1), "what the session has, it keeps until its lease is over");
        world.run(secs(200));
        assert_eq!(state(&mut world), (0, 0, 1));
    }
}

#[test]
fn only_the_master_makes_settings() {
    let mut world = World::with(7, 3, own());
    let (master, _) = world.await_master(secs(1));
    let other = ALL.into_iter().find(|&id| id != master).unwrap();
    let clock = world.clock(other);
    assert_eq!(world.node(other).set(clock, Setting::UserAsKey(false)), Err(SetError::NotMaster));
}
