//! An extended session that a test drives packet by packet (docs/protocol.md 7.2 to 7.4).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::super::codes::{code, op};
use super::super::xdr::Reader;
use super::super::{Head, Malformed, PATIENCE, PIECE, Packet, Request, Rider, socket_to};
use super::message::read_addresses;
use super::{Event, HELLO, Hello, Sequencer, Stands, Welcome};
use crate::rng::Rng;

/// How far ahead of its turn a packet is held.
const WINDOW: u64 = 64;
/// A greeting's length, filled up with zeros, with its header and footer.
const GREETING: usize = 256;
/// How many lines of what came are kept for the message of a failed wait.
const HISTORY: usize = 40;

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The operation in its header.
    pub op: i32,
    /// Its body.
    pub body: Vec<u8>,
    /// The number of its last packet.
    pub number: u64,
    /// Whether it is of the stream; the others are loose, or without a rider.
    pub numbered: bool,
    /// What its last packet carried.
    pub rider: Option<Rider>,
}

impl Incoming {
    /// The request that it answers, the code, and what follows.
    fn result(&self) -> Option<(u64, i32, &[u8])> {
        if matches!(self.op, op::EVENT | op::PING | op::NOT_MASTER | op::ACK) {
            return None;
        }
        let mut reader = Reader(&self.body);
        let (code, xid) = (reader.i32().ok()?, reader.u64().ok()?);
        Some((xid, code, reader.0))
    }
}

/// A reply to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The result.
    pub code: i32,
    /// What follows the result.
    pub rest: Vec<u8>,
    /// The message that brought it.
    pub message: Incoming,
}

impl Reply {
    /// What follows the result, read by `read`, which must take all of it.
    ///
    /// # Panics
    /// When it is something else.
    #[track_caller]
    fn all<T>(&self, read: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>) -> T {
        let mut reader = Reader(&self.rest);
        match read(&mut reader) {
            Ok(item) if reader.0.is_empty() => item,
            Ok(_) => panic!("{} bytes too many in {self:?}", reader.0.len()),
            Err(error) => panic!("{error} in {self:?}"),
        }
    }

    /// The sequencer that follows the result.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn sequencer(&self) -> Sequencer {
        self.all(Sequencer::read)
    }

    /// The welcome that follows the result.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn welcome(&self) -> Welcome {
        self.all(Welcome::read)
    }

    /// The number of eight bytes that follows the result: a cookie, or an epoch, behind which the servers may be told.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn hyper(&self) -> u64 {
        self.all(|reader| {
            let epoch = reader.u64()?;
            if !reader.0.is_empty() {
                read_addresses(reader)?;
            }
            Ok(epoch)
        })
    }
}

/// What a resumption brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// As at the beginning of the session.
    pub welcome: Welcome,
    /// The handles that stand, in ascending order.
    pub stands: Vec<Stands>,
}

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many datagrams.
    pub packets: u64,
    /// Their lengths together.
    pub bytes: u64,
}

impl Traffic {
    /// Adds one.
    pub const fn count(&mut self, datagram: &[u8]) {
        self.packets += 1;
        self.bytes += datagram.len() as u64;
    }

    /// What was added since `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self { packets: self.packets - before.packets, bytes: self.bytes - before.bytes }
    }
}

/// One extended session of one user.
///
/// It repeats nothing of itself. Every wait has a deadline, [`Extended::patience`], and panics past it.
#[derive(Debug)]
pub struct Extended {
    /// The session's id. Change it to send for another session.
    pub sid: u64,
    /// The user. Change it to forge.
    pub user: Vec<u8>,
    /// The key that packets are signed with and verified by.
    pub key: Vec<u8>,
    /// What it asks for in NEW_SESS and RESUME.
    pub hello: Hello,
    /// The number of the next packet of the stream.
    pub next: u64,
    /// The xid of the next request.
    pub next_xid: u64,
    /// Whether each packet of the server's stream is acknowledged at once by a loose ACK.
    pub acks: bool,
    /// How long a wait lasts.
    pub patience: Duration,
    /// Numbers of the server's stream that are lost, once each, before they are taken.
    pub lose: BTreeSet<u64>,
    /// The numbers of the server's stream in the order in which they came, those lost or repeated included.
    pub arrivals: Vec<u64>,
    /// What the server acknowledged last.
    pub acknowledged: Option<Rider>,
    /// All that was sent.
    pub recording: Vec<Vec<u8>>,
    /// What was sent.
    pub sent: Traffic,
    /// What came.
    pub received: Traffic,
    /// Datagrams that no client may accept: not decodable, badly signed, of another session or stream.
    pub strange: Vec<String>,
    server: SocketAddr,
    socket: UdpSocket,
    rng: Rng,
    /// The first number of the stream.
    first: u64,
    /// The number of the last loose NOP.
    loose: u64,
    /// The next number of the server's stream; none before there is one.
    expected: Option<u64>,
    /// Packets that came before their turn.
    early: BTreeMap<u64, (Packet, Rider)>,
    message: Option<(Head, Vec<u8>)>,
    inbox: VecDeque<Incoming>,
    /// Requests without an answer yet, by xid.
    unanswered: BTreeMap<u64, (i32, Vec<u8>)>,
    /// Number and xid of a RESUME that is on its way.
    resuming: Option<(u64, u64)>,
    history: VecDeque<String>,
}

