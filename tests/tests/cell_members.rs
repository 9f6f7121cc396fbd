//! The members of a cell of real servers change while clients work (failures.md 40, 42, 45).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use cld_tests::cell::Cell;
use cld_tests::server::Options;
use support::load::Load;

/// So many writes show that the cell serves.
const SOME: u64 = 30;

#[test]
fn servers_are_added_and_removed_under_load_and_no_call_fails() {
    let mut cell = Cell::start(3);
    let load = Load::start(&cell.addresses(), 3);
    load.await_more(SOME);
    let fourth = cell.join(Options::new());
    load.await_more(SOME);
    let master = cell.master();
    let follower = cell.others(master)[0];
    let id = cell.id(follower);
    cell.remove(&id);
    load.await_more(SOME);
    cell.servers[follower].kill9();

    // The master itself, once another one is.
    let id = cell.id(master);
    cell.transfer(fourth);
    cell.remove(&id);
    load.await_more(SOME);
    cell.servers[master].kill9();
    cell.join(Options::new());
    load.await_more(SOME);
    load.finish();
}

#[test]
fn a_cell_whose_servers_were_all_replaced_has_all_that_was_written() {
    let mut cell = Cell::start(1);
    let load = Load::start(&cell.addresses(), 2);
    load.await_more(SOME);
    for _ in 0..2 {
        cell.join(Options::new());
    }
    let client = cldc_udp::Options::new("load", "load").servers(cell.addresses());
    let client = cldc_udp::blocking::Client::connect(client).unwrap();
    client.write("/early", b"kept").unwrap();
    load.finish();
    for replaced in 0..3 {
        let fresh = cell.join(Options::new());
        if cell.master() == replaced {
            cell.transfer(fresh);
        }
        let id = cell.id(replaced);
        cell.remove(&id);
        cell.servers[replaced].kill9();
    }
    let client = cldc_udp::Options::new("load", "load").servers(cell.addresses()[3..].to_vec());
    let client = cldc_udp::blocking::Client::connect(client).unwrap();
    assert_eq!(client.read("/early").unwrap().data, b"kept");
    client.write("/late", b"served").unwrap();
}
