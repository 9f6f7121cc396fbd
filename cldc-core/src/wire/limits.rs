//! Sizes that the protocol fixes (protocol.md 3).

use super::ack::Ack;

/// Longest user name in bytes. The field holds 32, but Hail's programs use 31 and a NUL.
pub const MAX_USER: usize = 31;
/// Longest user name that the wire format can carry.
pub const MAX_USER_FIELD: usize = 32;
/// Longest path in bytes, without a NUL.
pub const MAX_PATH: usize = 256;
/// Longest file in bytes.
pub const MAX_PAYLOAD: usize = 131_072;
/// Longest message body that either side reassembles.
pub const MAX_MESSAGE: usize = 196_608;
/// Length of every piece of a message but the last.
pub const PIECE: usize = 1024;
/// Longest secret key in bytes (Hail's client library has 128 with a NUL).
pub const MAX_KEY: usize = 127;
/// Length of the footer: a number of 8 bytes and an HMAC-SHA1 of 20.
pub const FOOTER: usize = 28;
/// Length of the HMAC-SHA1 that ends a packet.
pub const MAC: usize = 20;
/// Longest header: the fixed fields, the longest user, the first-packet fields, and the acknowledgement in packets of
/// extended sessions.
pub const MAX_HEADER: usize = 36 + MAX_USER_FIELD + Ack::LEN;
/// Longest packet that a sender of whole pieces makes.
pub const MAX_PACKET: usize = MAX_HEADER + PIECE + FOOTER;
