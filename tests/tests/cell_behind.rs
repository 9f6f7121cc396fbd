//! A follower of a cell of real servers that was away for so long that the others have trimmed what it lacks (failures.md 45).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use cld_tests::cell::Cell;
use cldc_udp::Options;
use cldc_udp::blocking::Client;
use support::load::Load;

/// Every call ends by then.
const DEADLINE: Duration = Duration::from_secs(60);
/// So many writes show that the cell serves.
const SOME: u64 = 30;

fn options(cell: &Cell) -> Options {
    Options::new("tester", "tester").servers(cell.addresses()).timeout(DEADLINE)
}

/// The first entry that the master keeps.
fn first(cell: &Cell) -> u64 {
    let first = |cell: &Cell| cell.status(cell.master())?.pointer("/log/first")?.as_u64();
    cell.wait("the master tells what it keeps", first)
}

#[test]
fn a_follower_that_lacks_what_was_trimmed_catches_up_while_the_cell_serves() {
    // Snapshots are taken every 64 MiB, and 16 MiB before them are kept for those who lag.
    static LARGE: [u8; 131_072] = [1; 131_072];
    const ENOUGH: usize = 1_000;
    let mut cell = Cell::start(3);
    let load = Load::start(&cell.addresses(), 1);
    let master = cell.master();
    let away = cell.others(master)[0];
    let has = cell.status(away).unwrap()["log"]["last"].as_u64().unwrap();
    cell.servers[away].kill9();
    let client = Client::connect(options(&cell)).unwrap();
    let mut written = 0;
    while first(&cell) <= has + 1 {
        (0..20).for_each(|_| client.write("/large", &LARGE).unwrap());
        written += 20;
        assert!(written < ENOUGH, "the log is not trimmed; {}", cell.servers[master].tail());
    }
    cell.servers[away].restart();
    load.await_more(SOME);
    cell.await_caught_up();
    let other = cell.others(master)[1];
    cell.servers[other].kill9();
    load.await_more(SOME);
    assert_eq!(client.read("/large").unwrap().data, LARGE);
    load.finish();
}

#[test]
#[ignore = "for release builds: a million writes"]
fn a_follower_a_million_writes_behind_catches_up_while_the_cell_serves() {
    const SESSIONS: usize = 16;
    const AT_ONCE: usize = 60;
    const WRITES: usize = 1_000_000 / (SESSIONS * AT_ONCE) + 1;
    let mut cell = Cell::start(3);
    let master = cell.master();
    let [away, other] = cell.others(master)[..] else { panic!("two others") };
    let has = cell.status(away).unwrap()["log"]["last"].as_u64().unwrap();
    cell.servers[away].kill9();
    let clients: Vec<Client> = (0..SESSIONS).map(|_| Client::connect(options(&cell)).unwrap()).collect();
    let write = |client: &Client, number: usize| client.create(format!("/{number}")).unwrap();
    let files: Vec<_> = clients.iter().enumerate().map(|(number, client)| write(client, number)).collect();
    let begin = Instant::now();
    thread::scope(|scope| {
        for file in files.iter().flat_map(|file| [file; AT_ONCE]) {
            scope.spawn(|| (0..WRITES).for_each(|_| file.write(b"x").unwrap()));
        }
    });
    println!("{} writes in {:?}", SESSIONS * AT_ONCE * WRITES, begin.elapsed());
    let load = Load::start(&cell.addresses(), 3);
    load.await_more(SOME);
    let begin = Instant::now();
    cell.servers[away].restart();
    cell.await_caught_up();
    println!("caught up in {:?}; it had {has}, the others keep from {}", begin.elapsed(), first(&cell));
    load.await_more(SOME);
    cell.servers[other].kill9();
    load.await_more(SOME);
    for file in &files {
        assert_eq!(file.metadata().unwrap().version, 2 + (AT_ONCE * WRITES) as u64 - 1);
    }
    load.finish();
}
