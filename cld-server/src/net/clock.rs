//! The clocks. Deadlines are kept on `CLOCK_BOOTTIME`, which never goes back and counts suspended time; the wall clock only
//! labels files.

use std::time::{SystemTime, UNIX_EPOCH};

use cldc_core::time::{Duration, Instant};
use rustix::time::{ClockId, clock_gettime};

use crate::node::Clock;

/// The runtime's timers stand still while the machine is suspended, so none is set for longer than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What the clocks show.
pub(super) fn clock() -> Clock {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Clock { now: now(), wall }
}

/// The present point in time.
pub(super) fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    Instant::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
}

/// Waits until then, but for a second at most: the caller looks at the clock and waits again.
pub(super) async fn sleep_until(deadline: Option<Instant>) {
    let span = deadline.map_or(LONGEST_SLEEP, |deadline| deadline.since(now()).min(LONGEST_SLEEP));
    tokio::time::sleep(span.into()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_at_its_deadline_and_not_before() {
        let deadline = now() + Duration::from_millis(5);
        sleep_until(Some(deadline)).await;
        assert!(now() >= deadline);
        sleep_until(Some(Instant::START)).await;
    }
}
