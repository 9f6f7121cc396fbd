//! Message bodies in both directions (protocol.md 2).

use super::codes::{code, op};
use super::packet::Malformed;
use super::xdr::{Reader, put_opaque};

const PATH_LIMIT: usize = 256;
const DATA_LIMIT: usize = 131_072;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of protocol.md 2.1")]
pub enum Request {
    Nop,
    NewSess,
    EndSess,
    Ack,
    Open { mode: u32, events: u32, path: Vec<u8> },
    Get { fh: u64 },
    GetMeta { fh: u64 },
    Put { fh: u64, data: Vec<u8> },
    Close { fh: u64 },
    Del { path: Vec<u8> },
    Lock { fh: u64, flags: u32 },
    TryLock { fh: u64, flags: u32 },
    Unlock { fh: u64 },
}

impl Request {
    /// The operation's number.
    #[must_use]
    pub const fn op(&self) -> i32 {
        match self {
            Self::Nop => op::NOP,
            Self::NewSess => op::NEW_SESS,
            Self::EndSess => op::END_SESS,
            Self::Ack => op::ACK,
            Self::Open { .. } => op::OPEN,
            Self::Get { .. } => op::GET,
            Self::GetMeta { .. } => op::GET_META,
            Self::Put { .. } => op::PUT,
            Self::Close { .. } => op::CLOSE,
            Self::Del { .. } => op::DEL,
            Self::Lock { .. } => op::LOCK,
            Self::TryLock { .. } => op::TRYLOCK,
            Self::Unlock { .. } => op::UNLOCK,
        }
    }

    /// The body. No limit is checked: tests send what they want.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Nop | Self::NewSess | Self::EndSess | Self::Ack => {}
            Self::Open { mode, events, path } => {
                out.extend(mode.to_be_bytes());
                out.extend(events.to_be_bytes());
                put_opaque(&mut out, path);
            }
            Self::Get { fh } | Self::GetMeta { fh } | Self::Close { fh } | Self::Unlock { fh } => {
                out.extend(fh.to_be_bytes());
            }
            Self::Put { fh, data } => {
                out.extend(fh.to_be_bytes());
                put_opaque(&mut out, data);
            }
            Self::Del { path } => put_opaque(&mut out, path),
            Self::Lock { fh, flags } | Self::TryLock { fh, flags } => {
                out.extend(fh.to_be_bytes());
                out.extend(flags.to_be_bytes());
            }
        }
        out
    }

    /// Decodes the body of a client's message of operation `op`.
    ///
    /// # Errors
    /// The body is too short, too long, or exceeds a limit, or no client sends this operation.
    pub fn decode(op: i32, body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(body);
        let request = match op {
            op::NOP => Self::Nop,
            op::NEW_SESS => Self::NewSess,
            op::END_SESS => Self::EndSess,
            op::ACK => Self::Ack,
            op::OPEN => {
                Self::Open { mode: reader.u32()?, events: reader.u32()?, path: reader.opaque(PATH_LIMIT)? }
            }
            op::GET => Self::Get { fh: reader.u64()? },
            op::GET_META => Self::GetMeta { fh: reader.u64()? },
            op::PUT => Self::Put { fh: reader.u64()?, data: reader.opaque(DATA_LIMIT)? },
            op::CLOSE => Self::Close { fh: reader.u64()? },
            op::DEL => Self::Del { path: reader.opaque(PATH_LIMIT)? },
            op::LOCK => Self::Lock { fh: reader.u64()?, flags: reader.u32()? },
            op::TRYLOCK => Self::TryLock { fh: reader.u64()?, flags: reader.u32()? },
            op::UNLOCK => Self::Unlock { fh: reader.u64()? },
            other => return Err(Malformed::Op(other)),
        };
        nothing_left(&reader).map(|()| request)
    }
}

