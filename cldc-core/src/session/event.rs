//! What a session tells its application, and what it answers to calls.

use crate::lease::LeaseState;
use crate::wire::extended::Sequencer;
use crate::wire::{Code, EventMask, Metadata};

/// Names a call until its [`Event::Done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

impl RequestId {
    /// A number that no other request of the session has.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// An open file or directory. Its number is the server's; no other handle of the session ever has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// What a session tells its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The session is open: calls may be made.
    Connected,
    /// A call is answered. Each call is, once, unless it has been abandoned.
    Done {
        /// The call.
        request: RequestId,
        /// What came of it: the outcome, or the server's reason for refusing.
        /// [`Code::Timeout`] says that the session ended before the answer came; whether the request has been
        /// executed is not known then.
        result: Result<Outcome<'a>, Code>,
    },
    /// Something happened to a handle.
    Handle {
        /// The handle.
        handle: Handle,
        /// What happened.
        events: EventMask,
        /// The version of the file then, if the session is extended. Of several changes that are told at once, the
        /// last one's.
        version: Option<u64>,
        /// With [`EventMask::LOCKED`] in a session that has fencing: the lock that is granted.
        sequencer: Option<Sequencer<'a>>,
    },
    /// The session goes on at a new master, or at the old one after it was started again. What stands of handles and
    /// locks is known; what is cached should be read again. Told once for each epoch.
    MasterFailover {
        /// The epoch of the master.
        epoch: u64,
    },
    /// The lease is trusted more, or less, than before.
    Lease(LeaseState),
    /// The session is over; nothing follows.
    Ended(End),
}

/// What came of a call that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It has been done.
    Done,
    /// The file is open.
    Opened(Handle),
    /// The lock is held.
    Locked {
        /// Proof of it for others, in a session that has fencing.
        sequencer: Option<Sequencer<'a>>,
    },
    /// The proof of a lock that is held.
    Sequencer(Sequencer<'a>),
    /// The lock is held by others: the call waits in its queue, and [`EventMask::LOCKED`] tells when it is granted.
    LockPending,
    /// The file, or of `get_meta` all but its contents.
    Contents {
        /// About the file.
        metadata: Metadata,
        /// Its path.
        path: &'a [u8],
        /// Its contents; of a directory see [`Names`](crate::wire::dirent::Names).
        data: &'a [u8],
    },
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The application ended it.
    Closed,
    /// The server gave it up, or has not been heard of for the lease and its grace period.
    Expired,
    /// The server did not open it.
    Refused(Code),
}

/// Why a call was not taken. Nothing has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The session is not open yet.
    NotConnected,
    /// The session is over, or being ended.
    Ended,
    /// As many requests as the session holds are in flight, or their bodies fill its storage: take events first.
    Busy,
    /// As many handles as the session holds are open, or being opened.
    TooManyHandles,
    /// No such handle is open.
    UnknownHandle,
    /// The server does not have it: sequencers are a matter of extended sessions.
    Unsupported,
    /// The path does not begin with a slash, or is longer than 256 bytes.
    Path,
    /// The contents are larger than the protocol, the session's storage, or the server takes.
    TooLarge,
}

impl core::fmt::Display for CallError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotConnected => "the session is not open yet",
            Self::Ended => "the session is over",
            Self::Busy => "too many requests in flight",
            Self::TooManyHandles => "too many open handles",
            Self::UnknownHandle => "no such handle is open",
            Self::Unsupported => "the server has no sequencers",
            Self::Path => "a path must begin with a slash and have at most 256 bytes",
            Self::TooLarge => "the contents are larger than a session can send",
        })
    }
}

impl core::error::Error for CallError {}

/// Why a datagram was not taken in. None of these changes anything: most are noise, or packets that come twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejected {
    /// It is not from the session's server.
    Address,
    /// It is not a packet of the protocol, or one that no server sends.
    Malformed,
    /// It belongs to another session.
    Session,
    /// It is not signed with the session's key.
    Forged,
    /// Its number is too far from the next one, or there is no room for it now; the server will send it again.
    Number,
    /// It belongs to a stream of the session that is over, or acknowledges what was never sent.
    Stream,
    /// The session is over.
    Ended,
}
