//! The sender whose peer says what it has.

use cldc_core::link::ahead;
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Ack, Op};

use super::random::Random;
use super::{PACING, TestSender, sender};

const MS: fn(u64) -> Duration = Duration::from_millis;
const NOW: Instant = Instant::from_micros(5_000_000);

/// A selective sender of one message of so many pieces.
fn selective(first: u64, pieces: usize) -> TestSender {
    let mut sender = sender(first, PACING);
    sender.set_selective(64);
    push(&mut sender, 1, pieces);
    sender
}

fn push(sender: &mut TestSender, xid: u64, pieces: usize) {
    sender.push(Op::Put, xid, pieces * 1_024, vec![0; pieces * 1_024]).unwrap();
}

/// The numbers of all that may leave at this moment.
fn numbers(sender: &mut TestSender, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| sender.poll(now)).map(|cut| cut.number).collect()
}

fn numbers_up_to(sender: &mut TestSender, now: Instant, count: usize) -> Vec<u64> {
    std::iter::from_fn(|| sender.poll(now)).take(count).map(|cut| cut.number).collect()
}

/// The acknowledgement of all before `next`, and of `held`.
fn ack(next: u64, held: &[u64]) -> Ack {
    Ack { next, held: held.iter().fold(0, |bits, number| bits | 1 << (number.wrapping_sub(next) - 1)) }
}

/// Lets the resend timer fire.
fn fire(sender: &mut TestSender) -> Instant {
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
fn the_resend_timer_follows_the_round_trip_and_backs_off() {
    let mut sender = selective(0, 1);
    numbers(&mut sender, NOW);
    assert_eq!(sender.round_trip(), None);
    let mut pauses = Vec::new();
    let mut now = NOW;
    for _ in 0..7 {
        let at = fire(&mut sender);
        pauses.push(at.since(now).as_micros() / 1_000);
        assert_eq!(numbers(&mut sender, at), [0]);
        now = at;
    }
    assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 4_000, 4_000]);
    assert_eq!(sender.passes(), 7);
    // The first sample is the mean, half of it the deviation; then each equal one takes a quarter of that away.
    let mut sender = selective(0, 16);
    let mut timers = Vec::new();
    for number in 0..4 {
        let now = NOW + MS(1_000 * number);
        assert_eq!(numbers_up_to(&mut sender, now, 1), [number]);
        timers.push(sender.poll_timeout().unwrap().since(now).as_micros() / 1_000);
        sender.acknowledge_selectively(now + MS(80), ack(number + 1, &[]));
        assert_eq!(sender.round_trip(), Some(MS(80)));
        assert_eq!(sender.poll_timeout(), None);
    }
    assert_eq!(timers, [250, 80 + 4 * 40, 80 + 4 * 30, 80 + 4 * 22 + 2]);
}

/// Karn's algorithm: nobody knows which of the two is acknowledged.
#[test]
fn a_repeated_packet_is_not_timed() {
    let mut sender = selective(0, 2);
    assert_eq!(numbers_up_to(&mut sender, NOW, 1), [0]);
    let at = fire(&mut sender);
    assert_eq!(numbers(&mut sender, at), [0, 1]);
    sender.acknowledge_selectively(at + MS(20), ack(1, &[]));
    assert_eq!(sender.round_trip(), None);
    sender.acknowledge_selectively(at + MS(30), ack(2, &[]));
    assert_eq!(sender.round_trip(), Some(MS(30)), "the other one was sent once");
}

#[test]
fn a_round_trip_longer_than_the_timer_is_learnt_though_packets_are_repeated_meanwhile() {
    let mut sender = selective(0, 0);
    let mut now = NOW;
    for number in 0..10 {
        if sender.round_trip().is_some() {
            assert!(number <= 4, "{number} packets in vain");
            return;
        }
        push(&mut sender, 2 + number, 1);
        let answer = now + MS(1_500);
        while sender.poll_timeout().is_none_or(|at| at < answer) {
            now = sender.poll_timeout().unwrap_or(now);
            sender.handle_timeout(now);
            numbers(&mut sender, now);
        }
        now = answer;
        sender.acknowledge_selectively(now, ack(sender.next_number(), &[]));
    }
    panic!("it is never measured");
}

