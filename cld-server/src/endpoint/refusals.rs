//! Results outside the streams: SESS_INVAL, SESS_EXISTS and the like, for packets of sessions that are none
//! (protocol.md 4.5), and challenges (docs/protocol.md 7.4). They are sent once, properly signed, only to who knows the key, and not too many a second, as a
//! recorded packet could be sent again and again to make the server write to somebody else.

use std::collections::VecDeque;
use std::net::SocketAddr;

use cldc_core::time::{Duration, Instant};
use cldc_core::wire::extended::{Master, emit_addresses};
use cldc_core::wire::limits::PIECE;
use cldc_core::wire::{Answer, Code, Full, Op, Part, Seal, Writer};

use super::Via;
use super::content::Content;
use super::limits::QueueLimits;
use crate::database::UserName;

/// How many wait to be sent at most.
const WAITING: usize = 64;

/// A result outside the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) via: Via,
    pub(super) to: SocketAddr,
    pub(super) sid: u64,
    pub(super) user: UserName,
    /// Of the request.
    pub(super) op: Op,
    pub(super) xid: u64,
    pub(super) number: u64,
    pub(super) what: What,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A result.
    Result(Code),
    /// That the client should resume its session, and what it must send back when it does.
    Challenge(Option<u64>),
    /// Who the master is, and which servers there are.
    NotMaster {
        master: Master,
        /// There is room for the list of servers.
        lists: bool,
    },
    /// To a plain client, that there is no master.
    NoMaster,
}

/// How many may leave in this second.
#[derive(Debug)]
struct Budget {
    per_second: u32,
    left: u32,
}

impl Budget {
    const fn new(per_second: u32) -> Self {
        Self { per_second, left: per_second }
    }
}

impl Refusal {
    /// Writes the packet; its length. `xid` is for the header, `servers` for the list of servers.
    pub(super) fn emit(
        &self,
        seal: &Seal<'_>,
        xid: u64,
        servers: &[SocketAddr],
        buffer: &mut [u8],
    ) -> Result<usize, Full> {
        let Self { op, number, .. } = *self;
        let done = |code| Answer::Done { op, xid: self.xid, code };
        let (op, content) = match self.what {
            What::Result(code) => (op, Content::of(&done(code))?),
            What::Challenge(cookie) => {
                let cookie = |out: &mut Writer<'_>| cookie.map_or(Ok(()), |cookie| out.u64(cookie));
                (op, Content::with(&done(Code::Challenge), cookie)?)
            }
            What::NotMaster { master, lists } => {
                let body = |out: &mut Writer<'_>| {
                    master.emit(out)?;
                    if lists { emit_addresses(servers, out) } else { Ok(()) }
                };
                (Op::NotMaster, Content::with(&Answer::NotMaster, body)?)
            }
            What::NoMaster => (Op::NotMaster, Content::of(&Answer::NotMaster)?),
        };
        let mut piece = [0; PIECE];
        let piece = content.piece(&(0..content.len()), &mut piece)?;
        seal.emit(Part::Only { xid, op }, number, piece, buffer)
    }
}

/// Those that wait to be sent, and how many may still be in this second.
#[derive(Debug)]
pub(super) struct Refusals {
    waiting: VecDeque<Refusal>,
    results: Budget,
    challenges: Budget,
    /// Not taken from those: who becomes the master needs them at once.
    redirects: Budget,
    refilled: Instant,
}

impl Refusals {
    pub(super) const fn new(limits: &QueueLimits, now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            results: Budget::new(limits.refusals_per_second),
            challenges: Budget::new(limits.challenges_per_second),
            redirects: Budget::new(limits.challenges_per_second),
            refilled: now,
        }
    }

    /// Queues one; `false` if there are too many.
    pub(super) fn push(&mut self, now: Instant, refusal: Refusal) -> bool {
        if now >= self.refilled + Duration::from_secs(1) {
            self.refilled = now;
            self.results.left = self.results.per_second;
            self.challenges.left = self.challenges.per_second;
            self.redirects.left = self.redirects.per_second;
        }
        let budget = match refusal.what {
            What::Result(_) => &mut self.results,
            What::Challenge(_) => &mut self.challenges,
            What::NotMaster { .. } | What::NoMaster => &mut self.redirects,
        };
        if budget.left == 0 || self.waiting.len() >= WAITING {
            return false;
        }
        budget.left = budget.left.saturating_sub(1);
        self.waiting.push_back(refusal);
        true
    }

    pub(super) fn pop(&mut self) -> Option<Refusal> {
        self.waiting.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
