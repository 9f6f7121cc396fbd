//! The sender alone.

use cldc_core::link::{Cut, Pacing, ahead};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Op, Part};

use super::random::Random;
use super::{PACING, TestSender, sender};

const MS: fn(u64) -> Duration = Duration::from_millis;
const NOW: Instant = Instant::from_micros(5_000_000);

fn push(sender: &mut TestSender, xid: u64, len: usize) -> u64 {
    sender.push(Op::Put, xid, len, vec![0; len]).unwrap()
}

/// The numbers of all that may leave at this moment.
fn numbers(sender: &mut TestSender, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| sender.poll(now)).map(|cut| cut.number).collect()
}

#[test]
fn a_body_is_cut_at_every_1024_bytes_and_an_empty_one_takes_a_packet() {
    for (len, lens) in [
        (0, vec![0]),
        (1, vec![1]),
        (1_024, vec![1_024]),
        (1_025, vec![1_024, 1]),
        (2_048, vec![1_024, 1_024]),
        (2_049, vec![1_024, 1_024, 1]),
    ] {
        let mut sender = sender(u64::MAX, PACING);
        assert_eq!(push(&mut sender, 9, len), u64::MAX);
        let cuts: Vec<Cut> = std::iter::from_fn(|| sender.poll(NOW)).collect();
        assert_eq!(cuts.iter().map(|cut| cut.range.len()).collect::<Vec<_>>(), lens);
        for (index, cut) in cuts.iter().enumerate() {
            assert_eq!(cut.number, u64::MAX.wrapping_add(index as u64));
            assert_eq!(cut.range.start, index * 1_024);
            assert_eq!((cut.part.is_first(), cut.part.is_last()), (index == 0, index + 1 == cuts.len()));
        }
        assert_eq!(cuts[0].part.op(), Some(Op::Put));
        assert_eq!(sender.next_number(), u64::MAX.wrapping_add(lens.len() as u64));
        assert_eq!(sender.get(0).unwrap().pieces(), lens.len() as u64);
    }
}

#[test]
fn a_full_queue_refuses_and_uses_up_no_number() {
    let mut sender = sender(1, PACING);
    for xid in 0..64 {
        push(&mut sender, xid, 0);
    }
    let next = sender.next_number();
    assert!(sender.push(Op::Nop, 64, 0, Vec::new()).is_err());
    assert_eq!((sender.len(), sender.next_number()), (64, next));
}

#[test]
fn window_burst_and_gap_are_kept() {
    let mut sender = sender(100, PACING);
    push(&mut sender, 1, 100 * 1_024);
    assert_eq!(numbers(&mut sender, NOW), (100..116).collect::<Vec<_>>(), "a burst");
    assert_eq!(sender.poll_timeout(), Some(NOW + MS(2)));
    assert_eq!(numbers(&mut sender, NOW + Duration::from_micros(1_999)), []);
    assert_eq!(numbers(&mut sender, NOW + MS(2)), (116..132).collect::<Vec<_>>(), "the window is full");
    assert_eq!(sender.poll_timeout(), Some(NOW + MS(200)), "there is no point in waking at the gap");
    assert_eq!(numbers(&mut sender, NOW + MS(4)), []);
    assert!(!sender.is_mid_message(), "it waits for an acknowledgement: others may go");
    assert!(sender.acknowledge(NOW + MS(5), 109).is_none());
    assert!(sender.is_mid_message());
    assert_eq!(
        numbers(&mut sender, NOW + MS(5)),
        (132..142).collect::<Vec<_>>(),
        "as many as were acknowledged"
    );
}

#[test]
fn packets_that_are_acknowledged_as_they_leave_never_make_a_pause() {
    let mut sender = sender(1, PACING);
    for xid in 0..100 {
        push(&mut sender, xid, 0);
        assert_eq!(numbers(&mut sender, NOW), [xid + 1]);
        if xid % 2 == 0 {
            assert!(sender.settle(NOW, xid).is_some());
        } else {
            assert!(sender.acknowledge(NOW, xid + 1).is_some());
        }
    }
}

#[test]
fn acknowledgements_are_cumulative_and_nonsense_is_ignored() {
    let mut sender = sender(u64::MAX - 1, PACING);
    for xid in 0..4 {
        push(&mut sender, xid, 0);
    }
    numbers(&mut sender, NOW);
    for nonsense in [u64::MAX - 2, 2, 3, 1 << 62] {
        assert!(sender.acknowledge(NOW, nonsense).is_none());
    }
    assert_eq!(sender.base_number(), u64::MAX - 1);
    let finished: Vec<u64> =
        std::iter::from_fn(|| sender.acknowledge(NOW, 0)).map(|message| message.xid).collect();
    assert_eq!(finished, [0, 1, 2]);
    assert!(sender.acknowledge(NOW, u64::MAX).is_none(), "an old one takes nothing back");
    assert_eq!(sender.base_number(), 1);
}

