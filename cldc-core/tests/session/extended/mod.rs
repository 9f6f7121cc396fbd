//! Extended sessions, against a server of theirs, on simulated time.

mod events;
mod fencing;
mod hostile;
mod lease;
mod masters;
mod negotiation;
mod resuming;
mod throughput;

use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Op, Packet};

use crate::support::client::Client;
use crate::support::extended_server::ExtendedServer;
use crate::support::network::{Faults, Flight};
use crate::support::world::{World, server};

pub(super) type Extended<C> = World<C, ExtendedServer>;

/// A session that is open, with a server that has nothing special.
fn connected<C: Client>(seed: u64, faults: Faults) -> Extended<C> {
    Extended::connected(ExtendedServer::new(seed), seed, faults)
}

/// A session that is open at the first of two servers, and knows both.
fn with_two_servers<C: Client>(seed: u64) -> Extended<C> {
    let servers = vec![ExtendedServer::new(seed), ExtendedServer::follower(seed + 1, Some(server(0)))];
    let mut world = Extended::<C>::new(servers, seed, Faults::NONE);
    world.run_for(Duration::from_millis(100));
    assert!(world.session.extended());
    world
}

/// The master hands over to the second server.
fn hand_over<C: Client>(world: &mut Extended<C>) {
    let now = world.now;
    let [from, to] = &mut world.servers[..] else { panic!("two servers") };
    from.hand_over(now, to, server(1));
}

/// How many packets with this operation are among these.
fn count(flights: &[Flight], op: Op) -> usize {
    flights.iter().filter(|flight| Packet::parse(&flight.bytes).unwrap().part.op() == Some(op)).count()
}

fn seconds(since: Instant, now: Instant) -> f64 {
    now.since(since).as_micros() as f64 / 1e6
}
