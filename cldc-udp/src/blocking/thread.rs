//! The helper thread of a session: moves datagrams and keeps time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::error::Result;
use crate::hub::{Hub, Mover};
use crate::options::Options;
use crate::sockets::{Intake, Socket, Sockets};

const WAKE: Token = Token(0);
const SOCKET: Token = Token(1);

/// Begins a session, and starts the thread that works for it until it has ended.
pub(super) fn start(options: &Options) -> Result<Arc<Hub>> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    let sockets = Sockets::bind(options)?.try_map(|socket| {
        let mut socket = UdpSocket::from_std(socket);
        poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
        Ok(socket)
    })?;
    // Without a wake-up the thread looks for itself, a little later.
    let hub = Hub::new(options, move || drop(waker.wake()))?;
    let mover = hub.mover();
    thread::Builder::new().name("cldc-udp".into()).spawn(move || run(&mover, poll, &sockets))?;
    Ok(hub)
}

impl Socket for UdpSocket {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(buffer)
    }

    fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.send_to(datagram, to)
    }
}

fn run(mover: &Mover, mut poll: Poll, sockets: &Sockets<UdpSocket>) {
    let hub = mover.hub();
    let mut events = Events::with_capacity(4);
    let mut intake = Intake::Dry;
    while let Some(nap) = hub.turn(|to, datagram| sockets.send(to, datagram)) {
        let nap = if intake == Intake::More { Duration::ZERO } else { nap };
        match poll.poll(&mut events, Some(nap)) {
            Ok(()) => intake = sockets.receive(hub),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
