//! The server as one state machine: it joins the endpoint, the replicated state and the consensus engine, and is the
//! only file that knows all of them.
//!
//! Datagrams, the other servers' frames, finished disk jobs and the time go in; datagrams, frames, disk jobs and a deadline
//! come out. *Change once, then drain [`Node::poll_disk`], [`Node::poll_transmit`], [`Node::poll_peer`] and
//! [`Node::poll_event`] until they give nothing.* (Frames after datagrams: some of those make frames.) A reply leaves only
//! after the entry that holds its command is committed, which for a cell of one means durable on its disk. What is read
//! leaves only under the master lease, or after the other servers were asked.

mod comparisons;
mod divergence;
mod front;
mod interface;
mod members;
mod peers;
mod settings;
mod snapshots;
mod transfers;
mod upgrade;

pub use divergence::Divergence;
pub use interface::{
    Clock, DiskDone, DiskJob, Event, NodeConfig, PeerCounters, SnapshotPolicy, Start, Status,
};
pub use settings::{Authority, SetError};

use std::collections::VecDeque;
use std::net::SocketAddr;

use cldc_core::time::Instant;

use crate::database::{Action, Batch, Command, Database};
use crate::endpoint::{Endpoint, EndpointConfig, Readers, SocketId, Transmit, Via};
use crate::keys::Keys;
use crate::peer::frame::{Frame, RelayWay};
use crate::replica::{Engine, EngineConfig, Output, RaftEngine, ReadTicket, StartError};
use crate::storage::{Configuration, LogPosition, SnapshotPoint, SnapshotRecord};
use comparisons::Comparisons;
use divergence::Stopping;
use front::Front;
use members::Farewell;
use peers::Peers;
use settings::Settings;
use snapshots::Snapshots;

/// Ticks without a word from the master until a follower asks for votes.
const ELECTION_TICKS: usize = 10;
/// Ticks between two words of the master.
const HEARTBEAT_TICKS: usize = 2;
/// Every so many ticks it is seen whether a newcomer has caught up, and the sender of a snapshot that is being taken in is
/// asked for patience.
const CATCH_UP_TICKS: u64 = 10;

/// Whether this server is the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mastery {
    No,
    /// The engine says so; the epoch is not applied yet.
    Beginning {
        term: u64,
    },
    /// It is applied; users and limits become those of the configuration, if that counts.
    Settling {
        term: u64,
    },
    /// It serves.
    Serving {
        term: u64,
    },
}

impl Mastery {
    /// In which term it is the master, or begins to be.
    const fn term(self) -> Option<u64> {
        match self {
            Self::No => None,
            Self::Beginning { term } | Self::Settling { term } | Self::Serving { term } => Some(term),
        }
    }
}

/// A server.
#[derive(Debug)]
pub struct Node<E = RaftEngine> {
    /// Its number in the cell.
    me: u64,
    config: NodeConfig,
    settings: Settings,
    engine: E,
    database: Database,
    endpoint: Endpoint,
    mastery: Mastery,
    /// Commands taken from the endpoint that are not in the log yet.
    commands: VecDeque<Command>,
    /// An entry of ours is on its way through the log.
    proposed: bool,
    disk: VecDeque<DiskJob>,
    snapshots: Snapshots,
    comparisons: Comparisons,
    /// Its state is wrong, and it is about to stop.
    stopping: Option<Stopping>,
    members: Configuration,
    peers: Peers,
    front: Front,
    /// Requests that wait for the engine to say that the state is new enough.
    reads: VecDeque<(ReadTicket, Readers)>,
    events: VecDeque<Event>,
    /// The log is to begin with the snapshot that was received.
    installing: bool,
    farewell: Farewell,
    ticks: u64,
    /// Datagrams that came while the server could not serve, and found no room.
    lost: u64,
    tick_at: Instant,
    fatal: Option<String>,
}

