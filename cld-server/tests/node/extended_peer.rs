//! A client of extended sessions, written from docs/protocol.md 7: it acknowledges all that it gets, repeats all that is
//! not acknowledged, and resumes when it is told to by a test.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cldc_core::time::{Duration, Instant};
use cldc_core::wire::answer::outcome;
use cldc_core::wire::extended::{self, EventDetail, Features, Hello, Resume, Stands, Welcome};
use cldc_core::wire::limits::{MAX_PACKET, PIECE};
use cldc_core::wire::{
    Ack, Answer, Code, EventMask, Key, LockFlags, Op, Packet, Part, Request, Rider, Seal, Writer,
};

/// It sends again what is not acknowledged every so often.
const TICK: Duration = Duration::from_millis(300);

/// An event as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) fh: u64,
    pub(crate) events: EventMask,
    pub(crate) serial: u64,
    pub(crate) version: u64,
    pub(crate) granted: Option<Grant>,
}

/// A sequencer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) inode: u64,
    pub(crate) generation: u64,
    pub(crate) mode: LockFlags,
    pub(crate) path: Vec<u8>,
}

impl Grant {
    pub(crate) fn of(sequencer: &extended::Sequencer<'_>) -> Self {
        let extended::Sequencer { inode, generation, mode, path } = *sequencer;
        Self { inode, generation, mode, path: path.to_vec() }
    }

    pub(crate) fn sequencer(&self) -> extended::Sequencer<'_> {
        let Self { inode, generation, mode, ref path } = *self;
        extended::Sequencer { inode, generation, mode, path }
    }
}

/// A message of the server's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) op: Op,
    pub(crate) code: Code,
    pub(crate) xid: u64,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Extended {
    pub(crate) sid: u64,
    pub(crate) user: Vec<u8>,
    key: Key,
    pub(crate) addr: SocketAddr,
    pub(crate) hello: Hello,
    /// The first number of its stream, and that of its next packet.
    pub(crate) first: u64,
    pub(crate) next: u64,
    pub(crate) next_xid: u64,
    pub(crate) opening: Option<(u64, u64)>,
    /// The server's next number, once known.
    pub(crate) expected: Option<u64>,
    early: BTreeMap<u64, (Part, Vec<u8>)>,
    assembling: Option<(Op, Vec<u8>)>,
    /// Packets that are not acknowledged.
    pub(crate) unacknowledged: BTreeMap<u64, (Part, Vec<u8>)>,
    /// Requests without an answer.
    pub(crate) pending: BTreeMap<u64, (Op, Vec<u8>)>,
    pub(crate) said: Vec<Said>,
    pub(crate) events: Vec<Event>,
    pub(crate) welcome: Option<Welcome>,
    pub(crate) stands: Vec<Stands>,
    /// The last answer to a NOP outside the stream: number, xid, epoch.
    pub(crate) alive: Vec<(u64, u64, u64)>,
    /// Results outside the stream: number, operation, xid, code.
    pub(crate) outside: Vec<(u64, Op, u64, Code)>,
    pub(crate) hints: Vec<(u64, u64)>,
    pub(crate) challenges: usize,
    /// The number and cookie of a RESUME that is not answered.
    pub(crate) resuming: Option<(u64, u64)>,
    pub(crate) resumed: usize,
    /// The numbers of the packets of the server's stream, as they came.
    pub(crate) arrived: Vec<u64>,
    pub(crate) acks: bool,
    /// What it says it has, instead of what it has.
    pub(crate) claims: Option<Ack>,
    /// Numbers of packets that it misses once.
    pub(crate) misses: Vec<u64>,
    pub(crate) dead: bool,
    pub(crate) tick_at: Option<Instant>,
}

impl Extended {
    pub(crate) fn new(sid: u64, user: &str, port: u16) -> Self {
        Self {
            sid,
            user: user.into(),
            key: Key::new(user.as_bytes()).unwrap(),
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            hello: Hello {
                version: 1,
                features: Features::FENCING,
                lease_ms: 0,
                window: 64,
                max_message: 196_608,
            },
            first: sid.wrapping_mul(0x1_0000) + 7,
            next: sid.wrapping_mul(0x1_0000) + 7,
            next_xid: sid << 16,
            opening: None,
            expected: None,
            early: BTreeMap::new(),
            assembling: None,
            unacknowledged: BTreeMap::new(),
            pending: BTreeMap::new(),
            said: Vec::new(),
            events: Vec::new(),
            welcome: None,
            stands: Vec::new(),
            alive: Vec::new(),
            outside: Vec::new(),
            hints: Vec::new(),
            challenges: 0,
            resuming: None,
            resumed: 0,
            arrived: Vec::new(),
            acks: true,
            claims: None,
            misses: Vec::new(),
            dead: false,
            tick_at: None,
        }
    }

