//! The driver behind a lock, and the futures that wait for it.
//!
//! Nothing here needs a runtime: whoever moves the datagrams (a thread, or a task) calls [`Hub::turn`], and whoever
//! waits is woken through its `Waker`. Futures end by their deadlines, which are the driver's.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(feature = "tokio")]
use cldc_core::lease::LeaseState;
use cldc_core::session::Datagram;
use cldc_core::time::Instant;
use cldc_core::wire::limits::MAX_PACKET;

use crate::clock;
use crate::driver::{Call, Driver, Reply, TicketId};
use crate::error::Result;
use crate::options::Options;

/// The system's timers do not count the time that the machine is suspended; after it, nobody sleeps longer than this
/// before looking at the lease.
const MAX_NAP: Duration = Duration::from_secs(1);

/// The shortest sleep: whatever is due, nothing spins.
pub(crate) const MIN_NAP: Duration = Duration::from_millis(1);

/// Stack for the making of a session, which is large and is moved a few times by a debug build.
pub(crate) const MAKING: usize = 16 << 20;

/// A driver that threads and tasks share.
pub(crate) struct Hub {
    driver: Mutex<Driver>,
    /// Wakes whoever moves the datagrams: there is something to do.
    notify: Box<dyn Fn() + Send + Sync>,
    #[cfg(feature = "tokio")]
    lease: tokio::sync::watch::Sender<LeaseState>,
}

impl Hub {
    /// Begins a session.
    ///
    /// # Errors
    /// What is wrong with the options, or that the system has no randomness or no thread.
    pub(crate) fn new(options: &Options, notify: impl Fn() + Send + Sync + 'static) -> Result<Arc<Self>> {
        let config = options.config(clock::seed()?);
        let driver = std::thread::scope(|scope| {
            let make = std::thread::Builder::new()
                .stack_size(MAKING)
                .spawn_scoped(scope, || Driver::new(&config, clock::now()))?;
            make.join().map_err(|_| std::io::Error::other("making a session failed"))
        })??;
        Ok(Arc::new(Self {
            driver: Mutex::new(driver),
            notify: Box::new(notify),
            #[cfg(feature = "tokio")]
            lease: tokio::sync::watch::Sender::new(LeaseState::Jeopardy),
        }))
    }

    /// Does something with the driver, and wakes who has become ready by it.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Driver, Instant) -> R) -> R {
        // The driver does not panic; if another holder of the lock did, the driver is as good as before.
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        let result = act(&mut driver, now);
        let woken = driver.take_woken();
        #[cfg(feature = "tokio")]
        self.publish(driver.lease_state(now));
        drop(driver);
        for waker in woken {
            waker.wake();
        }
        result
    }

    /// As [`Hub::with`], for what needs sending afterwards.
    pub(crate) fn ask<R>(&self, act: impl FnOnce(&mut Driver, Instant) -> R) -> R {
        let result = self.with(act);
        (self.notify)();
        result
    }

    /// Makes a call whose deadline is so far away.
    pub(crate) fn call(&self, call: Call, timeout: Duration) -> Waiting<'_> {
        self.wait(|driver, now| driver.submit(now, call, now + timeout.into()))
    }

    /// Waits for a ticket.
    pub(crate) fn wait(&self, issue: impl FnOnce(&mut Driver, Instant) -> TicketId) -> Waiting<'_> {
        Waiting { hub: self, ticket: Some(self.ask(issue)) }
    }

    /// Takes in a datagram, and sends what follows from it.
    pub(crate) fn receive(&self, from: SocketAddr, datagram: &[u8], send: impl FnMut(SocketAddr, &[u8])) {
        self.with(|driver, now| {
            driver.handle_datagram(now, from, datagram);
            transmit(driver, now, send);
        });
    }

    /// Does what is due, and sends; gives how long to sleep if no datagram comes, or nothing if all is over.
    pub(crate) fn turn(&self, send: impl FnMut(SocketAddr, &[u8])) -> Option<Duration> {
        self.with(|driver, now| {
            driver.handle_timeout(now);
            transmit(driver, now, send);
            let next = driver.poll_timeout().map_or(MAX_NAP, |at| at.since(now).into());
            (!driver.is_over(now)).then(|| next.clamp(MIN_NAP, MAX_NAP))
        })
    }

    /// Held by whoever moves the datagrams: when it is gone, everybody who waits is told.
    pub(crate) fn mover(self: &Arc<Self>) -> Mover {
        Mover(Arc::clone(self))
    }

    /// The state of the lease, as it changes.
    #[cfg(feature = "tokio")]
    pub(crate) fn lease(&self) -> tokio::sync::watch::Receiver<LeaseState> {
        self.lease.subscribe()
    }

    #[cfg(feature = "tokio")]
    fn publish(&self, state: LeaseState) {
        self.lease.send_if_modified(|last| std::mem::replace(last, state) != state);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("sid", &self.with(|driver, _| driver.sid())).finish_non_exhaustive()
    }
}

fn transmit(driver: &mut Driver, now: Instant, mut send: impl FnMut(SocketAddr, &[u8])) {
    let mut buffer: Datagram = [0; MAX_PACKET];
    while let Some(transmit) = driver.poll_transmit(now, &mut buffer) {
        if let Some(datagram) = buffer.get(..transmit.len) {
            send(transmit.to, datagram);
        }
    }
}

/// See [`Hub::mover`].
pub(crate) struct Mover(Arc<Hub>);

impl Mover {
    pub(crate) fn hub(&self) -> &Hub {
        &self.0
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.0.with(|driver, _| driver.stop());
    }
}

/// A caller that waits. Dropped early, it gives up.
pub(crate) struct Waiting<'a> {
    hub: &'a Hub,
    ticket: Option<TicketId>,
}

impl Future for Waiting<'_> {
    type Output = Result<Reply>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(ticket) = self.ticket else { return Poll::Pending };
        let result = self.hub.with(|driver, _| driver.poll(ticket, context.waker()));
        if result.is_ready() {
            self.ticket = None;
        }
        result
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.hub.ask(|driver, now| driver.abandon(now, ticket));
        }
    }
}
