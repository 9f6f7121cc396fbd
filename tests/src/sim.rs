//! A whole cell and its clients in one thread and in virtual time: real sessions of `cldc-core`, real server nodes, and
//! adapters that lose, delay, repeat, reorder and damage what they carry. All that happens follows from a seed, so a
//! failure that a seed finds is there again whenever it is run; see docs/testing.md.
//!
//! [`run`] is one run. It builds a [`Plan`] from its seed, lets a world go wrong for a while, then (in liveness mode)
//! stops all faults and sees whether everything ends well, and checks what the clients saw with [`crate::history`].

mod checks;
mod client;
mod clock;
mod disk;
mod faults;
mod names;
mod network;
mod plan;
mod server;
mod trace;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub use plan::Plan;
use world::World;

/// What a run that went well was like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How much time went by in it.
    pub simulated: Duration,
    /// A checksum of all that happened, in its order: equal for equal seeds.
    pub hash: u64,
    /// Operations of clients, and how many of them were never answered.
    pub operations: (usize, usize),
    /// Whether all histories could be checked; some of a few are too long for the search. The other checks were made.
    pub is_decided: bool,
    /// Faults injected.
    pub faults: u64,
    /// Sessions opened, and lost to faults.
    pub sessions: (u64, u64),
    /// How often a server began to serve.
    pub epochs: usize,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Repeats it.
    pub seed: u64,
    /// When.
    pub at: Duration,
    /// What must not be.
    pub what: String,
    /// What happened last before.
    pub trace: Vec<String>,
    /// The plan of the run.
    pub plan: Box<Plan>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:#?}", self.plan)?;
        writeln!(f, "The last steps:")?;
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        write!(f, "seed {} failed after {:.6} s: {}", self.seed, self.at.as_secs_f64(), self.what)
    }
}

impl std::error::Error for Failure {}

/// Runs what follows from a seed.
///
/// # Errors
/// What must not be and was.
pub fn run(plan: Plan) -> Result<Report, Box<Failure>> {
    let mut world = World::new(plan);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.go()));
    let what = match outcome {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(what)) => what,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            format!("a panic: {}", said.unwrap_or_default())
        }
    };
    Err(Box::new(world.failed(what)))
}

const fn millis(millis: u64) -> u64 {
    millis * 1000
}

const fn seconds(seconds: u64) -> u64 {
    seconds * 1_000_000
}
