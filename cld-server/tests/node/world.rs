//! A node with a simulated disk, a network and clients, in simulated time.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU64;

use cld_server::database::{Database, Snapshot};
use cld_server::endpoint::{SocketId, Transmit};
use cld_server::keys::Keys;
use cld_server::node::{Clock, DiskDone, DiskJob, Node, NodeConfig, Start};
use cld_server::storage::{
    Configuration, HardState, Identity, LogImage, LogPosition, SnapshotPoint, SnapshotRecord,
};
use cld_server::versions::SUPPORTED;
use cldc_core::rng::Rng;
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::MAX_PACKET;
use cldc_core::wire::{Answer, Code, EventMask, Key, LockFlags, Op, OpenMode, Packet, Part, Request, Writer};

use crate::extended_peer::{Extended, Said};
use crate::peer::{Peer, Told};

pub(crate) const SOCKET: SocketId = SocketId(0);

/// What the network does to datagrams, in both directions, in per cent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    /// Each datagram takes up to so long.
    pub(crate) delay: Duration,
}

/// What is durable.
#[derive(Debug)]
struct Durable {
    image: LogImage,
    snapshot: Vec<u8>,
    files: BTreeMap<u64, Vec<u8>>,
}

#[derive(Debug)]
struct Flight {
    to_server: bool,
    addr: SocketAddr,
    datagram: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) config: NodeConfig,
    pub(crate) now: Instant,
    pub(crate) wall: u64,
    pub(crate) peers: Vec<Peer>,
    pub(crate) extended: Vec<Extended>,
    pub(crate) faults: Faults,
    /// How long a disk job takes; none ends while this is `None`.
    pub(crate) disk_latency: Option<Duration>,
    /// Every datagram that the server sent, with the time.
    pub(crate) sent: Vec<(Instant, SocketAddr, Vec<u8>)>,
    /// Every datagram that reached the server.
    pub(crate) recorded: Vec<(SocketAddr, Vec<u8>)>,
    /// Whether the peers hear what is sent to them.
    pub(crate) deaf: bool,
    pub(crate) entries_at_start: usize,
    durable: Durable,
    disk: VecDeque<(Instant, DiskJob)>,
    flights: BTreeMap<(Instant, u64), Flight>,
    flown: u64,
    rng: Rng,
    boots: u8,
}

/// A packet of the server.
#[derive(Clone, Debug)]
pub(crate) struct SentPacket {
    pub(crate) number: u64,
    pub(crate) op: Option<Op>,
    /// If it carries a result: the operation, the request, and the code.
    pub(crate) answer: Option<(Op, u64, Code)>,
}

