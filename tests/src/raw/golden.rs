//! The codec against bytes written by Hail's programs.

use super::codes::{code, op};
use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The example of protocol.md 1.2.
const NEW_SESS: &str =
    "746b703163444c43 7bdf6c071bf9c5cc 00000006 746573746572 0000 00000003 42282e12380db536 00000001
    7f4399363844d073 ea473436f03197e029d2bfc1e83edb9a1c7fd9d3";

/// The refusal of an OPEN for an unknown session, with Hail's shifted footer (1.3).
const REFUSED: &str =
    "746b703163444c43 1e4dc0a002ee7c94 00000006 746573746572 0000 00000003 5bee55540eb7dcc3 00000002
    00000002 33fdce887e989ff9 d04fd3692a7f0000 693b18f1e4689e2e ab6bdfec5cc9693f21096b04";

#[test]
fn a_captured_packet_decodes_verifies_and_encodes_again() {
    let datagram = bytes(NEW_SESS);
    let (packet, footer) = Packet::open(&datagram, b"tester").unwrap();
    let expected = Packet {
        sid: 0x7bdf_6c07_1bf9_c5cc,
        user: b"tester".to_vec(),
        head: Some(Head { xid: 0x4228_2e12_380d_b536, op: op::NEW_SESS }),
        last: true,
        body: Vec::new(),
        number: 0x73d0_4438_3699_437f,
    };
    assert_eq!((packet, footer), (expected.clone(), Footer::Standard));
    assert_eq!(expected.encode(b"tester"), datagram);
    assert_eq!(Packet::open(&datagram, b"tester2").unwrap().1, Footer::Bad);
    let mut flipped = datagram;
    flipped[12] ^= 1;
    assert_eq!(Packet::open(&flipped, b"tester").unwrap().1, Footer::Bad);
}

#[test]
fn a_shifted_footer_is_recognised() {
    let datagram = bytes(REFUSED);
    let (packet, footer) = Packet::open(&datagram, b"tester").unwrap();
    assert_eq!(packet.number, 0x2e9e_68e4_f118_3b69);
    let answer = Answer::decode(op::OPEN, &packet.body).unwrap();
    assert_eq!(answer, Answer::Result { code: code::SESS_INVAL, xid: 0x33fd_ce88_7e98_9ff9 });
    let Footer::Shifted(junk) = footer else { panic!("{footer:?}") };
    assert_eq!(packet.encode_shifted(b"tester", junk), datagram);
}

#[test]
fn every_request_encodes_as_the_protocol_says() {
    let path = b"/ab".to_vec();
    for (request, hex) in [
        (Request::Nop, ""),
        (Request::NewSess, ""),
        (Request::EndSess, ""),
        (Request::Ack, ""),
        (Request::Open { mode: 0x13, events: 7, path: path.clone() }, "00000013 00000007 00000003 2f616200"),
        (Request::Get { fh: 2 }, "0000000000000002"),
        (Request::GetMeta { fh: 2 }, "0000000000000002"),
        (Request::Put { fh: 2, data: b"xyzzy".to_vec() }, "0000000000000002 00000005 78797a7a79000000"),
        (Request::Close { fh: 2 }, "0000000000000002"),
        (Request::Del { path }, "00000003 2f616200"),
        (Request::Lock { fh: 2, flags: 1 }, "0000000000000002 00000001"),
        (Request::TryLock { fh: 2, flags: 0 }, "0000000000000002 00000000"),
        (Request::Unlock { fh: u64::MAX }, "ffffffffffffffff"),
    ] {
        assert_eq!(request.encode(), bytes(hex), "{request:?}");
        assert_eq!(Request::decode(request.op(), &bytes(hex)), Ok(request));
    }
}

#[test]
fn every_answer_encodes_as_the_protocol_says() {
    let node = Node {
        inum: 10,
        version: 4,
        time_create: 5,
        time_modify: 6,
        flags: 1,
        name: b"/".to_vec(),
        data: b"hello".to_vec(),
    };
    for (op, answer, hex) in [
        (op::PUT, Answer::Result { code: 13, xid: 9 }, "0000000d 0000000000000009"),
        (op::OPEN, Answer::Result { code: 6, xid: 9 }, "00000006 0000000000000009"),
        (op::GET_META, Answer::Result { code: 8, xid: 9 }, "00000008 0000000000000009"),
        (op::OPEN, Answer::Opened { xid: 9, fh: 2 }, "00000000 0000000000000009 0000000000000002"),
        (
            op::GET,
            Answer::Contents { xid: 9, node },
            "00000000 0000000000000009 000000000000000a 0000000000000004 0000000000000005 0000000000000006
             00000001 00000001 2f000000 00000005 68656c6c6f000000",
        ),
        (op::EVENT, Answer::Event { fh: 2, events: 4 }, "0000000000000002 00000004"),
        (op::PING, Answer::Ping, ""),
        (op::ACK_FRAG, Answer::AckFrag { number: 3 }, "0000000000000003"),
        (op::NOT_MASTER, Answer::NotMaster, ""),
    ] {
        assert_eq!(answer.encode(), bytes(hex), "{answer:?}");
        assert_eq!(Answer::decode(op, &bytes(hex)), Ok(answer));
    }
}

#[test]
fn a_directory_lists_its_names() {
    let data =
        bytes("0100 61 0000000000 0600 646464646464 0700 65656565656565 00000000000000 0000000000000000");
    let names = directory_names(&data[..32]).unwrap();
    assert_eq!(names, [&b"a"[..], b"dddddd", b"eeeeeee"]);
    assert_eq!(directory_names(&data[..24]), Err(Malformed::Short));
    assert_eq!(directory_names(&[5]), Err(Malformed::Trailing(1)));
    assert_eq!(directory_names(&[]), Ok(Vec::new()));
}

#[test]
fn malformed_packets_and_bodies_are_refused() {
    let datagram = bytes(NEW_SESS);
    for length in 0..datagram.len() - 1 {
        let result = Packet::decode(&datagram[..length]);
        assert!(length >= 44 + FOOTER || result.is_err(), "{length} bytes: {result:?}");
    }
    let with = |at: usize, byte: u8| {
        let mut datagram = datagram.clone();
        datagram[at] = byte;
        Packet::decode(&datagram)
    };
    assert!(matches!(with(0, 0), Err(Malformed::Magic(_))));
    assert_eq!(with(19, 33), Err(Malformed::TooLong { length: 33, limit: 32 }));
    assert_eq!(with(31, 4), Err(Malformed::Order(4)));
    assert_eq!(
        Request::decode(op::DEL, &bytes("00000101")),
        Err(Malformed::TooLong { length: 257, limit: 256 })
    );
    assert_eq!(Request::decode(op::PUT, &bytes("0000000000000002 00000005 78")), Err(Malformed::Short));
    assert_eq!(Request::decode(op::NOP, &[0; 4]), Err(Malformed::Trailing(4)));
    assert_eq!(Answer::decode(5, &[0; 12]), Err(Malformed::Op(5)));
}
