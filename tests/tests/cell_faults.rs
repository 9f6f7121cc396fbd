//! Cells of real servers of which some are killed, stopped, wiped or out of disk, while clients work: nothing acknowledged is
//! lost, nothing is done twice, sessions and locks stand, and a disk that forgot does not vote (failures.md 40-42, 44).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::process::Command;
use std::thread;
use std::time::Duration;

use cld_tests::cell::Cell;
use cld_tests::programs;
use cld_tests::server;
use cldc_udp::blocking::Client;
use cldc_udp::{Error, LeaseState, LockKind, Options};
use support::load::Load;

/// Every call ends by then.
const DEADLINE: Duration = Duration::from_secs(60);
/// So many writes show that the cell serves.
const SOME: u64 = 30;
const WRITERS: usize = 3;

fn options(cell: &Cell) -> Options {
    Options::new("tester", "tester").servers(cell.addresses()).timeout(DEADLINE)
}

#[test]
fn kills_of_masters_and_followers_lose_nothing_and_do_nothing_twice() {
    let mut cell = Cell::start(3);
    let load = Load::start(&cell.addresses(), WRITERS);
    for round in 0..4 {
        load.await_more(SOME);
        let master = cell.master();
        let victim = if round % 2 == 0 { master } else { cell.others(master)[0] };
        cell.servers[victim].kill9();
        load.await_more(SOME);
        cell.servers[victim].restart();
        // Otherwise the next one would take the majority with it.
        cell.await_caught_up();
    }
    load.finish();
}

#[test]
fn five_servers_bear_the_loss_of_two() {
    let mut cell = Cell::start(5);
    let load = Load::start(&cell.addresses(), WRITERS);
    load.await_more(SOME);
    let master = cell.master();
    let follower = cell.others(master)[0];
    cell.servers[master].kill9();
    cell.servers[follower].kill9();
    load.await_more(SOME);
    cell.servers[follower].restart();
    let next = cell.master();
    cell.servers[next].kill9();
    load.await_more(SOME);
    load.finish();
}

#[test]
fn all_servers_killed_at_once_remember_what_they_acknowledged() {
    let mut cell = Cell::start(3);
    let load = Load::start(&cell.addresses(), WRITERS);
    let holder = Client::connect(options(&cell)).unwrap();
    let held = holder.create("/lock").unwrap().lock(LockKind::Exclusive).unwrap();
    load.await_more(SOME);
    cell.servers.iter_mut().for_each(server::Cld::kill9);
    for server in &mut cell.servers {
        server.begin_restart();
    }
    load.await_more(SOME);
    assert!(holder.check_sequencer(&held.sequencer().unwrap()).unwrap());
    load.finish();
}

#[test]
fn a_rolling_restart_under_load_fails_no_call() {
    let mut cell = Cell::start(3);
    let load = Load::start(&cell.addresses(), WRITERS);
    load.await_more(SOME);
    let last = cell.master();
    for server in cell.others(last).into_iter().chain([last]) {
        assert_eq!(cell.servers[server].sigterm().code(), Some(0));
        load.await_more(SOME);
        cell.servers[server].restart();
        cell.await_caught_up();
    }
    load.finish();
}

#[test]
fn a_master_that_was_stopped_for_longer_than_a_lease_ends_no_session_and_frees_no_lock() {
    const LEASE: Duration = Duration::from_secs(3);
    let mut cell = Cell::start(3);
    let load = Load::start(&cell.addresses(), 1);
    let holder = Client::connect(options(&cell).lease(LEASE)).unwrap();
    let held = holder.create("/lock").unwrap().lock(LockKind::Exclusive).unwrap();
    let old = cell.master();
    cell.servers[old].stop();
    load.await_more(SOME);
    // As the old master sees it, nobody was heard of for longer than the lease when it goes on.
    thread::sleep(2 * LEASE);
    cell.servers[old].cont();
    cell.wait("the old master follows", |cell| (cell.says(old, "role")? == "follower").then_some(()));
    load.await_more(SOME);
    assert!(holder.check_sequencer(&held.sequencer().unwrap()).unwrap());
    let other = Client::connect(options(&cell)).unwrap();
    assert!(other.try_lock("/lock", LockKind::Exclusive).unwrap().is_none());
    assert!(held.is_safe() && holder.lease_state() == LeaseState::Safe);
    load.finish();
}

