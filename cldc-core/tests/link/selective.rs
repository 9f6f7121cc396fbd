//! The sender whose peer says what it has.

use cldc_core::link::ahead;
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Ack, Op};

use super::random::Random;
use super::{PACING, TestSender, sender};

pub(super) const MS: fn(u64) -> Duration = Duration::from_millis;
pub(super) const NOW: Instant = Instant::from_micros(5_000_000);

/// A selective sender of one message of so many pieces.
pub(super) fn selective(first: u64, pieces: usize) -> TestSender {
    let mut sender = sender(first, PACING);
    sender.set_selective(64);
    push(&mut sender, 1, pieces);
    sender
}

pub(super) fn push(sender: &mut TestSender, xid: u64, pieces: usize) {
    sender.push(Op::Put, xid, pieces * 1_024, vec![0; pieces * 1_024]).unwrap();
}

/// The numbers of all that may leave at this moment.
pub(super) fn numbers(sender: &mut TestSender, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| sender.poll(now)).map(|cut| cut.number).collect()
}

pub(super) fn numbers_up_to(sender: &mut TestSender, now: Instant, count: usize) -> Vec<u64> {
    std::iter::from_fn(|| sender.poll(now)).take(count).map(|cut| cut.number).collect()
}

/// The acknowledgement of all before `next`, and of `held`.
pub(super) fn ack(next: u64, held: &[u64]) -> Ack {
    Ack { next, held: held.iter().fold(0, |bits, number| bits | 1 << (number.wrapping_sub(next) - 1)) }
}

/// Lets the resend timer fire.
pub(super) fn fire(sender: &mut TestSender) -> Instant {
    let at = sender.poll_timeout().unwrap();
    sender.handle_timeout(at);
    at
}

#[test]
fn k_losses_in_a_window_cost_one_round_trip() {
    let mut sender = selective(0, 16);
    assert_eq!(numbers(&mut sender, NOW), (0..16).collect::<Vec<_>>());
    // 0, 3, 4 and 9 are lost; the acknowledgement of the last one tells, and does so for all of them.
    let now = NOW + MS(20);
    assert!(sender.acknowledge_selectively(now, ack(0, &[1, 2, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15])));
    assert_eq!(numbers(&mut sender, now), [0, 3, 4, 9]);
    assert!(sender.acknowledge_selectively(now + MS(20), ack(16, &[])));
    assert_eq!(sender.take_acknowledged().map(|message| message.xid), Some(1));
    assert_eq!(sender.poll_timeout(), None);
}

#[test]
fn a_packet_is_lost_when_three_later_ones_are_acknowledged_and_not_before() {
    let mut sender = selective(0, 16);
    numbers(&mut sender, NOW);
    sender.acknowledge_selectively(NOW, ack(0, &[1, 2]));
    assert_eq!(numbers(&mut sender, NOW), []);
    sender.acknowledge_selectively(NOW, ack(0, &[1, 2, 4]));
    assert_eq!(numbers(&mut sender, NOW), [0]);
    // 0 has been repeated, and waits for the timer; 3 is lost, too, when there is room in the halved window.
    sender.acknowledge_selectively(NOW, ack(0, &[1, 2, 4, 5, 6, 7, 8]));
    assert_eq!(numbers(&mut sender, NOW), [3]);
}

#[test]
fn a_foreign_acknowledgement_changes_nothing() {
    let mut sender = selective(100, 20);
    numbers(&mut sender, NOW);
    let state = format!("{sender:?}");
    for (next, held) in [
        (99, 0),
        (117, 0),
        (u64::MAX, 0),
        (100 + (1 << 63), 0),
        (99 + (1 << 63), 1 << 63),
        (99, 1),
        (100, 1 << 15),
        (100, 1 << 63),
        (116, 1),
    ] {
        assert!(!sender.acknowledge_selectively(NOW, Ack { next, held }), "{next} {held:x}");
        assert_eq!(format!("{sender:?}"), state, "{next} {held:x}");
    }
    assert!(sender.acknowledge_selectively(NOW, Ack { next: 100, held: 1 << 14 }));
    assert!(sender.acknowledge_selectively(NOW, Ack { next: 116, held: 0 }));
    // What is older is known.
    let state = format!("{sender:?}");
    for (next, held) in [(100, 0), (104, 7), (115, 0), (116, 0)] {
        assert!(sender.acknowledge_selectively(NOW, Ack { next, held }));
        assert_eq!(format!("{sender:?}"), state);
    }
    assert!(!sender.acknowledge_selectively(NOW, Ack { next: 99, held: 0 }));
}

