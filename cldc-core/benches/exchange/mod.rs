//! One request and its answer through a session, in parts, so that only the client's parts are measured.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use cldc_core::session::{Config, Event, FullSession, Handle, Outcome};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::{MAX_MESSAGE, MAX_PACKET, PIECE};
use cldc_core::wire::{Answer, Code, EventMask, Key, Metadata, Op, OpenMode, Packet, Part, Seal, Writer};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
const USER: &[u8] = b"tester";
const HANDLE: Handle = Handle(2);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Nop,
    /// A file of so many bytes.
    Get(usize),
    Put(usize),
}

/// All that is measured, with its names.
pub(crate) const KINDS: [(&str, Kind); 5] = [
    ("nop", Kind::Nop),
    ("get of 64 bytes", Kind::Get(64)),
    ("put of 64 bytes", Kind::Put(64)),
    ("get of 128 KiB", Kind::Get(131_072)),
    ("put of 128 KiB", Kind::Put(131_072)),
];

/// A session that is open, with a file open in it.
pub(crate) struct Exchange {
    kind: Kind,
    session: Box<FullSession>,
    key: Key,
    now: Instant,
    next: u64,
    contents: Vec<u8>,
    /// What the client has sent in the last exchange, ACKs included, and what the server has sent.
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) received: Vec<Vec<u8>>,
}

impl Exchange {
    pub(crate) fn new(kind: Kind) -> Self {
        let now = Instant::from_micros(1);
        let config = Config::new(USER, USER, &[SERVER], [1; 32]);
        let session = Box::new(FullSession::new(&config, now).unwrap());
        let len = if let Kind::Get(len) | Kind::Put(len) = kind { len } else { 0 };
        let mut exchange = Self {
            kind,
            session,
            key: Key::new(USER).unwrap(),
            now,
            next: 1,
            contents: vec![7; len],
            sent: Vec::new(),
            received: Vec::new(),
        };
        exchange.client_sends();
        exchange.server_answers();
        exchange.client_takes();
        exchange.session.open(now, b"/file", OpenMode::READ | OpenMode::WRITE, EventMask::NONE).unwrap();
        exchange.client_sends();
        exchange.server_answers();
        exchange.client_takes();
        exchange
    }

    /// The client's first part: the call, and its packets.
    #[inline(never)]
    pub(crate) fn client_asks(&mut self) {
        self.sent.clear();
        match self.kind {
            Kind::Nop => self.session.nop(self.now),
            Kind::Get(_) => self.session.get(self.now, HANDLE),
            Kind::Put(_) => self.session.put(self.now, HANDLE, &self.contents),
        }
        .unwrap();
        self.client_sends();
    }

    fn client_sends(&mut self) {
        let mut buffer = [0; MAX_PACKET];
        loop {
            while let Some(transmit) = self.session.poll_transmit(self.now, &mut buffer) {
                self.sent.push(buffer[..transmit.len].to_vec());
            }
            // A burst may be over, and more of it to come a little later.
            match self.session.poll_timeout() {
                Some(at) if at < self.now + Duration::from_millis(10) => self.now = at,
                _ => return,
            }
        }
    }

    /// The server's part: an answer to the last request.
    pub(crate) fn server_answers(&mut self) {
        let asked = self.sent.iter().rev().map(|sent| Packet::parse(sent).unwrap());
        let mut starts = asked.filter_map(|packet| match packet.part {
            Part::Only { xid, op } | Part::First { xid, op } if op != Op::Ack => Some((packet.sid, xid, op)),
            _ => None,
        });
        let (sid, xid, op) = starts.next().unwrap();
        let metadata = Metadata::default();
        let answer = match op {
            Op::Open => Answer::Opened { xid, fh: HANDLE.0 },
            Op::Get => Answer::Contents { xid, metadata, path: b"/file", data: &self.contents },
            _ => Answer::Done { op, xid, code: Code::Ok },
        };
        let mut body = vec![0; MAX_MESSAGE];
        let mut out = Writer::new(&mut body);
        answer.emit(&mut out).unwrap();
        let pieces: Vec<&[u8]> = out.written().chunks(PIECE).collect();
        self.received.clear();
        for (index, piece) in pieces.iter().enumerate() {
            let part = match (index == 0, index + 1 == pieces.len()) {
                (true, true) => Part::Only { xid: 1, op },
                (true, false) => Part::First { xid: 1, op },
                (false, false) => Part::Middle,
                (false, true) => Part::Last,
            };
            let mut buffer = [0; MAX_PACKET];
            let len =
                Seal { sid, user: USER, key: &self.key }.emit(part, self.next, piece, &mut buffer).unwrap();
            self.received.push(buffer[..len].to_vec());
            self.next += 1;
        }
    }

    /// The client's second part: the answer's packets, its event, and the ACKs.
    #[inline(never)]
    pub(crate) fn client_takes(&mut self) {
        for datagram in &self.received {
            self.session.handle_datagram(self.now, SERVER, datagram).unwrap();
        }
        while let Some(event) = self.session.poll_event() {
            if let Event::Done { result, .. } = event {
                match result.unwrap() {
                    Outcome::Contents { data, .. } => assert_eq!(data.len(), self.contents.len()),
                    other => drop(black_box(other)),
                }
            }
        }
        self.client_sends();
    }

    /// Everything that has been signed or verified in the last exchange.
    pub(crate) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.sent.iter().chain(&self.received).map(Vec::as_slice)
    }
}
