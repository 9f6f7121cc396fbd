//! The UDP sockets that clients talk to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::task::Poll;

use cldc_core::time::{Duration, Instant};
use rustix::net::{RecvFlags, recvfrom, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use thiserror::Error;
use tokio::net::UdpSocket;
use tracing::{debug, warn};

use crate::config::Port;
use crate::endpoint::SocketId;

/// What is asked of the kernel for each direction of each socket, in bytes: 30 of the longest messages at once. A reply
/// of 128 KiB alone overflows the kernel's default.
const BUFFER: usize = 4 << 20;

/// How often a port is drawn until it is free on all addresses.
const DRAWS: usize = 32;

/// How long a socket is left alone after an error that may last.
const PAUSE: Duration = Duration::from_millis(100);

/// All sockets of the server, on one port.
#[derive(Debug)]
pub(super) struct Sockets {
    listeners: Vec<Listener>,
    port: u16,
    /// Datagrams that the kernel did not take.
    pub(super) unsent: u64,
}

#[derive(Debug)]
struct Listener {
    socket: UdpSocket,
    /// Serves IPv4 too, by addresses mapped into IPv6.
    dual_stack: bool,
    /// Not to be read before this time.
    paused_until: Option<Instant>,
}

/// What [`Sockets::receive`] found.
#[derive(Debug)]
pub(super) enum Received {
    /// A datagram of this length, from this address.
    Datagram(SocketAddr, usize),
    /// Something that is gone now, such as a peer's notice that it does not listen.
    Nothing,
    /// The socket is empty.
    Empty,
}

impl Sockets {
    /// Binds these addresses, or the wildcard address if there are none: one IPv6 socket that serves IPv4 too where that
    /// is possible, otherwise IPv4 alone. Within a tokio runtime only.
    pub(super) fn bind(addresses: &[IpAddr], port: Port) -> Result<Self, BindError> {
        let bound = match port {
            Port::Number(number) => bind_all(addresses, number.get()),
            Port::Auto => bind_any(addresses),
        };
        let listeners = bound?
            .into_iter()
            .map(|(socket, dual_stack)| {
                let socket = UdpSocket::from_std(socket)?;
                Ok(Listener { socket, dual_stack, paused_until: None })
            })
            .collect::<io::Result<Vec<_>>>()
            .map_err(BindError::Socket)?;
        let port = listeners.first().map_or(Ok(0), |first| Ok(first.socket.local_addr()?.port()));
        Ok(Self { listeners, port: port.map_err(BindError::Socket)?, unsent: 0 })
    }

    /// The port that all of them listen on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The addresses, for the log.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect()
    }

    /// Every socket, with each address that it serves: one that serves IPv6 and IPv4 comes twice.
    pub(super) fn served(&self) -> Vec<(SocketId, SocketAddr)> {
        let mut served = Vec::new();
        for (id, listener) in self.ids().zip(&self.listeners) {
            let Ok(address) = listener.socket.local_addr() else { continue };
            served.push((id, address));
            if listener.dual_stack {
                served.push((id, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port())));
            }
        }
        served
    }

    /// The sockets' numbers.
    pub(super) fn ids(&self) -> impl Iterator<Item = SocketId> + use<> {
        (0..u16::try_from(self.listeners.len()).unwrap_or(u16::MAX)).map(SocketId)
    }

    /// Waits until one of them may have something.
    pub(super) async fn readable(&self) {
        std::future::poll_fn(|context| {
            let mut ready = Poll::Pending;
            for listener in self.listeners.iter().filter(|listener| listener.paused_until.is_none()) {
                // All are asked, so that each will wake this task.
                if listener.socket.poll_recv_ready(context).is_ready() {
                    ready = Poll::Ready(());
                }
            }
            ready
        })
        .await;
    }

    /// Takes one datagram, without waiting. With `ask_kernel`, also one that tokio has not been told of: after a stop of
    /// the process its event loop is woken without word of what has come meanwhile.
    pub(super) fn receive(
        &mut self,
        id: SocketId,
        now: Instant,
        ask_kernel: bool,
        buffer: &mut [u8],
    ) -> Received {
        let Some(listener) = self.listeners.get_mut(usize::from(id.0)) else {
            return Received::Empty;
        };
        if listener.paused_until.is_some_and(|until| now < until) {
            return Received::Empty;
        }
        listener.paused_until = None;
        let mut received = listener.socket.try_recv_from(buffer);
        if ask_kernel && received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            received = receive_past_tokio(&listener.socket, buffer);
        }
        match received {
            Ok((length, from)) => Received::Datagram(canonical(from), length),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Received::Empty,
                kind if is_transient(kind) => Received::Nothing,
                _ => {
                    warn!("socket {}: {error}; it is read again in {} ms", id.0, PAUSE.as_micros() / 1_000);
                    listener.paused_until = Some(now + PAUSE);
                    Received::Empty
                }
            },
        }
    }

    /// When a socket that is left alone is to be read again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.listeners.iter().filter_map(|listener| listener.paused_until).min()
    }

    /// Sends a datagram. One that the kernel does not take is lost, as any datagram may be.
    pub(super) fn send(&mut self, via: SocketId, to: SocketAddr, datagram: &[u8]) {
        let Some(listener) = self.listeners.get(usize::from(via.0)) else {
            return;
        };
        let to = match to {
            SocketAddr::V4(v4) if listener.dual_stack => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            to => to,
        };
        // Not through tokio, which would refuse until its event loop has seen that the socket is writable.
        if let Err(error) = SockRef::from(&listener.socket).send_to(datagram, &SockAddr::from(to)) {
            self.unsent += 1;
            debug!("a datagram to {to} was not sent: {error}");
        }
    }
}

