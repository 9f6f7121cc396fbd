//! The task that owns the node. Each turn takes in a bounded part of what has happened, so that no one thing, such as
//! a flood of datagrams, starves the others.

use cldc_core::time::{Duration, Instant};
use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};
use tracing::{debug, error, info, warn};

use super::ServeError;
use super::admin::{Admin, Question};
use super::clock::{clock, now, sleep_until};
use super::disk::DiskThreads;
use super::peers::{Peers, deliver};
use super::questions::Questions;
use super::recover::recover;
use super::signals::{Order, Signals};
use super::sockets::{Received, Sockets};
use crate::config::{Config, ConfigSource};
use crate::keys::Keys;
use crate::node::{Authority, Clock, Event as NodeEvent, Node, NodeConfig, Start};
use crate::peer::links::Event as LinkEvent;
use crate::peer::secret::SecretFile;
use crate::storage::Store;

/// The most datagrams taken from one socket in one turn.
const DATAGRAMS: usize = 64;
/// The most that is taken from the other servers in one turn.
const FRAMES: usize = 256;
/// As long without a turn, and the process was stopped or starved: the engine's ticks alone come more often.
const STALL: Duration = Duration::from_secs(1);
/// Datagrams taken from a socket in the turn after a stall: more than a socket holds.
const BACKLOG: usize = 65_536;

/// Room for a datagram: as much as Hail's server takes (protocol.md 1.4). The rest of a longer one is cut off, and so it
/// is no packet.
const DATAGRAM: usize = 4096;

/// How long an end may take: after this, requests that are not answered yet stay unanswered.
const END: Duration = Duration::from_secs(2);

/// A server in this process.
pub(crate) struct Server {
    runtime: Runtime,
    task: Task,
}

impl Server {
    /// Opens the data directory and the sockets. `None` if a signal told the process to end meanwhile.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub(crate) fn start(config: &Config, source: ConfigSource) -> Result<Option<Self>, ServeError> {
        let keys = config.keys.load()?;
        log_keys(config, &keys);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(Task::start(config, source, keys)) {
            Ok(Some(task)) => Ok(Some(Self { runtime, task })),
            other => {
                // The data may still be being read; nothing is lost if that stops anywhere.
                runtime.shutdown_background();
                other.map(|_| None)
            }
        }
    }

    /// The port that the server listens on.
    pub(crate) fn port(&self) -> u16 {
        self.task.sockets.port()
    }

    /// Serves until a signal tells the process to end.
    ///
    /// # Errors
    /// [`ServeError::Fatal`].
    pub(crate) fn run(self) -> Result<(), ServeError> {
        self.runtime.block_on(self.task.run())
    }
}

struct Task {
    node: Node,
    sockets: Sockets,
    disk: DiskThreads,
    /// None in a cell of one.
    peers: Option<Peers>,
    /// None if the socket could not be made.
    admin: Option<Admin>,
    questions: Questions,
    signals: Signals,
    source: ConfigSource,
    watchdog: Option<Watchdog>,
    /// When to end at the latest, once told to end.
    end_by: Option<Instant>,
    last_turn: Instant,
    buffer: Box<[u8]>,
}