#[test]
fn a_pass_goes_from_the_oldest_to_the_newest_and_the_pauses_double_up_to_the_longest() {
    let mut sender = sender(1, PACING);
    for xid in 0..3 {
        push(&mut sender, xid, 0);
    }
    let mut now = NOW;
    let mut pauses = Vec::new();
    for _ in 0..6 {
        assert_eq!(numbers(&mut sender, now), [1, 2, 3]);
        let timeout = sender.poll_timeout().unwrap();
        sender.handle_timeout(timeout.max(now) + Duration::ZERO);
        pauses.push(timeout.since(now).as_micros() / 1_000);
        now = timeout;
    }
    assert_eq!(pauses, [200, 400, 800, 1_600, 1_600, 1_600]);
    assert_eq!(sender.passes(), 6);
    // Progress begins the pauses anew.
    sender.acknowledge(now, 1);
    assert_eq!(sender.passes(), 0);
    numbers(&mut sender, now);
    assert_eq!(sender.poll_timeout(), Some(now + MS(200)));
}

#[test]
fn a_timer_called_early_does_nothing_and_one_called_late_sends_once() {
    let mut sender = sender(1, PACING);
    push(&mut sender, 1, 0);
    assert_eq!(numbers(&mut sender, NOW), [1]);
    sender.handle_timeout(NOW + Duration::from_micros(199_999));
    assert_eq!(numbers(&mut sender, NOW + Duration::from_micros(199_999)), []);
    let late = NOW + Duration::from_secs(7_200);
    sender.handle_timeout(late);
    assert_eq!(numbers(&mut sender, late), [1]);
    assert_eq!(sender.poll_timeout(), Some(late + MS(400)), "missed passes are not made up for");
}

#[test]
fn the_first_transmission_is_remembered_through_all_others() {
    let mut sender = sender(1, PACING);
    push(&mut sender, 1, 3_000);
    assert_eq!(sender.get(0).unwrap().sent, None);
    numbers(&mut sender, NOW);
    sender.handle_timeout(NOW + MS(200));
    numbers(&mut sender, NOW + MS(200));
    assert_eq!(sender.settle(NOW + MS(300), 1).unwrap().sent, Some(NOW));
}

#[test]
fn an_answered_message_is_not_sent_again_in_whatever_order_answers_come() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut sender = sender(u64::MAX - 5, PACING);
        let mut open: Vec<(u64, Vec<u64>)> = Vec::new();
        for xid in 0..10 {
            let len = random.below(4_000) as usize;
            let first = push(&mut sender, xid, len);
            let pieces = sender.get(sender.len() - 1).unwrap().pieces();
            open.push((xid, (0..pieces).map(|index| first.wrapping_add(index)).collect()));
        }
        let mut now = NOW;
        while !open.is_empty() {
            // Somewhere in a pass.
            for _ in 0..random.below(20) {
                let Some(cut) = sender.poll(now) else { break };
                assert!(open.iter().any(|(_, numbers)| numbers.contains(&cut.number)), "seed {seed}");
            }
            let index = random.below(open.len() as u64) as usize;
            if let Some(message) = sender.settle(now, open[index].0) {
                assert_eq!(message.xid, open.remove(index).0);
            }
            assert_eq!(sender.base_number() == sender.next_number(), open.is_empty());
            if let Some(timeout) = sender.poll_timeout() {
                now = now.max(timeout);
                sender.handle_timeout(now);
            }
        }
        assert_eq!((sender.poll_timeout(), numbers(&mut sender, now)), (None, vec![]));
    }
}

#[test]
fn what_has_not_been_sent_cannot_be_answered() {
    let mut sender = sender(1, PACING);
    push(&mut sender, 1, 0);
    assert!(sender.settle(NOW, 1).is_none());
    assert_eq!(numbers(&mut sender, NOW), [1]);
    assert!(sender.settle(NOW, 2).is_none());
    assert!(sender.settle(NOW, 1).is_some());
}

#[test]
fn settling_takes_back_no_acknowledgement() {
    let mut sender = sender(1, PACING);
    push(&mut sender, 1, 4_000);
    push(&mut sender, 2, 0);
    numbers(&mut sender, NOW);
    assert!(sender.acknowledge(NOW, 2).is_none());
    assert!(sender.settle(NOW, 2).is_some());
    assert_eq!(sender.base_number(), 3);
    sender.handle_timeout(NOW + MS(200));
    assert_eq!(numbers(&mut sender, NOW + MS(200)), [3, 4]);
}

