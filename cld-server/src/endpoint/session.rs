//! One client's session as a stream of packets: its stages, its lease, its deadlines, and what goes out.

use std::net::SocketAddr;

use cldc_core::link::{Early, Receiver};
use cldc_core::rng::Rng;
use cldc_core::time::Instant;
use cldc_core::wire::limits::MAX_MESSAGE;
use cldc_core::wire::{Code, Full, Op, Seal};

use super::admission::key_of;
use super::bounded::{Bytes, List};
use super::content::{Content, contents, op_of, result, success};
use super::jobs::{Job, Jobs};
use super::limits::{Counters, Refused, Usage};
use super::outbox::{Kind, Outbox};
use super::recover::Recovered;
use super::{EndpointConfig, SocketId, Transmit};
use crate::database::{Action, Database, Notice, REPLIES_MAX, Reply, UserName, Write};
use crate::keys::Keys;

/// The longest piece that is held before its turn: more than any client of Hail or ours sends.
const HELD_PIECE: usize = 2048;

/// What a session needs of its surroundings to take a step.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
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
    pub(super) usage: Usage,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) sid: u64,
    pub(super) user: UserName,
    /// The address that it was opened from, and is bound to.
    pub(super) peer: SocketAddr,
    /// The request id and the number of its NEW_SESS.
    pub(super) opened: (u64, u64),
    /// The socket and address to answer by: those of the last packet.
    pub(super) via: Option<SocketId>,
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
        from: (SocketId, SocketAddr),
        opened: (u64, u64),
    ) -> Self {
        let (via, peer) = from;
        Self {
            sid,
            user,
            peer,
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
            expires: cx.now + cx.config.timing.session_timeout,
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
                let first = cx.random();
                self.outbox = cx.outbox(first);
                self.greet(cx);
                self.stage = Stage::Unproved;
                self.expires = cx.now + cx.config.timing.session_timeout;
                Ok(())
            }
        }
    }

    /// Queues the reply to the session's NEW_SESS.
    pub(super) fn greet(&mut self, cx: &mut Context<'_>) {
        self.say(cx, Kind::Greeting, Op::NewSess, Content::of(&success(Op::NewSess, self.opened.0)));
    }

    /// The client was heard of, by a packet that cannot be a replay.
    pub(super) fn heard(&mut self, cx: &Context<'_>) {
        let timeout = cx.config.timing.session_timeout;
        self.expires = self.expires.max(cx.now + timeout);
        self.ping_at = Some(cx.now + timeout.part(2));
    }

    /// Whether packets of this session may leave.
    pub(super) const fn speaks(&self) -> bool {
        self.via.is_some()
            && match self.stage {
                Stage::Unproved | Stage::Calling | Stage::Gathering | Stage::Live | Stage::Ended { .. } => {
                    true
                }
                Stage::Opening { .. } | Stage::Dormant { .. } | Stage::Expiring { .. } | Stage::Gone => false,
            }
    }

    /// Whether the client has proved that it is there now.
    const fn is_proved(&self) -> bool {
        matches!(self.stage, Stage::Gathering | Stage::Live)
    }

    /// The client has acknowledged a packet.
    pub(super) fn acknowledged(&mut self, cx: &mut Context<'_>, number: u64) {
        if !self.speaks() {
            return;
        }
        let flush_at = cx.now + cx.config.timing.flush;
        let Some(told) = self.outbox.acknowledge(cx.now, number, flush_at) else { return };
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
            while let Some(job) = self.jobs.next_answer() {
                self.answer(cx, &job);
            }
            if let Some(message) = self.incoming.message() {
                cx.counters.requests = cx.counters.requests.saturating_add(1);
                if let Some(job) = Job::of(&message) {
                    self.jobs.push(job);
                }
                self.incoming.release();
                continue;
            }
            if self.limit(cx).is_some() {
                return;
            }
            if self.outbox.has_merged() {
                let flush_at = cx.now + cx.config.timing.flush;
                if self.outbox.unmerge(flush_at, cx.random()) {
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
        if self.outbox.len().saturating_add(self.jobs.len()) >= queue.messages_per_session {
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

    fn answer(&mut self, cx: &mut Context<'_>, job: &Job) {
        let (op, xid, content) = match *job {
            Job::Command { .. } => return,
            Job::Say { op, xid, code } => (op, xid, Content::of(&result(op, xid, Reply::Code(code)))),
            Job::Read { xid, fh, metadata_only: false } => match cx.database.get(self.sid, fh) {
                Ok(file) => (Op::Get, xid, Content::of_file(xid, &file.meta, file.data)),
                Err(code) => (Op::Get, xid, Content::of(&result(Op::Get, xid, Reply::Code(code)))),
            },
            Job::Read { xid, fh, metadata_only: true } => match cx.database.get_meta(self.sid, fh) {
                Ok(meta) => (Op::Get, xid, Content::of(&contents(xid, &meta))),
                Err(code) => (Op::GetMeta, xid, Content::of(&result(Op::GetMeta, xid, Reply::Code(code)))),
            },
        };
        self.say(cx, Kind::Reply { xid, recorded: false }, op, content);
    }

    /// Queues a message. There is room: a request is taken only if there is room for its reply.
    pub(super) fn say(&mut self, cx: &mut Context<'_>, kind: Kind, op: Op, content: Result<Content, Full>) {
        let xid = cx.random();
        if content.and_then(|content| self.outbox.push(kind, op, xid, content)).is_err() {
            tracing::error!(sid = format_args!("{:016x}", self.sid), ?kind, "no room for a message");
        }
    }

    /// Whether [`Session::next_action`] has something for the log.
    pub(super) fn acts(&self, database: &Database) -> bool {
        match self.stage {
            Stage::Opening { handed } | Stage::Expiring { handed } => !handed,
            Stage::Gathering | Stage::Live => match self.jobs.next_command() {
                Some(Write::EndSession) => true,
                // Hail's client takes an event that comes again for a new one: not while it waits for this lock.
                Some(Write::Lock { fh, .. }) if self.outbox.tells_of(*fh) => false,
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
        kept.saturating_add(self.jobs.handed()) < REPLIES_MAX
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
                let (xid, order) = self.opened;
                let (user, peer) = (self.user, self.peer);
                Some(Action::OpenSession { sid, user, peer, xid, order, terms: None })
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
        (xid, number): (u64, u64),
        write: &Write,
        reply: Option<Reply>,
        ended: bool,
    ) {
        if !self.jobs.finish(number) {
            return;
        }
        if let Some(reply) = reply {
            let op = op_of(write);
            let kind = if ended { Kind::Farewell } else { Kind::Reply { xid, recorded: true } };
            self.say(cx, kind, op, Content::of(&result(op, xid, reply)));
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

    /// Something happened to a handle.
    pub(super) fn notified(&mut self, cx: &mut Context<'_>, notice: &Notice) {
        if let Stage::Dormant { call_at: Some(call_at) } = &mut self.stage {
            // The database remembers the event; the call is what brings it to the client.
            *call_at = cx.now.min(*call_at);
        }
        if !self.is_proved() {
            return;
        }
        let limit = self.limit(cx);
        if let Some(limit) = limit {
            cx.counters.limit(cx.now, limit, &self.user);
        }
        self.outbox.notify(notice, limit.is_none(), cx.now + cx.config.timing.flush, cx.random());
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        match self.stage {
            Stage::Ended { until } if now >= until => self.stage = Stage::Gone,
            Stage::Opening { .. } | Stage::Ended { .. } | Stage::Expiring { .. } | Stage::Gone => {}
            _ if now >= self.expires => self.expire(),
            Stage::Dormant { call_at } if due(call_at) => self.call(cx),
            Stage::Gathering => self.gather_timeout(cx),
            _ => {}
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
        let heal = self.is_proved();
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
                return [Some(until), self.outbox.poll_timeout()].into_iter().flatten().min();
            }
            Stage::Dormant { call_at } => call_at,
            Stage::Unproved | Stage::Calling | Stage::Live => None,
            Stage::Gathering => self.recovered.as_ref().and_then(|recovered| recovered.gather_until()),
        };
        let proved = self.is_proved();
        let ping = self.ping_at.filter(|_| proved);
        let old = self.recovered.as_ref().filter(|_| proved).and_then(|recovered| recovered.settle_at());
        let packets = self.outbox.poll_timeout().filter(|_| self.speaks());
        [stage, ping, old, packets, Some(self.expires)].into_iter().flatten().min()
    }

    /// Writes the next packet that may leave now.
    pub(super) fn poll_transmit(&mut self, now: Instant, keys: &Keys, buffer: &mut [u8]) -> Option<Transmit> {
        let via = self.via.filter(|_| self.speaks())?;
        // A user who was removed is told nothing any more; the session ends with its lease.
        let key = key_of(keys, self.user.as_bytes())?;
        let seal = Seal { sid: self.sid, user: self.user.as_bytes(), key: &key };
        match self.outbox.poll_packet(now, &seal, buffer) {
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
        assert!(size_of::<Session>() < 1024, "{} bytes", size_of::<Session>());
    }
}
