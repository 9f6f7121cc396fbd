//! What carries datagrams between clients and servers, and messages between servers, and what it does to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::rng::Rng;

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Machine {
    Server(u64),
    /// By its place among the clients.
    Client(usize),
}

/// What the network does to everything, in thousandths, and up to how long it holds something back, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) loss: u64,
    pub(super) duplicates: u64,
    pub(super) damage: u64,
    pub(super) delay: u64,
    /// Of messages between servers; their links carry the others in order.
    pub(super) peer_loss: u64,
}

impl Weather {
    pub(super) const CALM: Self = Self { loss: 0, duplicates: 0, damage: 0, delay: 500, peer_loss: 0 };
}

/// Something on its way.
#[derive(Clone, Debug)]
pub(super) enum Flight {
    ToServer { server: u64, from: SocketAddr, datagram: Vec<u8> },
    ToClient { from: SocketAddr, to: SocketAddr, datagram: Vec<u8> },
    Peer { from: u64, to: u64, link: u64, frame: Vec<u8> },
}

/// The network.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) weather: Weather,
    /// Ways, each in one direction, that carry nothing.
    cut: BTreeSet<(Machine, Machine)>,
    /// Ways that take so much longer.
    slow: BTreeMap<(Machine, Machine), u64>,
    /// Each link's number, which changes when it is made anew, and when its last message arrives.
    links: BTreeMap<(u64, u64), (u64, u64)>,
    /// By when it arrives, and a number that tells apart what arrives at once.
    flights: BTreeMap<(u64, u64), Flight>,
    flown: u64,
}

impl Network {
    pub(super) fn new() -> Self {
        Self {
            weather: Weather::CALM,
            cut: BTreeSet::new(),
            slow: BTreeMap::new(),
            links: BTreeMap::new(),
            flights: BTreeMap::new(),
            flown: 0,
        }
    }

    /// All goes well from now on. Links that were cut are to be made anew: they may have lost something.
    pub(super) fn heal(&mut self) -> BTreeSet<(u64, u64)> {
        self.weather = Weather::CALM;
        self.slow.clear();
        let between = |&(one, other): &(Machine, Machine)| match (one, other) {
            (Machine::Server(one), Machine::Server(other)) => Some((one.min(other), one.max(other))),
            _ => None,
        };
        std::mem::take(&mut self.cut).iter().filter_map(between).collect()
    }

    pub(super) fn cut(&mut self, from: Machine, to: Machine) {
        self.cut.insert((from, to));
    }

    /// Whether it was cut.
    pub(super) fn mend(&mut self, from: Machine, to: Machine) -> bool {
        self.cut.remove(&(from, to))
    }

    pub(super) fn slow(&mut self, from: Machine, to: Machine, by: u64) {
        self.slow.insert((from, to), by);
    }

    /// Makes a link, if there is none; whether it did.
    pub(super) fn link(&mut self, one: u64, other: u64) -> bool {
        let (there, back) =
            ((Machine::Server(one), Machine::Server(other)), (Machine::Server(other), Machine::Server(one)));
        if self.links.contains_key(&(one, other)) || self.cut.contains(&there) || self.cut.contains(&back) {
            return false;
        }
        for way in [(one, other), (other, one)] {
            self.flown += 1;
            self.links.insert(way, (self.flown, 0));
        }
        true
    }

    /// Whether there was one.
    pub(super) fn unlink(&mut self, one: u64, other: u64) -> bool {
        self.links.remove(&(other, one));
        self.links.remove(&(one, other)).is_some()
    }

    /// Whether a message that is arriving was sent by the link that there is now.
    pub(super) fn is_linked(&self, from: u64, to: u64, link: u64) -> bool {
        let cut = self.cut.contains(&(Machine::Server(from), Machine::Server(to)));
        !cut && self.links.get(&(from, to)).is_some_and(|&(number, _)| number == link)
    }

    /// Sends a message between servers; `matters` if its loss would break the link.
    pub(super) fn send(
        &mut self,
        rng: &mut Rng,
        now: u64,
        (from, to): (u64, u64),
        frame: Vec<u8>,
        matters: bool,
    ) {
        let way = (Machine::Server(from), Machine::Server(to));
        let Some(&(link, last)) = self.links.get(&(from, to)) else { return };
        let lost = rng.below(1000) < self.weather.peer_loss && !matters;
        if lost || self.cut.contains(&way) {
            return;
        }
        let delay = 100 + rng.below(self.weather.delay + self.slow.get(&way).unwrap_or(&0) + 1);
        let arrives = (now + delay).max(last);
        self.links.insert((from, to), (link, arrives));
        self.fly(arrives, Flight::Peer { from, to, link, frame });
    }

    /// Sends a datagram, or does to it what the weather is like.
    pub(super) fn throw(&mut self, rng: &mut Rng, now: u64, way: (Machine, Machine), flight: &Flight) {
        if self.cut.contains(&way) || rng.below(1000) < self.weather.loss {
            return;
        }
        let copies = 1 + u64::from(rng.below(1000) < self.weather.duplicates);
        for _ in 0..copies {
            let mut flight = flight.clone();
            if rng.below(1000) < self.weather.damage
                && let Flight::ToServer { datagram, .. } | Flight::ToClient { datagram, .. } = &mut flight
            {
                damage(rng, datagram);
            }
            let most = self.weather.delay + self.slow.get(&way).unwrap_or(&0);
            let arrives = now + 50 + rng.below(most + 1);
            self.fly(arrives, flight);
        }
    }

    /// It arrives, now or later.
    pub(super) fn fly(&mut self, arrives: u64, flight: Flight) {
        self.flown += 1;
        self.flights.insert((arrives, self.flown), flight);
    }

    /// When the next thing arrives.
    pub(super) fn next(&self) -> Option<u64> {
        self.flights.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Takes out what arrives by now.
    pub(super) fn arrive(&mut self, now: u64) -> Option<Flight> {
        let entry = self.flights.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// How much is on its way.
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }
}

/// Turns bits over, or cuts something off.
fn damage(rng: &mut Rng, datagram: &mut Vec<u8>) {
    let length = datagram.len() as u64;
    let place = usize::try_from(rng.below(length)).unwrap_or(0);
    if rng.below(4) == 0 {
        datagram.truncate(place);
    } else if let Some(byte) = datagram.get_mut(place) {
        *byte ^= 1 << rng.below(8);
    }
}
