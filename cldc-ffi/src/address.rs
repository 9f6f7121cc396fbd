//! The addresses of C, which are bytes to the core's user, and socket addresses to the core.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::types::Errno;

/// Longest address: `CLDC_ADDR_MAX`.
pub(crate) const MAX: usize = 64;

/// `CLDC_AF_INET` and `CLDC_AF_INET6`.
const INET: u16 = 2;
const INET6: u16 = 10;

/// Stands for the one address that is not understood. Nobody has it: it lies in the block that is for discarding
/// (RFC 6666).
const OPAQUE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0x0c1d)), 0);

/// An address as C has it.
pub(crate) type Bytes = heapless::Vec<u8, MAX>;

/// The addresses of one session.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// The first server's, if it is not understood.
    opaque: Bytes,
}

impl Addresses {
    /// Those of a session whose first server has this address; gives it as the core knows it.
    ///
    /// # Errors
    /// [`Errno::Inval`] if there is none, or it is too long.
    pub(crate) fn new(first: &[u8]) -> Result<(Self, SocketAddr), Errno> {
        if first.is_empty() {
            return Err(Errno::Inval);
        }
        let opaque = Bytes::from_slice(first).map_err(|_| Errno::Inval)?;
        Ok(match understood(first) {
            Some(address) => (Self { opaque: Bytes::new() }, address),
            None => (Self { opaque }, OPAQUE),
        })
    }

    /// The address as the core knows it, if it can.
    pub(crate) fn to_core(&self, bytes: &[u8]) -> Option<SocketAddr> {
        if !bytes.is_empty() && bytes == self.opaque.as_slice() {
            return Some(OPAQUE);
        }
        understood(bytes)
    }

    /// The address as C knows it.
    pub(crate) fn to_c(&self, address: SocketAddr) -> Bytes {
        if address == OPAQUE { self.opaque.clone() } else { emit(address) }
    }
}

/// Reads a `struct cldc_addr_in` or `struct cldc_addr_in6`.
pub(crate) fn understood(bytes: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match u16::from_ne_bytes(*family) {
        INET => {
            let (ip, zero) = rest.split_first_chunk::<4>()?;
            (zero.len() == 8).then(|| SocketAddrV4::new(Ipv4Addr::from(*ip), port).into())
        }
        INET6 => {
            let (flow, rest) = rest.split_first_chunk::<4>()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let (scope, rest) = rest.split_first_chunk::<4>()?;
            let (flow, scope) = (u32::from_ne_bytes(*flow), u32::from_ne_bytes(*scope));
            rest.is_empty().then(|| SocketAddrV6::new(Ipv6Addr::from(*ip), port, flow, scope).into())
        }
        _ => None,
    }
}

/// Writes a `struct cldc_addr_in` or `struct cldc_addr_in6`.
pub(crate) fn emit(address: SocketAddr) -> Bytes {
    let mut bytes = Bytes::new();
    let mut add = |part: &[u8]| {
        // There is room: the longest has 28 bytes.
        let _ = bytes.extend_from_slice(part);
    };
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(v4) => {
            add(&INET.to_ne_bytes());
            add(&port);
            add(&v4.ip().octets());
            add(&[0; 8]);
        }
        SocketAddr::V6(v6) => {
            add(&INET6.to_ne_bytes());
            add(&port);
            add(&v6.flowinfo().to_ne_bytes());
            add(&v6.ip().octets());
            add(&v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internet_addresses_are_understood_and_written_as_they_were() {
        for text in ["127.0.0.1:8081", "[2001:db8::1]:1", "255.255.255.255:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(understood(&emit(address)), Some(address), "{text}");
        }
        let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 7, 3, 2).into();
        assert_eq!(understood(&emit(scoped)), Some(scoped));
        assert_eq!(emit("1.2.3.4:258".parse().unwrap())[2..8], [1, 2, 1, 2, 3, 4]);
    }

    #[test]
    fn any_other_first_address_stands_for_itself() {
        for first in [&b"ttyS0"[..], &[7], &[2, 0, 0], &[0xff; 64]] {
            let (addresses, known) = Addresses::new(first).unwrap();
            assert_eq!(known, OPAQUE);
            assert_eq!(addresses.to_core(first), Some(OPAQUE));
            assert_eq!(addresses.to_core(b"ttyS1"), None);
            assert_eq!(addresses.to_c(known), first);
        }
        assert!(Addresses::new(b"").is_err());
        assert!(Addresses::new(&[1; 65]).is_err());
    }

    #[test]
    fn nothing_stands_for_the_first_address_if_that_is_understood() {
        let (addresses, known) = Addresses::new(&emit("1.2.3.4:5".parse().unwrap())).unwrap();
        assert_eq!(known, "1.2.3.4:5".parse().unwrap());
        assert_eq!(addresses.to_core(b""), None);
    }
}
