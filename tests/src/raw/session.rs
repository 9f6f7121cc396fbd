//! A session that a test drives packet by packet, with a plain client's rules for what it receives (protocol.md 4.4).

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::codes::{code, mode, op};
use super::message::{Answer, Node, Request};
use super::packet::{Footer, Head, PIECE, Packet};
use crate::rng::Rng;

/// How long a wait lasts before it fails, unless the test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How far behind the expected number a packet still counts as a duplicate; anything else is not of the stream.
const WINDOW: u64 = 1 << 20;
/// What a socket's receive buffer is set to, in bytes: the kernel counts about 2300 for a full datagram.
pub const RECEIVE_BUFFER: usize = 1 << 20;
/// How many lines of what came are kept for the message of a failed wait.
const HISTORY: usize = 24;

/// A loopback socket to `server` that holds the 129 datagrams of the longest message, which come in one burst.
#[must_use]
pub fn socket_to(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("bind a loopback socket");
    set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER).expect("enlarge the receive buffer");
    socket.connect(server).expect("connect the socket to the server");
    socket
}

/// Which packets of the server are acknowledged without the test asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Every numbered packet.
    All,
    /// All but events, as Hail's client does (protocol.md 4.4).
    NotEvents,
    /// None.
    Never,
}

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The operation in its header.
    pub op: i32,
    /// Its content.
    pub answer: Answer,
    /// The number of its last packet.
    pub number: u64,
    /// Whether it is part of the session's numbered stream; if not, its number says something else (4.2).
    pub numbered: bool,
}

/// A reply to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The result.
    pub code: i32,
    /// The message that brought it.
    pub message: Incoming,
}

/// One session of one user on one socket.
///
/// Every wait has a deadline, [`RawSession::patience`], and panics past it with what was awaited and what came.
#[derive(Debug)]
pub struct RawSession {
    /// The session's id. Change it to send for another session.
    pub sid: u64,
    /// The user. Change it to forge.
    pub user: Vec<u8>,
    /// The key that packets are signed with and verified by.
    pub key: Vec<u8>,
    /// The number of the next packet.
    pub next: u64,
    /// What is acknowledged by itself.
    pub acks: Acks,
    /// How long a wait lasts.
    pub patience: Duration,
    /// Datagrams that no client may accept: not decodable, badly signed, of another session.
    pub strange: Vec<String>,
    /// How many duplicates of numbered packets came.
    pub duplicates: u64,
    socket: UdpSocket,
    rng: Rng,
    expected: Option<u64>,
    message: Option<(Head, Vec<u8>)>,
    inbox: VecDeque<Incoming>,
    history: VecDeque<String>,
}

impl RawSession {
    /// A session that the server has not heard of yet, with the user's name for a key.
    #[must_use]
    pub fn new(server: SocketAddr, user: &str) -> Self {
        let socket = socket_to(server);
        let mut rng = Rng::fresh();
        Self {
            sid: rng.next_u64(),
            user: user.as_bytes().to_vec(),
            key: user.as_bytes().to_vec(),
            next: rng.next_u64(),
            acks: Acks::All,
            patience: PATIENCE,
            strange: Vec::new(),
            duplicates: 0,
            socket,
            rng,
            expected: None,
            message: None,
            inbox: VecDeque::new(),
            history: VecDeque::new(),
        }
    }

    /// A session that the server has confirmed, with the user's name for a key.
    #[must_use]
    #[track_caller]
    pub fn connect(server: SocketAddr, user: &str) -> Self {
        let mut session = Self::new(server, user);
        assert_eq!(session.call(&Request::NewSess).code, code::OK, "NEW_SESS of {user}");
        session
    }

    /// The same session, user, key and next number on a socket of its own: as somebody at another address.
    #[must_use]
    pub fn at_another_address(&self) -> Self {
        let server = self.socket.peer_addr().expect("the socket is connected");
        let mut other = Self::new(server, "");
        other.sid = self.sid;
        other.user.clone_from(&self.user);
        other.key.clone_from(&self.key);
        other.next = self.next;
        other.expected = self.expected;
        other
    }

    // ---- sending ----

    /// Sends bytes as they are.
    pub fn send(&self, datagram: &[u8]) {
        match self.socket.send(datagram) {
            Ok(_) => {}
            // The server is not running at this moment: the datagram is lost, as on any network.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => panic!("send {} bytes: {error}", datagram.len()),
        }
    }

    /// Sends each of `datagrams`.
    pub fn send_all(&self, datagrams: &[Vec<u8>]) {
        for datagram in datagrams {
            self.send(datagram);
        }
    }

