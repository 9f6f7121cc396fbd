//! The NOP that keeps an extended session alive: outside the stream, with a timer of its own (docs/protocol.md 7.3).

use super::config::Patience;
use crate::time::{Duration, Instant};

/// The longest time that an answer is waited for.
const LONGEST: Duration = Duration::from_secs(4);

/// A NOP on its way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    xid: u64,
    /// When it left for the first time.
    sent: Option<Instant>,
    /// When it leaves next.
    due: Instant,
    times: u32,
}

#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    /// Of the last one that was begun. They rise.
    number: u64,
    asked: Option<Asked>,
}

impl KeepAlive {
    /// Asks, if it does not already.
    pub(super) fn begin(&mut self, now: Instant, xid: u64) {
        if self.asked.is_none() {
            self.number = self.number.wrapping_add(1);
            self.asked = Some(Asked { xid, sent: None, due: now, times: 0 });
        }
    }

    /// No answer is needed any more.
    pub(super) fn cancel(&mut self) {
        self.asked = None;
    }

    pub(super) const fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// Number and xid of the NOP that is on its way.
    pub(super) fn names(&self) -> Option<(u64, u64)> {
        self.asked.map(|asked| (self.number, asked.xid))
    }

    /// Number and xid of the NOP that leaves now, if one does.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        patience: &Patience,
        round_trip: Duration,
    ) -> Option<(u64, u64)> {
        let asked = self.asked.as_mut().filter(|asked| now >= asked.due && asked.times < patience.times)?;
        asked.sent.get_or_insert(now);
        let first = round_trip.times(2).max(patience.pause);
        asked.due = now + first.times(1u64 << asked.times.min(4)).min(LONGEST);
        asked.times = asked.times.saturating_add(1);
        Some((self.number, asked.xid))
    }

    /// It is answered: when it left for the first time.
    pub(super) fn answered(&mut self, number: u64, xid: u64) -> Option<Instant> {
        let asked = self.asked.filter(|asked| (self.number, asked.xid) == (number, xid))?;
        let sent = asked.sent?;
        self.asked = None;
        Some(sent)
    }

    /// Whether it has asked in vain for long enough.
    pub(super) fn is_in_vain(&self, now: Instant, patience: &Patience) -> bool {
        self.asked.is_some_and(|asked| asked.times >= patience.times && now >= asked.due)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.asked.map(|asked| asked.due)
    }
}
