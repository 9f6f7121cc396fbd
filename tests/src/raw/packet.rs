//! One datagram: header, a piece of a message, footer (protocol.md 1).

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::xdr::{Reader, put_opaque};

/// The most bytes of a message that a sender puts into one packet.
pub const PIECE: usize = 1024;
/// The footer's length: number and HMAC.
pub const FOOTER: usize = 28;

const MAGIC: u64 = 0x746b_7031_6344_4c43;
const HMAC: usize = 20;
const USER_LIMIT: usize = 32;

/// Why bytes are no packet or no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes end before the item does.
    Short,
    /// A count exceeds what its field may hold.
    TooLong {
        /// The count.
        length: usize,
        /// The most that it may be.
        limit: usize,
    },
    /// Not the protocol's first eight bytes.
    Magic(u64),
    /// Not 0..=3.
    Order(u32),
    /// An op that the sender may not use here.
    Op(i32),
    /// So many bytes are left behind the message.
    Trailing(usize),
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => write!(f, "the bytes end too early"),
            Self::TooLong { length, limit } => {
                write!(f, "a field of {length} bytes where {limit} are allowed")
            }
            Self::Magic(magic) => write!(f, "the magic is {magic:016x}"),
            Self::Order(order) => write!(f, "the order is {order}, not 0..3"),
            Self::Op(op) => write!(f, "no message of op {op}"),
            Self::Trailing(count) => write!(f, "{count} bytes behind the message"),
        }
    }
}

impl std::error::Error for Malformed {}

/// What only the first packet of a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The message's identifier.
    pub xid: u64,
    /// Its operation.
    pub op: i32,
}

/// One packet in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The session.
    pub sid: u64,
    /// The user's name.
    pub user: Vec<u8>,
    /// Present in the first packet of a message.
    pub head: Option<Head>,
    /// Whether the message ends with this packet.
    pub last: bool,
    /// A piece of the message.
    pub body: Vec<u8>,
    /// The sequence number in the footer.
    pub number: u64,
}

/// What a packet of an extended session carries besides (docs/protocol.md 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rider {
    /// The lowest number of the other direction that has not come.
    pub next: u64,
    /// Bit i: the packet `next` + 1 + i has come.
    pub held: u64,
    /// Whether the packet's own number is outside the stream.
    pub loose: bool,
}

/// The order field's flag of a packet that carries an acknowledgement.
const RIDING: u32 = 0x100;
/// The flag, beside [`RIDING`], of a loose packet.
const LOOSE: u32 = 0x200;

/// How a datagram is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Footer {
    /// As protocol.md 1.2 says.
    Standard,
    /// Written 8 bytes too late, behind these 8 bytes of junk (1.3).
    Shifted([u8; 8]),
    /// The HMAC is not that of the key.
    Bad,
}

/// HMAC-SHA1 of `data`.
#[must_use]
pub fn sign(key: &[u8], data: &[u8]) -> [u8; HMAC] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

impl Packet {
    /// The datagram, signed with `key`.
    #[must_use]
    pub fn encode(&self, key: &[u8]) -> Vec<u8> {
        self.encode_with(None, key)
    }

    /// The datagram of an extended session, signed with `key`.
    #[must_use]
    pub fn encode_with(&self, rider: Option<Rider>, key: &[u8]) -> Vec<u8> {
        let mut out = self.unsigned(rider);
        out.extend(self.number.to_le_bytes());
        let hmac = sign(key, &out);
        out.extend(hmac);
        out
    }

    /// The datagram as Hail's server wrongly signs its one-shot packets (1.3).
    #[must_use]
    pub fn encode_shifted(&self, key: &[u8], junk: [u8; 8]) -> Vec<u8> {
        let mut out = self.unsigned(None);
        out.extend(junk);
        let hmac = sign(key, &out);
        out.extend(self.number.to_le_bytes());
        out.extend(hmac.iter().take(HMAC - 8));
        out
    }

