//! A cell of several servers in one process: real nodes on simulated disks, clocks and networks, and real clients.

#[cfg(test)]
mod client;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod digests;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod members;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod reads;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod world;

#[cfg(test)]
const fn ms(millis: u64) -> cldc_core::time::Duration {
    cldc_core::time::Duration::from_millis(millis)
}

#[cfg(test)]
const fn secs(seconds: u64) -> cldc_core::time::Duration {
    cldc_core::time::Duration::from_secs(seconds)
}
