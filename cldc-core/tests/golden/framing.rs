//! What goes around a message: pieces of a longer one, and users of every length (protocol.md 1.1, 1.4).

use cldc_core::wire::limits::{MAX_USER_FIELD, PIECE};
use cldc_core::wire::{Answer, Code, InodeFlags, Metadata, Op, Packet, Part, Request, Seal, Writer};

use super::common::{hex, unhex};
use super::{SID, USER, key};

/// Each piece's header and footer.
type Frames = [(&'static str, &'static str)];

const PUT: &Frames = &[
    (
        "746b703163444c430123456789abcdef00000005616c69636500000000000001c0ffee00000000aa00000006",
        "feffffffffffffffa4252b87c82c38752febaa9c91c9ac8493e632e4",
    ),
    (
        "746b703163444c430123456789abcdef00000005616c69636500000000000000",
        "ffffffffffffffffa7b1f679f2c2030b0d39fff6c79e35cf8d213ebf",
    ),
    (
        "746b703163444c430123456789abcdef00000005616c69636500000000000002",
        "0000000000000000568f96f7a43dfb3e7015fdf9f576dbe717f6a8af",
    ),
];

const GET: &Frames = &[
    (
        "746b703163444c430123456789abcdef00000005616c696365000000000000015eed0000000000aa00000004",
        "10000000000000004db980aad572de71f73a3f864f173bf02cc09f62",
    ),
    (
        "746b703163444c430123456789abcdef00000005616c69636500000000000002",
        "1100000000000000d9a4bcfe2b878af948a3b99f62daa2ffdebd1365",
    ),
];

/// HMACs of a NOP whose user is the first letter of the alphabet, the first two, and so on.
const USERS: [&str; MAX_USER_FIELD] = [
    "98b830b649b32e0e77d2380cb23f947eca1902b6",
    "8ea55ee8c754f73095a11d5c96b32509ec7bb775",
    "796d4ffac1502a57c7db6b3ef80f171e3a73e1e3",
    "58bb292ed162cf0d679e5028b0085520b288c182",
    "6d05b26269aa1a93902193edbaa86ebeedc23a2f",
    "cb4f1f93fd6bfe3b36ac9431d8ba477571eed528",
    "513283565cec2844ad63a090f8465c69edba686b",
    "9aa7cf77c3bf6314b66ab4513b099a8a75a8b1a7",
    "2cd613c2b1261f384725c15ba7416a69b68dea54",
    "04804e07bd434e9aafd85c082ad5648ad77a9fc0",
    "17539e9232d62fcb4ff5c80999c91a37c5d7551f",
    "8eb469654fd9301c00b17532887b0b8e9c1b9e49",
    "103c963cd51fd1998ac047f184eaf86d6a3e9afa",
    "167b0ee585ce56575969523a4f4bf71ec262590a",
    "39818005876e4093dfb33702e2c289941dcbac18",
    "5df5213d5903fb14c977164cc671ba4d542441e9",
    "c43d0bfd9df9c62eb1f6e3bfb195cded40d433c7",
    "65ed4d87b6bacf6ba398271b6d4ba0fb0cc09dbb",
    "b9c49b7a826374324666e9825d8d050abdd13255",
    "183334412d25712ee3da0ec6d36dcc3b46802cf9",
    "1988edd8ca660cdd91b6e7e73a88c74d4f6cd144",
    "83356a1e57e4150c97646b228c02c18ada9fac76",
    "7c28327bd15d47a38c2121ee18eaafd22df43a9d",
    "9587df50d52d073ab1c6faa7bbb8cc17b804b826",
    "cefa0eee263a6399a5f2791cafc8d8e5a3bf44a0",
    "50e0799fdec7ef270eed06f805c37d566bc242cb",
    "a71d3a9bf87642eb301b2917a7de58ca1c50739a",
    "80e59f1de9a2801cf728e12bbb6fa22b0bcf882b",
    "b304af545592b8d4b7ac3bfbc501a332220bb104",
    "61cc7b2179dc0be529376584fb9d9e888ea06a3e",
    "1334b6cf329d5632b58e13d20b24ee4f8532f94c",
    "a4ee4f7b53fe24f667215b3fd0be2d17f70b71a6",
];

