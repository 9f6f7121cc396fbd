//! How an extended session goes on from another address, or after a restart of the server (docs/protocol.md 7.4).
//!
//! A client that wants to resume proves that it is there now by sending back a cookie. That depends on a secret of this
//! start of the server and on a number that changes with every resume, so that nothing is remembered for who has not
//! proved anything, and a cookie serves once. Then both streams begin anew. What was on its way is forgotten: the client
//! sends again what it has no answer to, and the replicated state knows what was executed and which events wait.

use std::net::SocketAddr;

use cldc_core::link::{Receiver, ahead};
use cldc_core::rng::Rng;
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::extended::{Hello, Resume, Standing, Stands};
use cldc_core::wire::limits::PIECE;
use cldc_core::wire::{Code, Key, Op, Packet, Part, Request};

use super::admission::same_peer;
use super::bounded::{Bytes, List};
use super::content::{Content, success};
use super::extended::{Extended, packet_size};
use super::jobs::{Job, Jobs, Read};
use super::outbox::Kind;
use super::refusals::{Refusal, What};
use super::session::{Context, Filed, Session, Stage};
use super::{Endpoint, Via};
use crate::database::{self, Database, Handle, Notice, Reply, UserName};

/// So many hints a client gets unasked after a restart.
const HINTS: u32 = 4;

/// The length of a result.
const RESULT: usize = 12;

/// What a session has moved from, and where it may move.
#[derive(Debug)]
pub(super) struct Moves {
    /// What the next cookie depends on, beside what is known of the client.
    nonce: u64,
    /// The number of the RESUME that began the present stream.
    resumed: Option<u64>,
    /// Commands of earlier streams that are still on their way through the log.
    orphans: usize,
    /// The client has the answers to all requests before this one of those streams.
    oldest: u64,
    /// Hints sent unasked.
    hinted: u32,
}

impl Moves {
    pub(super) fn new(cx: &mut Context<'_>) -> Self {
        Self { nonce: cx.random(), resumed: None, orphans: 0, oldest: 0, hinted: 0 }
    }
}

impl Extended {
    /// Commands on their way through the log that no job waits for.
    pub(super) const fn orphans(&self) -> usize {
        self.moves.orphans
    }

    /// Whether the client may be given a hint unasked.
    pub(super) const fn may_hint(&self) -> bool {
        self.moves.hinted < HINTS
    }
}

impl Endpoint {
    /// A RESUME. An error is a result to be sent outside the stream.
    pub(super) fn resume(
        &mut self,
        now: Instant,
        database: &Database,
        user: UserName,
        (via, from): (Via, SocketAddr),
        packet: &Packet<'_>,
    ) -> Result<(), Code> {
        let found = self.sessions.get(&packet.sid).filter(|session| session.user == user);
        let Some(session) = found else { return Err(Code::SessInval) };
        let Some(extended) = session.extended.as_ref().filter(|_| session.is_resumable()) else {
            // A session that is being opened or ended: that is told when it is done.
            let undecided = matches!(session.stage, Stage::Opening { .. } | Stage::Expiring { .. });
            return if session.extended.is_some() && undecided { Ok(()) } else { Err(Code::SessInval) };
        };
        let Ok(Request::Resume(resume)) = Request::parse(Op::Resume, packet.piece) else { return Ok(()) };
        let number = packet.number;
        if extended.moves.resumed == Some(number) && same_peer(session.peer, from) {
            self.with(now, database, packet.sid, Session::resumed_again);
            return Ok(());
        }
        let Some(cookie) = self.secret.cookie(session, extended.moves.nonce, from, number) else {
            return Ok(());
        };
        if resume.cookie != cookie {
            self.challenge(now, user, (via, from), packet, Some(cookie));
            return Ok(());
        }
        if !self.is_leased(now) {
            // What stands would be told from a state that may be old. The client asks again.
            return Ok(());
        }
        let resumed = self
            .with(now, database, packet.sid, |session, cx| session.resume(cx, (via, from), packet, &resume));
        resumed.unwrap_or(Err(Code::SessInval))
    }

    /// Tells the sender of a packet that it should resume, if the packet is not one that only acknowledges, and not
    /// shorter than the answer.
    pub(super) fn hint(
        &mut self,
        now: Instant,
        user: UserName,
        from: (Via, SocketAddr),
        packet: &Packet<'_>,
    ) {
        if packet.part.op() != Some(Op::Ack) && packet.size() >= packet_size(&user, RESULT) {
            self.challenge(now, user, from, packet, None);
        }
    }

