//! What a session's client is told: messages in their order, until it has acknowledged them.

use std::collections::BTreeMap;

use cldc_core::link::{Outgoing, Pacing, Sender};
use cldc_core::rng::Rng;
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::PIECE;
use cldc_core::wire::{Ack, EventMask, Full, Op, Part, Rider, Seal};

use super::bounded::List;
use super::content::{Content, success};
use super::timing::WHOLE;
use crate::database::{Notice, Settled};

/// What a message to the client is, and so what its acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The reply to NEW_SESS or RESUME, or a NEW_SESS reply that nobody asked for.
    Greeting,
    /// PING.
    Ping,
    /// The reply to a request; `recorded` if it is in the session's table of replies.
    Reply { xid: u64, recorded: bool },
    /// An event, or several that were merged.
    Event(Notice),
    /// The reply to END_SESS.
    Farewell,
}

/// A message's part in the queue.
#[derive(Debug)]
struct Body {
    kind: Kind,
    content: Content,
}

/// What an acknowledgement told that was not known before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub(super) greeting: bool,
    pub(super) ping: bool,
    pub(super) farewell: bool,
}

/// After so many passes in vain the client's expectation is set anew: that of Hail's client may have been moved back
/// by a NEW_SESS reply that came late (protocol.md 16).
const PASSES_IN_VAIN: u32 = 3;

/// A NEW_SESS reply outside the stream, which sets the client's expectation to the number after its own. It leaves
/// before every pass until something after it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Resync {
    number: u64,
    /// A request id that nobody used.
    xid: u64,
    due: bool,
}

/// So many events may be on their way; others wait, and are merged. Hail's client acknowledges none of them, but the
/// PING after them, which must be inside the window, and among the numbers that the client takes again.
const EVENTS: usize = 16;
/// The same in an extended session, whose client acknowledges them: no more than leave room for requests.
const EVENTS_EXTENDED: usize = 32;

/// Events of one handle that wait for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Merged {
    events: EventMask,
    /// Of the last one.
    version: u64,
    serial: u64,
}

/// An acknowledgement of another stream than the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign;

/// The messages to one client.
#[derive(Debug)]
pub(super) struct Outbox {
    sender: Sender<List<Outgoing<Body>>>,
    packets: usize,
    /// How many of the messages are events.
    events: usize,
    /// Events for which there was no room, by handle.
    merged: BTreeMap<u64, Merged>,
    /// The session is an extended one.
    is_extended: bool,
    /// What the client has acknowledged since the session's last command.
    settled: Settled,
    /// When a PING should follow an event.
    flush_at: Option<Instant>,
    pinged: bool,
    /// Passes since the client has last acknowledged something.
    vain: u32,
    resync: Option<Resync>,
    /// The client has acknowledged such a reply, which Hail's never does: it is one that takes each packet once, and
    /// needs no healing.
    is_exact: bool,
}

impl Outbox {
    /// An outbox whose first packet will have this number, for at most `limit` messages.
    pub(super) const fn new(first: u64, pacing: Pacing, limit: usize) -> Self {
        Self {
            sender: Sender::new(first, pacing, List::new(limit)),
            packets: 0,
            events: 0,
            merged: BTreeMap::new(),
            is_extended: false,
            settled: Settled { replies: Vec::new(), events: Vec::new() },
            flush_at: None,
            pinged: false,
            vain: 0,
            resync: None,
            is_exact: false,
        }
    }

    /// Makes it that of an extended session, whose client lets so many packets be unacknowledged. It takes the place
    /// of another one: what the client has acknowledged there stays known.
    pub(super) fn extend(&mut self, window: u64, before: Self) {
        self.sender.set_selective(window);
        self.is_extended = true;
        self.settled = before.settled;
    }

    /// The number of messages on their way.
    pub(super) fn len(&self) -> usize {
        self.sender.len()
    }

    /// The number of packets of these messages.
    pub(super) const fn packets(&self) -> usize {
        self.packets
    }

    pub(super) fn set_pacing(&mut self, pacing: Pacing) {
        self.sender.set_pacing(pacing);
    }

    /// Whether the reply to RESUME is on its way.
    pub(super) fn greets(&self) -> bool {
        self.sender.get(0).is_some_and(|message| message.body.kind == Kind::Greeting)
    }

    /// Whether a reply to this request is on its way.
    pub(super) fn replies_to(&self, request: u64) -> bool {
        self.sender
            .iter()
            .any(|message| matches!(message.body.kind, Kind::Reply { xid, .. } if xid == request))
    }

    /// Whether an event of this handle is on its way.
    pub(super) fn tells_of(&self, handle: u64) -> bool {
        self.sender
            .iter()
            .any(|message| matches!(message.body.kind, Kind::Event(notice) if notice.fh == handle))
    }

    /// Replies that the client has acknowledged, and that its next command will tell the database of.
    pub(super) fn settled_replies(&self) -> usize {
        self.settled.replies.len()
    }

