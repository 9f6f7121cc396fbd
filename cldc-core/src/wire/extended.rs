//! What the messages of extended sessions say beyond Hail's: how a session is negotiated and resumed, sequencers, and
//! what follows the plain part of an answer (docs/protocol.md 7).
//!
//! A peer that does not know a field ignores it, as the protocol ignores bytes after a complete body. So every item
//! here is looked for behind the plain body: if it is not there, or not whole, the peer has not sent it.

use core::net::{IpAddr, SocketAddr};

use nom::Parser;

use super::codes::{Code, EventMask, LockFlags};
use super::limits::{FOOTER, MAX_PATH};
use super::xdr::{self, Full, Malformed, Parsed, Writer, pad};

/// The version of the extensions that this crate speaks.
pub const VERSION: u32 = 1;

/// The length of an extended NEW_SESS and RESUME packet, so that no answer to somebody unproved need be longer.
pub const HELLO_PACKET: usize = 256;

/// How many server addresses are told at most.
pub const MAX_ADDRESSES: usize = 5;

wire_flags! {
    /// What a peer can do, beyond what every peer of its version can.
    Features {
        /// Sequencers: in the answers to LOCK and in LOCKED events, and the operations that take or give one.
        FENCING = 1,
    }
}

impl Features {
    /// All that this crate knows.
    pub const KNOWN: Self = Self::FENCING;

    /// The bits that both have.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// What a client says of itself in NEW_SESS and RESUME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The highest version that it speaks, from 1.
    pub version: u32,
    /// What it can do.
    pub features: Features,
    /// The lease that it would like, in milliseconds.
    pub lease_ms: u32,
    /// How many packets it lets be unacknowledged.
    pub window: u32,
    /// The longest message body that it takes in.
    pub max_message: u32,
}

impl Hello {
    /// `CLDX`: what Hail's clients never send here.
    const MAGIC: u32 = 0x434c_4458;

    /// Reads the body of a NEW_SESS; nothing if the client asks for a plain session.
    #[must_use]
    pub fn of(body: &[u8]) -> Option<Self> {
        xdr::finish(Self::parse(body)).ok()
    }

    pub(super) fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let (input, magic) = xdr::u32(input)?;
        let (rest, (version, features, lease_ms, window, max_message)) =
            (xdr::u32, xdr::u32, xdr::u32, xdr::u32, xdr::u32).parse(input)?;
        if magic != Self::MAGIC || version == 0 {
            return xdr::fail(Malformed::Magic);
        }
        let features = Features(features);
        Ok((rest, Self { version, features, lease_ms, window, max_message }))
    }

    /// Writes it. [`fill`] completes the body.
    ///
    /// # Errors
    /// [`Full`] if the buffer is too small.
    pub fn emit(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.u32(Self::MAGIC)?;
        out.u32(self.version)?;
        out.u32(self.features.0)?;
        out.u32(self.lease_ms)?;
        out.u32(self.window)?;
        out.u32(self.max_message)
    }
}

/// Fills the body of a NEW_SESS or RESUME with zeros until its packet is [`HELLO_PACKET`] bytes long.
///
/// # Errors
/// [`Full`] if the buffer is too small.
pub fn fill(user: &[u8], out: &mut Writer<'_>) -> Result<(), Full> {
    let frame = 36usize.saturating_add(user.len()).saturating_add(pad(user.len())).saturating_add(FOOTER);
    while out.len().saturating_add(frame) < HELLO_PACKET {
        out.raw(&[0])?;
    }
    Ok(())
}

/// Addresses of the cell's servers.
pub type Addresses = heapless::Vec<SocketAddr, MAX_ADDRESSES>;

/// What a server grants: after the result in the answers to NEW_SESS and RESUME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version that the session will speak: not above the client's.
    pub version: u32,
    /// What both can do.
    pub features: Features,
    /// The epoch of the master.
    pub epoch: u64,
    /// The lease granted, in milliseconds.
    pub lease_ms: u32,
    /// How long after its lease the client should go on trying, in milliseconds.
    pub grace_ms: u32,
    /// How many packets the server lets be unacknowledged.
    pub window: u32,
    /// The longest message body that it takes in.
    pub max_message: u32,
    /// How many requests may be unanswered at a time.
    pub requests: u32,
    /// Where the servers of the cell may be reached.
    pub servers: Addresses,
}

