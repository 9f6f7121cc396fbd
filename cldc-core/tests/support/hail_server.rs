//! Hail's server, as protocol.md 4, 5, 15 and 16 describe it: with all that a client has to survive.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::PIECE;
use cldc_core::wire::{Answer, Code, EventMask, Key, Op, Packet, Part};

use super::name_space::{Body, NameSpace, Told, done, emit};
use super::peer::{Datagram, Peer, USER, key, one_shot, packet, shifted};
use super::random::Random;

/// The number of what stands outside every stream (protocol.md 4.2).
const NO_NUMBER: u64 = 0xdead_beef;

struct Queued {
    number: u64,
    bytes: Vec<u8>,
    op: Op,
    next_try: Instant,
}

struct Client {
    address: SocketAddr,
    heard: Instant,
    /// The number that is taken next, and the one that is given next.
    expected: u64,
    next: u64,
    /// Both as they were stored at the last OPEN (protocol.md 5).
    stored: (u64, u64),
    /// The message under assembly; an ACK becomes it, too.
    current: Option<(u64, Op)>,
    buffer: Vec<u8>,
    is_assembling: bool,
    queue: Vec<Queued>,
    check_at: Instant,
    is_dead: bool,
}

pub(crate) struct HailServer {
    pub(crate) lease: Duration,
    /// How often an ACK came while pieces of a message were missing: each time a session is lost.
    pub(crate) wedged: u32,
    key: Key,
    random: Random,
    space: NameSpace,
    clients: BTreeMap<u64, Client>,
    out: VecDeque<Datagram>,
}

impl HailServer {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            lease: Duration::from_secs(60),
            wedged: 0,
            key: key(),
            random: Random(seed),
            space: NameSpace::default(),
            clients: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// Queues a message, and sends all its packets at once.
    fn push(&mut self, now: Instant, sid: u64, (op, body): Body) {
        let xid = self.random.next_u64();
        let Some(client) = self.clients.get_mut(&sid) else { return };
        let pieces: Vec<&[u8]> = if body.is_empty() { vec![&[]] } else { body.chunks(PIECE).collect() };
        for (index, piece) in pieces.iter().enumerate() {
            let part = match (index == 0, index + 1 == pieces.len()) {
                (true, true) => Part::Only { xid, op },
                (true, false) => Part::First { xid, op },
                (false, false) => Part::Middle,
                (false, true) => Part::Last,
            };
            let bytes = packet(sid, part, client.next, piece);
            self.out.push_back((client.address, bytes.clone()));
            let next_try = now + Duration::from_secs(2);
            client.queue.push(Queued { number: client.next, bytes, op, next_try });
            client.next = client.next.wrapping_add(1);
        }
    }

    fn tell_all(&mut self, now: Instant, told: Vec<Told>) {
        for (sid, fh, events) in told {
            self.push(now, sid, emit(Answer::Event { fh, events }));
        }
    }

    fn begin(&mut self, now: Instant, sid: u64, xid: u64, number: u64, from: SocketAddr) {
        let next = self.random.next_u64();
        let expected = number.wrapping_add(1);
        let client = Client {
            address: from,
            heard: now,
            expected,
            next,
            stored: (expected, next),
            current: None,
            buffer: Vec::new(),
            is_assembling: false,
            queue: Vec::new(),
            check_at: now + Duration::from_secs(30),
            is_dead: false,
        };
        self.clients.insert(sid, client);
        self.push(now, sid, done(Op::NewSess, xid, Code::Ok));
    }

    /// A packet whose number, address and signature are right.
    fn handle_piece(&mut self, now: Instant, packet: &Packet<'_>) {
        let sid = packet.sid;
        let Some(client) = self.clients.get_mut(&sid) else { return };
        if let Part::Only { xid, op } | Part::First { xid, op } = packet.part {
            client.current = Some((xid, op));
            client.buffer.clear();
        }
        client.buffer.extend_from_slice(packet.piece);
        client.is_assembling = !packet.part.is_last();
        let Some((xid, op)) = client.current else { return };
        if !packet.part.is_last() {
            let (op, body) = emit(Answer::AckFrag { number: packet.number });
            let ack = shifted(sid, Part::Only { xid: 1, op }, NO_NUMBER, &body);
            self.out.push_back((client.address, ack));
            return;
        }
        let body = client.buffer.clone();
        let (told, answer) = self.space.execute(sid, xid, op, &body);
        self.tell_all(now, told);
        if answer == done(op, xid, Code::BadPkt) {
            let address = self.clients[&sid].address;
            self.out.push_back((address, one_shot(sid, op, xid, packet.number, Code::BadPkt, true)));
            return;
        }
        self.push(now, sid, answer);
        if let Some(client) = self.clients.get_mut(&sid).filter(|_| op == Op::Open) {
            client.stored = (client.expected, client.next.wrapping_sub(1));
        }
    }

