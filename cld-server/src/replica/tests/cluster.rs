//! A cell in one thread: engines, disks that lose what is not durable, a network that loses, repeats and delays, clocks that
//! drift, and checks of what must hold at every moment. All of it follows from a seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;

use super::store::MemoryStore;
use crate::replica::*;
use crate::storage::{Addresses, LogPosition, LogStore, LogWrite, SnapshotPoint, SnapshotRecord};

/// Time goes on in steps of so many microseconds.
pub(super) const STEP: u64 = 5_000;
pub(super) const TICK: u64 = 100_000;
pub(super) const SECOND: u64 = 1_000_000;

/// A generator of numbers that only its seed decides.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut hash = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (hash ^ (hash >> 31)) % limit.max(1)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What the network does to a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    /// In per cent.
    pub(super) loss: u64,
    /// In per cent.
    pub(super) duplicates: u64,
    /// Up to so many microseconds; so messages overtake each other.
    pub(super) delay: u64,
}

pub(super) const GOOD: Network = Network { loss: 0, duplicates: 0, delay: 2 * STEP };

/// The replicated state: enough to tell any two histories apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) index: u64,
    pub(super) count: u64,
    hash: u64,
}

impl State {
    fn apply(&mut self, index: u64, payload: &[u8]) {
        self.index = index;
        self.count += 1;
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.hash = payload.iter().fold(self.hash ^ index, fold);
    }
}

#[derive(Debug, Clone)]
enum Packet {
    Message(Vec<u8>),
    /// A snapshot's file, and the message with it.
    Stream(State, Vec<u8>),
    /// Whether it came.
    Streamed(bool),
}

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) id: u64,
    /// `None` while it is down.
    pub(super) engine: Option<RaftEngine>,
    pub(super) store: MemoryStore,
    /// Writes that the disk has not finished, and when it will have.
    writes: VecDeque<(u64, u64, LogWrite)>,
    files: BTreeMap<u64, State>,
    pub(super) state: State,
    pub(super) master: Option<u64>,
    pub(super) members: Configuration,
    /// It stands still until then.
    paused: u64,
    /// Its clock: what it shows at the start, and how much too fast it is, in millionths.
    offset: u64,
    drift: i64,
    next_tick: u64,
    /// Reads that wait: the ticket, and what had been acknowledged when they began.
    reads: Vec<(ReadTicket, u64)>,
    boots: u64,
}

impl Server {
    pub(super) fn clock(&self, now: u64) -> Instant {
        let drifted = i128::from(now) * i128::from(1_000_000 + self.drift) / 1_000_000;
        Instant::from_micros(self.offset + u64::try_from(drifted).unwrap())
    }

    /// How long it still has the lease, by its clock, in microseconds.
    pub(super) fn lease_left(&self, now: u64) -> u64 {
        let until = self.engine.as_ref().and_then(Engine::lease_until);
        until.map_or(0, |until| until.since(self.clock(now)).as_micros())
    }

    /// Whether it would answer a read from its own state now.
    pub(super) fn has_lease(&self, now: u64) -> bool {
        let until = self.engine.as_ref().and_then(Engine::lease_until);
        until.is_some_and(|until| self.clock(now) < until)
    }
}

pub(super) struct Cluster {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) now: u64,
    pub(super) servers: BTreeMap<u64, Server>,
    pub(super) network: Network,
    /// Pairs whose messages do not get through in this direction.
    pub(super) cut: BTreeSet<(u64, u64)>,
    /// Pairs of which what is sent from now on does not get through; what is on its way does.
    pub(super) mute: BTreeSet<(u64, u64)>,
    /// A snapshot is taken when so many payloads were applied since the last.
    pub(super) snapshot_every: u64,
    keep_entries: u64,
    /// The longest that a write takes.
    pub(super) disk: u64,
    flights: BTreeMap<(u64, u64), (u64, u64, Packet)>,
    flown: u64,
    proposed: u64,
    /// What was committed at each index, wherever it was seen first.
    pub(super) agreed: BTreeMap<u64, (u64, Vec<u8>)>,
    states: BTreeMap<u64, State>,
    /// The last index that a master has given out, and could have acknowledged.
    pub(super) acknowledged: u64,
    pub(super) lease_reads: u64,
    pub(super) index_reads: u64,
    pub(super) restored: u64,
    pub(super) refusals: Vec<MessageError>,
    /// Whether all messages are kept, and they: to whom, and the bytes.
    pub(super) record: bool,
    pub(super) recorded: Vec<(u64, Vec<u8>)>,
    pub(super) lose_streams: bool,
    /// The time when each mastership began.
    pub(super) masterships: Vec<(u64, u64)>,
}

