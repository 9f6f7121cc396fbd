//! Sessions as streams of packets: who may speak, in which order requests take effect, and what goes out when.
//!
//! [`Endpoint`] is a state machine between datagrams and the replicated state. Datagrams come in; commands for the log
//! go out ([`Endpoint::next_action`]) and come back applied ([`Endpoint::applied`]), and only then are answered; reads are
//! answered from the [`Database`]. It knows nothing of consensus and disks, and has no clock, sockets or threads.
//!
//! - `admission`: which packets get to a session; `refusals`: results for those that do not; `redirect`: what a server
//!   says that is not the master;
//! - `session`: one session's stages, lease and deadlines; `incoming`: its packets that arrive; `jobs`: the order of its
//!   requests; `answers`, `outbox`, `content`: what its client is told; `recover`: how it goes on after a restart;
//! - `extended`: what sessions of our clients have beyond; `resume`: how they go on elsewhere, or after a restart;
//! - `schedule`: who has something to do; `limits`, `timing`: how much and how long; `bounded`: the link's storage.

mod admission;
mod answers;
mod bounded;
mod content;
mod extended;
mod incoming;
mod jobs;
mod limits;
mod outbox;
mod recover;
mod redirect;
mod refusals;
mod resume;
mod schedule;
mod session;
mod timing;

pub use limits::{Counters, QueueLimits};
pub use redirect::Lookout;
pub use timing::Timing;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cldc_core::rng::Rng;
use cldc_core::time::Instant;
use cldc_core::wire::extended::{Addresses, MAX_ADDRESSES};
use cldc_core::wire::{Op, Seal};

use crate::database::{Action, Database, Effects, UserName};
use limits::{Refused, Shares};
use refusals::{Refusal, Refusals, What};
use resume::Secret;
use schedule::Schedule;
use session::{Context, Session, Stage};

/// One of the server's own sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u16);

/// Which way a datagram of a client came, and the answers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// By one of the server's own sockets.
    Socket(SocketId),
    /// By another server of the cell, which passes on what plain clients say.
    Relay {
        /// That server.
        peer: u64,
        /// Its socket.
        socket: SocketId,
    },
    /// It is not known by which of the cell's servers the client is reached: this socket, and those of all others. A plain
    /// client hears only the one that it has spoken to.
    All(SocketId),
}

/// A datagram to be sent: the first `len` bytes of the buffer that was filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit<V = SocketId> {
    /// The way to send it.
    pub via: V,
    /// Where to.
    pub to: SocketAddr,
    /// Its length in bytes.
    pub len: usize,
}

/// What an endpoint is told at its start.
#[derive(Clone, Debug, Default)]
pub struct EndpointConfig {
    /// How long things take.
    pub timing: Timing,
    /// How much a session and a user may take.
    pub queue: QueueLimits,
    /// The server's sockets and the addresses that they are bound to. After a restart, a client that was not heard of
    /// yet is called through the first one of its address's family, and through the other servers; without one it must
    /// speak first.
    pub sockets: Vec<(SocketId, SocketAddr)>,
    /// Where the cell's servers may be reached by clients, which are told so. If it is empty, they are told the addresses
    /// of the sockets that are bound to one.
    pub client_addresses: Vec<SocketAddr>,
}

impl EndpointConfig {
    /// Where clients are told that servers may be reached.
    fn servers(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let bound = self.sockets.iter().map(|&(_, address)| address);
        let bound =
            bound.filter(|address| self.client_addresses.is_empty() && !address.ip().is_unspecified());
        self.client_addresses.iter().copied().chain(bound)
    }

    /// The same, as far as they are told.
    fn addresses(&self) -> Addresses {
        let mut addresses = Addresses::new();
        addresses.extend(self.servers().take(addresses.capacity()));
        addresses
    }

    /// Where the members of the cell may be reached, as far as they are told; none if the cell knows none.
    fn members(&self) -> &[SocketAddr] {
        self.client_addresses.get(..MAX_ADDRESSES).unwrap_or(&self.client_addresses)
    }

    fn way_to(&self, peer: SocketAddr) -> Option<Via> {
        let socket = self.sockets.iter().find(|(_, local)| local.is_ipv4() == peer.is_ipv4());
        socket.map(|&(id, _)| Via::All(id))
    }
}

/// Requests that wait for a state that is new enough: of each session, all up to one.
#[derive(Debug)]
pub struct Readers(Vec<(u64, u64)>);