/// The system call alone.
fn receive_past_tokio(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    let (length, _, from) = recvfrom(socket, buffer, RecvFlags::DONTWAIT)?;
    let from = from.ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((length, from.try_into()?))
}

/// Whether an error tells of one datagram, sent or received, and not of the socket.
fn is_transient(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Interrupted
    )
}

/// The IPv4 address that an IPv6 address stands for, if it does. So a client has one address, however the server is bound.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

type Bound = Vec<(StdUdpSocket, bool)>;

/// Binds all addresses on one port, drawn by the kernel for the first of them.
fn bind_any(addresses: &[IpAddr]) -> Result<Bound, BindError> {
    let first = addresses.get(..1).unwrap_or_default();
    let others = addresses.get(1..).unwrap_or_default();
    let mut draw = 1;
    loop {
        let mut bound = bind_all(first, 0)?;
        if others.is_empty() {
            return Ok(bound);
        }
        let port = bound.first().map_or(Ok(0), |(socket, _)| Ok(socket.local_addr()?.port()));
        match bind_all(others, port.map_err(BindError::Socket)?) {
            Ok(rest) => {
                bound.extend(rest);
                return Ok(bound);
            }
            Err(error) if draw == DRAWS => return Err(error),
            Err(_) => draw += 1,
        }
    }
}

/// Binds all these addresses, or all there are, on this port. With each socket: whether it serves IPv4 beside IPv6.
fn bind_all(addresses: &[IpAddr], port: u16) -> Result<Bound, BindError> {
    if !addresses.is_empty() {
        let bind = |&ip| Ok((bind_one(SocketAddr::new(ip, port), false)?, false));
        return addresses.iter().map(bind).collect();
    }
    match bind_one(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), true) {
        Ok(socket) => Ok(vec![(socket, true)]),
        Err(BindError::Bind { source, .. }) if is_missing_ipv6(&source) => {
            debug!("no IPv6 here ({source}): serving IPv4 alone");
            Ok(vec![(bind_one(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), false)?, false)])
        }
        Err(error) => Err(error),
    }
}

fn is_missing_ipv6(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn bind_one(address: SocketAddr, dual_stack: bool) -> Result<StdUdpSocket, BindError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!dual_stack)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(address))?;
        enlarge_buffers(&socket)?;
        Ok(StdUdpSocket::from(socket))
    };
    open().map_err(|source| BindError::Bind { address, source })
}

/// Asks for large buffers, and says so if the kernel gives less.
fn enlarge_buffers(socket: &Socket) -> io::Result<()> {
    // The first way passes the system's limit, and is for the privileged.
    if sockopt::set_socket_recv_buffer_size_force(socket, BUFFER).is_err() {
        socket.set_recv_buffer_size(BUFFER)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, BUFFER).is_err() {
        socket.set_send_buffer_size(BUFFER)?;
    }
    // The kernel doubles what it is asked for, and reports that.
    for (name, limit, given) in [
        ("receive", "net.core.rmem_max", socket.recv_buffer_size()? / 2),
        ("send", "net.core.wmem_max", socket.send_buffer_size()? / 2),
    ] {
        if given < BUFFER {
            warn!(
                "the kernel gives a {name} buffer of {given} bytes, so bursts may lose packets: set {limit} to {BUFFER}"
            );
        }
    }
    Ok(())
}

