//! Sessions that survived a restart of the server: proving that the client is there now, and finding where its stream
//! of packets goes on (protocol.md 16).
//!
//! The counters of both directions are lost. The client is called: a NEW_SESS reply with a fresh number sets its
//! expectation, and the acknowledgement of the PING after it proves that it is there; before that nothing it sends
//! counts, as it could be a recording. Then the packets that it sends again are gathered for a moment, because Hail's
//! client sends the newest first. What it sent up to the last command in the log was executed: those requests are
//! answered from the table of replies, or, if they only read, once more. Its stream goes on at the lowest first piece
//! after that.

use std::collections::BTreeMap;

use cldc_core::link::{Message, Receiver, ahead};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Code, Op, Packet, Part};

use super::bounded::{Bytes, List};
use super::content::{Content, result};
use super::jobs::{Job, Jobs};
use super::limits::Refused;
use super::outbox::Kind;
use super::session::{Context, Filed, Session, Stage};
use crate::database::{self, Notice, REPLIES_MAX};

/// So many replies from before the restart are kept until the client has had much time to ask for them. Each of many
/// restarts in a row leaves some that were received, whose acknowledgements were lost with the server's memory; without
/// a limit they would fill the table of replies, and the session could write no more.
const CROWD: usize = REPLIES_MAX / 2;

/// What is known of a session's stream from before the restart, and what is being found out.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Up to this number, all that the client sent was executed, or is known never to be.
    floor: u64,
    /// Where the stream went on. Requests between are neither executed nor will they be: they came too late.
    start: Option<u64>,
    /// Replies from before the restart that the client has not asked for again, the oldest first; when all of them
    /// count as received, and when those before the newest [`CROWD`] do.
    old: Vec<u64>,
    settle_at: Option<Instant>,
    thin_at: Option<Instant>,
    /// The gathering ends then; nothing came yet without it.
    until: Option<Instant>,
    /// What came, by its distance from the floor.
    kept: BTreeMap<i64, (Part, Box<[u8]>)>,
    /// Since when later requests have come but not the next one.
    missed: Option<Instant>,
}

impl Recovered {
    /// When the gathering ends.
    pub(super) const fn gather_until(&self) -> Option<Instant> {
        self.until
    }

    /// When old replies count as received.
    pub(super) fn settle_at(&self) -> Option<Instant> {
        if self.old.len() > CROWD { self.thin_at } else { self.settle_at.filter(|_| !self.old.is_empty()) }
    }

    /// Whether packets are kept.
    pub(super) fn holds(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The next packet of the stream came.
    pub(super) const fn aligned(&mut self) {
        self.missed = None;
    }

    /// Keeps a packet; of too many, the lowest.
    fn keep(&mut self, distance: i64, packet: &Packet<'_>, limit: usize) {
        if self.kept.len() >= limit && self.kept.last_key_value().is_some_and(|(&last, _)| distance < last) {
            self.kept.pop_last();
        }
        if self.kept.len() < limit {
            self.kept.entry(distance).or_insert_with(|| (packet.part, packet.piece.into()));
        }
    }
}

impl Session {
    /// A plain session found in the database. It is called unasked `quiet` after now, or soon if events wait for its client.
    pub(super) fn recovered(cx: &Context<'_>, sid: u64, found: &database::Session) -> Self {
        let timing = &cx.config.timing;
        let via = cx.config.way_to(found.peer);
        // Spread over some time, or a server with many sessions would call all of them at once.
        let waits = found.handles.iter().any(|handle| !handle.pending.is_empty());
        let (quiet, spread) = if waits {
            (Duration::ZERO, timing.recall)
        } else {
            (cx.session_timeout().part(2), timing.resend_next)
        };
        let jitter = Duration::from_micros(sid.checked_rem(spread.as_micros().max(1)).unwrap_or_default());
        Self {
            sid,
            user: found.user,
            peer: found.peer,
            extended: None,
            opened: (found.xid, found.order),
            via,
            to: found.peer,
            stage: Stage::Dormant { call_at: via.map(|_| cx.now + quiet + jitter) },
            incoming: Receiver::new(0, Bytes::default(), List::new(cx.config.queue.held_per_session)),
            jobs: Jobs::default(),
            outbox: cx.outbox(0),
            recovered: Some(Box::new(Recovered {
                floor: found.last_order,
                start: None,
                old: found.replies.iter().map(|&(xid, _)| xid).collect(),
                settle_at: None,
                thin_at: None,
                until: None,
                kept: BTreeMap::new(),
                missed: None,
            })),
            expires: cx.now + cx.session_timeout() + timing.grace,
            ping_at: None,
            filed: Filed::default(),
        }
    }

    /// Calls the client: sets its expectation, and asks for proof that it is there.
    pub(super) fn call(&mut self, cx: &mut Context<'_>) {
        let first = cx.random();
        self.outbox = cx.outbox(first);
        self.outbox.set_pacing(cx.config.timing.calling());
        self.greet(cx);
        self.outbox.ping(cx.random());
        self.stage = Stage::Calling;
    }

    /// The client has answered the call.
    pub(super) fn answered_call(&mut self, cx: &mut Context<'_>) {
        self.outbox.set_pacing(cx.config.timing.pacing());
        self.stage = Stage::Gathering;
        if let Some(recovered) = &mut self.recovered {
            recovered.settle_at = Some(cx.now + cx.config.timing.settle_old);
            recovered.thin_at = Some(cx.now + cx.config.timing.settle_crowd);
        }
        let Some(found) = cx.database.session(self.sid) else { return };
        for handle in &found.handles {
            if !handle.pending.is_empty() {
                let (sid, fh, events, serial) = (self.sid, handle.fh, handle.unsettled(), handle.serial);
                self.notified(cx, &Notice { sid, fh, events, version: 0, serial });
            }
        }
    }