#[test]
fn a_plain_session_and_its_lock_outlive_the_master() {
    let mut cell = Cell::start(3);
    let master = cell.master();
    let [near, far] = [0, 1].map(|at| cell.addresses()[cell.others(master)[at]]);
    // Each of another follower, which passes on what they say.
    let connect = |server| {
        Client::connect(Options::new("tester", "tester").server(server).timeout(DEADLINE).plain()).unwrap()
    };
    let (holder, other) = (connect(near), connect(far));
    let held = holder.create("/lock").unwrap().lock(LockKind::Exclusive).unwrap();
    cell.servers[master].kill9();
    assert!(other.try_lock("/lock", LockKind::Exclusive).unwrap().is_none());
    holder.write("/lock", b"still mine").unwrap();
    held.release().unwrap();
    let next = other.lock("/lock", LockKind::Exclusive).unwrap();
    assert_eq!(other.read("/lock").unwrap().data, b"still mine");
    next.release().unwrap();
}

#[test]
fn a_wiped_server_does_not_start_and_comes_back_as_another_one() {
    let mut cell = Cell::start(3);
    let client = Client::connect(options(&cell)).unwrap();
    client.write("/value", b"acknowledged").unwrap();
    let master = cell.master();
    let [wiped, other] = cell.others(master)[..] else { panic!("two others") };
    let old_id = cell.id(wiped);
    cell.servers[wiped].kill9();
    cell.servers[wiped].wipe();
    let why = cell.servers[wiped].refuses_to_restart();
    assert!(why.contains("holds no data") && why.contains("cld cell prepare"), "{why}");

    let token = cell.prepare_again(wiped);
    cell.servers[wiped].restart();
    assert_eq!(cell.says(wiped, "role").as_deref(), Some("waiting"));
    assert_ne!(cell.id(wiped), old_id);
    // It is no part of any majority.
    cell.servers[other].kill9();
    let refused = client.with_timeout(Duration::from_secs(3)).write("/value", b"not acknowledged");
    assert!(matches!(refused, Err(Error::Timeout { .. })), "{refused:?}");
    assert_eq!(cell.says(wiped, "role").as_deref(), Some("waiting"));
    cell.servers[other].restart();

    cell.remove(&old_id);
    cell.add(&token);
    cell.await_votes(3);
    cell.await_caught_up();
    // Now it is.
    cell.servers[other].kill9();
    client.write("/other", b"acknowledged").unwrap();
}

#[test]
fn a_removed_server_may_not_come_back_with_its_data() {
    let mut cell = Cell::start(3);
    let client = Client::connect(options(&cell)).unwrap();
    let master = cell.master();
    let [removed, other] = cell.others(master)[..] else { panic!("two others") };
    let id = cell.id(removed);
    cell.servers[removed].kill9();
    cell.remove(&id);
    cell.servers[removed].restart();
    cell.servers[other].kill9();
    let refused = client.with_timeout(Duration::from_secs(3)).write("/value", b"not acknowledged");
    assert!(matches!(refused, Err(Error::Timeout { .. })), "{refused:?}");
}

#[test]
fn a_second_server_on_the_data_of_a_running_one_is_refused() {
    let cell = Cell::start(3);
    for server in &cell.servers {
        let mut second = Command::new(programs::cld());
        second.args(["-F", "-E", "--insecure-user-as-key", "--bind", "127.0.0.1", "-p", "auto"]);
        second.arg("--data").arg(server.data_dir()).args(["--peer", "127.0.0.1:9"]);
        let output = second.arg("--cell-secret").arg(cell.secret()).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(why.contains(&format!("in use by process {}", server.process())), "{why}");
        assert_eq!(output.status.code(), Some(1));
    }
    Client::connect(options(&cell)).unwrap().write("/value", b"as ever").unwrap();
}

#[test]
fn a_full_disk_takes_one_server_out_and_loses_nothing() {
    let mut cell = Cell::start_with(vec![server::Options::new().on_a_small_disk(); 3]);
    let load = Load::start(&cell.addresses(), WRITERS);
    let client = Client::connect(options(&cell)).unwrap();
    for of_the_master in [false, true] {
        load.await_more(SOME);
        let master = cell.master();
        let victim = if of_the_master { master } else { cell.others(master)[0] };
        let log = cell.servers[victim].data_dir().join("log.redb");
        cell.servers[victim].limit_file_size(log.metadata().unwrap().len());
        while !cell.servers[victim].has_ended() {
            client.write("/large", &[0; 50_000]).unwrap();
        }
        assert_eq!(cell.servers[victim].wait_exit().code(), Some(1));
        assert!(cell.servers[victim].log().contains("the server stops"), "{}", cell.servers[victim].tail());
        load.await_more(SOME);
        // There is room again.
        cell.servers[victim].restart();
        cell.await_caught_up();
    }
    load.finish();
}