    /// Takes what the client has acknowledged since the last time.
    pub(super) fn take_settled(&mut self) -> Settled {
        std::mem::take(&mut self.settled)
    }

    /// Queues a message. `xid` is that of its header, which means nothing and so is random.
    ///
    /// # Errors
    /// [`Full`] if the queue is.
    pub(super) fn push(&mut self, kind: Kind, op: Op, xid: u64, content: Content) -> Result<(), Full> {
        let before = self.sender.next_number();
        self.sender.push(op, xid, content.len(), Body { kind, content })?;
        let packets = usize::try_from(self.sender.next_number().wrapping_sub(before)).unwrap_or(usize::MAX);
        self.packets = self.packets.saturating_add(packets);
        if !matches!(kind, Kind::Event(_)) {
            self.flush_at = None;
        }
        Ok(())
    }

    /// Queues a PING, unless one is on its way.
    pub(super) fn ping(&mut self, xid: u64) {
        if !self.pinged && self.push(Kind::Ping, Op::Ping, xid, Content::default()).is_ok() {
            self.pinged = true;
        }
    }

    /// Queues an event, which `content` writes, or merges it with the others of its handle that wait for room.
    pub(super) fn notify(
        &mut self,
        notice: &Notice,
        room: bool,
        flush_at: Instant,
        xid: u64,
        content: impl FnOnce(&Notice) -> Result<Content, Full>,
    ) {
        if !(room && self.merged.is_empty() && self.event(notice, xid, content).is_ok()) {
            let Notice { fh, events, version, serial, .. } = *notice;
            let before = self.merged.get(&fh).map_or(EventMask::NONE, |merged| merged.events);
            self.merged.insert(fh, Merged { events: before.with(events), version, serial });
        }
        self.flush_events(flush_at);
    }

    /// Queues the events of one handle of session `sid` that waited for room; `false` if none do.
    pub(super) fn unmerge(
        &mut self,
        sid: u64,
        flush_at: Instant,
        xid: u64,
        content: impl FnOnce(&Notice) -> Result<Content, Full>,
    ) -> bool {
        let Some((fh, merged)) = self.merged.pop_first() else { return false };
        let Merged { events, version, serial } = merged;
        if self.event(&Notice { sid, fh, events, version, serial }, xid, content).is_err() {
            self.merged.insert(fh, merged);
            return false;
        }
        self.flush_events(flush_at);
        true
    }

    /// A PING is to follow the events, at the latest then. Clients of extended sessions acknowledge events themselves.
    fn flush_events(&mut self, flush_at: Instant) {
        if !self.is_extended {
            self.flush_at.get_or_insert(flush_at);
        }
    }

    /// Whether events wait for room.
    pub(super) fn has_merged(&self) -> bool {
        !self.merged.is_empty()
    }

    fn event(
        &mut self,
        notice: &Notice,
        xid: u64,
        content: impl FnOnce(&Notice) -> Result<Content, Full>,
    ) -> Result<(), Full> {
        if self.events >= if self.is_extended { EVENTS_EXTENDED } else { EVENTS } {
            return Err(Full);
        }
        self.push(Kind::Event(*notice), Op::Event, xid, content(notice)?)?;
        self.events = self.events.saturating_add(1);
        Ok(())
    }

    /// The client has acknowledged all packets up to this one; nothing if it had before.
    pub(super) fn acknowledge(
        &mut self,
        now: Instant,
        number: u64,
        flush_at: Instant,
    ) -> Option<Acknowledged> {
        self.is_exact |= self.resync.is_some_and(|resync| resync.number == number);
        let base = self.sender.base_number();
        let mut told = Acknowledged::default();
        while let Some(message) = self.sender.acknowledge(now, number) {
            self.arrived(&message, &mut told);
            if matches!(message.body.kind, Kind::Ping) && self.ends_with_event() {
                self.flush_at.get_or_insert(flush_at);
            }
        }
        if self.sender.base_number() == base {
            return None;
        }
        self.resync = None;
        self.vain = 0;
        Some(told)
    }

    /// The client says what it has; nothing if that was known before. What it holds before its turn does not count: it
    /// would forget that if the session were resumed.
    ///
    /// # Errors
    /// [`Foreign`] if it is of another stream.
    pub(super) fn acknowledge_selectively(
        &mut self,
        now: Instant,
        ack: Ack,
    ) -> Result<Option<Acknowledged>, Foreign> {
        let base = self.sender.base_number();
        if !self.sender.acknowledge_selectively(now, ack) {
            return Err(Foreign);
        }
        let mut told = Acknowledged::default();
        while let Some(message) = self.sender.take_acknowledged() {
            self.arrived(&message, &mut told);
        }
        Ok((self.sender.base_number() != base).then_some(told))
    }