impl Node {
    /// A server that goes on from what its disk holds.
    ///
    /// # Errors
    /// [`StartError`] if the consensus engine cannot start, or the data is of a version that this server cannot apply.
    pub fn new(config: NodeConfig, keys: Keys, start: Start, clock: Clock) -> Result<Self, StartError> {
        config.versions.check("the state on the disk", start.database.version())?;
        let [a, b, c, d, e, f, g, h, ..] = config.seed;
        let usual = EngineConfig::new(start.identity.node, u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        let engine = RaftEngine::new(
            EngineConfig {
                election_ticks: ELECTION_TICKS,
                heartbeat_ticks: HEARTBEAT_TICKS,
                tick: config.timing.tick,
                keep_entries: config.keep_entries.unwrap_or(usual.keep_entries),
                ..usual
            },
            start.log.clone(),
        )?;
        let (me, members) = (start.identity.node.get(), start.log.base.configuration);
        let node = Self::with_engine(config, keys, engine, (me, members, start.database), clock);
        match node.fatal {
            Some(what) => Err(StartError::Replay(what)),
            None => Ok(node),
        }
    }
}

impl<E: Engine> Node<E> {
    /// A server on this engine: its number, and the members and the state after which the engine's log goes on.
    pub fn with_engine(
        config: NodeConfig,
        keys: Keys,
        engine: E,
        (me, members, database): (u64, Configuration, Database),
        clock: Clock,
    ) -> Self {
        let endpoint = EndpointConfig {
            timing: config.timing,
            queue: config.queue,
            sockets: config.sockets.clone(),
            client_addresses: config.client_addresses.clone(),
        };
        let mut node = Self {
            me,
            endpoint: Endpoint::new(endpoint, config.seed, clock.now),
            snapshots: Snapshots::new(config.snapshot, engine.snapshot_point().at.index),
            config,
            settings: Settings::new(keys),
            engine,
            database,
            mastery: Mastery::No,
            commands: VecDeque::new(),
            proposed: false,
            disk: VecDeque::new(),
            comparisons: Comparisons::default(),
            stopping: None,
            members: Configuration::default(),
            peers: Peers::default(),
            front: Front::default(),
            reads: VecDeque::new(),
            events: VecDeque::new(),
            installing: false,
            farewell: Farewell::No,
            ticks: 0,
            lost: 0,
            tick_at: clock.now,
            fatal: None,
        };
        node.members_changed(members);
        node.advance(clock);
        node
    }

    /// Takes in a datagram.
    pub fn handle_datagram(&mut self, clock: Clock, via: SocketId, from: SocketAddr, datagram: &[u8]) {
        if self.fatal.is_some() {
            return;
        }
        if !self.serves() {
            return self.handle_unserved(clock, via, from, datagram);
        }
        self.lease();
        let via = Via::Socket(via);
        self.endpoint.handle_datagram(clock.now, &self.database, (via, from), datagram);
        self.advance(clock);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, clock: Clock) {
        if self.fatal.is_some() {
            return;
        }
        if clock.now >= self.tick_at {
            // After a stall there is one tick, not many: the others had no chance to be heard meanwhile.
            self.tick_at = clock.now + self.config.timing.tick;
            self.engine.handle_tick(clock.now);
            self.ticks = self.ticks.wrapping_add(1);
            if self.ticks.is_multiple_of(CATCH_UP_TICKS) {
                self.promote();
                let (transfers, mut out) = self.peers.transfers(&mut self.disk);
                transfers.remind(&mut out);
            }
            self.compare_again(clock);
            self.sort_parked(clock);
        }
        // What the engine has to say comes first: it may be that this server is the master no more.
        self.advance(clock);
        if self.serves() {
            self.lease();
            self.endpoint.handle_timeout(clock.now, &self.database);
        }
        self.advance(clock);
    }

    /// A disk job is done, or has failed.
    pub fn handle_disk(&mut self, clock: Clock, done: DiskDone) {
        if self.fatal.is_some() {
            return;
        }
        match done {
            DiskDone::Appended { ticket } => self.engine.handle_persisted(ticket),
            DiskDone::SnapshotWritten { record } => {
                let trim_through = self.engine.trim_point(record.point.at.index);
                self.disk.push_back(DiskJob::RecordSnapshot { record, trim_through });
            }
            DiskDone::SnapshotRecorded { record, trim_through } => self.recorded(record, trim_through),
            DiskDone::SnapshotRead { transfer, bytes } => {
                let (transfers, mut out) = self.peers.transfers(&mut self.disk);
                let told = transfers.was_read(transfer, bytes, &mut out);
                self.tell(clock, told);
            }
            DiskDone::CopyWritten { copy, result } => {
                let (transfers, mut out) = self.peers.transfers(&mut self.disk);
                transfers.was_written(copy, result, &mut out);
            }
            DiskDone::CopyFinished { copy, database } => {
                let database = self.of_known_version(database);
                let (transfers, mut out) = self.peers.transfers(&mut self.disk);
                let told = transfers.was_copied(copy, database, &mut out);
                self.tell(clock, told);
            }
            DiskDone::MarkedDiverged => self.marked(),
            DiskDone::Noted => {}
            DiskDone::Failed { what } => self.fail(what),
        }
        self.advance(clock);
    }

