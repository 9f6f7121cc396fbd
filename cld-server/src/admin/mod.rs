//! What an operator asks a running server, by the socket in its data directory.
//!
//! A connection carries one request and one answer after the other, each a line of JSON. The answer
//! [`Answer::Snapshot`] is followed by the snapshot's file in parts: each its length (32 bits, big-endian) and that many
//! bytes; a part of no bytes says that it is whole. Only the server's own user and root are let in.

pub(crate) mod client;
mod report;
mod warnings;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::keys::Secret;
pub(crate) use report::{Disk, Log, Member, Report, Role, Totals, name_of};

/// The socket's name in the data directory.
pub(crate) const SOCKET: &str = "admin.sock";

/// The longest request, in bytes.
pub(crate) const MAX_REQUEST: usize = 4096;

/// The longest answer, in bytes: a cell has 32 members at most, and the names of users come in parts.
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
    /// The users, in the order of their names.
    Users {
        /// Those after this one; from the first on if it is none.
        after: Option<String>,
    },
    /// The limits of the cell.
    Limits,
    /// Change a user or a limit.
    Set(Change),
}

/// A change of the cell's users or limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "set", deny_unknown_fields)]
pub(crate) enum Change {
    /// Let a user in.
    AddUser {
        /// The user.
        name: String,
        /// The user's secret.
        secret: Secret,
    },
    /// Let a user in no more.
    RemoveUser {
        /// The user.
        name: String,
    },
    /// Let in those who are not listed, too, or no more.
    UserAsKey {
        /// Whether they are.
        on: bool,
    },
    /// Set a limit.
    Limit {
        /// Its option.
        name: String,
        /// Its value.
        value: u64,
    },
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
    /// Users.
    Users {
        /// The names.
        names: Vec<String>,
        /// Whether there may be more after the last of them.
        more: bool,
        /// Whether those who are not listed are let in, too.
        user_as_key: bool,
    },
    /// The limits, by their options.
    Limits {
        /// The values.
        limits: BTreeMap<String, u64>,
    },
    /// It is not done.
    Refused {
        /// Why, and what would help.
        why: String,
        /// Whether the same may be done in a moment.
        again: bool,
    },
}
