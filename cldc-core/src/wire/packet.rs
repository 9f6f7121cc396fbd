//! One datagram: header, piece of a message, and footer with its number and HMAC-SHA1 (protocol.md 1).

use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};

use super::ack::Ack;
use super::codes::Op;
use super::limits::{FOOTER, MAC, MAX_USER_FIELD};
use super::xdr::{self, Full, Malformed, Parsed, Writer};

/// `CLDc1pkt`, as a little-endian machine writes it: the form that interoperates (protocol.md 1.1).
pub const MAGIC: u64 = 0x746b_7031_6344_4c43;

/// Which part of its message a packet carries. Only the first part says which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The whole message.
    Only {
        /// Names the message.
        xid: u64,
        /// What the message asks or tells.
        op: Op,
    },
    /// The first of several pieces.
    First {
        /// Names the message.
        xid: u64,
        /// What the message asks or tells.
        op: Op,
    },
    /// Neither the first piece nor the last.
    Middle,
    /// The last of several pieces.
    Last,
}

impl Part {
    /// Whether a message begins here.
    #[must_use]
    pub const fn is_first(self) -> bool {
        matches!(self, Self::Only { .. } | Self::First { .. })
    }

    /// Whether a message ends here.
    #[must_use]
    pub const fn is_last(self) -> bool {
        matches!(self, Self::Only { .. } | Self::Last)
    }

    /// The operation, if the packet names it.
    #[must_use]
    pub const fn op(self) -> Option<Op> {
        match self {
            Self::Only { op, .. } | Self::First { op, .. } => Some(op),
            Self::Middle | Self::Last => None,
        }
    }

    fn parse(order: u32, input: &[u8]) -> Parsed<'_, Self> {
        match order {
            0 => return Ok((input, Self::Middle)),
            2 => return Ok((input, Self::Last)),
            1 | 3 => {}
            _ => return xdr::fail(Malformed::Order),
        }
        let (input, xid) = xdr::u64(input)?;
        let (input, op) = xdr::i32(input)?;
        let op = Op::from_wire(op);
        Ok((input, if order == 3 { Self::Only { xid, op } } else { Self::First { xid, op } }))
    }

    fn emit(self, flags: u32, out: &mut Writer<'_>) -> Result<(), Full> {
        let (order, start) = match self {
            Self::Middle => (0, None),
            Self::First { xid, op } => (1, Some((xid, op))),
            Self::Last => (2, None),
            Self::Only { xid, op } => (3, Some((xid, op))),
        };
        out.u32(order | flags)?;
        if let Some((xid, op)) = start {
            out.u64(xid)?;
            out.i32(op.to_wire())?;
        }
        Ok(())
    }
}

/// What a packet of an extended session carries beside its message (docs/protocol.md 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rider {
    /// What the sender has of the other stream.
    pub ack: Ack,
    /// The packet is not one of its sender's stream: its number is not taken from it.
    pub loose: bool,
}

impl Rider {
    /// In the order field: an [`Ack`] follows the header.
    const ACK: u32 = 0x100;
    /// In the order field: the packet is loose.
    const LOOSE: u32 = 0x200;

    const fn flags(self) -> u32 {
        if self.loose { Self::ACK | Self::LOOSE } else { Self::ACK }
    }

    fn parse(flags: u32, input: &[u8]) -> Parsed<'_, Option<Self>> {
        const LOOSE: u32 = Rider::ACK | Rider::LOOSE;
        let loose = match flags {
            0 => return Ok((input, None)),
            Self::ACK => false,
            LOOSE => true,
            _ => return xdr::fail(Malformed::Order),
        };
        let (input, ack) = Ack::parse(input)?;
        Ok((input, Some(Self { ack, loose })))
    }
}

/// The length of a block of SHA-1.
const BLOCK: usize = 64;

/// A secret key, ready to sign and verify.
#[derive(Clone)]
pub struct Key(Hmac<Sha1>);

/// An empty key can neither sign nor verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError;

/// The HMAC of a packet is not the one that the key gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

