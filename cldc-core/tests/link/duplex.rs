//! Two peers that say what they have, and a bad network between them: all arrives, and soon.

use std::collections::BTreeMap;

use cldc_core::link::{Acknowledger, Arrival};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Ack, Op, Part};

use super::random::Random;
use super::{PACING, TestReceiver, TestSender, contents, receiver, sender};

/// What peers hold that came early.
const EARLY: usize = 63;

/// An acknowledgement, and perhaps a packet.
#[derive(Clone)]
struct Datagram {
    ack: Ack,
    packet: Option<(Part, u64, Vec<u8>)>,
}

struct Faults {
    loss: u64,
    copies: u64,
    delay: Duration,
    jitter: Duration,
}

struct Peer {
    sender: TestSender,
    receiver: TestReceiver<EARLY>,
    acknowledger: Acknowledger,
    received: Vec<(u64, Vec<u8>)>,
}

impl Peer {
    fn new(first: u64, other: u64, window: u64) -> Self {
        let mut sender = sender(first, PACING);
        sender.set_selective(window);
        Self {
            sender,
            receiver: receiver(other),
            acknowledger: Acknowledger::default(),
            received: Vec::new(),
        }
    }

    fn push(&mut self, xid: u64, body: Vec<u8>) {
        self.sender.push(Op::Put, xid, body.len(), body).unwrap();
    }

    /// The next datagram, if one is to leave.
    fn poll(&mut self, now: Instant) -> Option<Datagram> {
        let packet = self
            .sender
            .poll(now)
            .map(|cut| (cut.part, cut.number, self.sender.get(cut.index).unwrap().body[cut.range].to_vec()));
        if packet.is_none() && !self.acknowledger.is_due(now) {
            return None;
        }
        self.acknowledger.sent();
        Some(Datagram { ack: self.receiver.ack(), packet })
    }

    fn handle(&mut self, now: Instant, datagram: Datagram) {
        assert!(self.sender.acknowledge_selectively(now, datagram.ack));
        while self.sender.take_acknowledged().is_some() {}
        let Some((part, number, piece)) = datagram.packet else { return };
        let arrival = self.receiver.accept(number, part, &piece);
        assert_ne!(arrival, Arrival::Refused, "a sender keeps to the window");
        self.acknowledger.arrived(now, arrival);
        loop {
            if let Some(message) = self.receiver.message() {
                self.received.push((message.xid, message.body.to_vec()));
                self.receiver.release();
            }
            if self.receiver.advance().is_none() {
                return;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.sender.poll_timeout().into_iter().chain(self.acknowledger.poll_timeout()).min()
    }
}

struct Run {
    peers: [Peer; 2],
    /// What is on its way, and to which peer.
    network: BTreeMap<(Instant, u64), (usize, Datagram)>,
    random: Random,
    faults: Faults,
    now: Instant,
    count: u64,
}

impl Run {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random(seed);
        // Half of the streams go through the end of the numbers.
        let [one, other] = [0, 1].map(|_| match random.percent(50) {
            true => u64::MAX - random.below(60),
            false => random.next_u64(),
        });
        let mut window = || 1 + random.below(64);
        let peers = [Peer::new(one, other, window()), Peer::new(other, one, window())];
        Self { peers, network: BTreeMap::new(), random, faults, now: Instant::START, count: 0 }
    }

    fn transmit(&mut self) {
        for from in 0..2 {
            while let Some(datagram) = self.peers[from].poll(self.now) {
                for _ in 0..1 + u64::from(self.random.percent(self.faults.copies)) {
                    if !self.random.percent(self.faults.loss) {
                        let jitter = Duration::from_micros(self.random.below(self.faults.jitter.as_micros()));
                        self.count += 1;
                        let arrival = self.now + self.faults.delay + jitter;
                        self.network.insert((arrival, self.count), (1 - from, datagram.clone()));
                    }
                }
            }
        }
    }

    /// Until neither peer has anything left to send.
    fn finish(&mut self) {
        for _ in 0..100_000 {
            self.transmit();
            if self.peers.iter().all(|peer| peer.sender.is_empty()) {
                return;
            }
            let arrival = self.network.keys().next().map(|key| key.0);
            let timeout = self.peers.iter().filter_map(Peer::poll_timeout).min();
            assert!(timeout.is_none_or(|at| at > self.now), "a timer in the past");
            self.now = arrival.into_iter().chain(timeout).min().unwrap();
            for peer in &mut self.peers {
                peer.sender.handle_timeout(self.now);
            }
            if let Some(entry) = self.network.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (to, datagram) = entry.remove();
                self.peers[to].handle(self.now, datagram);
            }
        }
        panic!("it does not end");
    }
}

#[test]
fn every_message_arrives_once_in_order_and_intact_in_both_directions_over_any_schedule() {
    for seed in 0..150 {
        eprintln!("seed {seed}");
        let mut random = Random(seed ^ 0x5eed);
        let faults = Faults {
            loss: random.below(40),
            copies: random.below(30),
            delay: Duration::from_micros(random.below(100_000)),
            jitter: Duration::from_micros(random.below(60_000)),
        };
        let mut run = Run::new(seed, faults);
        let sizes = [0, 1, 1_023, 1_024, 1_025, 2_048, 2_049, 20_000, 100_000];
        let mut sent = [Vec::new(), Vec::new()];
        for message in 0..20 {
            for (peer, sent) in run.peers.iter_mut().zip(&mut sent) {
                let body = contents(message, sizes[random.below(9) as usize]);
                peer.push(message as u64, body.clone());
                sent.push((message as u64, body));
            }
            if random.percent(50) {
                run.transmit();
            }
        }
        run.finish();
        let [one, other] = &run.peers;
        assert!(one.received == sent[1] && other.received == sent[0]);
        for (from, to) in [(one, other), (other, one)] {
            assert_eq!(from.sender.base_number(), from.sender.next_number(), "all is acknowledged");
            assert_eq!(from.sender.next_number(), to.receiver.next_number());
            assert_eq!(from.sender.poll_timeout(), None);
        }
    }
}

/// Simulated time until a peer knows that the other has all of such a message.
fn time_of(seed: u64, len: usize, faults: Faults) -> Duration {
    let mut run = Run::new(seed, faults);
    for peer in &mut run.peers {
        peer.sender.set_selective(64);
    }
    run.peers[0].push(1, contents(1, len));
    run.finish();
    assert!(run.peers[1].received == [(1, contents(1, len))]);
    run.now.since(Instant::START)
}

#[test]
fn a_message_of_128_kib_through_ten_percent_loss_and_20_ms_round_trip_takes_less_than_two_seconds() {
    let mut times: Vec<u64> = (0..200)
        .map(|seed| {
            let faults =
                Faults { loss: 10, copies: 0, delay: Duration::from_millis(10), jitter: Duration::ZERO };
            let time = time_of(seed, 131_072 + 12, faults);
            assert!(time < Duration::from_secs(2), "seed {seed}: {time:?}");
            time.as_micros() / 1_000
        })
        .collect();
    times.sort_unstable();
    eprintln!("median {} ms, worst {} ms", times[100], times[199]);
}

/// Slow start from 16 packets: 16, 32 and 64 in a round trip, then the rest.
#[test]
fn a_message_of_128_kib_takes_four_round_trips_if_nothing_is_lost() {
    let faults = Faults { loss: 0, copies: 0, delay: Duration::from_millis(50), jitter: Duration::ZERO };
    let time = time_of(1, 131_072 + 12, faults);
    assert!(time < Duration::from_millis(450), "{time:?}");
}