/// The contents of a file, any length of them.
fn contents(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Cuts `body` into pieces; checks that each packet is the golden one, and that the golden ones decode to the pieces.
fn check(body: &[u8], op: Op, xid: u64, first: u64, frames: &Frames) {
    let pieces: Vec<&[u8]> = body.chunks(PIECE).collect();
    assert_eq!(pieces.len(), frames.len());
    let key = key();
    let mut number = first;
    for (at, (piece, (header, footer))) in pieces.iter().zip(frames).enumerate() {
        let golden = [&unhex(header), *piece, &unhex(footer)].concat();
        let part = match at {
            0 => Part::First { xid, op },
            _ if at + 1 == pieces.len() => Part::Last,
            _ => Part::Middle,
        };
        let mut datagram = [0; 2048];
        let seal = Seal { sid: SID, user: USER, key: &key };
        let len = seal.emit(part, number, piece, &mut datagram).unwrap();
        assert_eq!(hex(&datagram[..len]), hex(&golden), "piece {at}");

        let packet = Packet::parse(&golden).unwrap();
        packet.verify(&key).unwrap();
        assert_eq!((packet.sid, packet.user, packet.part), (SID, USER, part), "piece {at}");
        assert_eq!((packet.number, packet.piece), (number, *piece), "piece {at}");
        number = number.wrapping_add(1);
    }
}

#[test]
fn a_request_in_three_pieces_whose_numbers_wrap() {
    let data = contents(2037);
    let request = Request::Put { fh: 7, data: &data };
    let mut buffer = [0; 4096];
    let mut body = Writer::new(&mut buffer);
    request.emit(&mut body).unwrap();
    check(body.written(), Op::Put, 0xc0ff_ee00_0000_00aa, u64::MAX - 1, PUT);
    assert_eq!(Request::parse(Op::Put, body.written()), Ok(request));
}

#[test]
fn an_answer_in_two_pieces() {
    let data = contents(1000);
    let metadata = Metadata {
        inode: 51,
        version: 9,
        created: 1_290_000_000,
        modified: 1_290_000_060,
        flags: InodeFlags::NONE,
    };
    let xid = 0xc0ff_ee00_0000_00aa;
    let answer = Answer::Contents { xid, metadata, path: b"/big", data: &data };
    let mut buffer = [0; 4096];
    let mut body = Writer::new(&mut buffer);
    answer.emit(&mut body).unwrap();
    check(body.written(), Op::Get, 0x5eed_0000_0000_00aa, 0x10, GET);
    assert_eq!(Answer::parse(Op::Get, body.written()), Ok(answer));
    let first_piece = &body.written()[..PIECE];
    assert_eq!(cldc_core::wire::answer::outcome(first_piece), Ok((Code::Ok, xid)));
}

#[test]
fn users_of_every_length() {
    let alphabet = b"abcdefghijklmnopqrstuvwxyz012345";
    let key = key();
    for (at, mac) in USERS.iter().enumerate() {
        let user = &alphabet[..=at];
        let number = user.len() as u64;
        let padding = &"000000"[..2 * ((4 - user.len() % 4) % 4)];
        let golden = unhex(&format!(
            "746b703163444c43 0123456789abcdef {:08x} {} {padding} 00000003 1122334455667788 00000000 \
             {number:02x}00000000000000 {mac}",
            user.len(),
            hex(user),
        ));
        let part = Part::Only { xid: 0x1122_3344_5566_7788, op: Op::Nop };
        let mut datagram = [0; 128];
        let len = Seal { sid: SID, user, key: &key }.emit(part, number, b"", &mut datagram).unwrap();
        assert_eq!(hex(&datagram[..len]), hex(&golden));

        let packet = Packet::parse(&golden).unwrap();
        packet.verify(&key).unwrap();
        assert_eq!((packet.sid, packet.user, packet.part, packet.number), (SID, user, part, number));
        assert_eq!(packet.piece, b"");
    }
}
