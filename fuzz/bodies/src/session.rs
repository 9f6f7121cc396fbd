//! A session: whatever comes in, signed or not, between calls and jumps in time, it neither panics nor runs without end.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use cldc_core::session::{Config, Event, Handle, RequestId, SmallSession};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::{MAX_PACKET, PIECE};
use cldc_core::wire::{Answer, Code, EventMask, Key, LockFlags, Op, OpenMode, Packet, Part, Seal, Writer};

const USER: &[u8] = b"fuzz";
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// More than this without anything coming in, or at one point in time, is without end.
const ENDLESS: usize = 2_000;

/// The input is a list of actions, each a byte and what it needs.
pub fn session(data: &[u8]) {
    let key = Key::new(USER).expect("the key is not empty");
    let now = Instant::from_micros(1_000_000);
    let config = Config::new(USER, USER, &[SERVER], [7; 32]);
    let session = SmallSession::new(&config, now).expect("the configuration is good");
    let mut run = Run {
        session: Box::new(session),
        key,
        now,
        next: u64::MAX - 3,
        asked: Vec::new(),
        called: BTreeSet::new(),
        is_over: false,
    };
    run.settle();
    let mut input = Input(data);
    while let Some(action) = input.byte() {
        run.act(action, &mut input);
    }
    run.settle();
}

struct Run {
    session: Box<SmallSession>,
    key: Key,
    now: Instant,
    /// The number of the server's next packet.
    next: u64,
    /// The requests that the session has sent: operation, xid and number.
    asked: Vec<(Op, u64, u64)>,
    /// The calls that are not answered.
    called: BTreeSet<RequestId>,
    is_over: bool,
}

impl Run {
    fn act(&mut self, action: u8, input: &mut Input<'_>) {
        match action % 8 {
            0 => self.wait(Duration::from_millis(u64::from(input.byte().unwrap_or(0)) << (action >> 4))),
            1 => self.settle(),
            2 => {
                let len = usize::from(input.byte().unwrap_or(0));
                let _ = self.session.handle_datagram(self.now, SERVER, input.bytes(len));
            }
            3 => self.answer(input),
            4 | 5 => self.packet(input, action & 0x80 != 0),
            _ => self.call(action, input),
        }
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        self.session.handle_timeout(self.now);
    }

    /// An answer that an honest server could give, in its turn.
    fn answer(&mut self, input: &mut Input<'_>) {
        let choice = usize::from(input.byte().unwrap_or(0));
        let Some(&(op, xid, _)) = self.asked.iter().rev().nth(choice) else { return };
        let code = Code::from_wire(i32::from(input.byte().unwrap_or(0) % 20));
        let fh = u64::from(input.byte().unwrap_or(0) % 6);
        let data = input.bytes(40);
        let answer = match (op, code) {
            (Op::Open, Code::Ok) => Answer::Opened { xid, fh },
            (Op::Get | Op::GetMeta, Code::Ok) => {
                Answer::Contents { xid, metadata: Default::default(), path: b"/a", data }
            }
            _ => Answer::Done { op, xid, code },
        };
        let mut body = [0; 512];
        let mut out = Writer::new(&mut body);
        answer.emit(&mut out).expect("a short answer fits");
        let number = self.next;
        self.send(Part::Only { xid: 1, op: answer.op() }, number, out.written(), false);
    }

    /// Any packet that is signed, near the place where the server is.
    fn packet(&mut self, input: &mut Input<'_>, is_shifted: bool) {
        let op = Op::from_wire(i32::from(input.byte().unwrap_or(0) % 20));
        let shape = input.byte().unwrap_or(0);
        let asked = self.asked.iter().rev().nth(usize::from(shape >> 4)).copied();
        let mut number = self.next.wrapping_add(u64::from(shape >> 2 & 3)).wrapping_sub(1);
        let xid = u64::from(shape);
        let part = match shape & 3 {
            0 => Part::Middle,
            1 => Part::First { xid, op },
            2 => Part::Last,
            _ => Part::Only { xid, op },
        };
        let len = usize::from(input.byte().unwrap_or(0)) * 5;
        let mut body = input.bytes(len.min(PIECE)).to_vec();
        // The xid of a request, and as a number outside the stream that of its packet.
        if let Some((_, xid, first)) = asked {
            if let Some(place) = body.get_mut(4..12) {
                place.copy_from_slice(&xid.to_be_bytes());
            }
            if is_shifted {
                number = first;
            }
        }
        self.send(part, number, &body, is_shifted);
    }