#[test]
fn a_short_message_is_sent_again_from_its_first_piece_and_a_long_one_from_where_it_stands() {
    for (pieces, again) in [(25, 1), (26, 21)] {
        let mut sender = sender(1, Pacing { whole: 25, burst: 100, ..PACING });
        push(&mut sender, 1, pieces * 1_024);
        numbers(&mut sender, NOW);
        sender.acknowledge(NOW, 20);
        sender.handle_timeout(NOW + MS(200));
        let expected: Vec<u64> = (again..=pieces as u64).collect();
        assert_eq!(numbers(&mut sender, NOW + MS(200)), expected);
    }
}

#[test]
fn hastening_begins_a_pass_unless_one_began_just_now() {
    let mut sender = sender(1, PACING);
    push(&mut sender, 1, 0);
    sender.hasten(NOW, Duration::ZERO);
    assert_eq!(numbers(&mut sender, NOW), [1]);
    sender.hasten(NOW + MS(49), MS(50));
    assert_eq!(numbers(&mut sender, NOW + MS(49)), []);
    sender.hasten(NOW + MS(50), MS(50));
    assert_eq!(numbers(&mut sender, NOW + MS(50)), [1]);
    assert_eq!(sender.poll_timeout(), Some(NOW + MS(250)));
    // Late in a long pause, too, and the next pause is short again.
    let mut now = NOW + MS(250);
    for _ in 0..5 {
        sender.handle_timeout(now);
        numbers(&mut sender, now);
        now = sender.poll_timeout().unwrap();
    }
    let early = Instant::from_micros(now.as_micros() - 1_000_000);
    sender.hasten(early, MS(50));
    assert_eq!(numbers(&mut sender, early), [1]);
    assert_eq!(sender.poll_timeout(), Some(early + MS(200)));
}

#[test]
fn nothing_leaves_between_the_pieces_of_a_message() {
    let mut sender = sender(1, PACING);
    push(&mut sender, 1, 3_000);
    push(&mut sender, 2, 0);
    let between: Vec<bool> =
        std::iter::from_fn(|| sender.poll(NOW).map(|_| sender.is_mid_message())).collect();
    assert_eq!(between, [true, true, false, false]);
}

/// Whatever is called: each timer makes progress, and none is armed for a time that has passed.
#[test]
fn timers_are_exact_and_never_run_in_a_tight_loop() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let pacing = Pacing { window: 1 + random.below(40), burst: 1 + random.below(20) as u32, ..PACING };
        let mut sender = sender(random.next_u64(), pacing);
        let mut now = NOW;
        let mut xid = 0;
        for _ in 0..200 {
            match random.below(5) {
                0 if sender.len() < 60 => {
                    xid += 1;
                    push(&mut sender, xid, random.below(6_000) as usize);
                }
                1 => drop(sender.settle(now, random.below(xid + 1))),
                2 => {
                    let number = sender.base_number().wrapping_add(random.below(4));
                    while sender.acknowledge(now, number).is_some() {}
                }
                3 => {
                    sender.hasten(now, MS(random.below(100)));
                }
                _ => {}
            }
            let base = sender.base_number();
            let left = numbers(&mut sender, now);
            assert!(left.iter().all(|&number| ahead(number, base) < pacing.window as i64), "seed {seed}");
            assert!(left.len() <= pacing.burst as usize, "seed {seed}");
            let Some(timeout) = sender.poll_timeout() else {
                assert!(sender.is_empty(), "seed {seed}: messages without a timer");
                continue;
            };
            assert!(timeout > now, "seed {seed}: a timer in the past, or a packet that was not sent");
            if random.percent(60) {
                now = timeout;
                sender.handle_timeout(now);
            }
        }
    }
}

#[test]
fn giving_up_messages_leaves_a_sender_that_goes_on() {
    let mut sender = sender(1, PACING);
    for xid in 0..3 {
        push(&mut sender, xid, 2_000);
    }
    sender.poll(NOW);
    assert_eq!(sender.pop().map(|message| message.xid), Some(0));
    assert_eq!(numbers(&mut sender, NOW), [3, 4, 5, 6]);
    while sender.pop().is_some() {}
    assert_eq!(sender.poll(NOW), None);
    sender.handle_timeout(NOW + MS(200));
    assert_eq!(sender.poll_timeout(), None);
    push(&mut sender, 9, 0);
    assert!(matches!(sender.poll(NOW + MS(200)).unwrap().part, Part::Only { xid: 9, op: Op::Put }));
}
