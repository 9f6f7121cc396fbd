//! What the messages of extended sessions say beside the plain ones (docs/protocol.md 7).

use std::net::{IpAddr, SocketAddr};

use super::super::Malformed;
use super::super::codes::{event, lock};
use super::super::xdr::{Reader, put_opaque};

const MAGIC: u32 = u32::from_be_bytes(*b"CLDX");
const PATH_LIMIT: usize = 256;
const ADDRESSES: u32 = 5;

/// What a client asks for in NEW_SESS and RESUME (7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of docs/protocol.md 7.1")]
pub struct Hello {
    pub version: u32,
    pub features: u32,
    pub lease: u32,
    pub window: u32,
    pub max_message: u32,
}

/// A lease of 30 s, and all else that there is.
pub const HELLO: Hello = Hello { version: 1, features: 1, lease: 30_000, window: 64, max_message: 196_608 };

impl Hello {
    /// The body, without the zeros that fill the packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let fields = [MAGIC, self.version, self.features, self.lease, self.window, self.max_message];
        fields.map(u32::to_be_bytes).concat()
    }
}

/// What the server grants (7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of docs/protocol.md 7.1")]
pub struct Welcome {
    pub version: u32,
    pub features: u32,
    pub epoch: u64,
    pub lease: u32,
    pub grace: u32,
    pub window: u32,
    pub max_message: u32,
    pub requests: u32,
    pub servers: Vec<SocketAddr>,
}

impl Welcome {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            version: reader.u32()?,
            features: reader.u32()?,
            epoch: reader.u64()?,
            lease: reader.u32()?,
            grace: reader.u32()?,
            window: reader.u32()?,
            max_message: reader.u32()?,
            requests: reader.u32()?,
            servers: read_addresses(reader)?,
        })
    }
}

/// Family and port are two bytes each, in one integer of XDR.
pub(super) fn read_addresses(reader: &mut Reader<'_>) -> Result<Vec<SocketAddr>, Malformed> {
    let count = reader.u32()?;
    if count > ADDRESSES {
        return Err(Malformed::TooLong { length: count as usize, limit: ADDRESSES as usize });
    }
    let mut addresses = Vec::new();
    for _ in 0..count {
        let kind = reader.u32()?;
        let ip: IpAddr = match kind >> 16 {
            4 => reader.u32()?.to_be_bytes().into(),
            6 => ((u128::from(reader.u64()?) << 64) | u128::from(reader.u64()?)).to_be_bytes().into(),
            family => return Err(Malformed::Order(family)),
        };
        addresses.push(SocketAddr::new(ip, kind as u16));
    }
    Ok(addresses)
}

/// One grant of a lock, as its holder shows it to others (7.6).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of docs/protocol.md 7.6")]
pub struct Sequencer {
    pub inode: u64,
    pub generation: u64,
    /// [`lock::EXCLUSIVE`] or [`lock::SHARED`].
    pub mode: u32,
    pub path: Vec<u8>,
}

impl Sequencer {
    /// The body of CHECK_SEQUENCER, and the beginning of others.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.inode.to_be_bytes());
        out.extend(self.generation.to_be_bytes());
        out.extend(self.mode.to_be_bytes());
        put_opaque(&mut out, &self.path);
        out
    }

    /// # Errors
    /// The bytes are no sequencer.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (inode, generation, mode) = (reader.u64()?, reader.u64()?, reader.u32()?);
        if mode != lock::EXCLUSIVE && mode != lock::SHARED {
            return Err(Malformed::Order(mode));
        }
        Ok(Self { inode, generation, mode, path: reader.opaque(PATH_LIMIT)? })
    }
}

/// An EVENT (7.7).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of docs/protocol.md 7.7")]
pub struct Event {
    pub fh: u64,
    pub events: u32,
    pub serial: u64,
    pub version: u64,
    pub granted: Option<Sequencer>,
}

impl Event {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (fh, events) = (reader.u64()?, reader.u32()?);
        let (serial, version) = (reader.u64()?, reader.u64()?);
        // A client without feature 1 is told of none.
        let told = events & event::LOCKED != 0 && !reader.0.is_empty();
        let granted = if told { Some(Sequencer::read(reader)?) } else { None };
        Ok(Self { fh, events, serial, version, granted })
    }
}

/// A handle that outlived a resumption (7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    /// The handle.
    pub fh: u64,
    /// 0: it has no lock, 1: it waits for one, 2: it holds one.
    pub lock: u32,
}

impl Stands {
    pub(super) fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, Malformed> {
        let count = reader.u32()?;
        let mut handles = Vec::new();
        for _ in 0..count {
            handles.push(Self { fh: reader.u64()?, lock: reader.u32()? });
        }
        Ok(handles)
    }
}

/// NOT_MASTER (7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Master {
    /// Of the server that says so.
    pub epoch: u64,
    /// Where the master is, if that is known.
    pub address: Option<SocketAddr>,
}

impl Master {
    /// The body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.epoch.to_be_bytes().to_vec();
        out.extend(u32::from(self.address.is_some()).to_be_bytes());
        if let Some(address) = self.address {
            let (family, ip) = match address.ip() {
                IpAddr::V4(ip) => (4, ip.octets().to_vec()),
                IpAddr::V6(ip) => (6, ip.octets().to_vec()),
            };
            out.extend(((family << 16) | u32::from(address.port())).to_be_bytes());
            out.extend(ip);
        }
        out
    }

    /// Reads the body.
    ///
    /// # Errors
    /// The bytes are no such body.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(body);
        let epoch = reader.u64()?;
        Ok(Self { epoch, address: read_addresses(&mut reader)?.first().copied() })
    }
}
