//! A client: the session of the client library, and what it has told.

use std::net::SocketAddr;

use cldc_core::session::{Config, End, Event, Handle, Outcome, RequestId, Session, rx_bytes, tx_bytes};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Code, EventMask};

/// A session that writes long files, and reads short ones.
pub(crate) type TestSession = Session<{ rx_bytes(4096) }, { tx_bytes(100_000, 1) }, 16, 64, 16>;

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Done,
    Opened(Handle),
    Locked,
    Pending,
    Contents(Vec<u8>),
    Other,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Connected,
    Done(RequestId, Result<Got, Code>),
    Handle(Handle, EventMask),
    Failover(u64),
    Lease,
    Ended(End),
}

pub(crate) struct Client {
    pub(crate) session: Box<TestSession>,
    pub(crate) addr: SocketAddr,
    pub(crate) news: Vec<News>,
    pub(crate) last_datagram: Vec<u8>,
    /// Who has sent it something, and when.
    pub(crate) heard: Vec<(u64, SocketAddr)>,
    pub(crate) last_heard: Vec<u8>,
}

impl Client {
    pub(crate) fn new(
        place: u8,
        servers: &[SocketAddr],
        extended: bool,
        lease: Duration,
        now: Instant,
    ) -> Self {
        let seed = [place.wrapping_add(100); 32];
        let config = Config { extended, lease, ..Config::new(b"tester", b"tester", servers, seed) };
        Self {
            session: Box::new(TestSession::new(&config, now).unwrap()),
            addr: SocketAddr::from(([10, 0, 0, place], 4000)),
            news: Vec::new(),
            last_datagram: Vec::new(),
            heard: Vec::new(),
            last_heard: Vec::new(),
        }
    }

    /// Takes out what the session has to tell.
    pub(crate) fn hear(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.news.push(match event {
                Event::Connected => News::Connected,
                Event::Done { request, result } => News::Done(
                    request,
                    result.map(|outcome| match outcome {
                        Outcome::Done => Got::Done,
                        Outcome::Opened(handle) => Got::Opened(handle),
                        Outcome::Locked { .. } => Got::Locked,
                        Outcome::LockPending => Got::Pending,
                        Outcome::Contents { data, .. } => Got::Contents(data.to_vec()),
                        _ => Got::Other,
                    }),
                ),
                Event::Handle { handle, events, .. } => News::Handle(handle, events),
                Event::MasterFailover { epoch } => News::Failover(epoch),
                Event::Lease(_) => News::Lease,
                Event::Ended(end) => News::Ended(end),
                other => panic!("{other:?}"),
            });
        }
    }

    /// The answers to a call.
    pub(crate) fn answer(&self, request: RequestId) -> Option<&Result<Got, Code>> {
        self.news.iter().find_map(|news| match news {
            News::Done(done, result) if *done == request => Some(result),
            _ => None,
        })
    }

    pub(crate) fn failovers(&self) -> usize {
        self.news.iter().filter(|news| matches!(news, News::Failover(_))).count()
    }

    /// How often this kind of event was told of a handle.
    pub(crate) fn told(&self, handle: Handle, event: EventMask) -> usize {
        let is_it = |news: &&News| matches!(news, News::Handle(at, events) if *at == handle && events.contains(event));
        self.news.iter().filter(is_it).count()
    }
}
