//! What clients see of a cell of three while its servers are killed, stopped and started again is linearizable, and no two
//! clients trust one lock. `CLD_TEST_SEED` repeats what the clients do.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on must fail")]

mod support;

use cld_tests::cell::Cell;
use support::mix::{self, Progress};

/// What is done to the cell while clients work.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillMaster,
    StopMaster,
    KillFollower,
    HandOver,
}

const FAULTS: [Fault; 6] = [
    Fault::KillMaster,
    Fault::HandOver,
    Fault::StopMaster,
    Fault::KillFollower,
    Fault::KillMaster,
    Fault::StopMaster,
];

#[test]
fn histories_linearize_and_locks_have_one_holder_whatever_becomes_of_the_master() {
    let mut cell = Cell::start(3);
    mix::linearizes(&mut cell, &FAULTS, |cell, fault, progress| harm(cell, *fault, progress));
}

/// Leaves the cell with all its servers.
fn harm(cell: &mut Cell, fault: Fault, progress: &Progress) {
    let master = cell.master();
    let other = (master + 1) % 3;
    match fault {
        Fault::KillMaster | Fault::KillFollower => {
            let victim = if matches!(fault, Fault::KillMaster) { master } else { other };
            cell.servers[victim].kill9();
            progress.await_more();
            cell.servers[victim].restart();
        }
        Fault::StopMaster => {
            cell.servers[master].stop();
            progress.await_more();
            cell.servers[master].cont();
        }
        Fault::HandOver => {
            let to = cell.says(other, "server").unwrap();
            cell.ask(master, &["transfer", &to]).unwrap();
        }
    }
}
