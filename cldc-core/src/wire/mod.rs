//! The bytes of the protocol: what a packet, a message and a directory look like, in both directions.
//!
//! This module only parses and emits. It keeps no state and makes no decisions; client and server share it.
//!
//! - [`packet`]: one datagram: header, piece of a message, footer with its HMAC-SHA1 (protocol.md 1);
//! - [`request`]: what a client asks, and [`answer`]: what a server says (protocol.md 2);
//! - [`extended`]: what extended sessions add to both (docs/protocol.md 7);
//! - [`dirent`]: the contents of a directory (protocol.md 2.3);
//! - [`codes`]: the numbers (protocol.md 3), [`limits`]: the sizes; [`xdr`]: the encoding that all of it uses.

mod ack;
pub mod answer;
#[macro_use]
pub mod codes;
pub mod dirent;
pub mod extended;
pub mod limits;
pub mod packet;
pub mod request;
pub mod xdr;

pub use ack::Ack;
pub use answer::{Answer, Metadata};
pub use codes::{Code, EventMask, InodeFlags, LockFlags, Op, OpenMode};
pub use packet::{Forged, Key, KeyError, Packet, Part, Rider, Seal};
pub use request::Request;
pub use xdr::{Full, Malformed, Writer};
