//! A client's session with a server, as a state machine: calls and datagrams in, datagrams and events out.
//!
//! Plain sessions, as Hail's programs have them (protocol.md 4 and 5). What our own servers add to that is
//! negotiated in NEW_SESS and belongs to the extended session (extensions.md).

mod acks;
mod bodies;
mod config;
mod event;
mod incoming;

use core::net::SocketAddr;
use core::ops::Range;

pub use config::{
    Config, ConfigError, FullSession, MAX_SERVERS, PLAIN_TERMS, SmallSession, rx_bytes, tx_bytes,
};
pub use event::{CallError, End, Event, Handle, Outcome, Rejected, RequestId};

use acks::Acks;
use bodies::Bodies;
use config::PACING;
use incoming::Ready;

use crate::lease::{Lease, LeaseState, Terms};
use crate::link::{Early, Outgoing, Receiver, Sender};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::limits::{MAX_KEY, MAX_PACKET, MAX_PATH, MAX_PAYLOAD, MAX_USER, PIECE};
use crate::wire::{EventMask, Key, LockFlags, Op, OpenMode, Part, Request, Seal};

/// Room for one datagram to be sent.
pub type Datagram = [u8; MAX_PACKET];

/// A datagram to be sent: so many bytes of the [`Datagram`], to this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// How many bytes.
    pub len: usize,
}

/// What this session knows of a lock of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// Neither held nor waited for.
    Free,
    /// Asked for, and waiting in the lock's queue.
    Waiting,
    /// Held, as long as the lease is safe.
    Held,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// NEW_SESS is on its way; at `until` the next server is tried.
    Connecting { until: Instant },
    /// Calls are taken.
    Open,
    /// END_SESS is on its way.
    Ending,
    /// Over.
    Ended(End),
}

/// What is known of the server's kind: a plain session does not say.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Unknown,
    /// It acknowledges pieces of requests, as Hail's does.
    Hail,
    /// It has begun its numbers anew, which Hail's never does.
    Other,
}

/// What a request in flight is about.
#[derive(Clone, Debug)]
struct InFlight {
    /// The call; none if the session asks for itself, or nobody wants the answer any more.
    call: Option<RequestId>,
    /// The handle concerned; of an OPEN none yet.
    handle: Option<Handle>,
    /// Where the body is kept.
    body: Range<usize>,
}

#[derive(Clone, Copy, Debug)]
struct OpenHandle {
    handle: Handle,
    lock: LockState,
    /// Nobody waits for this handle any more: it is closed as soon as there is room for the request.
    orphan: bool,
}

/// How many acknowledgements, and how many passes without progress, show that a server waits for them: half the
/// window of ours; Hail's has none, and would have acknowledged a piece by then.
const STUCK_ACKS: u64 = 16;
const STUCK_PASSES: u32 = 2;

type EarlyPieces<const EARLY: usize> = heapless::Vec<Early<heapless::Vec<u8, PIECE>>, EARLY>;

/// A client's session.
///
/// Mutate once ([`handle_datagram`](Self::handle_datagram), [`handle_timeout`](Self::handle_timeout), or a call),
/// then drain: [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event) until they give nothing,
/// and wait for a datagram or for [`poll_timeout`](Self::poll_timeout). While an event has not been taken, datagrams
/// are refused, and the server sends them again.
///
/// The sizes: `RX` bytes for the message that comes in (see [`rx_bytes`]), `TX` for the bodies of requests in flight
/// (see [`tx_bytes`]), `REQUESTS` requests in flight, `HANDLES` open handles, `EARLY` packets held that come before
/// their turn (each takes a little over 1 KiB; without any, losses among large replies cost more time).
/// [`SmallSession`] and [`FullSession`] are the ends of the scale.
#[derive(Debug)]
pub struct Session<
    const RX: usize,
    const TX: usize,
    const REQUESTS: usize,
    const HANDLES: usize,
    const EARLY: usize,
> {
    user: heapless::Vec<u8, MAX_USER>,
    key: Key,
    rng: Rng,
    servers: heapless::Vec<SocketAddr, MAX_SERVERS>,
    server: usize,
    terms: Terms,
    patience: Duration,

    now: Instant,
    phase: Phase,
    sid: u64,
    sender: Sender<heapless::Vec<Outgoing<InFlight>, REQUESTS>>,
    bodies: Bodies<TX>,
    receiver: Receiver<heapless::Vec<u8, RX>, EarlyPieces<EARLY>>,
    acks: Acks,
    /// Numbers of NEW_SESS replies that were acted on: a copy of one moves nothing.
    greetings: heapless::Deque<u64, 4>,
    handles: heapless::Vec<OpenHandle, HANDLES>,
    /// The names of the last events. A server that begins its numbers anew sends those again whose acknowledgement it
    /// missed, at most so many, under their names but with other numbers.
    told_events: heapless::Deque<u64, 16>,
    /// An event of a handle whose OPEN has not been answered yet (protocol.md 16).
    event_before_open: Option<(u64, EventMask)>,
    lease: Option<Lease>,
    next_call: u64,
    /// How many servers in a row have said that they are not the master.
    refusals: usize,
    kind: Kind,

    ready: Option<Ready>,
    connected_untold: bool,
    lease_told: LeaseState,
    end_told: bool,
}

