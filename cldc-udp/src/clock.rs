//! The clock and the randomness that the core is fed with, for whoever drives one without the clients of this crate.

use cldc_core::time::Instant;
use rustix::time::{ClockId, clock_gettime};

/// A clock that never goes back and counts while the machine is suspended: a lease does not wait for a laptop that
/// sleeps.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
/// On Apple's systems this one counts while the machine is suspended.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Now, on a clock that never goes back.
#[must_use]
pub fn now() -> Instant {
    let time = clock_gettime(CLOCK);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000;
    Instant::from_micros(secs.saturating_mul(1_000_000).saturating_add(micros))
}

/// A seed that nobody can guess, from the system.
///
/// # Errors
/// The system's, if it has no source of randomness.
pub fn seed() -> std::io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
    Ok(seed)
}