impl Welcome {
    /// Reads the answer to a NEW_SESS; nothing if the server speaks plainly.
    #[must_use]
    pub fn of(body: &[u8]) -> Option<Self> {
        xdr::finish(skip_result(body).and_then(|(rest, ())| Self::parse(rest))).ok()
    }

    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let (input, (version, features, epoch)) = (xdr::u32, xdr::u32, xdr::u64).parse(input)?;
        let (input, (lease_ms, grace_ms, window)) = (xdr::u32, xdr::u32, xdr::u32).parse(input)?;
        let (input, (max_message, requests)) = (xdr::u32, xdr::u32).parse(input)?;
        let (input, servers) = addresses(input)?;
        if version == 0 {
            return xdr::fail(Malformed::Magic);
        }
        let features = Features(features);
        let welcome =
            Self { version, features, epoch, lease_ms, grace_ms, window, max_message, requests, servers };
        Ok((input, welcome))
    }

    /// Writes it behind a result.
    ///
    /// # Errors
    /// [`Full`] if the buffer is too small.
    pub fn emit(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.u32(self.version)?;
        out.u32(self.features.0)?;
        out.u64(self.epoch)?;
        out.u32(self.lease_ms)?;
        out.u32(self.grace_ms)?;
        out.u32(self.window)?;
        out.u32(self.max_message)?;
        out.u32(self.requests)?;
        emit_addresses(&self.servers, out)
    }
}

/// What a client asks for with RESUME, behind its [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// What it says of itself.
    pub hello: Hello,
    /// The server's challenge; 0 to ask for one.
    pub cookie: u64,
    /// The xid of the oldest request that is not answered, or of the next one.
    pub oldest: u64,
}

impl Resume {
    pub(super) fn parse(input: &[u8]) -> Parsed<'_, Self> {
        (Hello::parse, xdr::u64, xdr::u64)
            .map(|(hello, cookie, oldest)| Self { hello, cookie, oldest })
            .parse(input)
    }

    pub(super) fn emit(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        self.hello.emit(out)?;
        out.u64(self.cookie)?;
        out.u64(self.oldest)
    }
}

/// The challenge behind a result CHALLENGE in answer to RESUME. Without one, the server asks the client to resume.
#[must_use]
pub fn challenge(body: &[u8]) -> Option<u64> {
    after_result(body, xdr::u64)
}

/// The epoch behind the result in the answer to NOP, and the addresses of the cell's servers, if they are told.
#[must_use]
pub fn alive(body: &[u8]) -> Option<(u64, Addresses)> {
    let (rest, ((), epoch)) = (skip_result, xdr::u64).parse(body).ok()?;
    Some((epoch, xdr::finish(addresses(rest)).unwrap_or_default()))
}

/// What stands of a handle's lock when a session is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Neither held nor waited for.
    Free,
    /// Waits in the lock's queue.
    Waiting,
    /// Held.
    Held,
}

/// A handle that stands when a session is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    /// The handle.
    pub fh: u64,
    /// Its lock.
    pub lock: Standing,
}

impl Stands {
    /// Writes it; a list begins with its length, as four bytes.
    ///
    /// # Errors
    /// [`Full`] if the buffer is too small.
    pub fn emit(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.u64(self.fh)?;
        out.u32(match self.lock {
            Standing::Free => 0,
            Standing::Waiting => 1,
            Standing::Held => 2,
        })
    }

    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let lock = |lock| match lock {
            2 => Standing::Held,
            1 => Standing::Waiting,
            _ => Standing::Free,
        };
        (xdr::u64, xdr::u32).map(|(fh, state)| Self { fh, lock: lock(state) }).parse(input)
    }
}

/// Reads the answer to a RESUME that succeeded: what the server grants, and the handles that stand.
#[must_use]
pub fn resumed(body: &[u8]) -> Option<(Welcome, impl Iterator<Item = Stands> + Clone + '_)> {
    let (rest, ()) = skip_result(body).ok()?;
    let (rest, welcome) = Welcome::parse(rest).ok()?;
    let (rest, count) = xdr::u32(rest).ok()?;
    let bytes = usize::try_from(count).ok()?.checked_mul(12)?;
    let list = rest.get(..bytes)?;
    Some((welcome, list.chunks_exact(12).filter_map(|item| xdr::finish(Stands::parse(item)).ok())))
}

/// Who the master is, in a NOT_MASTER of ours; Hail's has no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Master {
    /// The epoch that the server knows of.
    pub epoch: u64,
    /// The master's address for clients, if it is known.
    pub address: Option<SocketAddr>,
}

impl Master {
    /// Reads the body of a NOT_MASTER, and the addresses of the cell's servers, if they are told.
    #[must_use]
    pub fn of(body: &[u8]) -> Option<(Self, Addresses)> {
        let (rest, epoch) = xdr::u64(body).ok()?;
        let (rest, master) = addresses(rest).ok()?;
        let servers = xdr::finish(addresses(rest)).unwrap_or_default();
        Some((Self { epoch, address: master.first().copied() }, servers))
    }

