//! What the machine and the system say: the disk's rate, a process's CPU time and memory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use cld_tests::cell::Cell;

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

/// The CPU time that a process has used, in user and system mode, all its threads together that have not ended.
pub(crate) fn cpu_time(process: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("schedstat"))?;
        let field = stat.split_whitespace().next().unwrap_or_default();
        nanos += field.parse::<u64>().map_err(io::Error::other)?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// What the servers of a cell have used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTimes {
    pub(crate) master: Duration,
    /// All others together.
    pub(crate) others: Duration,
}

/// The CPU time that the servers of a cell have used.
pub(crate) fn cpu_times(cell: &Cell, master: usize) -> io::Result<CpuTimes> {
    let mut times = CpuTimes { master: Duration::ZERO, others: Duration::ZERO };
    for (place, server) in cell.servers.iter().enumerate() {
        let time = cpu_time(server.process())?;
        if place == master {
            times.master = time;
        } else {
            times.others += time;
        }
    }
    Ok(times)
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