    /// Header and message bytes.
    fn unsigned(&self, rider: Option<Rider>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 100);
        out.extend(MAGIC.to_be_bytes());
        out.extend(self.sid.to_be_bytes());
        put_opaque(&mut out, &self.user);
        let order = u32::from(self.head.is_some()) | (u32::from(self.last) << 1);
        let flags = rider.map_or(0, |rider| if rider.loose { RIDING | LOOSE } else { RIDING });
        out.extend((order | flags).to_be_bytes());
        if let Some(head) = self.head {
            out.extend(head.xid.to_be_bytes());
            out.extend(head.op.to_be_bytes());
        }
        if let Some(rider) = rider {
            out.extend(rider.next.to_be_bytes());
            out.extend(rider.held.to_be_bytes());
        }
        out.extend(&self.body);
        out
    }

    /// Takes a datagram apart without looking at its HMAC; the number is taken from a standard footer's place.
    ///
    /// # Errors
    /// The datagram is shorter than its parts, or not of this protocol.
    pub fn decode(datagram: &[u8]) -> Result<Self, Malformed> {
        match Self::decode_with(datagram)? {
            (packet, None) => Ok(packet),
            (_, Some(_)) => Err(Malformed::Order(RIDING)),
        }
    }

    /// As [`Packet::decode`], for either kind of session.
    fn decode_with(datagram: &[u8]) -> Result<(Self, Option<Rider>), Malformed> {
        let length = datagram.len().checked_sub(FOOTER).ok_or(Malformed::Short)?;
        let (front, footer) = datagram.split_at_checked(length).ok_or(Malformed::Short)?;
        let mut reader = Reader(front);
        let magic = reader.u64()?;
        if magic != MAGIC {
            return Err(Malformed::Magic(magic));
        }
        let sid = reader.u64()?;
        let user = reader.opaque(USER_LIMIT)?;
        let order = reader.u32()?;
        let flags = order & !3;
        let head = if order & 1 == 1 { Some(Head { xid: reader.u64()?, op: reader.i32()? }) } else { None };
        let mut rider = |loose| Ok(Some(Rider { next: reader.u64()?, held: reader.u64()?, loose }));
        let rider = match flags {
            0 => None,
            RIDING => rider(false)?,
            flags if flags == RIDING | LOOSE => rider(true)?,
            _ => return Err(Malformed::Order(order)),
        };
        let number = *footer.first_chunk::<8>().ok_or(Malformed::Short)?;
        let packet = Self {
            sid,
            user,
            head,
            last: order & 2 == 2,
            body: reader.0.to_vec(),
            number: u64::from_le_bytes(number),
        };
        Ok((packet, rider))
    }

    /// Takes a datagram apart and says how it is signed. The number is read where the footer has it.
    ///
    /// # Errors
    /// As [`Packet::decode`].
    pub fn open(datagram: &[u8], key: &[u8]) -> Result<(Self, Footer), Malformed> {
        let mut packet = Self::decode(datagram)?;
        if Self::is_signed(datagram, key) {
            return Ok((packet, Footer::Standard));
        }
        let (signed, hmac) = datagram.split_at(datagram.len() - HMAC);
        // The shifted form: 8 bytes of junk that are signed, the number that is not, 12 bytes of the HMAC.
        let (number, short) = hmac.split_at(8);
        if sign(key, signed).starts_with(short) {
            let junk = packet.number.to_le_bytes();
            packet.number = u64::from_le_bytes(number.try_into().map_err(|_| Malformed::Short)?);
            return Ok((packet, Footer::Shifted(junk)));
        }
        Ok((packet, Footer::Bad))
    }

    /// Takes a datagram of either kind of session apart, if it is properly signed.
    ///
    /// # Errors
    /// As [`Packet::decode`]; none in the result if the HMAC is not that of the key.
    pub fn open_with(datagram: &[u8], key: &[u8]) -> Result<Option<(Self, Option<Rider>)>, Malformed> {
        let parts = Self::decode_with(datagram)?;
        Ok(Self::is_signed(datagram, key).then_some(parts))
    }

    fn is_signed(datagram: &[u8], key: &[u8]) -> bool {
        datagram.split_last_chunk().is_some_and(|(signed, hmac)| sign(key, signed) == *hmac)
    }
}

impl std::fmt::Display for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let order = match (self.head, self.last) {
            (Some(_), true) => "",
            (Some(_), false) => "first of ",
            (None, false) => "middle",
            (None, true) => "last",
        };
        write!(f, "{order}")?;
        if let Some(head) = self.head {
            write!(f, "{} xid {:x}", super::codes::op::name(head.op), head.xid)?;
        }
        write!(f, ", number {:x}, {} bytes", self.number, self.body.len())
    }
}
