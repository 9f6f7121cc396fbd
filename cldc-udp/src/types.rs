//! What both clients take and give.

use std::borrow::Cow;
use std::time::Duration;

use cldc_core::lease::Terms;
use cldc_core::session::Handle;
use cldc_core::wire::{EventMask, LockFlags, Metadata};

/// How a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// By one holder at a time.
    Exclusive,
    /// Together with other shared holders.
    Shared,
}

impl LockKind {
    pub(crate) fn flags(self) -> LockFlags {
        match self {
            Self::Exclusive => LockFlags::NONE,
            Self::Shared => LockFlags::SHARED,
        }
    }
}

/// A file as it was read, all of it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// About the file.
    pub metadata: Metadata,
    /// Its path, as the server has it.
    pub path: Vec<u8>,
    /// Its contents.
    pub data: Vec<u8>,
}

/// What the server grants a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// How long the server keeps the session after it last heard of the client.
    pub lease: Duration,
    /// How much of it the client counts on: the lease is safe for so long after the last request that was answered
    /// had been sent. The rest is what the two clocks may differ by.
    pub counted: Duration,
    /// How long the client goes on trying after that, in jeopardy.
    pub grace: Duration,
}

impl LeaseTerms {
    pub(crate) fn new(terms: Terms) -> Self {
        Self { lease: terms.lease.into(), counted: terms.counted().into(), grace: terms.grace.into() }
    }
}

/// Something happened to an open file, or to the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEvent {
    /// The path that the file was opened by; empty if it happened to the session.
    pub path: Vec<u8>,
    /// The open file; [`FileEvent::SESSION`] if it happened to the session.
    pub handle: Handle,
    /// What happened. `MASTER_FAILOVER`, told once to each reader when another server has become the master, says
    /// that cached contents should be read again; what was opened and locked stands.
    pub events: EventMask,
    /// The version that the file had then; none from a plain server.
    pub version: Option<u64>,
    /// How many events the reader has missed directly before this one, because it did not take them in time. Then it
    /// should read again whatever it follows.
    pub missed: u64,
}

impl FileEvent {
    /// In place of a handle: no file has this one.
    pub const SESSION: Handle = Handle(0);

    /// The path as text, for messages.
    #[must_use]
    pub fn path_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.path)
    }
}
