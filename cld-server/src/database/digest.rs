//! The checksum of the state, kept up to date with every change.
//!
//! The state is a set of items: a file, a session, a handle, a claim on a lock, and so on. The digest is the sum of the
//! hashes of all items, modulo 2^128. So it does not depend on the order in which they came about, and a change costs no
//! more than hashing the one item before and after it. Whoever holds items keeps the sum of theirs; [`super::Database::digest`]
//! adds these up. Contents of files are hashed once, when they are written.
//!
//! The hash is XXH3 with 128 bits: it finds what went wrong, not who wants to deceive.

use std::fmt::{self, Debug, Display, Formatter};

use twox_hash::XxHash3_128;

use crate::codec::{CodecError, Reader, Writer};

/// The version of what is hashed, and how. To be raised with every change of an item's encoding. Digests of different versions
/// say nothing about each other: while a cell has servers with both, they neither confirm nor contradict each other.
pub const DIGEST_VERSION: u8 = 2;

/// The checksum of a state, or of a part of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(u128);

/// What an item is. Items of different kinds never have the same bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Header = 0,
    Inode = 1,
    Session = 2,
    Handle = 3,
    Claim = 4,
    Lock = 5,
    User = 6,
}

impl Digest {
    /// The hash of one item: its kind, and what `fill` writes, which begins with its key.
    pub(super) fn of(item: Item, fill: impl FnOnce(&mut Writer)) -> Self {
        let mut out = Writer::new();
        out.u8(item as u8);
        fill(&mut out);
        Self::of_bytes(out.as_slice())
    }

    /// The hash of the contents of a file, which stands for them in the file's item.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(bytes))
    }

    /// Takes an item, or the sum of several, in.
    pub(super) const fn add(&mut self, item: Self) {
        self.0 = self.0.wrapping_add(item.0);
    }

    /// Takes an item out again.
    pub(super) const fn remove(&mut self, item: Self) {
        self.0 = self.0.wrapping_sub(item.0);
    }

    /// Appends its 16 bytes.
    pub fn encode(self, out: &mut Writer) {
        out.raw(&self.0.to_be_bytes());
    }

    /// Takes its 16 bytes.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn decode(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (high, low) = (input.u64()?, input.u64()?);
        Ok(Self(u128::from(high) << 64 | u128::from(low)))
    }
}

impl Display for Digest {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

impl Debug for Digest {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, out)
    }
}
