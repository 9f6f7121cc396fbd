//! Commands: everything that changes the replicated state, and how they stand in the log.

use super::limits::Limits;
use super::sequencer::Sequencer;
use super::session::{Terms, UserName};
use super::settings::Setting;
use crate::codec::{CodecError, Reader, Writer};
use crate::versions::{FIRST, Feature, Versions};
use cldc_core::wire::codes::{EventMask, LockFlags, OpenMode};
use std::net::SocketAddr;
use std::sync::Arc;

/// Longest entry of the log, in bytes.
pub const ENTRY_MAX: usize = 1 << 20;

/// A change of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// When the master proposed it, in seconds since 1970.
    pub at: u64,
    /// The epoch of that master.
    pub epoch: u64,
    /// What is to change.
    pub action: Action,
}

/// What is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A master begins: its first command, also after a restart of a cell of one. Raises the epoch to the command's.
    BeginEpoch,
    /// Sets the cell's limits.
    SetLimits(Limits),
    /// Changes a user or a limit.
    Set(Setting),
    /// A client opens a session (NEW_SESS).
    OpenSession {
        /// The session's id, chosen by the client.
        sid: u64,
        /// Whose it is.
        user: UserName,
        /// From where.
        peer: SocketAddr,
        /// The request's id.
        xid: u64,
        /// Its place in the order of the session's requests (see [`Action::Request`]): all others come after it.
        order: u64,
        /// What an extended session agreed on; `None` for a plain one, whose lease is always 60 s.
        terms: Option<Terms>,
    },
    /// A client changes something.
    Request {
        /// Its session.
        sid: u64,
        /// The request's id, different from those of other requests without an acknowledged reply.
        xid: u64,
        /// What the requests of a session are ordered by, and proposed in the order of. It only grows, modulo 2^64.
        /// Of a plain session, the packet number; of an extended one, the position in the client's count of its
        /// requests, which stays the same when the session is resumed (protocol.md 7.2).
        order: u64,
        /// What the client has acknowledged since the session's last command.
        settled: Settled,
        /// The change.
        write: Write,
    },
    /// A session's lease and grace have run out. Ignored if the command's epoch is older than the database's.
    ExpireSession {
        /// The session.
        sid: u64,
    },
    /// Sets or raises the cell's version: every member can apply it. Never lowers it.
    RaiseVersion {
        /// The new version.
        to: u32,
    },
    /// The replicas tell each other the [`Digest`](super::Digest) that they have behind the entry of this. Changes nothing.
    CompareDigests,
}

impl Action {
    /// The version of the cell from which on this may be proposed.
    #[must_use]
    pub const fn since(&self) -> u32 {
        match self {
            Self::BeginEpoch
            | Self::SetLimits(_)
            | Self::Set(_)
            | Self::OpenSession { .. }
            | Self::Request { .. }
            | Self::ExpireSession { .. }
            | Self::RaiseVersion { .. } => FIRST,
            Self::CompareDigests => Feature::CompareDigests.since(),
        }
    }
}

/// A request that changes state. (TRYLOCK is LOCK that does not wait.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Opens a file or directory, or creates it.
    Open {
        /// What for.
        mode: OpenMode,
        /// What the handle wants to hear of.
        events: EventMask,
        /// Where, as the client wrote it.
        path: Arc<[u8]>,
    },
    /// Replaces the contents of a file.
    Put {
        /// The file.
        fh: u64,
        /// The new contents.
        data: Arc<[u8]>,
        /// Nothing is written unless this stands when the request takes effect.
        fence: Option<Sequencer>,
    },
    /// Closes a handle.
    Close {
        /// The handle.
        fh: u64,
    },
    /// Deletes a file or an empty directory.
    Del {
        /// Where, as the client wrote it.
        path: Arc<[u8]>,
        /// Nothing is deleted unless this stands when the request takes effect.
        fence: Option<Sequencer>,
    },
    /// Takes a file's lock.
    Lock {
        /// The file.
        fh: u64,
        /// Shared or exclusive.
        flags: LockFlags,
        /// Whether to queue if it is not free.
        wait: bool,
    },
    /// Gives the lock back, or stops waiting for it.
    Unlock {
        /// The file.
        fh: u64,
    },
    /// Ends the session.
    EndSession,
}

