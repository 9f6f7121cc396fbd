//! The bytes of frames.

use proptest::prelude::*;

use super::super::frame::{
    DigestReport, MAX_CHUNK, MAX_DATAGRAM, MAX_MESSAGE, MAX_POINT, RefuseReason, Relay, RelayWay,
    SnapshotFrame,
};
use super::*;
use crate::codec::CodecError;
use crate::database::{Database, Digest};
use crate::endpoint::SocketId;

fn bytes(limit: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..limit.min(300))
}

fn snapshot_frame() -> impl Strategy<Value = SnapshotFrame> {
    use SnapshotFrame::*;
    let reason = prop::sample::select(vec![
        RefuseReason::Busy,
        RefuseReason::NotNeeded,
        RefuseReason::TooLong,
        RefuseReason::Damaged,
        RefuseReason::Storage,
    ]);
    (any::<u64>(), any::<u64>(), any::<u32>(), bytes(MAX_POINT), reason, 0..7).prop_map(
        |(transfer, number, checksum, bytes, reason, kind)| match kind {
            0 => Begin { transfer, point: bytes, length: number, checksum },
            1 => Chunk { transfer, offset: number, bytes },
            2 => End { transfer },
            3 => Abort { transfer },
            4 => Ack { transfer, received: number },
            5 => Accepted { transfer },
            _ => Refused { transfer, reason },
        },
    )
}

fn frame() -> impl Strategy<Value = Frame> {
    let relay = (any::<bool>(), any::<SocketAddr>(), any::<u16>(), bytes(MAX_DATAGRAM)).prop_map(
        |(back, client, socket, datagram)| Relay {
            way: if back { RelayWay::ToClient } else { RelayWay::ToMaster },
            client,
            socket: SocketId(socket),
            datagram,
        },
    );
    prop_oneof![
        bytes(MAX_MESSAGE).prop_map(Frame::Message),
        snapshot_frame().prop_map(Frame::Snapshot),
        relay.prop_map(Frame::Relay),
        (any::<u8>(), any::<u64>()).prop_map(|(version, index)| {
            Frame::Digest(DigestReport { version, index, digest: Database::new().digest() })
        }),
    ]
}

proptest! {
    #[test]
    fn a_frame_reads_back(frame in frame()) {
        prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn arbitrary_bytes_are_a_frame_or_an_error(mut bytes: Vec<u8>, kind in prop::sample::select(b"MSRD".to_vec())) {
        let _ = Frame::decode(&bytes);
        if let [first, second, ..] = bytes.as_mut_slice() {
            (*first, *second) = (kind, 1);
        }
        if let Ok(frame) = Frame::decode(&bytes) {
            prop_assert_eq!(frame.encode(), bytes, "there is one way to write a frame");
        }
    }

    #[test]
    fn a_frame_cut_short_is_an_error_or_shorter(frame in frame(), cut in 1_usize..400) {
        let bytes = frame.encode();
        let cut = bytes.len().saturating_sub(cut);
        prop_assert_ne!(Frame::decode(&bytes[..cut]), Ok(frame));
    }
}

#[test]
fn the_bytes_of_frames_are_pinned() {
    let chunk = SnapshotFrame::Chunk { transfer: 2, offset: 3, bytes: b"xy".to_vec() };
    assert_eq!(Frame::Snapshot(chunk).encode(), b"S\x01\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03xy");
    assert_eq!(message("hi").encode(), b"M\x01hi");
    let relay = Relay {
        way: RelayWay::ToClient,
        client: SocketAddr::from(([1, 2, 3, 4], 5)),
        socket: SocketId(6),
        datagram: b"d".to_vec(),
    };
    assert_eq!(Frame::Relay(relay).encode(), b"R\x01\x01\x04\x01\x02\x03\x04\0\x05\0\x06d");
    let report = DigestReport { version: 1, index: 7, digest: Digest::default() };
    assert_eq!(Frame::Digest(report).encode(), [&b"D\x01\x01\0\0\0\0\0\0\0\x07"[..], &[0; 16]].concat());
}

#[test]
fn what_is_over_its_limit_is_refused_by_sender_and_receiver() {
    let client = address(1);
    let frames = [
        Frame::Message(vec![0; MAX_MESSAGE + 1]),
        Frame::Snapshot(SnapshotFrame::Chunk { transfer: 1, offset: 0, bytes: vec![0; MAX_CHUNK + 1] }),
        Frame::Snapshot(SnapshotFrame::Begin {
            transfer: 1,
            point: vec![0; MAX_POINT + 1],
            length: 0,
            checksum: 0,
        }),
        Frame::Relay(Relay {
            way: RelayWay::ToMaster,
            client,
            socket: SocketId(0),
            datagram: vec![0; MAX_DATAGRAM + 1],
        }),
    ];
    for frame in frames {
        let error = frame.check().unwrap_err();
        assert!(matches!(error, CodecError::TooLong { length, limit } if length == limit + 1));
        assert_eq!(Frame::decode(&frame.encode()), Err(error));
    }
}

#[test]
fn a_later_format_is_named() {
    let error = Frame::decode(b"M\x02x").unwrap_err();
    assert_eq!(error, CodecError::Version { what: "message between servers", found: 2, known: 1 });
}
