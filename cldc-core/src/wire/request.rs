//! What a client asks of a server: the message bodies from client to server (protocol.md 2.1).

use nom::Parser;

use super::codes::{EventMask, LockFlags, Op, OpenMode};
use super::extended::{Resume, Sequencer};
use super::limits::{MAX_PATH, MAX_PAYLOAD};
use super::xdr::{self, Full, Malformed, Parsed, Writer};

/// A client's message. An ACK is not one: it is a packet without a body, whose number says what it acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request<'a> {
    /// Does nothing, and renews the lease.
    Nop,
    /// Begins a session. Hail sends and looks at no body; what follows here is where extensions are negotiated
    /// (extensions.md, Rules).
    NewSess {
        /// The body as it came.
        extension: &'a [u8],
    },
    /// Opens, or creates, a file or directory.
    Open {
        /// What the handle shall be good for.
        mode: OpenMode,
        /// What the handle shall be told of.
        events: EventMask,
        /// The file.
        path: &'a [u8],
    },
    /// Reads the metadata of a file.
    GetMeta {
        /// The handle.
        fh: u64,
    },
    /// Reads a file.
    Get {
        /// The handle.
        fh: u64,
    },
    /// Replaces the contents of a file.
    Put {
        /// The handle.
        fh: u64,
        /// The new contents, all of them.
        data: &'a [u8],
    },
    /// Closes a handle.
    Close {
        /// The handle.
        fh: u64,
    },
    /// Deletes a file or an empty directory.
    Del {
        /// The file.
        path: &'a [u8],
    },
    /// Takes a lock.
    Lock {
        /// The handle.
        fh: u64,
        /// Shared or exclusive.
        flags: LockFlags,
        /// Whether to queue for it (LOCK), or to fail at once when it is held (TRYLOCK).
        wait: bool,
    },
    /// Releases a lock, or leaves its queue.
    Unlock {
        /// The handle.
        fh: u64,
    },
    /// Ends the session.
    EndSess,
    /// Goes on with a session (docs/protocol.md 7.4).
    Resume(Resume),
    /// Asks for the sequencer of the lock that a handle holds.
    GetSequencer {
        /// The handle.
        fh: u64,
    },
    /// Asks whether a sequencer stands.
    CheckSequencer {
        /// The sequencer.
        sequencer: Sequencer<'a>,
    },
    /// Replaces the contents of a file, unless the sequencer is stale.
    PutFenced {
        /// The sequencer.
        sequencer: Sequencer<'a>,
        /// The handle.
        fh: u64,
        /// The new contents, all of them.
        data: &'a [u8],
    },
    /// Deletes a file or an empty directory, unless the sequencer is stale.
    DelFenced {
        /// The sequencer.
        sequencer: Sequencer<'a>,
        /// The file.
        path: &'a [u8],
    },
}

impl<'a> Request<'a> {
    /// Takes the body of a message apart. Bytes after a complete body are ignored.
    ///
    /// # Errors
    /// [`Malformed::Op`] for an operation that no client sends as a message; otherwise what is wrong with the body.
    pub fn parse(op: Op, body: &'a [u8]) -> Result<Self, Malformed> {
        xdr::finish(match op {
            Op::Nop => return Ok(Self::Nop),
            Op::NewSess => return Ok(Self::NewSess { extension: body }),
            Op::EndSess => return Ok(Self::EndSess),
            Op::Open => open(body),
            Op::GetMeta => xdr::u64.map(|fh| Self::GetMeta { fh }).parse(body),
            Op::Get => xdr::u64.map(|fh| Self::Get { fh }).parse(body),
            Op::Put => {
                (xdr::u64, xdr::opaque(MAX_PAYLOAD)).map(|(fh, data)| Self::Put { fh, data }).parse(body)
            }
            Op::Close => xdr::u64.map(|fh| Self::Close { fh }).parse(body),
            Op::Del => xdr::opaque(MAX_PATH).map(|path| Self::Del { path }).parse(body),
            Op::Lock => lock(true, body),
            Op::TryLock => lock(false, body),
            Op::Unlock => xdr::u64.map(|fh| Self::Unlock { fh }).parse(body),
            Op::Resume => Resume::parse.map(Self::Resume).parse(body),
            Op::GetSequencer => xdr::u64.map(|fh| Self::GetSequencer { fh }).parse(body),
            Op::CheckSequencer => {
                Sequencer::parse.map(|sequencer| Self::CheckSequencer { sequencer }).parse(body)
            }
            Op::PutFenced => (Sequencer::parse, xdr::u64, xdr::opaque(MAX_PAYLOAD))
                .map(|(sequencer, fh, data)| Self::PutFenced { sequencer, fh, data })
                .parse(body),
            Op::DelFenced => (Sequencer::parse, xdr::opaque(MAX_PATH))
                .map(|(sequencer, path)| Self::DelFenced { sequencer, path })
                .parse(body),
            _ => return Err(Malformed::Op),
        })
    }