/// Why the server cannot listen.
#[derive(Debug, Error)]
pub(crate) enum BindError {
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}; {}", remedy(source))]
    Bind {
        /// The address and port.
        address: SocketAddr,
        /// What failed.
        source: io::Error,
    },
    /// The address for the other servers cannot be bound.
    #[error(
        "cannot listen on {address} (TCP) for the cell's other servers: {source}; 'peer' says where to listen"
    )]
    Peer {
        /// The address and port.
        address: SocketAddr,
        /// What failed.
        source: io::Error,
    },
    /// A socket that is bound cannot be used.
    #[error("cannot use the sockets: {0}")]
    Socket(io::Error),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "is another server running? '-p' takes another port, '-p auto' any free one"
        }
        io::ErrorKind::AddrNotAvailable => "'bind' takes addresses of this machine",
        io::ErrorKind::PermissionDenied => "ports below 1024 are for the privileged; '-p' takes another",
        _ => "'bind' and '-p' say where to listen",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn localhost() -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    async fn wait_for(sockets: &mut Sockets, buffer: &mut [u8]) -> (SocketAddr, usize) {
        loop {
            sockets.readable().await;
            for id in sockets.ids() {
                if let Received::Datagram(from, length) = sockets.receive(id, Instant::START, false, buffer) {
                    return (from, length);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_datagram_comes_in_and_the_answer_goes_back() {
        let mut sockets = Sockets::bind(&[localhost()], Port::Auto).unwrap();
        let peer = StdUdpSocket::bind((localhost(), 0)).unwrap();
        peer.send_to(b"question", (localhost(), sockets.port())).unwrap();
        let mut buffer = [0; 64];
        let (from, length) = wait_for(&mut sockets, &mut buffer).await;
        assert_eq!((from, &buffer[..length]), (peer.local_addr().unwrap(), &b"question"[..]));
        sockets.send(SocketId(0), from, b"answer");
        let length = peer.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"answer");
    }

    #[tokio::test]
    async fn the_kernel_is_asked_for_what_the_event_loop_has_not_seen() {
        let mut sockets = Sockets::bind(&[localhost()], Port::Auto).unwrap();
        let peer = StdUdpSocket::bind((localhost(), 0)).unwrap();
        peer.send_to(b"x", (localhost(), sockets.port())).unwrap();
        let mut receive = |ask| sockets.receive(SocketId(0), Instant::START, ask, &mut [0; 8]);
        assert!(matches!(receive(false), Received::Empty));
        let expected = peer.local_addr().unwrap();
        assert!(matches!(receive(true), Received::Datagram(from, 1) if from == expected));
        assert!(matches!(receive(true), Received::Empty));
    }

    #[tokio::test]
    async fn the_wildcard_serves_ipv4_under_its_ipv4_address() {
        let mut sockets = Sockets::bind(&[], Port::Auto).unwrap();
        let peer = StdUdpSocket::bind((localhost(), 0)).unwrap();
        peer.send_to(b"x", (localhost(), sockets.port())).unwrap();
        let mut buffer = [0; 64];
        let (from, _) = wait_for(&mut sockets, &mut buffer).await;
        assert_eq!(from, peer.local_addr().unwrap());
        sockets.send(SocketId(0), from, b"answer");
        assert_eq!(peer.recv(&mut buffer).unwrap(), 6);
    }

    #[tokio::test]
    async fn a_client_of_either_family_finds_its_socket_again() {
        let sockets = Sockets::bind(&[localhost()], Port::Auto).unwrap();
        assert_eq!(sockets.served(), [(SocketId(0), SocketAddr::new(localhost(), sockets.port()))]);
        let wildcard = Sockets::bind(&[], Port::Auto).unwrap().served();
        assert!(wildcard.iter().any(|(id, address)| *id == SocketId(0) && address.is_ipv4()), "{wildcard:?}");
    }

    #[tokio::test]
    async fn all_addresses_get_the_same_port() {
        let other = IpAddr::from([127, 0, 0, 2]);
        let sockets = Sockets::bind(&[localhost(), other], Port::Auto).unwrap();
        let expected = [SocketAddr::new(localhost(), sockets.port()), SocketAddr::new(other, sockets.port())];
        assert_eq!(sockets.addresses(), expected);
    }

    #[tokio::test]
    async fn a_port_in_use_is_refused_with_the_remedy() {
        let holder = StdUdpSocket::bind((localhost(), 0)).unwrap();
        let port = Port::Number(holder.local_addr().unwrap().port().try_into().unwrap());
        let error = Sockets::bind(&[localhost()], port).unwrap_err().to_string();
        assert!(error.contains("cannot listen on 127.0.0.1:") && error.contains("'-p auto'"), "{error}");
        let error = Sockets::bind(&[[192, 0, 2, 1].into()], port).unwrap_err().to_string();
        assert!(error.contains("addresses of this machine"), "{error}");
    }

    #[tokio::test]
    async fn answers_to_a_peer_that_is_gone_do_no_harm() {
        let mut sockets = Sockets::bind(&[localhost()], Port::Auto).unwrap();
        let gone = StdUdpSocket::bind((localhost(), 0)).unwrap().local_addr().unwrap();
        for _ in 0..10 {
            sockets.send(SocketId(0), gone, b"answer");
        }
        let peer = StdUdpSocket::bind((localhost(), 0)).unwrap();
        peer.send_to(b"x", (localhost(), sockets.port())).unwrap();
        let (from, _) = wait_for(&mut sockets, &mut [0; 8]).await;
        assert_eq!(from, peer.local_addr().unwrap());
    }
}
