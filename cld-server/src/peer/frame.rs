//! What servers say to each other, and its bytes: the kind, the version of that kind's format, and its fields.

use std::net::SocketAddr;

use crate::codec::{CodecError, Reader, Writer};
use crate::database::Digest;
use crate::endpoint::SocketId;
use crate::storage::MAX_ENTRY_SIZE;

/// The longest message of the consensus engine, in bytes: the largest entry, and room for what goes with it.
pub const MAX_MESSAGE: usize = MAX_ENTRY_SIZE + (64 << 10);

/// The longest part of a snapshot in one frame, in bytes. The frame fits into one record.
pub const MAX_CHUNK: usize = 60 << 10;

/// The longest description of where a snapshot stands, in bytes: room for all members that a cell may have.
pub const MAX_POINT: usize = 4096;

/// The longest datagram that is passed on, in bytes: what UDP can carry.
pub const MAX_DATAGRAM: usize = 65_535;

/// The longest frame, in bytes.
pub const MAX_FRAME: usize = MAX_MESSAGE + 64;

/// The versions of the protocol between servers that this program speaks: lowest and highest.
pub const VERSIONS: (u16, u16) = (1, 1);

/// One thing that one server tells another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Of the consensus engine, which alone knows its format; at most [`MAX_MESSAGE`] bytes.
    Message(Vec<u8>),
    /// Of a snapshot on its way.
    Snapshot(SnapshotFrame),
    /// A datagram of a client that a follower passes on.
    Relay(Relay),
    /// The checksum of the sender's state.
    Digest(DigestReport),
}

/// What checksum a server's state has behind an entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestReport {
    /// The [`DIGEST_VERSION`](crate::database::DIGEST_VERSION) of the sender. One of another version says nothing.
    pub version: u8,
    /// The entry.
    pub index: u64,
    /// The checksum.
    pub digest: Digest,
}

/// A step of sending a snapshot. The sender numbers its transfers; [`super::transfer`] says what comes when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotFrame {
    /// Sender: a snapshot comes.
    Begin {
        /// The transfer's number.
        transfer: u64,
        /// Where the snapshot stands, in the sender's encoding; at most [`MAX_POINT`] bytes.
        point: Vec<u8>,
        /// Its length in bytes.
        length: u64,
        /// The CRC32C of all of it.
        checksum: u32,
    },
    /// Sender: a part of it.
    Chunk {
        /// The transfer's number.
        transfer: u64,
        /// Where the part begins.
        offset: u64,
        /// The part, at most [`MAX_CHUNK`] bytes.
        bytes: Vec<u8>,
    },
    /// Sender: that was all of it.
    End {
        /// The transfer's number.
        transfer: u64,
    },
    /// Sender: no more of it will come.
    Abort {
        /// The transfer's number.
        transfer: u64,
    },
    /// Receiver: has dealt with so many bytes, so that more may come.
    Ack {
        /// The transfer's number.
        transfer: u64,
        /// Bytes from the start.
        received: u64,
    },
    /// Receiver: the whole snapshot is verified and durable.
    Accepted {
        /// The transfer's number.
        transfer: u64,
    },
    /// Receiver: does not take it, or no more of it.
    Refused {
        /// The transfer's number.
        transfer: u64,
        /// Why.
        reason: RefuseReason,
    },
}

/// Why a server does not take a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefuseReason {
    /// It is taking another: try again later.
    #[error("it is taking another snapshot")]
    Busy,
    /// It has all that the snapshot has.
    #[error("it has no need of it")]
    NotNeeded,
    /// It is too long for it.
    #[error("it is too long")]
    TooLong,
    /// What came is not what was announced.
    #[error("what came is not what was announced")]
    Damaged,
    /// It cannot be stored.
    #[error("it cannot be stored there")]
    Storage,
}

/// A datagram between a plain client and the master, by way of a follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Which way it goes.
    pub way: RelayWay,
    /// The client's address.
    pub client: SocketAddr,
    /// The follower's socket that the client talks to.
    pub socket: SocketId,
    /// The datagram, at most [`MAX_DATAGRAM`] bytes.
    pub datagram: Vec<u8>,
}

/// Which way a relayed datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayWay {
    /// From the client to the master.
    ToMaster,
    /// From the master to the client.
    ToClient,
}

/// The version of the format of each kind. A new one is written only to a peer that speaks a protocol version which has it.
const MESSAGE_FORMAT: u8 = 1;
const SNAPSHOT_FORMAT: u8 = 1;
const RELAY_FORMAT: u8 = 1;
const DIGEST_FORMAT: u8 = 1;

