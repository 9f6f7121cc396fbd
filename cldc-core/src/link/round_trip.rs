//! The round-trip time of a link, and the resend timer that follows from it (RFC 6298).

use crate::time::{Duration, Instant};

/// The timer before a round trip has been measured.
const FIRST: Duration = Duration::from_millis(250);
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(4);
/// What the timer adds to the mean at least: the peer may wait so long with its acknowledgement.
const SPARE: Duration = super::acknowledger::ACK_DELAY;

/// What is known about the round-trip time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    measured: Option<Measured>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    mean: Duration,
    deviation: Duration,
}

impl RoundTrip {
    /// The smoothed round-trip time, if it has been measured.
    pub(super) fn mean(&self) -> Option<Duration> {
        self.measured.map(|measured| measured.mean)
    }

    /// A packet that left at `first`, and again up to `last`, is acknowledged. Which of the two brought the
    /// acknowledgement is not known (Karn's algorithm would measure nothing then, and the timer would stay doubled
    /// wherever much is lost): it was the last one, unless less than half a round trip has passed since.
    pub(super) fn measure(&mut self, now: Instant, first: Instant, last: Instant) {
        let is_plausible = self.mean().is_none_or(|mean| now.since(last) >= mean.part(2));
        let sample = now.since(if is_plausible { last } else { first });
        self.measured = Some(match self.measured {
            None => Measured { mean: sample, deviation: sample.part(2) },
            Some(Measured { mean, deviation }) => {
                let error = (mean - sample).max(sample - mean);
                let deviation = (deviation.times(3) + error).part(4);
                Measured { mean: (mean.times(7) + sample).part(8), deviation }
            }
        });
    }

    /// How long an acknowledgement is waited for, after so many doublings.
    pub(super) fn timer(&self, doublings: u32) -> Duration {
        let timer = self
            .measured
            .map_or(FIRST, |measured| (measured.mean + measured.deviation.times(4).max(SPARE)).max(SHORTEST));
        timer.times(1u64.checked_shl(doublings).unwrap_or(u64::MAX)).min(LONGEST)
    }
}
