//! Many clients at cells of one and of three servers: what they get done, and what it costs the servers.

use std::time::Duration;

use cld_tests::cell::Cell;

use crate::client::{CONTENTS, Work};
use crate::load::{Done, Files, Load};
use crate::{Bench, Result, machine};

const CLIENTS: [usize; 4] = [1, 16, 64, 256];
/// How many sessions are told of a write.
const WATCHERS: usize = 1000;
/// How long the disk's own rate is measured, each time.
const DISK_SPAN: Duration = Duration::from_millis(300);

/// One kind of work, and what its clients open.
struct Row {
    name: String,
    work: Work,
    files: Files,
}

/// Prints a table for each cell.
///
/// # Errors
/// A request that failed, or nothing to be read of the machine.
pub(crate) fn run(bench: &Bench) -> Result {
    let row = |name: &str, work, files| Row { name: name.to_owned(), work, files };
    let rows = [
        row(&format!("durable write, {CONTENTS} bytes"), Work::Write, Files::Own),
        row(&format!("leased read, {CONTENTS} bytes"), Work::Read, Files::Own),
        row("lock and unlock", Work::Lock, Files::Own),
        row("hand-over of a lock", Work::HandOver, Files::Shared),
        row(&format!("event to {WATCHERS} watchers"), Work::Notify, Files::Own),
    ];
    println!(
        "CPU: of all threads of the master, and of all other servers; disk: appends of 4 KiB with fdatasync, just before."
    );
    println!(
        "A hand-over is from the release to the other's grant. The events of a write are counted one by one, and its"
    );
    println!("milliseconds end with the last; the {WATCHERS} sessions share the files of the clients.");
    for &servers in &bench.cells {
        let (cell, master) = bench.cell(servers);
        println!(
            "\n{:<28}{:>8}{:>10}{:>10}{:>10}{:>10}{:>10}{:>12}",
            format!("servers: {servers}"),
            "clients",
            "per s",
            "p50 ms",
            "p99 ms",
            "CPU µs",
            "others µs",
            "disk per s"
        );
        for row in &rows {
            for clients in CLIENTS.into_iter().filter(|&clients| clients > 1 || row.files != Files::Shared) {
                println!("{:<28}{clients:>8}{}", row.name, measure(bench, &cell, master, row, clients)?);
            }
        }
        println!(
            "\nthe master's memory after that: {} KiB",
            machine::resident(cell.servers[master].process())?
        );
    }
    Ok(())
}

/// Beside the disk's own rate just before: that of a shared machine changes.
fn measure(bench: &Bench, cell: &Cell, master: usize, row: &Row, clients: usize) -> Result<String> {
    let mut load = Load::new(cell.servers[master].address())?;
    load.connect(clients, row.files, true)?;
    if row.work == Work::Notify {
        load.connect(WATCHERS, Files::Watched(clients), true)?;
    }
    let disk = machine::disk_rate(&bench.folder, DISK_SPAN)?;
    let mut used = Vec::new();
    let done = load.run(row.work, bench.span, || used.push(machine::cpu_times(cell, master)))?;
    load.end()?;
    let used = used.into_iter().collect::<std::io::Result<Vec<_>>>()?;
    let (before, after) = used.first().zip(used.last()).ok_or("the CPU was not measured")?;
    let Done { told, span, .. } = done;
    let count = if row.work == Work::Notify { told as f64 } else { done.micros.len() as f64 };
    let each = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / count;
    Ok(format!(
        "{:>10.0}{:>10.2}{:>10.2}{:>10.1}{:>10.1}{disk:>12.0}",
        count / span.as_secs_f64(),
        done.percentile(50),
        done.percentile(99),
        each(before.master, after.master),
        each(before.others, after.others),
    ))
}
