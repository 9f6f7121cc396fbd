//! How an extended session goes on from another address, at another server, or after a restart of the server
//! (docs/protocol.md 7.4).

use core::net::SocketAddr;

use super::config::{OFFERED, Patience, RESUMED_WITHIN};
use super::event::{Handle, Rejected};
use super::{Datagram, Phase, Session, Transmit};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::answer::outcome;
use crate::wire::extended::{HELLO_PACKET, Resume, challenge, fill, resumed};
use crate::wire::{Ack, Code, Op, Packet, Part, Request, Rider, Writer};

/// How often the server is asked that has sent a challenge, before it is the next one's turn. Those that are silent have
/// one try in each turn.
const TIMES: u32 = 4;

/// The longest pause between one RESUME and the next.
const LONGEST: Duration = Duration::from_secs(1);

/// The shortest time between two resumptions that are begun because a server hints at it.
const HINTS: Duration = Duration::from_secs(1);

/// A session that is looking for its server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resuming {
    /// The number of the RESUME; the new stream of this session begins with the one after it.
    number: u64,
    xid: u64,
    /// The server's challenge; 0 as long as there is none.
    cookie: u64,
    /// When the RESUME left for the first time with this number and cookie.
    sent: Option<Instant>,
    /// When it leaves next, or the next server is asked.
    due: Instant,
    /// How often this server has been asked without an answer.
    times: u32,
    /// The beginning of the answer is here, and with it the new streams.
    is_taking: bool,
    /// When the search began.
    begun: Instant,
    /// The server that the session was with and has left because it was silent.
    left: Option<SocketAddr>,
}

impl Resuming {
    fn begin(now: Instant, rng: &mut Rng, left: Option<SocketAddr>) -> Self {
        let (number, xid) = (rng.next_u64(), rng.next_u64());
        Self { number, xid, cookie: 0, sent: None, due: now, times: 0, is_taking: false, begun: now, left }
    }

    /// Asks another server, at once. As long as none has sent a challenge, the name of the RESUME stays: answers that
    /// come late count.
    fn ask_another(&mut self, now: Instant, rng: &mut Rng) {
        if self.cookie != 0 {
            *self = Self { begun: self.begun, ..Self::begin(now, rng, self.left) };
        }
        (self.due, self.times) = (now, 0);
    }

    /// Whether the answer is being taken in.
    pub(super) const fn is_taking(&self) -> bool {
        self.is_taking
    }

    /// Whether a packet answers this RESUME.
    pub(super) const fn is_named(&self, number: u64) -> bool {
        self.number == number
    }

    pub(super) const fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// Whether the RESUME leaves now; it counts as sent. The pause until the next one is a little shorter or longer than
    /// that of other sessions, which may have begun at the same moment.
    fn poll(&mut self, now: Instant, patience: &Patience, round_trip: Duration, rng: &mut Rng) -> bool {
        if self.has_asked() || now < self.due {
            return false;
        }
        self.sent.get_or_insert(now);
        let lasted = now.since(self.begun).part(patience.part);
        let pause = patience.pause.max(lasted).min(LONGEST).max(round_trip.times(2));
        let spread = rng.next_u64().checked_rem(pause.as_micros()).unwrap_or(0);
        self.due = now + (pause.times(7) + Duration::from_micros(spread).times(2)).part(8);
        self.times = self.times.saturating_add(1);
        true
    }

    /// Whether this server is not asked again in this turn.
    const fn has_asked(&self) -> bool {
        self.is_taking || self.times >= if self.cookie == 0 { 1 } else { TIMES }
    }
}

