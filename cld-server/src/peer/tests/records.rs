//! Frames through an encrypted connection: whole, in order, or not at all.

use proptest::prelude::*;

use super::super::frame::{MAX_FRAME, MAX_MESSAGE};
use super::super::noise::REKEY_AFTER;
use super::*;

/// Cuts a stream into its records.
fn split(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let [high, low, ..] = *stream {
        let (record, rest) = stream.split_at(2 + (usize::from(high) << 8 | usize::from(low)));
        records.push(record.to_vec());
        stream = rest;
    }
    records
}

#[test]
fn frames_come_out_as_they_went_in_whatever_the_pieces() {
    let frames = [message("one"), Frame::Message(vec![2; 200_000]), message(""), message("four")];
    for step in [1, 2, 3, 17, 65_536, 65_537, 1 << 20] {
        let (mut one, mut two) = linked();
        for frame in &frames {
            one.send(&frame.encode());
        }
        assert_eq!(receive(&mut two, &sent(&mut one), step).unwrap(), frames, "{step} bytes at a time");
        two.send(&message("back").encode());
        assert_eq!(receive(&mut one, &sent(&mut two), step), Ok(vec![message("back")]));
    }
}

#[test]
fn a_cut_at_any_byte_is_told_from_an_orderly_end() {
    let (mut one, _) = linked();
    one.send(&message("a message").encode());
    let stream = sent(&mut one);
    for length in 0..=stream.len() {
        // The same seeds make the same keys.
        let (_, mut two) = linked();
        let whole = length == stream.len();
        assert_eq!(receive(&mut two, &stream[..length], usize::MAX).unwrap().len(), usize::from(whole));
        let expected = if whole || length == 0 { SessionError::Closed } else { SessionError::Cut };
        assert_eq!(two.handle_end(), expected, "{length} bytes");
        assert_eq!(two.poll_frame(), Err(expected), "and nothing comes after it");
    }
}

#[test]
fn a_record_changed_anywhere_ends_the_connection() {
    let (mut one, _) = linked();
    one.send(&message("a message").encode());
    let stream = sent(&mut one);
    for place in 2..stream.len() {
        let (_, mut two) = linked();
        let mut changed = stream.clone();
        changed[place] ^= 1;
        assert_eq!(receive(&mut two, &changed, usize::MAX), Err(SessionError::Tampered), "byte {place}");
        assert_eq!((two.room(), two.peer(), two.wants_frames()), (0, None, false));
    }
    // A record of no bytes, too.
    let (_, mut two) = linked();
    assert_eq!(receive(&mut two, &[0, 0], usize::MAX), Err(SessionError::Tampered));
}

#[test]
fn records_repeated_left_out_or_swapped_end_the_connection() {
    for order in [[0, 0], [1, 0]] {
        let (mut one, mut two) = linked();
        let mut records = Vec::new();
        for text in ["one", "two"] {
            one.send(&message(text).encode());
            records.push(sent(&mut one));
        }
        let stream = order.map(|place: usize| records[place].clone()).concat();
        assert_eq!(receive(&mut two, &stream, usize::MAX), Err(SessionError::Tampered));
    }
}

#[test]
fn what_one_end_sent_cannot_be_sent_back_to_it() {
    let (mut one, _) = linked();
    one.send(&message("one").encode());
    let stream = sent(&mut one);
    assert_eq!(receive(&mut one, &stream, usize::MAX), Err(SessionError::Tampered));
}

#[test]
fn the_largest_message_fits_and_a_larger_frame_is_refused_by_its_length() {
    let (mut one, mut two) = linked();
    let largest = Frame::Message(vec![1; MAX_MESSAGE]);
    assert!(largest.check().is_ok());
    one.send(&largest.encode());
    assert_eq!(receive(&mut two, &sent(&mut one), usize::MAX), Ok(vec![largest]));

    one.send(&vec![b'M'; MAX_FRAME + 1]);
    let records = split(&sent(&mut one));
    let refused = receive(&mut two, &records[0], usize::MAX);
    assert_eq!(
        refused,
        Err(SessionError::FrameSize { length: MAX_FRAME + 1 }),
        "the first record says enough"
    );
}

#[test]
fn frames_that_make_no_sense_end_the_connection() {
    let (mut one, mut two) = linked();
    one.send(b"?\x01");
    let refused = receive(&mut two, &sent(&mut one), usize::MAX);
    assert!(matches!(refused, Err(SessionError::Frame(_))), "{refused:?}");
}

#[test]
fn a_keepalive_is_no_frame() {
    let (mut one, mut two) = linked();
    one.send(&[]);
    let stream = sent(&mut one);
    assert!(!stream.is_empty());
    assert_eq!(receive(&mut two, &stream, usize::MAX), Ok(vec![]));
}

#[test]
fn keys_change_on_the_way_and_nothing_is_lost() {
    let (mut one, mut two) = linked();
    for number in 0..2 * REKEY_AFTER + 10 {
        one.send(&message(&number.to_string()).encode());
        assert_eq!(receive(&mut two, &sent(&mut one), usize::MAX), Ok(vec![message(&number.to_string())]));
    }
}

#[test]
fn what_is_received_and_not_taken_is_bounded() {
    let (mut one, mut two) = linked();
    for _ in 0..10 {
        one.send(&Frame::Message(vec![0; 100_000]).encode());
    }
    let stream = sent(&mut one);
    let taken = two.handle_bytes(&stream);
    assert!(taken <= 129 << 10, "{taken}");
    assert_eq!((two.room(), two.handle_bytes(&stream[taken..])), (0, 0));
    let before = two.poll_frame().unwrap();
    assert!(before.is_some());
    assert!(two.room() > 0);
}

proptest! {
    #[test]
    fn any_frames_come_out_in_any_pieces(
        frames in prop::collection::vec((any::<u8>(), 0_usize..100_000), 0..6),
        steps in prop::collection::vec(1_usize..70_000, 1..5),
    ) {
        let (mut one, mut two) = linked();
        let frames: Vec<_> = frames.into_iter().map(|(byte, length)| Frame::Message(vec![byte; length])).collect();
        frames.iter().for_each(|frame| one.send(&frame.encode()));
        let stream = sent(&mut one);
        let (mut rest, mut received) = (stream.as_slice(), Vec::new());
        for step in steps.into_iter().cycle() {
            let (part, behind) = rest.split_at(step.min(rest.len()));
            received.extend(receive(&mut two, part, usize::MAX).unwrap());
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received, frames);
    }
}
