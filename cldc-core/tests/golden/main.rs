//! Golden packets: what each message looks like on the wire, byte for byte, in both directions.
//!
//! The bytes were made from protocol.md 1 and 2 by a program of its own, with another HMAC implementation, so that they
//! are a second opinion on the codec. They are part of the protocol: a change that breaks one breaks old peers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

mod answers;
#[path = "../common/mod.rs"]
mod common;
mod extended;
mod framing;
mod requests;

use cldc_core::wire::{Answer, Forged, Key, Op, Packet, Part, Request, Seal, Writer};
use common::{hex, unhex};

/// Who speaks in all golden packets.
const SID: u64 = 0x0123_4567_89ab_cdef;
const USER: &[u8] = b"alice";
const SECRET: &[u8] = b"correct horse battery";
/// Where a shifted footer has bytes of the server's stack.
const JUNK: [u8; 8] = [0xd0, 0x1f, 0x33, 0x51, 0x69, 0x7f, 0, 0];

/// What a packet says. An ACK is a packet without a message.
enum Message {
    Request(Request<'static>),
    Answer(Answer<'static>),
    Ack,
}

/// A packet that holds a whole message.
struct Golden {
    name: &'static str,
    xid: u64,
    number: u64,
    /// Whether the footer is that of Hail's one-shot packets (protocol.md 1.3).
    shifted: bool,
    message: Message,
    hex: &'static str,
}

impl Golden {
    fn op(&self) -> Op {
        match &self.message {
            Message::Request(request) => request.op(),
            Message::Answer(answer) => answer.op(),
            Message::Ack => Op::Ack,
        }
    }

    fn decodes_and_verifies(&self, key: &Key) {
        let datagram = unhex(self.hex);
        let packet = Packet::parse(&datagram).unwrap();
        let number = if self.shifted {
            assert_eq!(packet.verify(key), Err(Forged), "{}", self.name);
            packet.verify_shifted(key).unwrap()
        } else {
            assert_eq!(packet.verify_shifted(key), Err(Forged), "{}", self.name);
            packet.verify(key).unwrap();
            packet.number
        };
        assert_eq!((packet.sid, packet.user, number), (SID, USER, self.number), "{}", self.name);
        let op = self.op();
        assert_eq!(packet.part, Part::Only { xid: self.xid, op }, "{}", self.name);
        match &self.message {
            Message::Request(request) => assert_eq!(Request::parse(op, packet.piece), Ok(*request)),
            Message::Answer(answer) => assert_eq!(Answer::parse(op, packet.piece), Ok(*answer)),
            Message::Ack => assert!(packet.piece.is_empty()),
        }
    }

    fn encodes(&self, key: &Key) {
        let (mut body, mut datagram) = ([0; 512], [0; 512]);
        let mut out = Writer::new(&mut body);
        match &self.message {
            Message::Request(request) => request.emit(&mut out).unwrap(),
            Message::Answer(answer) => answer.emit(&mut out).unwrap(),
            Message::Ack => {}
        }
        let seal = Seal { sid: SID, user: USER, key };
        let part = Part::Only { xid: self.xid, op: self.op() };
        let len = if self.shifted {
            seal.emit_shifted(part, self.number, out.written(), JUNK, &mut datagram)
        } else {
            seal.emit(part, self.number, out.written(), &mut datagram)
        };
        assert_eq!(hex(&datagram[..len.unwrap()]), hex(&unhex(self.hex)), "{}", self.name);
    }
}

fn key() -> Key {
    Key::new(SECRET).unwrap()
}

#[test]
fn golden_packets_decode_and_verify() {
    for golden in requests::GOLDEN.iter().chain(answers::GOLDEN) {
        golden.decodes_and_verifies(&key());
    }
}

#[test]
fn golden_packets_are_what_is_encoded() {
    for golden in requests::GOLDEN.iter().chain(answers::GOLDEN) {
        golden.encodes(&key());
    }
}

#[test]
fn every_operation_has_a_golden_packet_in_each_direction_that_it_goes() {
    let ops = |table: &[Golden]| table.iter().map(Golden::op).collect::<Vec<_>>();
    let (extended_requests, extended_answers) = extended::ops();
    let requests = [ops(requests::GOLDEN), extended_requests].concat();
    let answers = [ops(answers::GOLDEN), extended_answers].concat();
    for op in Op::ALL {
        let from_client = !matches!(op, Op::Ping | Op::NotMaster | Op::Event | Op::AckFrag);
        assert_eq!(requests.contains(op), from_client, "requests: {op:?}");
        assert!(answers.contains(op), "answers: {op:?}");
    }
}