/// What a client has acknowledged since its session's last command. It rides in the next one, and never costs a
/// command of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Requests (their ids) whose replies it has.
    pub replies: Vec<u64>,
    /// Handles, each with the [`serial`](super::Notice::serial) of the last event that it has.
    pub events: Vec<(u64, u64)>,
}

/// One entry of the log: the cell's version when it was proposed (32 bits), and commands to be applied in this order.
///
/// Every batch that can be built can be read by every replica: the only limit is that of the whole. What a request may
/// contain is judged when it is applied.
#[derive(Clone, Debug)]
pub struct Batch {
    out: Writer,
    version: u32,
    len: usize,
}

impl Batch {
    /// A batch without commands, for a cell of this version.
    #[must_use]
    pub fn new(version: u32) -> Self {
        let mut out = Writer::new();
        out.u32(version);
        Self { out, version, len: 0 }
    }

    /// Appends a command. `false`, and nothing changed, if the entry would be longer than [`ENTRY_MAX`], or if the cell's
    /// version has no such command yet. A command that does not fit in an empty batch fits in none: that takes more than
    /// 131072 bytes of data and 4096 events acknowledged at once.
    #[must_use]
    pub fn push(&mut self, command: &Command) -> bool {
        if command.action.since() > self.version {
            return false;
        }
        let before = self.out.len();
        command.encode(&mut self.out);
        if self.out.len() > ENTRY_MAX {
            self.out.truncate(before);
            return false;
        }
        self.len = self.len.saturating_add(1);
        true
    }

    /// The number of commands.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no commands.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry.
    #[must_use]
    pub fn into_entry(self) -> Vec<u8> {
        self.out.into_vec()
    }

    /// The commands of an entry, by a program that can apply these versions of the cell.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are no entry, or one of another version.
    pub fn decode(entry: &[u8], can: Versions) -> Result<Vec<Command>, CodecError> {
        if entry.len() > ENTRY_MAX {
            return Err(CodecError::TooLong { length: entry.len(), limit: ENTRY_MAX });
        }
        let mut input = Reader::new(entry);
        let version = input.u32()?;
        can.check("a log entry", version).map_err(CodecError::CellVersion)?;
        let mut commands = Vec::new();
        while input.left() > 0 {
            let command = Command::decode(&mut input)?;
            if command.action.since() > version {
                return Err(CodecError::Invalid {
                    what: "command of an entry's version",
                    value: version.into(),
                });
            }
            commands.push(command);
        }
        Ok(commands)
    }
}

