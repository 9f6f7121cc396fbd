//! The links between the servers of a cell: TCP, encrypted and authenticated with the cell's secret.
//!
//! | part | is about |
//! |---|---|
//! | [`secret`] | the cell's secret and its file |
//! | [`session`] | one connection as a state machine: handshake, records, frames; no I/O |
//! | [`token`] | how a new server is named to the cell that it joins |
//! | [`frame`] | what servers say to each other, and its bytes |
//! | [`transfer`] | a snapshot on its way: window, order, checksum; no I/O |
//! | `outbox` | what waits to be sent to one server, bounded; no I/O |
//! | [`links`] | a link to each other server, on tokio: dialling, accepting, limits |
//! | `members`, `link` | its parts: what is known of each server, and one connection |
//!
//! # On the wire
//! Each end sends [`session::PREAMBLE`] and one handshake message, the one that dialled first; after that, records. A
//! handshake message or record is its length (16 bits, big-endian) and that many bytes of Noise
//! (`Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s`, the preamble is the prologue). The plaintext of all records together is a
//! stream of frames, each its length (32 bits) and [`frame::Frame`]; a frame of no bytes says that the sender lives.
//!
//! # Why NNpsk0
//! All servers share one secret, so there is no key of a single server to prove; fresh Diffie-Hellman keys on both sides give
//! forward secrecy. With the secret mixed in first (psk0) the very first message proves that its sender knows it: a
//! stranger is refused after one message and before any Diffie-Hellman work. The price is that this first message can be
//! replayed, and read by who later learns the secret: it holds nothing but names and addresses, and an accepted
//! connection counts only when the first record has come, which no replay can make.
//!
//! The end that accepted sends its first record when it has made the connection its link, and only then does the other
//! end count on it: of two connections made at the same time the one that is given up was never up.

pub mod frame;
mod link;
pub mod links;
mod members;
mod noise;
mod outbox;
pub mod secret;
pub mod session;
#[cfg(test)]
mod tests;
pub mod token;
pub mod transfer;