/// A file or directory, as the reply to GET and GET_META describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of protocol.md 2.2")]
pub struct Node {
    pub inum: u64,
    pub version: u64,
    pub time_create: u64,
    pub time_modify: u64,
    pub flags: u32,
    pub name: Vec<u8>,
    pub data: Vec<u8>,
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of protocol.md 2.2")]
pub enum Answer {
    /// The generic reply: a code for the request `xid`.
    Result {
        code: i32,
        xid: u64,
    },
    Opened {
        xid: u64,
        fh: u64,
    },
    Contents {
        xid: u64,
        node: Node,
    },
    Event {
        fh: u64,
        events: u32,
    },
    Ping,
    AckFrag {
        number: u64,
    },
    NotMaster,
}

impl Answer {
    /// The body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut result = |code: i32, xid: u64| {
            out.extend(code.to_be_bytes());
            out.extend(xid.to_be_bytes());
        };
        match self {
            Self::Result { code, xid } => result(*code, *xid),
            Self::Opened { xid, fh } => {
                result(code::OK, *xid);
                out.extend(fh.to_be_bytes());
            }
            Self::Contents { xid, node } => {
                result(code::OK, *xid);
                for value in [node.inum, node.version, node.time_create, node.time_modify] {
                    out.extend(value.to_be_bytes());
                }
                out.extend(node.flags.to_be_bytes());
                put_opaque(&mut out, &node.name);
                put_opaque(&mut out, &node.data);
            }
            Self::Event { fh, events } => {
                out.extend(fh.to_be_bytes());
                out.extend(events.to_be_bytes());
            }
            Self::AckFrag { number } => out.extend(number.to_be_bytes()),
            Self::Ping | Self::NotMaster => {}
        }
        out
    }

    /// Decodes the body of a server's message of operation `op`. Nothing may follow it.
    ///
    /// # Errors
    /// The body is too short, too long, or exceeds a limit, or no server sends this operation.
    pub fn decode(op: i32, body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(body);
        let answer = match op {
            op::EVENT => Self::Event { fh: reader.u64()?, events: reader.u32()? },
            op::PING => Self::Ping,
            op::ACK_FRAG => Self::AckFrag { number: reader.u64()? },
            op::NOT_MASTER => Self::NotMaster,
            op::NOP..=op::GET | op::PUT..=op::END_SESS => {
                let (code, xid) = (reader.i32()?, reader.u64()?);
                match op {
                    op::OPEN if code == code::OK => Self::Opened { xid, fh: reader.u64()? },
                    op::GET if code == code::OK => Self::Contents {
                        xid,
                        node: Node {
                            inum: reader.u64()?,
                            version: reader.u64()?,
                            time_create: reader.u64()?,
                            time_modify: reader.u64()?,
                            flags: reader.u32()?,
                            name: reader.opaque(PATH_LIMIT)?,
                            data: reader.opaque(DATA_LIMIT)?,
                        },
                    },
                    _ => Self::Result { code, xid },
                }
            }
            other => return Err(Malformed::Op(other)),
        };
        nothing_left(&reader).map(|()| answer)
    }

    /// The request that this answers, with the code. Events and the like answer none.
    #[must_use]
    pub const fn result(&self) -> Option<(u64, i32)> {
        match self {
            Self::Result { code, xid } => Some((*xid, *code)),
            Self::Opened { xid, .. } | Self::Contents { xid, .. } => Some((*xid, code::OK)),
            Self::Event { .. } | Self::Ping | Self::AckFrag { .. } | Self::NotMaster => None,
        }
    }
}

const fn nothing_left(reader: &Reader<'_>) -> Result<(), Malformed> {
    match reader.0.len() {
        0 => Ok(()),
        count => Err(Malformed::Trailing(count)),
    }
}

/// The names in a directory's data, in the order of their creation (protocol.md 2.3).
///
/// # Errors
/// An entry ends behind the data.
pub fn directory_names(mut data: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut names = Vec::new();
    while let Some((length, _)) = data.split_first_chunk::<2>() {
        let length = 2 + usize::from(u16::from_le_bytes(*length));
        let (entry, rest) = data.split_at_checked(length.next_multiple_of(8)).ok_or(Malformed::Short)?;
        names.push(entry.get(2..length).ok_or(Malformed::Short)?.to_vec());
        data = rest;
    }
    if data.is_empty() { Ok(names) } else { Err(Malformed::Trailing(data.len())) }
}
