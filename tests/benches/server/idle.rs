//! What sessions cost of which nothing is heard but their keep-alives.
//!
//! `CLD_BENCH_IDLE` is how many there are (10000,100000), and `CLD_BENCH_IDLE_SECONDS` how long they are weighed (20).

use std::time::Duration;

use crate::load::{Files, Load};
use crate::{Bench, Result, machine, setting};

/// Prints what they cost in each cell, extended and plain.
///
/// # Errors
/// Nothing to be read of the machine, or a session that cannot be opened.
pub(crate) fn run(bench: &Bench) -> Result {
    let counts: String = setting("CLD_BENCH_IDLE", "10000,100000".to_owned())?;
    let counts = counts.split(',').map(str::parse).collect::<std::result::Result<Vec<usize>, _>>()?;
    let span = Duration::from_secs_f64(setting("CLD_BENCH_IDLE_SECONDS", 20.0)?);
    println!(
        "Memory of the master, and of a follower, for each session; keep-alives: packets to the master in a second,"
    );
    println!("its CPU for each, and the share of one core that all take, of the master and of the others.");
    println!(
        "\n{:<10}{:<10}{:>10}{:>10}{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}",
        "servers",
        "kind",
        "sessions",
        "opened/s",
        "bytes each",
        "follower's",
        "per s",
        "CPU µs",
        "core %",
        "others %"
    );
    for &servers in &bench.cells {
        for (kind, extended) in [("extended", true), ("plain", false)] {
            for &count in &counts {
                let figures = measure(bench, servers, count, extended, span)?;
                println!("{servers:<10}{kind:<10}{count:>10}{figures}");
            }
        }
    }
    Ok(())
}

fn measure(bench: &Bench, servers: usize, count: usize, extended: bool, span: Duration) -> Result<String> {
    let (cell, master) = bench.cell(servers);
    let process = |place: usize| cell.servers[place].process();
    let follower = (0..servers).find(|&place| place != master);
    let memory = |place: Option<usize>| place.map_or(Ok(0), |place| machine::resident(process(place)));
    let places = [Some(master), follower];
    let before = places.map(memory);
    let mut load = Load::new(cell.servers[master].address())?;
    let begun = std::time::Instant::now();
    load.connect(count, Files::None, extended)?;
    let opened = count as f64 / begun.elapsed().as_secs_f64();
    load.turn_for(Duration::from_secs(1))?;
    let mut each = Vec::new();
    for (before, place) in before.into_iter().zip(places) {
        each.push((memory(place)?.saturating_sub(before?) * 1024) as f64 / count as f64);
    }
    let (used, sent) = (machine::cpu_times(&cell, master)?, load.traffic.sent);
    load.turn_for(span)?;
    let (now, sent) = (machine::cpu_times(&cell, master)?, load.traffic.sent.since(sent));
    let [took, others] = [(used.master, now.master), (used.others, now.others)]
        .map(|(before, now)| (now - before).as_secs_f64());
    let share = |seconds: f64| seconds / span.as_secs_f64() * 100.0;
    // Plain sessions are pinged by the server, and may have nothing to say in so short a time.
    let packets = sent.packets.max(1) as f64;
    Ok(format!(
        "{opened:>10.0}{:>12.0}{:>12.0}{:>10.0}{:>10.1}{:>10.1}{:>10.1}",
        each.first().copied().unwrap_or_default(),
        each.get(1).copied().unwrap_or_default(),
        packets / span.as_secs_f64(),
        took * 1e6 / packets,
        share(took),
        share(others),
    ))
}
