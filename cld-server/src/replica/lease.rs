//! Rounds of heartbeats by which a master learns that it still was the master when a round began: they let reads be
//! answered, and give the master lease.
//!
//! A round that began at t0 and was answered by a quorum in the same term proves that no other server was elected before
//! t0, and none of that quorum votes for another for an election timeout of its own clock. So until
//! t0 + (election ticks - 1) · tick · (1 - ρ)/(1 + ρ) of ours there is no other master, ρ being the bound on how far any
//! clock's rate is off. (One tick less, as the first tick may come at once.) Counting from the answer would be wrong: the
//! quorum's promise began when it heard the heartbeat.

use std::collections::VecDeque;

use cldc_core::time::{Duration, Instant};

/// The most rounds that are not answered yet; the oldest are given up, a later one stands for them.
const MAX_OPEN: usize = 64;

/// The rounds of a master, and what follows from them.
#[derive(Debug)]
pub(super) struct Rounds {
    /// For how long an answered round gives the lease, from its beginning.
    span: Duration,
    /// The number of the last round begun. Never used again, also in later terms.
    last: u64,
    /// Rounds that are not answered, oldest first: the number, and when it began.
    open: VecDeque<(u64, Instant)>,
    lease: Option<Instant>,
    /// No lease in this term any more.
    barred: bool,
    /// The last ticket given to a reader.
    wanted: u64,
    /// The last round answered: its number, and the index up to which must be applied before its readers are answered.
    answered: (u64, u64),
    /// The last ticket told to be readable.
    told: u64,
}

impl Rounds {
    pub(super) fn new(span: Duration) -> Self {
        Self {
            span,
            last: 0,
            open: VecDeque::new(),
            lease: None,
            barred: false,
            wanted: 0,
            answered: (0, 0),
            told: 0,
        }
    }

    /// How long a lease lasts after `ticks` ticks of the other servers, whose clocks and ours are off by at most
    /// `drift_ppm` millionths.
    pub(super) fn span(ticks: u64, tick: Duration, drift_ppm: u32) -> Duration {
        let drift = u128::from(drift_ppm.min(1_000_000));
        let span = u128::from(tick.times(ticks).as_micros()) * (1_000_000 - drift) / (1_000_000 + drift);
        Duration::from_micros(u64::try_from(span).unwrap_or(u64::MAX))
    }

    /// Begins a round, whose heartbeats leave after `now`.
    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        self.last += 1;
        self.open.push_back((self.last, now));
        if self.open.len() > MAX_OPEN {
            self.open.pop_front();
        }
        self.last
    }

    /// A quorum has answered this round. `index` was committed when it began.
    pub(super) fn answer(&mut self, round: u64, index: u64) {
        let Some((_, began)) = self.open.iter().find(|(number, _)| *number == round) else { return };
        if !self.barred {
            self.lease = self.lease.max(Some(*began + self.span));
        }
        self.open.retain(|(number, _)| *number > round);
        self.answered = self.answered.max((round, index));
    }

    /// A ticket for a reader: the next round to begin. Whether it may begin at once is for the caller to decide.
    pub(super) fn ticket(&mut self) -> u64 {
        self.wanted = self.last + 1;
        self.wanted
    }

    /// Whether a reader waits for a round that has not begun, and no other is on its way.
    pub(super) fn is_due(&self) -> bool {
        self.open.is_empty() && self.wanted > self.last
    }

    /// The last ticket whose readers can be answered now, once.
    pub(super) fn readable(&mut self, applied: u64) -> Option<u64> {
        let (round, index) = self.answered;
        let ticket = round.min(self.wanted);
        if index > applied || ticket <= self.told {
            return None;
        }
        self.told = ticket;
        Some(ticket)
    }

    pub(super) fn lease(&self) -> Option<Instant> {
        self.lease
    }

    /// Who votes has changed: what the voters before have promised may not hold for long.
    pub(super) fn drop_lease(&mut self) {
        self.lease = None;
    }

    /// No lease any more in this term, as another server is asked to force an election.
    pub(super) fn bar_lease(&mut self) {
        self.lease = None;
        self.barred = true;
    }

    pub(super) fn is_barred(&self) -> bool {
        self.barred
    }

    /// The mastership is over.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.lease = None;
        self.barred = false;
        self.last = self.last.max(self.wanted);
        self.told = self.wanted;
    }
}
