//! A snapshot on its way.

use super::super::frame::{MAX_CHUNK, RefuseReason, SnapshotFrame};
use super::super::transfer::{Incoming, Outgoing, WINDOW};

fn snapshot(length: usize) -> Vec<u8> {
    (0_usize..length).map(|place| u8::try_from(place * 7 % 251).unwrap()).collect()
}

/// The next chunk, if the window lets one go.
fn next(outgoing: &mut Outgoing, data: &[u8]) -> Option<SnapshotFrame> {
    let part = outgoing.next_part()?;
    let start = usize::try_from(part.offset).unwrap();
    Some(outgoing.chunk(data[start..start + part.length].to_vec()))
}

fn take(incoming: &mut Incoming, frame: &SnapshotFrame) -> Result<SnapshotFrame, RefuseReason> {
    match frame {
        SnapshotFrame::Chunk { offset, bytes, .. } => incoming.handle_chunk(*offset, bytes),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_arrives_whole_with_no_more_than_a_window_on_its_way() {
    for length in [0, 1, MAX_CHUNK, 20 * MAX_CHUNK + 5] {
        let data = snapshot(length);
        let checksum = crc32c::crc32c(&data);
        let (mut outgoing, begin) = Outgoing::begin(9, b"point".to_vec(), data.len() as u64, checksum);
        let SnapshotFrame::Begin { transfer, length, checksum, .. } = begin else { panic!("{begin:?}") };
        let mut incoming = Incoming::begin(transfer, length, checksum, u64::MAX).unwrap();
        let mut stored = Vec::new();
        while !outgoing.is_sent() {
            let mut burst = Vec::new();
            while let Some(chunk) = next(&mut outgoing, &data) {
                burst.push(chunk);
            }
            assert!(!burst.is_empty() && burst.len() as u64 <= WINDOW / MAX_CHUNK as u64);
            for chunk in burst {
                let ack = take(&mut incoming, &chunk).unwrap();
                let SnapshotFrame::Chunk { bytes, .. } = chunk else { panic!("{chunk:?}") };
                stored.extend(bytes);
                assert_eq!(ack, SnapshotFrame::Ack { transfer: 9, received: stored.len() as u64 });
                outgoing.handle_ack(stored.len() as u64);
            }
        }
        assert_eq!((incoming.finish(), outgoing.acknowledged()), (Ok(()), length));
        assert_eq!(stored, data);
    }
}

#[test]
fn each_acknowledgement_lets_as_much_follow() {
    let data = snapshot(20 * MAX_CHUNK);
    let (mut outgoing, _) = Outgoing::begin(1, vec![], data.len() as u64, 0);
    while next(&mut outgoing, &data).is_some() {}
    outgoing.handle_ack(WINDOW + 1);
    assert_eq!(outgoing.next_part(), None, "what was not sent cannot be acknowledged");
    outgoing.handle_ack(100);
    assert_eq!(outgoing.next_part().map(|part| (part.offset, part.length)), Some((WINDOW, 100)));
    outgoing.handle_ack(50);
    assert_eq!(outgoing.acknowledged(), 100, "an old acknowledgement takes nothing back");
}

#[test]
fn a_snapshot_that_is_not_what_was_announced_is_refused() {
    let data = snapshot(100);
    let begin = || Incoming::begin(1, 100, crc32c::crc32c(&data), 100).unwrap();
    assert_eq!(Incoming::begin(1, 101, 0, 100).unwrap_err(), RefuseReason::TooLong);
    assert_eq!(begin().handle_chunk(1, &data[1..]), Err(RefuseReason::Damaged), "not the next part");
    assert_eq!(begin().handle_chunk(0, &[]), Err(RefuseReason::Damaged), "an empty part");
    assert_eq!(begin().handle_chunk(0, &[0; 101]), Err(RefuseReason::Damaged), "more than announced");
    assert_eq!(begin().finish(), Err(RefuseReason::Damaged), "too little");
    let mut other = begin();
    other.handle_chunk(0, &[0; 100]).unwrap();
    assert_eq!(other.finish(), Err(RefuseReason::Damaged), "other bytes");
}