    /// Writes the body. The addresses of the cell's servers may follow.
    ///
    /// # Errors
    /// [`Full`] if the buffer is too small.
    pub fn emit(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.u64(self.epoch)?;
        emit_addresses(self.address.as_slice(), out)
    }
}

/// Proof that a lock was held: another party can ask whether it still is (Burrows, The Chubby lock service, 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequencer<'a> {
    /// The file's number.
    pub inode: u64,
    /// The generation of its lock.
    pub generation: u64,
    /// Shared or exclusive.
    pub mode: LockFlags,
    /// The file's path.
    pub path: &'a [u8],
}

impl<'a> Sequencer<'a> {
    /// Reads the one behind a result: in the answer to LOCK, TRYLOCK and GET_SEQUENCER.
    #[must_use]
    pub fn of(body: &'a [u8]) -> Option<Self> {
        after_result(body, Self::parse)
    }

    pub(super) fn parse(input: &'a [u8]) -> Parsed<'a, Self> {
        (xdr::u64, xdr::u64, xdr::u32, xdr::opaque(MAX_PATH))
            .map(|(inode, generation, mode, path)| Self { inode, generation, mode: LockFlags(mode), path })
            .parse(input)
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`Full`] if the buffer is too small, or the path is longer than 256 bytes.
    pub fn emit(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        if self.path.len() > MAX_PATH {
            return Err(Full);
        }
        out.u64(self.inode)?;
        out.u64(self.generation)?;
        out.u32(self.mode.0)?;
        out.opaque(self.path)
    }
}

/// What an EVENT says beside the handle and what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventDetail<'a> {
    /// The number of the event among those of its handle; it rises. One that does not was told before.
    pub serial: u64,
    /// The version of the file when it happened.
    pub version: u64,
    /// With LOCKED: the lock that was granted.
    pub sequencer: Option<Sequencer<'a>>,
}

impl<'a> EventDetail<'a> {
    /// Reads it from the body of an EVENT.
    #[must_use]
    pub fn of(body: &'a [u8]) -> Option<Self> {
        let parsed = (xdr::u64, xdr::u32, xdr::u64, xdr::u64).parse(body);
        let (rest, (_, events, serial, version)) = parsed.ok()?;
        let locked = EventMask(events).contains(EventMask::LOCKED);
        let sequencer = if locked { xdr::finish(Sequencer::parse(rest)).ok() } else { None };
        Some(Self { serial, version, sequencer })
    }

    /// Writes it behind the plain body of an EVENT.
    ///
    /// # Errors
    /// [`Full`] if the buffer is too small.
    pub fn emit(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.u64(self.serial)?;
        out.u64(self.version)?;
        match &self.sequencer {
            Some(sequencer) => sequencer.emit(out),
            None => Ok(()),
        }
    }
}

fn skip_result(body: &[u8]) -> Parsed<'_, ()> {
    (xdr::i32.map(Code::from_wire), xdr::u64).map(|_| ()).parse(body)
}

fn after_result<'a, T>(body: &'a [u8], item: impl Fn(&'a [u8]) -> Parsed<'a, T>) -> Option<T> {
    let (rest, ()) = skip_result(body).ok()?;
    xdr::finish(item(rest)).ok()
}

/// A list of addresses: each as its family (4 or 6) and port in one integer, and 4 or 16 bytes. Those that are of
/// another family, or too many, are left out.
fn addresses(input: &[u8]) -> Parsed<'_, Addresses> {
    let (mut input, count) = xdr::u32(input)?;
    let mut list = Addresses::new();
    for _ in 0..count {
        let (rest, kind) = xdr::u32(input)?;
        let (rest, ip) = match kind >> 16 {
            4 => xdr::array::<4>.map(|&bytes| IpAddr::from(bytes)).parse(rest)?,
            6 => xdr::array::<16>.map(|&bytes| IpAddr::from(bytes)).parse(rest)?,
            // How long it is, nobody knows, nor what follows.
            _ => return Ok((&[], list)),
        };
        if let Ok(port) = u16::try_from(kind & 0xffff) {
            let _ = list.push(SocketAddr::new(ip, port));
        }
        input = rest;
    }
    Ok((input, list))
}

/// Writes a list of addresses.
///
/// # Errors
/// [`Full`] if the buffer is too small.
pub fn emit_addresses(list: &[SocketAddr], out: &mut Writer<'_>) -> Result<(), Full> {
    out.u32(u32::try_from(list.len()).map_err(|_| Full)?)?;
    for address in list {
        let port = u32::from(address.port());
        match address.ip() {
            IpAddr::V4(ip) => {
                out.u32(0x0004_0000 | port)?;
                out.raw(&ip.octets())?;
            }
            IpAddr::V6(ip) => {
                out.u32(0x0006_0000 | port)?;
                out.raw(&ip.octets())?;
            }
        }
    }
    Ok(())
}
