//! The sending half of a link: messages in, packets out, again and again until they are acknowledged.
//!
//! Packets leave in the order of their numbers, in passes: a pass goes from the oldest unacknowledged packet to the
//! newest one. When the resend timer fires, the next pass begins. So k losses cost one pass, not k (failures.md 18).

use core::ops::Range;

use super::ahead;
use super::storage::Queue;
use crate::time::{Duration, Instant};
use crate::wire::limits::PIECE;
use crate::wire::{Full, Op, Part};

/// How fast a sender sends, and sends again.
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

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Outgoing<B> {
    /// What it asks or tells.
    pub op: Op,
    /// Names it.
    pub xid: u64,
    /// The number of its first packet.
    pub first: u64,
    /// The length of its body.
    pub len: usize,
    /// When its first packet left for the first time.
    pub sent: Option<Instant>,
    /// Its body, or where the user of the link keeps it, and what else belongs to it.
    pub body: B,
}

impl<B> Outgoing<B> {
    /// How many packets it takes.
    pub fn pieces(&self) -> u64 {
        pieces(self.len)
    }

    /// The number of its last packet.
    pub fn last(&self) -> u64 {
        self.first.wrapping_add(self.pieces()).wrapping_sub(1)
    }

    /// Whether one of its packets has this number.
    pub fn covers(&self, number: u64) -> bool {
        ahead(number, self.first) >= 0 && ahead(number, self.last()) <= 0
    }
}

/// A packet to be sent: `range` of the body of the message at `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Which part of the message it is.
    pub part: Part,
    /// Its number.
    pub number: u64,
    /// Which message it belongs to, for [`Sender::get`].
    pub index: usize,
    /// Which bytes of the body it carries.
    pub range: Range<usize>,
}

/// Numbers messages, cuts them into packets, and repeats these until they are acknowledged.
#[derive(Debug)]
pub struct Sender<Q> {
    messages: Q,
    pacing: Pacing,
    /// The number that the next new packet gets.
    next: u64,
    /// The number of the packet to leave next.
    cursor: u64,
    /// The lowest number not acknowledged.
    base: u64,
    /// When the next pass begins.
    resend_at: Option<Instant>,
    passes: u32,
    /// How many packets have left in a row, and until when another one belongs to that row.
    burst: u32,
    row_ends: Option<Instant>,
}

impl<Q> Sender<Q> {
    /// A sender whose first packet has the number `next`.
    pub const fn new(next: u64, pacing: Pacing, messages: Q) -> Self {
        Self {
            messages,
            pacing,
            next,
            cursor: next,
            base: next,
            resend_at: None,
            passes: 0,
            burst: 0,
            row_ends: None,
        }
    }

    /// Changes how fast it sends; a pause that has begun stays as it is.
    pub fn set_pacing(&mut self, pacing: Pacing) {
        self.pacing = pacing;
    }

    /// The number that the next new packet gets.
    pub const fn next_number(&self) -> u64 {
        self.next
    }

    /// The lowest number that is not acknowledged.
    pub const fn base_number(&self) -> u64 {
        self.base
    }

    /// Since the last progress, how many times all has been sent again.
    pub const fn passes(&self) -> u32 {
        self.passes
    }
}

impl<B, Q: Queue<Item = Outgoing<B>>> Sender<Q> {
    /// How many messages are on their way.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// A message on its way, counted from the oldest.
    pub fn get(&self, index: usize) -> Option<&Outgoing<B>> {
        self.messages.get(index)
    }

