//! One client's session as a stream of packets: its stages, its lease, its deadlines, and what goes out.

use std::net::SocketAddr;

use cldc_core::link::{Early, Receiver};
use cldc_core::rng::Rng;
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::MAX_MESSAGE;
use cldc_core::wire::{Code, Full, Op, Seal};

use super::answers::event;
use super::bounded::{Bytes, List};
use super::content::{Content, op_of, success};
use super::extended::Extended;
use super::jobs::{Job, Jobs};
use super::limits::{Counters, Refused, Usage};
use super::outbox::{Acknowledged, Kind, Outbox};
use super::recover::Recovered;
use super::{EndpointConfig, Transmit, Via};
use crate::database::{Action, Database, Notice, REPLIES_MAX, Reply, UserName, Users, Write};

/// The longest piece that is held before its turn: more than any client of Hail or ours sends.
const HELD_PIECE: usize = 2048;

/// What a session needs of its surroundings to take a step.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    /// Whether the database is the newest state: the master lease stands.
    pub(super) leased: bool,
    pub(super) database: &'a Database,
    pub(super) config: &'a EndpointConfig,
    pub(super) rng: &'a mut Rng,
    pub(super) counters: &'a mut Counters,
    /// What all sessions of the user take.
    pub(super) user: Usage,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is not in the database yet; `handed`: the command is on its way.
    Opening { handed: bool },
    /// The NEW_SESS reply was sent, and is not acknowledged: whoever sent the request may have recorded it.
    Unproved,
    /// It was found in the database after a restart, and its client was not heard of; when to call it unasked.
    Dormant { call_at: Option<Instant> },
    /// It was found in the database, and its client was called.
    Calling,
    /// Its client answered the call; where its stream goes on is being found out.
    Gathering,
    /// All is well.
    Live,
    /// It is gone from the database by its client's wish; until when its last reply is kept.
    Ended { until: Instant },
    /// Its lease is over, and nothing is said any more; `handed`: the command is on its way.
    Expiring { handed: bool },
    /// Nothing of it is left.
    Gone,
}

/// What the endpoint's indexes hold about a session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filed {
    pub(super) deadline: Option<Instant>,
    pub(super) ready: bool,
    pub(super) acting: bool,
    pub(super) reading: bool,
    pub(super) usage: Usage,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) sid: u64,
    pub(super) user: UserName,
    /// The address that it was opened from, or resumed from last, and is bound to.
    pub(super) peer: SocketAddr,
    /// What makes it an extended one.
    pub(super) extended: Option<Box<Extended>>,
    /// The request id and the number of its NEW_SESS.
    pub(super) opened: (u64, u64),
    /// The way and the address to answer by: those of the last packet.
    pub(super) via: Option<Via>,
    pub(super) to: SocketAddr,
    pub(super) stage: Stage,
    pub(super) incoming: Receiver<Bytes<MAX_MESSAGE>, List<Early<Bytes<HELD_PIECE>>>>,
    pub(super) jobs: Jobs,
    pub(super) outbox: Outbox,
    /// Only after a restart of the server.
    pub(super) recovered: Option<Box<Recovered>>,
    /// When the lease is over.
    pub(super) expires: Instant,
    /// When to ask whether the client is there.
    pub(super) ping_at: Option<Instant>,
    pub(super) filed: Filed,
}

impl Session {
    /// A session that a NEW_SESS asks for.
    pub(super) fn new(
        cx: &Context<'_>,
        sid: u64,
        user: UserName,
        from: (Via, SocketAddr),
        opened: (u64, u64),
        extended: Option<Extended>,
    ) -> Self {
        let (via, peer) = from;
        Self {
            sid,
            user,
            peer,
            extended: extended.map(Box::new),
            opened,
            via: Some(via),
            to: peer,
            stage: Stage::Opening { handed: false },
            incoming: Receiver::new(
                opened.1.wrapping_add(1),
                Bytes::default(),
                List::new(cx.config.queue.held_per_session),
            ),
            jobs: Jobs::default(),
            outbox: cx.outbox(0),
            recovered: None,
            expires: cx.now + cx.session_timeout(),
            ping_at: None,
            filed: Filed::default(),
        }
    }

