//! The few XDR types that the protocol uses: 4-byte and 8-byte integers, counted bytes with padding.

use super::Malformed;

/// Reads XDR items from the front of some bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed::Short)?;
        Ok(u32::from_be_bytes(bytes))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(self.u32()?.cast_signed())
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?.try_into().map_err(|_| Malformed::Short)?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// Counted bytes of at most `limit`, without their padding.
    pub(super) fn opaque(&mut self, limit: usize) -> Result<Vec<u8>, Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed::Short)?;
        if length > limit {
            return Err(Malformed::TooLong { length, limit });
        }
        let bytes = self.take(length)?.to_vec();
        self.take(length.next_multiple_of(4) - length)?;
        Ok(bytes)
    }
}

/// Appends counted bytes and their padding.
pub(super) fn put_opaque(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}
