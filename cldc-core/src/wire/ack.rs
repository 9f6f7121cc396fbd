//! What a receiver has of a stream of packets, as the packets of extended sessions carry it (docs/protocol.md 7.2).

use nom::Parser;

use super::xdr::{self, Full, Parsed, Writer};

/// What a receiver has: all packets before `next`, and some after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// The lowest number that has not come.
    pub next: u64,
    /// Bit `i`, counted from the lowest: the packet `next + 1 + i` has come.
    pub held: u64,
}

impl Ack {
    /// Bytes that it takes.
    pub const LEN: usize = 16;

    pub(super) fn parse(input: &[u8]) -> Parsed<'_, Self> {
        (xdr::u64, xdr::u64).map(|(next, held)| Self { next, held }).parse(input)
    }

    pub(super) fn emit(self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.u64(self.next)?;
        out.u64(self.held)
    }
}