#[test]
fn acknowledged_pieces_are_never_sent_again() {
    for seed in 0..200 {
        eprintln!("seed {seed}");
        let mut random = Random(seed);
        let first = u64::MAX - random.below(100);
        let mut sender = selective(first, 200);
        let mut had = std::collections::BTreeSet::new();
        let mut sent = std::collections::BTreeSet::new();
        let mut now = NOW;
        while sender.take_acknowledged().is_none() {
            for number in numbers(&mut sender, now) {
                assert!(!had.contains(&number), "{number}");
                sent.insert(number);
            }
            // What a peer that lacks some of it would say.
            let news = sent.iter().copied().filter(|_| random.percent(60));
            had.extend(news.collect::<Vec<u64>>());
            let next =
                (0..).map(|index| first.wrapping_add(index)).find(|number| !had.contains(number)).unwrap();
            let held: Vec<u64> =
                had.iter().copied().filter(|&number| (1..=64).contains(&ahead(number, next))).collect();
            assert!(sender.acknowledge_selectively(now, ack(next, &held)));
            match random.below(3) {
                0 => now = fire_or(&mut sender, now),
                1 => drop(sender.hasten(now, MS(random.below(3)))),
                _ => {}
            }
            now = now + MS(1);
        }
        assert_eq!(sent.len(), 200);
    }
}

fn fire_or(sender: &mut TestSender, now: Instant) -> Instant {
    let at = sender.poll_timeout().unwrap_or(now).max(now);
    sender.handle_timeout(at);
    at
}

#[test]
fn numbers_wrap() {
    let first = u64::MAX - 7;
    let mut sender = selective(first, 16);
    assert_eq!(numbers(&mut sender, NOW), (0..16).map(|index| first.wrapping_add(index)).collect::<Vec<_>>());
    assert!(!sender.acknowledge_selectively(NOW, ack(9, &[])));
    assert!(!sender.acknowledge_selectively(NOW, ack(first - 1, &[])));
    assert!(sender.acknowledge_selectively(NOW, ack(u64::MAX - 2, &[u64::MAX, 0, 1, 3])));
    assert_eq!(numbers(&mut sender, NOW), [u64::MAX - 2, u64::MAX - 1]);
    assert!(sender.acknowledge_selectively(NOW, ack(2, &[3])));
    assert_eq!(sender.base_number(), 2);
    assert!(sender.acknowledge_selectively(NOW, ack(8, &[])));
    assert!(sender.take_acknowledged().is_some());
}

#[test]
fn renumbering_sends_all_again() {
    let mut sender = selective(0, 3);
    push(&mut sender, 2, 1);
    numbers(&mut sender, NOW);
    sender.acknowledge_selectively(NOW + MS(20), ack(1, &[2, 3]));
    let later = fire(&mut sender);
    fire(&mut sender);
    sender.renumber(1_000);
    assert_eq!((sender.base_number(), sender.next_number(), sender.passes()), (1_000, 1_004, 0));
    assert_eq!(sender.poll_timeout(), None);
    assert!(!sender.acknowledge_selectively(later, ack(4, &[])), "the old stream");
    assert!(!sender.acknowledge_selectively(later, ack(1_001, &[])), "nothing is sent");
    assert!(sender.settle(later, 2).is_none());
    assert_eq!(numbers(&mut sender, later), [1_000, 1_001, 1_002, 1_003]);
    // The round trip is known: 20 and four times 10 ms.
    assert_eq!(sender.round_trip(), Some(MS(20)));
    assert_eq!(sender.poll_timeout(), Some(later + MS(60)));
    assert_eq!(sender.get(0).unwrap().sent, Some(NOW), "leases count from the first time");
    assert!(sender.acknowledge_selectively(later, ack(1_004, &[])));
    assert!(sender.take_acknowledged().is_some() && sender.take_acknowledged().is_some());
}