impl<const RX: usize, const TX: usize, const REQUESTS: usize, const HANDLES: usize, const EARLY: usize>
    Session<RX, TX, REQUESTS, HANDLES, EARLY>
{
    /// A session that begins at once: NEW_SESS is the first thing to transmit.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: &Config<'_>, now: Instant) -> Result<Self, ConfigError> {
        const {
            assert!(REQUESTS > 0 && HANDLES > 0, "a session needs room for a request and a handle");
            assert!(
                RX >= rx_bytes(0) && TX >= tx_bytes(0, 1),
                "a session must hold any reply without contents"
            );
        }
        if config.user.is_empty() || config.user.len() > MAX_USER {
            return Err(ConfigError::User);
        }
        if config.key.len() > MAX_KEY {
            return Err(ConfigError::Key);
        }
        if config.servers.is_empty() {
            return Err(ConfigError::Servers);
        }
        let mut session = Self {
            user: heapless::Vec::from_slice(config.user).map_err(|_| ConfigError::User)?,
            key: Key::new(config.key).map_err(|_| ConfigError::Key)?,
            rng: Rng::new(config.seed),
            servers: heapless::Vec::from_slice(config.servers).map_err(|_| ConfigError::Servers)?,
            server: 0,
            terms: config.terms,
            patience: config.patience,
            now,
            phase: Phase::Connecting { until: now },
            sid: 0,
            sender: Sender::new(0, PACING, heapless::Vec::new()),
            bodies: Bodies::new(),
            receiver: Receiver::new(0, heapless::Vec::new(), heapless::Vec::new()),
            acks: Acks::default(),
            greetings: heapless::Deque::new(),
            handles: heapless::Vec::new(),
            told_events: heapless::Deque::new(),
            event_before_open: None,
            lease: None,
            next_call: 0,
            refusals: 0,
            kind: Kind::Unknown,
            ready: None,
            connected_untold: false,
            lease_told: LeaseState::Safe,
            end_told: false,
        };
        session.connect();
        Ok(session)
    }

    /// Opens a file or directory, or creates it: [`Outcome::Opened`].
    ///
    /// # Errors
    /// See [`CallError`]; so for all calls below.
    pub fn open(
        &mut self,
        now: Instant,
        path: &[u8],
        mode: OpenMode,
        events: EventMask,
    ) -> Result<RequestId, CallError> {
        check_path(path)?;
        let opening = self.sender.iter().filter(|message| message.op == Op::Open).count();
        if self.handles.len().saturating_add(opening) >= HANDLES {
            return Err(CallError::TooManyHandles);
        }
        self.call(now, &Request::Open { mode, events, path }, None)
    }

    /// Closes a handle, which releases its lock: [`Outcome::Done`].
    pub fn close(&mut self, now: Instant, handle: Handle) -> Result<RequestId, CallError> {
        self.handle_call(now, handle, &Request::Close { fh: handle.0 })
    }

    /// Reads a file: [`Outcome::Contents`].
    pub fn get(&mut self, now: Instant, handle: Handle) -> Result<RequestId, CallError> {
        self.handle_call(now, handle, &Request::Get { fh: handle.0 })
    }

    /// Reads the metadata of a file: [`Outcome::Contents`] without data.
    pub fn get_meta(&mut self, now: Instant, handle: Handle) -> Result<RequestId, CallError> {
        self.handle_call(now, handle, &Request::GetMeta { fh: handle.0 })
    }

    /// Replaces the contents of a file, 131072 bytes at most: [`Outcome::Done`].
    pub fn put(&mut self, now: Instant, handle: Handle, data: &[u8]) -> Result<RequestId, CallError> {
        if data.len() > MAX_PAYLOAD || tx_bytes(data.len(), 1) > TX {
            return Err(CallError::TooLarge);
        }
        self.handle_call(now, handle, &Request::Put { fh: handle.0, data })
    }

    /// Deletes a file or an empty directory: [`Outcome::Done`].
    pub fn del(&mut self, now: Instant, path: &[u8]) -> Result<RequestId, CallError> {
        check_path(path)?;
        self.call(now, &Request::Del { path }, None)
    }

    /// Takes a lock. If it is held by others: with `wait` [`Outcome::LockPending`], and [`EventMask::LOCKED`] for the
    /// handle once it is granted; without, [`Code::LockConflict`](crate::wire::Code::LockConflict).
    pub fn lock(
        &mut self,
        now: Instant,
        handle: Handle,
        flags: LockFlags,
        wait: bool,
    ) -> Result<RequestId, CallError> {
        self.handle_call(now, handle, &Request::Lock { fh: handle.0, flags, wait })
    }

    /// Releases a lock, or leaves its queue: [`Outcome::Done`].
    pub fn unlock(&mut self, now: Instant, handle: Handle) -> Result<RequestId, CallError> {
        self.handle_call(now, handle, &Request::Unlock { fh: handle.0 })
    }

    /// Asks for nothing, and so finds out whether the server is there: [`Outcome::Done`].
    pub fn nop(&mut self, now: Instant) -> Result<RequestId, CallError> {
        self.call(now, &Request::Nop, None)
    }

    /// Ends the session, which releases all it holds: [`Event::Ended`] follows the answers to what is in flight.
    pub fn end(&mut self, now: Instant) -> Result<(), CallError> {
        self.request(now, &Request::EndSess, None, None)?;
        self.phase = Phase::Ending;
        Ok(())
    }

    /// Nobody waits for this call any more: its answer will not be told. It may still be executed; a handle that it
    /// opens is closed again.
    pub fn abandon(&mut self, request: RequestId) {
        let index = self.sender.iter().position(|message| message.body.call == Some(request));
        if let Some(message) = index.and_then(|index| self.sender.get_mut(index)) {
            message.body.call = None;
        }
        self.forget_ready(request);
    }

    /// The datagram to send now, if there is one. To be called until there is none.
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut Datagram) -> Option<Transmit> {
        self.now = now;
        let to = self.server()?;
        let seal = Seal { sid: self.sid, user: &self.user, key: &self.key };
        if !self.holds_acks() {
            if let Some(number) = self.acks.pop() {
                let part = Part::Only { xid: 0, op: Op::Ack };
                let len = seal.emit(part, number, &[], buffer).ok()?;
                return Some(Transmit { to, len });
            }
        }
        if matches!(self.phase, Phase::Ended(_)) {
            return None;
        }
        let cut = self.sender.poll(now)?;
        let body = &self.sender.get(cut.index)?.body.body;
        let len = seal.emit(cut.part, cut.number, self.bodies.piece(body, cut.range), buffer).ok()?;
        Some(Transmit { to, len })
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.phase {
            Phase::Ended(_) => return None,
            Phase::Connecting { until } => (self.servers.len() > 1).then_some(until),
            Phase::Open | Phase::Ending => self.lease.as_ref().and_then(|lease| {
                let renewal = (!self.is_renewing()).then(|| lease.renew_at());
                earlier(renewal, lease.next_change(self.now))
            }),
        };
        earlier(own, self.sender.poll_timeout())
    }

    /// Does what is due: resends, renewal of the lease, the next server.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.sender.handle_timeout(now);
        match self.phase {
            Phase::Connecting { until } if now >= until && self.servers.len() > 1 => {
                self.refusals = 0;
                self.connect_to_next();
            }
            Phase::Open | Phase::Ending => self.keep_lease(),
            Phase::Connecting { .. } | Phase::Ended(_) => {}
        }
    }

    /// The session's id, a random number.
    #[must_use]
    pub const fn sid(&self) -> u64 {
        self.sid
    }

    /// The server that the session is with, or that is being tried.
    #[must_use]
    pub fn server(&self) -> Option<SocketAddr> {
        self.servers.get(self.server).copied()
    }

    /// Whether calls are taken.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// How far the lease is to be trusted at this moment. Before the session is open, not at all.
    #[must_use]
    pub fn lease_state(&self, now: Instant) -> LeaseState {
        match (&self.lease, self.phase) {
            (_, Phase::Ended(_)) => LeaseState::Expired,
            (Some(lease), _) => lease.state(now),
            (None, _) => LeaseState::Jeopardy,
        }
    }

    /// Until when the lease is safe, if the session is open.
    #[must_use]
    pub fn safe_until(&self) -> Option<Instant> {
        self.lease.as_ref().map(Lease::safe_until)
    }

    /// What this session knows of the lock of a handle.
    #[must_use]
    pub fn lock_state(&self, handle: Handle) -> LockState {
        self.handles.iter().find(|open| open.handle == handle).map_or(LockState::Free, |open| open.lock)
    }

    fn handle_call(
        &mut self,
        now: Instant,
        handle: Handle,
        request: &Request<'_>,
    ) -> Result<RequestId, CallError> {
        if !self.handles.iter().any(|open| open.handle == handle && !open.orphan) {
            return Err(CallError::UnknownHandle);
        }
        self.call(now, request, Some(handle))
    }

    fn call(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        handle: Option<Handle>,
    ) -> Result<RequestId, CallError> {
        let id = RequestId(self.next_call);
        self.request(now, request, Some(id), handle)?;
        self.next_call = self.next_call.wrapping_add(1);
        Ok(id)
    }

    fn request(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        call: Option<RequestId>,
        handle: Option<Handle>,
    ) -> Result<(), CallError> {
        match self.phase {
            Phase::Connecting { .. } => return Err(CallError::NotConnected),
            Phase::Ending | Phase::Ended(_) => return Err(CallError::Ended),
            Phase::Open => {}
        }
        self.now = now;
        self.enqueue(request, call, handle)
    }

    fn enqueue(
        &mut self,
        request: &Request<'_>,
        call: Option<RequestId>,
        handle: Option<Handle>,
    ) -> Result<(), CallError> {
        if self.sender.len() >= REQUESTS {
            return Err(CallError::Busy);
        }
        let body = match self.bodies.write(request) {
            Ok(body) => body,
            Err(_) => {
                self.compact_bodies();
                self.bodies.write(request).map_err(|_| CallError::Busy)?
            }
        };
        let xid = self.rng.next_u64();
        let (op, len) = (request.op(), body.len());
        self.sender.push(op, xid, len, InFlight { call, handle, body }).map_err(|_| CallError::Busy)?;
        Ok(())
    }

    /// Whether acknowledgements must wait. An ACK between two pieces of a request makes Hail's server lose its count
    /// for good (protocol.md 4.3), and which pieces have come is known only when the request is answered.
    fn holds_acks(&self) -> bool {
        let in_pieces = self.sender.iter().any(|message| message.sent.is_some() && message.pieces() > 1);
        // A server of another kind may be waiting for these before it can send that answer.
        let stuck = self.acks.len() >= STUCK_ACKS && self.sender.passes() >= STUCK_PASSES;
        match self.kind {
            Kind::Hail => in_pieces,
            Kind::Unknown => in_pieces && !stuck,
            Kind::Other => false,
        }
    }

    fn compact_bodies(&mut self) {
        self.bodies.forget();
        for index in 0..self.sender.len() {
            if let Some(message) = self.sender.get_mut(index) {
                self.bodies.keep(&mut message.body.body);
            }
        }
    }

    /// Begins anew with the present server: another id, other numbers, and NEW_SESS.
    fn connect(&mut self) {
        self.phase = Phase::Connecting { until: self.now + self.patience };
        self.sid = self.rng.next_u64();
        self.sender = Sender::new(self.rng.next_u64(), PACING, heapless::Vec::new());
        self.bodies = Bodies::new();
        self.acks.clear();
        // There is room: nothing else is in flight.
        let _ = self.enqueue(&Request::NewSess { extension: &[] }, None, None);
    }

    fn connect_to_next(&mut self) {
        self.server = self.server.wrapping_add(1).checked_rem(self.servers.len()).unwrap_or(0);
        self.connect();
    }

    fn is_renewing(&self) -> bool {
        // A full table renews the lease itself, as its answers come.
        self.sender.len() >= REQUESTS
            || self.sender.iter().any(|message| message.op == Op::Nop && message.body.call.is_none())
    }

    fn keep_lease(&mut self) {
        let Some(lease) = self.lease else { return };
        if lease.state(self.now) == LeaseState::Expired {
            self.phase = Phase::Ended(End::Expired);
        } else if self.now >= lease.renew_at() && !self.is_renewing() {
            // There is room, or the session would count as renewing.
            let _ = self.enqueue(&Request::Nop, None, None);
        }
    }

    /// Asks for the closing of a handle that nobody wants.
    fn close_orphans(&mut self) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        let Some(orphan) = self.handles.iter().find(|open| open.orphan).map(|open| open.handle) else {
            return;
        };
        let closing = self.sender.iter().any(|message| message.body.handle == Some(orphan));
        if !closing {
            // Without room it is tried again after the next answer.
            let _ = self.enqueue(&Request::Close { fh: orphan.0 }, None, Some(orphan));
        }
    }
}

fn check_path(path: &[u8]) -> Result<(), CallError> {
    if path.first() == Some(&b'/') && path.len() <= MAX_PATH { Ok(()) } else { Err(CallError::Path) }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
