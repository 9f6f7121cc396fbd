//! The peer itself: its thread, its plain sessions, and what a test can tell it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cldc_core::link::{Acknowledger, Arrival, Pacing};
use cldc_core::time;
use cldc_core::wire::extended::{EventDetail, Hello, Master};
use cldc_core::wire::limits::{MAX_MESSAGE, MAX_PACKET};
use cldc_core::wire::{
    Answer, Code, EventMask, Key, LockFlags, Op, OpenMode, Packet, Part, Request, Seal, Writer,
};

use super::cell::Cell;
use super::extended::Grant;
use super::link::{List, PeerReceiver, PeerSender, receiver};
use super::{KEY, LONG, USER};

/// A request as the peer got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Also of an extended session, whose renewals of the lease are not told.
    NewSess,
    /// A session goes on here.
    Resume,
    Nop,
    Open {
        path: String,
        mode: OpenMode,
        events: EventMask,
    },
    Get(u64),
    GetMeta(u64),
    Put(u64, Vec<u8>),
    Close(u64),
    Del(String),
    Lock {
        fh: u64,
        shared: bool,
        wait: bool,
    },
    Unlock(u64),
    GetSequencer(u64),
    /// The inode and the generation.
    CheckSequencer(u64, u64),
    /// The handle, the generation, the contents.
    PutFenced(u64, u64, Vec<u8>),
    DelFenced(String, u64),
    EndSess,
    /// Not a request: all that was said after END_SESS is acknowledged.
    EndAcknowledged,
}

/// What a script lets the peer do.
pub(crate) enum Say {
    /// What it would do without a script.
    Usual,
    /// Answer with this code.
    Code(Code),
    /// Answer as if it had been a successful OPEN.
    Opened(u64),
    /// Send this event first, and then the code.
    EventFirst(u64, EventMask, Code),
    /// Answer a GET with a body of so many bytes, whatever the protocol allows.
    Oversized(usize),
    /// Answer when the test says so.
    Later,
}

enum Order {
    /// Send an event so many times.
    Events(u64, EventMask, usize),
    /// Answer the oldest request that waits.
    Answer(Code),
    /// Send datagrams that are no packets of the session.
    Noise(usize),
    /// Hear and say nothing from now on, or begin again.
    Silence(bool),
    /// Forget all sessions.
    Forget,
    /// Forget the numbers of the streams, as a server does that is started anew, with this epoch.
    Restart(u64),
    /// Not be the master from now on.
    StepDown(Master),
    /// Take the lock of a handle away.
    Revoke(u64),
}

type Script = Box<dyn FnMut(&Asked) -> Say + Send>;

/// What a test has of the peer.
pub(crate) struct Peer {
    address: SocketAddr,
    cell: Arc<Mutex<Cell>>,
    orders: Option<SyncSender<Order>>,
    asked: Receiver<Asked>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// A peer that does what it is asked.
    pub(crate) fn start() -> Self {
        Self::scripted(|_| Say::Usual)
    }

    /// A peer that says what the script lets it say.
    pub(crate) fn scripted(script: impl FnMut(&Asked) -> Say + Send + 'static) -> Self {
        Self::run(LOCAL, script, None, None, Arc::default())
    }

    /// A peer that grants extended sessions.
    pub(crate) fn extended(grant: Grant, script: impl FnMut(&Asked) -> Say + Send + 'static) -> Self {
        Self::run(LOCAL, script, Some(grant), None, Arc::default())
    }

    /// Another server of the same cell.
    pub(crate) fn join(&self, local: &str, grant: Grant) -> Self {
        Self::run(local, |_| Say::Usual, Some(grant), None, Arc::clone(&self.cell))
    }

    /// A peer with an address of IPv6; none if this machine has no such loopback.
    pub(crate) fn start_v6() -> Option<Self> {
        UdpSocket::bind("[::1]:0").ok()?;
        Some(Self::run("[::1]:0", |_| Say::Usual, None, None, Arc::default()))
    }