    fn challenge(
        &mut self,
        now: Instant,
        user: UserName,
        (via, to): (Via, SocketAddr),
        packet: &Packet<'_>,
        cookie: Option<u64>,
    ) {
        let xid = match packet.part {
            Part::Only { xid, .. } | Part::First { xid, .. } => xid,
            Part::Middle | Part::Last => 0,
        };
        let (sid, number, what) = (packet.sid, packet.number, What::Challenge(cookie));
        self.queue_refusal(now, Refusal { via, to, sid, user, op: Op::Resume, xid, number, what });
    }
}

/// What cookies are made with, different at each start.
pub(super) struct Secret([u64; 4]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self(std::array::from_fn(|_| rng.next_u64()))
    }

    /// What proves that whoever sent a RESUME gets what is sent to its address. Never 0, which asks for one.
    fn cookie(&self, session: &Session, nonce: u64, from: SocketAddr, number: u64) -> Option<u64> {
        // 32 bytes are never an empty key.
        let key = Key::new(&self.0.map(u64::to_be_bytes).concat()).ok()?;
        let (sid, user) = (session.sid, session.user);
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let about = format!("{sid:x} {nonce:x} {number:x} {from} {user}");
        Some(key.derive(about.as_bytes()).max(1))
    }
}

impl Session {
    /// An extended session found in the database. Its client must resume it, and is given a hint if events wait.
    pub(super) fn dormant(
        cx: &mut Context<'_>,
        sid: u64,
        found: &database::Session,
        terms: database::Terms,
    ) -> Self {
        let timing = cx.config.timing;
        let via = cx.config.way_to(found.peer);
        let waits = found.handles.iter().any(|handle| !handle.pending.is_empty());
        let spread = timing.recall.as_micros().max(1);
        let jitter = Duration::from_micros(sid.checked_rem(spread).unwrap_or_default());
        let extended = Extended::recovered(cx, terms);
        Self {
            sid,
            user: found.user,
            peer: found.peer,
            // The number of its NEW_SESS is not known any more, but the xid is.
            opened: (found.xid, 0),
            via,
            to: found.peer,
            stage: Stage::Dormant { call_at: via.filter(|_| waits).map(|_| cx.now + jitter) },
            incoming: Receiver::new(0, Bytes::default(), List::new(cx.config.queue.held_per_session)),
            jobs: Jobs::default(),
            outbox: cx.outbox(0),
            recovered: None,
            expires: cx.now + extended.lease() + extended.grace(),
            extended: Some(Box::new(extended)),
            ping_at: None,
            filed: Filed::default(),
        }
    }

    /// Gives the client a hint unasked: events wait for it.
    pub(super) fn hint(&mut self, cx: &Context<'_>) {
        let Some(extended) = &mut self.extended else { return };
        extended.hint();
        let pause = cx.config.timing.recall.times(1 << extended.moves.hinted.min(HINTS));
        extended.moves.hinted = extended.moves.hinted.saturating_add(1);
        self.stage = Stage::Dormant { call_at: extended.may_hint().then_some(cx.now + pause) };
    }

    /// A NEW_SESS came again after a restart. If nothing was done in the session yet, its client has perhaps never had
    /// the answer, and gets it now.
    pub(super) fn greet_again(&mut self, cx: &mut Context<'_>, number: u64, hello: &Hello) {
        let Some(found) = cx.database.session(self.sid) else { return };
        let untouched = found.last_order == found.order && found.handles.is_empty();
        let Some(extended) = self.extended.as_mut().filter(|_| untouched) else { return };
        extended.agree(hello);
        self.opened.1 = number;
        self.incoming.restart(number.wrapping_add(1));
        self.begin_stream(cx);
        self.greet(cx);
        self.stage = Stage::Unproved;
    }