    fn send(&mut self, part: Part, number: u64, body: &[u8], is_shifted: bool) {
        let seal = Seal { sid: self.session.sid(), user: USER, key: &self.key };
        let mut buffer = [0; MAX_PACKET];
        let len = if is_shifted {
            seal.emit_shifted(part, number, body, [0x5a; 8], &mut buffer)
        } else {
            seal.emit(part, number, body, &mut buffer)
        };
        let datagram = buffer.get(..len.expect("a piece fits")).unwrap_or_default();
        let taken = self.session.handle_datagram(self.now, SERVER, datagram).is_ok();
        if taken && !is_shifted && number == self.next {
            self.next = self.next.wrapping_add(1);
        }
    }

    fn call(&mut self, action: u8, input: &mut Input<'_>) {
        let (now, session) = (self.now, &mut self.session);
        let handle = Handle(u64::from(action >> 5));
        let called = match input.byte().unwrap_or(0) % 12 {
            0 => session.open(now, b"/a", OpenMode::READ | OpenMode::LOCK, EventMask(15)),
            1 => session.close(now, handle),
            2 => session.get(now, handle),
            3 => session.get_meta(now, handle),
            4 => session.put(now, handle, &[1; 1024]),
            5 => session.put(now, handle, input.bytes(12)),
            6 => session.del(now, b"/a"),
            7 => session.lock(now, handle, LockFlags::NONE, true),
            8 => session.lock(now, handle, LockFlags::SHARED, false),
            9 => session.unlock(now, handle),
            10 => session.nop(now),
            _ if action > 0xf0 => {
                let _ = session.end(now);
                return;
            }
            _ => {
                if let Some(request) = self.called.pop_first() {
                    session.abandon(request);
                }
                return;
            }
        };
        if let Ok(request) = called {
            assert!(!self.is_over, "a call was taken after the end");
            assert!(self.called.insert(request), "two calls have one name");
        }
    }

    /// Drains, and does what is due, until the session wants to be called later, if at all.
    fn settle(&mut self) {
        for _ in 0..4 {
            self.drain();
            match self.session.poll_timeout() {
                Some(due) if due <= self.now => self.session.handle_timeout(self.now),
                _ => return,
            }
        }
        panic!("the timer at {:?} is always due", self.now);
    }

    fn drain(&mut self) {
        let mut count = 0;
        while let Some(event) = self.session.poll_event() {
            assert!(!self.is_over, "{event:?} after the end");
            match event {
                Event::Done { request, .. } => {
                    assert!(self.called.remove(&request), "an answer to no call");
                }
                Event::Ended(_) => self.is_over = true,
                _ => {}
            }
            count += 1;
            assert!(count < ENDLESS, "events without end");
        }
        if self.is_over {
            assert!(self.called.is_empty(), "calls are not answered at the end");
        }
        let mut buffer = [0; MAX_PACKET];
        while let Some(transmit) = self.session.poll_transmit(self.now, &mut buffer) {
            let packet = buffer.get(..transmit.len).and_then(|sent| Packet::parse(sent).ok());
            let packet = packet.expect("own packets decode");
            assert_eq!(packet.verify(&self.key), Ok(()));
            if let (Part::Only { xid, op } | Part::First { xid, op }, false) =
                (packet.part, packet.part.op() == Some(Op::Ack))
            {
                self.asked.push((op, xid, packet.number));
            }
            count += 1;
            assert!(count < ENDLESS, "datagrams without end");
        }
        let surplus = self.asked.len().saturating_sub(64);
        self.asked.drain(..surplus);
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
