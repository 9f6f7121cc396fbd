//! A client's session with a server, as a state machine: calls and datagrams in, datagrams and events out.
//!
//! There are plain sessions, as Hail's programs have them (docs/protocol.md 3 to 5), and extended ones, which are
//! negotiated in NEW_SESS with servers of ours (docs/protocol.md 7). Calls and events are the same.

mod acks;
mod bodies;
mod calls;
mod config;
mod event;
mod extended;
mod handles;
mod incoming;
mod keep_alive;
mod negotiate;
mod resume;

use core::mem::MaybeUninit;
use core::net::SocketAddr;
use core::ops::Range;

pub use config::{
    Checked, Config, ConfigError, FullSession, MAX_SERVERS, PLAIN_TERMS, SmallSession, rx_bytes, tx_bytes,
};
pub use event::{CallError, End, Event, Handle, Outcome, Rejected, RequestId};
pub use handles::LockState;

use acks::Acks;
use bodies::Bodies;
use config::{ALONE, AMONG_OTHERS, PACING, Patience, resumed_bytes};
use extended::Extended;
use handles::Handles;
use incoming::Ready;

use crate::lease::{Lease, LeaseState, Terms};
use crate::link::{Early, Outgoing, Receiver, Sender};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::extended::Features;
use crate::wire::limits::{MAX_PACKET, MAX_USER, PIECE};
use crate::wire::{Key, Op, Part, Request, Rider, Seal};

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

/// How many acknowledgements, and how many passes without progress, show that a server waits for them: half the
/// window of ours; Hail's has none, and would have acknowledged a piece by then.
const STUCK_ACKS: u64 = 16;
const STUCK_PASSES: u32 = 2;

