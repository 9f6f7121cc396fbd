//! A session, its servers and the network between them, on simulated time.

use std::net::{Ipv4Addr, SocketAddr};

use cldc_core::lease::LeaseState;
use cldc_core::session::{CallError, Config, End, Handle, RequestId};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::MAX_PACKET;
use cldc_core::wire::{Code, EventMask, Op, OpenMode, Packet};

use super::client::{Called, Came, Client, Told};
use super::network::{Faults, Flight, Network};
use super::peer::{Peer, SECRET, USER};

pub(crate) const CLIENT: SocketAddr = address(40_000);

/// The address of the server at a place in the list.
pub(crate) const fn server(index: usize) -> SocketAddr {
    address(8081 + index as u16)
}

const fn address(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// More steps than this without any time passing are a tight loop.
const TIGHT: u32 = 20_000;

pub(crate) struct World<C, P> {
    pub(crate) session: Box<C>,
    pub(crate) servers: Vec<P>,
    pub(crate) network: Network,
    pub(crate) now: Instant,
    /// The client's address.
    pub(crate) client: SocketAddr,
    /// From and to these servers nothing gets through.
    pub(crate) silent: Vec<SocketAddr>,
    /// How much faster the client's clock goes than the servers', in parts per million.
    pub(crate) drift_ppm: i64,
    /// Everything that the session has told.
    pub(crate) told: Vec<Told>,
    /// Everything that the session has sent.
    pub(crate) sent: Vec<Flight>,
    /// Everything that has reached the session.
    pub(crate) received: Vec<Flight>,
    /// The NEW_SESS answers that have reached the session.
    pub(crate) greetings: Vec<Vec<u8>>,
    /// Whether the application takes events.
    pub(crate) drains: bool,
    steps: u32,
}

impl<C: Client, P: Peer> World<C, P> {
    pub(crate) fn new(servers: Vec<P>, seed: u64, faults: Faults) -> Self {
        Self::with(servers, seed, faults, |_| {})
    }

    pub(crate) fn with(
        servers: Vec<P>,
        seed: u64,
        faults: Faults,
        change: impl FnOnce(&mut Config<'_>),
    ) -> Self {
        let addresses: Vec<SocketAddr> = (0..servers.len()).map(server).collect();
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let mut config = Config::new(USER, SECRET, &addresses, bytes);
        change(&mut config);
        let now = Instant::from_micros(1_000_000);
        Self {
            session: C::begin(&config, now),
            servers,
            network: Network::new(seed, faults),
            now,
            client: CLIENT,
            silent: Vec::new(),
            drift_ppm: 0,
            told: Vec::new(),
            sent: Vec::new(),
            received: Vec::new(),
            greetings: Vec::new(),
            drains: true,
            steps: 0,
        }
    }

    /// A session that is open.
    pub(crate) fn connected(server: P, seed: u64, faults: Faults) -> Self {
        let mut world = Self::new(vec![server], seed, faults);
        world.run_until(|world| world.told.contains(&Told::Connected));
        world
    }

    /// What the client's clock shows.
    pub(crate) fn clock(&self) -> Instant {
        let micros = i128::from(self.now.as_micros());
        Instant::from_micros((micros + micros * i128::from(self.drift_ppm) / 1_000_000) as u64)
    }

    /// When the client's clock will show this.
    fn when(&self, clock: Instant) -> Instant {
        let micros = i128::from(clock.as_micros());
        let rate = 1_000_000 + i128::from(self.drift_ppm);
        Instant::from_micros(((micros * 1_000_000 + rate - 1) / rate) as u64)
    }

    /// Takes out and sends all there is.
    pub(crate) fn drain(&mut self) {
        let clock = self.clock();
        let mut buffer = [0; MAX_PACKET];
        loop {
            let mut idle = true;
            while let Some(event) = self.drains.then(|| self.session.event()).flatten() {
                self.told.push(event);
                idle = false;
            }
            while let Some(transmit) = self.session.poll_transmit(clock, &mut buffer) {
                let flight =
                    Flight { from: self.client, to: transmit.to, bytes: buffer[..transmit.len].to_vec() };
                self.sent.push(flight.clone());
                self.network.send(self.now, flight);
                idle = false;
                self.count_step();
            }
            for (index, peer) in self.servers.iter_mut().enumerate() {
                while let Some((to, bytes)) = peer.transmit(self.now) {
                    self.network.send(self.now, Flight { from: server(index), to, bytes });
                    idle = false;
                }
            }
            if idle {
                return;
            }
            self.count_step();
        }
    }

    fn count_step(&mut self) {
        self.steps += 1;
        assert!(self.steps < TIGHT, "a tight loop at {:?}", self.now);
    }

    /// Goes on to the next thing that happens, if it happens before `limit`.
    fn step(&mut self, limit: Instant) -> bool {
        self.drain();
        let timeout = self.session.timeout().map(|at| self.when(at));
        let servers = self.servers.iter().filter_map(Peer::poll_timeout);
        let next = servers.chain(timeout).chain(self.network.next()).min();
        let Some(next) = next.filter(|&next| next <= limit) else {
            self.now = self.now.max(limit);
            return false;
        };
        if next > self.now {
            self.now = next;
            self.steps = 0;
        }
        self.count_step();
        while let Some(flight) = self.network.receive(self.now) {
            if self.silent.contains(&flight.to) || self.silent.contains(&flight.from) {
                continue;
            }
            if flight.to == self.client {
                if Packet::parse(&flight.bytes).is_ok_and(|packet| packet.part.op() == Some(Op::NewSess)) {
                    self.greetings.push(flight.bytes.clone());
                }
                self.received.push(flight.clone());
                let clock = self.clock();
                let _ = self.session.handle_datagram(clock, flight.from, &flight.bytes);
                self.drain();
            } else if let Some(index) = (0..self.servers.len()).find(|&index| server(index) == flight.to) {
                self.servers[index].receive(self.now, flight.from, &flight.bytes);
                self.drain();
            }
        }
        if timeout.is_some_and(|at| at <= self.now) {
            self.session.handle_timeout(self.clock());
        }
        for peer in &mut self.servers {
            if peer.poll_timeout().is_some_and(|at| at <= self.now) {
                peer.handle_timeout(self.now);
            }
        }
        true
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let limit = self.now + span;
        while self.step(limit) {}
        self.drain();
    }

    /// Goes on until something holds; a simulated hour without it is a failure.
    pub(crate) fn run_until(&mut self, what: impl Fn(&Self) -> bool) {
        let limit = self.now + Duration::from_secs(3_600);
        loop {
            self.drain();
            if what(self) {
                return;
            }
            assert!(self.step(limit), "it did not happen; told: {:?}", self.told);
        }
    }

    /// Goes on, step by step, and looks at everything in between.
    pub(crate) fn watch(&mut self, span: Duration, mut look: impl FnMut(&Self)) {
        let limit = self.now + span;
        while self.step(limit) {
            look(self);
        }
    }

    /// Calls as soon as there is room, and gives what came of it.
    pub(crate) fn call(&mut self, mut call: impl FnMut(&mut C, Instant) -> Called) -> Result<Came, Code> {
        let clock = self.clock();
        let request = call(&mut self.session, clock).unwrap();
        self.answer(request)
    }

    /// What came of a request.
    pub(crate) fn answer(&mut self, request: RequestId) -> Result<Came, Code> {
        let is_it = |told: &&Told| matches!(told, Told::Done(id, _) if *id == request);
        self.run_until(|world| world.told.iter().any(|told| is_it(&told)));
        let mut answers = self.told.iter().filter(is_it);
        let Some(Told::Done(_, result)) = answers.next().cloned() else { panic!("no answer to {request:?}") };
        assert!(answers.next().is_none(), "two answers to {request:?}");
        result
    }

    /// Opens a file, which is created if need be.
    pub(crate) fn open(&mut self, path: &[u8], events: EventMask) -> Handle {
        let mode = OpenMode::READ | OpenMode::WRITE | OpenMode::LOCK | OpenMode::CREATE;
        match self.call(|session, now| session.open(now, path, mode, events)) {
            Ok(Came::Opened(handle)) => handle,
            other => panic!("{other:?}"),
        }
    }

    /// What the session has told about handles.
    pub(crate) fn events(&self) -> Vec<(Handle, EventMask)> {
        let events = self.told.iter().filter_map(|told| match told {
            Told::Handle(handle, events) | Told::Happened(handle, events, ..) => Some((*handle, *events)),
            _ => None,
        });
        events.collect()
    }

    /// How the session ended, if it has.
    pub(crate) fn end(&self) -> Option<End> {
        self.told.iter().find_map(|told| if let Told::Ended(end) = told { Some(*end) } else { None })
    }

    /// Calls as often as there is room, until it is taken.
    pub(crate) fn when_there_is_room(
        &mut self,
        mut call: impl FnMut(&mut C, Instant) -> Called,
    ) -> RequestId {
        loop {
            let clock = self.clock();
            match call(&mut self.session, clock) {
                Ok(request) => return request,
                Err(CallError::Busy) => {
                    let told = self.told.len();
                    self.run_until(|world| world.told.len() > told);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// The rule of leases: while the client believes in its session, a server keeps it.
    pub(crate) fn assert_lease_is_true(&self) {
        let safe = self.session.state(self.clock()) == LeaseState::Safe;
        let kept = self.servers.iter().any(|peer| peer.keeps(self.session.id()));
        assert!(!safe || kept, "the client trusts a lease that has run out at {:?}", self.now);
    }
}
