//! How many packets the path takes at a time: slow start, then a careful increase (RFC 5681, RFC 6582).

use super::ahead;

/// The window of a link that knows nothing of its path.
const FIRST: u8 = 16;
/// The window after the resend timer has fired, and the smallest one: a request of a few packets needs no care.
const SMALLEST: u8 = 8;
/// The bitmaps of the sender end there.
const LARGEST: u8 = 64;

/// The congestion window, in packets.
#[derive(Debug)]
pub(super) struct Congestion {
    window: u8,
    /// Below this window each acknowledged packet makes it larger by one; from there on each window of them does.
    threshold: u8,
    /// How many packets have been acknowledged towards the next increase.
    credit: u8,
    /// Losses of packets below this number have been counted: they belong to a round trip with others.
    counted: u64,
}

impl Congestion {
    /// For a stream whose first packet has the number `first`.
    pub(super) const fn new(first: u64) -> Self {
        Self { window: FIRST, threshold: LARGEST, credit: 0, counted: first }
    }

    /// How many packets may be on their way.
    pub(super) const fn window(&self) -> u32 {
        self.window as u32
    }

    /// So many more packets are acknowledged.
    pub(super) fn acknowledged(&mut self, packets: u32) {
        for _ in 0..packets.min(LARGEST.into()) {
            if self.window < self.threshold {
                self.window = self.window.saturating_add(1);
                continue;
            }
            self.credit = self.credit.saturating_add(1);
            if self.credit >= self.window {
                self.credit = 0;
                self.window = self.window.saturating_add(1).min(LARGEST);
            }
        }
    }

    /// The packet `number` is lost, as acknowledgements of later ones tell; the next new one is `next`.
    pub(super) fn lost(&mut self, number: u64, next: u64) {
        if ahead(number, self.counted) >= 0 {
            self.halve(next);
            self.window = self.threshold;
        }
    }

    /// The resend timer has fired, `again` without any acknowledgement since the last time.
    pub(super) fn timed_out(&mut self, again: bool, next: u64) {
        if !again {
            self.halve(next);
        }
        self.window = SMALLEST;
    }

    fn halve(&mut self, next: u64) {
        self.threshold = (self.window >> 1).max(SMALLEST);
        self.credit = 0;
        self.counted = next;
    }
}