    /// The database has opened the session, or refused to.
    pub(super) fn opened(&mut self, cx: &mut Context<'_>, reply: Option<Reply>) -> Result<(), Code> {
        match reply {
            Some(Reply::Code(code)) if code != Code::Ok => {
                self.stage = Stage::Gone;
                Err(code)
            }
            _ if self.stage != (Stage::Opening { handed: true }) => Ok(()),
            _ => {
                cx.counters.opened = cx.counters.opened.saturating_add(1);
                self.begin_stream(cx);
                self.greet(cx);
                self.stage = Stage::Unproved;
                self.expires = cx.now + self.lease(cx);
                Ok(())
            }
        }
    }

    /// Begins the stream of packets to the client, at an unpredictable number.
    pub(super) fn begin_stream(&mut self, cx: &mut Context<'_>) {
        let first = cx.random();
        let before = std::mem::replace(&mut self.outbox, cx.outbox(first));
        if let Some(extended) = &self.extended {
            self.outbox.extend(extended.window(), before);
        }
    }

    /// Queues the reply to the session's NEW_SESS.
    pub(super) fn greet(&mut self, cx: &mut Context<'_>) {
        let answer = success(Op::NewSess, self.opened.0);
        let content = match &self.extended {
            Some(extended) => extended.welcome(cx, &answer),
            None => Content::of(&answer),
        };
        self.say(cx, Kind::Greeting, Op::NewSess, content);
    }

    /// How long the session lives without being heard of.
    fn lease(&self, cx: &Context<'_>) -> Duration {
        self.extended.as_ref().map_or_else(|| cx.session_timeout(), |extended| extended.lease())
    }

    /// The client was heard of, by a packet that cannot be a replay.
    pub(super) fn heard(&mut self, cx: &Context<'_>) {
        let lease = self.lease(cx);
        self.expires = self.expires.max(cx.now + lease);
        self.ping_at = if self.extended.is_some() { None } else { Some(cx.now + lease.part(2)) };
    }

    /// Whether packets of this session may leave.
    pub(super) const fn speaks(&self) -> bool {
        self.via.is_some()
            && match self.stage {
                Stage::Unproved | Stage::Calling | Stage::Gathering | Stage::Live | Stage::Ended { .. } => {
                    true
                }
                Stage::Dormant { .. } => match &self.extended {
                    Some(extended) => extended.hints(),
                    None => false,
                },
                Stage::Opening { .. } | Stage::Expiring { .. } | Stage::Gone => false,
            }
    }

    /// Whether the client has proved that it is there now.
    pub(super) const fn is_proved(&self) -> bool {
        matches!(self.stage, Stage::Gathering | Stage::Live)
    }

    /// The client has acknowledged a packet.
    pub(super) fn acknowledged(&mut self, cx: &mut Context<'_>, number: u64) {
        if !self.speaks() {
            return;
        }
        let flush_at = cx.now + cx.config.timing.flush;
        if let Some(told) = self.outbox.acknowledge(cx.now, number, flush_at) {
            self.told(cx, told);
        }
    }

    /// The client has acknowledged something that it had not before.
    pub(super) fn told(&mut self, cx: &mut Context<'_>, told: Acknowledged) {
        self.heard(cx);
        match self.stage {
            Stage::Unproved if told.greeting => self.stage = Stage::Live,
            Stage::Calling if told.ping => self.answered_call(cx),
            Stage::Ended { .. } if told.farewell => self.stage = Stage::Gone,
            _ => {}
        }
        self.proceed(cx);
    }

    /// Answers what can be answered, and takes what can be taken.
    pub(super) fn proceed(&mut self, cx: &mut Context<'_>) {
        if !self.is_proved() {
            return;
        }
        loop {
            while let Some(job) = self.jobs.next_answer(cx.leased) {
                self.answer(cx, &job);
            }
            if let Some(message) = self.incoming.message() {
                cx.counters.requests = cx.counters.requests.saturating_add(1);
                let features = self.extended.as_ref().map(|extended| extended.features());
                if let Some(job) = Job::of(&message, features) {
                    let op = message.op;
                    self.jobs.push(self.told_before(cx.database, op, job));
                }
                self.incoming.release();
                continue;
            }
            if self.limit(cx).is_some() {
                return;
            }
            if self.outbox.has_merged() {
                let flush_at = cx.now + cx.config.timing.flush;
                let (sid, extended) = (self.sid, self.extended.as_deref());
                let content = |notice: &Notice| event(cx.database, extended, notice);
                if self.outbox.unmerge(sid, flush_at, cx.rng.next_u64(), content) {
                    continue;
                }
            }
            if self.incoming.advance().is_none() {
                return;
            }
        }
    }

