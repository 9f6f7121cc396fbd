//! The receiving half of a link: packets in any order in, whole messages in order out.

use super::ahead;
use super::storage::{Buffer, Queue};
use crate::wire::{Ack, Op, Part};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was the next one, and is taken.
    Taken,
    /// It was taken before.
    Duplicate,
    /// It came early and is held until those before it have come.
    Held,
    /// It cannot be taken now: too far ahead, no room to hold it, or a message waits to be taken out. The sender
    /// will send it again.
    Refused,
}

/// A packet that came before its turn.
#[derive(Clone, Debug)]
pub struct Early<P> {
    number: u64,
    part: Part,
    piece: P,
}

/// A whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it asks or tells.
    pub op: Op,
    /// Names it.
    pub xid: u64,
    /// The number of its last packet.
    pub number: u64,
    /// Its body; only the beginning of it if `cut`.
    pub body: &'a [u8],
    /// The body was larger than the receiver's buffer.
    pub cut: bool,
}

/// How many numbers behind the next one a packet still counts as a duplicate of what was taken. Further behind, it
/// belongs to no packet that the peer could still be sending.
const BEHIND: i64 = 1 << 20;

/// How far ahead of the next number a packet is held at most: a message of the longest kind and a little more.
const AHEAD: i64 = 256;

/// How far ahead of the next number an acknowledgement names packets.
const NAMED: i64 = 64;

/// Where a message stands whose first packet has come.
#[derive(Clone, Copy, Debug)]
struct Assembly {
    op: Op,
    xid: u64,
    first: u64,
    cut: bool,
    complete: bool,
}

/// Puts the packets of a stream in order, and their pieces together.
///
/// `B` holds the message under assembly, `Q` the packets that come early, with their pieces in `P`.
#[derive(Debug)]
pub struct Receiver<B, Q> {
    next: u64,
    assembly: Option<Assembly>,
    body: B,
    early: Q,
}

impl<B: Buffer, Q> Receiver<B, Q> {
    /// A receiver whose first packet will have the number `next`.
    pub const fn new(next: u64, body: B, early: Q) -> Self {
        Self { next, assembly: None, body, early }
    }

    /// The number of the packet that is taken next.
    pub const fn next_number(&self) -> u64 {
        self.next
    }

    /// The number of the first packet of the message under assembly, if one is.
    pub fn assembling_since(&self) -> Option<u64> {
        self.assembly.filter(|assembly| !assembly.complete).map(|assembly| assembly.first)
    }

    /// The message that is complete and waits for [`Receiver::release`].
    pub fn message(&self) -> Option<Message<'_>> {
        let Assembly { op, xid, cut, complete, .. } = self.assembly?;
        let number = self.next.wrapping_sub(1);
        complete.then_some(Message { op, xid, number, body: self.body.bytes(), cut })
    }

    /// Lets go of the complete message, so that the next one can come.
    pub fn release(&mut self) {
        if self.assembly.is_some_and(|assembly| assembly.complete) {
            self.assembly = None;
            self.body.clear();
        }
    }

    fn append(&mut self, part: Part, piece: &[u8]) {
        if let Part::Only { xid, op } | Part::First { xid, op } = part {
            self.body.clear();
            self.assembly = Some(Assembly { op, xid, first: self.next, cut: false, complete: false });
        }
        self.next = self.next.wrapping_add(1);
        // A later piece without a first one belongs to nothing: its number is used up, and that is all.
        let Some(assembly) = &mut self.assembly else { return };
        if !assembly.cut && self.body.append(piece).is_err() {
            assembly.cut = true;
            fill(&mut self.body, piece);
        }
        assembly.complete = part.is_last();
    }
}

impl<B: Buffer, P: Buffer + Default, Q: Queue<Item = Early<P>>> Receiver<B, Q> {
    /// Whether it keeps nothing: no message under assembly or waiting, and no packet that came early.
    pub fn is_idle(&self) -> bool {
        self.assembly.is_none() && self.early.is_empty()
    }

