//! What the packets of extended sessions look like (docs/protocol.md 7), byte for byte.
//!
//! Made as the plain ones were: from the document, by a program of its own with another HMAC implementation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use cldc_core::wire::extended::{
    self, Addresses, EventDetail, Features, Hello, Master, Resume, Sequencer, Standing, Stands, Welcome,
};
use cldc_core::wire::{
    Ack, Answer, Code, EventMask, LockFlags, Op, Packet, Part, Request, Rider, Seal, Writer,
};

use super::common::{hex, unhex};
use super::{SID, USER, key};

/// What a packet says.
enum Body {
    Empty,
    NewSess,
    Request(Request<'static>),
    Done { xid: u64, code: Code },
    Welcome { xid: u64 },
    Challenge { xid: u64, cookie: Option<u64> },
    Resumed { xid: u64 },
    Alive { xid: u64 },
    Locked { xid: u64 },
    Event { events: EventMask, detail: EventDetail<'static> },
    Master { address: Option<SocketAddr>, servers: bool },
}

/// A packet that holds a whole message.
struct Golden {
    name: &'static str,
    op: Op,
    xid: u64,
    number: u64,
    rider: Option<Rider>,
    body: Body,
    hex: &'static str,
}

const HELLO: Hello =
    Hello { version: 1, features: Features::FENCING, lease_ms: 30_000, window: 64, max_message: 131_384 };
const RESUME: Resume = Resume { hello: HELLO, cookie: 0x1122_3344_5566_7788, oldest: 0xc0ff_ee00_0000_0010 };
const SEQUENCER: Sequencer<'_> =
    Sequencer { inode: 51, generation: 3, mode: LockFlags::NONE, path: b"/ls/leader" };
const LOCKED: EventDetail<'_> = EventDetail { serial: 9, version: 12, sequencer: Some(SEQUENCER) };
const UPDATED: EventDetail<'_> = EventDetail { serial: 10, version: 13, sequencer: None };
const ACK: Rider = Rider { ack: Ack { next: 0xffff_ffff_ffff_fff1, held: 0 }, loose: false };
const SERVER_ACK: Rider = Rider { ack: Ack { next: 0x8000_0000_0000_0009, held: 0b101 }, loose: false };
const FIRST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 8081);
const SECOND: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)), 8082);
const EPOCH: u64 = 7;
const STANDS: [Stands; 2] =
    [Stands { fh: 2, lock: Standing::Held }, Stands { fh: 3, lock: Standing::Waiting }];

fn welcome() -> Welcome {
    Welcome {
        version: 1,
        features: Features::FENCING,
        epoch: EPOCH,
        lease_ms: 30_000,
        grace_ms: 45_000,
        window: 64,
        max_message: 196_608,
        requests: 64,
        servers: [FIRST, SECOND].into_iter().collect(),
    }
}

impl Golden {
    /// The body as it is encoded.
    fn body(&self) -> Vec<u8> {
        let mut buffer = [0; 512];
        let mut out = Writer::new(&mut buffer);
        let result =
            |code, xid, out: &mut Writer<'_>| Answer::Done { op: self.op, xid, code }.emit(out).unwrap();
        match &self.body {
            Body::Empty => {}
            Body::NewSess => {
                HELLO.emit(&mut out).unwrap();
                extended::fill(USER, &mut out).unwrap();
            }
            Body::Request(request) => {
                request.emit(&mut out).unwrap();
                if self.op == Op::Resume {
                    extended::fill(USER, &mut out).unwrap();
                }
            }
            Body::Done { xid, code } => result(*code, *xid, &mut out),
            Body::Welcome { xid } => {
                result(Code::Ok, *xid, &mut out);
                welcome().emit(&mut out).unwrap();
            }
            Body::Challenge { xid, cookie } => {
                result(Code::Challenge, *xid, &mut out);
                cookie.map(|cookie| out.u64(cookie).unwrap());
            }
            Body::Resumed { xid } => {
                result(Code::Ok, *xid, &mut out);
                welcome().emit(&mut out).unwrap();
                out.u32(2).unwrap();
                STANDS.iter().for_each(|stands| stands.emit(&mut out).unwrap());
            }
            Body::Alive { xid } => {
                result(Code::Ok, *xid, &mut out);
                out.u64(EPOCH).unwrap();
                extended::emit_addresses(&[FIRST, SECOND], &mut out).unwrap();
            }
            Body::Locked { xid } => {
                result(Code::Ok, *xid, &mut out);
                SEQUENCER.emit(&mut out).unwrap();
            }
            Body::Event { events, detail } => {
                Answer::Event { fh: 2, events: *events }.emit(&mut out).unwrap();
                detail.emit(&mut out).unwrap();
            }
            Body::Master { address, servers } => {
                Master { epoch: 8, address: *address }.emit(&mut out).unwrap();
                servers.then(|| extended::emit_addresses(&[FIRST, SECOND], &mut out).unwrap());
            }
        }
        out.written().to_vec()
    }

