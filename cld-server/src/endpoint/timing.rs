//! How long things take: every span of time of the logic in one place.

use cldc_core::link::Pacing;
use cldc_core::time::Duration;

use crate::database::Terms;

/// Up to how many pieces a message is sent again from its first piece: Hail's client takes duplicates so many numbers
/// back (protocol.md 4.4).
pub(super) const WHOLE: u64 = 25;

/// The spans of time that the server keeps. (How long a plain session may be silent is one of the cell's
/// [`Limits`](crate::database::Limits).)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// So much longer a session has after a restart, counted from the beginning of the epoch. The client of an extended
    /// session goes on trying for so long after its lease.
    pub grace: Duration,
    /// The lease of an extended session whose client proposes none.
    pub lease: Duration,
    /// The shortest and the longest lease that are granted.
    pub lease_min: Duration,
    /// See [`Timing::lease_min`].
    pub lease_max: Duration,
    /// The first pause before packets are sent again, and the pause after each further time.
    pub resend: Duration,
    /// See [`Timing::resend`].
    pub resend_next: Duration,
    /// The first pause before a recovered session is called again; it grows up to [`Timing::resend_next`].
    pub recall: Duration,
    /// A NEW_SESS reply is sent again at once when a packet shows that it was lost, but not sooner than this after
    /// the last time.
    pub hasten_greeting: Duration,
    /// The same for other replies, when a request comes again.
    pub hasten: Duration,
    /// How long after an EVENT a PING follows if nothing else that asks for an acknowledgement does: Hail's clients
    /// never acknowledge events.
    pub flush: Duration,
    /// How long the packets of a recovered session are gathered to find where its stream goes on.
    pub gather: Duration,
    /// They are gathered again if later requests come for so long but not the next one: three of the resends of
    /// Hail's client (5 s) must have missed it.
    pub realign: Duration,
    /// So long after a restart, replies from before it that the client has not asked for again count as received.
    pub settle_old: Duration,
    /// The same for the oldest of them if there are very many: time for our client to ask several times.
    pub settle_crowd: Duration,
    /// How long the reply to END_SESS is kept for a client that has not acknowledged it.
    pub linger: Duration,
    /// The unit of the consensus engine's time.
    pub tick: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(45),
            lease: Duration::from_secs(30),
            lease_min: Duration::from_secs(2),
            lease_max: Duration::from_secs(600),
            resend: Duration::from_secs(2),
            resend_next: Duration::from_secs(5),
            recall: Duration::from_secs(1),
            hasten_greeting: Duration::from_millis(100),
            hasten: Duration::from_millis(250),
            flush: Duration::from_secs(1),
            gather: Duration::from_secs(1),
            realign: Duration::from_secs(16),
            settle_old: Duration::from_secs(60),
            settle_crowd: Duration::from_secs(1),
            linger: Duration::from_secs(30),
            tick: Duration::from_millis(50),
        }
    }
}

impl Timing {
    /// What is granted to a client that proposes a lease of so many milliseconds, 0 for none.
    pub(super) fn terms(&self, proposed_ms: u32) -> Terms {
        let proposed = if proposed_ms == 0 { self.lease } else { Duration::from_millis(proposed_ms.into()) };
        let lease = proposed.clamp(self.lease_min, self.lease_max);
        Terms { lease_ms: milliseconds(lease), grace_ms: milliseconds(self.grace) }
    }

    /// How a session's packets are paced. Hail's client takes duplicates 25 numbers back, and its socket buffer holds
    /// some 90 packets (protocol.md 4.6, 15.2.3).
    pub(super) const fn pacing(&self) -> Pacing {
        Pacing {
            resend: self.resend,
            resend_next: self.resend_next,
            resend_max: self.resend_next,
            window: 32,
            burst: 32,
            gap: Duration::from_millis(1),
            whole: WHOLE,
        }
    }

    /// How a recovered session is called until it answers.
    pub(super) const fn calling(&self) -> Pacing {
        Pacing { resend: self.recall, resend_next: self.recall, ..self.pacing() }
    }
}

fn milliseconds(span: Duration) -> u32 {
    u32::try_from(span.as_micros() / 1000).unwrap_or(u32::MAX)
}
