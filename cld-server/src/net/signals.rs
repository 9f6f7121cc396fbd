//! The signals that the server obeys. SIGPIPE is ignored, as in every Rust program.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// SIGTERM, SIGINT: end.
    End,
    /// SIGHUP: read the keys and the limits again.
    Reload,
    /// SIGUSR1: log the statistics.
    Statistics,
}

/// The signals, caught from the making of this on.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
}

impl Signals {
    /// Within a tokio runtime only.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::End,
            _ = self.interrupt.recv() => Order::End,
            _ = self.hang_up.recv() => Order::Reload,
            _ = self.user1.recv() => Order::Statistics,
        }
    }
}