impl Key {
    /// The key made of these bytes.
    ///
    /// # Errors
    /// [`KeyError`] if there are none.
    pub fn new(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.is_empty() {
            return Err(KeyError);
        }
        // As HMAC has it (RFC 2104, section 2), and as the crate does it too, but here without a branch that panics, at
        // whatever optimisation.
        let mut block = [0; BLOCK];
        let digest: [u8; MAC];
        let short = if secret.len() > BLOCK {
            digest = Sha1::digest(secret).into();
            &digest
        } else {
            secret
        };
        for (to, from) in block.iter_mut().zip(short) {
            *to = *from;
        }
        Hmac::new_from_slice(&block).map(Self).map_err(|_| KeyError)
    }

    /// A number that belongs to these bytes, and that nobody without the key can tell from a random one.
    #[must_use]
    pub fn derive(&self, bytes: &[u8]) -> u64 {
        let mac = self.sign(bytes);
        mac.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    fn sign(&self, bytes: &[u8]) -> [u8; MAC] {
        self.over(bytes).finalize().into_bytes().into()
    }

    /// Whether the HMAC of these bytes begins with `mac`, in a time that does not tell where they differ.
    fn verify(&self, bytes: &[u8], mac: &[u8]) -> Result<(), Forged> {
        self.over(bytes).verify_truncated_left(mac).map_err(|_| Forged)
    }

    /// One copy of this is enough: the core shall be small.
    #[inline(never)]
    fn over(&self, bytes: &[u8]) -> Hmac<Sha1> {
        let mut mac = self.0.clone();
        mac.update(bytes);
        mac
    }
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// A packet as it was received: nothing in it is proved before [`Packet::verify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The session, a number that its client chose.
    pub sid: u64,
    /// The name of the user whose key signs.
    pub user: &'a [u8],
    /// Which part of its message this is.
    pub part: Part,
    /// The piece of the message.
    pub piece: &'a [u8],
    /// The packet's number in its stream; of an ACK, the number acknowledged.
    pub number: u64,
    /// What packets of extended sessions carry beside.
    pub rider: Option<Rider>,
    datagram: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes a datagram apart.
    ///
    /// # Errors
    /// What is wrong with it; such a datagram can only be dropped.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let signed = datagram.len().checked_sub(FOOTER).ok_or(Malformed::Truncated)?;
        let (body, footer) = datagram.split_at_checked(signed).ok_or(Malformed::Truncated)?;
        let (piece, (sid, user, part, rider)) = match header(body) {
            Ok(parsed) => parsed,
            Err(error) => return xdr::finish(Err(error)),
        };
        let number = little_endian(footer, 0)?;
        Ok(Self { sid, user, part, piece, number, rider, datagram })
    }

    /// The length of the datagram, in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.datagram.len()
    }

    /// Checks the HMAC, in constant time.
    ///
    /// # Errors
    /// [`Forged`] if this key did not sign this packet.
    pub fn verify(&self, key: &Key) -> Result<(), Forged> {
        let (signed, mac) = self.datagram.split_last_chunk::<MAC>().ok_or(Forged)?;
        key.verify(signed, mac)
    }

    /// Checks the shifted footer of Hail's one-shot packets, whose number stands eight bytes late and whose HMAC is
    /// cut to twelve bytes (protocol.md 1.3); gives the number.
    ///
    /// # Errors
    /// [`Forged`] if this key did not sign this packet in that way.
    pub fn verify_shifted(&self, key: &Key) -> Result<u64, Forged> {
        const CUT: usize = 12;
        let (rest, mac) = self.datagram.split_last_chunk::<CUT>().ok_or(Forged)?;
        let (signed, number) = rest.split_last_chunk::<8>().ok_or(Forged)?;
        key.verify(signed, mac)?;
        Ok(u64::from_le_bytes(*number))
    }
}

