//! What both clients take and give.

use std::borrow::Cow;

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

/// Something happened to an open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEvent {
    /// The path that the file was opened by.
    pub path: Vec<u8>,
    /// The open file.
    pub handle: Handle,
    /// What happened.
    pub events: EventMask,
    /// How many events the reader has missed directly before this one, because it did not take them in time. Then it
    /// should read again whatever it follows.
    pub missed: u64,
}

impl FileEvent {
    /// The path as text, for messages.
    #[must_use]
    pub fn path_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.path)
    }
}
