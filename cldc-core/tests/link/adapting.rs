//! How fast a selective sender sends: its resend timer, its windows, its bursts.

use cldc_core::time::{Duration, Instant};

use super::TestSender;
use super::selective::{MS, NOW, ack, fire, numbers, numbers_up_to, push, selective};

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

#[test]
fn a_repeated_packet_is_timed_from_its_last_departure_unless_that_is_too_short_ago() {
    let mut sender = selective(0, 3);
    let mut timed = |now, number, since_repeat| {
        assert_eq!(numbers_up_to(&mut sender, now, 1), [number]);
        let at = fire(&mut sender);
        assert_eq!(numbers_up_to(&mut sender, at, 1), [number]);
        sender.acknowledge_selectively(at + since_repeat, ack(number + 1, &[]));
        (at.since(now), sender.round_trip().unwrap())
    };
    assert_eq!(timed(NOW, 0, MS(20)).1, MS(20));
    assert_eq!(timed(NOW + MS(1_000), 1, MS(28)).1, MS((7 * 20 + 28) / 8), "its repeat is answered");
    let (waited, mean) = timed(NOW + MS(2_000), 2, MS(3));
    let sample = waited + MS(3);
    assert_eq!(mean.as_micros(), (7 * 21_000 + sample.as_micros()) / 8, "it was answered itself, and late");
}

#[test]
fn a_round_trip_longer_than_the_timer_is_learnt_though_packets_are_repeated_meanwhile() {
    let mut sender = selective(0, 0);
    let mut now = NOW;
    let mut departures = Vec::new();
    for number in 0..12 {
        push(&mut sender, 2 + number, 1);
        let answer = now + MS(600);
        departures.push(0);
        while now < answer {
            sender.handle_timeout(now);
            *departures.last_mut().unwrap() += numbers(&mut sender, now).len();
            now = sender.poll_timeout().unwrap_or(answer).min(answer);
        }
        sender.acknowledge_selectively(now, ack(number + 1, &[]));
    }
    assert!(departures[0] > 1, "{departures:?}");
    assert_eq!(departures[4..], [1; 8], "{departures:?}");
    assert!(sender.round_trip().unwrap() > MS(500));
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
    assert_eq!(sender.poll_timeout(), Some(later + timer));
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
    for expected in [16, 32, 64, 64, 64, 64, 64] {
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
fn the_congestion_window_begins_anew_with_the_numbers() {
    let mut sender = grown(64);
    sender.renumber(5);
    assert_eq!(numbers(&mut sender, NOW + MS(1_000)), (5..21).collect::<Vec<_>>());
}

#[test]
fn the_resend_timer_is_that_of_rfc_6298_within_its_bounds() {
    // Round trips, and the timer after them, in milliseconds.
    let cases: [(&[u64], u64); 6] = [
        (&[80, 160], 90 + 4 * 50),
        (&[80, 160, 10], 80 + 4 * 57 + 2),
        (&[80; 30], 80 + 10),
        (&[1; 30], 50),
        (&[1, 1, 1], 50),
        (&[3_000], 4_000),
    ];
    for (samples, timer) in cases {
        let mut sender = selective(0, 40);
        let mut now = NOW;
        for (number, &sample) in (1..).zip(samples) {
            assert_eq!(numbers_up_to(&mut sender, now, 1).len(), 1);
            now = now + MS(sample);
            assert!(sender.acknowledge_selectively(now, ack(number, &[])));
        }
        numbers_up_to(&mut sender, now, 1);
        assert_eq!(sender.poll_timeout(), Some(now + MS(timer)), "{samples:?}");
    }
}

#[test]
fn a_packet_counts_once_for_the_congestion_window() {
    let mut sender = selective(0, 1_000);
    numbers(&mut sender, NOW);
    sender.acknowledge_selectively(NOW, ack(0, &[1, 2]));
    sender.acknowledge_selectively(NOW, ack(0, &[1, 2]));
    sender.acknowledge_selectively(NOW, ack(3, &[]));
    // Room for those three, and three more.
    assert_eq!(numbers(&mut sender, NOW), (16..22).collect::<Vec<_>>());
}

#[test]
fn the_congestion_window_is_never_below_8() {
    let mut sender = selective(0, 1_000);
    let mut now = NOW;
    for _ in 0..3 {
        let left = numbers(&mut sender, now);
        let base = sender.base_number();
        let held: Vec<u64> = left.iter().copied().filter(|&number| number > base).collect();
        now = now + MS(20);
        sender.acknowledge_selectively(now, ack(base, &held));
        assert_eq!(numbers_up_to(&mut sender, now, 1), [base]);
        acknowledge_all(&mut sender, now);
    }
    assert!((8..=10).contains(&numbers(&mut sender, now + MS(1)).len()));
}

#[test]
fn timers_in_a_row_halve_the_threshold_once() {
    let mut sender = grown(64);
    let mut now = NOW + MS(1_000);
    numbers(&mut sender, now);
    numbers(&mut sender, now + MS(1));
    for _ in 0..3 {
        now = fire(&mut sender);
        assert_eq!(numbers(&mut sender, now).len(), 8);
    }
    // Slow start goes to half of 64 with what has come of the 64, then there is one more for each window.
    acknowledge_all(&mut sender, now);
    for expected in [33, 34] {
        now = now + MS(20);
        assert_eq!(numbers(&mut sender, now).len(), 32);
        assert_eq!(numbers(&mut sender, now + MS(1)).len(), expected - 32);
        acknowledge_all(&mut sender, now + MS(1));
    }
}

#[test]
fn packets_that_are_acknowledged_as_they_leave_never_make_a_pause() {
    let mut sender = selective(0, 0);
    for number in 0..200 {
        assert_eq!(numbers(&mut sender, NOW), [number]);
        acknowledge_all(&mut sender, NOW);
        assert!(sender.take_acknowledged().is_some());
        push(&mut sender, number, 1);
    }
}
