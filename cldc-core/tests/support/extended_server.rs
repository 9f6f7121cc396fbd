//! A small server of extended sessions, written from docs/protocol.md 7: what is replicated apart from what is not, so
//! that it can be started again, and another one can take over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use cldc_core::link::{Acknowledger, Arrival, Early, Outgoing, Receiver, Sender};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::answer::outcome;
use cldc_core::wire::extended::{
    Addresses, EventDetail, Features, Hello, Master, Sequencer, VERSION, Welcome, emit_addresses,
};
use cldc_core::wire::limits::MAX_PACKET;
use cldc_core::wire::{Answer, Code, EventMask, Key, Op, Packet, Part, Request, Rider, Seal};

use super::name_space::{Body, NameSpace, Told, bytes, done};
use super::our_server::PACING;
use super::peer::{Datagram, Peer, USER, key, one_shot, packet};
use super::random::Random;
use super::storage::{Bytes, List};

/// What a message is about, for when it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Request(u64),
    Event(u64, u64),
    Session,
}

/// A message's body, and what it is about.
type Carried = (About, Vec<u8>);

/// An event that the client has not acknowledged: handle, serial, body.
struct Pending(u64, u64, Vec<u8>);

/// What is replicated of a session.
#[derive(Default)]
struct Kept {
    /// The xid of the last request executed that changes something.
    executed: u64,
    answers: BTreeMap<u64, Body>,
    events: VecDeque<Pending>,
    serial: u64,
}

/// What is replicated.
#[derive(Default)]
pub(crate) struct Replica {
    pub(crate) epoch: u64,
    pub(crate) space: NameSpace,
    sessions: BTreeMap<u64, Kept>,
}

struct Streams {
    address: SocketAddr,
    sender: Sender<List<Outgoing<Carried>, 1024>>,
    receiver: Receiver<Bytes, List<Early<Bytes>, 64>>,
    acknowledger: Acknowledger,
    /// The number of its first packet, and of the highest NOP outside it.
    first: u64,
    nop: u64,
}

/// What one server knows of a session.
struct Local {
    heard: Instant,
    address: SocketAddr,
    resumed: u64,
    streams: Option<Streams>,
}

pub(crate) struct ExtendedServer {
    /// What it grants.
    pub(crate) welcome: Welcome,
    /// How long it keeps a session that it does not hear of, if not for the lease granted.
    pub(crate) keeps_for: Option<Duration>,
    /// Put behind its welcome, and behind that zeros.
    pub(crate) trailing: usize,
    /// Of the master only.
    pub(crate) replica: Option<Replica>,
    /// Who the master is, for those who are not.
    pub(crate) master: Master,
    /// Welcomes even those who did not say hello.
    pub(crate) is_pushy: bool,
    /// Takes requests, and executes none.
    pub(crate) is_stuck: bool,
    /// Says RESUME, CHALLENGE without a cookie to everything but a RESUME.
    pub(crate) forgets: bool,
    /// What it has received and done.
    pub(crate) hellos: Vec<Hello>,
    pub(crate) nops: u32,
    pub(crate) resumes: u32,
    pub(crate) refusals: u32,
    pub(crate) foreign: u32,
    key: Key,
    random: Random,
    secret: u64,
    locals: BTreeMap<u64, Local>,
    out: VecDeque<Datagram>,
}

