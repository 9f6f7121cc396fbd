//! The receiver alone.

use cldc_core::link::{Arrival, Early, Receiver};
use cldc_core::wire::{Op, Part};

use super::{TestReceiver, contents, receiver};

const FIRST: Part = Part::First { xid: 5, op: Op::Put };
const ONLY: Part = Part::Only { xid: 6, op: Op::Nop };

fn body<const EARLY: usize>(receiver: &TestReceiver<EARLY>) -> Option<Vec<u8>> {
    receiver.message().map(|message| message.body.to_vec())
}

#[test]
fn a_duplicate_piece_is_not_added_and_a_stray_last_one_ends_nothing() {
    let mut receiver = receiver::<8>(u64::MAX);
    assert_eq!(receiver.accept(u64::MAX, FIRST, b"ab"), Arrival::Taken);
    assert_eq!(receiver.accept(u64::MAX, FIRST, b"ab"), Arrival::Duplicate);
    assert_eq!(receiver.assembling_since(), Some(u64::MAX));
    assert_eq!(receiver.accept(0, Part::Middle, b"cd"), Arrival::Taken);
    assert_eq!(receiver.accept(0, Part::Middle, b"cd"), Arrival::Duplicate);
    assert_eq!(receiver.accept(1, Part::Last, b"e"), Arrival::Taken);
    let message = receiver.message().unwrap();
    assert_eq!((message.op, message.xid, message.number, message.cut), (Op::Put, 5, 1, false));
    assert_eq!(message.body, b"abcde");
    assert_eq!(receiver.accept(1, Part::Last, b"e"), Arrival::Duplicate);
    receiver.release();
    for part in [Part::Last, Part::Middle, Part::Last] {
        let number = receiver.next_number();
        assert_eq!(receiver.accept(number, part, b"stray"), Arrival::Taken);
        assert_eq!(body(&receiver), None);
        assert_eq!(receiver.assembling_since(), None);
    }
    let number = receiver.next_number();
    assert_eq!(receiver.accept(number, ONLY, b"next"), Arrival::Taken);
    assert_eq!(body(&receiver).unwrap(), b"next");
}

#[test]
fn a_first_piece_in_the_middle_of_a_message_begins_anew() {
    let mut receiver = receiver::<0>(1);
    receiver.accept(1, FIRST, b"half");
    receiver.accept(2, ONLY, b"whole");
    assert_eq!(body(&receiver).unwrap(), b"whole");
    assert_eq!(receiver.message().unwrap().xid, 6);
}

#[test]
fn early_packets_are_held_up_to_the_limit_and_never_twice() {
    let mut receiver = receiver::<3>(10);
    for number in [13, 12, 12, 11, 13] {
        assert_eq!(receiver.accept(number, ONLY, &[number as u8]), Arrival::Held);
    }
    assert_eq!(receiver.accept(14, ONLY, b""), Arrival::Refused, "there is room for three");
    assert_eq!(receiver.advance(), None);
    assert_eq!(receiver.accept(10, ONLY, &[10]), Arrival::Taken);
    for number in 10..14 {
        let message = receiver.message().unwrap();
        assert_eq!((message.number, message.body), (number, &[number as u8][..]));
        assert_eq!(receiver.advance(), None, "a message waits");
        assert_eq!(receiver.accept(receiver.next_number(), ONLY, b""), Arrival::Refused);
        receiver.release();
        assert_eq!(receiver.advance(), (number < 13).then_some(number + 1));
    }
    assert_eq!(receiver.next_number(), 14);
}

#[test]
fn packets_far_ahead_or_far_behind_are_refused() {
    let mut receiver = receiver::<512>(1_000);
    assert_eq!(receiver.accept(1_256, ONLY, b""), Arrival::Held);
    assert_eq!(receiver.accept(1_257, ONLY, b""), Arrival::Refused);
    assert_eq!(receiver.accept(999, ONLY, b""), Arrival::Duplicate);
    assert_eq!(receiver.accept(1_000_u64.wrapping_sub(1 << 20), ONLY, b""), Arrival::Duplicate);
    assert_eq!(receiver.accept(999_u64.wrapping_sub(1 << 20), ONLY, b""), Arrival::Refused);
    assert_eq!(receiver.accept(1_000_u64.wrapping_add(1 << 63), ONLY, b""), Arrival::Refused);
    assert_eq!(receiver.next_number(), 1_000);
}

#[test]
fn a_held_packet_that_comes_again_in_its_turn_is_taken_once() {
    let mut receiver = receiver::<4>(1);
    receiver.accept(2, ONLY, b"two");
    receiver.accept(1, ONLY, b"one");
    receiver.release();
    // Before anybody has asked for what is held.
    assert_eq!(receiver.accept(2, ONLY, b"two"), Arrival::Taken);
    receiver.release();
    assert_eq!(receiver.advance(), None);
    assert_eq!(receiver.next_number(), 3);
}

#[test]
fn a_restart_forgets_the_half_message_and_all_that_is_held() {
    let mut receiver = receiver::<4>(1);
    receiver.accept(1, FIRST, b"half");
    receiver.accept(3, Part::Last, b"end");
    receiver.restart(0);
    assert_eq!(receiver.assembling_since(), None);
    for number in 0..4 {
        assert_eq!(receiver.accept(number, Part::Last, b"x"), Arrival::Taken, "{number}");
        assert_eq!(body(&receiver), None);
    }
}

#[test]
fn a_message_too_large_keeps_its_beginning_and_uses_up_its_numbers() {
    type Small = Receiver<heapless::Vec<u8, 300>, heapless::Vec<Early<heapless::Vec<u8, 1_024>>, 2>>;
    for len in [0, 299, 300, 301, 1_023, 1_024, 1_025, 5_000] {
        let body = contents(1, len);
        let mut receiver = Small::new(7, heapless::Vec::new(), heapless::Vec::new());
        let pieces: Vec<&[u8]> = if len == 0 { vec![&[]] } else { body.chunks(1_024).collect() };
        for (index, piece) in pieces.iter().enumerate() {
            let part = match (index == 0, index + 1 == pieces.len()) {
                (true, true) => Part::Only { xid: 5, op: Op::Put },
                (true, false) => FIRST,
                (false, false) => Part::Middle,
                (false, true) => Part::Last,
            };
            assert_eq!(receiver.accept(7 + index as u64, part, piece), Arrival::Taken);
        }
        let message = receiver.message().unwrap();
        assert_eq!((message.cut, message.xid), (len > 300, 5), "{len}");
        assert_eq!(message.body, &body[..len.min(300)], "{len}");
        receiver.release();
        let next = receiver.next_number();
        assert_eq!(receiver.accept(next, ONLY, b"next"), Arrival::Taken);
        assert_eq!(
            receiver.message().map(|message| (message.body, message.cut)),
            Some((&b"next"[..], false))
        );
    }
}
