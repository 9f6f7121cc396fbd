//! Whether requests wait while snapshots of very many files are taken and sent: a cell of one that has them is joined by two
//! servers, which get one each; then all three take some as their log grows. `CLD_BENCH_FILES` is how many files there
//! are (1000000).

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cld_tests::server;
use cldc_udp::Options;
use cldc_udp::blocking::Client;

use crate::client::CONTENTS;
use crate::load::{Done, Files, Load};
use crate::{Bench, Result, limit, machine, setting};

/// Sessions that create the files.
const CREATORS: usize = 512;
/// What the log grows by, and how often.
const FEED: (usize, Duration) = (32 << 10, Duration::from_millis(4));
/// Each of the two clients that are measured rests so long after each request.
const REST: Duration = Duration::from_millis(1);
/// How often is looked whether a snapshot is being written.
const LOOK: Duration = Duration::from_millis(5);
/// How long a snapshot may have effects after its file is whole: it is recorded, and the log is trimmed.
const AFTER: Duration = Duration::from_millis(500);
/// How long the servers may take for the first snapshot, and are watched at least.
const GROWTH: Duration = Duration::from_secs(90);
const AT_LEAST: Duration = Duration::from_secs(15);
/// A request that takes longer has stalled.
const STALL: Duration = Duration::from_millis(10);

/// Requests, one after the other: when each began, and how long it took.
type Samples = Vec<(Instant, Duration)>;
/// When a snapshot was being written somewhere.
type Spans = Vec<(Instant, Instant)>;

/// Prints how long requests take.
///
/// # Errors
/// A request that failed, or nothing to be read of the machine.
pub(crate) fn run(bench: &Bench) -> Result {
    let files: usize = setting("CLD_BENCH_FILES", 1_000_000)?;
    let (mut cell, master) = bench.cell(1);
    let mut load = Load::new(cell.servers[master].address())?;
    load.connect(CREATORS, Files::None, true)?;
    let made = load.create(files)?;
    load.end()?;
    let memory = machine::resident(cell.servers[master].process())?;
    println!("{files} files of 64 bytes: {:.0} a second; the server's memory: {memory} KiB", made.rate());
    println!(
        "\n{:<36}{:>10}{:>10}{:>10}{:>10}{:>14}",
        "", "requests", "p50 ms", "p99 ms", "max ms", "over 10 ms"
    );

    let measured = [Request::Read, Request::Write];
    let begun = Instant::now();
    let ((), samples) = beside(&cell.addresses(), &measured, || {
        cell.join(server::Options::new());
        cell.join(server::Options::new());
    })?;
    print("two newcomers get one", &samples, |_, _| true);
    let joined = begun.elapsed();

    let folders: Vec<PathBuf> = cell.servers.iter().map(|server| server.data_dir()).collect();
    let all = [Request::Read, Request::Write, Request::Feed];
    let (spans, samples) = beside(&cell.addresses(), &all, || spans_of_writing(&folders))?;
    let spans = spans?;
    let inside = |at: Instant, took: Duration| {
        spans.iter().any(|&(begin, end)| at + took >= begin && at <= end + AFTER)
    };
    print("all write one", &samples, inside);
    print("none is written", &samples, |at, took| !inside(at, took));
    let written: Duration = spans.iter().map(|(begin, end)| *end - *begin).sum();
    println!(
        "\nthe newcomers voted after {joined:.1?}; {} snapshots were written in {written:.1?}",
        spans.len()
    );
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Read,
    Write,
    /// Only to make the log grow.
    Feed,
}

/// Has a client for each of these send it over and over while something goes on.
fn beside<T>(
    servers: &[SocketAddr],
    requests: &[Request],
    something: impl FnOnce() -> T,
) -> io::Result<(T, Vec<Samples>)> {
    /// Ends the clients, also after a panic.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let ended = &AtomicBool::new(false);
    thread::scope(|scope| {
        let end = End(ended);
        let clients: Vec<_> =
            requests.iter().map(|&request| scope.spawn(move || repeat(servers, request, ended))).collect();
        let value = something();
        drop(end);
        let samples = clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())));
        Ok((value, samples.collect::<io::Result<_>>()?))
    })
}

/// One client that sends this request until it has ended.
fn repeat(servers: &[SocketAddr], request: Request, ended: &AtomicBool) -> io::Result<Samples> {
    let options = Options::new("snapshots", "snapshots").servers(servers.iter().copied());
    let client = Client::connect(options).map_err(io::Error::other)?;
    let file = client.create(format!("/{request:?}")).map_err(io::Error::other)?;
    let (length, rest) = if request == Request::Feed { FEED } else { (CONTENTS, REST) };
    let contents = vec![0x5a; length];
    file.write(&contents).map_err(io::Error::other)?;
    let mut samples = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        limit::check()?;
        let begun = Instant::now();
        match request {
            Request::Read => drop(file.read().map_err(io::Error::other)?),
            Request::Write | Request::Feed => file.write(&contents).map_err(io::Error::other)?,
        }
        samples.push((begun, begun.elapsed()));
        thread::sleep(rest);
    }
    client.close().map_err(io::Error::other)?;
    Ok(samples)
}

/// When a server was writing a snapshot's file. Ends when all servers were seen to, or after [`GROWTH`].
fn spans_of_writing(folders: &[PathBuf]) -> io::Result<Spans> {
    let begun = Instant::now();
    let mut since: Vec<Option<Instant>> = vec![None; folders.len()];
    let (mut spans, mut written) = (Vec::new(), vec![false; folders.len()]);
    while begun.elapsed() < GROWTH
        && (begun.elapsed() < AT_LEAST
            || !written.iter().all(|&written| written)
            || since.iter().any(Option::is_some))
    {
        limit::check()?;
        for (folder, (since, written)) in folders.iter().zip(since.iter_mut().zip(&mut written)) {
            match (writes(folder)?, *since) {
                (true, None) => *since = Some(Instant::now()),
                (false, Some(begin)) => {
                    spans.push((begin, Instant::now()));
                    (*since, *written) = (None, true);
                }
                _ => {}
            }
        }
        thread::sleep(LOOK);
    }
    // What comes after the last one is of interest too.
    thread::sleep(AFTER);
    Ok(spans)
}

/// Whether there is a snapshot's file that is not whole.
fn writes(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        if entry?.file_name().to_string_lossy().ends_with(".tmp") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One line for reads and one for writes, of those samples that were taken at such a time.
fn print(name: &str, samples: &[Samples], taken: impl Fn(Instant, Duration) -> bool) {
    for (what, samples) in ["read", "write"].into_iter().zip(samples) {
        let chosen = samples.iter().filter(|&&(at, took)| taken(at, took));
        let mut micros: Vec<u64> = chosen.map(|&(_, took)| took.as_micros() as u64).collect();
        micros.sort_unstable();
        let stalled = micros.iter().filter(|&&micros| micros > STALL.as_micros() as u64).count();
        let done = Done { micros, ..Done::default() };
        println!(
            "{:<36}{:>10}{:>10.2}{:>10.2}{:>10.2}{stalled:>14}",
            format!("{what} while {name}"),
            done.micros.len(),
            done.percentile(50),
            done.percentile(99),
            done.percentile(100)
        );
    }
}