/// The sessions of a master.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    rng: Rng,
    /// What cookies are made with.
    secret: Secret,
    sessions: BTreeMap<u64, Session>,
    schedule: Schedule,
    users: Shares,
    refusals: Refusals,
    counters: Counters,
    closing: bool,
    /// Until when the replicated state here is the newest.
    lease: Option<Instant>,
}

impl Endpoint {
    /// An endpoint without sessions. The seed must differ at every start and come from a good source: numbers made
    /// from it are what keeps recordings from being replayed.
    #[must_use]
    pub fn new(config: EndpointConfig, seed: [u8; 32], now: Instant) -> Self {
        let refusals = Refusals::new(&config.queue, now);
        let mut rng = Rng::new(seed);
        Self {
            config,
            secret: Secret::new(&mut rng),
            rng,
            sessions: BTreeMap::new(),
            schedule: Schedule::default(),
            users: Shares::default(),
            refusals,
            counters: Counters::default(),
            closing: false,
            lease: None,
        }
    }

    /// This server is the master, and its epoch begins: takes over the sessions in the database, and gives each its
    /// full lease and its grace.
    pub fn begin_epoch(&mut self, now: Instant, database: &Database) {
        self.clear();
        for (sid, found) in database.sessions() {
            let mut cx = self.context(now, database, found.user);
            let session = match found.terms {
                Some(terms) => Session::dormant(&mut cx, sid, found, terms),
                None => Session::recovered(&cx, sid, found),
            };
            self.sessions.insert(sid, session);
            self.file(database, sid);
        }
    }

    /// This server is not the master any more: forgets all sessions.
    pub fn clear(&mut self) {
        self.sessions.clear();
        self.schedule = Schedule::default();
        self.users = Shares::default();
    }

    /// Until when no other server can be the master. Without the lease, nothing leaves that the replicated state decides,
    /// but the answers to commands that are applied: clients repeat what is dropped, and reads wait for
    /// [`Endpoint::readable`].
    pub const fn set_lease(&mut self, until: Option<Instant>) {
        self.lease = until;
    }

    /// Where the cell's servers may be reached by clients.
    pub fn set_servers(&mut self, addresses: Vec<SocketAddr>) {
        self.config.client_addresses = addresses;
    }

    /// Whether requests wait to be answered from the state that is the newest by now.
    #[must_use]
    pub fn has_readers(&self) -> bool {
        self.schedule.has_readers()
    }

    /// The requests that wait to be answered from the newest state. Once all that was committed before this call is
    /// applied, [`Endpoint::readable`] answers them.
    pub fn begin_read(&mut self) -> Readers {
        let mut readers = Vec::new();
        for sid in self.schedule.take_readers() {
            if let Some(session) = self.sessions.get_mut(&sid) {
                session.filed.reading = false;
                readers.push((sid, session.jobs.ask()));
            }
        }
        Readers(readers)
    }

    /// The state is as new as it was when these requests had come: answers them.
    pub fn readable(&mut self, now: Instant, database: &Database, readers: &Readers) {
        for &(sid, last) in &readers.0 {
            self.with(now, database, sid, |session, cx| {
                session.jobs.readable(last);
                session.proceed(cx);
            });
        }
    }

    fn is_leased(&self, now: Instant) -> bool {
        self.lease.is_some_and(|until| now < until)
    }

    /// Takes no more requests; what is taken is still answered.
    pub const fn close(&mut self) {
        self.closing = true;
    }

