//! A client that behaves like Hail's, defects included: it takes the next number only, accepts duplicates 25 numbers
//! back and appends them, never acknowledges events, and sends all that is unanswered again every 5 s, newest first.

use std::net::SocketAddr;

use cldc_core::link::ahead;
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::{MAX_PACKET, PIECE};
use cldc_core::wire::{Answer, Code, EventMask, Key, Op, Packet, Part, Request, Seal, Writer};

/// How often Hail's client sends again.
const TICK: Duration = Duration::from_secs(5);

/// What the client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Done { op: Op, xid: u64, code: Code },
    Opened { xid: u64, fh: u64 },
    Contents { xid: u64, version: u64, data: Vec<u8> },
    Event { fh: u64, events: EventMask },
}

#[derive(Clone, Debug)]
struct Pending {
    xid: u64,
    packets: Vec<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) sid: u64,
    pub(crate) user: Vec<u8>,
    pub(crate) key: Key,
    pub(crate) addr: SocketAddr,
    /// The number of the next packet.
    pub(crate) next: u64,
    pub(crate) next_xid: u64,
    /// The server's next number, once known.
    pub(crate) expected: Option<u64>,
    assembling: Option<Op>,
    body: Vec<u8>,
    pending: Vec<Pending>,
    answered: Vec<u64>,
    pub(crate) told: Vec<Told>,
    /// The events, without those that came again.
    pub(crate) events_once: Vec<(u64, EventMask)>,
    is_duplicate: bool,
    /// Of each packet that was accepted: its number and operation, if it names one.
    pub(crate) accepted: Vec<(u64, Option<Op>)>,
    /// Results outside the stream.
    pub(crate) one_shots: Vec<(u64, Op, u64, Code)>,
    /// Whether it acknowledges.
    pub(crate) acks: bool,
    /// It is one of ours: takes each packet once, and acknowledges all.
    pub(crate) exact: bool,
    greetings: Vec<u64>,
    /// It neither sends again nor hears.
    pub(crate) dead: bool,
    pub(crate) tick_at: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(sid: u64, user: &str, port: u16) -> Self {
        Self {
            sid,
            user: user.into(),
            key: Key::new(user.as_bytes()).unwrap(),
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            next: sid.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            next_xid: sid << 16,
            expected: None,
            assembling: None,
            body: Vec::new(),
            pending: Vec::new(),
            answered: Vec::new(),
            told: Vec::new(),
            events_once: Vec::new(),
            is_duplicate: false,
            accepted: Vec::new(),
            one_shots: Vec::new(),
            acks: true,
            dead: false,
            exact: false,
            greetings: Vec::new(),
            tick_at: None,
        }
    }

    pub(crate) fn packet(&self, part: Part, number: u64, piece: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; MAX_PACKET + piece.len()];
        let seal = Seal { sid: self.sid, user: &self.user, key: &self.key };
        let len = seal.emit(part, number, piece, &mut buffer).unwrap();
        buffer.truncate(len);
        buffer
    }

    pub(crate) fn ack(&self, number: u64) -> Vec<u8> {
        self.packet(Part::Only { xid: 0, op: Op::Ack }, number, &[])
    }

    /// Numbers a request: its xid and its packets. They are sent again until it is answered.
    pub(crate) fn request(&mut self, request: &Request<'_>) -> (u64, Vec<Vec<u8>>) {
        let mut buffer = vec![0; 140_000];
        let mut out = Writer::new(&mut buffer);
        request.emit(&mut out).unwrap();
        let body = out.written().to_vec();
        self.message(request.op(), &body)
    }

    pub(crate) fn message(&mut self, op: Op, body: &[u8]) -> (u64, Vec<Vec<u8>>) {
        let xid = self.next_xid;
        self.next_xid += 1;
        let count = body.len().div_ceil(PIECE).max(1);
        let mut packets = Vec::new();
        for at in 0..count {
            let piece = &body[at * PIECE..body.len().min((at + 1) * PIECE)];
            let part = match (at == 0, at + 1 == count) {
                (true, true) => Part::Only { xid, op },
                (true, false) => Part::First { xid, op },
                (false, false) => Part::Middle,
                (false, true) => Part::Last,
            };
            packets.push(self.packet(part, self.next, piece));
            self.next = self.next.wrapping_add(1);
        }
        self.pending.push(Pending { xid, packets: packets.clone() });
        (xid, packets)
    }

    /// What it sends again at a tick: the newest message first.
    pub(crate) fn resends(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.tick_at = Some(now + TICK);
        self.pending.iter().rev().flat_map(|pending| pending.packets.clone()).collect()
    }

    /// Takes in a datagram; the acknowledgements to send.
    pub(crate) fn receive(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let packet = Packet::parse(datagram).unwrap();
        assert_eq!((packet.sid, packet.user), (self.sid, self.user.as_slice()));
        packet.verify(&self.key).unwrap();
        let (number, op) = (packet.number, packet.part.op());
        // Hail's looks at the operation before it looks at the number.
        if op.is_some() && !self.exact {
            self.assembling = op;
        }
        self.is_duplicate = self.expected.is_some_and(|expected| ahead(number, expected) < 0);
        if op != Some(Op::NewSess) {
            match self.expected.map(|expected| ahead(number, expected)) {
                Some(0) => self.expected = Some(number.wrapping_add(1)),
                Some(..0) if self.exact => return vec![self.ack(number)],
                Some(-25..0) => {}
                _ => {
                    self.note_one_shot(&packet);
                    return Vec::new();
                }
            }
        } else {
            if let Ok(Answer::Done { code, xid, .. }) = Answer::parse(Op::NewSess, packet.piece)
                && code != Code::Ok
            {
                self.one_shots.push((number, Op::NewSess, xid, code));
                return Vec::new();
            }
            if self.exact && self.greetings.contains(&number) {
                return vec![self.ack(number)];
            }
            self.greetings.push(number);
            self.expected = Some(number.wrapping_add(1));
        }
        self.accepted.push((number, op));
        if packet.part.is_first() {
            self.assembling = op;
            self.body.clear();
        }
        self.body.extend_from_slice(packet.piece);
        let acks = if !packet.part.is_last() || self.complete() | self.exact {
            vec![self.ack(number)]
        } else {
            Vec::new()
        };
        if self.acks { acks } else { Vec::new() }
    }

    fn note_one_shot(&mut self, packet: &Packet<'_>) {
        let Part::Only { op, .. } = packet.part else { return };
        if let Ok(Answer::Done { xid, code, .. }) = Answer::parse(op, packet.piece) {
            self.one_shots.push((packet.number, op, xid, code));
        }
    }

    /// A message is complete; whether it is acknowledged.
    fn complete(&mut self) -> bool {
        let Some(op) = self.assembling else { return false };
        let Ok(answer) = Answer::parse(op, &self.body) else {
            assert!(!self.exact, "garbled");
            return false;
        };
        let (xid, told) = match answer {
            Answer::Ping => return true,
            Answer::Event { fh, events } => {
                if !self.is_duplicate {
                    self.events_once.push((fh, events));
                }
                self.told.push(Told::Event { fh, events });
                return false;
            }
            Answer::Done { op, xid, code } => (xid, Told::Done { op, xid, code }),
            Answer::Opened { xid, fh } => (xid, Told::Opened { xid, fh }),
            Answer::Contents { xid, metadata, data, .. } => {
                (xid, Told::Contents { xid, version: metadata.version, data: data.to_vec() })
            }
            other => panic!("the server said {other:?}"),
        };
        if let Some(at) = self.pending.iter().position(|pending| pending.xid == xid) {
            self.pending.remove(at);
            self.answered.push(xid);
            self.told.push(told);
            return true;
        }
        self.answered.contains(&xid)
    }

    pub(crate) fn answer(&self, request: u64) -> Option<&Told> {
        self.told.iter().find(|told| match told {
            Told::Done { xid, .. } | Told::Opened { xid, .. } | Told::Contents { xid, .. } => *xid == request,
            Told::Event { .. } => false,
        })
    }

    pub(crate) fn code(&self, request: u64) -> Option<Code> {
        self.answer(request).map(|told| match told {
            Told::Done { code, .. } => *code,
            _ => Code::Ok,
        })
    }

    pub(crate) fn events(&self) -> Vec<(u64, EventMask)> {
        let events = self.told.iter().filter_map(|told| match told {
            Told::Event { fh, events } => Some((*fh, *events)),
            _ => None,
        });
        events.collect()
    }

    /// Forgets what it would send again.
    pub(crate) fn forget_pending(&mut self) {
        self.pending.clear();
    }
}