    /// A peer that answers everything with NOT_MASTER, as Hail's servers say it.
    pub(crate) fn not_master() -> Self {
        Self::run(LOCAL, |_| Say::Usual, None, Some(Vec::new()), Arc::default())
    }

    /// A peer that answers everything with NOT_MASTER, and tells where the master is.
    pub(crate) fn follower(master: Master) -> Self {
        Self::run(LOCAL, |_| Say::Usual, None, Some(refusal(&master)), Arc::default())
    }

    /// A peer that says nothing.
    pub(crate) fn silent() -> Self {
        let peer = Self::start();
        peer.order(Order::Silence(true));
        peer
    }

    fn run(
        address: &str,
        script: impl FnMut(&Asked) -> Say + Send + 'static,
        grant: Option<Grant>,
        not_master: Option<Vec<u8>>,
        cell: Arc<Mutex<Cell>>,
    ) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let address = socket.local_addr().unwrap();
        // An order is taken when `send` returns.
        let ((orders, inbox), (log, asked)) = (sync_channel(0), channel());
        let work = Work {
            socket,
            begun: Instant::now(),
            log,
            script: Box::new(script),
            grant,
            not_master,
            session: None,
            silent: false,
            held: Vec::new(),
            cell: Arc::clone(&cell),
        };
        let thread = std::thread::spawn(move || work.run(&inbox));
        Self { address, cell, orders: Some(orders), asked, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until this has been asked; gives what was asked before.
    pub(crate) fn await_asked(&self, wanted: &Asked) -> Vec<Asked> {
        let mut before = Vec::new();
        loop {
            match self.asked.recv_timeout(LONG) {
                Ok(asked) if asked == *wanted => return before,
                Ok(asked) => before.push(asked),
                Err(_) => panic!("{wanted:?} was not asked; but {before:?}"),
            }
        }
    }

    /// All that has been asked and not been looked at.
    pub(crate) fn all_asked(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }

    pub(crate) fn event(&self, fh: u64, events: EventMask) {
        self.events(fh, events, 1);
    }

    pub(crate) fn events(&self, fh: u64, events: EventMask, count: usize) {
        self.order(Order::Events(fh, events, count));
    }

    /// Answers the oldest request whose answer was kept for later; with `Ok`, after doing it.
    pub(crate) fn answer(&self, code: Code) {
        self.order(Order::Answer(code));
    }

    pub(crate) fn make_noise(&self, datagrams: usize) {
        self.order(Order::Noise(datagrams));
    }

    pub(crate) fn fall_silent(&self) {
        self.order(Order::Silence(true));
    }

    pub(crate) fn speak_again(&self) {
        self.order(Order::Silence(false));
    }

    pub(crate) fn forget_sessions(&self) {
        self.order(Order::Forget);
    }

    /// The lease that the last NEW_SESS proposed, in milliseconds; none if it asked for a plain session.
    pub(crate) fn proposed(&self) -> Option<u32> {
        self.cell.lock().unwrap().proposed
    }

    /// Forgets the numbers of the streams, as a server does that is started anew; from now on it has this epoch.
    pub(crate) fn restart(&self, epoch: u64) {
        self.order(Order::Restart(epoch));
    }

    pub(crate) fn step_down(&self, master: Master) {
        self.order(Order::StepDown(master));
    }

    pub(crate) fn revoke_lock(&self, fh: u64) {
        self.order(Order::Revoke(fh));
    }

    fn order(&self, order: Order) {
        self.orders.as_ref().unwrap().send(order).unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.orders = None;
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

pub(super) struct Session {
    pub(super) sid: u64,
    pub(super) client: SocketAddr,
    pub(super) sender: PeerSender,
    pub(super) receiver: PeerReceiver,
    /// When to acknowledge, in an extended session.
    pub(super) acks: Option<Acknowledger>,
}

pub(super) struct Work {
    socket: UdpSocket,
    begun: Instant,
    pub(super) log: Sender<Asked>,
    script: Script,
    /// What extended sessions get; without it all are plain.
    pub(super) grant: Option<Grant>,
    /// The body of NOT_MASTER, of a peer that is not the master.
    not_master: Option<Vec<u8>>,
    pub(super) session: Option<Session>,
    silent: bool,
    /// Requests whose answers wait for an order.
    held: Vec<(Op, u64, Asked)>,
    cell: Arc<Mutex<Cell>>,
}

const LOCAL: &str = "127.0.0.1:0";

pub(super) const PACING: Pacing = Pacing {
    resend: time::Duration::from_millis(100),
    resend_next: time::Duration::from_millis(200),
    resend_max: time::Duration::from_millis(400),
    window: u64::MAX,
    burst: 32,
    gap: time::Duration::from_millis(1),
    whole: u64::MAX,
};

impl Work {
    fn run(mut self, inbox: &Receiver<Order>) {
        let mut buffer = [0; 2048];
        loop {
            match inbox.try_recv() {
                Ok(order) => self.obey(order),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {}
            }
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) if !self.silent => self.take(from, &buffer[..len]),
                _ => {}
            }
            self.transmit();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Events(fh, events, count) => {
                (0..count).for_each(|_| self.tell(fh, events));
            }
            Order::Answer(code) => {
                let (op, xid, asked) = self.held.remove(0);
                match code {
                    Code::Ok => self.serve(op, xid, &asked),
                    code => self.say(&Answer::Done { op, xid, code }),
                }
            }
            Order::Noise(count) => self.noise(count),
            Order::Silence(silent) => self.silent = silent,
            Order::Forget => {
                self.session = None;
                self.cell().sids.clear();
            }
            Order::Restart(epoch) => {
                self.session = None;
                self.grant.as_mut().unwrap().epoch = epoch;
            }
            Order::StepDown(master) => self.not_master = Some(refusal(&master)),
            Order::Revoke(fh) => self.cell().unlock(fh),
        }
    }

    pub(super) fn cell(&self) -> MutexGuard<'_, Cell> {
        self.cell.lock().unwrap()
    }

