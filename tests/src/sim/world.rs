//! Servers, clients and the network between them, and the order in which all happens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use cld_server::keys::Keys;
use cld_server::node::{Event, Node, NodeConfig, SnapshotPolicy, Start};
use cld_server::peer::frame::Frame;
use cld_server::storage::{Configuration, Identity, Member};
use cldc_core::wire::limits::MAX_PACKET;

use super::checks::Checks;
use super::client::{Client, Fate, Shared, Task, Traits};
use super::clock::Watch;
use super::disk::Disk;
use super::faults::Act;
use super::names::Names;
use super::network::{Flight, Machine, Network};
use super::plan::{Plan, Severity};
use super::server::{SOCKET, Server, Servers, addresses, at_address, client_address};
use super::trace::Trace;
use super::{Failure, Report, millis, seconds};
use crate::history::{History, Violation};
use crate::rng::Rng;

/// How often what must hold at any time is looked at.
const SAMPLE: u64 = millis(100);
/// After the last fault every call is answered by then, unless it waits for a lock.
const CALLS_END: u64 = seconds(40);
/// By then all else has ended: a plain session that died may be kept for 60 s, and 45 s longer after a fail-over.
const ALL_END: u64 = seconds(150);

pub(super) struct World {
    pub(super) plan: Plan,
    /// Of the network, the disks, and the faults.
    pub(super) rng: Rng,
    pub(super) shared: Shared,
    pub(super) servers: Servers,
    pub(super) clients: Vec<Client>,
    pub(super) network: Network,
    pub(super) schedule: BTreeMap<(u64, u64), Act>,
    scheduled: u64,
    pub(super) checks: Checks,
    config: NodeConfig,
    pub(super) faults: u64,
    /// Sessions begun, opened, and lost.
    begun: u64,
    opened: u64,
    lost: u64,
    /// The faults are over.
    pub(super) is_calm: bool,
    /// Of bounded faults: until then no other server is to be harmed.
    pub(super) harmless_until: u64,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let (entries, keep) = plan.snapshot;
        let snapshot = SnapshotPolicy { entries, bytes: u64::MAX };
        let config = NodeConfig { snapshot, keep_entries: Some(keep), ..NodeConfig::default() };
        let shared = Shared {
            now: 1_000_000,
            rng: Rng::new(rng.next_u64()),
            names: Names::new(plan.files),
            history: History::new(),
            trace: Trace::default(),
        };
        Self {
            plan,
            rng,
            shared,
            servers: Servers::new(),
            clients: Vec::new(),
            network: Network::new(),
            schedule: BTreeMap::new(),
            scheduled: 0,
            checks: Checks::default(),
            config,
            faults: 0,
            begun: 0,
            opened: 0,
            lost: 0,
            is_calm: false,
            harmless_until: 0,
        }
    }

    pub(super) fn failed(self, what: String) -> Failure {
        let at = Duration::from_micros(self.shared.now);
        let trace = self.shared.trace.lines();
        Failure { seed: self.plan.seed, at, what, trace, plan: Box::new(self.plan) }
    }

    /// The whole run.
    pub(super) fn go(&mut self) -> Result<Report, String> {
        let size = self.plan.servers;
        let member = |id| (id, Member { votes: true, addresses: addresses(id) });
        let configuration = Configuration { members: (1..=size).map(member).collect(), removed: Vec::new() };
        for id in 1..=size {
            let watch = self.watch();
            let server = Server::new(Disk::of_cell(configuration.clone()), watch, self.plan.disk);
            self.servers.insert(id, server);
            self.start(id)?;
        }
        for place in 0..self.plan.extended + self.plan.plain {
            self.join(place, Task::Mix)?;
        }
        self.at(SAMPLE, Act::Sample);
        self.at(seconds(1), Act::Harm);
        self.run(self.plan.span)?;
        if self.plan.calm_at_last {
            self.end_well()?;
        }
        let is_decided = match self.shared.history.check() {
            Ok(()) => true,
            Err(Violation::TooLong { .. }) => false,
            Err(violation) => return Err(violation.to_string()),
        };
        Ok(Report {
            simulated: Duration::from_micros(self.shared.now),
            hash: self.shared.trace.hash(),
            operations: self.shared.history.size(),
            is_decided,
            faults: self.faults,
            sessions: (self.opened, self.lost),
            epochs: self.checks.epochs(),
        })
    }

    /// The faults stop; all must end well.
    fn end_well(&mut self) -> Result<(), String> {
        self.calm()?;
        let healed = self.shared.now;
        self.run(seconds(3))?;
        self.clients.iter_mut().for_each(|client| client.task = Task::Finish);
        let stopped = self.shared.now;
        while let Some((client, what)) = self.waits(stopped, true) {
            let waited = self.shared.now - healed;
            if waited > ALL_END {
                return Err(format!("client {client} waits although no faults are left: {what}"));
            }
            if let Some((client, what)) = self.waits(stopped, false).filter(|_| waited > CALLS_END) {
                return Err(format!("client {client} waits although no faults are left: {what}"));
            }
            self.run(seconds(1))?;
        }
        let caught_up = self.shared.now + seconds(20);
        while !self.checks.agree(&self.servers) {
            if self.shared.now > caught_up {
                return Err("the servers do not come to the same state".to_owned());
            }
            self.run(millis(500))?;
        }
        // What is there in the end is read by somebody new.
        let place = self.clients.len();
        self.join(place, Task::Read(self.shared.names.all()))?;
        let end = self.shared.now + seconds(60);
        while !self.clients.get(place).is_some_and(Client::has_read) {
            if self.shared.now > end {
                return Err("a new client cannot read what is there in the end".to_owned());
            }
            self.run(millis(500))?;
        }
        Ok(())
    }

    /// A client that waits for something that it began before.
    fn waits(&self, before: u64, with_locks: bool) -> Option<(u64, String)> {
        let mut waiting = self
            .clients
            .iter()
            .filter_map(|client| Some((client.number, client.waits(before + 1, with_locks)?)));
        waiting.next()
    }

    /// A clock as wrong as clocks may be in this run.
    pub(super) fn watch(&mut self) -> Watch {
        let ppm = self.drift();
        Watch::new(self.shared.now, self.rng.below(1 << 40), ppm)
    }

    /// Half of the clocks are as wrong as they may be.
    pub(super) fn drift(&mut self) -> i64 {
        let bound = self.plan.drift;
        let by = if self.rng.below(2) == 0 { bound } else { self.rng.below(bound + 1) };
        let by = i64::try_from(by).unwrap_or(0);
        if self.rng.below(2) == 0 { by } else { -by }
    }

    /// A new session begins at this place.
    pub(super) fn join(&mut self, place: usize, task: Task) -> Result<(), String> {
        let is_plain = matches!(task, Task::Mix) && place >= self.plan.extended;
        let all: Vec<u64> = self.servers.keys().copied().collect();
        let first = usize::try_from(self.rng.below(all.len() as u64)).unwrap_or(0);
        let known = if is_plain { 1 } else { all.len() };
        let servers: Vec<SocketAddr> =
            all.iter().cycle().skip(first).take(known).map(|&id| client_address(id)).collect();
        self.begun += 1;
        let [.., high, low] = self.begun.to_be_bytes();
        let addr = SocketAddr::from(([10, u8::try_from(place).unwrap_or(255), high, low], 4000));
        let lease = self.plan.lease * (1 + self.rng.below(2));
        let traits = Traits { is_plain, lease, think: self.plan.think };
        let watch = self.watch();
        let mut client = Client::new(self.begun, addr, &servers, traits, watch, &mut self.shared)?;
        client.task = task;
        match self.clients.get_mut(place) {
            Some(old) => *old = client,
            None => self.clients.push(client),
        }
        self.settle(place)
    }

    /// Something is to be done after this long.
    pub(super) fn at(&mut self, after: u64, act: Act) {
        self.scheduled += 1;
        self.schedule.insert((self.shared.now + after, self.scheduled), act);
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: u64) -> Result<(), String> {
        let end = self.shared.now + span;
        while let Some(next) = self.next().filter(|&next| next <= end) {
            self.shared.now = self.shared.now.max(next);
            self.step()?;
        }
        self.shared.now = end;
        Ok(())
    }

    fn next(&self) -> Option<u64> {
        let servers = self.servers.values().filter_map(Server::next);
        let clients = self.clients.iter().filter_map(Client::next);
        let act = self.schedule.first_key_value().map(|(&(at, _), _)| at);
        servers.chain(clients).chain(self.network.next()).chain(act).min()
    }

    /// Does one thing that is due.
    fn step(&mut self) -> Result<(), String> {
        let now = self.shared.now;
        if let Some(entry) = self.schedule.first_entry().filter(|entry| entry.key().0 <= now) {
            let act = entry.remove();
            return self.act(act);
        }
        if let Some(flight) = self.network.arrive(now) {
            return self.land(flight);
        }
        if let Some(id) = self
            .servers
            .iter()
            .find(|(_, server)| server.next().is_some_and(|at| at <= now))
            .map(|(&id, _)| id)
        {
            return self.serve(id);
        }
        if let Some(place) = self.clients.iter().position(|client| client.next().is_some_and(|at| at <= now))
        {
            if let Some(client) = self.clients.get_mut(place) {
                client.go_on(&mut self.shared);
            }
            return self.settle(place);
        }
        Ok(())
    }

    /// A server does what is due: a job of its disk is done, or its node is woken.
    fn serve(&mut self, id: u64) -> Result<(), String> {
        let now = self.shared.now;
        let Some(server) = self.servers.get_mut(&id) else { return Ok(()) };
        let clock = server.clock(now);
        let Some(node) = server.node.as_mut() else { return Ok(()) };
        if server.jobs.front().is_some_and(|&(at, _)| at <= now) {
            if let Some((_, job)) = server.jobs.pop_front() {
                self.shared.trace.feed(now, id, b"disk");
                node.handle_disk(clock, server.disk.perform(job));
            }
        } else {
            self.shared.trace.feed(now, id, b"timeout");
            node.handle_timeout(clock);
        }
        self.drain(id)
    }

    fn land(&mut self, flight: Flight) -> Result<(), String> {
        let now = self.shared.now;
        match &flight {
            // What was sent to who stands still is found first when it goes on.
            Flight::ToServer { server: id, .. } | Flight::Peer { to: id, .. } => {
                let Some(paused) = self.servers.get(id).map(|server| server.paused) else { return Ok(()) };
                if paused > now {
                    self.network.fly(paused, flight);
                    return Ok(());
                }
            }
            Flight::ToClient { to, .. } => {
                let paused =
                    self.clients.iter().find(|client| client.addr == *to).map_or(0, |client| client.paused);
                if paused > now {
                    self.network.fly(paused, flight);
                    return Ok(());
                }
            }
        }
        match flight {
            Flight::ToServer { server: id, from, datagram } => {
                self.shared.trace.feed(now, id, &datagram);
                let Some(server) = self.servers.get_mut(&id) else { return Ok(()) };
                let clock = server.clock(now);
                let Some(node) = server.node.as_mut() else { return Ok(()) };
                node.handle_datagram(clock, SOCKET, from, &datagram);
                self.drain(id)
            }
            Flight::Peer { from, to, link, frame } => {
                if !self.network.is_linked(from, to, link) {
                    return Ok(());
                }
                self.shared.trace.feed(now, to, &frame);
                let frame =
                    Frame::decode(&frame).map_err(|error| format!("a frame of {from} to {to}: {error}"))?;
                let Some(server) = self.servers.get_mut(&to) else { return Ok(()) };
                let clock = server.clock(now);
                let Some(node) = server.node.as_mut() else { return Ok(()) };
                node.handle_peer(clock, from, frame);
                self.drain(to)
            }
            Flight::ToClient { from, to, datagram } => {
                let Some(place) = self.clients.iter().position(|client| client.addr == to) else {
                    return Ok(());
                };
                self.shared.trace.feed(now, 100 + place as u64, &datagram);
                let Some(client) = self.clients.get_mut(place) else { return Ok(()) };
                if client.fate.is_none() {
                    client.handle_datagram(&mut self.shared, from, &datagram);
                }
                self.settle(place)
            }
        }
    }

    /// Takes out all that a server has to do.
    pub(super) fn drain(&mut self, id: u64) -> Result<(), String> {
        let now = self.shared.now;
        let Some(server) = self.servers.get_mut(&id) else { return Ok(()) };
        let clock = server.clock(now);
        let Some(node) = server.node.as_mut() else { return Ok(()) };
        let mut buffer = [0; MAX_PACKET];
        while let Some(transmit) = node.poll_transmit(clock, &mut buffer) {
            let datagram = buffer.get(..transmit.len).unwrap_or_default().to_vec();
            let Some(place) = self.clients.iter().position(|client| client.addr == transmit.to) else {
                continue;
            };
            let flight = Flight::ToClient { from: client_address(id), to: transmit.to, datagram };
            let way = (Machine::Server(id), Machine::Client(place));
            self.network.throw(&mut self.rng, now, way, &flight);
        }
        while let Some(job) = node.poll_disk() {
            let last = server.jobs.back().map_or(0, |&(at, _)| at);
            let ready = now + 50 + self.rng.below(server.latency + 1);
            server.jobs.push_back((ready.max(last), job));
        }
        while let Some((to, frame)) = node.poll_peer() {
            frame.check().map_err(|error| format!("server {id} sends a frame that nobody takes: {error}"))?;
            let matters = matches!(frame, Frame::Snapshot(_));
            self.network.send(&mut self.rng, now, (id, to), frame.encode(), matters);
        }
        while let Some(event) = node.poll_event() {
            self.shared.trace.tell(now, format_args!("server {id}: {event:?}"));
            if let Event::Serving { epoch } = event {
                self.checks.serves(id, epoch)?;
            }
        }
        if let Some(what) = node.fatal() {
            return Err(format!("server {id} cannot go on: {what}"));
        }
        server.reckon();
        Ok(())
    }

    /// Takes out all that a client has to say.
    pub(super) fn settle(&mut self, place: usize) -> Result<(), String> {
        let now = self.shared.now;
        let Some(client) = self.clients.get_mut(place) else { return Ok(()) };
        let mut buffer = [0; MAX_PACKET];
        while let Some((to, datagram)) = client.poll_transmit(&self.shared, &mut buffer) {
            let Some(server) = at_address(to) else { continue };
            let flight = Flight::ToServer { server, from: client.addr, datagram };
            let way = (Machine::Client(place), Machine::Server(server));
            self.network.throw(&mut self.rng, now, way, &flight);
        }
        client.reckon();
        self.opened += u64::from(client.take_opened());
        match client.take_fate() {
            Some(Fate::Lost | Fate::Refused) => {
                self.lost += 1;
                let number = client.number;
                if self.plan.severity == Severity::Bounded {
                    return Err(format!("client {number} lost its session although faults were bounded"));
                }
                if !self.is_calm {
                    self.at(millis(100), Act::Join(place));
                }
                Ok(())
            }
            Some(Fate::Ended) | None => Ok(()),
        }
    }

    /// Starts a server from what its disk holds.
    pub(super) fn start(&mut self, id: u64) -> Result<(), String> {
        let now = self.shared.now;
        let mut config = self.config.clone();
        let seed = self.rng.next_u64();
        let Some(server) = self.servers.get_mut(&id) else { return Ok(()) };
        if server.node.is_some() {
            return Ok(());
        }
        server.boots = server.boots.wrapping_add(1);
        config.seed = [server.boots; 32];
        for (byte, random) in config.seed.iter_mut().zip(seed.to_be_bytes()) {
            *byte = random;
        }
        config.sockets = vec![(SOCKET, client_address(id))];
        let identity = Identity { node: NonZeroU64::new(id).ok_or("a server without a number")?, cell: 1 };
        let start = Start { identity, log: server.disk.image.clone(), database: server.disk.database()? };
        let node = Node::new(config, Keys::UserAsKey, start, server.clock(now));
        server.node = Some(node.map_err(|error| format!("server {id} does not start: {error}"))?);
        self.shared.trace.tell(now, format_args!("server {id} starts"));
        self.drain(id)?;
        for other in self.ids() {
            self.link(id, other)?;
        }
        Ok(())
    }

    /// The machine goes off: what is not durable is lost.
    pub(super) fn crash(&mut self, id: u64) -> Result<(), String> {
        let now = self.shared.now;
        let Some(server) = self.servers.get_mut(&id) else { return Ok(()) };
        if server.node.take().is_none() {
            return Ok(());
        }
        self.shared.trace.tell(now, format_args!("server {id} goes off"));
        // Some of what was asked of the disk may have been done, but nobody was told.
        let reached = usize::try_from(self.rng.below(server.jobs.len() as u64 + 1)).unwrap_or(0);
        for (_, job) in server.jobs.drain(..).take(reached) {
            server.disk.perform(job);
        }
        server.disk.crash();
        server.paused = 0;
        server.due = None;
        for other in self.ids() {
            self.unlink(id, other)?;
        }
        Ok(())
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.servers.keys().copied().collect()
    }

    fn node(&mut self, id: u64) -> Option<&mut Node> {
        self.servers.get_mut(&id)?.node.as_mut()
    }

    /// Links two servers, if both are up and can be.
    pub(super) fn link(&mut self, one: u64, other: u64) -> Result<(), String> {
        let (Some(first), Some(second)) =
            (self.node(one).map(|node| node.offer()), self.node(other).map(|node| node.offer()))
        else {
            return Ok(());
        };
        if one == other || first.check(second).is_err() || !self.network.link(one, other) {
            return Ok(());
        }
        for (from, to) in [(one, other), (other, one)] {
            let versions = self.config.versions;
            let now = self.shared.now;
            let Some(server) = self.servers.get_mut(&from) else { continue };
            let clock = server.clock(now);
            if let Some(node) = server.node.as_mut() {
                node.handle_link(clock, to, Some(versions));
            }
            self.drain(from)?;
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, one: u64, other: u64) -> Result<(), String> {
        if !self.network.unlink(one, other) {
            return Ok(());
        }
        let now = self.shared.now;
        for (from, to) in [(one, other), (other, one)] {
            let Some(server) = self.servers.get_mut(&from) else { continue };
            let clock = server.clock(now);
            if let Some(node) = server.node.as_mut() {
                node.handle_link(clock, to, None);
            }
            self.drain(from)?;
        }
        Ok(())
    }
}