fn identity() -> Identity {
    Identity { node: NonZeroU64::new(7).unwrap(), cell: 1 }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(NodeConfig::default())
    }

    pub(crate) fn with(config: NodeConfig) -> Self {
        let at = LogPosition { index: 1, term: 1 };
        let configuration = Configuration::of_voters([7]);
        let image = LogImage {
            hard_state: HardState { term: 1, vote: 0, commit: 1 },
            base: SnapshotPoint { at, configuration },
            file: None,
            start: at,
            entries: Vec::new(),
        };
        let durable = Durable { image, snapshot: Vec::new(), files: BTreeMap::new() };
        let clock = Clock { now: Instant::from_micros(1_000_000), wall: 1_700_000_000 };
        let mut world = Self {
            node: start(&config, &durable, clock, 1),
            config,
            now: clock.now,
            wall: clock.wall,
            peers: Vec::new(),
            extended: Vec::new(),
            faults: Faults::default(),
            disk_latency: Some(Duration::from_millis(1)),
            sent: Vec::new(),
            recorded: Vec::new(),
            deaf: false,
            entries_at_start: 0,
            durable,
            disk: VecDeque::new(),
            flights: BTreeMap::new(),
            flown: 0,
            rng: Rng::new([9; 32]),
            boots: 1,
        };
        world.run(Duration::from_millis(100));
        assert!(world.node.serves());
        world.entries_at_start = world.entries();
        world
    }

    pub(crate) fn seed(&mut self, seed: u64) {
        let mut bytes = [3; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        self.rng = Rng::new(bytes);
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock { now: self.now, wall: self.wall }
    }

    /// The server dies, with all that is not durable, and is started again.
    pub(crate) fn crash(&mut self) {
        self.disk.clear();
        self.boots += 1;
        self.node = start(&self.config, &self.durable, self.clock(), self.boots);
        self.drain();
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.rng.next_u64() % below
    }

    /// Adds a client and opens its session.
    pub(crate) fn join(&mut self, sid: u64) -> usize {
        let at = self.add(sid);
        let xid = self.send(at, &Request::NewSess { extension: &[] });
        self.run(Duration::from_millis(20));
        assert_eq!(self.peers[at].code(xid), Some(Code::Ok));
        at
    }

    pub(crate) fn add(&mut self, sid: u64) -> usize {
        let port = 10_000 + u16::try_from(self.peers.len()).unwrap();
        self.peers.push(Peer::new(sid, "tester", port));
        let last = self.peers.len() - 1;
        self.peers[last].tick_at = Some(self.now + Duration::from_secs(5));
        last
    }

    /// Adds a client and opens its extended session.
    pub(crate) fn extend(&mut self, sid: u64) -> usize {
        let at = self.add_extended(sid);
        self.greet(at);
        assert!(self.extended[at].welcome.is_some());
        at
    }

    pub(crate) fn add_extended(&mut self, sid: u64) -> usize {
        let port = 20_000 + u16::try_from(self.extended.len()).unwrap();
        let mut peer = Extended::new(sid, "tester", port);
        peer.tick_at = Some(self.now + Duration::from_millis(300));
        self.extended.push(peer);
        self.extended.len() - 1
    }

    pub(crate) fn greet(&mut self, at: usize) {
        let packet = self.extended[at].new_sess();
        self.inject(self.extended[at].addr, packet);
        self.run(Duration::from_millis(20));
    }

    /// A client of an extended session sends a request; its xid.
    pub(crate) fn ask(&mut self, at: usize, request: &Request<'_>) -> u64 {
        let (xid, packets) = self.extended[at].request(request);
        for datagram in packets {
            self.inject(self.extended[at].addr, datagram);
        }
        xid
    }

    /// A client of an extended session sends a request, and gets its answer.
    pub(crate) fn answer(&mut self, at: usize, request: &Request<'_>) -> Said {
        let xid = self.ask(at, request);
        self.run(Duration::from_millis(50));
        let answers = self.extended[at].answers(xid);
        assert_eq!(answers.len(), 1, "{request:?}");
        answers[0].clone()
    }

    /// The same, when only the code matters.
    pub(crate) fn says(&mut self, at: usize, request: &Request<'_>) -> Code {
        self.answer(at, request).code
    }

    /// A client of an extended session opens a file.
    pub(crate) fn handle(&mut self, at: usize, path: &[u8], events: EventMask) -> u64 {
        let mode = OpenMode::READ | OpenMode::WRITE | OpenMode::LOCK | OpenMode::CREATE;
        let said = self.answer(at, &Request::Open { mode, events, path });
        match Answer::parse(said.op, &said.body) {
            Ok(Answer::Opened { fh, .. }) => fh,
            other => panic!("{other:?}"),
        }
    }

    /// A request of an extended session in a packet without an acknowledgement.
    pub(crate) fn peer_packet(&self, at: usize, request: &Request<'_>) -> Vec<u8> {
        let peer = &self.extended[at];
        let mut buffer = [0; 1024];
        let mut out = Writer::new(&mut buffer);
        request.emit(&mut out).unwrap();
        peer.emit(None, Part::Only { xid: peer.next_xid, op: request.op() }, peer.next, out.written())
    }

    /// A client resumes its session.
    pub(crate) fn resume(&mut self, at: usize) {
        let number = self.rng.next_u64() >> 1;
        let packet = self.extended[at].resume(number);
        self.inject(self.extended[at].addr, packet);
        self.run(Duration::from_millis(50));
    }

    /// A client sends a request; its xid.
    pub(crate) fn send(&mut self, peer: usize, request: &Request<'_>) -> u64 {
        let (xid, packets) = self.peers[peer].request(request);
        let addr = self.peers[peer].addr;
        for datagram in packets {
            self.fly(true, addr, datagram);
        }
        xid
    }

    /// A datagram for the server.
    pub(crate) fn inject(&mut self, from: SocketAddr, datagram: Vec<u8>) {
        self.fly(true, from, datagram);
    }

    /// A client sends a request, and gets its answer.
    pub(crate) fn call(&mut self, peer: usize, request: &Request<'_>) -> Told {
        let xid = self.send(peer, request);
        self.run(Duration::from_millis(50));
        self.peers[peer].answer(xid).unwrap_or_else(|| panic!("no answer to {request:?}")).clone()
    }

    pub(crate) fn code(&mut self, peer: usize, request: &Request<'_>) -> Code {
        match self.call(peer, request) {
            Told::Done { code, .. } => code,
            _ => Code::Ok,
        }
    }

    /// A client sends a request and waits so many seconds for its result.
    pub(crate) fn code_within(&mut self, peer: usize, request: &Request<'_>, seconds: u64) -> Code {
        let xid = self.send(peer, request);
        self.run(Duration::from_secs(seconds));
        self.peers[peer].code(xid).unwrap_or_else(|| panic!("no answer to {request:?}"))
    }

    pub(crate) fn open(&mut self, peer: usize, path: &[u8], events: EventMask) -> u64 {
        let mode = OpenMode::READ | OpenMode::WRITE | OpenMode::LOCK | OpenMode::CREATE;
        match self.call(peer, &Request::Open { mode, events, path }) {
            Told::Opened { fh, .. } => fh,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn put(&mut self, peer: usize, fh: u64, data: &[u8]) -> Code {
        self.code(peer, &Request::Put { fh, data })
    }

    pub(crate) fn get(&mut self, peer: usize, fh: u64) -> Vec<u8> {
        match self.call(peer, &Request::Get { fh }) {
            Told::Contents { data, .. } => data,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn lock(&mut self, peer: usize, fh: u64) -> Code {
        self.code(peer, &Request::Lock { fh, flags: LockFlags::NONE, wait: true })
    }

    pub(crate) fn unlock(&mut self, peer: usize, fh: u64) -> Code {
        self.code(peer, &Request::Unlock { fh })
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.drain();
        while let Some(next) = self.next_event().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.step();
            self.drain();
        }
        self.now = end;
    }

    fn next_event(&self) -> Option<Instant> {
        let disk = self.disk.front().filter(|_| self.disk_latency.is_some()).map(|&(at, _)| at);
        let flight = self.flights.first_key_value().map(|(&(at, _), _)| at);
        let ticks = self.peers.iter().filter_map(|peer| peer.tick_at).min();
        let extended = self.extended.iter().filter_map(|peer| peer.tick_at).min();
        [disk, flight, ticks, extended, self.node.poll_timeout()].into_iter().flatten().min()
    }

    /// Does one thing that is due.
    fn step(&mut self) {
        let now = self.now;
        if let Some(flight) = self.flights.first_entry().filter(|entry| entry.key().0 <= now) {
            let flight = flight.remove();
            return self.land(flight);
        }
        if self.disk_latency.is_some() && self.disk.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, job)) = self.disk.pop_front() else { return };
            let done = self.durable.perform(job);
            return self.node.handle_disk(self.clock(), done);
        }
        for at in 0..self.peers.len() {
            if self.peers[at].tick_at.is_some_and(|tick| tick <= now) {
                let (addr, dead) = (self.peers[at].addr, self.peers[at].dead);
                for datagram in self.peers[at].resends(now) {
                    if !dead {
                        self.fly(true, addr, datagram);
                    }
                }
                return;
            }
        }
        for at in 0..self.extended.len() {
            if self.extended[at].tick_at.is_some_and(|tick| tick <= now) {
                let (addr, dead) = (self.extended[at].addr, self.extended[at].dead);
                for datagram in self.extended[at].resends(now) {
                    if !dead {
                        self.fly(true, addr, datagram);
                    }
                }
                return;
            }
        }
        self.node.handle_timeout(self.clock());
        let again = self.node.poll_timeout().is_some_and(|at| at <= now);
        self.drain();
        assert!(
            !again || self.node.poll_timeout().is_some_and(|at| at > now),
            "a deadline that does not pass"
        );
    }

    fn land(&mut self, flight: Flight) {
        if flight.to_server {
            self.recorded.push((flight.addr, flight.datagram.clone()));
            return self.node.handle_datagram(self.clock(), SOCKET, flight.addr, &flight.datagram);
        }
        if self.deaf {
            return;
        }
        if let Some(peer) = self.extended.iter_mut().find(|peer| peer.addr == flight.addr && !peer.dead) {
            let addr = peer.addr;
            for datagram in peer.receive(&flight.datagram) {
                self.fly(true, addr, datagram);
            }
            return;
        }
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.addr == flight.addr) else { return };
        if peer.dead {
            return;
        }
        let addr = peer.addr;
        for ack in peer.receive(&flight.datagram) {
            self.fly(true, addr, ack);
        }
    }

    /// Takes out all that the node has to do.
    fn drain(&mut self) {
        while let Some(job) = self.node.poll_disk() {
            self.disk.push_back((self.now + self.disk_latency.unwrap_or(Duration::ZERO), job));
        }
        let mut buffer = [0; MAX_PACKET];
        while let Some(Transmit { via, to, len }) = self.node.poll_transmit(self.clock(), &mut buffer) {
            assert_eq!(via, SOCKET);
            let datagram = buffer[..len].to_vec();
            self.sent.push((self.now, to, datagram.clone()));
            self.fly(false, to, datagram);
        }
    }

    fn fly(&mut self, to_server: bool, addr: SocketAddr, datagram: Vec<u8>) {
        let copies = match (self.random(100) < self.faults.loss, self.random(100) < self.faults.duplicates) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        for _ in 0..copies {
            let delay = self.random(self.faults.delay.as_micros() + 1);
            self.flown += 1;
            let at = self.now + Duration::from_micros(delay);
            self.flights.insert((at, self.flown), Flight { to_server, addr, datagram: datagram.clone() });
        }
    }

    /// What the server sent, taken apart.
    pub(crate) fn sent_packets(&self) -> Vec<SentPacket> {
        let sent = self.sent.iter().map(|(_, _, datagram)| {
            let packet = Packet::parse(datagram).unwrap();
            packet.verify(&Key::new(packet.user).unwrap()).unwrap();
            let op = packet.part.op();
            let answer = op.and_then(|op| match Answer::parse(op, packet.piece) {
                Ok(Answer::Done { op, xid, code }) => Some((op, xid, code)),
                _ => None,
            });
            SentPacket { number: packet.number, op, answer }
        });
        sent.collect()
    }

    /// The disk fails.
    pub(crate) fn fail_disk(&mut self, what: &str) {
        self.disk.clear();
        self.node.handle_disk(self.clock(), DiskDone::Failed { what: what.into() });
    }

    /// How many entries the log has beyond its start.
    pub(crate) fn entries(&self) -> usize {
        self.durable.image.entries.len()
    }
}

