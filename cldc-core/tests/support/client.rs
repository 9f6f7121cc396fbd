//! Any size of session behind one interface, and its events as values.

use std::net::SocketAddr;

use cldc_core::lease::{LeaseState, Terms};
use cldc_core::session::{
    CallError, Config, Datagram, End, Event, Handle, LockState, Outcome, Rejected, RequestId, Session,
    Transmit,
};
use cldc_core::time::Instant;
use cldc_core::wire::extended::Sequencer;
use cldc_core::wire::{Code, EventMask, LockFlags, Metadata, OpenMode};

/// An event with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Connected,
    Done(RequestId, Result<Came, Code>),
    /// In a plain session.
    Handle(Handle, EventMask),
    /// In an extended session, with the version.
    Happened(Handle, EventMask, u64, Option<Proof>),
    Failover(u64),
    Lease(LeaseState),
    Ended(End),
}

/// An outcome with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Done,
    Opened(Handle),
    LockPending,
    Locked(Option<Proof>),
    Sequencer(Proof),
    Contents { metadata: Metadata, path: Vec<u8>, data: Vec<u8> },
}

/// A sequencer with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) inode: u64,
    pub(crate) generation: u64,
    pub(crate) mode: LockFlags,
    pub(crate) path: Vec<u8>,
}

impl Proof {
    fn of(sequencer: Sequencer<'_>) -> Self {
        let Sequencer { inode, generation, mode, path } = sequencer;
        Self { inode, generation, mode, path: path.to_vec() }
    }

    pub(crate) fn sequencer(&self) -> Sequencer<'_> {
        Sequencer { inode: self.inode, generation: self.generation, mode: self.mode, path: &self.path }
    }
}

impl Told {
    fn of(event: Event<'_>) -> Self {
        match event {
            Event::Connected => Self::Connected,
            Event::Done { request, result } => Self::Done(request, result.map(Came::of)),
            Event::Handle { handle, events, version: None, sequencer: None } => Self::Handle(handle, events),
            Event::Handle { handle, events, version: Some(version), sequencer } => {
                Self::Happened(handle, events, version, sequencer.map(Proof::of))
            }
            Event::MasterFailover { epoch } => Self::Failover(epoch),
            Event::Lease(state) => Self::Lease(state),
            Event::Ended(end) => Self::Ended(end),
            other => panic!("an event that the tests do not know: {other:?}"),
        }
    }
}

impl Came {
    fn of(outcome: Outcome<'_>) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::Opened(handle) => Self::Opened(handle),
            Outcome::LockPending => Self::LockPending,
            Outcome::Locked { sequencer } => Self::Locked(sequencer.map(Proof::of)),
            Outcome::Sequencer(sequencer) => Self::Sequencer(Proof::of(sequencer)),
            Outcome::Contents { metadata, path, data } => {
                Self::Contents { metadata, path: path.to_vec(), data: data.to_vec() }
            }
        }
    }
}

pub(crate) type Called = Result<RequestId, CallError>;

macro_rules! client {
    ($(fn $name:ident(&mut self $(, $arg:ident: $type:ty)*) -> $result:ty;)*) => {
        /// A session of some size.
        pub(crate) trait Client: Sized + Send {
            fn begin(config: &Config<'_>, now: Instant) -> Box<Self>;
            fn event(&mut self) -> Option<Told>;
            fn timeout(&self) -> Option<Instant>;
            fn id(&self) -> u64;
            fn address(&self) -> SocketAddr;
            fn state(&self, now: Instant) -> LeaseState;
            fn lock_of(&self, handle: Handle) -> LockState;
            fn extended(&self) -> bool;
            fn current_epoch(&self) -> Option<u64>;
            fn lease_terms(&self) -> Option<Terms>;

            $(fn $name(&mut self $(, $arg: $type)*) -> $result;)*
        }

        impl<const RX: usize, const TX: usize, const REQUESTS: usize, const HANDLES: usize, const EARLY: usize>
            Client for Session<RX, TX, REQUESTS, HANDLES, EARLY>
        {
            fn begin(config: &Config<'_>, now: Instant) -> Box<Self> {
                // Unoptimised code moves the largest session several times: that takes more than a test's stack.
                std::thread::scope(|scope| {
                    let make = move || Box::new(Self::new(config, now).unwrap());
                    let maker = std::thread::Builder::new().stack_size(1 << 24).spawn_scoped(scope, make);
                    maker.unwrap().join().unwrap()
                })
            }
            fn event(&mut self) -> Option<Told> {
                self.poll_event().map(Told::of)
            }
            fn timeout(&self) -> Option<Instant> {
                self.poll_timeout()
            }
            fn id(&self) -> u64 {
                self.sid()
            }
            fn address(&self) -> SocketAddr {
                self.server().unwrap()
            }
            fn state(&self, now: Instant) -> LeaseState {
                self.lease_state(now)
            }
            fn lock_of(&self, handle: Handle) -> LockState {
                self.lock_state(handle)
            }
            fn extended(&self) -> bool {
                self.is_extended()
            }
            fn current_epoch(&self) -> Option<u64> {
                self.epoch()
            }
            fn lease_terms(&self) -> Option<Terms> {
                self.terms()
            }

            $(fn $name(&mut self $(, $arg: $type)*) -> $result {
                Session::$name(self $(, $arg)*)
            })*
        }
    };
}

client! {
    fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Result<(), Rejected>;
    fn handle_timeout(&mut self, now: Instant) -> ();
    fn poll_transmit(&mut self, now: Instant, buffer: &mut Datagram) -> Option<Transmit>;
    fn open(&mut self, now: Instant, path: &[u8], mode: OpenMode, events: EventMask) -> Called;
    fn close(&mut self, now: Instant, handle: Handle) -> Called;
    fn get(&mut self, now: Instant, handle: Handle) -> Called;
    fn get_meta(&mut self, now: Instant, handle: Handle) -> Called;
    fn put(&mut self, now: Instant, handle: Handle, data: &[u8]) -> Called;
    fn del(&mut self, now: Instant, path: &[u8]) -> Called;
    fn lock(&mut self, now: Instant, handle: Handle, flags: LockFlags, wait: bool) -> Called;
    fn unlock(&mut self, now: Instant, handle: Handle) -> Called;
    fn nop(&mut self, now: Instant) -> Called;
    fn end(&mut self, now: Instant) -> Result<(), CallError>;
    fn abandon(&mut self, request: RequestId) -> ();
}
