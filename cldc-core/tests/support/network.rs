//! A network that loses, repeats, delays, reorders and damages datagrams, on simulated time and from a seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cldc_core::time::{Duration, Instant};

use super::random::Random;

/// What goes wrong, in percent of the datagrams, and how long they take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    pub(crate) corruption: u64,
    /// A datagram takes this long at least,
    pub(crate) delay: Duration,
    /// and up to so much longer: more than the distance between two datagrams reorders them.
    pub(crate) jitter: Duration,
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        loss: 0,
        duplication: 0,
        corruption: 0,
        delay: Duration::from_millis(1),
        jitter: Duration::ZERO,
    };
    /// The network of the project's promise: 30 % lost, 10 % twice, and out of order.
    pub(crate) const ROUGH: Self = Self {
        loss: 30,
        duplication: 10,
        corruption: 0,
        delay: Duration::from_millis(2),
        jitter: Duration::from_millis(8),
    };
    /// Nothing gets through.
    pub(crate) const CUT: Self = Self { loss: 100, ..Self::NONE };
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Network {
    pub(crate) faults: Faults,
    random: Random,
    flights: BTreeMap<(Instant, u64), Flight>,
    count: u64,
}

impl Network {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self { faults, random: Random(seed), flights: BTreeMap::new(), count: 0 }
    }

    pub(crate) fn send(&mut self, now: Instant, flight: Flight) {
        let copies = 1 + u64::from(self.random.percent(self.faults.duplication));
        for _ in 0..copies {
            if self.random.percent(self.faults.loss) {
                continue;
            }
            let mut copy = flight.clone();
            if self.random.percent(self.faults.corruption) {
                let place = self.random.below(copy.bytes.len() as u64) as usize;
                copy.bytes[place] ^= 1 << self.random.below(8);
            }
            let jitter = Duration::from_micros(self.random.below(self.faults.jitter.as_micros()));
            self.count += 1;
            self.flights.insert((now + self.faults.delay + jitter, self.count), copy);
        }
    }

    /// When the next datagram arrives.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.flights.keys().next().map(|&(at, _)| at)
    }

    /// A datagram that has arrived.
    pub(crate) fn receive(&mut self, now: Instant) -> Option<Flight> {
        let first = self.flights.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
