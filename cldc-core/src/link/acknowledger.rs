//! When a receiver says what it has, if no packet leaves anyway that could carry it.

use super::receiver::Arrival;
use crate::time::{Duration, Instant};

/// How long an acknowledgement may wait for a packet to ride on.
pub(super) const ACK_DELAY: Duration = Duration::from_millis(10);

/// So many packets in order are acknowledged at once.
const PACKETS: u8 = 4;

/// Decides when an acknowledgement leaves on its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acknowledger {
    due: Option<Instant>,
    /// How many packets have been taken since the last acknowledgement left.
    taken: u8,
}

impl Acknowledger {
    /// A packet has come. One in its turn may wait a little for others; one before or after its turn tells of a loss,
    /// of which the sender should know at once.
    pub fn arrived(&mut self, now: Instant, arrival: Arrival) {
        match arrival {
            Arrival::Taken => {
                self.taken = self.taken.saturating_add(1);
                if self.taken >= PACKETS {
                    self.due = Some(now);
                }
                self.due.get_or_insert(now + ACK_DELAY);
            }
            Arrival::Held | Arrival::Duplicate => self.due = Some(now),
            Arrival::Refused => {}
        }
    }

    /// Whether an acknowledgement must leave now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| now >= due)
    }

    /// When one must leave.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// One has left, on its own or on another packet.
    pub fn sent(&mut self) {
        *self = Self::default();
    }
}