    /// A fresh identifier for a message.
    pub fn new_xid(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// A packet of this session, with the next number, which it takes.
    pub fn packet(&mut self, head: Option<Head>, last: bool, body: &[u8]) -> Vec<u8> {
        let packet = Packet {
            sid: self.sid,
            user: self.user.clone(),
            head,
            last,
            body: body.to_vec(),
            number: self.next,
        };
        self.next = self.next.wrapping_add(1);
        packet.encode(&self.key)
    }

    /// The packets of a message whose pieces have the given sizes; what is left over goes into a last one.
    /// They take their numbers and are not sent.
    pub fn pieces(&mut self, xid: u64, op: i32, body: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
        let mut rest = body;
        let mut pieces = Vec::new();
        for size in sizes {
            let (piece, behind) = rest.split_at(rest.len().min(*size));
            pieces.push(piece);
            rest = behind;
        }
        if !rest.is_empty() || pieces.is_empty() {
            pieces.push(rest);
        }
        let count = pieces.len();
        (pieces.into_iter().enumerate())
            .map(|(i, piece)| self.packet((i == 0).then_some(Head { xid, op }), i + 1 == count, piece))
            .collect()
    }

    /// The packets of a message cut as every sender cuts it (1.4), with its xid. They are not sent.
    pub fn prepare(&mut self, request: &Request) -> (u64, Vec<Vec<u8>>) {
        let (xid, body) = (self.new_xid(), request.encode());
        let sizes = vec![PIECE; body.len().div_ceil(PIECE).max(1)];
        (xid, self.pieces(xid, request.op(), &body, &sizes))
    }

    /// Sends a request and returns its xid.
    pub fn request(&mut self, request: &Request) -> u64 {
        let (xid, datagrams) = self.prepare(request);
        self.send_all(&datagrams);
        xid
    }

    /// Sends a single-packet message with any op and body, and returns its xid.
    pub fn request_raw(&mut self, op: i32, body: &[u8]) -> u64 {
        let xid = self.new_xid();
        let datagram = self.packet(Some(Head { xid, op }), true, body);
        self.send(&datagram);
        xid
    }

    /// Acknowledges the server's packet of that number.
    pub fn ack(&self, number: u64) {
        self.send(&self.ack_packet(number));
    }

    /// The packet that acknowledges the server's of that number.
    #[must_use]
    pub fn ack_packet(&self, number: u64) -> Vec<u8> {
        let packet = Packet {
            sid: self.sid,
            user: self.user.clone(),
            head: Some(Head { xid: 0, op: op::ACK }),
            last: true,
            body: Vec::new(),
            number,
        };
        packet.encode(&self.key)
    }

    // ---- receiving ----

    /// The next number that the server should use; none before the session is confirmed.
    #[must_use]
    pub const fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// Messages that came and were not taken yet, in the order of arrival.
    #[must_use]
    pub fn inbox(&self) -> Vec<Incoming> {
        self.inbox.iter().cloned().collect()
    }

    /// Takes one datagram from the socket, waiting until `deadline`. False if none came.
    fn receive(&mut self, deadline: Instant) -> bool {
        let mut buffer = [0; 4096];
        let left = deadline.saturating_duration_since(Instant::now());
        // A zero timeout would mean to wait for ever.
        let left = left.max(Duration::from_micros(1));
        self.socket.set_read_timeout(Some(left)).expect("set a read timeout");
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                let datagram = buffer.get(..length).unwrap_or_default();
                self.take(datagram);
                true
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => false,
                ErrorKind::ConnectionRefused | ErrorKind::Interrupted => true,
                _ => panic!("receive: {error}"),
            },
        }
    }

    fn note(&mut self, line: String) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(line);
    }

    fn take(&mut self, datagram: &[u8]) {
        let packet = match Packet::open(datagram, &self.key) {
            Ok((packet, Footer::Standard)) if packet.sid == self.sid && packet.user == self.user => packet,
            Ok((packet, footer)) => {
                let line = format!("{packet}: sid {:x}, footer {footer:?}", packet.sid);
                self.note(format!("STRANGE {line}"));
                return self.strange.push(line);
            }
            Err(error) => {
                let line = format!("{} bytes: {error}", datagram.len());
                self.note(format!("STRANGE {line}"));
                return self.strange.push(line);
            }
        };
        self.note(packet.to_string());
        let new_session = packet.head.is_some_and(|head| {
            head.op == op::NEW_SESS
                && Answer::decode(head.op, &packet.body)
                    .is_ok_and(|a| a.result().is_some_and(|(_, c)| c == code::OK))
        });
        let ahead = self.expected.map(|expected| packet.number.wrapping_sub(expected).cast_signed());
        match ahead {
            _ if new_session => self.accept(packet),
            Some(0) => self.accept(packet),
            Some(distance) if distance.unsigned_abs() < WINDOW => {
                self.note("    not the next number".to_owned());
                if distance < 0 {
                    self.duplicates += 1;
                    if self.acks != Acks::Never {
                        self.ack(packet.number);
                    }
                }
            }
            _ => self.accept_unnumbered(packet),
        }
    }

    /// Takes the next packet of the stream.
    fn accept(&mut self, packet: Packet) {
        self.expected = Some(packet.number.wrapping_add(1));
        let (number, last, is_event) =
            (packet.number, packet.last, packet.head.is_some_and(|head| head.op == op::EVENT));
        match (self.acks, is_event) {
            (Acks::All, _) | (Acks::NotEvents, false) => self.ack(number),
            (Acks::NotEvents, true) | (Acks::Never, _) => {}
        }
        match packet.head {
            Some(head) => self.message = Some((head, packet.body)),
            None => match &mut self.message {
                Some((_, body)) => body.extend(packet.body),
                None => return self.strange.push(format!("a piece without a first one, number {number:x}")),
            },
        }
        if last && let Some((head, body)) = self.message.take() {
            self.deliver(head.op, &body, number, true);
        }
    }

    /// Takes a packet whose number is not of the stream: a refusal, ACK_FRAG, NOT_MASTER.
    fn accept_unnumbered(&mut self, packet: Packet) {
        match packet.head {
            Some(head) if packet.last => self.deliver(head.op, &packet.body, packet.number, false),
            _ => self.strange.push(format!("{packet}: un-numbered, and not a whole message")),
        }
    }

    fn deliver(&mut self, op: i32, body: &[u8], number: u64, numbered: bool) {
        match Answer::decode(op, body) {
            Ok(answer) => self.inbox.push_back(Incoming { op, answer, number, numbered }),
            Err(error) => self.strange.push(format!("body of {}: {error}", op::name(op))),
        }
    }

    /// Waits until `pick` takes something out of the messages that came; none if that takes longer than `patience`.
    pub fn try_wait<T>(
        &mut self,
        patience: Duration,
        mut pick: impl FnMut(&mut VecDeque<Incoming>) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = pick(&mut self.inbox) {
                return Some(found);
            }
            if !self.receive(deadline) && Instant::now() >= deadline {
                return None;
            }
        }
    }

    /// As [`RawSession::try_wait`] with the session's patience.
    ///
    /// # Panics
    /// When nothing came in time; the message says `what` was awaited and what came.
    #[track_caller]
    pub fn wait<T>(&mut self, what: &str, pick: impl FnMut(&mut VecDeque<Incoming>) -> Option<T>) -> T {
        match self.try_wait(self.patience, pick) {
            Some(found) => found,
            None => panic!("no {what} within {:?}; {}", self.patience, self.what_came()),
        }
    }

    /// The last packets that came, for messages.
    #[must_use]
    pub fn what_came(&self) -> String {
        let lines: Vec<String> = self.history.iter().map(|line| format!("\n    {line}")).collect();
        format!("session {:x} got lately:{}", self.sid, lines.concat())
    }

    /// Waits for the reply to the request `xid`.
    #[track_caller]
    pub fn reply(&mut self, xid: u64) -> Reply {
        self.wait(&format!("reply to xid {xid:x}"), |inbox| take_reply(inbox, xid))
    }

    /// Waits for the reply to the request `xid`, no longer than `patience`.
    pub fn try_reply(&mut self, xid: u64, patience: Duration) -> Option<Reply> {
        self.try_wait(patience, |inbox| take_reply(inbox, xid))
    }

    /// Sends a request and waits for its reply.
    #[track_caller]
    pub fn call(&mut self, request: &Request) -> Reply {
        let xid = self.request(request);
        self.wait(&format!("reply to {} xid {xid:x}", op::name(request.op())), |inbox| take_reply(inbox, xid))
    }

    /// Sends a request, the same packets again and again at each `interval`, until its reply comes.
    #[track_caller]
    pub fn call_until_answered(&mut self, request: &Request, interval: Duration) -> Reply {
        let (xid, datagrams) = self.prepare(request);
        let deadline = Instant::now() + self.patience;
        while Instant::now() < deadline {
            self.send_all(&datagrams);
            if let Some(reply) = self.try_reply(xid, interval) {
                return reply;
            }
        }
        panic!("no reply to {} in {:?}; {}", op::name(request.op()), self.patience, self.what_came());
    }

    /// Waits for the next event: the handle and its bits.
    #[track_caller]
    pub fn event(&mut self) -> (u64, u32) {
        let (_, fh, events) = self.numbered_event();
        (fh, events)
    }

    /// Waits for the next event: its packet's number, the handle and its bits.
    #[track_caller]
    pub fn numbered_event(&mut self) -> (u64, u64, u32) {
        self.wait("event", take_event)
    }

    /// Events that came so far. A NOP goes to the server first, so everything that it sent before is seen.
    #[track_caller]
    pub fn events_so_far(&mut self) -> Vec<(u64, u32)> {
        self.settle();
        std::iter::from_fn(|| take_event(&mut self.inbox)).map(|(_, fh, events)| (fh, events)).collect()
    }

    /// Waits for the next PING and returns its number.
    #[track_caller]
    pub fn ping(&mut self) -> u64 {
        self.wait("PING", |inbox| {
            let at = inbox.iter().position(|message| message.answer == Answer::Ping)?;
            inbox.remove(at).map(|message| message.number)
        })
    }

    /// Asks for a NOP's reply: what the server sent to this session before is in the inbox then.
    #[track_caller]
    pub fn settle(&mut self) {
        let reply = self.call(&Request::Nop);
        assert_eq!(reply.code, code::OK, "NOP; {}", self.what_came());
    }

    // ---- requests in one call each ----

    /// OPEN: the handle.
    ///
    /// # Errors
    /// The code, if it is not OK.
    #[track_caller]
    pub fn open(&mut self, path: &str, mode: u32, events: u32) -> Result<u64, i32> {
        let reply = self.call(&Request::Open { mode, events, path: path.as_bytes().to_vec() });
        match reply.message.answer {
            Answer::Opened { fh, .. } => Ok(fh),
            _ => Err(reply.code),
        }
    }

    /// OPEN of a file that is created if it is missing, for reading, writing and locking, without events.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn create(&mut self, path: &str) -> u64 {
        match self.open(path, mode::READ | mode::WRITE | mode::LOCK | mode::CREATE, 0) {
            Ok(fh) => fh,
            Err(code) => panic!("OPEN {path}: code {code}"),
        }
    }

    /// GET: metadata and contents.
    ///
    /// # Errors
    /// The code, if it is not OK.
    #[track_caller]
    pub fn get(&mut self, fh: u64) -> Result<Node, i32> {
        self.read(&Request::Get { fh })
    }

    /// GET_META: metadata alone.
    ///
    /// # Errors
    /// The code, if it is not OK.
    #[track_caller]
    pub fn get_meta(&mut self, fh: u64) -> Result<Node, i32> {
        self.read(&Request::GetMeta { fh })
    }

    #[track_caller]
    fn read(&mut self, request: &Request) -> Result<Node, i32> {
        let reply = self.call(request);
        match reply.message.answer {
            Answer::Contents { node, .. } => {
                assert_eq!(reply.message.op, op::GET, "the op of a successful read's reply");
                Ok(node)
            }
            _ => Err(reply.code),
        }
    }

    /// PUT: the code.
    #[track_caller]
    pub fn put(&mut self, fh: u64, data: &[u8]) -> i32 {
        self.call(&Request::Put { fh, data: data.to_vec() }).code
    }

    /// CLOSE: the code.
    #[track_caller]
    pub fn close(&mut self, fh: u64) -> i32 {
        self.call(&Request::Close { fh }).code
    }

    /// DEL: the code.
    #[track_caller]
    pub fn del(&mut self, path: &str) -> i32 {
        self.call(&Request::Del { path: path.as_bytes().to_vec() }).code
    }

    /// LOCK: the code.
    #[track_caller]
    pub fn lock(&mut self, fh: u64, flags: u32) -> i32 {
        self.call(&Request::Lock { fh, flags }).code
    }

    /// TRYLOCK: the code.
    #[track_caller]
    pub fn try_lock(&mut self, fh: u64, flags: u32) -> i32 {
        self.call(&Request::TryLock { fh, flags }).code
    }

    /// UNLOCK: the code.
    #[track_caller]
    pub fn unlock(&mut self, fh: u64) -> i32 {
        self.call(&Request::Unlock { fh }).code
    }
}

fn take_reply(inbox: &mut VecDeque<Incoming>, xid: u64) -> Option<Reply> {
    let found = |message: &Incoming| message.answer.result().is_some_and(|(of, _)| of == xid);
    let message = inbox.remove(inbox.iter().position(found)?)?;
    let (_, code) = message.answer.result()?;
    Some(Reply { code, message })
}

fn take_event(inbox: &mut VecDeque<Incoming>) -> Option<(u64, u64, u32)> {
    let at = inbox.iter().position(|message| matches!(message.answer, Answer::Event { .. }))?;
    let message = inbox.remove(at)?;
    match message.answer {
        Answer::Event { fh, events } => Some((message.number, fh, events)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