#[test]
fn an_answer_to_what_is_not_all_sent_changes_nothing() {
    let mut sender = selective(0, 20);
    numbers(&mut sender, NOW);
    assert!(sender.settle(NOW, 1).is_none());
    sender.acknowledge_selectively(NOW, ack(16, &[]));
    assert_eq!(numbers(&mut sender, NOW), [16, 17, 18, 19]);
    assert_eq!(sender.settle(NOW, 1).map(|message| message.xid), Some(1));
    assert_eq!((sender.base_number(), sender.poll_timeout()), (20, None));
}

#[test]
fn answers_acknowledge_their_requests_in_whatever_order_they_come() {
    let mut sender = selective(u64::MAX, 1);
    for xid in 2..7 {
        push(&mut sender, xid, 2);
    }
    assert_eq!(numbers(&mut sender, NOW).len(), 11);
    for xid in [3, 5] {
        assert!(sender.settle(NOW + MS(20), xid).is_some());
    }
    assert_eq!(sender.round_trip(), None, "that of the first one is being measured");
    assert_eq!(numbers(&mut sender, NOW + MS(20)), [u64::MAX, 0, 1], "three later packets have come");
    assert_eq!(sender.base_number(), u64::MAX);
    assert!(sender.settle(NOW + MS(20), 1).is_some());
    assert!(sender.settle(NOW + MS(20), 2).is_some());
    assert_eq!(sender.base_number(), 4);
    let at = fire(&mut sender);
    assert_eq!(numbers(&mut sender, at), [4, 5, 8, 9]);
    assert!(sender.acknowledge_selectively(at, ack(10, &[])));
    assert_eq!(sender.poll_timeout(), None);
    assert_eq!(sender.len(), 2, "requests stay until they are answered");
    for xid in [6, 4] {
        assert!(sender.settle(at, xid).is_some());
    }
    assert!(sender.is_empty());
}

#[test]
fn going_over_to_selective_sends_what_is_in_flight_again_and_takes_what_is_said_of_it() {
    let begin = || {
        let mut sender = sender(0, PACING);
        for xid in 0..3 {
            push(&mut sender, xid, 2);
        }
        assert_eq!(numbers_up_to(&mut sender, NOW, 5), [0, 1, 2, 3, 4]);
        assert!(!sender.acknowledge_selectively(NOW, ack(1, &[])), "it sends in passes");
        assert!(sender.settle(NOW, 1).is_some());
        sender.set_selective(64);
        assert_eq!(sender.poll_timeout(), None);
        sender
    };
    let mut sender = begin();
    assert_eq!(numbers(&mut sender, NOW), [0, 1, 4, 5]);
    assert!(sender.acknowledge_selectively(NOW + MS(1), ack(5, &[])));
    assert_eq!(sender.round_trip(), None, "these were sent twice");
    assert!(sender.acknowledge_selectively(NOW + MS(2), ack(6, &[])));
    assert_eq!(sender.take_acknowledged().map(|message| message.xid), Some(0));
    assert_eq!(sender.take_acknowledged().map(|message| message.xid), Some(2));
    // What came before the change is known by its acknowledgement.
    let mut sender = begin();
    assert!(sender.acknowledge_selectively(NOW, ack(0, &[1, 2, 3, 4])));
    assert_eq!(numbers(&mut sender, NOW), [0, 5]);
}

#[test]
fn hastening_sends_all_again_unless_a_packet_has_just_left() {
    let mut sender = selective(0, 3);
    assert!(!sender.hasten(NOW, Duration::ZERO), "nothing is in flight");
    numbers(&mut sender, NOW);
    sender.acknowledge_selectively(NOW + MS(20), ack(0, &[1]));
    assert!(!sender.hasten(NOW + MS(49), MS(50)));
    assert_eq!(numbers(&mut sender, NOW + MS(49)), []);
    assert!(sender.hasten(NOW + MS(50), MS(50)));
    assert_eq!(numbers(&mut sender, NOW + MS(50)), [0, 2]);
    for _ in 0..5 {
        let at = fire(&mut sender);
        numbers(&mut sender, at);
    }
    let early = sender.poll_timeout().unwrap();
    let early = Instant::from_micros(early.as_micros() - 1_000_000);
    assert!(sender.hasten(early, MS(50)));
    assert_eq!((numbers(&mut sender, early), sender.passes()), (vec![0, 2], 0));
    assert_eq!(sender.poll_timeout(), Some(early + MS(250)), "the back-off begins anew");
}

