//! The stored form of small records: little-endian fields, sealed with a CRC32C that also covers the record's key, so
//! that a record found under another's key is as bad as a torn one.

use super::log::{Configuration, MAX_MEMBERS};

/// The record's bytes as stored under `key`: the checksum, then the body.
pub(super) fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(body.len() + 4);
    stored.extend_from_slice(&checksum(key, body).to_le_bytes());
    stored.extend_from_slice(body);
    stored
}

/// The body of a record that was stored under `key`, or `None` if it is damaged.
pub(super) fn unseal<'a>(key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, body) = stored.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*sum) == checksum(key, body)).then_some(body)
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}

/// Appends fields to a record.
#[derive(Debug, Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u128(&mut self, value: u128) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn configuration(&mut self, configuration: &Configuration) -> &mut Self {
        for members in [&configuration.voters, &configuration.learners] {
            self.u64(members.len() as u64);
            for member in members {
                self.u64(*member);
            }
        }
        self
    }
}

/// Takes fields off a record; `None` when it ends too early or a value is out of range.
#[derive(Debug)]
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.chunk().map(u128::from_le_bytes)
    }

    pub(super) fn configuration(&mut self) -> Option<Configuration> {
        let mut members = || {
            let count = usize::try_from(self.u64()?).ok().filter(|count| *count <= MAX_MEMBERS)?;
            (0..count).map(|_| self.u64()).collect::<Option<Vec<u64>>>()
        };
        Some(Configuration { voters: members()?, learners: members()? })
    }

    /// What is left, taken as a whole.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// `Some` if nothing is left.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
