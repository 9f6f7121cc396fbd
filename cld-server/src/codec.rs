//! Bounded binary reading and writing, for what is stored or sent between servers: big-endian numbers, and bytes
//! behind their length (32 bits).
//!
//! The reader trusts nothing: it fails, and never panics or allocates more than its input holds.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::versions::VersionError;

/// Why bytes do not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end inside a value.
    #[error("the data ends early: {needed} more bytes are needed, {left} are left")]
    Truncated {
        /// Bytes that the value needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A length is above its limit.
    #[error("a length of {length} is above its limit of {limit}")]
    TooLong {
        /// The length found.
        length: usize,
        /// The longest that is allowed.
        limit: usize,
    },
    /// A value that no writer makes.
    #[error("{value} is no valid {what}")]
    Invalid {
        /// What the value was to be.
        what: &'static str,
        /// The value, or 0 where it is not a number.
        value: u64,
    },
    /// Bytes follow the last value.
    #[error("{0} bytes follow the end")]
    Trailing(usize),
    /// The data was written by another version of this program.
    #[error(
        "{what} of format version {found}; this program reads version {known}: use the program that wrote it"
    )]
    Version {
        /// What is versioned.
        what: &'static str,
        /// The version found.
        found: u8,
        /// The version that this program reads and writes.
        known: u8,
    },
    /// The data is of a version of the cell that this program does not know.
    #[error(transparent)]
    CellVersion(VersionError),
}

/// Takes values off the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes as they are.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] if fewer are left.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let short = CodecError::Truncated { needed: len, left: self.rest.len() };
        let (head, rest) = self.rest.split_at_checked(len).ok_or(short)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let short = CodecError::Truncated { needed: N, left: self.rest.len() };
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`CodecError::Truncated`], as for all numbers below.
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// A number of 16 bits.
    ///
    /// # Errors
    /// As [`Self::u8`].
    pub fn u16(&mut self) -> Result<u16, CodecError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// A number of 32 bits.
    ///
    /// # Errors
    /// As [`Self::u8`].
    pub fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A number of 64 bits.
    ///
    /// # Errors
    /// As [`Self::u8`].
    pub fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A truth value: one byte, 0 or 1.
    ///
    /// # Errors
    /// As [`Self::u8`], and [`CodecError::Invalid`] for any other byte.
    pub fn bool(&mut self) -> Result<bool, CodecError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(CodecError::Invalid { what: "truth value", value: other.into() }),
        }
    }

    /// A count of items that follow, each of at least `item` bytes: never more than can be there.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] above `limit`; [`CodecError::Truncated`] if the bytes left cannot hold that many.
    pub fn count(&mut self, limit: usize, item: usize) -> Result<usize, CodecError> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        let needed = length.saturating_mul(item);
        if length > limit {
            Err(CodecError::TooLong { length, limit })
        } else if needed > self.left() {
            Err(CodecError::Truncated { needed, left: self.left() })
        } else {
            Ok(length)
        }
    }

    /// Bytes behind their length.
    ///
    /// # Errors
    /// As [`Self::count`].
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8], CodecError> {
        let length = self.count(limit, 1)?;
        self.raw(length)
    }

    /// An address and port.
    ///
    /// # Errors
    /// As [`Self::u8`], and [`CodecError::Invalid`] for an unknown family.
    pub fn socket_addr(&mut self) -> Result<SocketAddr, CodecError> {
        match self.u8()? {
            4 => Ok(SocketAddr::new(IpAddr::from(self.array::<4>()?), self.u16()?)),
            6 => {
                let address = self.array::<16>()?;
                let (port, flow, scope) = (self.u16()?, self.u32()?, self.u32()?);
                Ok(SocketAddrV6::new(address.into(), port, flow, scope).into())
            }
            other => Err(CodecError::Invalid { what: "address family", value: other.into() }),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`CodecError::Trailing`] if bytes are left.
    pub const fn finish(self) -> Result<(), CodecError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CodecError::Trailing(self.rest.len())) }
    }
}

/// Appends values to a buffer, as [`Reader`] takes them. Limits are the reader's business: who writes, holds them.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self { out: Vec::new() }
    }

    /// How many bytes are written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing is written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What is written.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// What is written, as a buffer of its own.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.out
    }

    /// Forgets what was written after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.out.truncate(len);
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// A number of 16 bits.
    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    /// A number of 32 bits.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    /// A number of 64 bits.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.u8(value.into());
    }

    /// A count of items that follow. Above 32 bits it is written as the largest, which no reader accepts.
    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    /// An address and port.
    pub fn socket_addr(&mut self, address: SocketAddr) {
        match address {
            SocketAddr::V4(v4) => {
                self.u8(4);
                self.raw(&v4.ip().octets());
                self.u16(v4.port());
            }
            SocketAddr::V6(v6) => {
                self.u8(6);
                self.raw(&v6.ip().octets());
                self.u16(v6.port());
                self.u32(v6.flowinfo());
                self.u32(v6.scope_id());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(a: u8, b: u16, c: u32, d: u64, e: bool, f: Vec<u8>, g: SocketAddr) {
            let mut out = Writer::new();
            out.u8(a);
            out.u16(b);
            out.u32(c);
            out.u64(d);
            out.bool(e);
            out.bytes(&f);
            out.socket_addr(g);
            let mut read = Reader::new(out.as_slice());
            prop_assert_eq!((read.u8(), read.u16(), read.u32(), read.u64()), (Ok(a), Ok(b), Ok(c), Ok(d)));
            prop_assert_eq!((read.bool(), read.bytes(1 << 20)), (Ok(e), Ok(f.as_slice())));
            prop_assert_eq!(read.socket_addr(), Ok(g));
            prop_assert_eq!(read.finish(), Ok(()));
        }
    }

    #[test]
    fn a_length_beyond_the_limit_or_the_data_is_an_error() {
        let long = [0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Reader::new(&long).bytes(10), Err(CodecError::TooLong { length: 0xffff_ffff, limit: 10 }));
        let short = [0, 0, 0, 2, 1];
        assert_eq!(Reader::new(&short).bytes(10), Err(CodecError::Truncated { needed: 2, left: 1 }));
        assert_eq!(Reader::new(&short).count(10, 8), Err(CodecError::Truncated { needed: 16, left: 1 }));
        assert_eq!(Reader::new(&[2]).bool(), Err(CodecError::Invalid { what: "truth value", value: 2 }));
        assert_eq!(Reader::new(&short).finish(), Err(CodecError::Trailing(5)));
    }
}
