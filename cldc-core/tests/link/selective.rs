//! The sender whose peer says what it has.

use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Ack, Op};

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
