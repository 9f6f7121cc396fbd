//! XDR (RFC 4506), as far as the protocol uses it: big-endian integers, and byte strings padded to four.

use nom::error::{ErrorKind, ParseError};

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes end before the item does.
    Truncated,
    /// A string is longer than its field allows.
    TooLong,
    /// The packet does not begin with the protocol's magic.
    Magic,
    /// The order field has a value, or a flag, that does not exist.
    Order,
    /// The operation has no message in this direction.
    Op,
}

impl ParseError<&[u8]> for Malformed {
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Self::Truncated
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// What a parser of this crate returns: the rest of the input, and the item.
pub type Parsed<'a, T> = nom::IResult<&'a [u8], T, Malformed>;

/// Takes the item out of a finished parse; the rest of the input is ignored, as the protocol has it.
pub(super) fn finish<T>(parsed: Parsed<'_, T>) -> Result<T, Malformed> {
    match parsed {
        Ok((_, item)) => Ok(item),
        Err(nom::Err::Error(why) | nom::Err::Failure(why)) => Err(why),
        Err(nom::Err::Incomplete(_)) => Err(Malformed::Truncated),
    }
}

/// A parse that ends here for the reason given.
pub(super) fn fail<T>(why: Malformed) -> Parsed<'static, T> {
    Err(nom::Err::Failure(why))
}

/// So many bytes as they are. Unlike nom's own, this has no branch that panics, at whatever optimisation.
pub(super) fn array<const N: usize>(input: &[u8]) -> Parsed<'_, &[u8; N]> {
    match input.split_first_chunk() {
        Some((bytes, rest)) => Ok((rest, bytes)),
        None => fail(Malformed::Truncated),
    }
}

/// An unsigned integer of four bytes.
pub fn u32(input: &[u8]) -> Parsed<'_, u32> {
    let (rest, bytes) = array(input)?;
    Ok((rest, u32::from_be_bytes(*bytes)))
}

/// A signed integer or an enum of four bytes.
pub fn i32(input: &[u8]) -> Parsed<'_, i32> {
    let (rest, bytes) = array(input)?;
    Ok((rest, i32::from_be_bytes(*bytes)))
}

/// A hyper, read as unsigned.
pub fn u64(input: &[u8]) -> Parsed<'_, u64> {
    let (rest, bytes) = array(input)?;
    Ok((rest, u64::from_be_bytes(*bytes)))
}

/// A string or opaque of at most `max` bytes; the values of its pad bytes are not looked at.
pub fn opaque(max: usize) -> impl FnMut(&[u8]) -> Parsed<'_, &[u8]> {
    move |input| {
        let (input, len) = u32(input)?;
        let len = len as usize;
        if len > max {
            return fail(Malformed::TooLong);
        }
        let padded =
            input.split_at_checked(len).and_then(|(bytes, rest)| Some((bytes, rest.get(pad(len)..)?)));
        padded.map_or(fail(Malformed::Truncated), |(bytes, rest)| Ok((rest, bytes)))
    }
}

/// How many zero bytes follow an item of `len` bytes.
#[must_use]
pub const fn pad(len: usize) -> usize {
    len.wrapping_neg() % 4
}

/// The buffer has no room for what should be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Writes items one after the other into a buffer that the caller lends.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl<'b> Writer<'b> {
    /// A writer that begins at the start of `buffer`.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// How many bytes have been written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What has been written.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// Writes `bytes` as they are.
    ///
    /// # Errors
    /// [`Full`] if they do not fit; then nothing has been written. So for all methods below.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.len.checked_add(bytes.len()).ok_or(Full)?;
        let room = self.buffer.get_mut(self.len..end).ok_or(Full)?;
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.len = end;
        Ok(())
    }

    /// Writes an unsigned integer of four bytes.
    pub fn u32(&mut self, value: u32) -> Result<(), Full> {
        self.raw(&value.to_be_bytes())
    }

    /// Writes a signed integer or an enum of four bytes.
    pub fn i32(&mut self, value: i32) -> Result<(), Full> {
        self.raw(&value.to_be_bytes())
    }

    /// Writes a hyper.
    pub fn u64(&mut self, value: u64) -> Result<(), Full> {
        self.raw(&value.to_be_bytes())
    }

    /// Writes a string or opaque: its length, its bytes, and zeros up to a multiple of four.
    pub fn opaque(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let len = u32::try_from(bytes.len()).map_err(|_| Full)?;
        self.padded(&len.to_be_bytes(), bytes, pad(bytes.len()))
    }

    /// Writes `length`, then `bytes`, then `zeros` zeros, of which there may be seven: all of it, or nothing.
    pub(super) fn padded(&mut self, length: &[u8], bytes: &[u8], zeros: usize) -> Result<(), Full> {
        let start = self.len;
        let result = self
            .raw(length)
            .and_then(|()| self.raw(bytes))
            .and_then(|()| self.raw([0; 7].get(..zeros).unwrap_or_default()));
        if result.is_err() {
            self.len = start;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_padded_to_four() {
        for (len, total) in [(0, 4), (1, 8), (3, 8), (4, 8), (5, 12)] {
            let mut buffer = [0xee; 16];
            let mut writer = Writer::new(&mut buffer);
            writer.opaque(&[7; 5][..len]).unwrap();
            assert_eq!(writer.len(), total);
            let (rest, bytes) = opaque(5)(writer.written()).unwrap();
            assert!(rest.is_empty());
            assert_eq!(bytes, &[7; 5][..len]);
        }
    }

    #[test]
    fn a_length_beyond_the_field_or_the_bytes_is_refused() {
        assert_eq!(finish(opaque(4)(&[0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0])), Err(Malformed::TooLong));
        assert_eq!(finish(opaque(usize::MAX)(&[0xff; 8])), Err(Malformed::Truncated));
        assert_eq!(finish(opaque(8)(&[0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0])), Err(Malformed::Truncated));
    }

    #[test]
    fn a_full_buffer_refuses_and_keeps_what_it_has() {
        let mut buffer = [0; 6];
        let mut writer = Writer::new(&mut buffer);
        writer.u32(1).unwrap();
        assert_eq!(writer.u32(2), Err(Full));
        assert_eq!(writer.written(), [0, 0, 0, 1]);
    }
}