    /// Gathers a packet.
    pub(super) fn gather(&mut self, cx: &mut Context<'_>, packet: &Packet<'_>) {
        let Some(recovered) = &mut self.recovered else { return };
        recovered.until.get_or_insert(cx.now + cx.config.timing.gather);
        let distance = ahead(packet.number, recovered.floor);
        if distance <= 0 {
            self.asked_again(cx, packet);
            return;
        }
        if recovered.kept.is_empty() && cx.user.streams >= cx.config.queue.streams_per_user {
            cx.counters.limit(cx.now, Refused::StreamsPerUser, &self.user);
            return;
        }
        recovered.keep(distance, packet, cx.config.queue.held_per_session);
        // Nothing can have been sent between the last command and the number after it.
        if distance == 1 && packet.part.is_first() {
            self.align(cx);
        }
    }

    /// Ends the gathering when its time is over.
    pub(super) fn gather_timeout(&mut self, cx: &mut Context<'_>) {
        if self.recovered.as_ref().and_then(|recovered| recovered.until).is_some_and(|until| cx.now >= until)
        {
            self.align(cx);
        }
    }

    /// Goes on with the lowest first piece that was gathered; without one, gathers on.
    fn align(&mut self, cx: &mut Context<'_>) {
        let Some(recovered) = &mut self.recovered else { return };
        recovered.until = None;
        recovered.missed = None;
        let kept = std::mem::take(&mut recovered.kept);
        let start = kept.iter().find(|(_, (part, _))| part.is_first()).map(|(&distance, _)| distance);
        let Some(start) = start else { return };
        let (floor, number) = (recovered.floor, |distance: i64| distance.cast_unsigned());
        let start_number = floor.wrapping_add(number(start));
        recovered.start = Some(start_number);
        self.stage = Stage::Live;
        self.incoming.restart(start_number);
        self.heard(cx);
        for (distance, (part, piece)) in kept.range(start..) {
            if self.limit(cx).is_none() {
                self.incoming.accept(floor.wrapping_add(number(*distance)), *part, piece);
                self.proceed(cx);
            }
        }
    }

    /// A request came ahead of the next one in the stream. If that goes on, the stream was found wrongly.
    pub(super) fn came_early(&mut self, cx: &mut Context<'_>, packet: &Packet<'_>) {
        let Some(recovered) = self.recovered.as_mut().filter(|_| packet.part.is_first()) else { return };
        let since = *recovered.missed.get_or_insert(cx.now);
        if cx.now >= since + cx.config.timing.realign {
            recovered.floor = self.incoming.next_number().wrapping_sub(1);
            recovered.start = None;
            recovered.missed = None;
            self.incoming.restart(self.incoming.next_number());
            self.stage = Stage::Gathering;
            self.gather(cx, packet);
        }
    }

    /// A request came again that may be from before the restart; `false` if it is not.
    pub(super) fn asked_again(&mut self, cx: &mut Context<'_>, packet: &Packet<'_>) -> bool {
        let (Part::Only { xid, op } | Part::First { xid, op }) = packet.part else { return true };
        let Some(recovered) = &mut self.recovered else { return false };
        let executed = ahead(packet.number, recovered.floor) <= 0;
        if !executed && recovered.start.is_none_or(|start| ahead(packet.number, start) >= 0) {
            return false;
        }
        if self.outbox.replies_to(xid) {
            self.hasten(cx);
            return true;
        }
        if let Some(limit) = self.limit(cx) {
            cx.counters.limit(cx.now, limit, &self.user);
            return true;
        }
        let found = cx.database.session(self.sid);
        let recorded = found.and_then(|found| found.replies.iter().find(|(known, _)| *known == xid));
        let Some(recovered) = &mut self.recovered else { return true };
        if let Some(&(_, reply)) = recorded.filter(|_| executed) {
            recovered.old.retain(|&old| old != xid);
            self.say(cx, Kind::Reply { xid, recorded: true }, op, Content::of(&result(op, xid, reply)));
        } else if let Some(read) = read_only(packet) {
            self.jobs.push(read);
            self.proceed(cx);
        } else if !executed {
            // Later requests of this session have taken effect: this one must not, and the client is told so.
            let reply = database::Reply::Code(Code::InternalErr);
            self.say(cx, Kind::Reply { xid, recorded: false }, op, Content::of(&result(op, xid, reply)));
        }
        true
    }

    /// After a while, replies from before the restart that were not asked for again count as received.
    pub(super) fn settle_old(&mut self, cx: &Context<'_>) {
        let Some(recovered) = &mut self.recovered else { return };
        let due = |at: Option<Instant>| at.is_some_and(|at| cx.now >= at);
        let kept = match (due(recovered.settle_at), due(recovered.thin_at)) {
            (true, _) => 0,
            (false, true) => CROWD,
            (false, false) => return,
        };
        let settled = recovered.old.len().saturating_sub(kept);
        self.outbox.settle_replies(recovered.old.drain(..settled));
    }
}

/// The request of a single packet, if it changes nothing.
fn read_only(packet: &Packet<'_>) -> Option<Job> {
    let Part::Only { xid, op: op @ (Op::Nop | Op::Get | Op::GetMeta) } = packet.part else { return None };
    let (number, body) = (packet.number, packet.piece);
    Job::of(&Message { op, xid, number, body, cut: false }, None)
}
