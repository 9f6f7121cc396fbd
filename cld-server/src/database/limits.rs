//! How much the cell takes on, and how much it has. Limits are replicated, so that every replica refuses alike.

use crate::codec::{CodecError, Reader, Writer};
use cldc_core::wire::codes::Code;
use cldc_core::wire::limits::{MAX_PATH, MAX_PAYLOAD};
use std::ops::RangeInclusive;

/// Most replies that a session's table holds. The endpoint holds back writes of a session before it is full.
pub const REPLIES_MAX: usize = 64;

/// Most handles of a session that any configuration can allow: with it, a session fits in one record of a snapshot.
pub const HANDLES_MAX: u64 = 2048;

/// How long, in seconds, a plain session may be allowed to be silent.
pub const SESSION_TIMEOUTS: RangeInclusive<u64> = 2..=600;

/// What a file or directory costs beside its path and contents, as [`Limits::total_data`] counts, in bytes.
pub const INODE_COST: u64 = 128;

/// The limits of a cell. A limit that is lowered below what is there refuses what is new, and takes nothing away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions in the cell.
    pub sessions: u64,
    /// Sessions of one user.
    pub sessions_per_user: u64,
    /// Handles of one session, at most [`HANDLES_MAX`].
    pub handles_per_session: u64,
    /// Handles of one user.
    pub handles_per_user: u64,
    /// Bytes in the path of a new file, at most [`MAX_PATH`].
    pub path_length: u64,
    /// Bytes in a file, at most [`MAX_PAYLOAD`].
    pub payload: u64,
    /// Bytes in all files and their paths together, and [`INODE_COST`] for each.
    pub total_data: u64,
    /// Seconds that a plain session may be silent, within [`SESSION_TIMEOUTS`].
    pub session_timeout: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 131_072,
            sessions_per_user: 131_072,
            handles_per_session: 1024,
            handles_per_user: 1_048_576,
            path_length: MAX_PATH as u64,
            payload: MAX_PAYLOAD as u64,
            total_data: 1 << 30,
            session_timeout: 60,
        }
    }
}

impl Limits {
    /// These limits, lowered or raised to what is possible: by the protocol, and by the snapshot's format.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            handles_per_session: self.handles_per_session.min(HANDLES_MAX),
            path_length: self.path_length.min(MAX_PATH as u64),
            payload: self.payload.min(MAX_PAYLOAD as u64),
            session_timeout: self.session_timeout.clamp(*SESSION_TIMEOUTS.start(), *SESSION_TIMEOUTS.end()),
            ..self
        }
    }

    /// The value of a limit; `None` for [`LimitKind::Replies`], which is always [`REPLIES_MAX`].
    #[must_use]
    pub const fn get(&self, limit: LimitKind) -> Option<u64> {
        Some(match limit {
            LimitKind::Sessions => self.sessions,
            LimitKind::SessionsPerUser => self.sessions_per_user,
            LimitKind::HandlesPerSession => self.handles_per_session,
            LimitKind::HandlesPerUser => self.handles_per_user,
            LimitKind::PathLength => self.path_length,
            LimitKind::Payload => self.payload,
            LimitKind::TotalData => self.total_data,
            LimitKind::SessionTimeout => self.session_timeout,
            LimitKind::Replies => return None,
        })
    }

    /// The same but for one limit.
    #[must_use]
    pub const fn with(mut self, limit: LimitKind, value: u64) -> Self {
        match limit {
            LimitKind::Sessions => self.sessions = value,
            LimitKind::SessionsPerUser => self.sessions_per_user = value,
            LimitKind::HandlesPerSession => self.handles_per_session = value,
            LimitKind::HandlesPerUser => self.handles_per_user = value,
            LimitKind::PathLength => self.path_length = value,
            LimitKind::Payload => self.payload = value,
            LimitKind::TotalData => self.total_data = value,
            LimitKind::SessionTimeout => self.session_timeout = value,
            LimitKind::Replies => {}
        }
        self
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        for limit in LimitKind::SETTABLE {
            out.u64(self.get(limit).unwrap_or_default());
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        LimitKind::SETTABLE
            .into_iter()
            .try_fold(Self::default(), |limits, limit| Ok(limits.with(limit, input.u64()?)))
    }
}

/// Which limit: one to be set, or that a command ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitKind {
    /// [`Limits::sessions`].
    Sessions,
    /// [`Limits::sessions_per_user`].
    SessionsPerUser,
    /// [`Limits::handles_per_session`].
    HandlesPerSession,
    /// [`Limits::handles_per_user`].
    HandlesPerUser,
    /// [`Limits::path_length`].
    PathLength,
    /// [`Limits::payload`].
    Payload,
    /// [`Limits::total_data`].
    TotalData,
    /// [`Limits::session_timeout`]. No command runs into it.
    SessionTimeout,
    /// [`REPLIES_MAX`].
    Replies,
}

impl LimitKind {
    /// Those of [`Limits`], in the order in which they are encoded.
    pub const SETTABLE: [Self; 8] = [
        Self::Sessions,
        Self::SessionsPerUser,
        Self::HandlesPerSession,
        Self::HandlesPerUser,
        Self::PathLength,
        Self::Payload,
        Self::TotalData,
        Self::SessionTimeout,
    ];

    /// How it stands in a command.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Sessions => 0,
            Self::SessionsPerUser => 1,
            Self::HandlesPerSession => 2,
            Self::HandlesPerUser => 3,
            Self::PathLength => 4,
            Self::Payload => 5,
            Self::TotalData => 6,
            Self::SessionTimeout => 7,
            Self::Replies => 8,
        }
    }

    /// The limit of this [`number`](Self::number), if it may be set.
    pub(super) fn of_number(number: u8) -> Option<Self> {
        Self::SETTABLE.get(usize::from(number)).copied()
    }

    /// How the client is told.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::PathLength => Code::NameInval,
            Self::Payload => Code::TooLarge,
            _ => Code::Limit,
        }
    }

    /// Its name in the log and among the counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::SessionsPerUser => "sessions_per_user",
            Self::HandlesPerSession => "handles_per_session",
            Self::HandlesPerUser => "handles_per_user",
            Self::PathLength => "path_length",
            Self::Payload => "payload",
            Self::TotalData => "total_data",
            Self::SessionTimeout => "session_timeout",
            Self::Replies => "replies",
        }
    }

    /// Its option's name, in the configuration and for `cld limits`.
    #[must_use]
    pub fn option(self) -> String {
        let name = self.name().replace('_', "-");
        if self == Self::SessionTimeout { name } else { format!("max-{name}") }
    }
}

/// What one user has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sessions.
    pub sessions: u64,
    /// Handles of these sessions, those of deleted files included.
    pub handles: u64,
}

/// What the cell has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sessions.
    pub sessions: u64,
    /// Handles on files that exist.
    pub handles: u64,
    /// Files and directories, the root included.
    pub inodes: u64,
    /// Bytes as [`Limits::total_data`] counts.
    pub data: u64,
    /// Locks held and waited for.
    pub claims: u64,
}
