//! What is begun anew, and what stays.

use cldc_core::link::{Arrival, Pacing};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Ack, Op, Part};

use super::{TestReceiver, TestSender, receiver, sender};

const PACING: Pacing = Pacing { window: 8, burst: 100, whole: 25, ..super::PACING };

fn numbers(sender: &mut TestSender, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| sender.poll(now)).map(|cut| cut.number).collect()
}

#[test]
fn a_message_that_is_sent_again_from_its_first_piece_is_sent_whole_whatever_is_acknowledged_meanwhile() {
    let mut sender = sender(10, PACING);
    let mut now = Instant::START;
    sender.push(Op::Get, 1, 5 * 1024, Vec::new()).unwrap();
    assert_eq!(numbers(&mut sender, now), [10, 11, 12, 13, 14]);
    assert!(sender.acknowledge(now, 12).is_none());
    now = now + Duration::from_secs(3);
    sender.handle_timeout(now);
    assert_eq!(sender.poll(now).map(|cut| cut.number), Some(10));
    // An acknowledgement of the first time comes late: the peer has begun the message anew all the same.
    assert!(sender.acknowledge(now, 13).is_none());
    assert_eq!(numbers(&mut sender, now), [11, 12, 13, 14]);
    assert!(sender.acknowledge(now, 14).is_some());
    assert!(sender.is_empty());
}

#[test]
fn a_renumbered_stream_begins_anew_with_its_oldest_message_and_old_acknowledgements_count_no_more() {
    let mut sender = sender(10, PACING);
    let now = Instant::START;
    sender.push(Op::Get, 1, 3 * 1024, Vec::new()).unwrap();
    sender.push(Op::Ping, 2, 0, Vec::new()).unwrap();
    numbers(&mut sender, now);
    assert!(sender.acknowledge(now, 10).is_none());
    sender.renumber(1000);
    assert_eq!(numbers(&mut sender, now), [1000, 1001, 1002, 1003]);
    assert!(sender.acknowledge(now, 13).is_none());
    assert_eq!(sender.base_number(), 1000);
    assert_eq!(sender.acknowledge(now, 1003).map(|message| message.xid), Some(1));
    assert_eq!(sender.acknowledge(now, 1003).map(|message| message.xid), Some(2));
    assert_eq!(sender.next_number(), 1004);
}

#[test]
fn what_is_held_stays_though_nearer_packets_come() {
    let mut receiver: TestReceiver<2> = receiver(10);
    let part = |xid| Part::Only { xid, op: Op::Nop };
    for (number, arrival) in [(13, Arrival::Held), (12, Arrival::Held), (11, Arrival::Refused)] {
        assert_eq!(receiver.accept(number, part(number), &[]), arrival, "{number}");
    }
    // The peer is told so, and does not send them again.
    assert_eq!(receiver.ack(), Ack { next: 10, held: 0b110 });
    for number in 10..=13 {
        if number < 12 {
            assert_eq!(receiver.accept(number, part(number), &[]), Arrival::Taken, "{number}");
        }
        assert_eq!(receiver.message().map(|message| message.xid), Some(number));
        receiver.release();
        receiver.advance();
    }
    assert!(receiver.is_idle());
}

#[test]
fn a_packet_too_far_ahead_to_be_acknowledged_gives_way_to_a_nearer_one() {
    let mut receiver: TestReceiver<2> = receiver(10);
    let part = |xid| Part::Only { xid, op: Op::Nop };
    for (number, arrival) in [
        (200, Arrival::Held),
        (100, Arrival::Held),
        (150, Arrival::Held),
        (180, Arrival::Refused),
        (74, Arrival::Held),
        (12, Arrival::Held),
        // These two are acknowledged.
        (11, Arrival::Refused),
    ] {
        assert_eq!(receiver.accept(number, part(number), &[]), arrival, "{number}");
    }
    assert_eq!(receiver.ack(), Ack { next: 10, held: 0b10 | 1 << 63 });
}
