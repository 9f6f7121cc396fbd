//! The two Rust clients under one face, so that every test is for both.
#![allow(dead_code, reason = "each test program uses another part of it")]

pub(crate) mod load;
pub(crate) mod mix;
pub(crate) mod recorded;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cldc_udp::{
    Contents, Error, EventMask, FileEvent, LeaseState, LockKind, Metadata, OpenMode, Options, Result,
    Sequencer, aio, blocking,
};
use futures_core::Stream;
use tokio::runtime::{Builder, Runtime};

/// Which of the two.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Blocking,
    Async,
}

impl Kind {
    /// A session of `user`, with the user's name for a key.
    pub(crate) fn connect(self, options: Options) -> Result<Client> {
        match self {
            Self::Blocking => blocking::Client::connect(options).map(Either::Blocking),
            Self::Async => {
                let runtime = Arc::new(Builder::new_multi_thread().worker_threads(1).enable_all().build()?);
                let client = runtime.block_on(aio::Client::connect(options))?;
                Ok(Either::Async(runtime, client))
            }
        }
    }
}

/// Something of the blocking client, or of the async one with the runtime that it lives on.
#[derive(Debug)]
pub(crate) enum Either<B, A> {
    Blocking(B),
    Async(Arc<Runtime>, A),
}

pub(crate) type Client = Either<blocking::Client, aio::Client>;
pub(crate) type File = Either<blocking::File, aio::File>;
pub(crate) type Lock = Either<blocking::Lock, aio::Lock>;
pub(crate) type Events = Either<blocking::Events, aio::Events>;

/// What the call returns, which has one name for both.
macro_rules! call {
    ($either:expr, $inner:ident => $call:expr) => {
        match $either {
            Either::Blocking($inner) => $call,
            Either::Async(runtime, $inner) => runtime.block_on($call),
        }
    };
}

/// The same where the call returns something of the client.
macro_rules! make {
    ($either:expr, $inner:ident => $call:expr) => {
        match $either {
            Either::Blocking($inner) => Ok(Either::Blocking($call?)),
            Either::Async(runtime, $inner) => {
                Ok(Either::Async(Arc::clone(runtime), runtime.block_on($call)?))
            }
        }
    };
}

impl Client {
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        match self {
            Self::Blocking(client) => Self::Blocking(client.with_timeout(timeout)),
            Self::Async(runtime, client) => Self::Async(Arc::clone(runtime), client.with_timeout(timeout)),
        }
    }

    pub(crate) fn open(&self, path: &str, mode: OpenMode, events: EventMask) -> Result<File> {
        make!(self, client => client.open(path, mode, events))
    }

    pub(crate) fn create(&self, path: &str) -> Result<File> {
        make!(self, client => client.create(path))
    }

    pub(crate) fn mkdir(&self, path: &str) -> Result<()> {
        call!(self, client => client.mkdir(path))
    }

    pub(crate) fn read(&self, path: &str) -> Result<Contents> {
        call!(self, client => client.read(path))
    }

    pub(crate) fn write(&self, path: &str, data: &[u8]) -> Result<()> {
        call!(self, client => client.write(path, data))
    }

    pub(crate) fn metadata(&self, path: &str) -> Result<Metadata> {
        call!(self, client => client.metadata(path))
    }

    pub(crate) fn list(&self, path: &str) -> Result<Vec<Vec<u8>>> {
        call!(self, client => client.list(path))
    }

    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        call!(self, client => client.remove(path))
    }

    pub(crate) fn lock(&self, path: &str, kind: LockKind) -> Result<Lock> {
        make!(self, client => client.lock(path, kind))
    }

    pub(crate) fn try_lock(&self, path: &str, kind: LockKind) -> Result<Option<Lock>> {
        Ok(match self {
            Self::Blocking(client) => client.try_lock(path, kind)?.map(Either::Blocking),
            Self::Async(runtime, client) => {
                let lock = runtime.block_on(client.try_lock(path, kind))?;
                lock.map(|lock| Either::Async(Arc::clone(runtime), lock))
            }
        })
    }

    pub(crate) fn nop(&self) -> Result<()> {
        call!(self, client => client.nop())
    }

    pub(crate) fn close(self) -> Result<()> {
        call!(self, client => client.close())
    }

    pub(crate) fn events(&self) -> Events {
        match self {
            Self::Blocking(client) => Either::Blocking(client.events()),
            Self::Async(runtime, client) => Either::Async(Arc::clone(runtime), client.events()),
        }
    }

    pub(crate) fn lease_state(&self) -> LeaseState {
        match self {
            Self::Blocking(client) => client.lease_state(),
            Self::Async(_, client) => *client.lease().borrow(),
        }
    }

    /// The lease's state once it is another than `from`, or after `timeout`.
    pub(crate) fn wait_lease_change(&self, from: LeaseState, timeout: Duration) -> LeaseState {
        match self {
            Self::Blocking(client) => client.wait_lease_change(from, timeout),
            Self::Async(runtime, client) => runtime.block_on(async {
                let mut lease = client.lease();
                let change = tokio::time::timeout(timeout, lease.wait_for(|&state| state != from));
                match change.await {
                    Ok(Ok(state)) => *state,
                    Ok(Err(_)) => LeaseState::Expired,
                    Err(_) => from,
                }
            }),
        }
    }

    pub(crate) fn check_sequencer(&self, sequencer: &Sequencer) -> Result<bool> {
        call!(self, client => client.check_sequencer(sequencer))
    }

    pub(crate) fn is_extended(&self) -> bool {
        match self {
            Self::Blocking(client) => client.is_extended(),
            Self::Async(_, client) => client.is_extended(),
        }
    }

    pub(crate) fn epoch(&self) -> Option<u64> {
        match self {
            Self::Blocking(client) => client.epoch(),
            Self::Async(_, client) => client.epoch(),
        }
    }

    pub(crate) fn sid(&self) -> u64 {
        match self {
            Self::Blocking(client) => client.sid(),
            Self::Async(_, client) => client.sid(),
        }
    }
}