impl Extended {
    /// A session that the server has not heard of yet, with the user's name for a key.
    #[must_use]
    pub fn new(server: SocketAddr, user: &str) -> Self {
        let mut rng = Rng::fresh();
        let first = rng.next_u64();
        Self {
            sid: rng.next_u64(),
            user: user.as_bytes().to_vec(),
            key: user.as_bytes().to_vec(),
            hello: HELLO,
            next: first,
            // Xids count up; far from where they would wrap.
            next_xid: rng.next_u64() >> 1,
            acks: true,
            patience: PATIENCE,
            lose: BTreeSet::new(),
            arrivals: Vec::new(),
            acknowledged: None,
            recording: Vec::new(),
            sent: Traffic::default(),
            received: Traffic::default(),
            strange: Vec::new(),
            server,
            socket: socket_to(server),
            rng,
            first,
            loose: 0,
            expected: None,
            early: BTreeMap::new(),
            message: None,
            inbox: VecDeque::new(),
            unanswered: BTreeMap::new(),
            resuming: None,
            history: VecDeque::new(),
        }
    }

    /// A session that the server has welcomed, with the user's name for a key.
    #[must_use]
    #[track_caller]
    pub fn connect(server: SocketAddr, user: &str) -> Self {
        Self::connect_with(server, user, HELLO).0
    }

    /// As [`Extended::connect`], asking for this; also what was granted.
    #[must_use]
    #[track_caller]
    pub fn connect_with(server: SocketAddr, user: &str, hello: Hello) -> (Self, Welcome) {
        let mut session = Self::new(server, user);
        session.hello = hello;
        let welcome = session.greet().welcome();
        (session, welcome)
    }

    /// Lets the stream begin with this number; before the greeting alone.
    pub const fn begin_at(&mut self, number: u64) {
        (self.first, self.next) = (number, number);
    }