    /// The client has a message.
    fn arrived(&mut self, message: &Outgoing<Body>, told: &mut Acknowledged) {
        self.packets = self.packets.saturating_sub(usize::try_from(message.pieces()).unwrap_or(usize::MAX));
        match message.body.kind {
            Kind::Greeting => told.greeting = true,
            Kind::Ping => {
                told.ping = true;
                self.pinged = false;
            }
            Kind::Farewell => told.farewell = true,
            Kind::Reply { xid, recorded: true } => self.settled.replies.push(xid),
            Kind::Reply { recorded: false, .. } => {}
            Kind::Event(Notice { fh, serial, .. }) => {
                self.events = self.events.saturating_sub(1);
                self.settle_event(fh, serial);
            }
        }
    }

    /// Takes it that the client has these replies.
    pub(super) fn settle_replies(&mut self, requests: impl Iterator<Item = u64>) {
        for xid in requests {
            if !self.settled.replies.contains(&xid) {
                self.settled.replies.push(xid);
            }
        }
    }

    /// The events on their way, in their order.
    pub(super) fn events(&self) -> impl Iterator<Item = Notice> {
        self.sender.iter().filter_map(|message| match message.body.kind {
            Kind::Event(notice) => Some(notice),
            _ => None,
        })
    }

    /// Whether the client has acknowledged this event, or a later one of its handle.
    pub(super) fn has_told(&self, handle: u64, serial: u64) -> bool {
        self.settled.events.iter().any(|&(fh, last)| fh == handle && last >= serial)
    }

    fn settle_event(&mut self, fh: u64, serial: u64) {
        match self.settled.events.iter_mut().find(|(known, _)| *known == fh) {
            Some((_, last)) => *last = serial,
            None => self.settled.events.push((fh, serial)),
        }
    }

    fn ends_with_event(&self) -> bool {
        let last = self.sender.len().checked_sub(1).and_then(|last| self.sender.get(last));
        last.is_some_and(|message| matches!(message.body.kind, Kind::Event(_)))
    }

    /// Sends everything again at once, unless that was done less than `since` ago. With `heal`, sets the client's
    /// expectation anew where that helps; so also below.
    pub(super) fn hasten(&mut self, now: Instant, since: Duration, heal: bool, rng: &mut Rng) {
        if self.sender.hasten(now, since) {
            self.begin_pass(heal, rng);
        }
    }

    /// Whether part of a long message is acknowledged. A pass that begins in its middle makes Hail's client put it
    /// together wrongly, if what is missing are acknowledgements (protocol.md 15.2.3).
    fn is_half_taken(&self) -> bool {
        let base = self.sender.base_number();
        self.sender
            .get(0)
            .is_some_and(|oldest| oldest.pieces() > WHOLE && oldest.first != base && oldest.covers(base))
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, heal: bool, rng: &mut Rng) {
        if self.flush_at.is_some_and(|at| now >= at) {
            self.flush_at = None;
            if self.ends_with_event() {
                self.ping(rng.next_u64());
            }
        }
        let passes = self.sender.passes();
        self.sender.handle_timeout(now);
        if self.sender.passes() != passes {
            self.begin_pass(heal, rng);
        }
    }

    /// All is being sent again.
    fn begin_pass(&mut self, heal: bool, rng: &mut Rng) {
        self.vain = self.vain.saturating_add(1);
        if let Some(resync) = &mut self.resync {
            resync.due = true;
        } else if heal && !self.is_exact && (self.is_half_taken() || self.vain > PASSES_IN_VAIN) {
            let (number, xid) = (rng.next_u64(), rng.next_u64());
            self.resync = Some(Resync { number, xid, due: true });
            self.sender.renumber(number.wrapping_add(1));
        }
    }

    /// When [`Outbox::handle_timeout`] or [`Outbox::poll_packet`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.sender.poll_timeout(), self.flush_at].into_iter().flatten().min()
    }

    /// Writes the next packet that may leave now, in an extended session with its rider; its length.
    pub(super) fn poll_packet(
        &mut self,
        now: Instant,
        seal: &Seal<'_>,
        rider: Option<Rider>,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, Full> {
        let mut piece = [0; PIECE];
        if let Some(Resync { number, xid, due: due @ true }) = &mut self.resync {
            *due = false;
            let greeting = Content::of(&success(Op::NewSess, *xid))?;
            let part = Part::Only { xid: *xid, op: Op::NewSess };
            let piece = greeting.piece(&(0..greeting.len()), &mut piece)?;
            return seal.emit(part, *number, piece, buffer).map(Some);
        }
        let Some(cut) = self.sender.poll(now) else { return Ok(None) };
        let Some(message) = self.sender.get(cut.index) else { return Ok(None) };
        // The answer to NEW_SESS looks the same in both kinds of sessions, but for its length.
        let rider = rider.filter(|_| message.op != Op::NewSess);
        let piece = message.body.content.piece(&cut.range, &mut piece)?;
        seal.emit_with(rider, cut.part, cut.number, piece, buffer).map(Some)
    }
}