    /// The client has proved that it is there: goes on from its address, with new streams.
    fn resume(
        &mut self,
        cx: &mut Context<'_>,
        (via, from): (Via, SocketAddr),
        packet: &Packet<'_>,
        resume: &Resume,
    ) -> Result<(), Code> {
        let (Some(found), Part::Only { xid, .. }) = (cx.database.session(self.sid), packet.part) else {
            return Err(Code::SessInval);
        };
        let Some(extended) = &mut self.extended else { return Err(Code::SessInval) };
        extended.agree(&resume.hello);
        let welcome = extended.grant(cx);
        // The welcome, with as many addresses as there may be, is shorter than a piece.
        let longest = found.handles.len().saturating_mul(12).saturating_add(PIECE);
        let content = Content::long(longest, &success(Op::Resume, xid), |out| {
            welcome.emit(out)?;
            out.u32(u32::try_from(found.handles.len()).unwrap_or(u32::MAX))?;
            found.handles.iter().try_for_each(|handle| stands(cx.database, self.sid, handle).emit(out))
        });
        if content.as_ref().is_ok_and(|content| content.len() > extended.max_message()) {
            return Err(Code::TooLarge);
        }
        cx.counters.resumed = cx.counters.resumed.saturating_add(1);
        extended.begin_stream();
        extended.moves.nonce = cx.rng.next_u64();
        extended.moves.resumed = Some(packet.number);
        extended.moves.oldest = resume.oldest;
        extended.moves.orphans = extended.moves.orphans.saturating_add(self.jobs.handed());
        (self.via, self.peer, self.to) = (Some(via), from, from);
        self.jobs.clear();
        self.incoming.restart(packet.number.wrapping_add(1));
        // Each of these comes again. The database remembers only the last of each kind.
        let told: Vec<Notice> = self.outbox.events().collect();
        self.begin_stream(cx);
        self.stage = Stage::Live;
        self.heard(cx);
        self.say(cx, Kind::Greeting, Op::Resume, content);
        let answered = found.replies.iter().map(|&(xid, _)| xid).filter(|&xid| ahead(xid, resume.oldest) < 0);
        self.outbox.settle_replies(answered);
        let sid = self.sid;
        let later =
            |notice: &Notice| !told.iter().any(|told| told.fh == notice.fh && told.serial >= notice.serial);
        let remembered = found.handles.iter().flat_map(|handle| handle.notices(sid)).filter(later);
        let is_open = |fh: u64| found.handles.iter().any(|handle| handle.fh == fh);
        for notice in told.iter().copied().filter(|notice| is_open(notice.fh)).chain(remembered) {
            if !self.outbox.has_told(notice.fh, notice.serial) {
                self.notified(cx, &notice);
            }
        }
        Ok(())
    }

    /// The RESUME that began this stream came again: its answer was probably lost.
    fn resumed_again(&mut self, cx: &mut Context<'_>) {
        cx.counters.duplicates = cx.counters.duplicates.saturating_add(1);
        if self.outbox.greets() {
            self.outbox.hasten(cx.now, cx.config.timing.hasten_greeting, false, cx.rng);
        }
    }

    /// The job that a request makes: if it was executed before, to repeat its recorded reply.
    pub(super) fn told_before(&self, database: &Database, op: Op, job: Job) -> Job {
        let last = database.session(self.sid).map(|found| found.last_order);
        match (job, last) {
            (Job::Command { xid, .. }, Some(last)) if self.extended.is_some() && ahead(xid, last) <= 0 => {
                Job::Read { xid, read: Read::Recorded { op } }
            }
            (job, _) => job,
        }
    }

    /// Answers a request that was executed before. If its reply is not in the table any more, the client has
    /// acknowledged that, and should not have asked.
    pub(super) fn answer_again(&mut self, cx: &mut Context<'_>, op: Op, xid: u64) {
        let found = cx.database.session(self.sid);
        let recorded = found.and_then(|found| found.replies.iter().find(|(known, _)| *known == xid));
        let reply = recorded.map_or(Reply::Code(Code::InternalErr), |&(_, reply)| reply);
        let kind = Kind::Reply { xid, recorded: recorded.is_some() };
        self.reply(cx, kind, op, xid, reply);
    }

    /// A command was applied that no job waits for. If it is of an earlier stream, the client sends it again, unless it
    /// has no more interest in the answer. Gives whether it is to be answered all the same: it has ended the session.
    pub(super) fn orphan_applied(&mut self, xid: u64, ended: bool) -> bool {
        let is_proved = self.is_proved();
        let Some(extended) = &mut self.extended else { return false };
        extended.moves.orphans = extended.moves.orphans.saturating_sub(1);
        if ahead(xid, extended.moves.oldest) < 0 {
            self.outbox.settle_replies(std::iter::once(xid));
        }
        ended && is_proved
    }
}

/// What stands of a handle.
fn stands(database: &Database, sid: u64, handle: &Handle) -> Stands {
    let lock = match handle.ticket {
        None => Standing::Free,
        Some(_) if database.sequencer(sid, handle.fh).is_ok() => Standing::Held,
        Some(_) => Standing::Waiting,
    };
    Stands { fh: handle.fh, lock }
}