    /// The limit that keeps the session from taking another request or event.
    pub(super) fn limit(&self, cx: &Context<'_>) -> Option<Refused> {
        let queue = &cx.config.queue;
        // The client of an extended session has a window of requests and of replies on their way.
        let more = if self.extended.is_some() { REPLIES_MAX } else { 0 };
        let messages = queue.messages_per_session.saturating_add(more);
        if self.outbox.len().saturating_add(self.jobs.len()) >= messages {
            Some(Refused::MessagesPerSession)
        } else if self.outbox.packets() >= queue.packets_per_session {
            Some(Refused::PacketsPerSession)
        } else if cx.user.packets >= queue.packets_per_user && self.outbox.packets() > 0 {
            // Who has nothing queued may always go on, or the user's other sessions could starve it.
            Some(Refused::PacketsPerUser)
        } else {
            None
        }
    }

    /// Whether [`Session::next_action`] has something for the log.
    pub(super) fn acts(&self, database: &Database) -> bool {
        match self.stage {
            Stage::Opening { handed } | Stage::Expiring { handed } => !handed,
            Stage::Gathering | Stage::Live => match self.jobs.next_command() {
                Some(Write::EndSession) => true,
                // Hail's client takes an event that comes again for a new one: not while it waits for this lock.
                Some(Write::Lock { fh, .. }) if self.extended.is_none() && self.outbox.tells_of(*fh) => false,
                Some(_) => self.has_room_to_record(database),
                None => false,
            },
            _ => false,
        }
    }

    /// Whether the reply to one more command fits in the table of replies.
    fn has_room_to_record(&self, database: &Database) -> bool {
        let recorded = database.session(self.sid).map_or(0, |session| session.replies.len());
        let kept = recorded.saturating_sub(self.outbox.settled_replies());
        let orphans = self.extended.as_ref().map_or(0, |extended| extended.orphans());
        kept.saturating_add(self.jobs.handed()).saturating_add(orphans) < REPLIES_MAX
    }

    /// The next command for the log.
    pub(super) fn next_action(&mut self, cx: &Context<'_>) -> Option<Action> {
        if !self.acts(cx.database) {
            return None;
        }
        let sid = self.sid;
        match &mut self.stage {
            Stage::Opening { handed } => {
                *handed = true;
                let (xid, number) = self.opened;
                let (user, peer) = (self.user, self.peer);
                let terms = self.extended.as_ref().map(|extended| extended.terms());
                let order = if terms.is_some() { xid } else { number };
                Some(Action::OpenSession { sid, user, peer, xid, order, terms })
            }
            Stage::Expiring { handed } => {
                *handed = true;
                Some(Action::ExpireSession { sid })
            }
            _ => {
                let (xid, order, write) = self.jobs.hand_over()?;
                let settled = self.outbox.take_settled();
                Some(Action::Request { sid, xid, order, settled, write })
            }
        }
    }

    /// A command of this session is applied.
    pub(super) fn applied(
        &mut self,
        cx: &mut Context<'_>,
        (xid, order): (u64, u64),
        write: &Write,
        reply: Option<Reply>,
        ended: bool,
    ) {
        if !self.jobs.finish(order) && !self.orphan_applied(xid, ended) {
            return;
        }
        if let Some(reply) = reply {
            let kind = if ended { Kind::Farewell } else { Kind::Reply { xid, recorded: true } };
            self.reply(cx, kind, op_of(write), xid, reply);
        }
        if ended && self.is_proved() {
            self.jobs.clear();
            self.stage = Stage::Ended { until: cx.now + cx.config.timing.linger };
        }
        self.proceed(cx);
    }

    /// The command that ends the session is applied; it may have been too old to count.
    pub(super) fn expired(&mut self, cx: &mut Context<'_>, ended: bool) {
        if ended || cx.database.session(self.sid).is_none() {
            cx.counters.expired = cx.counters.expired.saturating_add(1);
            self.stage = Stage::Gone;
        } else {
            self.stage = Stage::Expiring { handed: false };
        }
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        match self.stage {
            Stage::Ended { until } if now >= until => self.stage = Stage::Gone,
            Stage::Opening { .. } | Stage::Ended { .. } | Stage::Expiring { .. } | Stage::Gone => {}
            _ if now >= self.expires => self.expire(),
            Stage::Dormant { call_at } if due(call_at) && self.extended.is_some() => self.hint(cx),
            Stage::Dormant { call_at } if due(call_at) => self.call(cx),
            Stage::Gathering => self.gather_timeout(cx),
            _ => {}
        }
        if self.extended.is_some() {
            return self.handle_extended_timeout(cx);
        }
        if !self.speaks() {
            return;
        }
        if self.is_proved() {
            self.settle_old(cx);
            if due(self.ping_at) {
                self.ping_at = None;
                self.outbox.ping(cx.random());
            }
        }
        let heal = self.is_proved();
        self.outbox.handle_timeout(now, heal, cx.rng);
    }

