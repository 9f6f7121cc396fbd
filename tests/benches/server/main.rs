//! How fast the real `cld` is on a real disk: `cargo bench -p cld-tests --bench server`, or some of its parts:
//! `-- many failover idle snapshots one lossy`.
//!
//! `CLD_BENCH_SECONDS` is how long each figure is measured (3), `CLD_BENCH_SERVERS` how many servers the cells have for
//! `many` and `idle` (1,3). `CLD_BENCH_DIR` is where the data lies (the target folder): it must be on a disk, for on a
//! tmpfs nothing is made durable. Each part has settings of its own. The clients take CPU time of the same machine.
//! It ends after `CLD_BENCH_LIMIT` seconds (1200) at the latest, and its servers with it, also when it is interrupted.

#![expect(clippy::indexing_slicing, reason = "servers stand at the places that their cell has told")]

mod client;
mod failover;
mod idle;
mod limit;
mod load;
mod lossy;
mod machine;
mod many;
mod single;
mod snapshots;

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use cld_tests::cell::Cell;
use cld_tests::programs;
use cld_tests::server::{Cld, Options};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// What all parts need to know.
struct Bench {
    folder: PathBuf,
    span: Duration,
    cells: Vec<usize>,
}

impl Bench {
    /// A cell of so many servers, and the place of its master.
    fn cell(&self, servers: usize) -> (Cell, usize) {
        let cell = Cell::start_in(&self.folder, servers);
        let master = cell.master();
        (cell, master)
    }
}

type Part = fn(&Bench) -> Result;

const PARTS: [(&str, Part); 6] = [
    ("many", many::run),
    ("failover", failover::run),
    ("idle", idle::run),
    ("snapshots", snapshots::run),
    ("one", |bench| Ok(single::run(&server(&bench.folder)?, &bench.folder, bench.span)?)),
    ("lossy", |bench| {
        let hidden = Options::new().behind_proxy().start_in(tempfile::tempdir_in(&bench.folder)?);
        lossy::run(&hidden, bench.span)
    }),
];

fn main() -> Result {
    // Cargo runs it without this to see whether it starts.
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let cells: String = setting("CLD_BENCH_SERVERS", "1,3".to_owned())?;
    let bench = Bench {
        folder: setting("CLD_BENCH_DIR", programs::target())?,
        span: Duration::from_secs_f64(setting("CLD_BENCH_SECONDS", 3.0)?),
        cells: cells.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?,
    };
    limit::set(Duration::from_secs(setting("CLD_BENCH_LIMIT", 1200)?))?;
    println!("{}; data in {}", machine::describe(), bench.folder.display());
    let asked: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = asked.iter().find(|asked| PARTS.iter().all(|(name, _)| name != asked)) {
        return Err(format!("there is no part {unknown}").into());
    }
    for (name, part) in PARTS {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            println!("\n== {name}\n");
            let begin = Instant::now();
            part(&bench)?;
            println!("\n({name}: {:.0} s)", begin.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

fn setting<T: FromStr<Err: Error + 'static>>(name: &str, default: T) -> Result<T> {
    match env::var(name) {
        Ok(text) => Ok(text.parse().map_err(|error| format!("{name}={text}: {error}"))?),
        Err(env::VarError::NotPresent) => Ok(default),
        Err(error) => Err(format!("{name}: {error}").into()),
    }
}

fn server(folder: &Path) -> Result<Cld> {
    Ok(Options::new().start_in(tempfile::tempdir_in(folder)?))
}