#[test]
fn giving_up_messages_leaves_a_sender_that_goes_on() {
    let mut sender = selective(0, 3);
    push(&mut sender, 2, 100);
    push(&mut sender, 3, 2);
    assert_eq!(numbers_up_to(&mut sender, NOW, 2), [0, 1]);
    assert!(sender.pop().is_some());
    assert_eq!((sender.base_number(), sender.poll_timeout()), (3, None));
    assert!(sender.pop().is_some());
    assert_eq!(numbers(&mut sender, NOW + MS(100)), [103, 104]);
    assert!(sender.acknowledge_selectively(NOW + MS(120), ack(104, &[])));
    assert_eq!(sender.round_trip(), Some(MS(20)), "what was given up is not measured");
    assert!(sender.pop().is_some());
    assert_eq!((sender.poll(NOW), sender.poll_timeout()), (None, None));
}

/// Whatever is called: nothing stalls, and no timer is armed for a time that has passed.
#[test]
fn timers_are_exact_and_never_run_in_a_tight_loop() {
    for seed in 0..300 {
        eprintln!("seed {seed}");
        let mut random = Random(seed);
        let window = 1 + random.below(70);
        let mut sender = sender(random.next_u64(), PACING);
        let (mut now, mut xid) = (NOW, 0);
        for step in 0..300 {
            if step == 20 {
                sender.set_selective(window);
            }
            match random.below(9) {
                0 | 1 if sender.len() < 60 => {
                    xid += 1;
                    push(&mut sender, xid, random.below(70) as usize);
                }
                2 => drop(sender.settle(now, random.below(xid + 1))),
                3 | 4 => {
                    let next = sender.base_number().wrapping_add(random.below(6));
                    sender.acknowledge_selectively(
                        now,
                        Ack { next, held: random.next_u64() & random.next_u64() },
                    );
                    sender.acknowledge_selectively(now, Ack { next, held: random.below(16) });
                }
                5 => while sender.take_acknowledged().is_some() {},
                6 => drop(sender.hasten(now, MS(random.below(100)))),
                7 if random.percent(20) => drop(sender.pop()),
                8 if random.percent(20) => sender.renumber(random.next_u64()),
                _ => {}
            }
            let left = numbers(&mut sender, now);
            let base = sender.base_number();
            if step > 20 {
                assert!(left.iter().all(|&number| (0..window.min(64) as i64).contains(&ahead(number, base))));
                assert!(left.len() <= 32);
            }
            let Some(timeout) = sender.poll_timeout() else {
                assert!(step <= 20 || base == sender.next_number(), "unacknowledged packets without a timer");
                continue;
            };
            assert!(timeout > now, "a timer in the past, or a packet that was not sent");
            if random.percent(60) {
                now = timeout;
                sender.handle_timeout(now);
            }
        }
    }
}

#[test]
fn each_packet_can_be_lost_though_one_before_it_was() {
    let mut sender = selective(0, 16);
    numbers(&mut sender, NOW);
    sender.acknowledge_selectively(NOW, ack(0, &[1, 2, 3, 4]));
    assert_eq!(numbers(&mut sender, NOW), [0]);
    sender.acknowledge_selectively(NOW, ack(5, &[6, 7, 8]));
    assert_eq!(numbers(&mut sender, NOW), [5]);
}

#[test]
fn a_message_that_was_settled_before_going_over_may_still_be_acknowledged() {
    let mut sender = sender(0, PACING);
    push(&mut sender, 1, 2);
    push(&mut sender, 2, 2);
    numbers(&mut sender, NOW);
    assert!(sender.settle(NOW, 2).is_some());
    sender.set_selective(64);
    assert!(sender.acknowledge_selectively(NOW, ack(4, &[])));
    assert!(!sender.acknowledge_selectively(NOW, ack(5, &[])));
    assert!(sender.take_acknowledged().is_some());
}
