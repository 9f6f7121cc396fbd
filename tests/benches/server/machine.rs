//! What the machine and the system say: the disk's rate, a process's CPU time and memory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// The unit of CPU time in /proc, as Linux tells it to programs on every machine.
const TICK: Duration = Duration::from_millis(10);

/// How many times in a second 4 KiB can be appended to a file and made durable with fdatasync.
pub(crate) fn disk_rate(folder: &Path, span: Duration) -> io::Result<f64> {
    let path = folder.join("disk-rate");
    let mut file = File::create(&path)?;
    let (begin, mut syncs) = (Instant::now(), 0_u32);
    while begin.elapsed() < span {
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        syncs += 1;
    }
    let rate = f64::from(syncs) / begin.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(rate)
}

/// The CPU time that a process has used, in user and system mode, all its threads together.
pub(crate) fn cpu_time(process: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field, the name, may hold anything; it ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    let ticks = ticks.sum::<Result<u32, _>>().map_err(io::Error::other)?;
    Ok(TICK * ticks)
}

/// The memory of a process that is in RAM, in KiB.
pub(crate) fn resident(process: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    number.parse().map_err(io::Error::other)
}

/// The machine, in words.
pub(crate) fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}