impl Command {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.at);
        out.u64(self.epoch);
        match &self.action {
            Action::BeginEpoch => out.u8(0),
            Action::SetLimits(limits) => {
                out.u8(1);
                limits.encode(out);
            }
            Action::OpenSession { sid, user, peer, xid, order, terms } => {
                out.u8(2);
                out.u64(*sid);
                encode_user(user, out);
                out.socket_addr(*peer);
                out.u64(*xid);
                out.u64(*order);
                Terms::encode(*terms, out);
            }
            Action::Request { sid, xid, order, settled, write } => {
                out.u8(3);
                out.u64(*sid);
                out.u64(*xid);
                out.u64(*order);
                settled.encode(out);
                write.encode(out);
            }
            Action::ExpireSession { sid } => {
                out.u8(4);
                out.u64(*sid);
            }
            Action::RaiseVersion { to } => {
                out.u8(5);
                out.u32(*to);
            }
            Action::CompareDigests => out.u8(6),
            Action::Set(setting) => {
                out.u8(7);
                setting.encode(out);
            }
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (at, epoch) = (input.u64()?, input.u64()?);
        let action = match input.u8()? {
            0 => Action::BeginEpoch,
            1 => Action::SetLimits(Limits::decode(input)?),
            2 => Action::OpenSession {
                sid: input.u64()?,
                user: decode_user(input)?,
                peer: input.socket_addr()?,
                xid: input.u64()?,
                order: input.u64()?,
                terms: Terms::decode(input)?,
            },
            3 => Action::Request {
                sid: input.u64()?,
                xid: input.u64()?,
                order: input.u64()?,
                settled: Settled::decode(input)?,
                write: Write::decode(input)?,
            },
            4 => Action::ExpireSession { sid: input.u64()? },
            5 => Action::RaiseVersion { to: input.u32()? },
            6 => Action::CompareDigests,
            7 => Action::Set(Setting::decode(input)?),
            other => return Err(CodecError::Invalid { what: "kind of command", value: other.into() }),
        };
        Ok(Self { at, epoch, action })
    }
}

impl Write {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Open { mode, events, path } => {
                out.u8(0);
                out.u32(mode.0);
                out.u32(events.0);
                out.bytes(path);
            }
            Self::Put { fh, data, fence } => {
                out.u8(1);
                out.u64(*fh);
                out.bytes(data);
                Sequencer::encode_fence(fence.as_ref(), out);
            }
            Self::Close { fh } => {
                out.u8(2);
                out.u64(*fh);
            }
            Self::Del { path, fence } => {
                out.u8(3);
                out.bytes(path);
                Sequencer::encode_fence(fence.as_ref(), out);
            }
            Self::Lock { fh, flags, wait } => {
                out.u8(4);
                out.u64(*fh);
                out.u32(flags.0);
                out.bool(*wait);
            }
            Self::Unlock { fh } => {
                out.u8(5);
                out.u64(*fh);
            }
            Self::EndSession => out.u8(6),
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match input.u8()? {
            0 => Self::Open {
                mode: OpenMode(input.u32()?),
                events: EventMask(input.u32()?),
                path: input.bytes(ENTRY_MAX)?.into(),
            },
            1 => Self::Put {
                fh: input.u64()?,
                data: input.bytes(ENTRY_MAX)?.into(),
                fence: Sequencer::decode_fence(input)?,
            },
            2 => Self::Close { fh: input.u64()? },
            3 => Self::Del { path: input.bytes(ENTRY_MAX)?.into(), fence: Sequencer::decode_fence(input)? },
            4 => Self::Lock { fh: input.u64()?, flags: LockFlags(input.u32()?), wait: input.bool()? },
            5 => Self::Unlock { fh: input.u64()? },
            6 => Self::EndSession,
            other => return Err(CodecError::Invalid { what: "kind of request", value: other.into() }),
        })
    }
}

impl Settled {
    fn encode(&self, out: &mut Writer) {
        out.count(self.replies.len());
        for &xid in &self.replies {
            out.u64(xid);
        }
        out.count(self.events.len());
        for &(fh, serial) in &self.events {
            out.u64(fh);
            out.u64(serial);
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        let replies = (0..input.count(ENTRY_MAX, 8)?).map(|_| input.u64()).collect::<Result<_, _>>()?;
        let events = (0..input.count(ENTRY_MAX, 16)?).map(|_| Ok((input.u64()?, input.u64()?)));
        Ok(Self { replies, events: events.collect::<Result<_, CodecError>>()? })
    }
}

pub(super) fn encode_user(user: &UserName, out: &mut Writer) {
    out.bytes(user.as_bytes());
}

pub(super) fn decode_user(input: &mut Reader<'_>) -> Result<UserName, CodecError> {
    UserName::new(input.bytes(ENTRY_MAX)?).ok_or(CodecError::Invalid { what: "user name", value: 0 })
}
