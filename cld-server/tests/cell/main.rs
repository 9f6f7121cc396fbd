//! A cell of several servers in one process: real nodes on simulated disks, clocks and networks, and real clients.

mod client;
mod disk;
mod world;

mod clients;
mod faults;
mod members;
mod reads;

use cldc_core::time::Duration;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
