//! What an operator asks a running server, by the socket in its data directory.
//!
//! A connection carries one request and one answer after the other, each a line of JSON. The answer
//! [`Answer::Snapshot`] is followed by the snapshot's file in parts: each its length (32 bits, big-endian) and that many
//! bytes; a part of no bytes says that it is whole. Only the server's own user and root are let in.

pub(crate) mod client;
mod report;
mod warnings;

use serde::{Deserialize, Serialize};

pub(crate) use report::{Disk, Log, Member, Report, Role, Totals, name_of};

/// The socket's name in the data directory.
pub(crate) const SOCKET: &str = "admin.sock";

/// The longest request, in bytes.
pub(crate) const MAX_REQUEST: usize = 4096;

/// The longest answer, in bytes: a cell has 32 members at most.
pub(crate) const MAX_ANSWER: u64 = 64 << 10;

/// The longest part of a snapshot, in bytes.
pub(crate) const MAX_PART: usize = crate::storage::snapshot::MAX_CHUNK;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask", deny_unknown_fields)]
pub(crate) enum Request {
    /// How things are.
    Status,
    /// Add the server of this join token to the cell.
    AddMember {
        /// What `cld cell prepare` printed.
        token: String,
    },
    /// Take a server out of the cell.
    RemoveMember {
        /// Its id or one of its addresses.
        member: String,
    },
    /// Make another server the master.
    Transfer {
        /// Its id or one of its addresses.
        member: String,
    },
    /// A snapshot of what this server has.
    Snapshot,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub(crate) enum Answer {
    /// How things are.
    Status(Box<Report>),
    /// It is done.
    Done {
        /// What, in words.
        what: String,
    },
    /// The snapshot follows.
    Snapshot,
    /// It is not done.
    Refused {
        /// Why, and what would help.
        why: String,
        /// Whether the same may be done in a moment.
        again: bool,
    },
}
