//! The sockets of a session, one for each family of addresses, and what comes out of them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::hub::Hub;
use crate::options::Options;

/// Asked of the system for incoming datagrams: a reply of the longest kind, three times over.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Room for any datagram that a server may send, and more: a longer one is cut, and then is not a packet.
const DATAGRAM: usize = 2048;

/// How many datagrams are taken in before timers have their turn.
const BATCH: usize = 64;

/// A socket for IPv4 and one for IPv6, as far as the machine has them.
#[derive(Debug)]
pub(crate) struct Sockets<S> {
    v4: Option<S>,
    v6: Option<S>,
}

impl Sockets<UdpSocket> {
    /// Binds one of each family: the session may be led to servers that the options do not name. A family that this
    /// machine does not have is left out, unless all the servers named are of it.
    pub(crate) fn bind(options: &Options) -> io::Result<Self> {
        let local = |any: SocketAddr| match options.bind {
            Some(local) if local.is_ipv4() == any.is_ipv4() => local,
            _ => any,
        };
        let v4 = bind(local((Ipv4Addr::UNSPECIFIED, 0).into()));
        let v6 = bind(local((Ipv6Addr::UNSPECIFIED, 0).into()));
        match (v4, v6, options.families()) {
            (Err(error), _, (true, false)) | (_, Err(error), (false, true)) | (Err(error), Err(_), _) => {
                Err(error)
            }
            (v4, v6, _) => Ok(Self { v4: v4.ok(), v6: v6.ok() }),
        }
    }
}

impl<S> Sockets<S> {
    /// The same sockets in another form.
    pub(crate) fn try_map<T>(self, form: impl Fn(S) -> io::Result<T>) -> io::Result<Sockets<T>> {
        let Self { v4, v6 } = self;
        Ok(Sockets { v4: v4.map(&form).transpose()?, v6: v6.map(&form).transpose()? })
    }

    /// The socket for IPv4 and the one for IPv6.
    pub(crate) fn each(&self) -> [Option<&S>; 2] {
        [self.v4.as_ref(), self.v6.as_ref()]
    }

    /// The socket that reaches an address, if there is one.
    pub(crate) fn towards(&self, to: SocketAddr) -> Option<&S> {
        if to.is_ipv4() { self.v4.as_ref() } else { self.v6.as_ref() }
    }
}

/// A socket that does not block.
pub(crate) trait Socket: Sized {
    /// Takes a datagram out.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;

    /// Sends a datagram.
    fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize>;
}

impl<S: Socket> Sockets<S> {
    /// Sends a datagram. One that cannot be sent now is lost like others: the link sends it again.
    pub(crate) fn send(&self, to: SocketAddr, datagram: &[u8]) {
        if let Some(socket) = self.towards(to) {
            let _ = socket.send(datagram, to);
        }
    }

    /// Hands the session what has come, up to a batch.
    pub(crate) fn receive(&self, hub: &Hub) -> Intake {
        let intake =
            self.each().map(|socket| socket.map_or(Intake::Dry, |socket| self.receive_from(socket, hub)));
        intake.into_iter().max().unwrap_or(Intake::Dry)
    }

    fn receive_from(&self, socket: &S, hub: &Hub) -> Intake {
        let mut buffer = [0; DATAGRAM];
        let mut intake = Intake::Dry;
        for _ in 0..BATCH {
            match socket.receive(&mut buffer) {
                Ok((len, from)) => {
                    intake = Intake::More;
                    hub.receive(from, buffer.get(..len).unwrap_or_default(), |to, datagram| {
                        self.send(to, datagram)
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Intake::Dry,
                // A report on an earlier datagram, which the link notices in its own way.
                Err(_) => intake = Intake::Failing,
            }
        }
        intake
    }
}

/// How taking in has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Intake {
    /// There was no more.
    Dry,
    /// By an error: come back, but not at once.
    Failing,
    /// There is more.
    More,
}

fn bind(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(local)?;
    socket.set_nonblocking(true)?;
    // A wish: the system may give less, and the link copes with that.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    Ok(socket)
}
