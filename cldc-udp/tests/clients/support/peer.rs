//! The peer itself.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cldc_core::link::{Arrival, Pacing};
use cldc_core::time;
use cldc_core::wire::limits::{MAX_MESSAGE, MAX_PACKET};
use cldc_core::wire::{
    Answer, Code, EventMask, Key, LockFlags, Metadata, Op, OpenMode, Packet, Part, Request, Seal, Writer,
    dirent,
};

use super::link::{List, PeerReceiver, PeerSender, receiver};
use super::{KEY, LONG, USER};

/// A request as the peer got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    NewSess,
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
}

type Script = Box<dyn FnMut(&Asked) -> Say + Send>;

/// What a test has of the peer.
pub(crate) struct Peer {
    address: SocketAddr,
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
        Self::run("127.0.0.1:0", Some(Box::new(script)))
    }

    /// A peer with an address of IPv6; none if this machine has no such loopback.
    pub(crate) fn start_v6() -> Option<Self> {
        UdpSocket::bind("[::1]:0").ok()?;
        Some(Self::run("[::1]:0", Some(Box::new(|_| Say::Usual))))
    }

    /// A peer that answers everything with NOT_MASTER.
    pub(crate) fn not_master() -> Self {
        Self::run("127.0.0.1:0", None)
    }

    /// A peer that says nothing.
    pub(crate) fn silent() -> Self {
        let peer = Self::start();
        peer.order(Order::Silence(true));
        peer
    }

    fn run(address: &str, script: Option<Script>) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let address = socket.local_addr().unwrap();
        // An order is taken when `send` returns.
        let ((orders, inbox), (log, asked)) = (sync_channel(0), channel());
        let work = Work {
            socket,
            begun: Instant::now(),
            log,
            script,
            session: None,
            silent: false,
            held: Vec::new(),
            files: BTreeMap::new(),
            handles: BTreeMap::new(),
            next_fh: 1,
        };
        let thread = std::thread::spawn(move || work.run(&inbox));
        Self { address, orders: Some(orders), asked, thread: Some(thread) }
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

struct Session {
    sid: u64,
    client: SocketAddr,
    sender: PeerSender,
    receiver: PeerReceiver,
}

struct Work {
    socket: UdpSocket,
    begun: Instant,
    log: Sender<Asked>,
    /// Without one it is not the master.
    script: Option<Script>,
    session: Option<Session>,
    silent: bool,
    /// Requests whose answers wait for an order.
    held: Vec<(Op, u64, Asked)>,
    files: BTreeMap<String, Vec<u8>>,
    handles: BTreeMap<u64, String>,
    next_fh: u64,
}

