//! How much the cell takes on, and how much it has. Limits are replicated, so that every replica refuses alike.

use crate::codec::{CodecError, Reader, Writer};
use cldc_core::wire::codes::Code;
use cldc_core::wire::limits::{MAX_PATH, MAX_PAYLOAD};

/// Most replies that a session's table holds. The endpoint holds back writes of a session before it is full.
pub const REPLIES_MAX: usize = 64;

/// Most handles of a session that any configuration can allow: with it, a session fits in one record of a snapshot.
pub const HANDLES_MAX: u64 = 2048;

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
        }
    }
}

impl Limits {
    /// These limits, lowered to what the protocol and the snapshot's format can carry.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            handles_per_session: self.handles_per_session.min(HANDLES_MAX),
            path_length: self.path_length.min(MAX_PATH as u64),
            payload: self.payload.min(MAX_PAYLOAD as u64),
            ..self
        }
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        let Self {
            sessions,
            sessions_per_user,
            handles_per_session,
            handles_per_user,
            path_length,
            payload,
            total_data,
        } = *self;
        for limit in [
            sessions,
            sessions_per_user,
            handles_per_session,
            handles_per_user,
            path_length,
            payload,
            total_data,
        ] {
            out.u64(limit);
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            sessions: input.u64()?,
            sessions_per_user: input.u64()?,
            handles_per_session: input.u64()?,
            handles_per_user: input.u64()?,
            path_length: input.u64()?,
            payload: input.u64()?,
            total_data: input.u64()?,
        })
    }
}

/// Which limit a command ran into.
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
    /// [`REPLIES_MAX`].
    Replies,
}

impl LimitKind {
    /// How the client is told.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::PathLength => Code::NameInval,
            Self::Payload => Code::TooLarge,
            _ => Code::Limit,
        }
    }

    /// The limit's name, as in the configuration.
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
            Self::Replies => "replies",
        }
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