    /// What it has. The sender will not repeat it, and it is kept until its turn comes.
    pub fn ack(&self) -> Ack {
        let bit = |index| {
            let distance = ahead(self.early.get(index)?.number, self.next);
            1u64.checked_shl(u32::try_from(distance).ok()?.checked_sub(1)?)
        };
        let held = (0..self.early.len()).filter_map(bit).fold(0, |held, bit| held | bit);
        Ack { next: self.next, held }
    }

    /// Takes in a packet that is verified. When it is taken, look for a [`Receiver::message`], and then call
    /// [`Receiver::advance`] until it gives nothing.
    pub fn accept(&mut self, number: u64, part: Part, piece: &[u8]) -> Arrival {
        let distance = ahead(number, self.next);
        if distance < 0 {
            return if distance >= -BEHIND { Arrival::Duplicate } else { Arrival::Refused };
        }
        if distance > 0 {
            return self.hold(number, part, piece);
        }
        if self.message().is_some() {
            return Arrival::Refused;
        }
        self.append(part, piece);
        if let Some(copy) = self.find(number) {
            self.early.remove(copy);
        }
        Arrival::Taken
    }

    /// Takes the next packet from those held, if it is there and no message waits; gives its number.
    pub fn advance(&mut self) -> Option<u64> {
        if self.message().is_some() {
            return None;
        }
        let number = self.next;
        let index = self.find(number)?;
        let early = self.early.remove(index)?;
        self.append(early.part, early.piece.bytes());
        Some(number)
    }

    /// Goes to another place in the stream: the peer has lost count, and begins again with `next`. A message under
    /// assembly and what was held are forgotten.
    pub fn restart(&mut self, next: u64) {
        self.next = next;
        self.assembly = None;
        self.body.clear();
        while self.early.remove(0).is_some() {}
    }

    fn hold(&mut self, number: u64, part: Part, piece: &[u8]) -> Arrival {
        if self.find(number).is_some() {
            return Arrival::Held;
        }
        let distance = ahead(number, self.next);
        let Some(held) = copy(piece).filter(|_| distance <= AHEAD) else { return Arrival::Refused };
        if self.early.push(Early { number, part, piece: held }).is_ok() {
            return Arrival::Held;
        }
        // The one whose turn comes last gives way to one whose turn comes sooner; but not one that an acknowledgement may
        // have named, as it would not come again.
        let distance_of = |index: &usize| self.early.get(*index).map(|held| ahead(held.number, self.next));
        let farthest = (0..self.early.len()).max_by_key(distance_of);
        let yields = |index: &usize| distance_of(index) > Some(distance.max(NAMED));
        let Some((farthest, held)) = farthest.filter(yields).zip(copy(piece)) else {
            return Arrival::Refused;
        };
        self.early.remove(farthest);
        match self.early.push(Early { number, part, piece: held }) {
            Ok(()) => Arrival::Held,
            Err(_) => Arrival::Refused,
        }
    }

    fn find(&self, number: u64) -> Option<usize> {
        (0..self.early.len()).find(|&index| self.early.get(index).is_some_and(|early| early.number == number))
    }
}

fn copy<P: Buffer + Default>(piece: &[u8]) -> Option<P> {
    let mut copy = P::default();
    copy.append(piece).ok().map(|()| copy)
}

/// Adds as much of the beginning of `bytes` as there is room for. A buffer takes all it is given or nothing, so the
/// room is found by powers of two.
fn fill(body: &mut impl Buffer, bytes: &[u8]) {
    let (mut rest, mut step) = (bytes, bytes.len().next_power_of_two());
    while step > 0 {
        if let Some((fitting, behind)) = rest.split_at_checked(step) {
            if body.append(fitting).is_ok() {
                rest = behind;
            }
        }
        step /= 2;
    }
}
