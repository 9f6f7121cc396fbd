//! How packets are repeated for peers that say what they have (docs/protocol.md 8.2).
//!
//! Only what is lost is sent again: packets that later ones have overtaken, and all of them when the resend timer
//! fires. The rules are those of TCP and QUIC (RFC 6298, 6582, 6675, 9002), with bitmaps for lists.

use super::ahead;
use super::congestion::Congestion;
use super::round_trip::RoundTrip;
use super::storage::Queue;
use super::stream::{Outgoing, Stream};
use crate::time::{Duration, Instant};
use crate::wire::Ack;

/// The bitmaps have a bit for each of so many packets.
const LARGEST_WINDOW: u64 = 64;

/// How many packets may leave in a row before a pause of [`GAP`] (failures.md 21).
pub(super) const BURST: u32 = 32;
/// The pause after a burst.
pub(super) const GAP: Duration = Duration::from_millis(1);

/// What has become of the packets on their way. Bit `i` of a bitmap is about the packet `base + i`.
#[derive(Debug)]
pub(super) struct Selective {
    /// The lowest number not acknowledged.
    pub(super) base: u64,
    /// The number of the packet to be sent next, if none is sent again.
    cursor: u64,
    /// Packets below this number may have been sent: also before this way of repeating began.
    reached: u64,
    acknowledged: u64,
    /// To be sent again.
    lost: u64,
    /// Sent again. Acknowledgements of later packets cannot tell that such a one is lost once more; the timer does.
    repeated: u64,
    /// The packet whose round trip is being measured.
    timed: Option<Timed>,
    round_trip: RoundTrip,
    congestion: Congestion,
    /// When a packet left last.
    left: Instant,
    resend_at: Option<Instant>,
    /// How often the resend timer has fired since the last acknowledgement.
    pub(super) timeouts: u32,
    window: u8,
}

/// A packet that is being timed.
#[derive(Clone, Copy, Debug)]
struct Timed {
    number: u64,
    /// When it left for the first time.
    first: Instant,
    /// When it left last.
    last: Instant,
}

impl Selective {
    /// At most `window` packets, from 1 to 64, are unacknowledged. Packets from `base` on are sent, though those below
    /// `reached` may have been sent before.
    pub(super) fn new(base: u64, reached: u64, window: u64) -> Self {
        Self {
            base,
            cursor: base,
            reached,
            acknowledged: 0,
            lost: 0,
            repeated: 0,
            timed: None,
            round_trip: RoundTrip::default(),
            congestion: Congestion::new(base),
            left: Instant::START,
            resend_at: None,
            timeouts: 0,
            window: u8::try_from(window.clamp(1, LARGEST_WINDOW)).unwrap_or(1),
        }
    }

    /// Begins anew with the number `first`; what is known of the round trip stays.
    pub(super) fn renumber(&mut self, first: u64) {
        let round_trip = self.round_trip;
        *self = Self { round_trip, ..Self::new(first, first, self.window.into()) };
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.mean()
    }

    /// Whether all packets up to this one have been sent.
    pub(super) fn has_sent(&self, last: u64) -> bool {
        ahead(last, self.reached) < 0
    }

    /// How many packets have been sent and not acknowledged.
    pub(super) fn outstanding(&self) -> u64 {
        self.awaited().count_ones().into()
    }

    /// Whether a packet may leave, in a stream that ends before `next`. If the oldest one is lost, it may whatever the
    /// window: nothing goes on without it (RFC 6675, 5).
    pub(super) fn has_more(&self, next: u64) -> bool {
        let in_flight = (self.awaited() & !self.lost).count_ones();
        let has_room = in_flight < self.congestion.window();
        self.lost & 1 != 0 || has_room && (self.lost != 0 || self.may_extend(next))
    }

