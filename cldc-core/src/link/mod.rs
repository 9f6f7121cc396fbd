//! One end of a session's packet stream: what both client and server do to make datagrams reliable.
//!
//! A [`Sender`] numbers the packets of its messages, cuts messages into pieces, and sends them until they are
//! acknowledged: in passes to Hail's peers, selectively to ours. A [`Receiver`] takes packets in the order of their
//! numbers, holds a few that come early, and puts messages together. An [`Acknowledger`] decides when the receiver
//! says what it has. All are state machines without a clock, a socket or an allocator: the storage is the user's,
//! through [`Queue`] and [`Buffer`], of a fixed size on a device and growing up to a limit on a server.

mod acknowledger;
mod congestion;
mod passes;
mod receiver;
mod round_trip;
mod row;
mod selective;
mod sender;
mod storage;
mod stream;

pub use acknowledger::Acknowledger;
pub use passes::Pacing;
pub use receiver::{Arrival, Early, Message, Receiver};
pub use sender::Sender;
pub use storage::{Buffer, Queue};
pub use stream::{Cut, Outgoing};

/// How far `number` is ahead of `from`; negative if it is behind. Numbers wrap at 2^64.
#[must_use]
pub const fn ahead(number: u64, from: u64) -> i64 {
    number.wrapping_sub(from).cast_signed()
}
