//! The sending half of a link: messages in, packets out, again and again until they are acknowledged.
//!
//! There are two ways of repeating: in passes for Hail's peers, selectively for ours. A session learns from the answer
//! to NEW_SESS which one its peer knows, so a sender begins with passes and may go over to the other.

use super::ahead;
use super::passes::{Pacing, Passes};
use super::row::Row;
use super::selective::{BURST, GAP, Selective};
use super::storage::Queue;
use super::stream::{Cut, Outgoing, Stream};
use crate::time::{Duration, Instant};
use crate::wire::{Ack, Full, Op};

/// Numbers messages, cuts them into packets, and repeats these until they are acknowledged.
#[derive(Debug)]
pub struct Sender<Q> {
    stream: Stream<Q>,
    /// The number that the stream began with.
    first: u64,
    way: Way,
    row: Row,
}

/// How packets are repeated.
#[derive(Debug)]
enum Way {
    Passes(Passes),
    Selective(Selective),
}

impl<Q> Sender<Q> {
    /// A sender whose first packet has the number `next`, and that sends in passes.
    pub const fn new(next: u64, pacing: Pacing, messages: Q) -> Self {
        let way = Way::Passes(Passes::new(next, pacing));
        Self { stream: Stream { messages, next }, first: next, way, row: Row::new() }
    }

    /// Changes how fast it sends in passes; a pause that has begun stays as it is.
    pub fn set_pacing(&mut self, pacing: Pacing) {
        if let Way::Passes(passes) = &mut self.way {
            passes.pacing = pacing;
        }
    }

    /// The number that the next new packet gets.
    pub const fn next_number(&self) -> u64 {
        self.stream.next
    }

    /// The lowest number that is not acknowledged.
    pub const fn base_number(&self) -> u64 {
        match &self.way {
            Way::Passes(passes) => passes.base,
            Way::Selective(selective) => selective.base,
        }
    }

    /// How many times in a row the resend timer has fired without progress, so that all unacknowledged packets have
    /// been sent again.
    pub const fn passes(&self) -> u32 {
        match &self.way {
            Way::Passes(passes) => passes.count,
            Way::Selective(selective) => selective.timeouts,
        }
    }

    /// The smoothed round-trip time, if it has been measured: only a selective sender does.
    pub fn round_trip(&self) -> Option<Duration> {
        match &self.way {
            Way::Passes(_) => None,
            Way::Selective(selective) => selective.round_trip(),
        }
    }

    /// How many packets may leave in a row, and the pause after them.
    const fn burst(&self) -> (u32, Duration) {
        match &self.way {
            Way::Passes(passes) => (passes.pacing.burst, passes.pacing.gap),
            Way::Selective(_) => (BURST, GAP),
        }
    }

    fn shrink_row(&mut self) {
        self.row.shrink(match &self.way {
            Way::Passes(passes) => passes.outstanding(),
            Way::Selective(selective) => selective.outstanding(),
        });
    }
}

impl<B, Q: Queue<Item = Outgoing<B>>> Sender<Q> {
    /// From now on only what is lost is sent again, for a peer that says what it has. At most `window` packets, which
    /// counts as at least 1 and at most 64, are unacknowledged at a time. What is in flight counts as not yet sent.
    pub fn set_selective(&mut self, window: u64) {
        let base = self.base_number();
        let begun = self.iter().filter(|message| message.sent.is_some()).last();
        let end = begun.map_or(base, |message| message.last().wrapping_add(1));
        // Numbers after it that nobody has are those of messages that were sent and settled.
        let reached = self.stream.occupied_from(end);
        self.way = Way::Selective(Selective::new(base, reached, window));
    }

    /// How many messages are on their way.
    pub fn len(&self) -> usize {
        self.stream.messages.len()
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.stream.messages.is_empty()
    }

    /// A message on its way, counted from the oldest.
    pub fn get(&self, index: usize) -> Option<&Outgoing<B>> {
        self.stream.messages.get(index)
    }