fn header(input: &[u8]) -> Parsed<'_, (u64, &[u8], Part, Option<Rider>)> {
    let (input, magic) = xdr::u64(input)?;
    if magic != MAGIC {
        return xdr::fail(Malformed::Magic);
    }
    let (input, sid) = xdr::u64(input)?;
    let (input, user) = xdr::opaque(MAX_USER_FIELD)(input)?;
    let (input, order) = xdr::u32(input)?;
    let (input, part) = Part::parse(order & 0xff, input)?;
    let (input, rider) = Rider::parse(order & !0xff, input)?;
    Ok((input, (sid, user, part, rider)))
}

fn little_endian(bytes: &[u8], at: usize) -> Result<u64, Malformed> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or(Malformed::Truncated)?;
    Ok(u64::from_le_bytes(*bytes))
}

/// What goes around the pieces of a session's messages: the same session, user and key in every packet.
#[derive(Clone, Copy, Debug)]
pub struct Seal<'a> {
    /// The session.
    pub sid: u64,
    /// The user whose key signs.
    pub user: &'a [u8],
    /// The key.
    pub key: &'a Key,
}

impl Seal<'_> {
    /// Writes a packet into `buffer` and gives its length. [`MAX_PACKET`](super::limits::MAX_PACKET) bytes are
    /// room enough for a piece of [`PIECE`](super::limits::PIECE) bytes.
    ///
    /// # Errors
    /// [`Full`] if the buffer is too small.
    pub fn emit(&self, part: Part, number: u64, piece: &[u8], buffer: &mut [u8]) -> Result<usize, Full> {
        self.emit_with(None, part, number, piece, buffer)
    }

    /// Writes a packet as [`Seal::emit`] does; of an extended session, with its rider.
    ///
    /// # Errors
    /// [`Full`] if the buffer is too small.
    pub fn emit_with(
        &self,
        rider: Option<Rider>,
        part: Part,
        number: u64,
        piece: &[u8],
        buffer: &mut [u8],
    ) -> Result<usize, Full> {
        let mut out = Writer::new(buffer);
        self.emit_header(rider.map_or(0, Rider::flags), part, &mut out)?;
        if let Some(rider) = rider {
            rider.ack.emit(&mut out)?;
        }
        out.raw(piece)?;
        out.raw(&number.to_le_bytes())?;
        let mac = self.key.sign(out.written());
        out.raw(&mac)?;
        Ok(out.len())
    }

    /// Writes a packet with the shifted footer of Hail's server; `junk` stands for its eight bytes of stack
    /// (protocol.md 1.3). Only tests and captures need it.
    ///
    /// # Errors
    /// [`Full`] if the buffer is too small.
    pub fn emit_shifted(
        &self,
        part: Part,
        number: u64,
        piece: &[u8],
        junk: [u8; 8],
        buffer: &mut [u8],
    ) -> Result<usize, Full> {
        let mut out = Writer::new(buffer);
        self.emit_header(0, part, &mut out)?;
        out.raw(piece)?;
        out.raw(&junk)?;
        let mac = self.key.sign(out.written());
        out.raw(&number.to_le_bytes())?;
        out.raw(mac.first_chunk::<12>().ok_or(Full)?)?;
        Ok(out.len())
    }

    fn emit_header(&self, flags: u32, part: Part, out: &mut Writer<'_>) -> Result<(), Full> {
        if self.user.len() > MAX_USER_FIELD {
            return Err(Full);
        }
        out.u64(MAGIC)?;
        out.u64(self.sid)?;
        out.opaque(self.user)?;
        part.emit(flags, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_sign_as_hmac_has_it() {
        let secret: [u8; 200] = core::array::from_fn(|at| at as u8);
        for len in [1, 19, 20, 63, 64, 65, 127, 200] {
            let secret = &secret[..len];
            let expected: [u8; MAC] = Hmac::<Sha1>::new_from_slice(secret)
                .unwrap()
                .chain_update(b"datagram")
                .finalize()
                .into_bytes()
                .into();
            let key = Key::new(secret).unwrap();
            assert_eq!(key.sign(b"datagram"), expected, "{len}");
            assert_eq!(key.verify(b"datagram", &expected), Ok(()));
            assert_eq!(key.verify(b"datagran", &expected), Err(Forged));
        }
        assert!(Key::new(b"").is_err());
    }
}