    /// The number of the next packet, if one may leave; it counts as sent.
    pub(super) fn poll<B, Q>(&mut self, now: Instant, stream: &Stream<Q>) -> Option<u64>
    where
        Q: Queue<Item = Outgoing<B>>,
    {
        self.skip(stream);
        if !self.has_more(stream.next) {
            return None;
        }
        let number = if self.lost == 0 { self.extend(now) } else { self.repeat(now) };
        self.left = now;
        self.resend_at.get_or_insert(now + self.timer());
        Some(number)
    }

    /// Takes in what the peer has of a stream that began with `first`; `false` if that cannot be.
    pub(super) fn acknowledge(&mut self, now: Instant, first: u64, ack: Ack) -> bool {
        // The number after the highest one that the peer says it has.
        let end = match ack.held {
            0 => ack.next,
            held => ack.next.wrapping_add(u64::from(held.leading_zeros() ^ 63)).wrapping_add(2),
        };
        if ahead(ack.next, first) < 0 || ahead(ack.next, self.reached) > 0 || ahead(end, self.reached) > 0 {
            return false;
        }
        if ahead(ack.next, self.base) < 0 {
            return true;
        }
        let passed = self.offset(ack.next);
        let mut fresh = (below(passed) & !self.acknowledged).count_ones();
        self.shift(passed);
        let held = ack.held << 1;
        fresh = fresh.saturating_add((held & !self.acknowledged).count_ones());
        self.acknowledged |= held;
        self.progress(now, fresh);
        true
    }

    /// The numbers from `first` to `last` are acknowledged by an answer.
    pub(super) fn settle(&mut self, now: Instant, first: u64, last: u64) {
        if ahead(last, self.base) < 0 {
            return;
        }
        let start = if ahead(first, self.base) < 0 { 0 } else { self.offset(first) };
        let mask = below(self.offset(last).saturating_add(1)) & !below(start);
        let fresh = (mask & !self.acknowledged).count_ones();
        self.acknowledged |= mask;
        self.progress(now, fresh);
    }

    /// The numbers below `base` are given up.
    pub(super) fn give_up(&mut self, base: u64) {
        if ahead(base, self.base) > 0 {
            self.shift(self.offset(base));
            self.advance();
            self.timed = self.timed.filter(|timed| !self.has_acknowledged(timed.number));
            self.resend_at = self.resend_at.filter(|_| self.awaited() != 0);
        }
    }

    /// Sends all unacknowledged packets again, unless one has left less than `since` ago.
    pub(super) fn hasten(&mut self, now: Instant, since: Duration) -> bool {
        let begins = self.awaited() != 0 && now.since(self.left) >= since;
        if begins {
            self.timeouts = 0;
            self.lose_all(now);
        }
        begins
    }