    /// Whether nothing waits to go into the log or to be sent at once.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.schedule.nobody_acts() && self.schedule.next_ready().is_none() && self.refusals.is_empty()
    }

    /// How many sessions it keeps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether it keeps none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// What it has counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, database: &Database) {
        for sid in self.schedule.due(now) {
            self.with(now, database, sid, Session::handle_timeout);
        }
    }

    /// When [`Endpoint::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.schedule.next_deadline()
    }

    /// The next command for the log. It comes back through [`Endpoint::applied`].
    pub fn next_action(&mut self, now: Instant, database: &Database) -> Option<Action> {
        loop {
            let sid = self.schedule.pop_acting()?;
            let action = self.with(now, database, sid, |session, cx| {
                session.filed.acting = false;
                session.next_action(cx)
            });
            if let Some(action) = action.flatten() {
                return Some(action);
            }
        }
    }

    /// A command is applied to the database: tells the clients what it did.
    pub fn applied(&mut self, now: Instant, database: &Database, action: &Action, effects: &Effects) {
        for notice in &effects.events {
            self.with(now, database, notice.sid, |session, cx| session.notified(cx, notice));
        }
        match action {
            Action::BeginEpoch
            | Action::SetLimits(_)
            | Action::Set(_)
            | Action::RaiseVersion { .. }
            | Action::CompareDigests => {}
            Action::OpenSession { sid, user, xid, .. } => {
                self.note_limit(now, effects, user);
                let refused = self.with(now, database, *sid, |session, cx| {
                    let to = session.via.map(|via| (via, session.to, session.opened.1));
                    session.opened(cx, effects.reply).err().zip(to)
                });
                if let Some((code, (via, to, number))) = refused.flatten() {
                    let (sid, user, xid, op) = (*sid, *user, *xid, Op::NewSess);
                    let what = What::Result(code);
                    let refusal = Refusal { via, to, sid, user, op, xid, number, what };
                    self.queue_refusal(now, refusal);
                }
            }
            Action::Request { sid, xid, order, write, .. } => {
                if let Some(session) = self.sessions.get(sid) {
                    let user = session.user;
                    self.note_limit(now, effects, &user);
                }
                let ended = effects.ended == Some(*sid);
                self.with(now, database, *sid, |session, cx| {
                    session.applied(cx, (*xid, *order), write, effects.reply, ended);
                });
            }
            Action::ExpireSession { sid } => {
                let ended = effects.ended == Some(*sid);
                self.with(now, database, *sid, |session, cx| session.expired(cx, ended));
            }
        }
    }

    fn note_limit(&mut self, now: Instant, effects: &Effects, user: &UserName) {
        if let Some(kind) = effects.refused {
            self.counters.limit(now, Refused::Replicated(kind), user);
        }
    }

    /// Writes the next datagram that may leave into `buffer`, which must hold
    /// [`MAX_PACKET`](cldc_core::wire::limits::MAX_PACKET) bytes. To be called until it gives nothing.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        database: &Database,
        buffer: &mut [u8],
    ) -> Option<Transmit<Via>> {
        let transmit =
            self.poll_refusal(database, buffer).or_else(|| self.poll_session(now, database, buffer))?;
        self.counters.sent = self.counters.sent.saturating_add(1);
        Some(transmit)
    }

    fn poll_refusal(&mut self, database: &Database, buffer: &mut [u8]) -> Option<Transmit<Via>> {
        loop {
            let refusal = self.refusals.pop()?;
            let Some(key) = database.users().key_of(refusal.user.as_bytes()) else { continue };
            let seal = Seal { sid: refusal.sid, user: refusal.user.as_bytes(), key: &key };
            let xid = self.rng.next_u64();
            if let Ok(len) = refusal.emit(&seal, xid, self.config.members(), buffer) {
                return Some(Transmit { via: refusal.via, to: refusal.to, len });
            }
        }
    }

    fn poll_session(
        &mut self,
        now: Instant,
        database: &Database,
        buffer: &mut [u8],
    ) -> Option<Transmit<Via>> {
        loop {
            let sid = self.schedule.next_ready()?;
            if let Some(session) = self.sessions.get_mut(&sid) {
                if let Some(transmit) = session.poll_transmit(now, database.users(), &self.config, buffer) {
                    return Some(transmit);
                }
                session.filed.ready = false;
            }
            self.schedule.pop_ready();
            if let Some(session) = self.sessions.get_mut(&sid) {
                self.schedule.file(session, &mut self.users, database, false);
            }
        }
    }

    /// Lets a session take a step.
    fn with<R>(
        &mut self,
        now: Instant,
        database: &Database,
        sid: u64,
        step: impl FnOnce(&mut Session, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let leased = self.is_leased(now);
        let session = self.sessions.get_mut(&sid)?;
        let mut cx = Context {
            now,
            leased,
            database,
            config: &self.config,
            rng: &mut self.rng,
            counters: &mut self.counters,
            user: self.users.of(&session.user),
        };
        let result = step(session, &mut cx);
        self.file(database, sid);
        Some(result)
    }

    fn context<'a>(&'a mut self, now: Instant, database: &'a Database, user: UserName) -> Context<'a> {
        let user = self.users.of(&user);
        Context {
            now,
            leased: self.is_leased(now),
            database,
            config: &self.config,
            rng: &mut self.rng,
            counters: &mut self.counters,
            user,
        }
    }

    /// Takes note of what a session has to do after a step, or that it is gone.
    fn file(&mut self, database: &Database, sid: u64) {
        let Some(session) = self.sessions.get_mut(&sid) else { return };
        if session.stage != Stage::Gone {
            self.schedule.file(session, &mut self.users, database, true);
        } else if let Some(session) = self.sessions.remove(&sid) {
            self.schedule.forget(&session, &mut self.users);
        }
    }
}
