//! The codec against the bytes that the project agreed on (cldc-core/tests/golden/extended.rs).

use std::net::SocketAddr;

use super::super::codes::{code, event, op};
use super::super::xdr::Reader;
use super::super::{Malformed, Packet, Rider};
use super::*;

const KEY: &[u8] = b"correct horse battery";

const GREETING: &str =
    "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000100000001434c4458
    000000010000000100007530000000400002013800000000000000000000000000000000000000000000000000000000
    000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    000000000000000000000000000000000000000000000000000000000000000000000000010000000000008032fac973
    12ae3fe99d5115a5dd0df1ad498cf617";
const RESUME: &str =
    "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000200000040434c4458
    00000001000000010000753000000040000201381122334455667788c0ffee0000000010000000000000000000000000
    000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    0000000000000000000000000000000000000000000000000000000000000000000000000200000000000080da00ee1f
    d10ad6f348b2babd136b3c2695e277d7";
const ALIVE: &str =
    "746b703163444c430123456789abcdef00000005616c696365000000000003035eed0000000000050000000080000000
    00000009000000000000000500000000c0ffee0000000003000000000000000705000000000000008e758744d8d00fd1
    e0d541f93c838f8d6902f6b7";
const RESUMED: &str =
    "746b703163444c430123456789abcdef00000005616c696365000000000001035eed0000000000040000004080000000
    00000003000000000000000000000000c0ffee000000000200000001000000010000000000000007000075300000afc8
    0000004000030000000000400000000200041f910a00000100061f9220010db800000000000000000000000200000002
    000000000000000200000002000000000000000300000001f0ffffffffffffff01d41ffb6c097b5083d838816d93fadb
    15de35ad";
const LOCKED: &str =
    "746b703163444c430123456789abcdef00000005616c696365000000000001035eed00000000000b0000001080000000
    0000000900000000000000050000000000000002000000040000000000000009000000000000000c0000000000000033
    0000000000000003000000000000000a2f6c732f6c65616465720000f6ffffffffffffff615332a3ad532c383bc6cb7f
    1a2d3c70b8e02afa";
const NOT_MASTER: &str =
    "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000d0000000f00000000
    000000080000000100041f910a00000102000000000000803ba9a458cc32138a885cfb22a968650635b3189b";
const FENCED: &str =
    "746b703163444c430123456789abcdef00000005616c69636500000000000103c0ffee000000000700000043ffffffff
    fffffff1000000000000000000000000000000330000000000000003000000000000000a2f6c732f6c65616465720000
    0000000000000002000000036e65770007000000000000805d7df29bdbdee63583b4b0a4f7f8fe4bdc3b0e07";
const LOOSE_ACK: &str =
    "746b703163444c430123456789abcdef00000005616c6963650000000000030300000000000000000000000cffffffff
    fffffff300000000000000060000000000000000f344192ef928b4cf072735d5ec83261acf7a976d";

fn session() -> Extended {
    let mut session = Extended::new("127.0.0.1:1".parse().unwrap(), "alice");
    (session.sid, session.key) = (0x0123_4567_89ab_cdef, KEY.to_vec());
    session.hello.max_message = 131_384;
    session.next_xid = 0xc0ff_ee00_0000_0001;
    session.next = 0x8000_0000_0000_0001;
    session
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn open(hex: &str) -> (Packet, Option<Rider>) {
    Packet::open_with(&bytes(hex), KEY).unwrap().unwrap()
}

fn read<T>(body: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>) -> T {
    let mut reader = Reader(body);
    let item = read(&mut reader).unwrap();
    assert!(reader.0.is_empty());
    item
}

#[test]
fn what_the_client_sends_has_the_bytes_agreed_on() {
    let (_, greeting) = session().prepare_greeting();
    assert_eq!(greeting, bytes(GREETING));
    for hex in [RESUME, FENCED, LOOSE_ACK] {
        let (packet, rider) = open(hex);
        assert_eq!(packet.encode_with(rider, KEY), bytes(hex));
        assert!(rider.is_none() || Packet::decode(&bytes(hex)).is_err(), "a plain client takes no riders");
    }
    let mut body = session().hello.encode();
    body.extend(0x1122_3344_5566_7788_u64.to_be_bytes());
    assert!(open(RESUME).0.body.starts_with(&body));
    let sequencer = Sequencer { inode: 51, generation: 3, mode: 0, path: b"/ls/leader".to_vec() };
    assert!(open(FENCED).0.body.starts_with(&sequencer.encode()));
    assert_eq!(open(LOOSE_ACK).1.map(|rider| (rider.loose, open(LOOSE_ACK).0.number)), Some((true, 0)));
    let master = Master { epoch: 8, address: Some("10.0.0.1:8081".parse().unwrap()) };
    assert_eq!(open(NOT_MASTER).0.body, master.encode());
    assert_eq!(Master::decode(&master.encode()), Ok(master));
}

#[test]
fn what_the_server_sends_is_read() {
    let result = |code: i32, xid: u64| [&code.to_be_bytes()[..], &xid.to_be_bytes()].concat();
    let (alive, rider) = open(ALIVE);
    assert_eq!((alive.head.map(|head| head.op), rider.map(|rider| rider.loose)), (Some(op::NOP), Some(true)));
    assert_eq!(alive.body, [result(code::OK, 0xc0ff_ee00_0000_0003), 7_u64.to_be_bytes().to_vec()].concat());
    let (event, rider) = open(LOCKED);
    assert!(rider.is_some_and(|rider| !rider.loose));
    let sequencer = Sequencer { inode: 51, generation: 3, mode: 0, path: b"/ls/leader".to_vec() };
    let expected = Event { fh: 2, events: event::LOCKED, serial: 9, version: 12, granted: Some(sequencer) };
    assert_eq!(read(&event.body, Event::read), expected);
    let (resumed, rider) = open(RESUMED);
    assert_eq!(rider.map(|rider| rider.next), Some(0x8000_0000_0000_0003));
    let (welcome, stands) = read(resumed.body.get(12..).unwrap(), |reader| {
        Ok((Welcome::read(reader)?, Stands::read_all(reader)?))
    });
    let servers: [SocketAddr; 2] =
        ["10.0.0.1:8081", "[2001:db8::2]:8082"].map(|address| address.parse().unwrap());
    assert_eq!((welcome.epoch, welcome.grace, welcome.servers), (7, 45_000, servers.to_vec()));
    assert_eq!(stands, [Stands { fh: 2, lock: 2 }, Stands { fh: 3, lock: 1 }]);
}