    pub(super) fn now(&self) -> time::Instant {
        time::Instant::START + self.begun.elapsed().into()
    }

    fn take(&mut self, from: SocketAddr, datagram: &[u8]) {
        let packet = Packet::parse(datagram).unwrap();
        assert_eq!(packet.user, USER.as_bytes());
        if packet.verify(&key()).is_err() {
            return;
        }
        if let Some(body) = &self.not_master {
            return self.one_shot(from, packet.sid, Op::NotMaster, 0, body, packet.number);
        }
        if packet.part.op() == Some(Op::Resume) {
            return self.resume(from, &packet);
        }
        if let Some(rider) = packet.rider {
            return self.take_extended(from, &packet, rider);
        }
        let Part::Only { xid, op } = packet.part else { return self.take_numbered(&packet) };
        match op {
            Op::Ack => {
                if let Some(session) = self.session.as_mut().filter(|session| session.sid == packet.sid) {
                    let now = time::Instant::START + self.begun.elapsed().into();
                    while let Some(message) = session.sender.acknowledge(now, packet.number) {
                        if message.op == Op::EndSess {
                            self.log.send(Asked::EndAcknowledged).ok();
                        }
                    }
                }
            }
            Op::NewSess if self.session.as_ref().is_none_or(|session| session.sid != packet.sid) => {
                let mut session = Session {
                    sid: packet.sid,
                    client: from,
                    sender: PeerSender::new(77, PACING, List(Vec::new())),
                    receiver: receiver(packet.number.wrapping_add(1)),
                    acks: None,
                };
                let hello = Hello::of(packet.piece);
                self.cell().proposed = hello.map(|hello| hello.lease_ms);
                let hello = hello.filter(|_| self.grant.is_some());
                if let Some(hello) = hello {
                    session.extend(hello.window);
                    self.cell().sids.insert(packet.sid);
                }
                self.session = Some(session);
                self.log.send(Asked::NewSess).ok();
                match self.ask(&Asked::NewSess) {
                    Say::Code(code) => {
                        let body = body(&Answer::Done { op, xid, code });
                        self.one_shot(from, packet.sid, op, xid, &body, packet.number);
                    }
                    _ => self.greet(op, xid, hello.is_some()),
                }
            }
            _ if self.session.as_ref().is_none_or(|session| session.sid != packet.sid) => {
                let body = body(&Answer::Done { op, xid, code: Code::SessInval });
                self.one_shot(from, packet.sid, op, xid, &body, packet.number);
            }
            _ => self.take_numbered(&packet),
        }
    }