    /// Sends all unacknowledged packets again if the resend timer fires.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.resend_at.is_none_or(|at| now < at) {
            return;
        }
        self.congestion.timed_out(self.timeouts > 0, self.cursor);
        self.timeouts = self.timeouts.saturating_add(1);
        self.lose_all(now);
    }

    /// When the resend timer fires.
    pub(super) const fn resend_at(&self) -> Option<Instant> {
        self.resend_at
    }

    /// Those that have been sent and not acknowledged.
    fn awaited(&self) -> u64 {
        below(self.offset(self.cursor)) & !self.acknowledged
    }

    /// How far a number, not below the base, is from it.
    fn offset(&self, number: u64) -> u64 {
        number.wrapping_sub(self.base)
    }

    fn has_acknowledged(&self, number: u64) -> bool {
        ahead(number, self.base) < 0 || shifted(self.acknowledged, self.offset(number)) & 1 != 0
    }

    fn timer(&self) -> Duration {
        self.round_trip.timer(self.timeouts)
    }

    fn may_extend(&self, next: u64) -> bool {
        self.cursor != next && self.offset(self.cursor) < self.window.into()
    }

    /// Moves the cursor over packets that were acknowledged before their turn, and those of messages that are gone.
    fn skip<B, Q>(&mut self, stream: &Stream<Q>)
    where
        Q: Queue<Item = Outgoing<B>>,
    {
        loop {
            let offset = self.offset(self.cursor);
            let known = shifted(self.acknowledged, offset).trailing_ones().into();
            let gap = stream.occupied_from(self.cursor).wrapping_sub(self.cursor);
            let step = gap.min(LARGEST_WINDOW.saturating_sub(offset)).max(known);
            if step == 0 {
                return;
            }
            self.cursor = self.cursor.wrapping_add(step);
            self.acknowledged |= below(self.offset(self.cursor)) & !below(offset);
            self.advance();
        }
    }

    fn extend(&mut self, now: Instant) -> u64 {
        let number = self.cursor;
        self.cursor = number.wrapping_add(1);
        if ahead(self.cursor, self.reached) > 0 {
            self.reached = self.cursor;
            self.timed.get_or_insert(Timed { number, first: now, last: now });
        }
        number
    }

    fn repeat(&mut self, now: Instant) -> u64 {
        let number = self.base.wrapping_add(self.lost.trailing_zeros().into());
        let lowest = self.lost & self.lost.wrapping_neg();
        self.lost &= !lowest;
        self.repeated |= lowest;
        if let Some(timed) = self.timed.as_mut().filter(|timed| timed.number == number) {
            timed.last = now;
        }
        number
    }

    /// So many packets have been acknowledged that were not before.
    fn progress(&mut self, now: Instant, fresh: u32) {
        self.advance();
        if fresh == 0 {
            return;
        }
        if let Some(timed) = self.timed.filter(|timed| self.has_acknowledged(timed.number)) {
            self.round_trip.measure(now, timed.first, timed.last);
            self.timed = None;
        }
        self.timeouts = 0;
        self.congestion.acknowledged(fresh);
        self.find_lost();
        self.resend_at = (self.awaited() != 0).then(|| now + self.timer());
    }

    /// Packets count as lost if three with higher numbers are acknowledged.
    fn find_lost(&mut self) {
        let without_highest = |bits: u64| bits & !highest(bits);
        let third = highest(without_highest(without_highest(self.acknowledged)));
        let overtaken = third.saturating_sub(1) & self.awaited() & !self.lost & !self.repeated;
        if overtaken != 0 {
            self.lost |= overtaken;
            let last = self.base.wrapping_add(u64::from(overtaken.leading_zeros() ^ 63));
            self.congestion.lost(last, self.cursor);
        }
    }

    fn lose_all(&mut self, now: Instant) {
        self.lost = self.awaited();
        self.resend_at = (self.lost != 0).then(|| now + self.timer());
    }

    /// Moves the base behind all that is acknowledged.
    fn advance(&mut self) {
        self.shift(self.acknowledged.trailing_ones().into());
        self.lost &= !self.acknowledged;
    }

    fn shift(&mut self, count: u64) {
        self.base = self.base.wrapping_add(count);
        self.acknowledged = shifted(self.acknowledged, count);
        self.lost = shifted(self.lost, count);
        self.repeated = shifted(self.repeated, count);
        if ahead(self.cursor, self.base) < 0 {
            self.cursor = self.base;
        }
    }
}

/// The `count` lowest bits.
fn below(count: u64) -> u64 {
    !u32::try_from(count).ok().and_then(|count| u64::MAX.checked_shl(count)).unwrap_or(0)
}

fn shifted(bits: u64, count: u64) -> u64 {
    u32::try_from(count).ok().and_then(|count| bits.checked_shr(count)).unwrap_or(0)
}

/// The highest bit that is set.
fn highest(bits: u64) -> u64 {
    (1u64 << 63).checked_shr(bits.leading_zeros()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Selective;

    #[test]
    fn the_state_of_a_device_takes_152_bytes() {
        assert_eq!(size_of::<Selective>(), 152);
    }
}