const PACING: Pacing = Pacing {
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
                (0..count).for_each(|_| self.say(&Answer::Event { fh, events }));
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
            Order::Forget => self.session = None,
        }
    }

    fn now(&self) -> time::Instant {
        time::Instant::START + self.begun.elapsed().into()
    }

    fn take(&mut self, from: SocketAddr, datagram: &[u8]) {
        let packet = Packet::parse(datagram).unwrap();
        assert_eq!(packet.user, USER.as_bytes());
        if packet.verify(&key()).is_err() {
            return;
        }
        let Part::Only { xid, op } = packet.part else { return self.take_numbered(&packet) };
        match op {
            _ if self.script.is_none() => {
                self.one_shot(from, packet.sid, Op::NotMaster, 0, &[], 0xdead_beef);
            }
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
                let sender = PeerSender::new(77, PACING, List(Vec::new()));
                let receiver = receiver(packet.number.wrapping_add(1));
                self.session = Some(Session { sid: packet.sid, client: from, sender, receiver });
                self.log.send(Asked::NewSess).ok();
                match self.ask(&Asked::NewSess) {
                    Say::Code(code) => {
                        let body = body(&Answer::Done { op, xid, code });
                        self.one_shot(from, packet.sid, op, xid, &body, packet.number);
                    }
                    _ => self.say(&Answer::Done { op, xid, code: Code::Ok }),
                }
            }
            _ if self.session.as_ref().is_none_or(|session| session.sid != packet.sid) => {
                let body = body(&Answer::Done { op, xid, code: Code::SessInval });
                self.one_shot(from, packet.sid, op, xid, &body, packet.number);
            }
            _ => self.take_numbered(&packet),
        }
    }

    fn take_numbered(&mut self, packet: &Packet<'_>) {
        let Some(session) = self.session.as_mut().filter(|session| session.sid == packet.sid) else { return };
        if session.receiver.accept(packet.number, packet.part, packet.piece) != Arrival::Taken {
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
        self.script.as_mut().map_or(Say::Usual, |script| script(asked))
    }

    fn answer(&mut self, op: Op, xid: u64, asked: &Asked) {
        match self.ask(asked) {
            Say::Usual => self.serve(op, xid, asked),
            Say::Code(code) => self.say(&Answer::Done { op, xid, code }),
            Say::Opened(fh) => self.say(&Answer::Opened { xid, fh }),
            Say::EventFirst(fh, events, code) => {
                self.say(&Answer::Event { fh, events });
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
        let done = |code| Answer::Done { op, xid, code };
        match asked {
            Asked::Open { path, mode, .. } => {
                if !self.files.contains_key(path) && path != "/" {
                    if !mode.contains(OpenMode::CREATE) {
                        return self.say(&done(Code::NameInval));
                    }
                    self.files.insert(path.clone(), Vec::new());
                }
                let fh = self.next_fh;
                self.next_fh += 1;
                self.handles.insert(fh, path.clone());
                self.say(&Answer::Opened { xid, fh });
            }
            Asked::Get(fh) | Asked::GetMeta(fh) => {
                let path = self.handles[fh].clone();
                let mut data = match path.as_str() {
                    "/" => names(self.files.keys()),
                    file => self.files[file].clone(),
                };
                let metadata = Metadata { inode: 7, version: data.len() as u64, ..Metadata::default() };
                if op == Op::GetMeta {
                    data.clear();
                }
                self.say(&Answer::Contents { xid, metadata, path: path.as_bytes(), data: &data });
            }
            Asked::Put(fh, data) => {
                self.files.insert(self.handles[fh].clone(), data.clone());
                self.say(&done(Code::Ok));
            }
            Asked::Close(fh) => {
                let known = self.handles.remove(fh).is_some();
                self.say(&done(if known { Code::Ok } else { Code::FhInval }));
            }
            Asked::Del(path) => {
                let known = self.files.remove(path).is_some();
                self.say(&done(if known { Code::Ok } else { Code::NameInval }));
            }
            _ => self.say(&done(Code::Ok)),
        }
    }

    fn say(&mut self, answer: &Answer<'_>) {
        self.push(answer.op(), body(answer));
    }

    fn push(&mut self, op: Op, body: Vec<u8>) {
        if let Some(session) = &mut self.session {
            // Each message has a name of its own.
            let xid = session.sender.next_number();
            session.sender.push(op, xid, body.len(), body).unwrap();
        }
    }

    fn one_shot(&self, to: SocketAddr, sid: u64, op: Op, xid: u64, body: &[u8], number: u64) {
        let mut buffer = [0; MAX_PACKET];
        let seal = Seal { sid, user: USER.as_bytes(), key: &key() };
        let len = seal.emit(Part::Only { xid, op }, number, body, &mut buffer).unwrap();
        self.socket.send_to(&buffer[..len], to).ok();
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
            let piece = &session.sender.get(cut.index).unwrap().body[cut.range];
            let len = seal.emit(cut.part, cut.number, piece, &mut buffer).unwrap();
            self.socket.send_to(&buffer[..len], session.client).ok();
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
            Request::EndSess => Self::EndSess,
            Request::Nop => Self::Nop,
            ref other => panic!("a client never asks {other:?} here"),
        }
    }
}

fn key() -> Key {
    Key::new(KEY.as_bytes()).unwrap()
}

fn body(answer: &Answer<'_>) -> Vec<u8> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut out = Writer::new(&mut buffer);
    answer.emit(&mut out).unwrap();
    out.written().to_vec()
}

fn names<'a>(paths: impl Iterator<Item = &'a String>) -> Vec<u8> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut out = Writer::new(&mut buffer);
    for path in paths {
        dirent::emit(path.trim_start_matches('/').as_bytes(), &mut out).unwrap();
    }
    out.written().to_vec()
}