    /// Writes the next datagram that may leave into `buffer`, which must hold
    /// [`MAX_PACKET`](cldc_core::wire::limits::MAX_PACKET) bytes. To be called until it gives nothing.
    pub fn poll_transmit(&mut self, clock: Clock, buffer: &mut [u8]) -> Option<Transmit> {
        if self.fatal.is_some() {
            return None;
        }
        while let Some(Transmit { via, to, len }) =
            self.endpoint.poll_transmit(clock.now, &self.database, buffer)
        {
            match via {
                Via::Socket(via) => return Some(Transmit { via, to, len }),
                Via::Relay { peer, socket } => {
                    let datagram = buffer.get(..len).unwrap_or_default();
                    self.relay(peer, RelayWay::ToClient, to, socket, datagram);
                }
                Via::All(via) => {
                    let datagram = buffer.get(..len).unwrap_or_default();
                    self.relay_by_all(to, datagram);
                    return Some(Transmit { via, to, len });
                }
            }
        }
        self.poll_relayed(buffer)
    }

    /// The next job for the disk. Jobs on the log ([`DiskJob::Append`], [`DiskJob::RecordSnapshot`]) must be done in the
    /// order given, and so must those of one transfer and of one copy; a snapshot file may be written beside them. Each is answered by [`Node::handle_disk`].
    pub fn poll_disk(&mut self) -> Option<DiskJob> {
        if self.fatal.is_some() {
            return None;
        }
        self.disk.pop_front()
    }