impl ExtendedServer {
    /// A master.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let secret = random.next_u64();
        let welcome = Welcome {
            version: VERSION,
            features: Features::FENCING,
            epoch: 7,
            lease_ms: 30_000,
            grace_ms: 45_000,
            window: 64,
            max_message: 196_608,
            requests: 64,
            servers: Addresses::new(),
        };
        Self {
            keeps_for: None,
            trailing: 0,
            replica: Some(Replica { epoch: welcome.epoch, ..Replica::default() }),
            master: Master { epoch: welcome.epoch, address: None },
            welcome,
            is_pushy: false,
            is_stuck: false,
            forgets: false,
            hellos: Vec::new(),
            nops: 0,
            resumes: 0,
            refusals: 0,
            foreign: 0,
            key: key(),
            random,
            secret,
            locals: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// One that is not the master.
    pub(crate) fn follower(seed: u64, address: Option<SocketAddr>) -> Self {
        let mut server = Self::new(seed);
        server.replica = None;
        server.master.address = address;
        server
    }

    /// This one loses all it has only in memory, and the other one, at `address`, is the master from now on.
    pub(crate) fn hand_over(&mut self, now: Instant, to: &mut Self, address: SocketAddr) {
        let mut replica = self.replica.take().unwrap();
        replica.epoch += 1;
        for server in [&mut *self, &mut *to] {
            server.master = Master { epoch: replica.epoch, address: Some(address) };
            server.locals.clear();
            server.out.clear();
        }
        let sessions = replica.sessions.keys();
        let local = |_| Local { heard: now, address, resumed: 0, streams: None };
        to.locals = sessions.map(|&sid| (sid, local(sid))).collect();
        to.replica = Some(replica);
    }

    fn lease(&self) -> Duration {
        self.keeps_for.unwrap_or(Duration::from_millis(self.welcome.lease_ms.into()))
    }

    fn epoch(&self) -> u64 {
        self.replica.as_ref().map_or(self.master.epoch, |replica| replica.epoch)
    }

    fn say(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        self.out.push_back((to, datagram));
    }

    fn welcome_for(&self, hello: &Hello) -> Vec<u8> {
        let welcome = Welcome {
            version: self.welcome.version.min(hello.version),
            features: self.welcome.features.common(hello.features),
            epoch: self.epoch(),
            ..self.welcome.clone()
        };
        bytes(|out| welcome.emit(out))
    }

    /// New streams with a client: `number` is the last one of it before them.
    fn begin(&mut self, now: Instant, sid: u64, from: SocketAddr, number: u64, hello: &Hello) {
        let first = self.random.next_u64();
        let mut sender = Sender::new(first, PACING, List::default());
        sender.set_selective(hello.window.into());
        let receiver = Receiver::new(number.wrapping_add(1), Bytes::default(), List::default());
        let streams =
            Streams { address: from, sender, receiver, acknowledger: Acknowledger::default(), first, nop: 0 };
        let resumed = self.locals.get(&sid).map_or(0, |local| local.resumed + 1);
        self.locals.insert(sid, Local { heard: now, address: from, resumed, streams: Some(streams) });
    }

    fn push(&mut self, sid: u64, about: About, (op, body): Body) {
        let xid = self.random.next_u64();
        if let Some(streams) = self.locals.get_mut(&sid).and_then(|local| local.streams.as_mut()) {
            streams.sender.push(op, xid, body.len(), (about, body)).unwrap();
        }
    }

    fn tell_all(&mut self, told: Vec<Told>) {
        for (sid, fh, events) in told {
            self.event(sid, fh, events);
        }
    }

    fn event(&mut self, sid: u64, fh: u64, events: EventMask) {
        let Some(replica) = &mut self.replica else { return };
        let Some(kept) = replica.sessions.get_mut(&sid) else { return };
        kept.serial += 1;
        let serial = kept.serial;
        let version = replica.space.path(sid, fh).and_then(|path| replica.space.version(path)).unwrap_or(0);
        let sequencer: Option<Sequencer<'_>> =
            replica.space.sequencer(sid, fh).filter(|_| events.contains(EventMask::LOCKED));
        let body = bytes(|out| {
            Answer::Event { fh, events }.emit(out)?;
            EventDetail { serial, version, sequencer }.emit(out)
        });
        kept.events.push_back(Pending(fh, serial, body.clone()));
        self.push(sid, About::Event(fh, serial), (Op::Event, body));
    }

    fn cookie(&self, sid: u64, from: SocketAddr, number: u64) -> u64 {
        let resumed = self.locals.get(&sid).map_or(0, |local| local.resumed);
        let parts = [sid, u64::from(from.port()), number, resumed];
        parts.iter().fold(self.secret, |mixed, part| Random(mixed ^ part).next_u64()) | 1
    }

    fn resume(&mut self, now: Instant, packet: &Packet<'_>, xid: u64, from: SocketAddr) {
        let Ok(Request::Resume(resume)) = Request::parse(Op::Resume, packet.piece) else { panic!() };
        self.hellos.push(resume.hello);
        let (sid, number) = (packet.sid, packet.number);
        let cookie = self.cookie(sid, from, number);
        if resume.cookie != cookie {
            let (_, mut body) = done(Op::Resume, xid, Code::Challenge);
            body.extend(cookie.to_be_bytes());
            return self.say(from, packet_of(sid, Op::Resume, number, &body));
        }
        self.resumes += 1;
        self.begin(now, sid, from, number, &resume.hello);
        let (op, mut body) = done(Op::Resume, xid, Code::Ok);
        body.extend(self.welcome_for(&resume.hello));
        let Some(replica) = &mut self.replica else { return };
        let stands = replica.space.stands(sid);
        body.extend((stands.len() as u32).to_be_bytes());
        stands.iter().for_each(|stands| body.extend(bytes(|out| stands.emit(out))));
        let Some(kept) = replica.sessions.get_mut(&sid) else { return };
        kept.answers.retain(|&xid, _| xid >= resume.oldest);
        let events: Vec<_> = kept
            .events
            .iter()
            .map(|Pending(fh, serial, body)| (About::Event(*fh, *serial), body.clone()))
            .collect();
        self.push(sid, About::Session, (op, body));
        for (about, body) in events {
            self.push(sid, about, (Op::Event, body));
        }
    }

    fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>, rider: Rider) {
        let (sid, epoch) = (packet.sid, self.epoch());
        let Some(local) = self.locals.get_mut(&sid) else { return };
        let Some(streams) = &mut local.streams else { return };
        let base = streams.sender.base_number();
        if !streams.sender.acknowledge_selectively(now, rider.ack) {
            self.foreign += 1;
            return;
        }
        if streams.sender.base_number() != base {
            local.heard = now;
        }
        let mut done_with = Vec::new();
        while let Some(message) = streams.sender.take_acknowledged() {
            done_with.push(message.body.0);
        }
        if let Some(kept) = self.replica.as_mut().and_then(|replica| replica.sessions.get_mut(&sid)) {
            for about in done_with {
                match about {
                    About::Request(xid) => drop(kept.answers.remove(&xid)),
                    About::Event(fh, serial) => {
                        kept.events.retain(|event| (event.0, event.1) != (fh, serial))
                    }
                    About::Session => {}
                }
            }
        }
        if streams.sender.base_number() == streams.first {
            // The client has not seen the beginning.
            return;
        }
        if rider.loose {
            if let Part::Only { xid, op: Op::Nop } = packet.part {
                self.nops += 1;
                if packet.number > streams.nop {
                    (local.heard, streams.nop) = (now, packet.number);
                }
                let (_, mut body) = done(Op::Nop, xid, Code::Ok);
                body.extend(epoch.to_be_bytes());
                body.extend(bytes(|out| emit_addresses(&self.welcome.servers, out)));
                let rider = Rider { ack: streams.receiver.ack(), loose: true };
                streams.acknowledger.sent();
                let (to, part) = (streams.address, Part::Only { xid: 0, op: Op::Nop });
                self.say(to, riding(sid, Some(rider), part, packet.number, &body));
            }
            return;
        }
        let arrival = streams.receiver.accept(packet.number, packet.part, packet.piece);
        streams.acknowledger.arrived(now, arrival);
        if matches!(arrival, Arrival::Taken | Arrival::Held) {
            local.heard = now;
        }
        if arrival == Arrival::Taken && !self.is_stuck {
            self.execute_all(sid);
        }
    }

