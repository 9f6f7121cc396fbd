//! What a session's client is told: answers to its requests, and events.

use cldc_core::wire::{Answer, Code, Full, Op};

use super::content::{Content, contents, result, success};
use super::extended::Extended;
use super::jobs::{Job, Read};
use super::outbox::Kind;
use super::session::{Context, Session, Stage};
use crate::database::{Database, Notice, Reply};

impl Session {
    /// Answers a request that needs no log.
    pub(super) fn answer(&mut self, cx: &mut Context<'_>, job: &Job) {
        let (op, xid, answer) = match *job {
            Job::Command { .. } => return,
            Job::Say { op, xid, code } => (op, xid, Err(code)),
            Job::Read { xid, ref read } => match *read {
                Read::File { fh } => {
                    let file = cx.database.get(self.sid, fh);
                    (Op::Get, xid, file.map(|file| Content::of_file(xid, &file.meta, file.data)))
                }
                Read::Metadata { fh } => match cx.database.get_meta(self.sid, fh) {
                    Ok(meta) => (Op::Get, xid, Ok(Content::of(&contents(xid, &meta)))),
                    Err(code) => (Op::GetMeta, xid, Err(code)),
                },
                Read::Recorded { op } => return self.answer_again(cx, op, xid),
                Read::Epoch => {
                    let epoch = cx.database.epoch();
                    (Op::Nop, xid, Ok(Content::with(&success(Op::Nop, xid), |out| out.u64(epoch))))
                }
                Read::Sequencer { fh } => {
                    let found = cx.database.sequencer(self.sid, fh);
                    let answer = success(Op::GetSequencer, xid);
                    (Op::GetSequencer, xid, found.map(|found| Content::of_reply(&answer, Some(&found))))
                }
                Read::Check(ref sequencer) => {
                    let stands = cx.database.check_sequencer(sequencer);
                    (Op::CheckSequencer, xid, Err(stands.err().unwrap_or(Code::Ok)))
                }
            },
        };
        let content = answer.unwrap_or_else(|code| Content::of(&result(op, xid, Reply::Code(code))));
        let content = match (&self.extended, content) {
            (Some(extended), Ok(content)) if content.len() > extended.max_message() => {
                Content::of(&result(op, xid, Reply::Code(Code::TooLarge)))
            }
            (_, content) => content,
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

    /// Queues the reply to a command.
    pub(super) fn reply(&mut self, cx: &mut Context<'_>, kind: Kind, op: Op, xid: u64, reply: Reply) {
        let answer = result(op, xid, reply);
        let sequencer = match &self.extended {
            Some(extended) if extended.fences() => cx.database.sequencer_of(reply),
            _ => None,
        };
        self.say(cx, kind, op, Content::of_reply(&answer, sequencer.as_ref()));
    }

    /// Something happened to a handle.
    pub(super) fn notified(&mut self, cx: &mut Context<'_>, notice: &Notice) {
        if let Stage::Dormant { call_at } = &mut self.stage {
            // The database remembers the event; the call is what brings it to the client.
            match (call_at, &self.extended) {
                (Some(call_at), _) => *call_at = cx.now.min(*call_at),
                (call_at, Some(extended)) if extended.may_hint() => *call_at = Some(cx.now),
                _ => {}
            }
        }
        if !self.is_proved() {
            return;
        }
        let limit = self.limit(cx);
        if let Some(limit) = limit {
            cx.counters.limit(cx.now, limit, &self.user);
        }
        let extended = self.extended.as_deref();
        let content = |notice: &Notice| event(cx.database, extended, notice);
        let flush_at = cx.now + cx.config.timing.flush;
        self.outbox.notify(notice, limit.is_none(), flush_at, cx.rng.next_u64(), content);
    }
}

/// The body of an event.
pub(super) fn event(
    database: &Database,
    extended: Option<&Extended>,
    notice: &Notice,
) -> Result<Content, Full> {
    match extended {
        Some(extended) => extended.event(database, notice),
        None => Content::of(&Answer::Event { fh: notice.fh, events: notice.events }),
    }
}