    /// Asserts that a body reads as what it should say.
    fn reads(&self, body: &[u8]) {
        let name = self.name;
        let result = |code, xid| {
            assert_eq!(Answer::parse(self.op, body), Ok(Answer::Done { op: self.op, xid, code }), "{name}");
        };
        match &self.body {
            Body::Empty => assert!(body.is_empty()),
            Body::NewSess => assert_eq!(Hello::of(body), Some(HELLO)),
            Body::Request(request) => assert_eq!(Request::parse(self.op, body), Ok(*request), "{name}"),
            Body::Done { xid, code } => result(*code, *xid),
            Body::Welcome { xid } => {
                result(Code::Ok, *xid);
                assert_eq!(Welcome::of(body), Some(welcome()));
            }
            Body::Challenge { xid, cookie } => {
                result(Code::Challenge, *xid);
                assert_eq!(extended::challenge(body), *cookie, "{name}");
            }
            Body::Resumed { xid } => {
                result(Code::Ok, *xid);
                let (found, stands) = extended::resumed(body).unwrap();
                assert_eq!((found, stands.collect::<Vec<_>>()), (welcome(), STANDS.to_vec()));
            }
            Body::Alive { xid } => {
                result(Code::Ok, *xid);
                assert_eq!(extended::alive(body), Some((EPOCH, welcome().servers)));
            }
            Body::Locked { xid } => {
                result(Code::Ok, *xid);
                assert_eq!(Sequencer::of(body), Some(SEQUENCER), "{name}");
            }
            Body::Event { events, detail } => {
                let plain = Answer::Event { fh: 2, events: *events };
                assert_eq!(Answer::parse(Op::Event, body), Ok(plain), "{name}");
                assert_eq!(EventDetail::of(body), Some(*detail), "{name}");
            }
            Body::Master { address, servers } => {
                let told = if *servers { welcome().servers } else { Addresses::new() };
                assert_eq!(Answer::parse(Op::NotMaster, body), Ok(Answer::NotMaster));
                assert_eq!(Master::of(body), Some((Master { epoch: 8, address: *address }, told)));
            }
        }
    }
}

