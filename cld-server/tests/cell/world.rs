//! Servers, disks, clocks, links and clients; all that happens follows from a seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU64;

use cld_server::database::Database;
use cld_server::endpoint::SocketId;
use cld_server::keys::Keys;
use cld_server::node::{Clock, DiskJob, Event, Node, NodeConfig, Start};
use cld_server::peer::frame::Frame;
use cld_server::replica::StartError;
use cld_server::storage::{Addresses, Configuration, Identity, Member};
use cld_server::versions::Versions;
use cldc_core::rng::Rng;
use cldc_core::session::{CallError, Handle, RequestId};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::MAX_PACKET;
use cldc_core::wire::{Code, EventMask, LockFlags, OpenMode};

use crate::client::{Client, Got, TestSession};
use crate::disk::Disk;
use crate::{ms, secs};

pub(crate) const SOCKET: SocketId = SocketId(3);

/// What the network does, in per cent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// To datagrams of clients.
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    /// To messages between servers. Links are in order all the same.
    pub(crate) peer_loss: u64,
    /// Up to so many microseconds each.
    pub(crate) delay: u64,
}

pub(crate) struct Server {
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    /// The versions of the cell that its program can apply.
    pub(crate) can: Versions,
    jobs: VecDeque<(u64, DiskJob)>,
    /// Its clock: what it shows at the beginning, and how much too fast it is, in millionths.
    offset: u64,
    drift: i64,
    /// It stands still until then.
    pub(crate) paused: u64,
    boots: u8,
    pub(crate) events: Vec<Event>,
    /// Why it stopped for good, as its state was wrong.
    pub(crate) stopped: Option<String>,
}

enum Flight {
    ToServer { server: u64, from: SocketAddr, datagram: Vec<u8> },
    ToClient { from: SocketAddr, to: SocketAddr, datagram: Vec<u8> },
    Peer { from: u64, to: u64, link: u64, frame: Vec<u8> },
}

pub(crate) struct World {
    seed: u64,
    /// Microseconds since the beginning.
    pub(crate) now: u64,
    pub(crate) servers: BTreeMap<u64, Server>,
    pub(crate) clients: Vec<Client>,
    pub(crate) faults: Faults,
    pub(crate) config: NodeConfig,
    /// What the configuration of each says of users; where nothing stands, everybody is let in.
    pub(crate) keys: BTreeMap<u64, Keys>,
    pub(crate) disk_latency: u64,
    /// How much longer it takes to verify and decode a snapshot of another server.
    pub(crate) decode_latency: u64,
    /// Servers that hear nothing of each other.
    cut: BTreeSet<(u64, u64)>,
    /// Clients and the servers that they cannot reach.
    pub(crate) unreachable: BTreeSet<(usize, u64)>,
    /// Whether these hear nothing of them, either.
    pub(crate) deafens: bool,
    /// Each link's number, which changes when it is made anew, and when its last frame arrives.
    links: BTreeMap<(u64, u64), (u64, u64)>,
    flights: BTreeMap<(u64, u64), Flight>,
    flown: u64,
    rng: Rng,
}

pub(crate) fn server_addr(id: u64) -> SocketAddr {
    SocketAddr::from(([192, 168, 0, u8::try_from(id).unwrap()], 8081))
}

fn addresses(id: u64) -> Addresses {
    let peer = SocketAddr::from(([192, 168, 0, u8::try_from(id).unwrap()], 9000));
    Addresses { peer: Some(peer), client: Some(server_addr(id)) }
}

impl World {
    /// A cell of so many servers, one of which serves.
    pub(crate) fn new(seed: u64, size: u64) -> Self {
        Self::with(seed, size, NodeConfig::default())
    }

    pub(crate) fn with(seed: u64, size: u64, config: NodeConfig) -> Self {
        Self::with_keys(seed, size, config, BTreeMap::new())
    }

