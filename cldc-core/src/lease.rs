//! The client's view of its session's lease: how long it may believe that its locks are its own.
//!
//! The lease is counted from the first transmission of the last request that was answered: the server cannot have
//! received it earlier, so the server's count began later. What the two clocks may differ in rate is taken off
//! (docs/protocol.md 7.3). So the client always gives up before the server does.

use crate::time::{Duration, Instant};

/// How far a lease is to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// The server keeps the session, its handles and its locks.
    Safe,
    /// The lease has run out here: the server may have given the locks to others. Do not act on them; it may still
    /// turn out that the session lives.
    Jeopardy,
    /// Given up: the session is gone.
    Expired,
}

/// The terms of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long the server keeps the session after it last heard of the client.
    pub lease: Duration,
    /// How long the client goes on trying after its lease has run out.
    pub grace: Duration,
    /// By how much the rate of a clock may be off, in parts per million; of both clocks, each in its own direction.
    pub drift_ppm: u32,
}

/// No lease, and no grace period, is longer than this, whatever a server grants.
const LONGEST: Duration = Duration::from_secs(600);

/// A lease is not renewed more often than one of this length would be, however short it is.
const SHORTEST: Duration = Duration::from_secs(2);

impl Terms {
    /// The terms that a server grants, in milliseconds, as far as they make sense. A lease that is shorter than any
    /// server should grant counts as it is: to count on more would not be safe.
    #[must_use]
    pub fn granted(lease_ms: u32, grace_ms: u32, drift_ppm: u32) -> Self {
        let span = |ms: u32| Duration::from_millis(ms.into()).min(LONGEST);
        Self { lease: span(lease_ms), grace: span(grace_ms), drift_ppm }
    }

    /// How long the client may count on a lease: lease · (1 − ρ) / (1 + ρ).
    #[must_use]
    pub fn counted(&self) -> Duration {
        const MILLION: u128 = 1_000_000;
        let drift = u128::from(self.drift_ppm).min(MILLION);
        let counted = u128::from(self.lease.as_micros()) * (MILLION - drift) / (MILLION + drift);
        Duration::from_micros(u64::try_from(counted).unwrap_or(u64::MAX))
    }
}

/// A lease that a session holds.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    terms: Terms,
    granted: Instant,
}

impl Lease {
    /// A lease granted in answer to a request that first left at `sent`.
    #[must_use]
    pub const fn new(terms: Terms, sent: Instant) -> Self {
        Self { terms, granted: sent }
    }

    /// A request that first left at `sent` has been answered.
    pub fn renew(&mut self, sent: Instant) {
        self.granted = self.granted.max(sent);
    }

    /// A request that first left at `sent` has been answered, and the answer grants other terms.
    pub fn regrant(&mut self, terms: Terms, sent: Instant) {
        self.terms = terms;
        self.renew(sent);
    }

    /// The terms.
    #[must_use]
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// Until when the lease is safe.
    #[must_use]
    pub fn safe_until(&self) -> Instant {
        self.granted + self.terms.counted()
    }

    /// When the client gives up.
    #[must_use]
    pub fn expires_at(&self) -> Instant {
        self.safe_until() + self.terms.grace
    }

    /// When it is time to ask for renewal.
    #[must_use]
    pub fn renew_at(&self) -> Instant {
        self.granted + self.terms.lease.max(SHORTEST).part(3)
    }

    /// How far the lease is to be trusted now.
    #[must_use]
    pub fn state(&self, now: Instant) -> LeaseState {
        if now < self.safe_until() {
            LeaseState::Safe
        } else if now < self.expires_at() {
            LeaseState::Jeopardy
        } else {
            LeaseState::Expired
        }
    }

    /// When the state changes next, if nothing renews the lease.
    #[must_use]
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        [self.safe_until(), self.expires_at()].into_iter().find(|&change| now < change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms =
        Terms { lease: Duration::from_secs(60), grace: Duration::from_secs(45), drift_ppm: 10_000 };

    #[test]
    fn the_client_gives_up_before_the_server_for_every_drift_within_the_bound() {
        let lease = Lease::new(TERMS, Instant::from_micros(5));
        let counted = lease.safe_until().since(Instant::from_micros(5)).as_micros();
        assert_eq!(counted, 60_000_000 * 99 / 101);
        // A slow client clock shows `counted` when a fast server clock shows the most.
        let server = u128::from(counted) * 101 / 99;
        assert!(server <= 60_000_000);
    }

    #[test]
    fn states_follow_each_other_and_a_late_answer_does_not_shorten_the_lease() {
        let mut lease = Lease::new(TERMS, Instant::START + Duration::from_secs(10));
        let safe_until = lease.safe_until();
        lease.renew(Instant::START + Duration::from_secs(4));
        assert_eq!(lease.safe_until(), safe_until);
        assert_eq!(lease.state(Instant::START), LeaseState::Safe);
        assert_eq!(lease.next_change(Instant::START), Some(safe_until));
        assert_eq!(lease.state(safe_until), LeaseState::Jeopardy);
        assert_eq!(lease.next_change(safe_until), Some(lease.expires_at()));
        assert_eq!(lease.state(lease.expires_at()), LeaseState::Expired);
        assert_eq!(lease.next_change(lease.expires_at()), None);
    }
}