    pub(crate) fn emit(&self, rider: Option<Rider>, part: Part, number: u64, piece: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; MAX_PACKET + piece.len()];
        let seal = Seal { sid: self.sid, user: &self.user, key: &self.key };
        let len = seal.emit_with(rider, part, number, piece, &mut buffer).unwrap();
        buffer.truncate(len);
        buffer
    }

    /// What it has of the server's stream.
    pub(crate) fn ack(&self) -> Ack {
        if let Some(claims) = self.claims {
            return claims;
        }
        let next = self.expected.unwrap_or(0);
        let held = self.early.keys().filter_map(|number| 1u64.checked_shl((number - next - 1) as u32));
        Ack { next, held: held.fold(0, |all, bit| all | bit) }
    }

    pub(crate) fn rider(&self, loose: bool) -> Option<Rider> {
        Some(Rider { ack: self.ack(), loose })
    }

    pub(crate) fn loose_ack(&self) -> Vec<u8> {
        self.emit(self.rider(true), Part::Only { xid: 0, op: Op::Ack }, 0, &[])
    }

    pub(crate) fn keepalive(&self, number: u64, xid: u64) -> Vec<u8> {
        self.emit(self.rider(true), Part::Only { xid, op: Op::Nop }, number, &[])
    }

    fn hello_packet(&self, part: Part, number: u64, body: &mut dyn FnMut(&mut Writer<'_>)) -> Vec<u8> {
        let mut buffer = [0; 1024];
        let mut out = Writer::new(&mut buffer);
        body(&mut out);
        extended::fill(&self.user, &mut out).unwrap();
        let packet = self.emit(None, part, number, out.written());
        assert_eq!(packet.len(), 256);
        packet
    }

    pub(crate) fn new_sess(&mut self) -> Vec<u8> {
        let (xid, number) = *self.opening.get_or_insert((self.next_xid, self.next));
        self.next_xid = self.next_xid.max(xid + 1);
        self.next = self.next.max(number + 1);
        let hello = self.hello;
        self.hello_packet(Part::Only { xid, op: Op::NewSess }, number, &mut |out| hello.emit(out).unwrap())
    }

    pub(crate) fn resume_packet(&self, number: u64, cookie: u64) -> Vec<u8> {
        let oldest = self.pending.keys().next().copied().unwrap_or(self.next_xid);
        let request = Request::Resume(Resume { hello: self.hello, cookie, oldest });
        let part = Part::Only { xid: number ^ 0x5555, op: Op::Resume };
        self.hello_packet(part, number, &mut |out| request.emit(out).unwrap())
    }

    /// Wants to resume, with another number than the last time.
    pub(crate) fn resume(&mut self, number: u64) -> Vec<u8> {
        self.resuming = Some((number, 0));
        self.resume_packet(number, 0)
    }

    /// Numbers a request: its xid and its packets.
    pub(crate) fn request(&mut self, request: &Request<'_>) -> (u64, Vec<Vec<u8>>) {
        let mut buffer = vec![0; 140_000];
        let mut out = Writer::new(&mut buffer);
        request.emit(&mut out).unwrap();
        let body = out.written().to_vec();
        self.message(request.op(), body)
    }

    pub(crate) fn message(&mut self, op: Op, body: Vec<u8>) -> (u64, Vec<Vec<u8>>) {
        let xid = self.next_xid;
        self.next_xid += 1;
        let packets = self.number(xid, op, &body);
        self.pending.insert(xid, (op, body));
        (xid, packets)
    }

    fn number(&mut self, xid: u64, op: Op, body: &[u8]) -> Vec<Vec<u8>> {
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
            packets.push(self.emit(self.rider(false), part, self.next, piece));
            self.unacknowledged.insert(self.next, (part, piece.to_vec()));
            self.next += 1;
        }
        packets
    }

    /// What it sends again at a tick.
    pub(crate) fn resends(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.tick_at = Some(now + TICK);
        if self.opening.is_some() && self.welcome.is_none() {
            return vec![self.new_sess()];
        }
        if let Some((number, cookie)) = self.resuming {
            return vec![self.resume_packet(number, cookie)];
        }
        let packets = self.unacknowledged.iter();
        packets.map(|(&number, (part, piece))| self.emit(self.rider(false), *part, number, piece)).collect()
    }

    /// Takes in a datagram; what it sends at once.
    pub(crate) fn receive(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let packet = Packet::parse(datagram).unwrap();
        assert_eq!((packet.sid, packet.user), (self.sid, self.user.as_slice()));
        packet.verify(&self.key).unwrap();
        let Some(rider) = packet.rider else { return self.outside(&packet) };
        if let Some(at) = self.misses.iter().position(|&missed| missed == packet.number) {
            self.misses.remove(at);
            return Vec::new();
        }
        let Ack { next, held } = rider.ack;
        if let Some((number, _)) = self.resuming {
            if packet.part.op() != Some(Op::Resume) || (next, held) != (number + 1, 0) {
                // Of a stream that is over.
                return Vec::new();
            }
            self.expected = Some(packet.number);
            (self.first, self.next) = (number + 1, number + 1);
            self.early.clear();
            self.assembling = None;
            self.unacknowledged.clear();
            self.resuming = None;
        }
        if !(self.first..=self.next).contains(&next) {
            return Vec::new();
        }
        self.unacknowledged.retain(|&number, _| {
            let bit = number.checked_sub(next + 1).filter(|&bit| bit < 64);
            number >= next && bit.is_none_or(|bit| held >> bit & 1 == 0)
        });
        if rider.loose {
            if let Part::Only { xid, op: Op::Nop } = packet.part {
                let (code, answered) = outcome(packet.piece).unwrap();
                assert_eq!((code, answered), (Code::Ok, xid));
                self.alive.push((packet.number, xid, extended::alive(packet.piece).unwrap().0));
            } else {
                assert_eq!((packet.part, packet.number), (Part::Only { xid: 0, op: Op::Ack }, 0));
            }
            return Vec::new();
        }
        self.arrived.push(packet.number);
        self.early.insert(packet.number, (packet.part, packet.piece.to_vec()));
        let mut sends = Vec::new();
        while let Some((part, piece)) = self.expected.and_then(|expected| self.early.remove(&expected)) {
            self.expected = self.expected.map(|expected| expected + 1);
            sends.extend(self.take(part, &piece));
        }
        self.early.retain(|&number, _| Some(number) > self.expected);
        if self.acks {
            sends.push(self.loose_ack());
        }
        sends
    }

    fn outside(&mut self, packet: &Packet<'_>) -> Vec<Vec<u8>> {
        let Part::Only { op, .. } = packet.part else { panic!("a piece outside the stream") };
        let (code, xid) = outcome(packet.piece).unwrap();
        match (op, code) {
            (Op::NewSess, Code::Ok) => {
                assert_eq!(Some((xid, self.opening.unwrap().1)), self.opening);
                self.welcome = Welcome::of(packet.piece);
                self.expected.get_or_insert(packet.number + 1);
                if self.acks { vec![self.loose_ack()] } else { Vec::new() }
            }
            (Op::Resume, Code::Challenge) => match extended::challenge(packet.piece) {
                Some(cookie) => {
                    self.challenges += 1;
                    match &mut self.resuming {
                        Some((number, sent)) if *number == packet.number => {
                            *sent = cookie;
                            vec![self.resume_packet(packet.number, cookie)]
                        }
                        _ => Vec::new(),
                    }
                }
                None => {
                    self.hints.push((packet.number, xid));
                    Vec::new()
                }
            },
            _ => {
                self.outside.push((packet.number, op, xid, code));
                Vec::new()
            }
        }
    }

    /// Takes the next packet of the stream.
    fn take(&mut self, part: Part, piece: &[u8]) -> Vec<Vec<u8>> {
        if let Part::Only { op, .. } | Part::First { op, .. } = part {
            assert_eq!(self.assembling, None);
            self.assembling = Some((op, Vec::new()));
        }
        self.assembling.as_mut().unwrap().1.extend_from_slice(piece);
        if !part.is_last() {
            return Vec::new();
        }
        let (op, body) = self.assembling.take().unwrap();
        if op == Op::Event {
            let Ok(Answer::Event { fh, events }) = Answer::parse(op, &body) else { panic!("no event") };
            let EventDetail { serial, version, sequencer } = EventDetail::of(&body).unwrap();
            let granted = sequencer.as_ref().map(Grant::of);
            self.events.push(Event { fh, events, serial, version, granted });
            return Vec::new();
        }
        let (code, xid) = outcome(&body).unwrap();
        if op == Op::Resume && code == Code::Ok {
            self.resumed += 1;
            let (welcome, stands) = extended::resumed(&body).unwrap();
            self.stands = stands.collect();
            self.welcome = Some(welcome);
            let pending: Vec<_> = self.pending.iter().map(|(&xid, sent)| (xid, sent.clone())).collect();
            return pending.into_iter().flat_map(|(xid, (op, body))| self.number(xid, op, &body)).collect();
        }
        self.pending.remove(&xid);
        self.said.push(Said { op, code, xid, body });
        Vec::new()
    }

    /// The answers to a request.
    pub(crate) fn answers(&self, xid: u64) -> Vec<&Said> {
        self.said.iter().filter(|said| said.xid == xid).collect()
    }
}