    pub(crate) fn with_keys(seed: u64, size: u64, config: NodeConfig, keys: BTreeMap<u64, Keys>) -> Self {
        let mut bytes = [5; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let mut world = Self {
            seed,
            now: 1_000_000,
            servers: BTreeMap::new(),
            clients: Vec::new(),
            faults: Faults { delay: 500, ..Faults::default() },
            config,
            keys,
            disk_latency: 1000,
            decode_latency: 0,
            cut: BTreeSet::new(),
            unreachable: BTreeSet::new(),
            deafens: false,
            links: BTreeMap::new(),
            flights: BTreeMap::new(),
            flown: 0,
            rng: Rng::new(bytes),
        };
        let member = |id| (id, Member { votes: true, addresses: addresses(id) });
        let configuration = Configuration { members: (1..=size).map(member).collect(), removed: Vec::new() };
        for id in 1..=size {
            world.add(id, Disk::of_cell(configuration.clone()));
        }
        world.await_master(secs(10));
        world
    }

    /// Adds a server that waits to be made a member.
    pub(crate) fn add_newcomer(&mut self, id: u64) -> Addresses {
        self.add(id, Disk::of_newcomer());
        addresses(id)
    }

    fn add(&mut self, id: u64, disk: Disk) {
        let offset = self.random(1 << 30);
        let server = Server {
            node: None,
            disk,
            can: self.config.versions,
            jobs: VecDeque::new(),
            offset,
            drift: 0,
            paused: 0,
            boots: 0,
            events: Vec::new(),
            stopped: None,
        };
        self.servers.insert(id, server);
        self.start(id);
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.rng.next_u64() % below.max(1)
    }

    /// Lets the servers' clocks go wrong by up to so many millionths.
    pub(crate) fn drift(&mut self, ppm: u64) {
        for id in self.ids() {
            let drift = i64::try_from(self.random(2 * ppm + 1)).unwrap() - i64::try_from(ppm).unwrap();
            let now = self.now;
            let server = self.server(id);
            let before = server.clock(now).now.as_micros();
            server.drift = drift;
            // The rate changes, what it shows does not go back.
            server.offset += before.saturating_sub(server.clock(now).now.as_micros());
        }
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.servers.keys().copied().collect()
    }

    pub(crate) fn server(&mut self, id: u64) -> &mut Server {
        self.servers.get_mut(&id).unwrap()
    }

    pub(crate) fn node(&mut self, id: u64) -> &mut Node {
        self.server(id).node.as_mut().unwrap()
    }

    /// A server, if it is up.
    pub(crate) fn node_ref(&self, id: u64) -> Option<&Node> {
        self.servers.get(&id)?.node.as_ref()
    }

    pub(crate) fn clock(&self, id: u64) -> Clock {
        self.servers[&id].clock(self.now)
    }

    /// The servers that are up.
    pub(crate) fn up(&self) -> Vec<u64> {
        self.servers.iter().filter(|(_, server)| server.node.is_some()).map(|(&id, _)| id).collect()
    }

    /// The server that serves, of several that think so the one with the newest epoch.
    pub(crate) fn master(&self) -> Option<u64> {
        let serving = self.servers.iter().filter_map(|(&id, server)| {
            let node = server.node.as_ref().filter(|node| node.serves())?;
            Some((node.database().epoch(), id))
        });
        serving.max().map(|(_, id)| id)
    }

    /// Waits for a server to serve that has the lease; the server, and how long it took.
    pub(crate) fn await_master(&mut self, limit: Duration) -> (u64, Duration) {
        let began = self.now;
        let seed = self.seed;
        while self.master().is_none() {
            assert!(self.now - began < limit.as_micros(), "nobody serves, seed {seed}");
            self.run(ms(1));
        }
        (self.master().unwrap(), Duration::from_micros(self.now - began))
    }

    /// The machine goes off: what is not durable is lost, or not.
    pub(crate) fn crash(&mut self, id: u64) {
        let random = self.random(1 << 30);
        let server = self.server(id);
        if server.node.take().is_none() {
            return;
        }
        let reached = usize::try_from(random).unwrap() % (server.jobs.len() + 1);
        for (_, job) in server.jobs.drain(..).take(reached) {
            server.disk.perform(job);
        }
        server.jobs.clear();
        server.disk.crash();
        server.paused = 0;
        for other in self.ids() {
            self.unlink(id, other);
        }
    }

    /// Starts a server from what its disk holds. Data that is marked is refused.
    pub(crate) fn start(&mut self, id: u64) {
        self.start_changed(id, |_| {});
    }

    /// The same, with a change of its state that no other server makes.
    pub(crate) fn start_changed(&mut self, id: u64, change: impl FnOnce(&mut Database)) {
        self.try_start(id, change).unwrap();
    }

    /// Starts another program on a server's disk: one that can apply these versions of the cell.
    pub(crate) fn change_program(&mut self, id: u64, lowest: u32, highest: u32) -> Result<(), StartError> {
        self.crash(id);
        self.server(id).can = Versions { lowest, highest };
        self.try_start(id, |_| {})
    }

    fn try_start(&mut self, id: u64, change: impl FnOnce(&mut Database)) -> Result<(), StartError> {
        let (now, mut config) = (self.now, self.config.clone());
        let seed = self.rng.next_u64();
        let keys = self.keys.get(&id).cloned().unwrap_or(Keys::UserAsKey);
        let server = self.server(id);
        if server.node.is_some() || server.disk.mark.is_some() {
            return Ok(());
        }
        let mut database = server.disk.database();
        change(&mut database);
        server.boots += 1;
        config.seed = [server.boots; 32];
        config.seed[..8].copy_from_slice(&seed.to_be_bytes());
        config.sockets = vec![(SOCKET, server_addr(id))];
        config.versions = server.can;
        let identity = Identity { node: NonZeroU64::new(id).unwrap(), cell: 1 };
        let start = Start { identity, log: server.disk.image.clone(), database };
        server.node = Some(Node::new(config, keys, start, server.clock(now))?);
        self.drain(id);
        for other in self.ids() {
            self.link(id, other);
        }
        Ok(())
    }

    /// A process stands still; its clock goes on.
    pub(crate) fn pause(&mut self, id: u64, span: Duration) {
        let until = self.now + span.as_micros();
        self.server(id).paused = until;
    }

    /// Lets time pass until this long before a paused server goes on.
    pub(crate) fn run_until_before(&mut self, id: u64, span: Duration) {
        let left = self.servers[&id].paused.saturating_sub(self.now + span.as_micros());
        self.run(Duration::from_micros(left));
    }

    /// Cuts servers off from the others; links that go on for a while, but carry nothing.
    pub(crate) fn isolate(&mut self, some: &[u64]) {
        for one in some.iter().copied() {
            for other in self.ids().into_iter().filter(|other| !some.contains(other)) {
                self.cut.extend([(one, other), (other, one)]);
            }
        }
    }

    /// All servers hear each other again, by new links.
    pub(crate) fn heal(&mut self) {
        for (one, other) in std::mem::take(&mut self.cut) {
            self.unlink(one, other);
            self.link(one, other);
        }
    }

    fn link(&mut self, one: u64, other: u64) {
        let both = self.servers[&one].node.is_some() && self.servers[&other].node.is_some();
        if one == other || !both || self.links.contains_key(&(one, other)) || self.cut.contains(&(one, other))
        {
            return;
        }
        if self.node(one).offer().check(self.node(other).offer()).is_err() {
            return;
        }
        for (from, to) in [(one, other), (other, one)] {
            self.flown += 1;
            self.links.insert((from, to), (self.flown, 0));
            let clock = self.clock(from);
            let can = self.servers[&to].can;
            self.node(from).handle_link(clock, to, Some(can));
            self.drain(from);
        }
    }

    fn unlink(&mut self, one: u64, other: u64) {
        for (from, to) in [(one, other), (other, one)] {
            if self.links.remove(&(from, to)).is_some() && self.servers[&from].node.is_some() {
                let clock = self.clock(from);
                self.node(from).handle_link(clock, to, None);
                self.drain(from);
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span.as_micros();
        for id in self.up() {
            self.drain(id);
        }
        while let Some(next) = self.next_event().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn next_event(&self) -> Option<u64> {
        let servers = self.servers.values().filter_map(|server| {
            let timeout = server.node.as_ref()?.poll_timeout().map(|at| server.moment(at));
            let job = server.jobs.front().map(|&(at, _)| at);
            [timeout, job].into_iter().flatten().min().map(|at| at.max(server.paused))
        });
        let clients = self.clients.iter().filter_map(|client| client.session.poll_timeout());
        let flight = self.flights.first_key_value().map(|(&(at, _), _)| at);
        servers.chain(clients.map(Instant::as_micros)).chain(flight).min()
    }

    /// Does one thing that is due.
    fn step(&mut self) {
        let now = self.now;
        if let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, number), flight) = entry.remove_entry();
            return self.land(number, flight);
        }
        for id in self.up() {
            let server = self.server(id);
            if server.paused > now {
                continue;
            }
            let clock = server.clock(now);
            let Some(node) = server.node.as_mut() else { continue };
            if server.jobs.front().is_some_and(|&(at, _)| at <= now) {
                let (_, job) = server.jobs.pop_front().unwrap();
                node.handle_disk(clock, server.disk.perform(job));
                return self.drain(id);
            }
            if node.poll_timeout().is_some_and(|at| at <= clock.now) {
                node.handle_timeout(clock);
                return self.drain(id);
            }
        }
        let time = self.time();
        for at in 0..self.clients.len() {
            if self.clients[at].session.poll_timeout().is_some_and(|due| due <= time) {
                self.clients[at].session.handle_timeout(time);
                return self.settle(at);
            }
        }
    }

    fn land(&mut self, number: u64, flight: Flight) {
        match flight {
            // What clients say is what it finds first when it goes on.
            Flight::ToServer { server: id, .. } if self.servers[&id].paused > self.now => {
                self.flights.insert((self.servers[&id].paused, number), flight);
            }
            Flight::Peer { to: id, .. } if self.servers[&id].paused > self.now => {
                self.flights.insert((self.servers[&id].paused + 1, number), flight);
            }
            Flight::ToServer { server: id, from, datagram } => {
                let clock = self.clock(id);
                if let Some(node) = self.server(id).node.as_mut() {
                    node.handle_datagram(clock, SOCKET, from, &datagram);
                    self.drain(id);
                }
            }
            Flight::ToClient { from, to, datagram } => {
                let time = self.time();
                let found = self.clients.iter().position(|client| client.addr == to);
                if let Some(at) = found.filter(|&at| !self.mutes(from, at)) {
                    self.clients[at].heard.push((self.now, from));
                    self.clients[at].last_heard.clone_from(&datagram);
                    // What is not taken in is a copy, or comes again.
                    let _ = self.clients[at].session.handle_datagram(time, from, &datagram);
                    self.settle(at);
                }
            }
            Flight::Peer { from, to, link, frame } => {
                let is_same = self.links.get(&(from, to)).is_some_and(|&(number, _)| number == link);
                if is_same && !self.cut.contains(&(from, to)) {
                    let clock = self.clock(to);
                    let frame = Frame::decode(&frame).unwrap();
                    self.node(to).handle_peer(clock, from, frame);
                    self.drain(to);
                }
            }
        }
    }

    /// Whether nothing of a server comes to a client.
    fn mutes(&self, from: SocketAddr, client: usize) -> bool {
        self.deafens && self.unreachable.iter().any(|&(at, id)| at == client && server_addr(id) == from)
    }

    /// Takes out all that a server has to do.
    pub(crate) fn drain(&mut self, id: u64) {
        let clock = self.clock(id);
        let (ready, decoded) = (self.now + self.disk_latency, self.decode_latency);
        let server = self.server(id);
        let Some(node) = server.node.as_mut() else { return };
        if node.has_diverged()
            && let Some(why) = node.fatal().map(str::to_owned)
        {
            server.stopped = Some(why);
            return self.crash(id);
        }
        assert_eq!(node.fatal(), None);
        let mut datagrams = Vec::new();
        let mut buffer = [0; MAX_PACKET];
        while let Some(transmit) = node.poll_transmit(clock, &mut buffer) {
            assert_eq!(transmit.via, SOCKET);
            datagrams.push((transmit.to, buffer[..transmit.len].to_vec()));
        }
        while let Some(job) = node.poll_disk() {
            let ready = if matches!(job, DiskJob::FinishCopy { .. }) { ready + decoded } else { ready };
            server.jobs.push_back((ready, job));
        }
        let frames: Vec<_> = std::iter::from_fn(|| node.poll_peer()).collect();
        server.events.extend(std::iter::from_fn(|| node.poll_event()));
        for (to, datagram) in datagrams {
            self.fly(|datagram| Flight::ToClient { from: server_addr(id), to, datagram }, datagram);
        }
        for (to, frame) in frames {
            self.send(id, to, &frame);
        }
    }

    fn send(&mut self, from: u64, to: u64, frame: &Frame) {
        let Some(&(link, last)) = self.links.get(&(from, to)) else { return };
        let lost = self.random(100) < self.faults.peer_loss && !matches!(frame, Frame::Snapshot(_));
        if lost || self.cut.contains(&(from, to)) {
            return;
        }
        frame.check().unwrap();
        let arrives = (self.now + 100 + self.random(self.faults.delay + 1)).max(last);
        self.links.insert((from, to), (link, arrives));
        self.flown += 1;
        let frame = frame.encode();
        self.flights.insert((arrives, self.flown), Flight::Peer { from, to, link, frame });
    }

    fn fly(&mut self, flight: impl Fn(Vec<u8>) -> Flight, datagram: Vec<u8>) {
        let copies = match (self.random(100) < self.faults.loss, self.random(100) < self.faults.duplicates) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        for _ in 0..copies {
            let at = self.now + 50 + self.random(self.faults.delay + 1);
            self.flown += 1;
            self.flights.insert((at, self.flown), flight(datagram.clone()));
        }
    }

    /// The clients' time.
    pub(crate) fn time(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    /// What a client has sent last.
    pub(crate) fn last_datagram(&self, at: usize) -> Vec<u8> {
        self.clients[at].last_datagram.clone()
    }

    /// Takes out all that a client has to say.
    fn settle(&mut self, at: usize) {
        let time = self.time();
        let client = &mut self.clients[at];
        client.hear();
        let (addr, mut buffer, mut datagrams) = (client.addr, [0; MAX_PACKET], Vec::new());
        while let Some(transmit) = client.session.poll_transmit(time, &mut buffer) {
            datagrams.push((transmit.to, buffer[..transmit.len].to_vec()));
        }
        client.hear();
        for (to, datagram) in datagrams {
            self.clients[at].last_datagram.clone_from(&datagram);
            let server = self.servers.keys().copied().find(|&id| server_addr(id) == to);
            if let Some(server) = server.filter(|&server| !self.unreachable.contains(&(at, server))) {
                self.fly(|datagram| Flight::ToServer { server, from: addr, datagram }, datagram);
            }
        }
    }

    /// Adds a client that knows these servers, and waits until its session is open.
    pub(crate) fn join(&mut self, servers: &[u64], extended: bool) -> usize {
        self.join_with(servers, extended, secs(30))
    }

    pub(crate) fn join_with(&mut self, servers: &[u64], extended: bool, lease: Duration) -> usize {
        let place = u8::try_from(self.clients.len() + 1).unwrap();
        let servers: Vec<_> = servers.iter().map(|&id| server_addr(id)).collect();
        self.clients.push(Client::new(place, &servers, extended, lease, self.time()));
        let at = self.clients.len() - 1;
        self.settle(at);
        let seed = self.seed;
        assert!(self.wait(secs(20), |world| world.clients[at].session.is_open()), "no session, seed {seed}");
        assert_eq!(self.clients[at].session.is_extended(), extended);
        at
    }

    /// Lets time pass until something holds; whether it came to hold.
    pub(crate) fn wait(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit.as_micros();
        while !holds(self) {
            if self.now >= end {
                return false;
            }
            self.run(ms(1));
        }
        true
    }

    /// A client begins a call.
    pub(crate) fn call(
        &mut self,
        at: usize,
        call: impl FnOnce(&mut TestSession, Instant) -> Result<RequestId, CallError>,
    ) -> RequestId {
        let time = self.time();
        let request = call(&mut self.clients[at].session, time).unwrap();
        self.settle(at);
        request
    }

    /// Waits for the answer to a call.
    pub(crate) fn answer(&mut self, at: usize, request: RequestId, limit: Duration) -> Result<Got, Code> {
        let seed = self.seed;
        let answered = self.wait(limit, |world| world.clients[at].answer(request).is_some());
        assert!(answered, "no answer to {request:?} of client {at}, seed {seed}");
        self.clients[at].answer(request).unwrap().clone()
    }

    pub(crate) fn open(&mut self, at: usize, path: &[u8], events: EventMask) -> Handle {
        let mode = OpenMode::READ | OpenMode::WRITE | OpenMode::LOCK | OpenMode::CREATE;
        let request = self.call(at, |session, now| session.open(now, path, mode, events));
        match self.answer(at, request, secs(30)) {
            Ok(Got::Opened(handle)) => handle,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn put(&mut self, at: usize, handle: Handle, data: &[u8]) -> RequestId {
        self.call(at, |session, now| session.put(now, handle, data))
    }

    pub(crate) fn get(&mut self, at: usize, handle: Handle) -> RequestId {
        self.call(at, |session, now| session.get(now, handle))
    }

    pub(crate) fn lock(&mut self, at: usize, handle: Handle) -> RequestId {
        self.call(at, |session, now| session.lock(now, handle, LockFlags::NONE, true))
    }

    pub(crate) fn unlock(&mut self, at: usize, handle: Handle) -> RequestId {
        self.call(at, |session, now| session.unlock(now, handle))
    }

    /// Puts, and waits until it is done.
    pub(crate) fn write(&mut self, at: usize, handle: Handle, data: &[u8]) {
        let request = self.put(at, handle, data);
        assert_eq!(self.answer(at, request, secs(30)), Ok(Got::Done));
    }

    /// Gets the contents.
    pub(crate) fn read(&mut self, at: usize, handle: Handle) -> Vec<u8> {
        let request = self.get(at, handle);
        match self.answer(at, request, secs(30)) {
            Ok(Got::Contents(data)) => data,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until all servers that are up have the same state.
    pub(crate) fn agree(&mut self) {
        let same = |world: &Self| {
            let nodes = world.servers.values().filter_map(|server| server.node.as_ref());
            let states: BTreeSet<_> =
                nodes.map(|node| (node.status().replica.applied, node.database().digest())).collect();
            states.len() <= 1
        };
        let end = self.now + secs(30).as_micros();
        while !same(self) {
            assert!(self.now < end, "the servers do not come to the same state, seed {}", self.seed);
            self.run(ms(50));
        }
    }
}

impl Server {
    fn clock(&self, now: u64) -> Clock {
        let drifted = i128::from(now) * i128::from(1_000_000 + self.drift) / 1_000_000;
        let micros = self.offset + u64::try_from(drifted).unwrap();
        Clock { now: Instant::from_micros(micros), wall: 1_700_000_000 + now / 1_000_000 }
    }

    /// When its clock will show this.
    fn moment(&self, at: Instant) -> u64 {
        let shown = i128::from(at.as_micros().saturating_sub(self.offset));
        u64::try_from(shown * 1_000_000 / i128::from(1_000_000 + self.drift)).unwrap() + 1
    }
}