impl<const RX: usize, const TX: usize, const REQUESTS: usize, const HANDLES: usize, const EARLY: usize>
    Session<RX, TX, REQUESTS, HANDLES, EARLY>
{
    /// The present server is silent: begins to look for the master, if that has not begun yet.
    pub(super) fn leave_silent(&mut self) {
        if self.extended.as_ref().is_some_and(|extended| extended.resuming.is_none()) {
            let left = Some(self.server);
            self.refusals = 0;
            self.go_to_next();
            self.resume_here(left);
        }
    }

    /// Asks the present server, which is another one than before.
    pub(super) fn resume_here(&mut self, left: Option<SocketAddr>) {
        let Some(extended) = &mut self.extended else { return };
        extended.keep_alive.cancel();
        match &mut extended.resuming {
            Some(resuming) => resuming.ask_another(self.now, &mut self.rng),
            None => extended.resuming = Some(Resuming::begin(self.now, &mut self.rng, left)),
        }
    }

    /// Whether a server is the one that was left because it was silent. Others may not have missed it yet.
    pub(super) fn has_left(&self, server: &SocketAddr) -> bool {
        let resuming = self.extended.as_ref().and_then(|extended| extended.resuming.as_ref());
        resuming.is_some_and(|resuming| resuming.left.as_ref() == Some(server))
    }

    /// Goes on to the next server if this one has had its time.
    pub(super) fn handle_resume_timeout(&mut self) {
        let resuming = self.extended.as_ref().and_then(|extended| extended.resuming.as_ref());
        if resuming.is_some_and(|resuming| resuming.has_asked() && self.now >= resuming.due) {
            self.refusals = 0;
            self.go_to_next();
            self.resume_here(None);
        }
    }

    /// The RESUME, if it leaves now.
    pub(super) fn transmit_resume(&mut self, buffer: &mut Datagram) -> Option<Transmit> {
        let (patience, round_trip) = (self.patience_now(), self.sender.round_trip().unwrap_or_default());
        let extended = self.extended.as_mut()?;
        let next = extended.coming_xid();
        let resuming = extended.resuming.as_mut()?;
        if !resuming.poll(self.now, patience, round_trip, &mut self.rng) {
            return None;
        }
        let Resuming { number, xid, cookie, .. } = *resuming;
        let oldest = self.sender.get(0).map_or(next, |message| message.xid);
        let mut body = [0; HELLO_PACKET];
        let mut out = Writer::new(&mut body);
        Request::Resume(Resume { hello: self.hello(), cookie, oldest }).emit(&mut out).ok()?;
        fill(&self.user, &mut out).ok()?;
        self.emit(None, Part::Only { xid, op: Op::Resume }, number, out.written(), buffer)
    }

    /// A RESUME from the server outside the streams: a challenge, a hint that this session should resume, or the
    /// refusal of that.
    pub(super) fn handle_challenge(&mut self, from: SocketAddr, packet: &Packet<'_>) -> Result<(), Rejected> {
        let (Part::Only { .. }, Ok((code, xid))) = (packet.part, outcome(packet.piece)) else {
            return Err(Rejected::Malformed);
        };
        let now = self.now;
        let Some(extended) = &mut self.extended else { return Err(Rejected::Malformed) };
        let cookie = challenge(packet.piece).filter(|&cookie| cookie != 0);
        let Some(resuming) = &mut extended.resuming else {
            let is_hint = code == Code::Challenge && cookie.is_none();
            if !is_hint || extended.hinted.is_some_and(|at| now.since(at) < HINTS) {
                return Err(Rejected::Number);
            }
            extended.hinted = Some(now);
            self.refusals = 0;
            self.go_to(from);
            self.resume_here(None);
            return Ok(());
        };
        let is_late = from != self.server && resuming.cookie != 0;
        if (resuming.number, resuming.xid) != (packet.number, xid) || resuming.is_taking || is_late {
            return Err(Rejected::Number);
        }
        match (code, cookie) {
            (Code::Challenge, Some(cookie)) if resuming.cookie == 0 => {
                (resuming.cookie, resuming.sent) = (cookie, None);
                (resuming.due, resuming.times) = (now, 0);
                self.go_to(from);
            }
            // It has taken the one before, and its answer was lost: another number tells its next one from that.
            (Code::Challenge, Some(cookie)) if resuming.cookie != cookie => {
                let due = resuming.due;
                resuming.ask_another(now, &mut self.rng);
                resuming.due = due;
            }
            (Code::SessInval, _) => self.lose(),
            // It will not say anything else when it is asked again.
            (Code::Challenge, _) => return Err(Rejected::Number),
            _ => resuming.times = TIMES,
        }
        Ok(())
    }

    /// If this is the first packet of the answer to the RESUME, goes over to the new streams. It tells from others by
    /// what it acknowledges: only who has the RESUME knows its number.
    pub(super) fn begin_streams(&mut self, packet: &Packet<'_>, rider: Rider) {
        let Some(extended) = &mut self.extended else { return };
        let Some(resuming) = &mut extended.resuming else { return };
        let first = resuming.number.wrapping_add(1);
        let is_first = packet.part.is_first() && packet.part.op() == Some(Op::Resume);
        let is_answer = is_first && resuming.cookie != 0 && rider.ack == Ack { next: first, held: 0 };
        if is_answer && !resuming.is_taking {
            resuming.is_taking = true;
            resuming.due = self.now + RESUMED_WITHIN;
            self.sender.renumber(first);
            self.receiver.restart(packet.number);
            extended.acknowledger.sent();
        }
    }

    /// The answer to the RESUME is whole. One that is of no use is left; when its time is over, the next server is
    /// asked.
    pub(super) fn handle_resumed(&mut self) {
        let Some(message) = self.receiver.message().filter(|message| !message.cut) else { return };
        let Some(extended) = &mut self.extended else { return };
        let Some(resuming) = extended.resuming.filter(Resuming::is_taking) else { return };
        let is_answer = outcome(message.body) == Ok((Code::Ok, resuming.xid));
        let Some((welcome, stands)) = resumed(message.body).filter(|_| is_answer) else { return };
        if welcome.epoch < self.seen_epoch {
            return;
        }
        let sender = &self.sender;
        self.handles.reconcile(stands, |handle: Handle| {
            let changes = |op| matches!(op, Op::Lock | Op::TryLock | Op::Unlock | Op::Close);
            sender.iter().any(|message| message.body.handle == Some(handle) && changes(message.op))
        });
        self.failover_untold |= welcome.epoch != extended.epoch;
        if welcome.window != extended.window {
            self.sender.set_selective(welcome.window.into());
            self.sender.renumber(resuming.number.wrapping_add(1));
        }
        extended.adopt(&welcome, OFFERED);
        extended.told = self.now;
        extended.resuming = None;
        self.refusals = 0;
        self.accept_terms(&welcome, resuming.sent.unwrap_or(self.now));
    }

    /// Whether the master is being looked for, or the session is as it was.
    pub(super) fn is_resuming(&self) -> bool {
        self.extended.as_ref().is_some_and(|extended| extended.resuming.is_some())
            && !matches!(self.phase, Phase::Ended(_))
    }
}