impl Cluster {
    /// A new cell of the servers 1 to `size`.
    pub(super) fn new(seed: u64, size: u64) -> Self {
        let mut cluster = Self {
            seed,
            random: Random(seed),
            now: SECOND,
            servers: BTreeMap::new(),
            network: GOOD,
            cut: BTreeSet::new(),
            mute: BTreeSet::new(),
            snapshot_every: u64::MAX,
            keep_entries: 20,
            disk: 2 * STEP,
            flights: BTreeMap::new(),
            flown: 0,
            proposed: 0,
            agreed: BTreeMap::new(),
            states: BTreeMap::new(),
            acknowledged: 0,
            lease_reads: 0,
            index_reads: 0,
            restored: 0,
            refusals: Vec::new(),
            record: false,
            recorded: Vec::new(),
            lose_streams: false,
            masterships: Vec::new(),
        };
        for id in 1..=size {
            cluster.add(MemoryStore::of_cell(NonZeroU64::new(id).unwrap(), 1..=size));
        }
        cluster
    }

    /// Starts a server that knows of no cell.
    pub(super) fn join(&mut self, id: u64) {
        self.add(MemoryStore::of_newcomer(NonZeroU64::new(id).unwrap()));
    }

    /// Starts a server that thinks itself a member of the cell of these voters.
    pub(super) fn intrude(&mut self, id: u64, voters: impl IntoIterator<Item = u64>) {
        self.add(MemoryStore::of_cell(NonZeroU64::new(id).unwrap(), voters.into_iter().chain([id])));
    }

    fn add(&mut self, store: MemoryStore) {
        let id = store.node.get();
        let server = Server {
            id,
            engine: None,
            members: store.image.base.configuration.clone(),
            store,
            writes: VecDeque::new(),
            files: BTreeMap::new(),
            state: State::default(),
            master: None,
            paused: 0,
            offset: 1000 * SECOND + self.random.below(1000 * SECOND),
            drift: 0,
            next_tick: 0,
            reads: Vec::new(),
            boots: 0,
        };
        self.servers.insert(id, server);
        self.start(id);
    }

    /// Starts all servers anew with so many entries to be kept before a snapshot.
    pub(super) fn keep(&mut self, entries: u64) {
        self.keep_entries = entries;
        let ids: Vec<u64> = self.servers.keys().copied().collect();
        for id in ids {
            self.crash(id);
            self.start(id);
        }
    }

    /// Lets the clocks go wrong by up to so many millionths.
    pub(super) fn drift(&mut self, ppm: i64) {
        for server in self.servers.values_mut() {
            server.drift = self.random.below(2 * ppm.unsigned_abs() + 1) as i64 - ppm;
        }
    }

    /// Lets this server's clock be as slow, and all others as fast, as they may be.
    pub(super) fn extreme_drift(&mut self, slow: u64, ppm: i64) {
        let now = self.now;
        for server in self.servers.values_mut() {
            let before = server.clock(now);
            server.drift = if server.id == slow { -ppm } else { ppm };
            // The rate changes, what it shows does not.
            server.offset = 1 << 40;
            let shown = server.clock(now).since(before).as_micros();
            server.offset -= shown;
        }
    }

    pub(super) fn status(&self, id: u64) -> Status {
        self.servers[&id].engine.as_ref().unwrap().status()
    }

    pub(super) fn server(&mut self, id: u64) -> &mut Server {
        self.servers.get_mut(&id).unwrap()
    }

    /// Starts a server from what its disk holds.
    pub(super) fn start(&mut self, id: u64) {
        let (seed, keep_entries, now) = (self.seed, self.keep_entries, self.now);
        let jitter = self.random.below(TICK);
        let server = self.server(id);
        if server.engine.is_some() {
            return;
        }
        server.boots += 1;
        let config = EngineConfig {
            keep_entries,
            snapshot_ticks: 20,
            ..EngineConfig::new(server.store.node, seed.wrapping_mul(31) ^ (server.boots << 32))
        };
        let image = server.store.image.clone();
        let base = image.base.at.index;
        server.state = image.file.map_or_else(State::default, |_| server.files[&base]);
        server.members = image.base.configuration.clone();
        server.engine = Some(RaftEngine::new(config, image).unwrap());
        server.next_tick = server.clock(now).as_micros() + jitter;
        self.drain(id);
    }