    /// Sends NEW_SESS and waits for its answer.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn greet(&mut self) -> Reply {
        let (xid, datagram) = self.prepare_greeting();
        self.send(&datagram);
        let reply = self.reply(xid);
        assert_eq!(reply.code, code::OK, "NEW_SESS; {}", self.what_came());
        reply
    }

    /// A NEW_SESS with the next number, and its xid. It is not sent.
    pub fn prepare_greeting(&mut self) -> (u64, Vec<u8>) {
        let xid = self.next_xid;
        self.next_xid += 1;
        let datagram = self.greeting(self.next, Head { xid, op: op::NEW_SESS }, self.hello.encode());
        self.next = self.next.wrapping_add(1);
        (xid, datagram)
    }

    /// A packet without a rider, whose body is filled up with zeros.
    fn greeting(&self, number: u64, head: Head, mut body: Vec<u8>) -> Vec<u8> {
        let bare = self.encode(number, Some(head), true, &[], None).len();
        body.resize(body.len().max(GREETING - bare), 0);
        self.encode(number, Some(head), true, &body, None)
    }

    // ---- sending ----

    /// Sends bytes as they are.
    pub fn send(&mut self, datagram: &[u8]) {
        self.recording.push(datagram.to_vec());
        self.sent.count(datagram);
        match self.socket.send(datagram) {
            Ok(_) => {}
            // The server is not running at this moment: the datagram is lost, as on any network.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => panic!("send {} bytes: {error}", datagram.len()),
        }
    }

    /// Sends each of `datagrams`.
    pub fn send_all(&mut self, datagrams: &[Vec<u8>]) {
        datagrams.iter().for_each(|datagram| self.send(datagram));
    }

    /// From now on the session is at another address.
    pub fn move_away(&mut self) {
        self.socket = socket_to(self.server);
    }

    /// The acknowledgement of all that has come.
    #[must_use]
    pub fn rider(&self, loose: bool) -> Rider {
        let next = self.expected.unwrap_or_default();
        let held = self.early.keys().map(|number| 1 << (number.wrapping_sub(next) - 1)).sum();
        Rider { next, held, loose }
    }

    /// Any packet of this session, and of any stream.
    #[must_use]
    pub fn encode(
        &self,
        number: u64,
        head: Option<Head>,
        last: bool,
        body: &[u8],
        rider: Option<Rider>,
    ) -> Vec<u8> {
        let (sid, user, body) = (self.sid, self.user.clone(), body.to_vec());
        Packet { sid, user, head, last, body, number }.encode_with(rider, &self.key)
    }

    /// The packets of a request, cut as every sender cuts it, with its xid. They are not sent.
    pub fn prepare(&mut self, op: i32, body: &[u8]) -> (u64, Vec<Vec<u8>>) {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.unanswered.insert(xid, (op, body.to_vec()));
        (xid, self.pieces(Head { xid, op }, body))
    }

    fn pieces(&mut self, head: Head, body: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces: Vec<&[u8]> = body.chunks(PIECE).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        let count = pieces.len();
        let mut datagrams = Vec::new();
        for (piece, place) in pieces.into_iter().zip(1..) {
            let head = (place == 1).then_some(head);
            datagrams.push(self.encode(self.next, head, place == count, piece, Some(self.rider(false))));
            self.next = self.next.wrapping_add(1);
        }
        datagrams
    }

    /// Sends a request and returns its xid.
    pub fn request(&mut self, request: &Request) -> u64 {
        self.request_raw(request.op(), &request.encode())
    }

    /// Sends a request of any operation and body and returns its xid.
    pub fn request_raw(&mut self, op: i32, body: &[u8]) -> u64 {
        let (xid, datagrams) = self.prepare(op, body);
        self.send_all(&datagrams);
        xid
    }

    /// Sends the requests without an answer again, under their xids and with new numbers, as after a resumption.
    pub fn request_again(&mut self) {
        for (xid, (op, body)) in self.unanswered.clone() {
            let datagrams = self.pieces(Head { xid, op }, &body);
            self.send_all(&datagrams);
        }
    }

    /// Acknowledges all that has come by a loose ACK.
    pub fn acknowledge(&mut self) {
        let head = Head { xid: 0, op: op::ACK };
        let datagram = self.encode(0, Some(head), true, &[], Some(self.rider(true)));
        self.send(&datagram);
    }

    /// The next loose NOP, and its xid. It is not sent.
    pub fn prepare_nop(&mut self) -> (u64, Vec<u8>) {
        self.loose += 1;
        let head = Head { xid: self.rng.next_u64(), op: op::NOP };
        (head.xid, self.encode(self.loose, Some(head), true, &[], Some(self.rider(true))))
    }

    /// Sends a loose NOP and waits for its answer: the epoch. What the server sent to this session before is in the inbox then.
    ///
    /// # Panics
    /// When the answer is no loose NOP of the same number.
    #[track_caller]
    pub fn settle(&mut self) -> u64 {
        let (xid, datagram) = self.prepare_nop();
        self.send(&datagram);
        let reply = self.reply(xid);
        assert_eq!((reply.code, reply.message.op), (code::OK, op::NOP), "{}", self.what_came());
        assert!(!reply.message.numbered && reply.message.rider.is_some_and(|rider| rider.loose), "{reply:?}");
        assert_eq!(reply.message.number, self.loose, "{}", self.what_came());
        reply.hyper()
    }

    // ---- resuming ----

    /// A RESUME of that number, and its xid. It is not sent.
    pub fn prepare_resume(&mut self, number: u64, cookie: u64) -> (u64, Vec<u8>) {
        let oldest = self.unanswered.keys().next().copied().unwrap_or(self.next_xid);
        let mut body = self.hello.encode();
        body.extend(cookie.to_be_bytes());
        body.extend(oldest.to_be_bytes());
        let head = Head { xid: self.rng.next_u64(), op: op::RESUME };
        self.resuming = Some((number, head.xid));
        (head.xid, self.greeting(number, head, body))
    }

    /// Sends a RESUME of that number and waits for its answer.
    #[track_caller]
    pub fn ask_resume(&mut self, number: u64, cookie: u64) -> Reply {
        let (xid, datagram) = self.prepare_resume(number, cookie);
        self.send(&datagram);
        self.reply(xid)
    }

    /// Asks for a cookie for a RESUME of that number.
    ///
    /// # Panics
    /// When the answer is no challenge with a cookie.
    #[track_caller]
    pub fn cookie(&mut self, number: u64) -> u64 {
        let challenge = self.ask_resume(number, 0);
        assert_eq!((challenge.code, challenge.message.op), (code::CHALLENGE, op::RESUME), "{challenge:?}");
        assert_eq!((challenge.message.rider, challenge.message.number), (None, number), "{challenge:?}");
        challenge.hyper()
    }

    /// Resumes the session from where it is now, and sends the requests without an answer again.
    ///
    /// # Panics
    /// When that is refused.
    #[track_caller]
    pub fn resume(&mut self) -> Resumed {
        let number = self.rng.next_u64();
        let cookie = self.cookie(number);
        let answer = self.ask_resume(number, cookie);
        assert_eq!((answer.code, answer.message.op), (code::OK, op::RESUME), "{}", self.what_came());
        self.request_again();
        answer.all(|reader| {
            let welcome = Welcome::read(reader)?;
            Ok(Resumed { welcome, stands: Stands::read_all(reader)? })
        })
    }

    /// Waits for a hint that the server does not know the present streams: the number that it names.
    #[track_caller]
    pub fn hint(&mut self) -> u64 {
        self.wait("hint to resume", |inbox| {
            let is_hint = |message: &Incoming| {
                let result = message.result();
                message.op == op::RESUME
                    && !message.numbered
                    && result.is_some_and(|(_, code, rest)| code == code::CHALLENGE && rest.is_empty())
            };
            inbox.remove(inbox.iter().position(is_hint)?).map(|message| message.number)
        })
    }

    // ---- receiving ----

    /// The next number that the server should use; none before there is a stream.
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
                self.received.count(datagram);
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

    fn stranger(&mut self, line: String) {
        self.note(format!("STRANGE {line}"));
        self.strange.push(line);
    }

    fn take(&mut self, datagram: &[u8]) {
        let (packet, rider) = match Packet::open_with(datagram, &self.key) {
            Ok(Some((packet, rider))) if packet.sid == self.sid && packet.user == self.user => {
                (packet, rider)
            }
            Ok(other) => return self.stranger(format!("{other:?}: not signed for this session")),
            Err(error) => return self.stranger(format!("{} bytes: {error}", datagram.len())),
        };
        self.note(format!("{packet}, {rider:?}"));
        let Some(rider) = rider else { return self.take_outside(packet) };
        if let Some((number, xid)) = self.resuming
            && !rider.loose
            && packet.head.is_some_and(|head| head.op == op::RESUME)
            && packet.body.starts_with(&[&code::OK.to_be_bytes()[..], &xid.to_be_bytes()].concat())
        {
            // The answer to a RESUME begins both streams anew.
            self.resuming = None;
            (self.first, self.next) = (number.wrapping_add(1), number.wrapping_add(1));
            (self.message, self.acknowledged, self.loose) = (None, None, 0);
            self.early.clear();
            self.expected = Some(packet.number);
        }
        let beyond = 64 - u64::from(rider.held.leading_zeros());
        let reach = rider.next.wrapping_add(if beyond == 0 { 0 } else { beyond + 1 });
        let sent = self.next.wrapping_sub(self.first);
        if reach.wrapping_sub(self.first) > sent || rider.next.wrapping_sub(self.first) > sent {
            return self.stranger(format!("{packet} acknowledges what was not sent: {rider:x?}"));
        }
        if rider.loose {
            self.acknowledged = Some(rider);
            return self.deliver(packet.head, packet.body, packet.number, false, Some(rider));
        }
        self.take_numbered(packet, rider);
    }

    /// Takes a packet without a rider: the answer to NEW_SESS, a challenge, a refusal.
    fn take_outside(&mut self, packet: Packet) {
        let begins = packet.head.is_some_and(|head| head.op == op::NEW_SESS)
            && packet.body.starts_with(&code::OK.to_be_bytes());
        if begins && self.expected.is_none() {
            self.expected = Some(packet.number.wrapping_add(1));
            if self.acks {
                self.acknowledge();
            }
        }
        self.deliver(packet.head, packet.body, packet.number, false, None);
    }

    fn take_numbered(&mut self, packet: Packet, rider: Rider) {
        let Some(expected) = self.expected else {
            return self.stranger(format!("{packet} before there is a stream"));
        };
        self.arrivals.push(packet.number);
        if self.lose.remove(&packet.number) {
            return self.note("    lost".to_owned());
        }
        self.acknowledged = Some(rider);
        let ahead = packet.number.wrapping_sub(expected);
        if ahead <= WINDOW {
            self.early.entry(packet.number).or_insert((packet, rider));
        } else if expected.wrapping_sub(packet.number) > WINDOW * 4 {
            return self.stranger(format!("{packet}, not near {expected:x}"));
        }
        while let Some(expected) = self.expected
            && let Some((packet, rider)) = self.early.remove(&expected)
        {
            self.expected = Some(expected.wrapping_add(1));
            self.accept(packet, rider);
        }
        if self.acks {
            self.acknowledge();
        }
    }

    /// Takes the next packet of the stream.
    fn accept(&mut self, packet: Packet, rider: Rider) {
        match (packet.head, &mut self.message) {
            (Some(head), message) => *message = Some((head, packet.body)),
            (None, Some((_, body))) => body.extend(packet.body),
            (None, None) => {
                return self.stranger(format!("a piece without a first one: {:x}", packet.number));
            }
        }
        if packet.last
            && let Some((head, body)) = self.message.take()
        {
            self.deliver(Some(head), body, packet.number, true, Some(rider));
        }
    }

    fn deliver(
        &mut self,
        head: Option<Head>,
        body: Vec<u8>,
        number: u64,
        numbered: bool,
        rider: Option<Rider>,
    ) {
        let Some(Head { op, .. }) = head else {
            return self.stranger(format!("a piece outside the stream, number {number:x}"));
        };
        if op == op::ACK {
            return;
        }
        let message = Incoming { op, body, number, numbered, rider };
        if numbered && let Some((xid, ..)) = message.result() {
            self.unanswered.remove(&xid);
        }
        self.inbox.push_back(message);
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

    /// As [`Extended::try_wait`] with the session's patience.
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

    /// Takes what comes for so long.
    pub fn listen(&mut self, time: Duration) {
        let _ = self.try_wait(time, |_| None::<()>);
    }

    /// Waits until all of [`Extended::lose`] came, and was lost.
    ///
    /// # Panics
    /// When that takes longer than the session's patience.
    #[track_caller]
    pub fn await_loss(&mut self) {
        let deadline = Instant::now() + self.patience;
        while !self.lose.is_empty() {
            assert!(self.receive(deadline), "{:x?} did not come; {}", self.lose, self.what_came());
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
        self.call_raw(request.op(), &request.encode())
    }

    /// Sends a request of any operation and body and waits for its reply.
    #[track_caller]
    pub fn call_raw(&mut self, op: i32, body: &[u8]) -> Reply {
        let xid = self.request_raw(op, body);
        self.wait(&format!("reply to {} xid {xid:x}", op::name(op)), |inbox| take_reply(inbox, xid))
    }

    /// Waits for the next event.
    #[track_caller]
    pub fn event(&mut self) -> Event {
        let body = self.wait("event", take_event);
        read_event(&body)
    }

    /// Events that came so far; what the server sent before is seen.
    #[track_caller]
    pub fn events_so_far(&mut self) -> Vec<Event> {
        self.settle();
        std::iter::from_fn(|| take_event(&mut self.inbox)).map(|body| read_event(&body)).collect()
    }
}

/// A hint to resume has the xid of a request, and answers it not.
fn take_reply(inbox: &mut VecDeque<Incoming>, xid: u64) -> Option<Reply> {
    let answers = |message: &Incoming| {
        message
            .result()
            .is_some_and(|(of, code, rest)| of == xid && (code != code::CHALLENGE || !rest.is_empty()))
    };
    let message = inbox.remove(inbox.iter().position(answers)?)?;
    let (_, code, rest) = message.result()?;
    Some(Reply { code, rest: rest.to_vec(), message })
}

fn take_event(inbox: &mut VecDeque<Incoming>) -> Option<Vec<u8>> {
    let at = inbox.iter().position(|message| message.op == op::EVENT)?;
    inbox.remove(at).map(|message| message.body)
}

#[track_caller]
fn read_event(body: &[u8]) -> Event {
    let mut reader = Reader(body);
    match Event::read(&mut reader) {
        Ok(event) if reader.0.is_empty() => event,
        other => panic!("{other:?} of {body:x?}"),
    }
}
