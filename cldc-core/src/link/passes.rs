//! How packets are repeated for Hail's peers, which do not say what they have.
//!
//! Packets leave in the order of their numbers, in passes: a pass goes from the oldest unacknowledged packet to the
//! newest one. When the resend timer fires, the next pass begins. So k losses cost one pass, not k (failures.md 18).

use super::ahead;
use super::storage::Queue;
use super::stream::{Outgoing, Stream};
use crate::time::{Duration, Instant};

/// How fast a sender sends, and sends again, in passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// After how long without an acknowledgement the first new pass begins.
    pub resend: Duration,
    /// The pause after that one; it doubles with each further pass up to `resend_max`.
    pub resend_next: Duration,
    /// The longest pause between passes.
    pub resend_max: Duration,
    /// How many packets may be unacknowledged at a time.
    pub window: u64,
    /// How many packets may leave in a row before a pause of `gap`: a peer's socket buffer is small
    /// (failures.md 21).
    pub burst: u32,
    /// The pause after a burst.
    pub gap: Duration,
    /// Up to how many pieces a message is sent again from its first piece on, even if the peer has acknowledged
    /// some of them: Hail's client puts a message together wrongly if a pass begins in its middle
    /// (protocol.md 15.2.3), and takes duplicates only 25 numbers back.
    pub whole: u64,
}

/// Where the present pass stands.
#[derive(Debug)]
pub(super) struct Passes {
    pub(super) pacing: Pacing,
    /// The lowest number not acknowledged.
    pub(super) base: u64,
    /// The number of the packet to leave next.
    cursor: u64,
    /// When the next pass begins.
    pub(super) resend_at: Option<Instant>,
    /// How many passes there were since the last progress.
    pub(super) count: u32,
}

impl Passes {
    pub(super) const fn new(first: u64, pacing: Pacing) -> Self {
        Self { pacing, base: first, cursor: first, resend_at: None, count: 0 }
    }

    /// How many packets of the present pass are not acknowledged.
    pub(super) fn outstanding(&self) -> u64 {
        u64::try_from(ahead(self.cursor, self.base)).unwrap_or(0)
    }

    /// Goes back to the first packet of a stream that is numbered anew.
    pub(super) fn renumber(&mut self, first: u64) {
        (self.base, self.cursor) = (first, first);
    }

    fn window(&self) -> i64 {
        i64::try_from(self.pacing.window).unwrap_or(i64::MAX)
    }

    /// How long the present pass waits for an acknowledgement.
    fn pause(&self) -> Duration {
        match self.count.checked_sub(1) {
            None => self.pacing.resend,
            Some(doublings) => {
                let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
                self.pacing.resend_next.times(factor).min(self.pacing.resend_max)
            }
        }
    }

    /// The number of the next packet, if one may leave; it counts as sent.
    pub(super) fn poll<B, Q>(&mut self, now: Instant, stream: &Stream<Q>) -> Option<u64>
    where
        Q: Queue<Item = Outgoing<B>>,
    {
        self.cursor = stream.occupied_from(self.cursor);
        if !self.has_more(stream.next) {
            return None;
        }
        let number = self.cursor;
        self.cursor = number.wrapping_add(1);
        self.resend_at.get_or_insert(now + self.pacing.resend);
        Some(number)
    }

    /// Whether the pass may go on, in a stream that ends before `next`.
    pub(super) fn has_more(&self, next: u64) -> bool {
        self.cursor != next && ahead(self.cursor, self.base) < self.window()
    }

    pub(super) fn is_mid_message<B, Q>(&self, stream: &Stream<Q>) -> bool
    where
        Q: Queue<Item = Outgoing<B>>,
    {
        self.has_more(stream.next)
            && stream.owner(self.cursor).is_some_and(|message| message.first != self.cursor)
    }

    /// Begins a new pass at once, unless the present one began less than `since` ago.
    pub(super) fn hasten<B, Q>(&mut self, now: Instant, since: Duration, stream: &Stream<Q>) -> bool
    where
        Q: Queue<Item = Outgoing<B>>,
    {
        let begins = self.resend_at.is_some_and(|at| now + self.pause() >= at + since);
        if begins {
            self.count = 0;
            self.rewind(now, stream);
        }
        begins
    }

    /// Begins a new pass if its time has come.
    pub(super) fn handle_timeout<B, Q>(&mut self, now: Instant, stream: &Stream<Q>)
    where
        Q: Queue<Item = Outgoing<B>>,
    {
        if self.resend_at.is_some_and(|at| now >= at) {
            self.count = self.count.saturating_add(1);
            self.rewind(now, stream);
        }
    }

    fn rewind<B, Q>(&mut self, now: Instant, stream: &Stream<Q>)
    where
        Q: Queue<Item = Outgoing<B>>,
    {
        let oldest = stream.messages.get(0);
        let whole =
            oldest.filter(|message| message.pieces() <= self.pacing.whole && message.covers(self.base));
        self.cursor = whole.map_or(self.base, |message| message.first);
        self.resend_at = oldest.is_some().then(|| now + self.pause());
    }

    /// Nothing below `base` is awaited any more, nor are the numbers of messages that have been settled.
    pub(super) fn progress<B, Q>(&mut self, now: Instant, base: u64, stream: &Stream<Q>)
    where
        Q: Queue<Item = Outgoing<B>>,
    {
        let awaited =
            stream.iter().find(|message| ahead(message.last(), base) >= 0).map(|message| message.first);
        self.base = match awaited {
            Some(first) if ahead(first, base) <= 0 => base,
            Some(first) => first,
            None => stream.next,
        };
        self.count = 0;
        if ahead(self.cursor, self.base) < 0 && !self.repeats_whole(stream) {
            self.cursor = self.base;
        }
        self.resend_at = (self.cursor != self.base).then(|| now + self.pacing.resend);
    }

    /// Whether a message that is acknowledged in part is being sent again from its first piece on: what the peer has
    /// of it is gone with that piece, so that none of the others may be left out.
    fn repeats_whole<B, Q>(&self, stream: &Stream<Q>) -> bool
    where
        Q: Queue<Item = Outgoing<B>>,
    {
        stream.messages.get(0).is_some_and(|oldest| {
            oldest.covers(self.base) && oldest.covers(self.cursor) && self.cursor != oldest.first
        })
    }
}