impl Frame {
    /// The frame's bytes. What is over its limit is written all the same, and refused by the reader.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Message(bytes) => {
                out.raw(&[b'M', MESSAGE_FORMAT]);
                out.raw(bytes);
            }
            Self::Snapshot(frame) => {
                out.raw(&[b'S', SNAPSHOT_FORMAT]);
                frame.encode(&mut out);
            }
            Self::Relay(relay) => {
                out.raw(&[b'R', RELAY_FORMAT]);
                out.u8(match relay.way {
                    RelayWay::ToMaster => 0,
                    RelayWay::ToClient => 1,
                });
                out.socket_addr(relay.client);
                out.u16(relay.socket.0);
                out.raw(&relay.datagram);
            }
            Self::Digest(DigestReport { version, index, digest }) => {
                out.raw(&[b'D', DIGEST_FORMAT]);
                out.u8(*version);
                out.u64(*index);
                digest.encode(&mut out);
            }
        }
        out.into_vec()
    }

    /// Whether the frame's parts are within their limits, so that the other end will read it.
    ///
    /// # Errors
    /// [`CodecError::TooLong`].
    pub fn check(&self) -> Result<(), CodecError> {
        let (length, limit) = match self {
            Self::Message(bytes) => (bytes.len(), MAX_MESSAGE),
            Self::Snapshot(SnapshotFrame::Begin { point, .. }) => (point.len(), MAX_POINT),
            Self::Snapshot(SnapshotFrame::Chunk { bytes, .. }) => (bytes.len(), MAX_CHUNK),
            Self::Snapshot(_) | Self::Digest(_) => (0, 0),
            Self::Relay(relay) => (relay.datagram.len(), MAX_DATAGRAM),
        };
        if length > limit { Err(CodecError::TooLong { length, limit }) } else { Ok(()) }
    }

    /// Reads a frame that is all of `bytes`.
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let (kind, format) = (from.u8()?, from.u8()?);
        match kind {
            b'M' => {
                known("message between servers", format, MESSAGE_FORMAT)?;
                Ok(Self::Message(rest(from, MAX_MESSAGE)?))
            }
            b'S' => {
                known("snapshot frame", format, SNAPSHOT_FORMAT)?;
                SnapshotFrame::decode(from).map(Self::Snapshot)
            }
            b'R' => {
                known("relayed datagram", format, RELAY_FORMAT)?;
                let way = match from.u8()? {
                    0 => RelayWay::ToMaster,
                    1 => RelayWay::ToClient,
                    other => return Err(CodecError::Invalid { what: "way of a relay", value: other.into() }),
                };
                let (client, socket) = (from.socket_addr()?, SocketId(from.u16()?));
                Ok(Self::Relay(Relay { way, client, socket, datagram: rest(from, MAX_DATAGRAM)? }))
            }
            b'D' => {
                known("digest frame", format, DIGEST_FORMAT)?;
                let (version, index, digest) = (from.u8()?, from.u64()?, Digest::decode(&mut from)?);
                from.finish()?;
                Ok(Self::Digest(DigestReport { version, index, digest }))
            }
            other => Err(CodecError::Invalid { what: "kind of frame", value: other.into() }),
        }
    }
}

impl SnapshotFrame {
    /// The number of its transfer.
    #[must_use]
    pub const fn transfer(&self) -> u64 {
        match self {
            Self::Begin { transfer, .. }
            | Self::Chunk { transfer, .. }
            | Self::End { transfer }
            | Self::Abort { transfer }
            | Self::Ack { transfer, .. }
            | Self::Accepted { transfer }
            | Self::Refused { transfer, .. } => *transfer,
        }
    }

    fn encode(&self, out: &mut Writer) {
        out.u8(match self {
            Self::Begin { .. } => 1,
            Self::Chunk { .. } => 2,
            Self::End { .. } => 3,
            Self::Abort { .. } => 4,
            Self::Ack { .. } => 5,
            Self::Accepted { .. } => 6,
            Self::Refused { .. } => 7,
        });
        out.u64(self.transfer());
        match self {
            Self::Begin { point, length, checksum, .. } => {
                out.bytes(point);
                out.u64(*length);
                out.u32(*checksum);
            }
            Self::Chunk { offset, bytes, .. } => {
                out.u64(*offset);
                out.raw(bytes);
            }
            Self::Ack { received, .. } => out.u64(*received),
            Self::Refused { reason, .. } => out.u8(match reason {
                RefuseReason::Busy => 1,
                RefuseReason::NotNeeded => 2,
                RefuseReason::TooLong => 3,
                RefuseReason::Damaged => 4,
                RefuseReason::Storage => 5,
            }),
            Self::End { .. } | Self::Abort { .. } | Self::Accepted { .. } => {}
        }
    }

    fn decode(mut from: Reader<'_>) -> Result<Self, CodecError> {
        let step = from.u8()?;
        let transfer = from.u64()?;
        let frame = match step {
            1 => {
                let point = from.bytes(MAX_POINT)?.to_owned();
                Self::Begin { transfer, point, length: from.u64()?, checksum: from.u32()? }
            }
            2 => {
                let offset = from.u64()?;
                return Ok(Self::Chunk { transfer, offset, bytes: rest(from, MAX_CHUNK)? });
            }
            3 => Self::End { transfer },
            4 => Self::Abort { transfer },
            5 => Self::Ack { transfer, received: from.u64()? },
            6 => Self::Accepted { transfer },
            7 => Self::Refused { transfer, reason: reason(from.u8()?)? },
            other => return Err(CodecError::Invalid { what: "snapshot frame", value: other.into() }),
        };
        from.finish()?;
        Ok(frame)
    }
}

fn reason(code: u8) -> Result<RefuseReason, CodecError> {
    match code {
        1 => Ok(RefuseReason::Busy),
        2 => Ok(RefuseReason::NotNeeded),
        3 => Ok(RefuseReason::TooLong),
        4 => Ok(RefuseReason::Damaged),
        5 => Ok(RefuseReason::Storage),
        other => Err(CodecError::Invalid { what: "reason to refuse a snapshot", value: other.into() }),
    }
}

const fn known(what: &'static str, found: u8, known: u8) -> Result<(), CodecError> {
    if found == known { Ok(()) } else { Err(CodecError::Version { what, found, known }) }
}

fn rest(mut from: Reader<'_>, limit: usize) -> Result<Vec<u8>, CodecError> {
    let length = from.left();
    if length > limit {
        return Err(CodecError::TooLong { length, limit });
    }
    from.raw(length).map(<[u8]>::to_owned)
}