    fn handle_ack(&mut self, now: Instant, sid: u64, number: u64) {
        let Some(client) = self.clients.get_mut(&sid) else { return };
        client.heard = now;
        let ended = client.queue.iter().any(|queued| queued.number == number && queued.op == Op::EndSess);
        client.is_dead |= ended;
        client.queue.retain(|queued| queued.number != number);
    }

    /// What is wrong with a packet, in the order in which Hail's server looks (protocol.md 4.5).
    fn check(&self, from: SocketAddr, packet: &Packet<'_>) -> Result<(), Code> {
        let Some(client) = self.clients.get(&packet.sid) else {
            let is_new = packet.part.op() == Some(Op::NewSess);
            let signed = packet.user == USER && packet.verify(&self.key).is_ok();
            return match (is_new, signed) {
                (false, _) => Err(Code::SessInval),
                (true, false) => Err(Code::SigInval),
                (true, true) => Ok(()),
            };
        };
        if packet.part.op() == Some(Op::NewSess) {
            return Err(Code::SessExists);
        }
        if client.address != from || packet.user != USER || client.is_dead {
            return Err(Code::SessInval);
        }
        packet.verify(&self.key).map_err(|_| Code::SigInval)
    }
}

impl Peer for HailServer {
    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Ok(packet) = Packet::parse(datagram) else { return };
        let (sid, number) = (packet.sid, packet.number);
        let client = self.clients.get(&sid);
        if client.is_none() && !packet.part.is_first() {
            return;
        }
        // A later piece is taken for a part of the current message, and that may be an ACK.
        let current = client.and_then(|client| client.current);
        let Some((xid, op)) = (match packet.part {
            Part::Only { xid, op } | Part::First { xid, op } => Some((xid, op)),
            Part::Middle | Part::Last => current,
        }) else {
            return;
        };
        let is_ack = op == Op::Ack;
        if !is_ack && client.is_some_and(|client| client.expected != number) {
            return;
        }
        if let Err(code) = self.check(from, &packet) {
            // The refusal is signed with the key of the packet's user: of another user nobody here can read it.
            if packet.user == USER {
                self.out.push_back((from, one_shot(sid, op, xid, number, code, true)));
            }
            return;
        }
        let Some(client) = self.clients.get_mut(&sid) else {
            return self.begin(now, sid, xid, number, from);
        };
        client.heard = now;
        if is_ack {
            if client.is_assembling {
                self.wedged += 1;
            }
            client.current = Some((xid, Op::Ack));
            client.buffer.clear();
            return self.handle_ack(now, sid, number);
        }
        client.expected = client.expected.wrapping_add(1);
        self.handle_piece(now, &packet);
    }

    fn transmit(&mut self, _: Instant) -> Option<Datagram> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let of_client = |client: &Client| {
            let tries = client.queue.iter().map(|queued| queued.next_try);
            tries.chain([client.check_at, client.heard + self.lease]).min()
        };
        self.clients.values().filter_map(of_client).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        let mut ping = Vec::new();
        let mut gone = Vec::new();
        for (&sid, client) in &mut self.clients {
            for queued in client.queue.iter_mut().filter(|queued| queued.next_try <= now) {
                queued.next_try = queued.next_try + Duration::from_secs(5);
                self.out.push_back((client.address, queued.bytes.clone()));
            }
            let end = client.heard + self.lease;
            if end <= now || (client.is_dead && client.check_at <= now) {
                gone.push(sid);
            } else if client.check_at <= now {
                client.check_at = now + end.since(now).part(2) + Duration::from_secs(1);
                if client.queue.iter().all(|queued| queued.op != Op::Ping) {
                    ping.push(sid);
                }
            }
        }
        for sid in ping {
            self.push(now, sid, emit(Answer::Ping));
        }
        for sid in gone {
            self.clients.remove(&sid);
            let told = self.space.end_session(sid);
            self.tell_all(now, told);
        }
    }

    fn keeps(&self, sid: u64) -> bool {
        self.clients.get(&sid).is_some_and(|client| !client.is_dead)
    }

    fn restart(&mut self, now: Instant) {
        for client in self.clients.values_mut() {
            (client.expected, client.next) = client.stored;
            client.current = None;
            client.buffer.clear();
            client.is_assembling = false;
            client.queue.clear();
            client.check_at = now + Duration::from_secs(30);
        }
        self.out.clear();
    }

    fn forget(&mut self, sid: u64) {
        self.clients.remove(&sid);
        let _ = self.space.end_session(sid);
    }

    fn tell(&mut self, now: Instant, sid: u64, fh: u64, events: EventMask) {
        self.push(now, sid, emit(Answer::Event { fh, events }));
    }

    fn name_space(&mut self) -> &mut NameSpace {
        &mut self.space
    }
}
