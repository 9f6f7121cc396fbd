//! Messages in the order of their numbers, and the packets that they are cut into.

use core::ops::Range;

use super::ahead;
use super::storage::Queue;
use crate::time::Instant;
use crate::wire::limits::PIECE;
use crate::wire::{Full, Op, Part};

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

    /// Its packet of this number, if it is the message at `index`.
    pub(super) fn cut(&self, index: usize, number: u64) -> Option<Cut> {
        let Self { op, xid, first, len, .. } = *self;
        let piece = usize::try_from(number.wrapping_sub(first)).ok()?;
        let start = piece.checked_mul(PIECE)?;
        let range = start..len.min(start.saturating_add(PIECE));
        let part = match (number == first, number == self.last()) {
            (true, true) => Part::Only { xid, op },
            (true, false) => Part::First { xid, op },
            (false, false) => Part::Middle,
            (false, true) => Part::Last,
        };
        Some(Cut { part, number, index, range })
    }
}

/// A packet to be sent: `range` of the body of the message at `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Which part of the message it is.
    pub part: Part,
    /// Its number.
    pub number: u64,
    /// Which message it belongs to, for [`Sender::get`](super::Sender::get).
    pub index: usize,
    /// Which bytes of the body it carries.
    pub range: Range<usize>,
}

/// Numbered messages. Those that have been taken out leave gaps.
#[derive(Debug)]
pub(super) struct Stream<Q> {
    pub(super) messages: Q,
    /// The number that the next new packet gets.
    pub(super) next: u64,
}

impl<B, Q: Queue<Item = Outgoing<B>>> Stream<Q> {
    pub(super) fn iter<'a>(&'a self) -> impl Iterator<Item = &'a Outgoing<B>>
    where
        B: 'a,
    {
        (0..self.messages.len()).filter_map(|index| self.messages.get(index))
    }

    pub(super) fn push(&mut self, op: Op, xid: u64, len: usize, body: B) -> Result<u64, Full> {
        let first = self.next;
        self.messages.push(Outgoing { op, xid, first, len, sent: None, body })?;
        self.next = first.wrapping_add(pieces(len));
        Ok(first)
    }

    pub(super) fn renumber(&mut self, first: u64) {
        self.next = first;
        for index in 0..self.messages.len() {
            let Some(message) = self.messages.get_mut(index) else { break };
            message.first = self.next;
            self.next = self.next.wrapping_add(message.pieces());
        }
    }

    /// Which message has the packet of this number.
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        (0..self.messages.len())
            .find(|&index| self.messages.get(index).is_some_and(|message| message.covers(number)))
    }

    /// The message that has the packet of this number.
    pub(super) fn owner(&self, number: u64) -> Option<&Outgoing<B>> {
        self.find(number).and_then(|index| self.messages.get(index))
    }

    /// The lowest number from `number` on that belongs to a message; the next new one if none does.
    pub(super) fn occupied_from(&self, number: u64) -> u64 {
        if self.find(number).is_some() {
            return number;
        }
        let following = self.iter().map(|message| message.first).find(|&first| ahead(first, number) > 0);
        following.unwrap_or(self.next)
    }

    /// Takes out the oldest message if all its numbers are below `base`.
    pub(super) fn take_below(&mut self, base: u64) -> Option<Outgoing<B>> {
        let oldest = self.messages.get(0)?;
        if ahead(oldest.last(), base) >= 0 {
            return None;
        }
        self.messages.remove(0)
    }
}

/// How many packets a body of `len` bytes takes: an empty one takes one (protocol.md 1.4).
fn pieces(len: usize) -> u64 {
    len.div_ceil(PIECE).max(1) as u64
}