    /// The machine goes off: what is not durable is lost, or not.
    pub(super) fn crash(&mut self, id: u64) {
        let random = self.random.below(1 << 30);
        let server = self.server(id);
        let reached = random as usize % (server.writes.len() + 1);
        for (_, _, write) in server.writes.drain(..).take(reached) {
            server.store.append(&[write]).unwrap();
        }
        server.engine = None;
        server.master = None;
        server.reads.clear();
    }

    /// The process stands still; its clock goes on.
    pub(super) fn pause(&mut self, id: u64, time: u64) {
        let until = self.now + time;
        self.server(id).paused = until;
    }

    /// Cuts this server off from all others, both ways.
    pub(super) fn isolate(&mut self, id: u64) {
        for other in self.servers.keys().copied().filter(|other| *other != id) {
            self.cut.extend([(id, other), (other, id)]);
        }
    }

    /// The server that believes to be the master, of those that are up the one with the newest term.
    pub(super) fn master(&self) -> Option<u64> {
        let masters = self.servers.values().filter(|server| server.master.is_some());
        masters.max_by_key(|server| server.master).map(|server| server.id)
    }

    /// Whether something new was proposed to this server.
    pub(super) fn propose(&mut self, id: u64) -> bool {
        self.proposed += 1;
        let mut payload = self.proposed.to_be_bytes().to_vec();
        payload.resize(8 + self.random.below(40) as usize, 7);
        let engine = self.server(id).engine.as_mut();
        let taken = engine.is_some_and(|engine| engine.propose(payload).is_ok());
        self.drain(id);
        taken
    }

    pub(super) fn change(&mut self, change: MemberChange) -> Result<(), ChangeError> {
        let id = self.master().unwrap_or(1);
        let result = self.server(id).engine.as_mut().unwrap().change_members(change);
        self.drain(id);
        result
    }

    /// Asks for a new member of which no address is known.
    pub(super) fn add_member(&mut self, node: u64) -> Result<(), ChangeError> {
        self.change(MemberChange::AddLearner { node, addresses: Addresses::default() })
    }

    /// Lets the master hand over.
    pub(super) fn hand_over(&mut self, to: u64) {
        if let Some(master) = self.master() {
            let _ = self.server(master).engine.as_mut().unwrap().transfer_leadership(to);
            self.drain(master);
        }
    }

    /// Hands a message to a server.
    pub(super) fn hand(&mut self, from: u64, to: u64, bytes: &[u8]) -> Result<(), MessageError> {
        self.server(to).engine.as_mut().unwrap().handle_message(from, Message::decode(bytes).unwrap())
    }