    /// A request came again: its reply was probably lost.
    pub(super) fn hasten(&mut self, cx: &mut Context<'_>) {
        let heal = self.is_proved() && self.extended.is_none();
        self.outbox.hasten(cx.now, cx.config.timing.hasten, heal, cx.rng);
    }

    fn expire(&mut self) {
        self.stage = Stage::Expiring { handed: false };
        self.jobs.clear();
    }

    /// When [`Session::handle_timeout`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stage = match self.stage {
            Stage::Opening { .. } | Stage::Expiring { .. } | Stage::Gone => return None,
            Stage::Ended { until } => {
                return [Some(until), self.packets_at()].into_iter().flatten().min();
            }
            Stage::Dormant { call_at } => call_at,
            Stage::Unproved | Stage::Calling | Stage::Live => None,
            Stage::Gathering => self.recovered.as_ref().and_then(|recovered| recovered.gather_until()),
        };
        let proved = self.is_proved();
        let ping = self.ping_at.filter(|_| proved);
        let old = self.recovered.as_ref().filter(|_| proved).and_then(|recovered| recovered.settle_at());
        [stage, ping, old, self.packets_at(), Some(self.expires)].into_iter().flatten().min()
    }

    /// When packets are due.
    fn packets_at(&self) -> Option<Instant> {
        match &self.extended {
            Some(extended) => extended.packets_at(self.stage, self.outbox.poll_timeout()),
            None => self.outbox.poll_timeout().filter(|_| self.speaks()),
        }
    }

    /// Writes the next packet that may leave now.
    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        users: &Users,
        config: &EndpointConfig,
        buffer: &mut [u8],
    ) -> Option<Transmit<Via>> {
        let via = self.via.filter(|_| self.speaks())?;
        // A user who was removed is told nothing any more; the session ends with its lease.
        let key = users.key_of(self.user.as_bytes())?;
        let seal = Seal { sid: self.sid, user: self.user.as_bytes(), key: &key };
        let packet = match &mut self.extended {
            Some(extended) => {
                let stream = (self.stage, self.incoming.ack());
                extended.poll_packet(now, stream, &mut self.outbox, (&seal, config), buffer)
            }
            None => self.outbox.poll_packet(now, &seal, None, buffer),
        };
        match packet {
            Ok(len) => len.map(|len| Transmit { via, to: self.to, len }),
            Err(Full) => {
                tracing::error!(buffer = buffer.len(), "the buffer is too small for a packet");
                None
            }
        }
    }

    /// What the session takes of its user's share.
    pub(super) fn usage(&self) -> Usage {
        let gathers = self.recovered.as_ref().is_some_and(|recovered| recovered.holds());
        Usage {
            packets: self.outbox.packets(),
            streams: usize::from(gathers || !self.incoming.is_idle()),
            unproved: usize::from(matches!(self.stage, Stage::Opening { .. } | Stage::Unproved)),
        }
    }
}

impl Context<'_> {
    /// A plain session that was not heard of for so long is ended; after half of it, it is sent a PING.
    pub(super) fn session_timeout(&self) -> Duration {
        Duration::from_secs(self.database.limits().session_timeout)
    }

    /// A number for a packet, a message, a stream that begins.
    pub(super) fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// An outbox whose first packet has this number.
    pub(super) fn outbox(&self, first: u64) -> Outbox {
        // Beside requests and events: a greeting, a PING, and replies from before a restart.
        let limit = self.config.queue.messages_per_session.saturating_add(REPLIES_MAX).saturating_add(2);
        Outbox::new(first, self.config.timing.pacing(), limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_takes_less_than_a_kibibyte() {
        let sizes = (size_of::<Session>(), size_of::<Extended>());
        assert!(sizes.0 + sizes.1 < 1024, "{sizes:?} bytes");
    }
}