    pub(super) fn take_numbered(&mut self, packet: &Packet<'_>) {
        let now = self.now();
        let Some(session) = self.session.as_mut().filter(|session| session.sid == packet.sid) else { return };
        let arrival = session.receiver.accept(packet.number, packet.part, packet.piece);
        if let Some(acks) = &mut session.acks {
            acks.arrived(now, arrival);
        }
        if arrival != Arrival::Taken {
            return;
        }
        loop {
            let Some(session) = &mut self.session else { return };
            if let Some(message) = session.receiver.message() {
                let (op, xid) = (message.op, message.xid);
                let asked = Asked::of(&Request::parse(op, message.body).unwrap());
                session.receiver.release();
                self.log.send(asked.clone()).ok();
                self.answer(op, xid, &asked);
            } else if session.receiver.advance().is_none() {
                return;
            }
        }
    }

    fn ask(&mut self, asked: &Asked) -> Say {
        (self.script)(asked)
    }

    fn answer(&mut self, op: Op, xid: u64, asked: &Asked) {
        if self.repeat(xid) {
            return;
        }
        match self.ask(asked) {
            Say::Usual => self.serve(op, xid, asked),
            Say::Code(code) => self.say(&Answer::Done { op, xid, code }),
            Say::Opened(fh) => self.say(&Answer::Opened { xid, fh }),
            Say::EventFirst(fh, events, code) => {
                self.tell(fh, events);
                self.say(&Answer::Done { op, xid, code });
            }
            Say::Oversized(len) => {
                let mut message = body(&Answer::Done { op, xid, code: Code::Ok });
                message.resize(len, 0);
                self.push(op, message);
            }
            Say::Later => self.held.push((op, xid, asked.clone())),
        }
    }

    /// What a server does, as far as one client can tell.
    fn serve(&mut self, op: Op, xid: u64, asked: &Asked) {
        let body = self.cell().execute(op, xid, asked, self.has_fencing());
        // Both ways of reading are answered alike.
        self.push(if op == Op::GetMeta { Op::Get } else { op }, body);
    }

    /// Tells of an event.
    fn tell(&mut self, fh: u64, events: EventMask) {
        let mut message = body(&Answer::Event { fh, events });
        if self.session.as_ref().is_some_and(|session| session.acks.is_some()) {
            let mut cell = self.cell();
            cell.serial += 1;
            let path = cell.handles[&fh].clone();
            let granted = events.contains(EventMask::LOCKED).then(|| cell.grant(fh, false));
            let sequencer = granted.filter(|_| self.has_fencing());
            let detail = EventDetail {
                serial: cell.serial,
                version: cell.files.get(&path).map_or(0, |data| data.len() as u64),
                sequencer: sequencer.as_ref().map(|held| held.on_wire(&path)),
            };
            let mut buffer = [0; 512];
            let mut out = Writer::new(&mut buffer);
            detail.emit(&mut out).unwrap();
            message.extend_from_slice(out.written());
        }
        self.push(Op::Event, message);
    }

    fn say(&mut self, answer: &Answer<'_>) {
        self.push(answer.op(), body(answer));
    }

    pub(super) fn push(&mut self, op: Op, body: Vec<u8>) {
        self.record(op, &body);
        if let Some(session) = &mut self.session {
            // Each message has a name of its own.
            let xid = session.sender.next_number();
            session.sender.push(op, xid, body.len(), body).unwrap();
        }
    }