    /// A message on its way, to be changed; its numbers and length must stay.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Outgoing<B>> {
        self.stream.messages.get_mut(index)
    }

    /// All messages on their way, the oldest first.
    pub fn iter<'a>(&'a self) -> impl Iterator<Item = &'a Outgoing<B>>
    where
        B: 'a,
    {
        self.stream.iter()
    }

    /// Puts a message of `len` bytes behind the others, and gives the number of its first packet.
    ///
    /// # Errors
    /// [`Full`] if there are as many messages as the queue holds; no number is used up then.
    pub fn push(&mut self, op: Op, xid: u64, len: usize, body: B) -> Result<u64, Full> {
        self.stream.push(op, xid, len, body)
    }

    /// Gives up the oldest message.
    pub fn pop(&mut self) -> Option<Outgoing<B>> {
        let message = self.stream.messages.remove(0)?;
        if let Way::Selective(selective) = &mut self.way {
            selective.give_up(self.stream.messages.get(0).map_or(self.stream.next, |oldest| oldest.first));
        }
        Some(message)
    }

    /// The next packet to send, if one may leave now. Its message's `sent` is set if it leaves for the first time.
    pub fn poll(&mut self, now: Instant) -> Option<Cut> {
        let (burst, gap) = self.burst();
        if !self.row.has_room(now, burst) {
            return None;
        }
        let number = match &mut self.way {
            Way::Passes(passes) => passes.poll(now, &self.stream),
            Way::Selective(selective) => selective.poll(now, &self.stream),
        }?;
        let index = self.stream.find(number)?;
        let message = self.stream.messages.get_mut(index)?;
        message.sent.get_or_insert(now);
        self.row.add(now, gap);
        message.cut(index, number)
    }

    /// Whether the packet that left last has more of its message behind it: nothing else should go in between
    /// (protocol.md 16). Only passes need that; a selective sender always says no.
    pub fn is_mid_message(&self) -> bool {
        match &self.way {
            Way::Passes(passes) => passes.is_mid_message(&self.stream),
            Way::Selective(_) => false,
        }
    }

    /// All packets up to and including `number` have been acknowledged: takes out the oldest message if that
    /// finishes it. To be called until it gives nothing. For passes only: with a selective sender it does nothing.
    pub fn acknowledge(&mut self, now: Instant, number: u64) -> Option<Outgoing<B>> {
        let Way::Passes(passes) = &mut self.way else { return None };
        if ahead(number, passes.base) >= 0 && ahead(number, self.stream.next) < 0 {
            passes.progress(now, number.wrapping_add(1), &self.stream);
            self.shrink_row();
        }
        self.take_acknowledged()
    }

    /// The peer says what it has. `false` if that cannot be, because it names packets that were never sent or are of
    /// another stream, or because this sender sends in passes: then nothing has changed. What was known before
    /// changes nothing either.
    pub fn acknowledge_selectively(&mut self, now: Instant, ack: Ack) -> bool {
        let Way::Selective(selective) = &mut self.way else { return false };
        let possible = selective.acknowledge(now, self.first, ack);
        if possible {
            self.shrink_row();
        }
        possible
    }

    /// Takes out the oldest message if all its packets are acknowledged. To be called until it gives nothing, by whom
    /// awaits no answers.
    pub fn take_acknowledged(&mut self) -> Option<Outgoing<B>> {
        self.stream.take_below(self.base_number())
    }

    /// The message `xid` needs no more sending, for its answer is here: takes it out. Nothing if it has not been sent,
    /// a selective sender: all of it, so that it cannot have been answered.
    pub fn settle(&mut self, now: Instant, xid: u64) -> Option<Outgoing<B>> {
        let index = self.iter().position(|message| {
            message.xid == xid
                && message.sent.is_some()
                && match &self.way {
                    Way::Passes(_) => true,
                    Way::Selective(selective) => selective.has_sent(message.last()),
                }
        })?;
        let message = self.stream.messages.remove(index)?;
        match &mut self.way {
            Way::Passes(passes) => passes.progress(now, passes.base, &self.stream),
            Way::Selective(selective) => selective.settle(now, message.first, message.last()),
        }
        self.shrink_row();
        Some(message)
    }

    /// Sends all that is unacknowledged again at once, if there is reason to believe that the peer is there and waits;
    /// not if the present pass began, or a selective sender sent a packet, less than `since` ago. The pauses until
    /// the next time begin anew, too. Gives whether it did.
    pub fn hasten(&mut self, now: Instant, since: Duration) -> bool {
        match &mut self.way {
            Way::Passes(passes) => passes.hasten(now, since, &self.stream),
            Way::Selective(selective) => selective.hasten(now, since),
        }
    }

    /// Numbers all messages anew from `first` on, and goes back to the oldest. What the peer acknowledged of it counts
    /// no more. For a peer whose expectation is set to `first`. A selective sender forgets what it knows of the path,
    /// but for the round-trip time.
    pub fn renumber(&mut self, first: u64) {
        self.first = first;
        self.stream.renumber(first);
        match &mut self.way {
            Way::Passes(passes) => passes.renumber(first),
            Way::Selective(selective) => selective.renumber(first),
        }
    }

    /// Sends all that is unacknowledged again if the resend timer fires.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.way {
            Way::Passes(passes) => passes.handle_timeout(now, &self.stream),
            Way::Selective(selective) => selective.handle_timeout(now),
        }
    }

    /// When [`Sender::handle_timeout`] or [`Sender::poll`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = self.stream.next;
        let (resend_at, has_more) = match &self.way {
            Way::Passes(passes) => (passes.resend_at, passes.has_more(next)),
            Way::Selective(selective) => (selective.resend_at(), selective.has_more(next)),
        };
        let (burst, _) = self.burst();
        let paused = self.row.pause(burst).filter(|_| has_more);
        match (resend_at, paused) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}
