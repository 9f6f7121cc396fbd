//! How long a cell of three is without a master: from the moment at which that is killed (SIGKILL) or stopped (SIGSTOP) to
//! the next write that an extended client is told to be durable. `CLD_BENCH_FAILOVERS` is how often (20).

use std::time::{Duration, Instant};

use cld_tests::cell::Cell;
use cld_tests::rng::Rng;
use cldc_udp::Options;
use cldc_udp::blocking::Client;
use serde_json::Value;

use crate::client::CONTENTS;
use crate::load::Done;
use crate::{Bench, Result, limit, setting};

/// A fail-over that takes longer is an error.
const DEADLINE: Duration = Duration::from_secs(20);
/// Between two of them, beside what the cell takes to be whole again: a server that has just started helps to elect
/// nobody for an election timeout.
const REST: Duration = Duration::from_millis(1200);

/// Prints how long they take.
///
/// # Errors
/// A write that failed.
pub(crate) fn run(bench: &Bench) -> Result {
    let rounds: usize = setting("CLD_BENCH_FAILOVERS", 20)?;
    let (mut cell, _) = bench.cell(3);
    let options = Options::new("failover", "failover").servers(cell.addresses()).timeout(DEADLINE);
    let client = Client::connect(options)?;
    let file = client.create("/written")?;
    println!(
        "{:<28}{:>8}{:>10}{:>10}{:>10}{:>10}",
        "the master is", "times", "min ms", "p50 ms", "p90 ms", "max ms"
    );
    for (name, kill) in [("killed", true), ("stopped", false)] {
        let mut micros = Vec::new();
        for _ in 0..rounds {
            limit::check()?;
            let old = whole(&cell);
            // At any place between two heartbeats.
            std::thread::sleep(REST + Duration::from_millis(Rng::fresh().below(100)));
            file.write(&[0x5a; CONTENTS])?;
            let begun = Instant::now();
            if kill {
                cell.servers[old].kill9();
            } else {
                cell.servers[old].stop();
            }
            file.write(&[0xa5; CONTENTS])?;
            micros.push(u64::try_from(begun.elapsed().as_micros())?);
            if kill {
                cell.servers[old].restart();
            } else {
                cell.servers[old].cont();
            }
        }
        micros.sort_unstable();
        let done = Done { micros, ..Done::default() };
        let [min, p50, p90, max] = [0, 50, 90, 100].map(|hundredths| done.percentile(hundredths));
        println!("{name:<28}{rounds:>8}{min:>10.0}{p50:>10.0}{p90:>10.0}{max:>10.0}");
    }
    println!("\nthe client's session is at epoch {:?} and never ended", client.epoch());
    Ok(client.close()?)
}

/// Waits until all servers are there and up to date; the place of the master.
fn whole(cell: &Cell) -> usize {
    cell.wait("all servers are up to date", |cell| {
        let master = cell.master();
        let status = cell.status(master)?;
        let fine = |member: &Value| {
            member.get("here") == Some(&Value::Bool(true))
                || (member.get("lag") == Some(&Value::from(0))
                    && member.get("alive") == Some(&Value::Bool(true)))
        };
        status.get("members")?.as_array()?.iter().all(fine).then_some(master)
    })
}