#[test]
fn any_new_acknowledgement_restarts_the_timer_and_ends_the_back_off() {
    let mut sender = selective(0, 4);
    numbers(&mut sender, NOW);
    sender.acknowledge_selectively(NOW + MS(80), ack(1, &[]));
    let timer = MS(80 + 4 * 40);
    assert_eq!(sender.poll_timeout(), Some(NOW + MS(80) + timer));
    sender.acknowledge_selectively(NOW + MS(90), ack(1, &[]));
    assert_eq!(sender.poll_timeout(), Some(NOW + MS(80) + timer), "this one is not new");
    sender.acknowledge_selectively(NOW + MS(100), ack(1, &[3]));
    assert_eq!(sender.poll_timeout(), Some(NOW + MS(100) + timer));
    assert_eq!(fire(&mut sender), NOW + MS(100) + timer);
    let later = fire(&mut sender);
    assert_eq!(later, NOW + MS(100) + timer.times(3));
    assert_eq!((numbers(&mut sender, later), sender.passes()), (vec![1, 2], 2));
    sender.acknowledge_selectively(later, ack(2, &[]));
    assert_eq!(sender.passes(), 0);
    // Nothing has been measured since: the timer is doubled once.
    assert_eq!(sender.poll_timeout(), Some(later + timer.times(2)));
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
fn no_more_than_the_window_is_in_flight() {
    // The peer's window, counted from the oldest unacknowledged packet.
    for (window, effective) in [(0, 1), (1, 1), (5, 5)] {
        let mut sender = selective(0, 20);
        sender.set_selective(window);
        assert_eq!(numbers(&mut sender, NOW), (0..effective).collect::<Vec<_>>());
        if let Some(held) = effective.checked_sub(1).filter(|&held| held > 0) {
            sender.acknowledge_selectively(NOW, ack(0, &[held]));
            assert_eq!(numbers(&mut sender, NOW), [], "the oldest one is still awaited");
        }
        sender.acknowledge_selectively(NOW, ack(1, &[]));
        assert_eq!(numbers(&mut sender, NOW), [effective]);
    }
    // Never more than 64, whatever the peer says and the path takes.
    let mut sender = grown(u64::MAX);
    let now = NOW + MS(1_000);
    let mut left = numbers(&mut sender, now);
    left.extend(numbers(&mut sender, now + MS(1)));
    left.extend(numbers(&mut sender, now + MS(2)));
    assert_eq!(left.len(), 64);
}

/// A sender of a long message whose congestion window has grown as far as it can; all it sent is acknowledged.
fn grown(window: u64) -> TestSender {
    let mut sender = selective(0, 1_000);
    sender.set_selective(window);
    let mut now = NOW;
    for _ in 0..20 {
        numbers(&mut sender, now);
        acknowledge_all(&mut sender, now);
        now = now + MS(20);
    }
    sender
}

/// Acknowledges all that has been sent.
fn acknowledge_all(sender: &mut TestSender, now: Instant) {
    let mut next = sender.base_number();
    while sender.acknowledge_selectively(now, ack(next + 1, &[])) {
        next += 1;
    }
}

#[test]
fn the_congestion_window_grows_by_what_is_acknowledged_and_is_halved_once_per_round_trip() {
    // In steps of a row at most, so that no pause interferes.
    let flight = |sender: &mut TestSender, now| -> usize {
        (0..4).map(|row| numbers(sender, now + MS(row)).len()).sum()
    };
    let mut sender = selective(0, 1_000);
    let mut now = NOW;
    for expected in [16, 32, 64] {
        assert_eq!(flight(&mut sender, now), expected);
        now = now + MS(20);
        acknowledge_all(&mut sender, now);
    }
    assert_eq!(flight(&mut sender, now), 64);
    now = now + MS(20);
    // Three losses in one round trip, told one after the other.
    let base = sender.base_number();
    let lost = [base, base + 5, base + 10];
    for come in [4, 9, 14, 64] {
        let held: Vec<u64> = (base..base + come).filter(|number| !lost.contains(number)).collect();
        sender.acknowledge_selectively(now, ack(base, &held));
    }
    assert_eq!(numbers(&mut sender, now + MS(5)), lost);
    now = now + MS(20);
    acknowledge_all(&mut sender, now);
    // Half of 64, and one more for each window that is acknowledged since.
    assert_eq!(flight(&mut sender, now), 33);
    now = now + MS(20);
    acknowledge_all(&mut sender, now);
    assert_eq!(flight(&mut sender, now), 34);
    // And 8 when the timer fires.
    let at = fire(&mut sender);
    assert_eq!(flight(&mut sender, at), 8);
}

#[test]
fn a_burst_is_limited() {
    let mut sender = grown(64);
    let now = NOW + MS(1_000);
    assert_eq!(numbers(&mut sender, now).len(), 32);
    assert_eq!(sender.poll_timeout(), Some(now + MS(1)));
    assert_eq!(numbers(&mut sender, now + Duration::from_micros(999)), []);
    assert_eq!(numbers(&mut sender, now + MS(1)).len(), 32);
    assert_ne!(sender.poll_timeout(), Some(now + MS(2)), "the window is full: there is no point in waking");
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
fn the_congestion_window_begins_anew_with_the_numbers() {
    let mut sender = grown(64);
    sender.renumber(5);
    assert_eq!(numbers(&mut sender, NOW + MS(1_000)), (5..21).collect::<Vec<_>>());
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
    assert_eq!(numbers(&mut sender, NOW), [103, 104]);
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
