//! What a command did, for the endpoint to tell the clients once the command is committed.

use super::limits::LimitKind;
use super::settings::SettingError;
use crate::codec::{CodecError, Reader, Writer};
use cldc_core::wire::codes::{Code, EventMask};

/// What a command did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The answer to the client, if the command is to have one. A request that was executed and whose answer the
    /// client has acknowledged gets none.
    pub reply: Option<Reply>,
    /// Events, in the order in which each session is to get them.
    pub events: Vec<Notice>,
    /// The session that ended.
    pub ended: Option<u64>,
    /// The limit that refused the command.
    pub refused: Option<LimitKind>,
    /// Whether a setting was made, or why not.
    pub set: Option<Result<(), SettingError>>,
}

impl Effects {
    /// Notes that a limit refused the command; the code that says so.
    pub(super) const fn refuse(&mut self, limit: LimitKind) -> Code {
        self.refused = Some(limit);
        limit.code()
    }
}

/// The answer to a request that changes state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A result code only.
    Code(Code),
    /// OPEN succeeded with this handle.
    Opened(u64),
    /// LOCK or TRYLOCK got the lock at once. With the path it makes the
    /// [`Sequencer`](super::Sequencer): [`Database::sequencer_of`](super::Database::sequencer_of).
    Locked {
        /// The file.
        inode: u64,
        /// The generation of its lock.
        generation: u64,
        /// Whether others may hold it at the same time.
        shared: bool,
    },
}

impl From<Result<Self, Code>> for Reply {
    fn from(result: Result<Self, Code>) -> Self {
        result.unwrap_or_else(Self::Code)
    }
}

impl Reply {
    /// Success, and nothing to say.
    pub const OK: Self = Self::Code(Code::Ok);

    pub(super) fn encode(self, out: &mut Writer) {
        match self {
            Self::Code(code) => {
                out.u8(0);
                out.u32(code.to_wire().cast_unsigned());
            }
            Self::Opened(fh) => {
                out.u8(1);
                out.u64(fh);
            }
            Self::Locked { inode, generation, shared } => {
                out.u8(2);
                out.u64(inode);
                out.u64(generation);
                out.bool(shared);
            }
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        match input.u8()? {
            0 => Ok(Self::Code(Code::from_wire(input.u32()?.cast_signed()))),
            1 => Ok(Self::Opened(input.u64()?)),
            2 => Ok(Self::Locked { inode: input.u64()?, generation: input.u64()?, shared: input.bool()? }),
            other => Err(CodecError::Invalid { what: "kind of reply", value: other.into() }),
        }
    }
}

/// An event for one handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The session.
    pub sid: u64,
    /// Its handle.
    pub fh: u64,
    /// What happened: one bit.
    pub events: EventMask,
    /// The version of the file when it happened.
    pub version: u64,
    /// The number of this event among those of the handle, from 1: it rises by one, also over events that are not sent
    /// again because a later one of their kind superseded them. The client's acknowledgement comes back as
    /// [`Settled::events`](super::Settled::events) with it.
    pub serial: u64,
}