/// A session that renews its lease by requests asks so often what is new of the cell.
const NEWS: Duration = Duration::from_secs(30);

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
    /// The servers that are known: those of which the cell has told, and those of the configuration of which it has not.
    servers: heapless::Vec<SocketAddr, MAX_SERVERS>,
    /// How many of them, from the first, the cell has told.
    told_servers: usize,
    /// Whose turn it is.
    turn: usize,
    /// The server that the session is with, or that is being tried. It may be one that another server has named.
    server: SocketAddr,
    lease_wanted: Duration,
    drift_ppm: u32,
    wants_extended: bool,
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
    handles: Handles<HANDLES>,
    /// The names of the last events. A server that begins its numbers anew sends those again whose acknowledgement it
    /// missed, at most so many, under their names but with other numbers.
    told_events: heapless::Deque<u64, 16>,
    lease: Option<Lease>,
    next_call: u64,
    /// How many servers in a row have said that they are not the master.
    refusals: usize,
    kind: Kind,
    /// If the session is extended.
    extended: Option<Extended>,
    /// The highest epoch that a server has spoken of.
    seen_epoch: u64,

    ready: Option<Ready>,
    connected_untold: bool,
    failover_untold: bool,
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
            assert!(RX >= resumed_bytes(HANDLES), "a session must hold the answer to RESUME");
        }
        let mut session = Self::idle(&Checked::new(config)?, now);
        session.connect();
        Ok(session)
    }

    /// As [`new`](Self::new), in memory of the caller's, for those whose stack has no room for a session.
    pub fn start_in<'m>(
        place: &'m mut MaybeUninit<Self>,
        checked: &Checked<'_>,
        now: Instant,
    ) -> &'m mut Self {
        let session = place.write(Self::idle(checked, now));
        session.connect();
        session
    }

    /// A session that has not begun. Put in its place without a copy only if it is inlined.
    #[inline(always)]
    fn idle(checked: &Checked<'_>, now: Instant) -> Self {
        let Checked { config, user, key, servers, server } = checked;
        Self {
            user: user.clone(),
            key: key.clone(),
            rng: Rng::new(config.seed),
            servers: servers.clone(),
            told_servers: 0,
            turn: 0,
            server: *server,
            lease_wanted: config.lease,
            drift_ppm: config.drift_ppm,
            wants_extended: config.extended,
            patience: config.patience,
            now,
            phase: Phase::Connecting { until: now },
            sid: 0,
            sender: Sender::new(0, PACING, heapless::Vec::new()),
            bodies: Bodies::new(),
            receiver: Receiver::new(0, heapless::Vec::new(), heapless::Vec::new()),
            acks: Acks::default(),
            greetings: heapless::Deque::new(),
            handles: Handles::new(),
            told_events: heapless::Deque::new(),
            lease: None,
            next_call: 0,
            refusals: 0,
            kind: Kind::Unknown,
            extended: None,
            seen_epoch: 0,
            ready: None,
            connected_untold: false,
            failover_untold: false,
            lease_told: LeaseState::Safe,
            end_told: false,
        }
    }

    /// The datagram to send now, if there is one. To be called until there is none.
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut Datagram) -> Option<Transmit> {
        self.now = now;
        if self.extended.is_some() { self.transmit_extended(buffer) } else { self.transmit_plain(buffer) }
    }

    fn transmit_plain(&mut self, buffer: &mut Datagram) -> Option<Transmit> {
        if !self.holds_acks() {
            if let Some(number) = self.acks.pop() {
                return self.emit(None, Part::Only { xid: 0, op: Op::Ack }, number, &[], buffer);
            }
        }
        if matches!(self.phase, Phase::Ended(_)) {
            return None;
        }
        self.transmit_request(None, buffer)
    }

    fn transmit_extended(&mut self, buffer: &mut Datagram) -> Option<Transmit> {
        let (now, ack) = (self.now, self.receiver.ack());
        let is_over = matches!(self.phase, Phase::Ended(_));
        let loose = Some(Rider { ack, loose: true });
        if self.is_resuming() {
            let resume = self.transmit_resume(buffer);
            if resume.is_some() {
                return resume;
            }
        } else if !is_over {
            let (patience, round_trip) = (self.patience_now(), self.sender.round_trip().unwrap_or_default());
            if let Some((number, xid)) = self.extended.as_mut()?.keep_alive.poll(now, patience, round_trip) {
                self.extended.as_mut()?.acknowledger.sent();
                return self.emit(loose, Part::Only { xid, op: Op::Nop }, number, &[], buffer);
            }
            let request = self.transmit_request(Some(Rider { ack, loose: false }), buffer);
            if request.is_some() {
                self.extended.as_mut()?.acknowledger.sent();
                return request;
            }
        }
        let extended = self.extended.as_mut()?;
        let acknowledger = &mut extended.acknowledger;
        // After the end nobody asks for the time any more.
        let is_due = acknowledger.is_due(now) || is_over && acknowledger.poll_timeout().is_some();
        if !is_due || !is_over && !extended.may_acknowledge() {
            return None;
        }
        extended.acknowledger.sent();
        self.emit(loose, Part::Only { xid: 0, op: Op::Ack }, 0, &[], buffer)
    }

    fn transmit_request(&mut self, rider: Option<Rider>, buffer: &mut Datagram) -> Option<Transmit> {
        let cut = self.sender.poll(self.now)?;
        let body = &self.sender.get(cut.index)?.body.body;
        self.emit(rider, cut.part, cut.number, self.bodies.piece(body, cut.range), buffer)
    }

    fn emit(
        &self,
        rider: Option<Rider>,
        part: Part,
        number: u64,
        piece: &[u8],
        buffer: &mut Datagram,
    ) -> Option<Transmit> {
        let seal = Seal { sid: self.sid, user: &self.user, key: &self.key };
        let len = seal.emit_with(rider, part, number, piece, buffer).ok()?;
        Some(Transmit { to: self.server, len })
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.phase {
            Phase::Ended(_) => return None,
            Phase::Connecting { until } => self.has_others().then_some(until),
            Phase::Open | Phase::Ending => self.lease.as_ref().and_then(|lease| {
                let asking = (!self.is_renewing()).then(|| self.ask_at(lease));
                earlier(asking, lease.next_change(self.now))
            }),
        };
        let Some(extended) = &self.extended else { return earlier(own, self.sender.poll_timeout()) };
        let streams = match &extended.resuming {
            Some(resuming) => Some(resuming.poll_timeout()),
            None => earlier(extended.keep_alive.poll_timeout(), self.sender.poll_timeout()),
        };
        let ack = extended.acknowledger.poll_timeout().filter(|_| extended.may_acknowledge());
        earlier(earlier(own, streams), ack)
    }

    /// Does what is due: resends, renewal of the lease, the next server.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.is_resuming() {
            self.handle_resume_timeout();
        } else {
            self.sender.handle_timeout(now);
        }
        match self.phase {
            Phase::Connecting { until } if now >= until && self.has_others() => {
                self.refusals = 0;
                self.go_to_next();
                self.connect();
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
    pub const fn server(&self) -> Option<SocketAddr> {
        Some(self.server)
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

    /// Whether the session is extended, which is known once it is open.
    #[must_use]
    pub const fn is_extended(&self) -> bool {
        self.extended.is_some()
    }

    /// What both sides of an extended session can do.
    #[must_use]
    pub fn features(&self) -> Features {
        self.extended.as_ref().map_or(Features::NONE, |extended| extended.features)
    }

    /// The epoch of the master that an extended session is with.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.extended.as_ref().map(|extended| extended.epoch)
    }

    /// The terms of the lease, if the session is open.
    #[must_use]
    pub fn terms(&self) -> Option<Terms> {
        self.lease.as_ref().map(Lease::terms)
    }

    /// What this session knows of the lock of a handle.
    #[must_use]
    pub fn lock_state(&self, handle: Handle) -> LockState {
        self.handles.find(handle).map_or(LockState::Free, |open| open.lock)
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

    fn is_renewing(&self) -> bool {
        if let Some(extended) = &self.extended {
            return extended.keep_alive.is_asking() || extended.resuming.is_some();
        }
        // A full table renews the lease itself, as its answers come.
        self.is_full()
            || self.sender.iter().any(|message| message.op == Op::Nop && message.body.call.is_none())
    }

    /// When to ask the server for a sign of life: for the lease's sake, for that of a request, or for news of the cell,
    /// which the answers to requests do not bring.
    fn ask_at(&self, lease: &Lease) -> Instant {
        let Some(extended) = &self.extended else { return lease.renew_at() };
        let asking = lease.renew_at().min(extended.told + NEWS);
        match self.sender.get(0).and_then(|oldest| oldest.sent) {
            Some(sent) => asking.min(extended.heard.max(sent) + self.patience_now().answered_within),
            None => asking,
        }
    }

    /// What an extended session puts up with.
    fn patience_now(&self) -> &'static Patience {
        if self.servers.len() > 1 { &AMONG_OTHERS } else { &ALONE }
    }

    fn keep_lease(&mut self) {
        let Some(lease) = self.lease else { return };
        if lease.state(self.now) == LeaseState::Expired {
            self.phase = Phase::Ended(End::Expired);
            return;
        }
        if self.now >= self.ask_at(&lease) && !self.is_renewing() {
            match &mut self.extended {
                Some(extended) => extended.keep_alive.begin(self.now, self.rng.next_u64()),
                None => {
                    // There is room, or the session would count as renewing.
                    let _ = self.enqueue(&Request::Nop, None, None);
                }
            }
        }
        let (now, patience) = (self.now, self.patience_now());
        let is_silent = |extended: &Extended| extended.keep_alive.is_in_vain(now, patience);
        if self.extended.as_ref().is_some_and(is_silent) || self.sender.passes() >= patience.times {
            self.leave_silent();
        }
    }

    /// Asks for the closing of a handle that nobody wants.
    fn close_orphans(&mut self) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        let Some(orphan) = self.handles.orphan() else { return };
        let closing = self.sender.iter().any(|message| message.body.handle == Some(orphan));
        if !closing {
            // Without room it is tried again after the next answer.
            let _ = self.enqueue(&Request::Close { fh: orphan.0 }, None, Some(orphan));
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
