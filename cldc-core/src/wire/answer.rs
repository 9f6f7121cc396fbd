//! What a server says to a client: the message bodies from server to client (protocol.md 2.2).

use nom::Parser;

use super::codes::{Code, EventMask, InodeFlags, Op};
use super::limits::{MAX_PATH, MAX_PAYLOAD};
use super::xdr::{self, Full, Malformed, Parsed, Writer};

/// What a file is, apart from its name and contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The inode's number.
    pub inode: u64,
    /// Grows by one with each change of the contents.
    pub version: u64,
    /// When it was created, in seconds since 1970 by the server's clock.
    pub created: u64,
    /// When its contents last changed, in seconds since 1970 by the server's clock.
    pub modified: u64,
    /// Whether it is a directory.
    pub flags: InodeFlags,
}

/// A server's message, without what extended ones say beyond it ([`super::extended`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// The result of a request that returns nothing but a code, or that failed.
    Done {
        /// The operation answered; [`Op::Ack`] when Hail's server refuses an ACK (protocol.md 4.5).
        op: Op,
        /// The request answered.
        xid: u64,
        /// The result.
        code: Code,
    },
    /// An OPEN that succeeded.
    Opened {
        /// The request answered.
        xid: u64,
        /// The handle.
        fh: u64,
    },
    /// A GET or GET_META that succeeded; both are answered by the operation GET.
    Contents {
        /// The request answered.
        xid: u64,
        /// About the file.
        metadata: Metadata,
        /// The file's path.
        path: &'a [u8],
        /// Its contents; empty in the answer to GET_META.
        data: &'a [u8],
    },
    /// Something happened to a handle.
    Event {
        /// The handle.
        fh: u64,
        /// What happened.
        events: EventMask,
    },
    /// Is the client there? An ACK says yes.
    Ping,
    /// Another server is the master.
    NotMaster,
    /// A piece of a client's message arrived.
    AckFrag {
        /// The number of the packet acknowledged.
        number: u64,
    },
}

impl<'a> Answer<'a> {
    /// Takes the body of a message apart. Bytes after a complete body are ignored.
    ///
    /// # Errors
    /// [`Malformed::Op`] for an operation that no server sends; otherwise what is wrong with the body.
    pub fn parse(op: Op, body: &'a [u8]) -> Result<Self, Malformed> {
        xdr::finish(match op {
            Op::Ping => return Ok(Self::Ping),
            Op::NotMaster => return Ok(Self::NotMaster),
            Op::Event => event(body),
            Op::AckFrag => xdr::u64.map(|number| Self::AckFrag { number }).parse(body),
            Op::Open => opened(body),
            Op::Get | Op::GetMeta => contents(op, body),
            Op::Nop
            | Op::NewSess
            | Op::EndSess
            | Op::Put
            | Op::Close
            | Op::Del
            | Op::Lock
            | Op::TryLock
            | Op::Unlock
            | Op::Ack
            | Op::Resume
            | Op::GetSequencer
            | Op::CheckSequencer
            | Op::PutFenced
            | Op::DelFenced => generic(body).map(|(rest, (code, xid))| (rest, Self::Done { op, xid, code })),
            Op::Unknown(_) => return Err(Malformed::Op),
        })
    }

    /// The operation that the packet's header names.
    #[must_use]
    pub const fn op(&self) -> Op {
        match self {
            Self::Done { op, .. } => *op,
            Self::Opened { .. } => Op::Open,
            Self::Contents { .. } => Op::Get,
            Self::Event { .. } => Op::Event,
            Self::Ping => Op::Ping,
            Self::NotMaster => Op::NotMaster,
            Self::AckFrag { .. } => Op::AckFrag,
        }
    }

    /// Writes the body.
    ///
    /// # Errors
    /// [`Full`] if the buffer is too small, or the path or the contents are longer than the protocol carries.
    pub fn emit(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        match *self {
            Self::Done { xid, code, .. } => emit_generic(code, xid, out),
            Self::Opened { xid, fh } => {
                emit_generic(Code::Ok, xid, out)?;
                out.u64(fh)
            }
            Self::Contents { xid, ref metadata, path, data } => {
                if path.len() > MAX_PATH || data.len() > MAX_PAYLOAD {
                    return Err(Full);
                }
                emit_generic(Code::Ok, xid, out)?;
                out.u64(metadata.inode)?;
                out.u64(metadata.version)?;
                out.u64(metadata.created)?;
                out.u64(metadata.modified)?;
                out.u32(metadata.flags.0)?;
                out.opaque(path)?;
                out.opaque(data)
            }
            Self::Event { fh, events } => {
                out.u64(fh)?;
                out.u32(events.0)
            }
            Self::Ping | Self::NotMaster => Ok(()),
            Self::AckFrag { number } => out.u64(number),
        }
    }
}

/// The code and the request that every answer to a request begins with, whatever follows: what a receiver can
/// still tell of an answer that it cannot hold.
///
/// # Errors
/// [`Malformed::Truncated`] if the body is shorter than that.
pub fn outcome(body: &[u8]) -> Result<(Code, u64), Malformed> {
    xdr::finish(generic(body))
}

fn generic(body: &[u8]) -> Parsed<'_, (Code, u64)> {
    (xdr::i32.map(Code::from_wire), xdr::u64).parse(body)
}

fn emit_generic(code: Code, xid: u64, out: &mut Writer<'_>) -> Result<(), Full> {
    out.i32(code.to_wire())?;
    out.u64(xid)
}

fn event(body: &[u8]) -> Parsed<'_, Answer<'_>> {
    (xdr::u64, xdr::u32).map(|(fh, events)| Answer::Event { fh, events: EventMask(events) }).parse(body)
}

fn opened(body: &[u8]) -> Parsed<'_, Answer<'_>> {
    let (rest, (code, xid)) = generic(body)?;
    if code != Code::Ok {
        return Ok((rest, Answer::Done { op: Op::Open, xid, code }));
    }
    xdr::u64.map(|fh| Answer::Opened { xid, fh }).parse(rest)
}

fn contents(op: Op, body: &[u8]) -> Parsed<'_, Answer<'_>> {
    let (rest, (code, xid)) = generic(body)?;
    if code != Code::Ok {
        return Ok((rest, Answer::Done { op, xid, code }));
    }
    let (rest, (inode, version, created, modified, flags)) =
        (xdr::u64, xdr::u64, xdr::u64, xdr::u64, xdr::u32).parse(rest)?;
    let (rest, (path, data)) = (xdr::opaque(MAX_PATH), xdr::opaque(MAX_PAYLOAD)).parse(rest)?;
    let metadata = Metadata { inode, version, created, modified, flags: InodeFlags(flags) };
    Ok((rest, Answer::Contents { xid, metadata, path, data }))
}
