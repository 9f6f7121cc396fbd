//! Packets in a row: a burst is limited, since a peer's socket buffer is small (failures.md 21).

use crate::time::{Duration, Instant};

/// How many packets have left in a row.
#[derive(Debug)]
pub(super) struct Row {
    len: u32,
    /// Until when another packet belongs to this row.
    ends: Option<Instant>,
}

impl Row {
    pub(super) const fn new() -> Self {
        Self { len: 0, ends: None }
    }

    /// Whether another packet may leave now.
    pub(super) fn has_room(&mut self, now: Instant, limit: u32) -> bool {
        if self.ends.is_none_or(|end| now >= end) {
            self.len = 0;
        }
        self.len < limit
    }

    /// A packet leaves; the row lasts for `gap` after it.
    pub(super) fn add(&mut self, now: Instant, gap: Duration) {
        self.len = self.len.saturating_add(1);
        self.ends = Some(now + gap);
    }

    /// Only so many packets are still unacknowledged: the others are out of the peer's socket buffer.
    pub(super) fn shrink(&mut self, outstanding: u64) {
        self.len = self.len.min(u32::try_from(outstanding).unwrap_or(u32::MAX));
    }

    /// When the pause ends, if the row is full.
    pub(super) fn pause(&self, limit: u32) -> Option<Instant> {
        self.ends.filter(|_| self.len >= limit)
    }
}