    /// When [`Node::handle_timeout`] has something to do; never once it has failed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.fatal.is_some() {
            return None;
        }
        let sessions = self.endpoint.poll_timeout();
        Some(sessions.map_or(self.tick_at, |at| at.min(self.tick_at)))
    }

    /// Why the server cannot go on: its disk failed, or its log cannot be read. It does nothing more; the process must
    /// end and be started again once the cause is removed.
    #[must_use]
    pub fn fatal(&self) -> Option<&str> {
        self.fatal.as_deref()
    }

    /// Takes no more requests. When [`Node::is_idle`], all that was taken is durable and answered, and another server is the
    /// master, if there is one that can be.
    pub fn shut_down(&mut self, clock: Clock) {
        self.endpoint.close();
        if self.farewell == Farewell::No {
            self.farewell = Farewell::Closing;
        }
        self.advance(clock);
    }

    /// Whether all that was taken is durable and answered; once told to shut down, also whether the mastership was handed
    /// over, as far as it can be.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let stays = match self.farewell {
            Farewell::No | Farewell::Done => true,
            Farewell::Closing => self.successor().is_none(),
            Farewell::Handing { .. } => false,
        };
        stays && self.is_quiet()
    }

    fn is_quiet(&self) -> bool {
        !self.proposed && self.commands.is_empty() && self.settings.is_empty() && self.endpoint.is_idle()
    }

    /// Whether it is the master, and answers.
    #[must_use]
    pub const fn serves(&self) -> bool {
        matches!(self.mastery, Mastery::Serving { .. })
    }

    /// The replicated state as far as it is applied here.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// What a snapshot of that state stands for.
    #[must_use]
    pub fn snapshot_point(&self) -> SnapshotPoint {
        self.engine.snapshot_point()
    }

    /// Where the server stands, and what it has counted.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            replica: self.engine.status(),
            serves: self.serves(),
            epoch: self.database.epoch(),
            sessions: self.endpoint.len(),
            totals: self.database.totals(),
            endpoint: self.endpoint.counters().clone(),
            lost: self.lost,
            digest: self.database.digest(),
            confirmed: self.comparisons.confirmed(),
            diverged: self.has_diverged(),
            others_diverged: self.comparisons.others_diverged(),
            snapshot: self.snapshots.last(),
            version: self.database.version(),
            versions: self.peers.links.clone(),
            lease_until: self.engine.lease_until(),
            peers: self.peers.counters,
        }
    }

    /// Goes on until nothing more can be done without the disk, a datagram, or the time.
    fn advance(&mut self, clock: Clock) {
        while self.fatal.is_none() {
            match self.engine.poll_output() {
                Some(Output::Persist { ticket, write }) => {
                    self.installing |= write.snapshot.is_some();
                    self.disk.push_back(DiskJob::Append { ticket, write })
                }
                Some(Output::Committed { at, payload }) => self.apply(clock, at, &payload),
                // Who is about to stop serves nobody.
                Some(Output::BecameMaster { .. } | Output::Deposed { .. }) if self.has_diverged() => {}
                Some(Output::BecameMaster { term }) => self.mastery = Mastery::Beginning { term },
                Some(Output::Deposed { .. }) => self.deposed(),
                Some(Output::Send { to, message }) => {
                    self.peers.frames.push_back((to, Frame::Message(message.encode())));
                }
                Some(Output::SendSnapshot { to, record, message }) => {
                    let (transfers, mut out) = self.peers.transfers(&mut self.disk);
                    transfers.send(to, &record, &message, &mut out);
                }
                Some(Output::TakeSnapshot) => self.snapshots.want(),
                Some(Output::Restored { point }) => self.restored(point),
                Some(Output::MembersChanged { configuration }) => self.members_changed(configuration),
                Some(Output::Readable { ticket }) => self.readable(clock, ticket),
                None if self.propose(clock) || self.begin_read(clock) || self.say_farewell(clock) => {}
                None => break,
            }
        }
        self.stop_if_done(clock);
        if self.fatal.is_none() && !self.has_diverged() {
            let compared = self.compares();
            self.disk.extend(self.snapshots.begin(&self.engine, &self.database, compared));
        }
    }

    /// Another server is the master, or may be soon. What was on its way may be committed or not: the clients ask again.
    fn deposed(&mut self) {
        tracing::info!(epoch = self.database.epoch(), "this server is not the master any more");
        self.mastery = Mastery::No;
        self.proposed = false;
        self.commands.clear();
        self.settings.restart();
        self.reads.clear();
        self.endpoint.clear();
        let (transfers, mut out) = self.peers.transfers(&mut self.disk);
        transfers.stop_sending(&mut out);
        self.events.push_back(Event::Deposed);
    }

    /// A snapshot is recorded, and the log trimmed as far as this. The rest is trimmed in further steps, between which
    /// other writes have their turn.
    fn recorded(&mut self, record: SnapshotRecord, trim_through: u64) {
        let index = record.point.at.index;
        self.engine.compact(record.clone(), trim_through);
        let next = self.engine.trim_point(index);
        if next > trim_through {
            self.disk.push_back(DiskJob::RecordSnapshot { record, trim_through: next });
        } else {
            self.snapshots.finished(&record.point);
            self.disk.push_back(DiskJob::RemoveSnapshots { before: index });
        }
    }

    /// The log begins anew with a snapshot that was received and decoded.
    fn restored(&mut self, point: SnapshotPoint) {
        let index = point.at.index;
        match self.peers.transfers.take_loaded(index) {
            Some(database) => {
                tracing::info!(index, "the state is that of another server's snapshot");
                let old = std::mem::replace(&mut self.database, *database);
                self.disk.push_back(DiskJob::Forget { database: Box::new(old) });
                self.events.push_back(Event::VersionChanged { version: self.database.version() });
                self.snapshots.restored(index);
                self.comparisons.restored();
                self.peers.counters.snapshots_restored =
                    self.peers.counters.snapshots_restored.saturating_add(1);
                self.members_changed(point.configuration);
            }
            None => self.fail(format!("the log begins with a snapshot at {index} which was not loaded")),
        }
    }

    /// Tells the endpoint how long the lease lasts now.
    fn lease(&mut self) {
        self.endpoint.set_lease(self.engine.lease_until());
    }

    /// Has the engine make sure that the state is the newest for those requests that wait for it.
    fn begin_read(&mut self, clock: Clock) -> bool {
        if !self.serves() || !self.endpoint.has_readers() {
            return false;
        }
        let Some(ticket) = self.engine.read(clock.now) else { return false };
        self.reads.push_back((ticket, self.endpoint.begin_read()));
        true
    }

    /// Answers the requests that waited for this.
    fn readable(&mut self, clock: Clock, ticket: ReadTicket) {
        self.lease();
        while self.reads.front().is_some_and(|(asked, _)| *asked <= ticket)
            && let Some((_, readers)) = self.reads.pop_front()
        {
            self.endpoint.readable(clock.now, &self.database, &readers);
        }
    }

    /// Puts the commands that wait into one entry and proposes it, if none is on its way.
    fn propose(&mut self, clock: Clock) -> bool {
        if self.proposed {
            return false;
        }
        self.compare_settings();
        if let Mastery::Settling { term } = self.mastery
            && self.settings.is_empty()
            && self.commands.is_empty()
        {
            self.serve(clock, term);
        }
        let batch = self.next_batch(clock);
        if batch.is_empty() {
            return false;
        }
        let commands = batch.len();
        match self.engine.propose(batch.into_entry()) {
            Ok(()) => {
                self.commands.drain(..commands.min(self.commands.len()));
                self.proposed = true;
            }
            // They stay queued, and are proposed again at the next tick.
            Err(error) => tracing::debug!(%error, commands, "the engine does not take an entry"),
        }
        self.proposed
    }

    /// As many commands as fit in an entry, from the front of the queue.
    fn next_batch(&mut self, clock: Clock) -> Batch {
        let mut batch = Batch::new(self.version_to_propose());
        match self.mastery {
            Mastery::No => return batch,
            Mastery::Beginning { .. } if self.commands.is_empty() => {
                let epoch = self.database.epoch().saturating_add(1);
                let first = self.first_version().map(|to| Action::RaiseVersion { to });
                for action in [Action::BeginEpoch].into_iter().chain(first) {
                    self.commands.push_back(Command { at: clock.wall, epoch, action });
                }
            }
            Mastery::Beginning { .. } => {}
            Mastery::Settling { .. } | Mastery::Serving { .. } => self.queue_settings(clock),
        }
        let epoch = self.database.epoch();
        if self.serves()
            && self.commands.is_empty()
            && self.compares()
            && self.comparisons.is_due(self.snapshots.is_due())
        {
            self.comparisons.asked();
            self.commands.push_back(Command { at: clock.wall, epoch, action: Action::CompareDigests });
        }
        if let Some(to) = self.rise()
            && self.commands.is_empty()
        {
            self.commands.push_back(Command { at: clock.wall, epoch, action: Action::RaiseVersion { to } });
        }
        for at in 0.. {
            if at == self.commands.len() {
                if !self.serves() {
                    break;
                }
                let Some(action) = self.endpoint.next_action(clock.now, &self.database) else { break };
                self.commands.push_back(Command { at: clock.wall, epoch, action });
            }
            if !self.commands.get(at).is_some_and(|command| batch.push(command)) {
                break;
            }
        }
        batch
    }

    /// Applies a committed entry, and tells the endpoint what its commands did.
    fn apply(&mut self, clock: Clock, at: LogPosition, payload: &[u8]) {
        if self.mastery.term() == Some(at.term) {
            self.proposed = false;
        }
        let commands = match Batch::decode(payload, self.config.versions) {
            Ok(commands) => commands,
            Err(error) => {
                let index = at.index;
                return self.fail(format!("entry {index} of the log cannot be applied: {error}"));
            }
        };
        self.lease();
        for command in &commands {
            let version = self.database.version();
            let effects = self.database.apply(command);
            match self.mastery {
                Mastery::Serving { .. } => {
                    self.endpoint.applied(clock.now, &self.database, &command.action, &effects);
                    self.was_set(&command.action, &effects);
                }
                Mastery::Beginning { term } if term == at.term && command.action == Action::BeginEpoch => {
                    self.mastery = Mastery::Settling { term };
                    self.settings.restart();
                }
                Mastery::Settling { .. } => self.was_set(&command.action, &effects),
                Mastery::Beginning { .. } | Mastery::No => {}
            }
            if self.database.version() != version {
                self.raised(at, version);
            }
        }
        self.snapshots.applied(payload.len());
        self.comparisons.applied(payload.len());
        if commands.iter().any(|command| command.action == Action::CompareDigests) {
            self.note_digest(clock);
        }
    }

    /// Serves from now on, with all sessions of the replicated state.
    fn serve(&mut self, clock: Clock, term: u64) {
        self.mastery = Mastery::Serving { term };
        self.lease();
        self.endpoint.begin_epoch(clock.now, &self.database);
        self.events.push_back(Event::Serving { epoch: self.database.epoch() });
        tracing::info!(epoch = self.database.epoch(), sessions = self.endpoint.len(), "serving");
        self.unpark(clock);
    }

    fn fail(&mut self, what: String) {
        tracing::error!(what, "the server cannot go on");
        self.fatal = Some(what);
    }
}