    fn execute_all(&mut self, sid: u64) {
        loop {
            let Some(streams) = self.locals.get_mut(&sid).and_then(|local| local.streams.as_mut()) else {
                return;
            };
            if let Some(message) = streams.receiver.message() {
                let (op, xid, body) = (message.op, message.xid, message.body.to_vec());
                streams.receiver.release();
                let (told, answer) = self.execute(sid, xid, op, &body);
                self.tell_all(told);
                self.push(sid, About::Request(xid), answer);
                if op == Op::EndSess {
                    self.end(sid);
                }
            }
            let streams = self.locals.get_mut(&sid).and_then(|local| local.streams.as_mut());
            if streams.is_none_or(|streams| streams.receiver.advance().is_none()) {
                return;
            }
        }
    }

    fn execute(&mut self, sid: u64, xid: u64, op: Op, body: &[u8]) -> (Vec<Told>, Body) {
        let Some(replica) = &mut self.replica else { return (Vec::new(), done(op, xid, Code::InternalErr)) };
        let Some(kept) = replica.sessions.get_mut(&sid) else {
            return (Vec::new(), done(op, xid, Code::SessInval));
        };
        let reads = matches!(op, Op::Get | Op::GetMeta | Op::Nop | Op::GetSequencer | Op::CheckSequencer);
        if !reads && xid <= kept.executed {
            let answer = kept.answers.get(&xid).cloned();
            return (Vec::new(), answer.unwrap_or_else(|| done(op, xid, Code::InternalErr)));
        }
        let (told, mut answer) = replica.space.execute(sid, xid, op, body);
        if let (Op::Lock | Op::TryLock, Ok((Code::Ok, _))) = (op, outcome(&answer.1)) {
            if let Ok(Request::Lock { fh, .. }) = Request::parse(op, body) {
                let sequencer = replica.space.sequencer(sid, fh).unwrap();
                answer.1.extend(bytes(|out| sequencer.emit(out)));
            }
        }
        if !reads {
            kept.executed = xid;
            kept.answers.insert(xid, answer.clone());
        }
        (told, answer)
    }

