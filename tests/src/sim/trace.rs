//! What happened: a checksum of everything, and the last steps in words.

use std::collections::VecDeque;
use std::fmt::Display;

/// Lines that are kept.
const LINES: usize = 120;

/// The trace of a run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    lines: VecDeque<String>,
}

impl Trace {
    /// Takes in what happened, for the checksum alone: who it concerns, and what was carried.
    pub(super) fn feed(&mut self, now: u64, who: u64, bytes: &[u8]) {
        for word in [now, who, u64::from(crc32c::crc32c(bytes))] {
            // As FNV-1a does with bytes.
            self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Takes in what a reader wants to know, too.
    pub(super) fn tell(&mut self, now: u64, what: impl Display) {
        let line = format!("{:>11.6} {what}", now as f64 / 1e6);
        self.feed(now, 0, line.as_bytes());
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