    /// A message on its way, to be changed; its numbers and length must stay.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Outgoing<B>> {
        self.messages.get_mut(index)
    }

    /// All messages on their way, the oldest first.
    pub fn iter<'a>(&'a self) -> impl Iterator<Item = &'a Outgoing<B>>
    where
        B: 'a,
    {
        (0..self.messages.len()).filter_map(|index| self.messages.get(index))
    }

    /// Puts a message of `len` bytes behind the others, and gives the number of its first packet.
    ///
    /// # Errors
    /// [`Full`] if there are as many messages as the queue holds; no number is used up then.
    pub fn push(&mut self, op: Op, xid: u64, len: usize, body: B) -> Result<u64, Full> {
        let first = self.next;
        self.messages.push(Outgoing { op, xid, first, len, sent: None, body })?;
        self.next = first.wrapping_add(pieces(len));
        Ok(first)
    }

    /// Gives up the oldest message.
    pub fn pop(&mut self) -> Option<Outgoing<B>> {
        self.messages.remove(0)
    }

    /// The next packet to send, if one may leave now. Its message's `sent` is set if it leaves for the first time.
    pub fn poll(&mut self, now: Instant) -> Option<Cut> {
        if self.row_ends.is_none_or(|end| now >= end) {
            self.burst = 0;
        }
        if self.burst >= self.pacing.burst {
            return None;
        }
        self.skip_settled();
        if self.cursor == self.next || ahead(self.cursor, self.base) >= self.window() {
            return None;
        }
        let index = self.find(self.cursor)?;
        let message = self.messages.get_mut(index)?;
        message.sent.get_or_insert(now);
        let cut = cut(message, index, self.cursor)?;
        self.cursor = self.cursor.wrapping_add(1);
        self.resend_at.get_or_insert(now + self.pacing.resend);
        self.burst = self.burst.saturating_add(1);
        self.row_ends = Some(now + self.pacing.gap);
        Some(cut)
    }

    /// Whether the packet that left last has more of its message behind it: nothing else should go in between
    /// (protocol.md 16).
    pub fn is_mid_message(&self) -> bool {
        self.cursor != self.next
            && self.find(self.cursor).and_then(|index| self.messages.get(index)).is_some_and(|message| {
                self.cursor != message.first && ahead(self.cursor, self.base) < self.window()
            })
    }

    /// All packets up to and including `number` have been acknowledged: takes out the oldest message if that
    /// finishes it. To be called until it gives nothing.
    pub fn acknowledge(&mut self, now: Instant, number: u64) -> Option<Outgoing<B>> {
        if ahead(number, self.base) < 0 || ahead(number, self.next) >= 0 {
            return self.take_finished();
        }
        self.progress(now, number.wrapping_add(1));
        self.take_finished()
    }

    /// The message `xid` needs no more sending, for its answer is here: takes it out.
    pub fn settle(&mut self, now: Instant, xid: u64) -> Option<Outgoing<B>> {
        let index = (0..self.messages.len()).find(|&index| {
            self.messages.get(index).is_some_and(|message| message.xid == xid && message.sent.is_some())
        })?;
        let message = self.messages.remove(index)?;
        self.progress(now, self.base);
        Some(message)
    }

    /// Begins a new pass at once, if the present one began longer than `since` ago: there is reason to believe that
    /// the peer is there and waits. The pauses between passes begin anew, too. Gives whether it did.
    pub fn hasten(&mut self, now: Instant, since: Duration) -> bool {
        let begins = self.resend_at.is_some_and(|at| now + self.pause() >= at + since);
        if begins {
            self.passes = 0;
            self.rewind(now);
        }
        begins
    }

    /// Numbers all messages anew from `first` on, and goes back to the oldest. What the peer acknowledged of it counts
    /// no more. For a peer whose expectation is set to `first`.
    pub fn renumber(&mut self, first: u64) {
        self.next = first;
        for index in 0..self.messages.len() {
            let Some(message) = self.messages.get_mut(index) else { break };
            message.first = self.next;
            self.next = self.next.wrapping_add(message.pieces());
        }
        (self.base, self.cursor) = (first, first);
    }

    /// Begins a new pass if its time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.resend_at.is_some_and(|at| now >= at) {
            self.passes = self.passes.saturating_add(1);
            self.rewind(now);
        }
    }

    /// When [`Sender::handle_timeout`] or [`Sender::poll`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sendable = self.cursor != self.next && ahead(self.cursor, self.base) < self.window();
        let paused = self.row_ends.filter(|_| sendable && self.burst >= self.pacing.burst);
        match (self.resend_at, paused) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn window(&self) -> i64 {
        i64::try_from(self.pacing.window).unwrap_or(i64::MAX)
    }

    /// How long the present pass waits for an acknowledgement.
    fn pause(&self) -> Duration {
        match self.passes.checked_sub(1) {
            None => self.pacing.resend,
            Some(doublings) => {
                let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
                self.pacing.resend_next.times(factor).min(self.pacing.resend_max)
            }
        }
    }

    fn rewind(&mut self, now: Instant) {
        let oldest = self.messages.get(0);
        let whole =
            oldest.filter(|message| message.pieces() <= self.pacing.whole && message.covers(self.base));
        self.cursor = whole.map_or(self.base, |message| message.first);
        self.resend_at = oldest.is_some().then(|| now + self.pause());
    }

    /// Nothing below `base` is awaited any more, nor are the numbers of messages that have been settled.
    fn progress(&mut self, now: Instant, base: u64) {
        let awaited =
            self.iter().find(|message| ahead(message.last(), base) >= 0).map(|message| message.first);
        self.base = match awaited {
            Some(first) if ahead(first, base) <= 0 => base,
            Some(first) => first,
            None => self.next,
        };
        self.passes = 0;
        if ahead(self.cursor, self.base) < 0 && !self.repeats_whole() {
            self.cursor = self.base;
        }
        self.resend_at = (self.cursor != self.base).then(|| now + self.pacing.resend);
        // What is acknowledged is out of the peer's socket buffer, which the bursts are to spare.
        let outstanding = u32::try_from(ahead(self.cursor, self.base)).unwrap_or(0);
        self.burst = self.burst.min(outstanding);
    }

    /// Whether a message that is acknowledged in part is being sent again from its first piece on: what the peer has
    /// of it is gone with that piece, so that none of the others may be left out.
    fn repeats_whole(&self) -> bool {
        self.messages.get(0).is_some_and(|oldest| {
            oldest.covers(self.base) && oldest.covers(self.cursor) && self.cursor != oldest.first
        })
    }

    fn take_finished(&mut self) -> Option<Outgoing<B>> {
        let oldest = self.messages.get(0)?;
        if ahead(oldest.last(), self.base) >= 0 {
            return None;
        }
        self.messages.remove(0)
    }

    /// Moves the cursor over packets whose message has been settled.
    fn skip_settled(&mut self) {
        if self.cursor == self.next || self.find(self.cursor).is_some() {
            return;
        }
        let following = self.iter().map(|message| message.first).find(|&first| ahead(first, self.cursor) > 0);
        self.cursor = following.unwrap_or(self.next);
    }

    fn find(&self, number: u64) -> Option<usize> {
        (0..self.messages.len())
            .find(|&index| self.messages.get(index).is_some_and(|message| message.covers(number)))
    }
}

/// How many packets a body of `len` bytes takes: an empty one takes one (protocol.md 1.4).
fn pieces(len: usize) -> u64 {
    len.div_ceil(PIECE).max(1) as u64
}

fn cut<B>(message: &Outgoing<B>, index: usize, number: u64) -> Option<Cut> {
    let Outgoing { op, xid, first, len, .. } = *message;
    let piece = usize::try_from(number.wrapping_sub(first)).ok()?;
    let start = piece.checked_mul(PIECE)?;
    let range = start..len.min(start.saturating_add(PIECE));
    let part = match (number == first, number == message.last()) {
        (true, true) => Part::Only { xid, op },
        (true, false) => Part::First { xid, op },
        (false, false) => Part::Middle,
        (false, true) => Part::Last,
    };
    Some(Cut { part, number, index, range })
}