    /// The operation that the packet's header names.
    #[must_use]
    pub const fn op(&self) -> Op {
        match self {
            Self::Nop => Op::Nop,
            Self::NewSess { .. } => Op::NewSess,
            Self::Open { .. } => Op::Open,
            Self::GetMeta { .. } => Op::GetMeta,
            Self::Get { .. } => Op::Get,
            Self::Put { .. } => Op::Put,
            Self::Close { .. } => Op::Close,
            Self::Del { .. } => Op::Del,
            Self::Lock { wait: true, .. } => Op::Lock,
            Self::Lock { wait: false, .. } => Op::TryLock,
            Self::Unlock { .. } => Op::Unlock,
            Self::EndSess => Op::EndSess,
            Self::Resume(_) => Op::Resume,
            Self::GetSequencer { .. } => Op::GetSequencer,
            Self::CheckSequencer { .. } => Op::CheckSequencer,
            Self::PutFenced { .. } => Op::PutFenced,
            Self::DelFenced { .. } => Op::DelFenced,
        }
    }

    /// Writes the body.
    ///
    /// # Errors
    /// [`Full`] if the buffer is too small, or the path or the contents are longer than the protocol carries.
    pub fn emit(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        match *self {
            Self::Nop | Self::EndSess => Ok(()),
            Self::NewSess { extension } => out.raw(extension),
            Self::Open { mode, events, path } => {
                out.u32(mode.0)?;
                out.u32(events.0)?;
                emit_bounded(path, MAX_PATH, out)
            }
            Self::GetMeta { fh }
            | Self::Get { fh }
            | Self::Close { fh }
            | Self::Unlock { fh }
            | Self::GetSequencer { fh } => out.u64(fh),
            Self::Resume(ref resume) => resume.emit(out),
            Self::CheckSequencer { ref sequencer } => sequencer.emit(out),
            Self::PutFenced { ref sequencer, fh, data } => {
                sequencer.emit(out)?;
                out.u64(fh)?;
                emit_bounded(data, MAX_PAYLOAD, out)
            }
            Self::DelFenced { ref sequencer, path } => {
                sequencer.emit(out)?;
                emit_bounded(path, MAX_PATH, out)
            }
            Self::Put { fh, data } => {
                out.u64(fh)?;
                emit_bounded(data, MAX_PAYLOAD, out)
            }
            Self::Del { path } => emit_bounded(path, MAX_PATH, out),
            Self::Lock { fh, flags, .. } => {
                out.u64(fh)?;
                out.u32(flags.0)
            }
        }
    }
}

fn open(body: &[u8]) -> Parsed<'_, Request<'_>> {
    (xdr::u32, xdr::u32, xdr::opaque(MAX_PATH))
        .map(|(mode, events, path)| Request::Open { mode: OpenMode(mode), events: EventMask(events), path })
        .parse(body)
}

fn lock(wait: bool, body: &[u8]) -> Parsed<'_, Request<'_>> {
    (xdr::u64, xdr::u32).map(|(fh, flags)| Request::Lock { fh, flags: LockFlags(flags), wait }).parse(body)
}

fn emit_bounded(bytes: &[u8], max: usize, out: &mut Writer<'_>) -> Result<(), Full> {
    if bytes.len() > max {
        return Err(Full);
    }
    out.opaque(bytes)
}
