//! The stored form of small records: little-endian fields (the configuration as it also goes to other servers), sealed with a CRC32C that also covers the record's key, so
//! that a record found under another's key is as bad as a torn one.

use super::configuration::Configuration;
use crate::codec::{Reader, Writer};

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
        let mut out = Writer::new();
        configuration.write(&mut out);
        self.0.extend_from_slice(out.as_slice());
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
        let mut input = Reader::new(self.0);
        let configuration = Configuration::read(&mut input).ok()?;
        self.0 = self.0.get(self.0.len() - input.left()..)?;
        Some(configuration)
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