impl Task {
    async fn start(config: &Config, source: ConfigSource, keys: Keys) -> Result<Option<Self>, ServeError> {
        let mut signals = Signals::catch()?;
        let secret = config.cell.as_ref().map(|cell| SecretFile::read(&cell.secret)).transpose()?;
        let cell = secret.as_ref().map(|secret| secret.cell);
        let Some((start, store)) = recover_unless_told_to_end(config, cell, &mut signals).await? else {
            return Ok(None);
        };
        let sockets = Sockets::bind(&config.addresses, config.port)?;
        for address in sockets.addresses() {
            info!("listening on {address}");
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let node_config = NodeConfig {
            authority: if config.cell.is_some() { Authority::Operator } else { Authority::Configuration },
            limits: config.limits,
            queue: config.queue_limits,
            sockets: sockets.served(),
            client_addresses: config.client_addresses.clone(),
            seed,
            ..NodeConfig::default()
        };
        let (identity, members) = (start.identity, start.log.base.configuration.clone());
        let node = Node::new(node_config, keys, start, clock())?;
        let secret = secret.map(|file| file.secret);
        let peers = match (&config.cell, secret.clone()) {
            (Some(cell), Some(secret)) => {
                Some(Peers::start(cell.peer, secret, identity, &members, node.offer()).await?)
            }
            _ => None,
        };
        let admin = Admin::start(&config.data)
            .map_err(|error| warn!("no 'cld status' and the like: {}: {error}", config.data.display()));
        let disk = DiskThreads::start(store)?;
        let (watchdog, buffer) = (Watchdog::asked_for(), vec![0; DATAGRAM].into());
        Ok(Some(Self {
            node,
            sockets,
            disk,
            peers,
            admin: admin.ok(),
            questions: Questions::new(identity, secret),
            signals,
            source,
            watchdog,
            end_by: None,
            last_turn: now(),
            buffer,
        }))
    }

    async fn run(mut self) -> Result<(), ServeError> {
        tell_service_manager(NotifyState::Ready);
        self.drain(clock());
        loop {
            if let Some(what) = self.node.fatal() {
                let what = what.to_owned();
                let diverged = self.node.has_diverged();
                return Err(if diverged { ServeError::Diverged(what) } else { ServeError::Fatal(what) });
            }
            if let Some(end_by) = self.end_by
                && (self.node.is_idle() || now() >= end_by)
            {
                if !self.node.is_idle() {
                    warn!("some requests stay without an answer; their clients will ask again");
                }
                let left = end_by.since(now()).into();
                let close = async {
                    if let Some(peers) = self.peers {
                        peers.close().await;
                    }
                    self.disk.close().await;
                };
                if tokio::time::timeout(left, close).await.is_err() {
                    warn!("the log was not closed in time; the next start may take longer");
                }
                return Ok(());
            }
            let watchdog = self.watchdog.as_ref().map(|watchdog| watchdog.next);
            let deadlines = [self.node.poll_timeout(), self.sockets.poll_timeout(), watchdog, self.end_by];
            tokio::select! {
                biased;
                order = self.signals.next() => self.obey(order),
                done = self.disk.next() => self.node.handle_disk(clock(), done),
                event = next_of(&mut self.peers) => deliver(&mut self.node, clock(), event),
                question = next_question(&mut self.admin) => {
                    self.questions.answer(&mut self.node, self.peers.as_ref(), clock(), question);
                }
                () = self.sockets.readable() => {}
                () = sleep_until(deadlines.into_iter().flatten().min()) => {}
            }
            self.turn();
            if self.peers.is_some() {
                // The links are tasks of this thread too.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes in what has happened, a bounded part of it, and does what the node wants. Time passes last: a session is
    /// not judged by a deadline while what its client sent before waits in the socket.
    fn turn(&mut self) {
        let begun = now();
        let stalled = begun >= self.last_turn + STALL;
        self.last_turn = begun;
        self.drain(clock());
        while let Some(done) = self.disk.try_next() {
            self.node.handle_disk(clock(), done);
            self.drain(clock());
        }
        for _ in 0..FRAMES {
            let Some(event) = self.peers.as_mut().and_then(Peers::try_next) else { break };
            deliver(&mut self.node, clock(), event);
            self.drain(clock());
        }
        for id in self.sockets.ids() {
            for _ in 0..if stalled { BACKLOG } else { DATAGRAMS } {
                match self.sockets.receive(id, begun, stalled, &mut self.buffer) {
                    Received::Datagram(from, length) => {
                        let datagram = self.buffer.get(..length).unwrap_or_default();
                        // Read after the datagram came, or it could be answered under a lease that is over.
                        let clock = clock();
                        self.node.handle_datagram(clock, id, from, datagram);
                        self.drain(clock);
                    }
                    Received::Nothing => {}
                    Received::Empty => break,
                }
            }
        }
        let clock = clock();
        // After a stop in the midst of this turn, the sockets come first in the next.
        let stopped = clock.now >= begun + STALL && !stalled;
        if !stopped && self.node.poll_timeout().is_some_and(|at| at <= clock.now) {
            self.node.handle_timeout(clock);
            self.drain(clock);
        }
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed(begun);
        }
    }

    /// Does what the node wants done.
    fn drain(&mut self, clock: Clock) {
        while self.disk.has_room()
            && let Some(job) = self.node.poll_disk()
        {
            self.disk.submit(job);
        }
        while let Some(transmit) = self.node.poll_transmit(clock, &mut self.buffer) {
            let datagram = self.buffer.get(..transmit.len).unwrap_or_default();
            self.sockets.send(transmit.via, transmit.to, datagram);
        }
        while let Some((to, frame)) = self.node.poll_peer() {
            if let Some(peers) = &self.peers {
                peers.send(to, &frame);
            }
        }
        while let Some(event) = self.node.poll_event() {
            match event {
                NodeEvent::MembersChanged(members) => {
                    if let Some(peers) = &self.peers {
                        peers.set_members(&members);
                    }
                    self.questions.members_changed(&members);
                }
                NodeEvent::VersionChanged { version } => {
                    if let Some(peers) = &self.peers {
                        peers.set_version(version);
                    }
                }
                NodeEvent::Deposed => self.questions.deposed(),
                NodeEvent::Set { ticket, result } => self.questions.settings.was_set(ticket, result),
                NodeEvent::Configured => {
                    info!("keys and limits reloaded; other options change at the next start");
                }
                NodeEvent::Serving { .. } => {}
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::End if self.end_by.is_some() => {}
            Order::End => {
                info!("told to end: taking no more requests");
                tell_service_manager(NotifyState::Stopping);
                self.node.shut_down(clock());
                self.end_by = Some(now() + END);
            }
            Order::Reload => match self.reload() {
                Ok(()) => {}
                Err(failure) => error!("nothing was reloaded, the old keys and limits stay: {failure}"),
            },
            Order::Statistics => self.log_statistics(),
        }
    }

    /// Reads the keys and the limits again. If either cannot be read, both stay. In a cell of several they are the cell's.
    fn reload(&mut self) -> Result<(), ServeError> {
        if self.peers.is_some() {
            info!("nothing to reload: users and limits are the cell's; see 'cld user' and 'cld limits'");
            return Ok(());
        }
        let config = self.source.read()?;
        let keys = config.keys.load()?;
        log_keys(&config, &keys);
        self.node.reconfigure(clock(), keys, config.limits);
        Ok(())
    }

    fn log_statistics(&self) {
        let status = self.node.status();
        let (totals, counters) = (status.totals, &status.endpoint);
        info!(
            serves = status.serves,
            epoch = status.epoch,
            sessions = totals.sessions,
            handles = totals.handles,
            inodes = totals.inodes,
            data = totals.data,
            claims = totals.claims,
            received = counters.received,
            malformed = counters.malformed,
            forged = counters.forged,
            duplicates = counters.duplicates,
            requests = counters.requests,
            not_proved = counters.not_proved,
            sent = counters.sent,
            unsent = self.sockets.unsent,
            lost = status.lost,
            opened = counters.opened,
            expired = counters.expired,
            refusals = counters.refusals,
            resumed = counters.resumed,
            challenges = counters.challenges,
            keepalives = counters.keepalives,
            foreign = counters.foreign,
            first_index = status.replica.first_index,
            last_index = status.replica.last_index,
            commit = status.replica.commit,
            applied = status.replica.applied,
            digest = %status.digest,
            confirmed = status.confirmed,
            snapshot = status.snapshot,
            limits = ?counters.limits,
            "STAT",
        );
    }
}

/// What comes next from the other servers; nothing ever in a cell of one.
async fn next_of(peers: &mut Option<Peers>) -> LinkEvent {
    match peers {
        Some(peers) => peers.next().await,
        None => std::future::pending().await,
    }
}

/// What an operator asks next.
async fn next_question(admin: &mut Option<Admin>) -> Question {
    match admin {
        Some(admin) => admin.next().await,
        None => std::future::pending().await,
    }
}

/// Reads the data on a thread of its own, so that signals are obeyed meanwhile.
async fn recover_unless_told_to_end(
    config: &Config,
    cell: Option<u128>,
    signals: &mut Signals,
) -> Result<Option<(Start, Store)>, ServeError> {
    let directory = config.data.clone();
    let mut reading = tokio::task::spawn_blocking(move || recover(&directory, cell));
    loop {
        tokio::select! {
            read = &mut reading => return match read {
                Ok(read) => Ok(Some(read?)),
                Err(panic) => Err(ServeError::Fatal(format!("reading the data failed: {panic}"))),
            },
            order = signals.next() => match order {
                Order::End => return Ok(None),
                Order::Reload | Order::Statistics => debug!("a signal came too early, while the data is being read"),
            }
        }
    }
}

fn log_keys(config: &Config, keys: &Keys) {
    if config.cell.is_some() {
        // Its first server reads them once, and says so.
        return info!("users and limits are the cell's, and not read from the configuration of its servers");
    }
    match (keys, &config.keys) {
        (Keys::Listed(users), source) if users.is_empty() => {
            warn!("no users in {source}: nobody can open a session")
        }
        (Keys::Listed(users), source) => info!("{} users in {source}", users.len()),
        (Keys::UserAsKey, _) => {
            warn!("insecure-user-as-key: every user's name is its secret, which keeps nobody out")
        }
    }
}

/// Tells systemd, if it asked to be told.
fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("the service manager cannot be told: {error}");
    }
}

/// Shows the service manager that turns are taken, twice as often as it asks.
struct Watchdog {
    every: Duration,
    next: Instant,
}

impl Watchdog {
    fn asked_for() -> Option<Self> {
        let every = sd_notify::watchdog_enabled()?;
        Some(Self { every: Duration::from(every).part(2), next: now() })
    }

    fn feed(&mut self, now: Instant) {
        if now >= self.next {
            self.next = now + self.every;
            tell_service_manager(NotifyState::Watchdog);
        }
    }
}