    /// Begins a read on this server, if it is the master.
    pub(super) fn read(&mut self, id: u64) {
        let (now, acknowledged) = (self.now, self.acknowledged);
        let server = self.server(id);
        let clock = server.clock(now);
        if let Some(ticket) = server.engine.as_mut().and_then(|engine| engine.read(clock)) {
            server.reads.push((ticket, acknowledged));
        }
        self.drain(id);
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: u64) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Lets time pass until this holds. Fails after a minute.
    pub(super) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = self.now + 60 * SECOND;
        while !holds(self) {
            assert!(self.now < end, "seed {}: not in a minute: {what}; {:#?}", self.seed, self.statuses());
            self.step();
        }
    }

    pub(super) fn statuses(&self) -> Vec<(u64, Option<Status>)> {
        self.servers.values().map(|server| (server.id, server.engine.as_ref().map(Engine::status))).collect()
    }

    /// Heals everything, and waits until all members that are up have the same state.
    pub(super) fn settle(&mut self) {
        self.network = GOOD;
        self.cut.clear();
        self.mute.clear();
        let ids: Vec<u64> = self.servers.keys().copied().collect();
        for id in ids {
            self.server(id).paused = 0;
            self.start(id);
        }
        let mut proposed = false;
        self.until("all agree", |cluster| {
            if let Some(master) = cluster.master()
                && !proposed
            {
                proposed = cluster.propose(master);
            }
            let Some(master) = cluster.master() else { return false };
            let members = &cluster.servers[&master].members;
            let last = cluster.agreed.last_key_value().map_or(0, |(index, _)| *index);
            let mut servers = cluster.servers.values().filter(|server| members.contains(server.id));
            proposed && servers.all(|server| server.state.index == last)
        });
    }

    pub(super) fn step(&mut self) {
        self.now += STEP;
        let ids: Vec<u64> = self.servers.keys().copied().collect();
        for id in ids {
            self.finish_writes(id);
        }
        // One that wakes up may look at the clock first, or at its messages.
        if self.random.percent(50) {
            self.tick();
            self.fly_in();
        } else {
            self.fly_in();
            self.tick();
        }
        self.check_leases();
    }

    fn fly_in(&mut self) {
        let mut due = self.flights.split_off(&(self.now + 1, 0));
        std::mem::swap(&mut due, &mut self.flights);
        for (key, (from, to, packet)) in due {
            let Some(server) = self.servers.get(&to) else { continue };
            if server.paused > self.now {
                // It waits in the socket.
                self.flights.insert((self.now + STEP, key.1), (from, to, packet));
            } else if !self.cut.contains(&(from, to)) {
                self.deliver(from, to, packet);
            }
        }
    }

    fn tick(&mut self) {
        for id in self.servers.keys().copied().collect::<Vec<_>>() {
            let now = self.now;
            let server = self.server(id);
            let clock = server.clock(now);
            if server.paused <= now
                && clock.as_micros() >= server.next_tick
                && let Some(engine) = &mut server.engine
            {
                server.next_tick = clock.as_micros() + TICK;
                engine.handle_tick(clock);
                self.drain(id);
            }
        }
    }

    fn finish_writes(&mut self, id: u64) {
        let now = self.now;
        let server = self.server(id);
        if server.paused > now {
            return;
        }
        while server.writes.front().is_some_and(|(due, ..)| *due <= now) {
            let (_, ticket, write) = server.writes.pop_front().unwrap();
            server.store.append(&[write]).unwrap();
            server.engine.as_mut().unwrap().handle_persisted(ticket);
        }
        self.drain(id);
    }

    fn deliver(&mut self, from: u64, to: u64, packet: Packet) {
        let server = self.server(to);
        let Some(engine) = &mut server.engine else { return };
        let mut answer = None;
        let result = match packet {
            Packet::Message(bytes) => engine.handle_message(from, Message::decode(&bytes).unwrap()),
            Packet::Stream(state, bytes) => {
                let message = Message::decode(&bytes).unwrap();
                server.files.insert(message.snapshot().unwrap().point.at.index, state);
                let result = engine.restore(from, message);
                answer = Some(Packet::Streamed(result.is_ok()));
                result
            }
            Packet::Streamed(ok) => {
                engine.snapshot_sent(from, ok);
                Ok(())
            }
        };
        if let Err(error) = result {
            let expected = matches!(error, MessageError::Stranger { .. } | MessageError::Removed { .. });
            assert!(expected, "seed {}: {error}", self.seed);
            self.refusals.push(error);
        }
        if let Some(answer) = answer {
            self.fly(to, from, answer);
        }
        self.drain(to);
    }

    fn fly(&mut self, from: u64, to: u64, packet: Packet) {
        if self.record
            && let Packet::Message(bytes) | Packet::Stream(_, bytes) = &packet
        {
            self.recorded.push((to, bytes.clone()));
        }
        let lost = self.lose_streams && matches!(packet, Packet::Stream(..));
        if lost || self.mute.contains(&(from, to)) {
            return;
        }
        let slow = if matches!(packet, Packet::Stream(..)) { 4 } else { 1 };
        let copies = u64::from(!self.random.percent(self.network.loss))
            + u64::from(self.random.percent(self.network.duplicates));
        for _ in 0..copies {
            self.flown += 1;
            let at = self.now + STEP + slow * self.random.below(self.network.delay + 1);
            self.flights.insert((at, self.flown), (from, to, packet.clone()));
        }
    }

    /// Does what the engine asks for.
    fn drain(&mut self, id: u64) {
        loop {
            let server = self.servers.get_mut(&id).unwrap();
            let Some(output) = server.engine.as_mut().and_then(Engine::poll_output) else { break };
            match output {
                Output::Persist { ticket, write } => {
                    let last = server.writes.back().map_or(0, |(due, ..)| *due);
                    let due = (self.now + self.random.below(self.disk + 1)).max(last);
                    server.writes.push_back((due, ticket, write));
                }
                Output::Send { to, message } => {
                    let bytes = message.encode();
                    self.fly(id, to, Packet::Message(bytes));
                }
                Output::SendSnapshot { to, record, message } => {
                    // The file may be gone already.
                    match server.files.get(&record.point.at.index).copied() {
                        Some(state) => self.fly(id, to, Packet::Stream(state, message.encode())),
                        None => server.engine.as_mut().unwrap().snapshot_sent(to, false),
                    }
                }
                Output::Committed { at, payload } => self.commit(id, at, &payload),
                Output::MembersChanged { configuration } => server.members = configuration,
                Output::Restored { point } => self.restore(id, &point),
                Output::TakeSnapshot => self.snapshot(id),
                Output::Readable { ticket } => {
                    let applied = server.state.index;
                    let before = server.reads.len();
                    let stale = |(wanted, acknowledged): &(ReadTicket, u64)| {
                        *wanted <= ticket && *acknowledged > applied
                    };
                    assert!(!server.reads.iter().any(stale), "seed {}: a stale read", self.seed);
                    server.reads.retain(|(wanted, _)| *wanted > ticket);
                    self.index_reads += (before - server.reads.len()) as u64;
                }
                Output::BecameMaster { term } => {
                    assert_eq!(server.master.replace(term), None);
                    self.masterships.push((self.now, term));
                    self.check_alone(id);
                }
                Output::Deposed { term } => {
                    assert_eq!(server.master.take(), Some(term));
                    server.reads.clear();
                }
            }
        }
    }

    fn commit(&mut self, id: u64, at: LogPosition, payload: &[u8]) {
        let seed = self.seed;
        let server = self.servers.get_mut(&id).unwrap();
        assert!(at.index > server.state.index, "seed {seed}: given out twice: {at:?}");
        let found = server.store.image.entries.iter().find(|entry| entry.at == at);
        assert!(found.is_some_and(|entry| entry.payload == payload), "seed {seed}: {at:?} is not durable");
        let (term, known) = self.agreed.entry(at.index).or_insert_with(|| (at.term, payload.to_vec()));
        assert!((*term, known.as_slice()) == (at.term, payload), "seed {seed}: another at {}", at.index);
        server.state.apply(at.index, payload);
        let known = self.states.entry(at.index).or_insert(server.state);
        assert_eq!(*known, server.state, "seed {seed}: server {id} has another history");
        if server.master.is_some() {
            self.acknowledged = self.acknowledged.max(at.index);
        }
        let base = server.store.image.base.at.index;
        if self.snapshot_every < u64::MAX && at.index - base >= self.snapshot_every {
            self.snapshot(id);
        }
    }

    fn snapshot(&mut self, id: u64) {
        let server = self.servers.get_mut(&id).unwrap();
        let engine = server.engine.as_mut().unwrap();
        let point = engine.snapshot_point();
        let trim_through = engine.trim_point(point.at.index);
        server.files.insert(point.at.index, server.state);
        server.files.retain(|index, _| *index >= point.at.index);
        let record = SnapshotRecord { point, length: 8, checksum: server.state.hash as u32 };
        server.store.record_snapshot(&record, trim_through).unwrap();
        engine.compact(record, trim_through);
    }

    fn restore(&mut self, id: u64, point: &SnapshotPoint) {
        let server = self.servers.get_mut(&id).unwrap();
        assert_eq!(server.store.image.base, *point, "it is not durable");
        assert!(point.at.index > server.state.index);
        server.state = server.files[&point.at.index];
        server.members = point.configuration.clone();
        if server.state.count > 0 {
            assert_eq!(self.states[&server.state.index], server.state, "seed {}", self.seed);
        }
        self.restored += 1;
    }

    /// A new master begins: none before it may still have the lease, also not one that is paused and may wake just now. (It
    /// may itself have been paused since it was elected, and have been followed by another.)
    fn check_alone(&self, id: u64) {
        let term = self.servers[&id].master;
        for other in self.servers.values().filter(|other| other.id != id && other.master < term) {
            assert!(!other.has_lease(self.now), "seed {}: {} and {id} are master", self.seed, other.id);
        }
    }

    /// Whoever has the lease has all that was acknowledged.
    fn check_leases(&mut self) {
        for server in self.servers.values().filter(|server| server.has_lease(self.now)) {
            assert!(server.state.index >= self.acknowledged, "seed {}: a stale lease read", self.seed);
            self.lease_reads += 1;
        }
    }
}
