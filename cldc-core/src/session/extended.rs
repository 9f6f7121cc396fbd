//! What an extended session has beyond a plain one (docs/protocol.md 7).

use super::keep_alive::KeepAlive;
use super::resume::Resuming;
use crate::link::Acknowledger;
use crate::time::Instant;
use crate::wire::extended::{Features, Welcome};

#[derive(Debug)]
pub(super) struct Extended {
    /// What both sides can do.
    pub(super) features: Features,
    /// How many requests may be unanswered at a time.
    pub(super) requests: usize,
    /// The longest body that the server takes in.
    pub(super) max_message: usize,
    /// How many packets may be on their way.
    pub(super) window: u32,
    /// The master's.
    pub(super) epoch: u64,
    /// Of the last request.
    xid: u64,
    pub(super) acknowledger: Acknowledger,
    pub(super) keep_alive: KeepAlive,
    pub(super) resuming: Option<Resuming>,
    /// When the server's hint to resume was followed last.
    pub(super) hinted: Option<Instant>,
    /// When the last packet of the present stream came.
    pub(super) heard: Instant,
    /// When the master said last which servers there are.
    pub(super) told: Instant,
}

impl Extended {
    /// A session that is granted by the answer to the NEW_SESS `xid`.
    pub(super) fn new(welcome: &Welcome, offered: Features, xid: u64, now: Instant) -> Self {
        let mut extended = Self {
            features: Features::NONE,
            requests: 1,
            max_message: 0,
            window: 0,
            epoch: 0,
            xid,
            acknowledger: Acknowledger::default(),
            keep_alive: KeepAlive::default(),
            resuming: None,
            hinted: None,
            heard: now,
            told: now,
        };
        extended.adopt(welcome, offered);
        extended
    }

    /// Takes over what a server grants.
    pub(super) fn adopt(&mut self, welcome: &Welcome, offered: Features) {
        self.features = welcome.features.common(offered);
        self.requests = usize::try_from(welcome.requests).unwrap_or(usize::MAX).max(1);
        self.max_message = usize::try_from(welcome.max_message).unwrap_or(usize::MAX);
        self.window = welcome.window;
        self.epoch = welcome.epoch;
    }

    /// The xid of the next request, which counts as used.
    pub(super) const fn next_xid(&mut self) -> u64 {
        self.xid = self.coming_xid();
        self.xid
    }

    /// The xid that the next request will have.
    pub(super) const fn coming_xid(&self) -> u64 {
        self.xid.wrapping_add(1)
    }

    /// Whether what comes in may be acknowledged: not while another server, or another stream, is being looked for.
    pub(super) fn may_acknowledge(&self) -> bool {
        self.resuming.as_ref().is_none_or(Resuming::is_taking)
    }
}
