//! A session without a world: the test plays the server, packet by packet.

use cldc_core::session::{Config, Handle, Rejected};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::MAX_PACKET;
use cldc_core::wire::{Answer, Code, EventMask, Op, OpenMode, Packet, Part};

use super::client::{Client, Told};
use super::name_space::{Body, done, emit};
use super::peer::{SECRET, USER, packet};
use super::world::server;

/// A packet that the session has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) part: Part,
    pub(crate) number: u64,
    pub(crate) piece: Vec<u8>,
}

impl Sent {
    pub(crate) fn xid(&self) -> u64 {
        match self.part {
            Part::Only { xid, .. } | Part::First { xid, .. } => xid,
            other => panic!("{other:?} names no message"),
        }
    }

    pub(crate) fn is_ack(&self) -> bool {
        self.part.op() == Some(Op::Ack)
    }
}

pub(crate) struct Bare<C> {
    pub(crate) session: Box<C>,
    pub(crate) now: Instant,
    /// The number of the server's next packet.
    pub(crate) next: u64,
}

impl<C: Client> Bare<C> {
    /// A session whose NEW_SESS has not been sent.
    pub(crate) fn new() -> Self {
        let servers = [server(0)];
        let now = Instant::from_micros(1_000_000);
        let session = C::begin(&Config::new(USER, SECRET, &servers, [9; 32]), now);
        Self { session, now, next: u64::MAX }
    }

    /// A session that is open; the server's numbers begin with `first`.
    pub(crate) fn connected(first: u64) -> Self {
        let mut bare = Self::new();
        bare.next = first;
        let greeting = bare.only_sent();
        bare.say(done(Op::NewSess, greeting.xid(), Code::Ok)).unwrap();
        assert_eq!(bare.told(), [Told::Connected]);
        assert_eq!(bare.acks(), [first]);
        bare
    }

    /// An open handle.
    pub(crate) fn open(&mut self, fh: u64) -> Handle {
        let mode = OpenMode::READ | OpenMode::WRITE | OpenMode::LOCK;
        self.session.open(self.now, b"/file", mode, EventMask::NONE).unwrap();
        let request = self.only_sent();
        self.say(emit(Answer::Opened { xid: request.xid(), fh })).unwrap();
        self.told();
        self.acks();
        Handle(fh)
    }

    pub(crate) fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        self.session.handle_timeout(self.now);
    }

    /// Everything that the session sends now.
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        let mut buffer = [0; MAX_PACKET];
        let mut sent = Vec::new();
        while let Some(transmit) = self.session.poll_transmit(self.now, &mut buffer) {
            let packet = Packet::parse(&buffer[..transmit.len]).unwrap();
            sent.push(Sent { part: packet.part, number: packet.number, piece: packet.piece.to_vec() });
            assert!(sent.len() < 10_000, "it sends without end");
        }
        sent
    }

    pub(crate) fn only_sent(&mut self) -> Sent {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent[0].clone()
    }

    /// The numbers acknowledged now; nothing else may be sent.
    pub(crate) fn acks(&mut self) -> Vec<u64> {
        let sent = self.sent();
        assert!(sent.iter().all(Sent::is_ack), "{sent:?}");
        sent.iter().map(|ack| ack.number).collect()
    }

    /// Everything that the session tells now.
    pub(crate) fn told(&mut self) -> Vec<Told> {
        std::iter::from_fn(|| self.session.event()).collect()
    }

    pub(crate) fn receive(&mut self, datagram: &[u8]) -> Result<(), Rejected> {
        self.session.handle_datagram(self.now, server(0), datagram)
    }

    /// The server sends a message in one packet, with the next number.
    pub(crate) fn say(&mut self, body: Body) -> Result<(), Rejected> {
        let number = self.next;
        self.next = number.wrapping_add(1);
        self.say_at(number, body)
    }

    /// The server sends a message in one packet, with this number, which also names it.
    pub(crate) fn say_at(&mut self, number: u64, body: Body) -> Result<(), Rejected> {
        self.say_named(number, number, body)
    }

    /// The server sends a message of this name in one packet, with this number.
    pub(crate) fn say_named(&mut self, xid: u64, number: u64, (op, body): Body) -> Result<(), Rejected> {
        let datagram = packet(self.session.id(), Part::Only { xid, op }, number, &body);
        self.receive(&datagram)
    }
}