    /// A session is over; its streams stay, for the last answer.
    fn end(&mut self, sid: u64) {
        let Some(replica) = &mut self.replica else { return };
        replica.sessions.remove(&sid);
        let told = replica.space.end_session(sid);
        self.tell_all(told);
    }

    /// How many events the client has not acknowledged, and how many answers.
    pub(crate) fn unacknowledged(&self, sid: u64) -> (usize, usize) {
        let kept = self.replica.as_ref().and_then(|replica| replica.sessions.get(&sid));
        kept.map_or((0, 0), |kept| (kept.events.len(), kept.answers.len()))
    }

    /// The request to resume.
    pub(crate) fn hint(&mut self, sid: u64, number: u64, xid: u64, to: SocketAddr) {
        let (_, body) = done(Op::Resume, xid, Code::Challenge);
        self.say(to, packet_of(sid, Op::Resume, number, &body));
    }
}

fn packet_of(sid: u64, op: Op, number: u64, body: &[u8]) -> Vec<u8> {
    packet(sid, Part::Only { xid: 1, op }, number, body)
}

/// A packet with a rider.
pub(crate) fn riding(sid: u64, rider: Option<Rider>, part: Part, number: u64, piece: &[u8]) -> Vec<u8> {
    let mut buffer = [0; MAX_PACKET];
    let seal = Seal { sid, user: USER, key: &key() };
    let len = seal.emit_with(rider, part, number, piece, &mut buffer).unwrap();
    buffer[..len].to_vec()
}