    pub(super) fn one_shot(&self, to: SocketAddr, sid: u64, op: Op, xid: u64, body: &[u8], number: u64) {
        let mut buffer = [0; MAX_PACKET];
        let seal = Seal { sid, user: USER.as_bytes(), key: &key() };
        let len = seal.emit(Part::Only { xid, op }, number, body, &mut buffer).unwrap();
        self.socket.send_to(&buffer[..len], to).ok();
    }

    /// Sends a packet of an extended session that is not one of its stream.
    pub(super) fn send_loose(&self, session: &Session, part: Part, number: u64, body: &[u8]) {
        let (mut buffer, key) = ([0; MAX_PACKET], key());
        let seal = Seal { sid: session.sid, user: USER.as_bytes(), key: &key };
        let len = seal.emit_with(session.rider(true), part, number, body, &mut buffer).unwrap();
        self.socket.send_to(&buffer[..len], session.client).ok();
    }

    fn noise(&self, count: usize) {
        let Some(session) = &self.session else { return };
        for datagram in [&[][..], &[0; 27], &[0xff; 1200], &[7; 1900]].iter().cycle().take(count) {
            self.socket.send_to(datagram, session.client).ok();
        }
        self.one_shot(session.client, session.sid.wrapping_add(1), Op::Nop, 0, &[0; 12], 5);
    }

    fn transmit(&mut self) {
        let now = self.now();
        let Some(session) = self.session.as_mut().filter(|_| !self.silent) else { return };
        session.sender.handle_timeout(now);
        let mut buffer = [0; MAX_PACKET];
        let key = key();
        let seal = Seal { sid: session.sid, user: USER.as_bytes(), key: &key };
        while let Some(cut) = session.sender.poll(now) {
            let message = session.sender.get(cut.index).unwrap();
            let rider = session.rider(false).filter(|_| message.op != Op::NewSess);
            let piece = &message.body[cut.range];
            let len = seal.emit_with(rider, cut.part, cut.number, piece, &mut buffer).unwrap();
            self.socket.send_to(&buffer[..len], session.client).ok();
        }
        let due = session.acks.is_some_and(|acks| acks.is_due(now));
        if due {
            session.acks = Some(Acknowledger::default());
            let session = self.session.as_ref().unwrap();
            self.send_loose(session, Part::Only { xid: 0, op: Op::Ack }, 0, &[]);
        }
    }
}

impl Asked {
    fn of(request: &Request<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match *request {
            Request::Open { mode, events, path } => Self::Open { path: text(path), mode, events },
            Request::GetMeta { fh } => Self::GetMeta(fh),
            Request::Get { fh } => Self::Get(fh),
            Request::Put { fh, data } => Self::Put(fh, data.to_vec()),
            Request::Close { fh } => Self::Close(fh),
            Request::Del { path } => Self::Del(text(path)),
            Request::Lock { fh, flags, wait } => {
                Self::Lock { fh, shared: flags.contains(LockFlags::SHARED), wait }
            }
            Request::Unlock { fh } => Self::Unlock(fh),
            Request::GetSequencer { fh } => Self::GetSequencer(fh),
            Request::CheckSequencer { sequencer } => {
                Self::CheckSequencer(sequencer.inode, sequencer.generation)
            }
            Request::PutFenced { fh, data, sequencer } => {
                Self::PutFenced(fh, sequencer.generation, data.to_vec())
            }
            Request::DelFenced { path, sequencer } => Self::DelFenced(text(path), sequencer.generation),
            Request::EndSess => Self::EndSess,
            Request::Nop => Self::Nop,
            ref other => panic!("a client never asks {other:?} here"),
        }
    }
}

fn key() -> Key {
    Key::new(KEY.as_bytes()).unwrap()
}

pub(super) fn body(answer: &Answer<'_>) -> Vec<u8> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut out = Writer::new(&mut buffer);
    answer.emit(&mut out).unwrap();
    out.written().to_vec()
}

fn refusal(master: &Master) -> Vec<u8> {
    let mut buffer = [0; 64];
    let mut out = Writer::new(&mut buffer);
    master.emit(&mut out).unwrap();
    out.written().to_vec()
}
