//! What a simulated server is to the rest of a simulation.

use std::net::SocketAddr;

use cldc_core::time::Instant;
use cldc_core::wire::limits::MAX_PACKET;
use cldc_core::wire::{Code, EventMask, Key, Op, Part, Seal};

use super::name_space::{NameSpace, done};

pub(crate) const USER: &[u8] = b"tester";
pub(crate) const SECRET: &[u8] = b"secret of the tester";

/// A datagram to be sent, and where to.
pub(crate) type Datagram = (SocketAddr, Vec<u8>);

/// A server on simulated time: mutate, then drain.
pub(crate) trait Peer {
    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]);
    fn transmit(&mut self, now: Instant) -> Option<Datagram>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, now: Instant);
    /// Whether it keeps this session.
    fn keeps(&self, sid: u64) -> bool;
    /// It loses what it has only in memory, and starts again.
    fn restart(&mut self, now: Instant);
    /// It forgets a session, without a word.
    fn forget(&mut self, sid: u64);
    /// It tells a handle of something.
    fn tell(&mut self, now: Instant, sid: u64, fh: u64, events: EventMask);
    fn name_space(&mut self) -> &mut NameSpace;
}

pub(crate) fn key() -> Key {
    Key::new(SECRET).unwrap()
}

/// A packet with a proper footer.
pub(crate) fn packet(sid: u64, part: Part, number: u64, piece: &[u8]) -> Vec<u8> {
    let mut buffer = [0; MAX_PACKET];
    let len = Seal { sid, user: USER, key: &key() }.emit(part, number, piece, &mut buffer).unwrap();
    buffer[..len].to_vec()
}

/// A packet with the footer of Hail's one-shot packets.
pub(crate) fn shifted(sid: u64, part: Part, number: u64, piece: &[u8]) -> Vec<u8> {
    let mut buffer = [0; MAX_PACKET];
    let seal = Seal { sid, user: USER, key: &key() };
    let len = seal.emit_shifted(part, number, piece, [0xa5; 8], &mut buffer).unwrap();
    buffer[..len].to_vec()
}

/// An answer without a place in the stream, in answer to packet `number`.
pub(crate) fn one_shot(sid: u64, op: Op, xid: u64, number: u64, code: Code, is_shifted: bool) -> Vec<u8> {
    let (op, body) = done(op, xid, code);
    let emit = if is_shifted { shifted } else { packet };
    emit(sid, Part::Only { xid: 7, op }, number, &body)
}
