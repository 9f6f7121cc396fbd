//! A small correct server of plain sessions, on the same link as the client: packets held out of order, cumulative
//! acknowledgements, a window, and the resynchronisation of protocol.md 16 after a restart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use cldc_core::link::{Arrival, Early, Outgoing, Pacing, Receiver, Sender};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Answer, Code, EventMask, Key, Op, Packet, Part};

use super::name_space::{Body, NameSpace, Told, done, emit};
use super::peer::{Datagram, Peer, USER, key, one_shot, packet};
use super::random::Random;
use super::storage::{Bytes, List};

pub(crate) const PACING: Pacing = Pacing {
    resend: Duration::from_secs(2),
    resend_next: Duration::from_secs(5),
    resend_max: Duration::from_secs(5),
    window: 32,
    burst: 32,
    gap: Duration::from_millis(2),
    whole: 25,
};

const PING_EVERY: Duration = Duration::from_secs(15);

struct Client {
    address: SocketAddr,
    heard: Instant,
    pinged: Instant,
    sender: Sender<List<Outgoing<Vec<u8>>, 256>>,
    receiver: Receiver<Bytes, List<Early<Bytes>, 256>>,
    /// Nothing is executed before the client has acknowledged a number of this incarnation.
    is_proved: bool,
    /// The number after the last packet executed: in the log of a real server, with the answers.
    logged: u64,
    /// Answers by xid: what the log of a real server keeps across a restart.
    answers: BTreeMap<u64, Body>,
    /// Which of them have been given a number since the start.
    answered: BTreeSet<u64>,
}

pub(crate) struct OurServer {
    pub(crate) lease: Duration,
    /// Says NOT_MASTER to everything.
    pub(crate) is_follower: bool,
    /// Says SESS_EXISTS to so many NEW_SESS.
    pub(crate) collisions: u32,
    key: Key,
    random: Random,
    space: NameSpace,
    clients: BTreeMap<u64, Client>,
    out: VecDeque<Datagram>,
}

impl OurServer {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            lease: Duration::from_secs(60),
            is_follower: false,
            collisions: 0,
            key: key(),
            random: Random(seed),
            space: NameSpace::default(),
            clients: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    fn begin(&mut self, now: Instant, sid: u64, xid: u64, number: u64, from: SocketAddr) {
        let sender = Sender::new(self.random.next_u64(), PACING, List::default());
        let receiver = Receiver::new(number.wrapping_add(1), Bytes::default(), List::default());
        let client = Client {
            address: from,
            heard: now,
            pinged: now,
            sender,
            receiver,
            is_proved: false,
            logged: number.wrapping_add(1),
            answers: BTreeMap::new(),
            answered: BTreeSet::new(),
        };
        self.clients.insert(sid, client);
        self.push(sid, done(Op::NewSess, xid, Code::Ok));
    }

    fn push(&mut self, sid: u64, (op, body): Body) {
        if let Some(client) = self.clients.get_mut(&sid) {
            client.sender.push(op, self.random.next_u64(), body.len(), body).unwrap();
        }
    }

    fn tell_all(&mut self, told: Vec<Told>) {
        for (sid, fh, events) in told {
            self.push(sid, emit(Answer::Event { fh, events }));
        }
    }

    fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>) {
        let Some(client) = self.clients.get_mut(&packet.sid) else { return };
        client.heard = now;
        if packet.part.op() == Some(Op::Ack) {
            let base = client.sender.base_number();
            while client.sender.acknowledge(now, packet.number).is_some() {}
            client.is_proved |= client.sender.base_number() != base;
            return;
        }
        if !client.is_proved {
            return;
        }
        match client.receiver.accept(packet.number, packet.part, packet.piece) {
            Arrival::Taken => self.execute_all(packet.sid),
            Arrival::Duplicate => self.answer_again(now, packet),
            Arrival::Held | Arrival::Refused => {}
        }
    }

    /// The client is waiting for an answer that was lost: in the network, or at a restart.
    fn answer_again(&mut self, now: Instant, packet: &Packet<'_>) {
        let Some(client) = self.clients.get_mut(&packet.sid) else { return };
        client.sender.hasten(now, Duration::from_millis(200));
        let (Part::Only { xid, .. } | Part::First { xid, .. }) = packet.part else { return };
        let answer = client.answers.get(&xid).cloned().filter(|_| client.answered.insert(xid));
        if let Some(answer) = answer {
            self.push(packet.sid, answer);
        }
    }

    fn execute_all(&mut self, sid: u64) {
        loop {
            let Some(client) = self.clients.get_mut(&sid) else { return };
            if let Some(message) = client.receiver.message() {
                let (op, xid) = (message.op, message.xid);
                let mut told = Vec::new();
                let answer = client.answers.get(&xid).cloned().unwrap_or_else(|| {
                    let (events, answer) = self.space.execute(sid, xid, op, message.body);
                    told = events;
                    answer
                });
                client.answers.insert(xid, answer.clone());
                client.answered.insert(xid);
                client.logged = message.number.wrapping_add(1);
                client.receiver.release();
                self.tell_all(told);
                self.push(sid, answer);
                if op == Op::EndSess {
                    let told = self.space.end_session(sid);
                    self.tell_all(told);
                }
            }
            if self.clients.get_mut(&sid).is_none_or(|client| client.receiver.advance().is_none()) {
                return;
            }
        }
    }
}

