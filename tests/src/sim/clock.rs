//! The clock of one machine: it shows anything at the beginning, and runs too fast or too slowly.

use cldc_core::time::Instant;

const MILLION: i64 = 1_000_000;

/// A clock. All times are in microseconds; `now` is the time of the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// Then it showed this.
    since: u64,
    shown: u64,
    /// How much too fast it is, in millionths.
    ppm: i64,
}

impl Watch {
    pub(super) const fn new(now: u64, shown: u64, ppm: i64) -> Self {
        Self { since: now, shown, ppm }
    }

    /// What it shows.
    pub(super) fn shows(&self, now: u64) -> Instant {
        Instant::from_micros(self.shown + scale(now.saturating_sub(self.since), MILLION + self.ppm, MILLION))
    }

    /// The first time of the world at which it shows this.
    pub(super) fn moment(&self, shown: Instant) -> u64 {
        let left = shown.as_micros().saturating_sub(self.shown);
        let rate = MILLION + self.ppm;
        let rounded = scale(left, MILLION, rate);
        let exact = scale(rounded, rate, MILLION) >= left;
        self.since + rounded + u64::from(!exact)
    }

    /// It goes on at another rate.
    pub(super) fn set_rate(&mut self, now: u64, ppm: i64) {
        *self = Self::new(now, self.shows(now).as_micros(), ppm);
    }
}

fn scale(span: u64, by: i64, per: i64) -> u64 {
    u64::try_from(i128::from(span) * i128::from(by) / i128::from(per)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_first_at_which_the_clock_shows_it() {
        for ppm in [-10_000, -7, 0, 3, 10_000] {
            let watch = Watch::new(1_000, 77, ppm);
            for shown in (100..2_000_000).step_by(7_919) {
                let at = watch.moment(Instant::from_micros(shown));
                assert!(watch.shows(at).as_micros() >= shown, "{ppm} {shown}");
                assert!(watch.shows(at - 1).as_micros() < shown, "{ppm} {shown}");
            }
        }
    }

    #[test]
    fn another_rate_does_not_set_the_clock() {
        let mut watch = Watch::new(0, 5, 10_000);
        let before = watch.shows(1_000_000);
        watch.set_rate(1_000_000, -10_000);
        assert_eq!(watch.shows(1_000_000), before);
        assert_eq!(watch.shows(2_000_000).as_micros(), before.as_micros() + 990_000);
    }
}