impl Durable {
    fn perform(&mut self, job: DiskJob) -> DiskDone {
        match job {
            DiskJob::Append { ticket, write } => {
                for entry in write.entries {
                    self.image.entries.retain(|old| old.at.index < entry.at.index);
                    self.image.entries.push(entry);
                }
                self.image.hard_state = write.hard_state;
                DiskDone::Appended { ticket }
            }
            DiskJob::Snapshot { point, database } => {
                let bytes: Vec<u8> = Snapshot::encode(&database).flatten().collect();
                let record = SnapshotRecord { point, length: bytes.len() as u64, checksum: 0 };
                self.files.insert(record.point.at.index, bytes);
                DiskDone::SnapshotWritten { record }
            }
            DiskJob::RecordSnapshot { record, trim_through } => {
                // The log may be trimmed in several steps.
                if let Some(file) = self.files.remove(&record.point.at.index) {
                    self.snapshot = file;
                }
                assert!(!self.snapshot.is_empty(), "the snapshot was not written");
                self.image.base = record.point.clone();
                self.image.file = Some(record.file());
                let last = self
                    .image
                    .entries
                    .iter()
                    .find(|entry| entry.at.index == trim_through)
                    .map(|entry| entry.at);
                self.image.start = last.unwrap_or(self.image.start);
                self.image.entries.retain(|entry| entry.at.index > trim_through);
                DiskDone::SnapshotRecorded { record, trim_through }
            }
            DiskJob::RemoveSnapshots { before } => {
                self.files.retain(|&index, _| index >= before);
                DiskDone::Noted
            }
            other => panic!("there is no other server: {other:?}"),
        }
    }
}

fn start(config: &NodeConfig, durable: &Durable, clock: Clock, boot: u8) -> Node {
    let database = match durable.snapshot.as_slice() {
        [] => Database::new(),
        bytes => Snapshot::decode(bytes, SUPPORTED).unwrap(),
    };
    let mut config = config.clone();
    config.seed = [boot; 32];
    config.sockets = vec![(SOCKET, SocketAddr::from(([0, 0, 0, 0], 8081)))];
    let start = Start { identity: identity(), log: durable.image.clone(), database };
    Node::new(config, Keys::UserAsKey, start, clock).unwrap()
}