impl Peer for OurServer {
    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Ok(packet) = Packet::parse(datagram) else { return };
        if packet.user != USER || packet.verify(&self.key).is_err() {
            return;
        }
        let (sid, number) = (packet.sid, packet.number);
        if self.is_follower {
            let part = Part::Only { xid: 1, op: Op::NotMaster };
            self.out.push_back((from, super::peer::packet(sid, part, 0xdead_beef, &[])));
            return;
        }
        let known = self.clients.get(&sid);
        match packet.part {
            Part::Only { xid, op: Op::NewSess } if self.collisions > 0 => {
                self.collisions -= 1;
                let refusal = one_shot(sid, Op::NewSess, xid, number, Code::SessExists, false);
                self.out.push_back((from, refusal));
            }
            Part::Only { xid, op: Op::NewSess } if known.is_none() => self.begin(now, sid, xid, number, from),
            Part::Only { xid, op } | Part::First { xid, op } if known.is_none() => {
                self.out.push_back((from, one_shot(sid, op, xid, number, Code::SessInval, false)));
            }
            _ if known.is_some_and(|client| client.address == from) => self.handle_packet(now, &packet),
            _ => {}
        }
    }

    fn transmit(&mut self, now: Instant) -> Option<Datagram> {
        if let Some(datagram) = self.out.pop_front() {
            return Some(datagram);
        }
        for (sid, client) in &mut self.clients {
            if let Some(cut) = client.sender.poll(now) {
                let message = client.sender.get(cut.index)?;
                return Some((client.address, packet(*sid, cut.part, cut.number, &message.body[cut.range])));
            }
        }
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let of_client = |client: &Client| {
            let own = [client.heard + self.lease, client.pinged + PING_EVERY];
            own.into_iter().chain(client.sender.poll_timeout()).min()
        };
        self.clients.values().filter_map(of_client).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        let gone: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, client)| client.heard + self.lease <= now)
            .map(|(&sid, _)| sid)
            .collect();
        for sid in gone {
            self.clients.remove(&sid);
            let told = self.space.end_session(sid);
            self.tell_all(told);
        }
        for client in self.clients.values_mut() {
            client.sender.handle_timeout(now);
            if client.pinged + PING_EVERY <= now {
                client.pinged = now;
                let pinging = client.sender.iter().any(|message| message.op == Op::Ping);
                if !pinging {
                    client.sender.push(Op::Ping, self.random.next_u64(), 0, Vec::new()).unwrap();
                }
            }
        }
    }

    fn keeps(&self, sid: u64) -> bool {
        self.clients.contains_key(&sid)
    }

    fn restart(&mut self, now: Instant) {
        let sids: Vec<u64> = self.clients.keys().copied().collect();
        for sid in sids {
            let sender = Sender::new(self.random.next_u64(), PACING, List::default());
            if let Some(client) = self.clients.get_mut(&sid) {
                client.sender = sender;
                client.receiver = Receiver::new(client.logged, Bytes::default(), List::default());
                client.is_proved = false;
                client.answered.clear();
                client.heard = now;
            }
            self.push(sid, done(Op::NewSess, 0, Code::Ok));
        }
    }

    fn forget(&mut self, sid: u64) {
        self.clients.remove(&sid);
        let _ = self.space.end_session(sid);
    }

    fn tell(&mut self, _: Instant, sid: u64, fh: u64, events: EventMask) {
        self.push(sid, emit(Answer::Event { fh, events }));
    }

    fn name_space(&mut self) -> &mut NameSpace {
        &mut self.space
    }
}
