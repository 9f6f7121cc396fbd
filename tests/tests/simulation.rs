//! A small fixed set of simulated cells; `cargo run --release -p cld-tests --bin simulate` runs many more. See
//! docs/testing.md.
#![expect(clippy::panic, reason = "a test that cannot go on must fail")]

use std::ops::Range;

use cld_tests::sim::{Plan, Report, run};

fn check(seeds: Range<u64>) -> Vec<Report> {
    seeds.map(|seed| run(Plan::of(seed).shortened()).unwrap_or_else(|failure| panic!("{failure}"))).collect()
}

#[test]
fn simulated_cells_keep_their_promises() {
    let reports = check(0..16);
    // The faults were there, and work was done all the same.
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    assert!(sum(|report| report.faults) > 300, "{reports:?}");
    assert!(sum(|report| report.epochs as u64) > 30, "{reports:?}");
    let undecided = reports.iter().filter(|report| !report.is_decided).count();
    assert!(undecided <= reports.len() / 8, "{reports:?}");
    let answered = sum(|report| (report.operations.0 - report.operations.1) as u64);
    assert!(answered > 5_000, "{reports:?}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let (one, again, other) = (check(5..6), check(5..6), check(6..7));
    assert_eq!(one, again);
    assert_ne!(one[0].hash, other[0].hash);
}