impl Peer for ExtendedServer {
    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Ok(packet) = Packet::parse(datagram) else { return };
        if packet.user != USER || packet.verify(&self.key).is_err() {
            return;
        }
        let (sid, number) = (packet.sid, packet.number);
        let (xid, op) = match packet.part {
            Part::Only { xid, op } | Part::First { xid, op } => (xid, Some(op)),
            Part::Middle | Part::Last => (0, None),
        };
        let Some(replica) = &mut self.replica else {
            self.refusals += 1;
            let body = bytes(|out| {
                self.master.emit(out)?;
                emit_addresses(&self.welcome.servers, out)
            });
            return self.say(from, packet_of(sid, Op::NotMaster, number, &body));
        };
        let is_known = replica.sessions.contains_key(&sid);
        match op {
            Some(Op::NewSess) if !is_known => {
                let usual = Hello {
                    version: 1,
                    features: Features::NONE,
                    lease_ms: 0,
                    window: 4,
                    max_message: 1_024,
                };
                let hello = Hello::of(packet.piece).or(self.is_pushy.then_some(usual));
                let Some(hello) = hello else { return };
                assert!(self.is_pushy || datagram.len() >= 256, "a hello is filled");
                self.hellos.push(hello);
                replica.sessions.insert(sid, Kept { executed: xid, ..Kept::default() });
                self.begin(now, sid, from, number, &hello);
                let (op, mut body) = done(Op::NewSess, xid, Code::Ok);
                body.extend(self.welcome_for(&hello));
                body.resize(body.len() + self.trailing, 0);
                self.push(sid, About::Session, (op, body));
            }
            Some(Op::NewSess) => {
                let streams = self.locals.get_mut(&sid).and_then(|local| local.streams.as_mut());
                streams.map(|streams| streams.sender.hasten(now, Duration::ZERO));
            }
            Some(Op::Resume) if is_known => self.resume(now, &packet, xid, from),
            Some(Op::Ack) if !is_known => self.handle_packet(now, &packet, packet.rider.unwrap()),
            Some(op) if !is_known => self.say(from, one_shot(sid, op, xid, number, Code::SessInval, false)),
            _ => {
                let local = self.locals.get(&sid);
                let streams = local.and_then(|local| local.streams.as_ref());
                match packet.rider {
                    _ if self.forgets || streams.is_none_or(|streams| streams.address != from) => {
                        self.hint(sid, number, xid, from);
                    }
                    Some(rider) => self.handle_packet(now, &packet, rider),
                    None => {}
                }
            }
        }
    }

    fn transmit(&mut self, now: Instant) -> Option<Datagram> {
        if let Some(datagram) = self.out.pop_front() {
            return Some(datagram);
        }
        for (&sid, local) in &mut self.locals {
            let Some(streams) = &mut local.streams else { continue };
            let ack = streams.receiver.ack();
            if let Some(cut) = streams.sender.poll(now) {
                let message = streams.sender.get(cut.index)?;
                let rider = (message.op != Op::NewSess).then_some(Rider { ack, loose: false });
                let piece = &message.body.1[cut.range];
                streams.acknowledger.sent();
                return Some((streams.address, riding(sid, rider, cut.part, cut.number, piece)));
            }
            if streams.acknowledger.is_due(now) {
                streams.acknowledger.sent();
                let part = Part::Only { xid: 0, op: Op::Ack };
                return Some((streams.address, riding(sid, Some(Rider { ack, loose: true }), part, 0, &[])));
            }
        }
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let lease = self.lease();
        let of_session = |local: &Local| {
            let streams = local.streams.as_ref();
            let links = streams
                .map(|streams| [streams.sender.poll_timeout(), streams.acknowledger.poll_timeout()])
                .unwrap_or_default();
            links.into_iter().flatten().chain([local.heard + lease]).min()
        };
        self.locals.values().filter_map(of_session).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        let lease = self.lease();
        let gone: BTreeSet<u64> =
            self.locals.iter().filter(|(_, local)| local.heard + lease <= now).map(|(&sid, _)| sid).collect();
        for sid in gone {
            self.locals.remove(&sid);
            self.end(sid);
        }
        for local in self.locals.values_mut() {
            if let Some(streams) = &mut local.streams {
                streams.sender.handle_timeout(now);
            }
        }
    }

    fn keeps(&self, sid: u64) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.sessions.contains_key(&sid))
    }

    fn restart(&mut self, now: Instant) {
        self.out.clear();
        self.secret = self.random.next_u64();
        let Some(replica) = &mut self.replica else { return };
        replica.epoch += 1;
        let waiting: Vec<u64> = replica
            .sessions
            .iter()
            .filter(|(_, kept)| !kept.events.is_empty())
            .map(|(&sid, _)| sid)
            .collect();
        for local in self.locals.values_mut() {
            (local.heard, local.resumed, local.streams) = (now, 0, None);
        }
        for sid in waiting {
            let (number, to) = (self.random.next_u64(), self.locals.get(&sid).map(|local| local.address));
            if let Some(to) = to {
                self.hint(sid, number, 0, to);
            }
        }
    }

    fn forget(&mut self, sid: u64) {
        self.locals.remove(&sid);
        self.end(sid);
    }

    fn tell(&mut self, _: Instant, sid: u64, fh: u64, events: EventMask) {
        self.event(sid, fh, events);
    }

    fn name_space(&mut self) -> &mut NameSpace {
        &mut self.replica.as_mut().unwrap().space
    }
}
