//! The contents of a directory: the names of its children, in the order of their creation (protocol.md 2.3).
//!
//! Each entry is the length of the name (16 bits, little endian), the name, and zeros up to a multiple of eight.

use super::xdr::{Full, Malformed, Writer};

/// The length of the entry of a name of `len` bytes.
#[must_use]
pub const fn entry_len(len: usize) -> usize {
    len.saturating_add(9) & !7
}

/// Writes the entry of one name.
///
/// # Errors
/// [`Full`] if the buffer is too small or the name too long for its length field; then nothing has been written.
pub fn emit(name: &[u8], out: &mut Writer<'_>) -> Result<(), Full> {
    let len = u16::try_from(name.len()).map_err(|_| Full)?;
    let zeros = entry_len(name.len()).saturating_sub(name.len()).saturating_sub(2);
    out.padded(&len.to_le_bytes(), name, zeros)
}

/// Goes through the names in a directory's contents. After an error it ends.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    rest: &'a [u8],
}

impl<'a> Names<'a> {
    /// The names in `data`, as GET returned it.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = split(self.rest);
        self.rest = entry.map_or(&[], |(_, rest)| rest);
        Some(entry.map(|(name, _)| name).ok_or(Malformed::Truncated))
    }
}

/// The first name and what follows its entry. The zeros after the last name may be missing.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, after) = data.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_le_bytes(*len));
    let name = after.get(..len)?;
    Some((name, data.get(entry_len(len)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_multiples_of_eight_and_read_back() {
        let names: [&[u8]; 5] = [b"a", b"abcdef", b"abcdefg", b"", &[b'x'; 254]];
        let mut buffer = [0xee; 512];
        let mut out = Writer::new(&mut buffer);
        for name in names {
            emit(name, &mut out).unwrap();
            assert_eq!(out.len() % 8, 0);
        }
        assert!(Names::new(out.written()).map(Result::unwrap).eq(names));
    }

    #[test]
    fn a_cut_entry_is_an_error_and_ends_the_list() {
        let mut names = Names::new(&[5, 0, b'a', b'b']);
        assert_eq!(names.next(), Some(Err(Malformed::Truncated)));
        assert_eq!(names.next(), None);
    }
}
