//! Cells of real servers, each in a network namespace of its own, between which packets vanish, also one way only
//! (failures.md 40-42).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::time::Duration;

use cld_tests::cell::Cell;
use cld_tests::network::Network;
use cldc_udp::blocking::Client;
use cldc_udp::{Error, Options};
use support::load::Load;
use support::mix;

/// So many writes show that the cell serves.
const SOME: u64 = 30;
const WRITERS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(60);
/// How long something is tried that must not succeed.
const SHORT: Duration = Duration::from_secs(3);

fn options(cell: &Cell) -> Options {
    Options::new("tester", "tester").servers(cell.addresses()).timeout(DEADLINE)
}

/// A cell of three that serves, and clients that work.
fn three(network: &Network) -> (Cell, Load) {
    let cell = Cell::start_with(network.servers());
    let load = Load::start(&cell.addresses(), WRITERS);
    load.await_more(SOME);
    (cell, load)
}

#[test]
fn a_master_without_a_majority_answers_nobody_and_the_majority_goes_on() {
    Network::run("a_master_without_a_majority_answers_nobody_and_the_majority_goes_on", 3, |network| {
        let (cell, load) = three(network);
        let old = cell.master();
        let others = cell.others(old);
        let near = Options::new("tester", "tester").server(cell.addresses()[old]).plain();
        let stale = Client::connect(near.timeout(SHORT)).unwrap();
        let client = Client::connect(options(&cell)).unwrap();
        client.write("/value", b"old").unwrap();
        assert_eq!(stale.read("/value").unwrap().data, b"old");
        network.split(&[&[old], &others]);
        client.write("/value", b"new").unwrap();
        // It is not told a lie, nor is its write taken.
        let answers = (stale.read("/value"), stale.write("/value", b"lost"));
        assert!(
            matches!(answers, (Err(Error::Timeout { .. }), Err(Error::Timeout { .. }))),
            "{:?}, {:?}",
            answers.0,
            answers.1
        );
        load.await_more(SOME);
        assert_eq!(client.read("/value").unwrap().data, b"new");
        cell.wait("the old master steps down", |cell| (cell.says(old, "role")? != "master").then_some(()));
        network.heal();
        cell.await_caught_up();
        load.await_more(SOME);
        load.finish();
    });
}

#[test]
fn a_master_that_is_heard_but_hears_nobody_makes_way() {
    Network::run("a_master_that_is_heard_but_hears_nobody_makes_way", 3, |network| {
        let (cell, load) = three(network);
        let old = cell.master();
        cell.others(old).iter().for_each(|&other| network.cut(other, old));
        cell.wait("another one is the master", |cell| {
            cell.others(old).into_iter().find(|&other| cell.says(other, "role").as_deref() == Some("master"))
        });
        load.await_more(SOME);
        network.heal();
        cell.await_caught_up();
        load.finish();
    });
}

#[test]
fn a_master_that_hears_but_is_not_heard_makes_way() {
    Network::run("a_master_that_hears_but_is_not_heard_makes_way", 3, |network| {
        let (cell, load) = three(network);
        let old = cell.master();
        cell.others(old).iter().for_each(|&other| network.cut(old, other));
        cell.wait("another one is the master", |cell| {
            cell.others(old).into_iter().find(|&other| cell.says(other, "role").as_deref() == Some("master"))
        });
        load.await_more(SOME);
        network.heal();
        cell.await_caught_up();
        load.finish();
    });
}

#[test]
fn a_follower_that_was_cut_off_disturbs_nobody_when_it_is_back() {
    Network::run("a_follower_that_was_cut_off_disturbs_nobody_when_it_is_back", 3, |network| {
        let (cell, load) = three(network);
        let master = cell.master();
        let [cut, other] = cell.others(master)[..] else { panic!("two others") };
        let epoch = cell.status(master).unwrap()["epoch"].clone();
        network.split(&[&[cut], &[master, other]]);
        cell.wait("it asks for votes", |cell| (cell.says(cut, "role")? == "candidate").then_some(()));
        load.await_more(SOME);
        network.heal();
        cell.await_caught_up();
        load.await_more(SOME);
        assert_eq!(cell.status(master).unwrap()["epoch"], epoch, "no master was voted out");
        load.finish();
    });
}

#[test]
fn a_pair_that_cannot_talk_is_served_through_the_third() {
    Network::run("a_pair_that_cannot_talk_is_served_through_the_third", 3, |network| {
        let (cell, load) = three(network);
        let old = cell.master();
        let [cut, _] = cell.others(old)[..] else { panic!("two others") };
        network.split(&[&[old], &[cut]]);
        load.await_more(10 * SOME);
        network.heal();
        cell.await_caught_up();
        load.finish();
    });
}

#[test]
fn a_cell_in_pieces_acknowledges_nothing_until_they_are_joined() {
    Network::run("a_cell_in_pieces_acknowledges_nothing_until_they_are_joined", 5, |network| {
        let (cell, load) = three(network);
        let client = Client::connect(options(&cell)).unwrap();
        client.write("/value", b"whole").unwrap();
        network.split(&[&[0, 1], &[2, 3], &[4]]);
        let refused = client.with_timeout(SHORT).write("/value", b"in pieces");
        assert!(matches!(refused, Err(Error::Timeout { .. })), "{refused:?}");
        assert!(cell.others(5).iter().all(|&place| cell.says(place, "role").as_deref() != Some("master")));
        network.heal();
        load.await_more(SOME);
        client.write("/other", b"whole again").unwrap();
        load.finish();
    });
}

/// What happens to the network while clients work.
#[derive(Debug)]
enum Cut {
    MasterOff,
    MasterDeaf,
    MasterMute,
    OnePair,
}

#[test]
fn histories_linearize_and_locks_have_one_holder_whatever_the_network_loses() {
    const CUTS: [Cut; 5] = [Cut::MasterOff, Cut::MasterDeaf, Cut::MasterMute, Cut::OnePair, Cut::MasterOff];
    Network::run("histories_linearize_and_locks_have_one_holder_whatever_the_network_loses", 3, |network| {
        let mut cell = Cell::start_with(network.servers());
        mix::linearizes(&mut cell, &CUTS, |cell, cut, progress| {
            let master = cell.master();
            let others = cell.others(master);
            match cut {
                Cut::MasterOff => network.split(&[&[master], &others]),
                Cut::MasterDeaf => others.iter().for_each(|&other| network.cut(other, master)),
                Cut::MasterMute => others.iter().for_each(|&other| network.cut(master, other)),
                Cut::OnePair => network.split(&[&[master], &others[..1]]),
            }
            progress.await_more();
            network.heal();
        });
    });
}
