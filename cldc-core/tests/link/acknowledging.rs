//! What a receiver says it has, and when.

use cldc_core::link::{Acknowledger, Arrival};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Ack, Op, Part};

use super::{TestReceiver, receiver};

const NOW: Instant = Instant::from_micros(5_000_000);
const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn an_acknowledgement_names_the_next_packet_and_those_held_within_64() {
    let mut receiver: TestReceiver<256> = receiver(u64::MAX - 1);
    let part = |xid| Part::Only { xid, op: Op::Nop };
    assert_eq!(receiver.ack(), Ack { next: u64::MAX - 1, held: 0 });
    for ahead in [1, 3, 64, 65, 200] {
        let number = (u64::MAX - 1).wrapping_add(ahead);
        assert_eq!(receiver.accept(number, part(ahead), &[]), Arrival::Held);
    }
    assert_eq!(receiver.ack(), Ack { next: u64::MAX - 1, held: 1 | 1 << 2 | 1 << 63 });
    receiver.accept(u64::MAX - 1, part(0), &[]);
    receiver.release();
    receiver.advance();
    assert_eq!(receiver.ack(), Ack { next: 0, held: 1 | 1 << 61 | 1 << 62 });
}

#[test]
fn packets_in_order_are_acknowledged_after_ten_milliseconds_or_at_the_fourth() {
    let mut acknowledger = Acknowledger::default();
    assert_eq!(acknowledger.poll_timeout(), None);
    for _ in 0..2 {
        acknowledger.arrived(NOW, Arrival::Taken);
        assert_eq!(acknowledger.poll_timeout(), Some(NOW + MS(10)));
        for later in 1..3 {
            acknowledger.arrived(NOW + MS(later), Arrival::Taken);
            assert_eq!(acknowledger.poll_timeout(), Some(NOW + MS(10)), "the first one counts");
            assert!(!acknowledger.is_due(NOW + MS(later)));
        }
        assert!(acknowledger.is_due(NOW + MS(10)));
        acknowledger.arrived(NOW + MS(3), Arrival::Taken);
        assert!(acknowledger.is_due(NOW + MS(3)));
        acknowledger.sent();
        assert_eq!((acknowledger.poll_timeout(), acknowledger.is_due(NOW + MS(99))), (None, false));
    }
}

#[test]
fn packets_out_of_order_are_acknowledged_at_once_and_refused_ones_not_at_all() {
    for arrival in [Arrival::Held, Arrival::Duplicate] {
        let mut acknowledger = Acknowledger::default();
        acknowledger.arrived(NOW, Arrival::Refused);
        assert_eq!(acknowledger.poll_timeout(), None);
        acknowledger.arrived(NOW, Arrival::Taken);
        acknowledger.arrived(NOW + MS(1), arrival);
        assert!(acknowledger.is_due(NOW + MS(1)));
    }
}

#[test]
fn an_acknowledger_is_small() {
    assert!(size_of::<Acknowledger>() <= 24);
}
