//! A client that sends and takes single packets, written from `protocol.md` alone.
//!
//! [`RawSession`] is what tests drive; [`Packet`], [`Request`] and [`Answer`] are the codec under it.

pub mod codes;
pub mod extended;
mod message;
mod packet;
mod session;
mod xdr;

pub use message::{Answer, Node, Request, directory_names};
pub use packet::{FOOTER, Footer, Head, Malformed, PIECE, Packet, Rider, sign};
pub use session::{Acks, Incoming, PATIENCE, RECEIVE_BUFFER, RawSession, Reply, socket_to};

#[cfg(test)]
mod golden;
