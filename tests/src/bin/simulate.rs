//! Simulates cells: one run of a given seed, or fresh seeds for some minutes. See docs/testing.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cld_tests::rng::Rng;
use cld_tests::sim::{Plan, Report, run};

const USAGE: &str = "usage: simulate [--seed N [--count N] | --minutes M]
  --seed N     the run of this seed; a failure is there again in every run of it
  --count N    and of as many seeds from there on
  --minutes M  runs of fresh seeds, for so long; one minute if nothing else is asked for";

/// What was asked for.
struct Wanted {
    seed: Option<u64>,
    count: u64,
    minutes: f64,
}

fn main() -> ExitCode {
    let Some(wanted) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // What panics in a run is told with its seed.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let begin = Instant::now();
    let mut total = Totals::default();
    let mut fresh = Rng::fresh();
    let result = match wanted.seed {
        Some(first) => (first..first.saturating_add(wanted.count)).try_for_each(|seed| total.run(seed, true)),
        None => {
            let end = Duration::from_secs_f64(wanted.minutes * 60.0);
            // Short seeds are typed with less trouble.
            let mut seeds = std::iter::from_fn(|| (begin.elapsed() < end).then(|| fresh.below(1 << 40)));
            seeds.try_for_each(|seed| total.run(seed, false))
        }
    };
    println!(
        "{} runs, {:.1} simulated minutes in {:.1} s, {} operations, {} faults, {} sessions lost, {} histories too long to check",
        total.runs,
        total.simulated.as_secs_f64() / 60.0,
        begin.elapsed().as_secs_f64(),
        total.operations,
        total.faults,
        total.lost,
        total.undecided,
    );
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Totals {
    runs: u64,
    simulated: Duration,
    operations: usize,
    faults: u64,
    lost: u64,
    undecided: u64,
}

impl Totals {
    fn run(&mut self, seed: u64, tell: bool) -> Result<(), ()> {
        self.runs += 1;
        let began = Instant::now();
        match run(Plan::of(seed)) {
            Ok(report) => {
                if tell {
                    println!("seed {seed}: {report:?}, in {:.2} s", began.elapsed().as_secs_f64());
                }
                let Report { simulated, operations, faults, sessions, is_decided, .. } = report;
                self.simulated += simulated;
                self.operations += operations.0;
                self.faults += faults;
                self.lost += sessions.1;
                self.undecided += u64::from(!is_decided);
                Ok(())
            }
            Err(failure) => {
                println!(
                    "{failure}\nrepeat it with: cargo run --release -p cld-tests --bin simulate -- --seed {seed}"
                );
                Err(())
            }
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted { seed: None, count: 1, minutes: 1.0 };
    while let Some(argument) = arguments.next() {
        let value = arguments.next()?;
        match argument.as_str() {
            "--seed" => wanted.seed = Some(value.parse().ok()?),
            "--count" => wanted.count = value.parse().ok()?,
            "--minutes" => {
                wanted.minutes =
                    value.parse().ok().filter(|minutes: &f64| minutes.is_finite() && *minutes >= 0.0)?
            }
            _ => return None,
        }
    }
    Some(wanted)
}
