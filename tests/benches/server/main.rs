//! How fast the real `cld` is on a real disk: `cargo bench -p cld-tests --bench server`, or some of its parts: `-- many one lossy idle`.
//!
//! `CLD_BENCH_SECONDS` is how long each figure is measured (4). `CLD_BENCH_DIR` is where the data lies (the target
//! folder): it must be on a disk, for on a tmpfs nothing is made durable. `CLD_BENCH_IDLE` is how many idle sessions are
//! weighed (10000), and `CLD_BENCH_IDLE_SECONDS` for how long (30). The clients take CPU time of the same machine, on one thread.

mod client;
mod load;
mod lossy;
mod machine;
mod single;

use std::env;
use std::error::Error;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use cld_tests::observe::Figures;
use cld_tests::programs;
use cld_tests::server::{Cld, Options};

use client::{CONTENTS, Work};
use load::{Files, Load};

const CLIENTS: [usize; 4] = [1, 16, 64, 256];
/// How long the disk's own rate is measured, each time.
const DISK_SPAN: Duration = Duration::from_millis(300);

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    // Cargo runs it without this to see whether it starts.
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let span = Duration::from_secs_f64(setting("CLD_BENCH_SECONDS", 4.0)?);
    let idle = setting("CLD_BENCH_IDLE", 10_000)?;
    let folder = setting("CLD_BENCH_DIR", programs::workspace().join("target"))?;
    println!("{}; data in {}", machine::describe(), folder.display());
    println!("CPU: the server's, all its threads; disk: appends of 4 KiB with fdatasync, just before\n");
    let parts: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    if wanted("many") {
        throughput(&folder, span)?;
    }
    if wanted("one") {
        single::run(&server(&folder)?, &folder, span)?;
    }
    if wanted("lossy") {
        let hidden = Options::new().behind_proxy().start_in(tempfile::tempdir_in(&folder)?);
        lossy::run(&hidden, span)?;
    }
    if wanted("idle") {
        idle_sessions(&folder, idle, Duration::from_secs(setting("CLD_BENCH_IDLE_SECONDS", 30)?))?;
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

fn throughput(folder: &Path, span: Duration) -> Result {
    let cld = server(folder)?;
    println!(
        "{:<28}{:>8}{:>10}{:>10}{:>10}{:>12}{:>12}",
        "operation", "clients", "per s", "p50 ms", "p99 ms", "CPU µs each", "disk per s"
    );
    let write = format!("durable write, {CONTENTS} bytes");
    let read = format!("read, {CONTENTS} bytes");
    let own = [(write.as_str(), Work::Write), (&read, Work::Read), ("lock and unlock", Work::Lock)];
    let shared = [("hand-over of a lock", Work::HandOver)];
    let mut rows = Vec::new();
    for clients in CLIENTS {
        for (files, works) in [(Files::Own, &own[..]), (Files::Shared, &shared)] {
            if files == Files::Shared && clients == 1 {
                continue;
            }
            let mut load = Load::connect(cld.address(), clients, files)?;
            for &(name, work) in works {
                rows.push((name, clients, measure(&cld, &mut load, work, span, folder)?));
            }
            load.end()?;
        }
    }
    // All figures of one operation together.
    for (name, _) in own.iter().chain(&shared) {
        for (_, clients, figures) in rows.iter().filter(|(row, ..)| row == name) {
            println!("{name:<28}{clients:>8}{figures}");
        }
    }
    println!("\nthe server's memory after that: {} KiB", machine::resident(cld.process())?);
    Ok(())
}

/// Beside the disk's own rate just before: that of a shared machine changes.
fn measure(cld: &Cld, load: &mut Load, work: Work, span: Duration, folder: &Path) -> Result<String> {
    let disk = machine::disk_rate(folder, DISK_SPAN)?;
    let mut cpu = Vec::new();
    let done = load.run(work, span, || cpu.push(machine::cpu_time(cld.process())))?;
    let cpu = cpu.into_iter().collect::<std::io::Result<Vec<_>>>()?;
    let used = cpu.last().zip(cpu.first()).map_or(Duration::ZERO, |(end, begin)| *end - *begin);
    let each = used.as_secs_f64() * 1e6 / done.micros.len() as f64;
    let (rate, p50, p99) = (done.rate(), done.percentile(50), done.percentile(99));
    Ok(format!("{rate:>10.0}{p50:>10.2}{p99:>10.2}{each:>12.0}{disk:>12.0}"))
}

/// What a session costs of which nothing is heard but its keep-alive.
fn idle_sessions(folder: &Path, count: usize, span: Duration) -> Result {
    let mut cld = server(folder)?;
    let before = machine::resident(cld.process())?;
    let mut load = Load::connect(cld.address(), count, Files::None)?;
    load.turn_for(Duration::from_secs(1))?;
    let after = machine::resident(cld.process())?;
    let each = (after.saturating_sub(before) * 1024).checked_div(count as u64).unwrap_or_default();
    println!(
        "\nthe server's memory: {before} KiB at its start, {after} KiB with {count} idle sessions: {each} bytes each"
    );
    let seen = Figures::of(&mut cld);
    let (cpu, traffic) = (machine::cpu_time(cld.process())?, load.traffic);
    load.turn_for(span)?;
    let cpu = machine::cpu_time(cld.process())?.saturating_sub(cpu);
    let (sent, got) = (load.traffic.sent.since(traffic.sent), load.traffic.received.since(traffic.received));
    let now = Figures::of(&mut cld);
    let entries = now.get("last_index") - seen.get("last_index");
    let per_keepalive = |figure: f64| figure / sent.packets as f64;
    println!(
        "their keep-alives: {} packets in {span:?}, each {:.0} bytes; {:.2} packets and {:.0} bytes back, \
         {:.1} µs of the server's CPU, {:.4} entries of the log",
        sent.packets,
        per_keepalive(sent.bytes as f64),
        per_keepalive(got.packets as f64),
        per_keepalive(got.bytes as f64),
        per_keepalive(cpu.as_secs_f64() * 1e6),
        per_keepalive(entries as f64)
    );
    Ok(())
}
