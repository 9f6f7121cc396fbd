//! The async client, on tokio: each future ends by its deadline, and gives up when it is dropped.
//!
//! One task per session moves the datagrams and keeps the lease. It runs on the runtime that [`Client::connect`] is
//! called on, which needs its I/O and time drivers enabled; when that runtime ends, calls end with
//! [`Error::Closed`](crate::Error::Closed).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use cldc_core::lease::LeaseState;

pub use crate::client::{Client, File, Lock};
pub use crate::events::Events;

use crate::error::Result;
use crate::hub::{Hub, MIN_NAP, Mover};
use crate::options::Options;
use crate::sockets::{Intake, Socket, Sockets};

impl Client {
    /// Opens a session with the first server of the options that answers as master.
    ///
    /// # Errors
    /// [`Error::Timeout`](crate::Error::Timeout) if none does, [`Error::Server`](crate::Error::Server) if one refuses
    /// the session, [`Error::Config`](crate::Error::Config), [`Error::Io`](crate::Error::Io).
    pub async fn connect(options: Options) -> Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let sockets = Sockets::bind(&options)?.try_map(UdpSocket::from_std)?;
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        let hub = Hub::new(&options, move || waker.notify_one())?;
        runtime.spawn(run(hub.mover(), sockets, wake));
        Self::open_session(hub, options.timeout).await
    }

    /// How far the lease is to be trusted, as it changes. The value is [`LeaseState::Expired`] once the session has
    /// ended.
    #[must_use]
    pub fn lease(&self) -> watch::Receiver<LeaseState> {
        self.hub().lease()
    }
}

impl Lock {
    /// Waits until the lock is not safe any more: the lease is in jeopardy, the session is over, or the file is
    /// deleted or closed.
    pub async fn lost(&self) {
        self.watch(None).await;
    }
}

impl Socket for UdpSocket {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.try_recv_from(buffer)
    }

    fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.try_send_to(datagram, to)
    }
}

async fn run(mover: Mover, sockets: Sockets<UdpSocket>, wake: Arc<Notify>) {
    let hub = mover.hub();
    let [v4, v6] = sockets.each();
    while let Some(nap) = hub.turn(|to, datagram| sockets.send(to, datagram)) {
        tokio::select! {
            () = readable(v4) => {}
            () = readable(v6) => {}
            () = wake.notified() => {}
            () = tokio::time::sleep(nap) => {}
        }
        match sockets.receive(hub) {
            Intake::Dry => {}
            Intake::Failing => tokio::time::sleep(MIN_NAP).await,
            Intake::More => tokio::task::yield_now().await,
        }
    }
}

/// Waits for a datagram; for ever if there is no socket.
async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        // An error is met again in reading.
        Some(socket) => drop(socket.readable().await),
        None => std::future::pending().await,
    }
}