impl File {
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        match self {
            Self::Blocking(file) => Self::Blocking(file.with_timeout(timeout)),
            Self::Async(runtime, file) => Self::Async(Arc::clone(runtime), file.with_timeout(timeout)),
        }
    }

    pub(crate) fn read(&self) -> Result<Contents> {
        call!(self, file => file.read())
    }

    pub(crate) fn write(&self, data: &[u8]) -> Result<()> {
        call!(self, file => file.write(data))
    }

    pub(crate) fn write_fenced(&self, sequencer: &Sequencer, data: &[u8]) -> Result<()> {
        call!(self, file => file.write_fenced(sequencer, data))
    }

    pub(crate) fn metadata(&self) -> Result<Metadata> {
        call!(self, file => file.metadata())
    }

    pub(crate) fn lock(&self, kind: LockKind) -> Result<Lock> {
        make!(self, file => file.lock(kind))
    }

    pub(crate) fn try_lock(&self, kind: LockKind) -> Result<Option<Lock>> {
        Ok(match self {
            Self::Blocking(file) => file.try_lock(kind)?.map(Either::Blocking),
            Self::Async(runtime, file) => {
                let lock = runtime.block_on(file.try_lock(kind))?;
                lock.map(|lock| Either::Async(Arc::clone(runtime), lock))
            }
        })
    }

    pub(crate) fn close(self) -> Result<()> {
        call!(self, file => file.close())
    }
}

impl Lock {
    pub(crate) fn is_safe(&self) -> bool {
        match self {
            Self::Blocking(lock) => lock.is_safe(),
            Self::Async(_, lock) => lock.is_safe(),
        }
    }

    pub(crate) fn safe_for(&self) -> Duration {
        match self {
            Self::Blocking(lock) => lock.safe_for(),
            Self::Async(_, lock) => lock.safe_for(),
        }
    }

    pub(crate) fn sequencer(&self) -> Option<Sequencer> {
        match self {
            Self::Blocking(lock) => lock.sequencer(),
            Self::Async(_, lock) => lock.sequencer(),
        }
    }

    pub(crate) fn release(self) -> Result<()> {
        call!(self, lock => lock.release())
    }
}

impl Events {
    /// The next event, if it comes within so long: of the async client as its `Stream`.
    pub(crate) fn next_timeout(&mut self, timeout: Duration) -> Result<FileEvent> {
        match self {
            Self::Blocking(events) => events.next_timeout(timeout),
            Self::Async(runtime, events) => runtime.block_on(async {
                let next = poll_fn(|context| Pin::new(&mut *events).poll_next(context));
                match tokio::time::timeout(timeout, next).await {
                    Ok(event) => event.ok_or(Error::Closed),
                    Err(_) => Err(Error::Timeout { doing: "waiting for an event" }),
                }
            }),
        }
    }
}

/// Runs a test with both clients at the same time: most of it is waiting.
pub(crate) fn with_both_clients(test: fn(Kind)) {
    let run = |kind: Kind| {
        let named = thread::Builder::new().name(format!("{kind:?} client"));
        named.spawn(move || test(kind)).unwrap()
    };
    let [blocking, other] = [Kind::Blocking, Kind::Async].map(run).map(JoinHandle::join);
    // Each has said by now what is wrong.
    assert!(blocking.is_ok() && other.is_ok(), "see above");
}
