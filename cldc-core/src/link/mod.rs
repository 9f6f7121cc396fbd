//! One end of a session's packet stream: what both client and server do to make datagrams reliable.
//!
//! A [`Sender`] numbers the packets of its messages, cuts messages into pieces, and sends them until they are
//! acknowledged. A [`Receiver`] takes packets in the order of their numbers, holds a few that come early, and puts
//! messages together. Both are state machines without a clock, a socket or an allocator: the storage is the user's,
//! through [`Queue`] and [`Buffer`], of a fixed size on a device and growing up to a limit on a server.

mod receiver;
mod sender;
mod storage;

pub use receiver::{Arrival, Early, Message, Receiver};
pub use sender::{Cut, Outgoing, Pacing, Sender};
pub use storage::{Buffer, Queue};

/// How far `number` is ahead of `from`; negative if it is behind. Numbers wrap at 2^64.
#[must_use]
pub const fn ahead(number: u64, from: u64) -> i64 {
    number.wrapping_sub(from).cast_signed()
}
