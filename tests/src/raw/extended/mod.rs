//! A client of extended sessions that sends and takes single packets, written from docs/protocol.md 7 alone.
//!
//! [`Extended`] is what tests drive. It acknowledges what comes, and repeats nothing of itself.

mod calls;
mod message;
mod session;

pub use message::{Event, HELLO, Hello, Master, Sequencer, Stands, Welcome};
pub use session::{Extended, Incoming, Reply, Resumed, Traffic};

#[cfg(test)]
mod tests;
