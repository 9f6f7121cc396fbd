//! Over any schedule of losses, copies and delays: every message arrives, once, in order, intact.

use std::collections::BTreeMap;

use cldc_core::link::{Arrival, Pacing};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::MAX_MESSAGE;
use cldc_core::wire::{Op, Part};

use super::random::Random;
use super::{PACING, TestReceiver, TestSender, contents, receiver, sender};

enum Datagram {
    Packet { part: Part, number: u64, piece: Vec<u8> },
    Ack(u64),
}

struct Faults {
    loss: u64,
    copies: u64,
    jitter: u64,
}

/// A sender, a receiver, and what is on its way between them.
struct Run<const EARLY: usize> {
    sender: TestSender,
    receiver: TestReceiver<EARLY>,
    network: BTreeMap<(Instant, u64), Datagram>,
    random: Random,
    faults: Faults,
    now: Instant,
    count: u64,
    received: Vec<(u64, Vec<u8>)>,
}

impl<const EARLY: usize> Run<EARLY> {
    fn new(seed: u64, first: u64, pacing: Pacing, faults: Faults) -> Self {
        Self {
            sender: sender(first, pacing),
            receiver: receiver(first),
            network: BTreeMap::new(),
            random: Random(seed),
            faults,
            now: Instant::START,
            count: 0,
            received: Vec::new(),
        }
    }

    fn send(&mut self, make: impl Fn() -> Datagram) {
        for _ in 0..1 + u64::from(self.random.percent(self.faults.copies)) {
            if !self.random.percent(self.faults.loss) {
                let delay = Duration::from_micros(1_000 + self.random.below(self.faults.jitter));
                self.count += 1;
                self.network.insert((self.now + delay, self.count), make());
            }
        }
    }

    fn transmit(&mut self) {
        while let Some(cut) = self.sender.poll(self.now) {
            let piece = self.sender.get(cut.index).unwrap().body[cut.range].to_vec();
            self.send(|| Datagram::Packet { part: cut.part, number: cut.number, piece: piece.clone() });
        }
    }

    fn take(&mut self) {
        loop {
            if let Some(message) = self.receiver.message() {
                assert!(!message.cut);
                self.received.push((message.xid, message.body.to_vec()));
                self.receiver.release();
            }
            if self.receiver.advance().is_none() {
                return;
            }
        }
    }

    /// Until all is acknowledged.
    fn finish(&mut self) {
        for _ in 0..1_000_000 {
            self.transmit();
            if self.sender.is_empty() {
                assert_eq!(self.sender.poll_timeout(), None, "nothing is left to do");
                return;
            }
            let arrival = self.network.keys().next().map(|key| key.0);
            let timeout = self.sender.poll_timeout();
            let next = arrival.into_iter().chain(timeout).min().unwrap();
            assert!(next > self.now || arrival == Some(next), "a timer in the past");
            self.now = next.max(self.now);
            if timeout.is_some_and(|at| at <= self.now) {
                self.sender.handle_timeout(self.now);
            }
            let Some(entry) = self.network.first_entry().filter(|entry| entry.key().0 <= self.now) else {
                continue;
            };
            match entry.remove() {
                Datagram::Ack(number) => while self.sender.acknowledge(self.now, number).is_some() {},
                Datagram::Packet { part, number, piece } => {
                    if self.receiver.accept(number, part, &piece) != Arrival::Refused {
                        self.take();
                        // What has been taken, all of it.
                        let taken = self.receiver.next_number().wrapping_sub(1);
                        self.send(|| Datagram::Ack(taken));
                    }
                }
            }
        }
        panic!("it does not end");
    }
}

fn all_arrive<const EARLY: usize>(seed: u64, whole: u64) {
    let mut random = Random(seed ^ 0x5eed);
    let faults =
        Faults { loss: random.below(40), copies: random.below(30), jitter: 1 + random.below(30_000) };
    // Half of the runs go through the end of the numbers.
    let first = if seed.is_multiple_of(2) { u64::MAX - random.below(60) } else { random.next_u64() };
    let mut run = Run::<EARLY>::new(seed, first, Pacing { whole, ..PACING }, faults);
    let sizes = [0, 1, 1_023, 1_024, 1_025, 2_047, 2_048, 2_049, 20_000];
    let mut sent = Vec::new();
    for message in 0..20 {
        let body = contents(message, sizes[random.below(9) as usize]);
        run.sender.push(Op::Put, message as u64, body.len(), body.clone()).unwrap();
        sent.push((message as u64, body));
        if random.percent(50) {
            run.transmit();
        }
    }
    run.finish();
    assert!(run.received == sent, "seed {seed}, {EARLY} held");
    assert_eq!(run.sender.next_number(), run.receiver.next_number());
    assert_eq!(run.sender.base_number(), run.sender.next_number());
}

#[test]
fn every_message_arrives_once_in_order_and_intact_over_any_schedule() {
    for seed in 0..60 {
        all_arrive::<256>(seed, 0);
        all_arrive::<256>(seed, 25);
        all_arrive::<8>(seed, u64::MAX);
        all_arrive::<0>(seed, 0);
    }
}

#[test]
fn the_longest_messages_arrive() {
    for len in [131_072 + 12, MAX_MESSAGE - 1, MAX_MESSAGE] {
        let faults = Faults { loss: 10, copies: 10, jitter: 5_000 };
        let mut run = Run::<256>::new(len as u64, u64::MAX - 70, PACING, faults);
        run.sender.push(Op::Put, 1, len, contents(1, len)).unwrap();
        run.finish();
        assert!(run.received == [(1, contents(1, len))]);
    }
}

/// Hail's client sent the newest packet first, and a server that takes only the next one: k losses cost k resends.
#[test]
fn many_losses_in_one_pass_cost_one_more_pass() {
    let mut run = Run::<256>::new(
        1,
        0,
        Pacing { window: 1_000, burst: 1_000, ..PACING },
        Faults { loss: 0, copies: 0, jitter: 1 },
    );
    run.sender.push(Op::Put, 1, 129 * 1_024, contents(1, 129 * 1_024)).unwrap();
    let mut numbers = Vec::new();
    while let Some(cut) = run.sender.poll(run.now) {
        let piece = run.sender.get(cut.index).unwrap().body[cut.range.clone()].to_vec();
        // Every third is lost.
        if !numbers.len().is_multiple_of(3) {
            run.receiver.accept(cut.number, cut.part, &piece);
        }
        numbers.push(cut.number);
    }
    assert_eq!(numbers, (0..129).collect::<Vec<u64>>());
    run.finish();
    assert!(run.received == [(1, contents(1, 129 * 1_024))]);
    assert!(run.now < Instant::START + PACING.resend + Duration::from_millis(10), "{:?}", run.now);
}