const REQUESTS: &[Golden] = &[
    Golden {
        name: "NEW_SESS",
        op: Op::NewSess,
        xid: 0xc0ff_ee00_0000_0001,
        number: 0x8000_0000_0000_0001,
        rider: None,
        body: Body::NewSess,
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000100000001434c4458
              000000010000000100007530000000400002013800000000000000000000000000000000000000000000000000000000
              000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
              000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
              000000000000000000000000000000000000000000000000000000000000000000000000010000000000008032fac973
              12ae3fe99d5115a5dd0df1ad498cf617",
    },
    Golden {
        name: "RESUME",
        op: Op::Resume,
        xid: 0xc0ff_ee00_0000_0002,
        number: 0x8000_0000_0000_0002,
        rider: None,
        body: Body::Request(Request::Resume(RESUME)),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000200000040434c4458
              00000001000000010000753000000040000201381122334455667788c0ffee0000000010000000000000000000000000
              000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
              000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
              0000000000000000000000000000000000000000000000000000000000000000000000000200000000000080da00ee1f
              d10ad6f348b2babd136b3c2695e277d7",
    },
    Golden {
        name: "NOP, loose",
        op: Op::Nop,
        xid: 0xc0ff_ee00_0000_0003,
        number: 5,
        rider: Some(Rider { loose: true, ..ACK }),
        body: Body::Request(Request::Nop),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000303c0ffee000000000300000000ffffffff
              fffffff1000000000000000005000000000000009460350cb6a69f903f55effacf402ac86fd9e939",
    },
    Golden {
        name: "ACK, loose",
        op: Op::Ack,
        xid: 0,
        number: 0,
        rider: Some(Rider { ack: Ack { next: 0xffff_ffff_ffff_fff3, held: 6 }, loose: true }),
        body: Body::Empty,
        hex: "746b703163444c430123456789abcdef00000005616c6963650000000000030300000000000000000000000cffffffff
              fffffff300000000000000060000000000000000f344192ef928b4cf072735d5ec83261acf7a976d",
    },
    Golden {
        name: "LOCK",
        op: Op::Lock,
        xid: 0xc0ff_ee00_0000_0004,
        number: 0x8000_0000_0000_0004,
        rider: Some(ACK),
        body: Body::Request(Request::Lock { fh: 2, flags: LockFlags::NONE, wait: true }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000103c0ffee000000000400000009ffffffff
              fffffff100000000000000000000000000000002000000000400000000000080ff3451dd82d259af846c8f65bd9b2719
              893663bc",
    },
    Golden {
        name: "GET_SEQUENCER",
        op: Op::GetSequencer,
        xid: 0xc0ff_ee00_0000_0005,
        number: 0x8000_0000_0000_0005,
        rider: Some(ACK),
        body: Body::Request(Request::GetSequencer { fh: 2 }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000103c0ffee000000000500000041ffffffff
              fffffff1000000000000000000000000000000020500000000000080405026ed3b08e9012a932ac94a8f4f2ff8b4f2f3",
    },
    Golden {
        name: "CHECK_SEQUENCER",
        op: Op::CheckSequencer,
        xid: 0xc0ff_ee00_0000_0006,
        number: 0x8000_0000_0000_0006,
        rider: Some(ACK),
        body: Body::Request(Request::CheckSequencer { sequencer: SEQUENCER }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000103c0ffee000000000600000042ffffffff
              fffffff1000000000000000000000000000000330000000000000003000000000000000a2f6c732f6c65616465720000
              0600000000000080618fa7b55d1b3639aba7b6dba8a719e92efa0f22",
    },
    Golden {
        name: "PUT_FENCED",
        op: Op::PutFenced,
        xid: 0xc0ff_ee00_0000_0007,
        number: 0x8000_0000_0000_0007,
        rider: Some(ACK),
        body: Body::Request(Request::PutFenced { sequencer: SEQUENCER, fh: 2, data: b"new" }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000103c0ffee000000000700000043ffffffff
              fffffff1000000000000000000000000000000330000000000000003000000000000000a2f6c732f6c65616465720000
              0000000000000002000000036e65770007000000000000805d7df29bdbdee63583b4b0a4f7f8fe4bdc3b0e07",
    },
    Golden {
        name: "DEL_FENCED",
        op: Op::DelFenced,
        xid: 0xc0ff_ee00_0000_0008,
        number: 0x8000_0000_0000_0008,
        rider: Some(ACK),
        body: Body::Request(Request::DelFenced { sequencer: SEQUENCER, path: b"/ls/old" }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000103c0ffee000000000800000044ffffffff
              fffffff1000000000000000000000000000000330000000000000003000000000000000a2f6c732f6c65616465720000
              000000072f6c732f6f6c6400080000000000008038f77e42dc561ab21dea2f225b19c6247a318997",
    },
];

const ANSWERS: &[Golden] = &[
    Golden {
        name: "NEW_SESS succeeds",
        op: Op::NewSess,
        xid: 0x5eed_0000_0000_0001,
        number: 0xffff_ffff_ffff_fff0,
        rider: None,
        body: Body::Welcome { xid: 0xc0ff_ee00_0000_0001 },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000010000000100000000
              c0ffee000000000100000001000000010000000000000007000075300000afc800000040000300000000004000000002
              00041f910a00000100061f9220010db8000000000000000000000002f0ffffffffffffffecef6aedc7ffa5e146b3e04e
              f002dec36179fabc",
    },
    Golden {
        name: "RESUME, a challenge",
        op: Op::Resume,
        xid: 0x5eed_0000_0000_0002,
        number: 0x8000_0000_0000_0002,
        rider: None,
        body: Body::Challenge { xid: 0xc0ff_ee00_0000_0002, cookie: Some(RESUME.cookie) },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000020000004000000043
              c0ffee000000000211223344556677880200000000000080273008954e51adf48765ecda4cea86b1e3535155",
    },
    Golden {
        name: "RESUME, a hint",
        op: Op::Resume,
        xid: 0x5eed_0000_0000_0003,
        number: 0x8000_0000_0000_0004,
        rider: None,
        body: Body::Challenge { xid: 0xc0ff_ee00_0000_0004, cookie: None },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000030000004000000043
              c0ffee000000000404000000000000800167182d9a6a7d9d36127ea9288c57b43ea15bdc",
    },
    Golden {
        name: "RESUME succeeds",
        op: Op::Resume,
        xid: 0x5eed_0000_0000_0004,
        number: 0xffff_ffff_ffff_fff0,
        rider: Some(Rider { ack: Ack { next: 0x8000_0000_0000_0003, held: 0 }, loose: false }),
        body: Body::Resumed { xid: 0xc0ff_ee00_0000_0002 },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000001035eed0000000000040000004080000000
              00000003000000000000000000000000c0ffee000000000200000001000000010000000000000007000075300000afc8
              0000004000030000000000400000000200041f910a00000100061f9220010db800000000000000000000000200000002
              000000000000000200000002000000000000000300000001f0ffffffffffffff01d41ffb6c097b5083d838816d93fadb
              15de35ad",
    },
    Golden {
        name: "NOP, loose, succeeds",
        op: Op::Nop,
        xid: 0x5eed_0000_0000_0005,
        number: 5,
        rider: Some(Rider { loose: true, ..SERVER_ACK }),
        body: Body::Alive { xid: 0xc0ff_ee00_0000_0003 },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000003035eed0000000000050000000080000000
              00000009000000000000000500000000c0ffee000000000300000000000000070000000200041f910a00000100061f92
              20010db800000000000000000000000205000000000000004c879c5d5116b95509ce206d0a029fa3765cf2ea",
    },
    Golden {
        name: "LOCK succeeds",
        op: Op::Lock,
        xid: 0x5eed_0000_0000_0006,
        number: 0xffff_ffff_ffff_fff1,
        rider: Some(SERVER_ACK),
        body: Body::Locked { xid: 0xc0ff_ee00_0000_0004 },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000001035eed0000000000060000000980000000
              00000009000000000000000500000000c0ffee000000000400000000000000330000000000000003000000000000000a
              2f6c732f6c65616465720000f1ffffffffffffffe1c2fd57b6709e0050c2084d496ec6b0c78f3234",
    },
    Golden {
        name: "GET_SEQUENCER succeeds",
        op: Op::GetSequencer,
        xid: 0x5eed_0000_0000_0007,
        number: 0xffff_ffff_ffff_fff2,
        rider: Some(SERVER_ACK),
        body: Body::Locked { xid: 0xc0ff_ee00_0000_0005 },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000001035eed0000000000070000004180000000
              00000009000000000000000500000000c0ffee000000000500000000000000330000000000000003000000000000000a
              2f6c732f6c65616465720000f2ffffffffffffffd22aac3374d38766a0ebbdc593afb7fb0d766d5e",
    },
    Golden {
        name: "CHECK_SEQUENCER fails",
        op: Op::CheckSequencer,
        xid: 0x5eed_0000_0000_0008,
        number: 0xffff_ffff_ffff_fff3,
        rider: Some(SERVER_ACK),
        body: Body::Done { xid: 0xc0ff_ee00_0000_0006, code: Code::Stale },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000001035eed0000000000080000004280000000
              00000009000000000000000500000042c0ffee0000000006f3ffffffffffffff108aea261efa10eb7fe5c037ba69ba9c
              8ad77447",
    },
    Golden {
        name: "PUT_FENCED succeeds",
        op: Op::PutFenced,
        xid: 0x5eed_0000_0000_0009,
        number: 0xffff_ffff_ffff_fff4,
        rider: Some(SERVER_ACK),
        body: Body::Done { xid: 0xc0ff_ee00_0000_0007, code: Code::Ok },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000001035eed0000000000090000004380000000
              00000009000000000000000500000000c0ffee0000000007f4ffffffffffffff293fdddf8202ead8ae042a4c7a51d7d8
              5afe8a36",
    },
    Golden {
        name: "DEL_FENCED fails",
        op: Op::DelFenced,
        xid: 0x5eed_0000_0000_000a,
        number: 0xffff_ffff_ffff_fff5,
        rider: Some(SERVER_ACK),
        body: Body::Done { xid: 0xc0ff_ee00_0000_0008, code: Code::Stale },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000001035eed00000000000a0000004480000000
              00000009000000000000000500000042c0ffee0000000008f5ffffffffffffffe4a61473b05f4802a7da25b4177c038b
              a60e8252",
    },
    Golden {
        name: "EVENT LOCKED",
        op: Op::Event,
        xid: 0x5eed_0000_0000_000b,
        number: 0xffff_ffff_ffff_fff6,
        rider: Some(SERVER_ACK),
        body: Body::Event { events: EventMask::LOCKED, detail: LOCKED },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000001035eed00000000000b0000001080000000
              0000000900000000000000050000000000000002000000040000000000000009000000000000000c0000000000000033
              0000000000000003000000000000000a2f6c732f6c65616465720000f6ffffffffffffff615332a3ad532c383bc6cb7f
              1a2d3c70b8e02afa",
    },
    Golden {
        name: "EVENT UPDATED",
        op: Op::Event,
        xid: 0x5eed_0000_0000_000c,
        number: 0xffff_ffff_ffff_fff7,
        rider: Some(SERVER_ACK),
        body: Body::Event { events: EventMask::UPDATED, detail: UPDATED },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000001035eed00000000000c0000001080000000
              000000090000000000000005000000000000000200000001000000000000000a000000000000000df7ffffffffffffff
              24ec5a94dc48c09f4a6e4b47ba09a94e7868ee37",
    },
    Golden {
        name: "NOT_MASTER",
        op: Op::NotMaster,
        xid: 0x5eed_0000_0000_000d,
        number: 0x8000_0000_0000_0002,
        rider: None,
        body: Body::Master { address: Some(FIRST), servers: true },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000d0000000f00000000
              000000080000000100041f910a0000010000000200041f910a00000100061f9220010db8000000000000000000000002
              0200000000000080d885a8bae0125b0b323d316832bc9e141c194dc4",
    },
    Golden {
        name: "NOT_MASTER, nobody knows who is",
        op: Op::NotMaster,
        xid: 0x5eed_0000_0000_000e,
        number: 0x8000_0000_0000_0004,
        rider: None,
        body: Body::Master { address: None, servers: false },
        hex:
            "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000e0000000f00000000
              000000080000000004000000000000806a74c80ce18d215859dbdb480f044805b7ad04a4",
    },
];

/// Which operations have a golden packet from the client, and which one from the server.
pub(super) fn ops() -> (Vec<Op>, Vec<Op>) {
    let ops = |table: &[Golden]| table.iter().map(|golden| golden.op).collect();
    (ops(REQUESTS), ops(ANSWERS))
}

#[test]
fn golden_packets_of_extended_sessions_decode_and_verify() {
    for golden in REQUESTS.iter().chain(ANSWERS) {
        let datagram = unhex(golden.hex);
        let packet = Packet::parse(&datagram).unwrap();
        packet.verify(&key()).unwrap();
        assert_eq!((packet.sid, packet.user, packet.number), (SID, USER, golden.number), "{}", golden.name);
        assert_eq!(packet.part, Part::Only { xid: golden.xid, op: golden.op }, "{}", golden.name);
        assert_eq!(packet.rider, golden.rider, "{}", golden.name);
        golden.reads(packet.piece);
        // A newer peer says more; but behind an ACK and a hint there is nothing so far.
        let ends = matches!(golden.body, Body::Empty | Body::Challenge { cookie: None, .. });
        if !ends {
            golden.reads(&[packet.piece, &[0xff; 8]].concat());
        }
    }
}

#[test]
fn golden_packets_of_extended_sessions_are_what_is_encoded() {
    for golden in REQUESTS.iter().chain(ANSWERS) {
        let mut datagram = [0; 1024];
        let key = key();
        let seal = Seal { sid: SID, user: USER, key: &key };
        let part = Part::Only { xid: golden.xid, op: golden.op };
        let len = seal.emit_with(golden.rider, part, golden.number, &golden.body(), &mut datagram).unwrap();
        assert_eq!(hex(&datagram[..len]), hex(&unhex(golden.hex)), "{}", golden.name);
    }
}

#[test]
fn what_asks_for_an_extended_session_is_as_long_as_any_answer_to_it() {
    for golden in REQUESTS.iter().filter(|golden| matches!(golden.op, Op::NewSess | Op::Resume)) {
        assert_eq!(unhex(golden.hex).len(), extended::HELLO_PACKET, "{}", golden.name);
    }
}
