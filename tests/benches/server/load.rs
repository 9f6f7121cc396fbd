//! Many clients in one thread, over a few sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration as Span, Instant as Moment};

use cld_tests::raw::RECEIVE_BUFFER;
use cld_tests::raw::extended::Traffic;
use cld_tests::rng::Rng;
use cldc_core::session::{Config, Datagram};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::MAX_PACKET;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::client::{Client, Step, Work};

const SOCKETS: usize = 4;
/// How many sessions are being opened at a time; the server takes 64 of one user.
const OPENING: usize = 32;
/// How long all clients together may take to get ready or to finish.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most datagrams taken from one socket in one turn.
const DATAGRAMS: usize = 64;

/// Which files the clients open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// None: the sessions are idle.
    None,
    /// Each its own.
    Own,
    /// Two clients share one.
    Shared,
}

impl Files {
    fn of(self, place: usize) -> Option<String> {
        match self {
            Self::None => None,
            Self::Own => Some(format!("/own-{place}")),
            Self::Shared => Some(format!("/shared-{}", place / 2)),
        }
    }
}

/// How the work went.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// How long each operation took, in microseconds, in ascending order.
    pub(crate) micros: Vec<u64>,
    /// How long all took together.
    pub(crate) span: Span,
}

impl Done {
    /// Operations per second.
    pub(crate) fn rate(&self) -> f64 {
        self.micros.len() as f64 / self.span.as_secs_f64()
    }

    /// What so many hundredths of the operations did not exceed, in milliseconds.
    pub(crate) fn percentile(&self, hundredths: usize) -> f64 {
        let index = (self.micros.len() * hundredths / 100).min(self.micros.len().saturating_sub(1));
        self.micros.get(index).map_or(f64::NAN, |&micros| micros as f64 / 1_000.0)
    }
}

/// What all clients sent and got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Both {
    pub(crate) sent: Traffic,
    pub(crate) received: Traffic,
}

struct Place {
    client: Client,
    deadline: Option<Instant>,
}

/// The clients and their sockets.
pub(crate) struct Load {
    server: SocketAddr,
    sockets: Vec<UdpSocket>,
    places: Vec<Place>,
    /// Whose session has which id.
    sids: BTreeMap<u64, usize>,
    deadlines: BTreeSet<(Instant, usize)>,
    rng: Rng,
    start: Moment,
    work: Option<Work>,
    micros: Vec<u64>,
    pub(crate) traffic: Both,
}

impl Load {
    /// Connects `count` clients, which open and fill their files.
    pub(crate) fn connect(server: SocketAddr, count: usize, files: Files) -> io::Result<Self> {
        let mut load = Self {
            server,
            sockets: (0..SOCKETS).map(|_| socket(server)).collect::<io::Result<_>>()?,
            places: Vec::with_capacity(count),
            sids: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            rng: Rng::fresh(),
            start: Moment::now(),
            work: None,
            micros: Vec::new(),
            traffic: Both::default(),
        };
        let give_up = load.now() + PATIENCE;
        let mut connected = 0;
        while connected < count {
            while load.places.len() < count.min(connected + OPENING) {
                let path = files.of(load.places.len());
                load.add(path)?;
            }
            load.turn(give_up)?;
            // They are counted in the order of their places.
            while load.places.get(connected).is_some_and(|place| place.client.step == Step::Idle) {
                connected += 1;
            }
        }
        Ok(load)
    }

    /// Does this work for so long, after a tenth of that to warm up. `measure` is called when counting begins and ends.
    pub(crate) fn run(&mut self, work: Work, span: Span, mut measure: impl FnMut()) -> io::Result<Done> {
        self.work = Some(work);
        for place in 0..self.places.len() {
            let now = self.now();
            if let Some(Place { client, .. }) = self.places.get_mut(place) {
                client.begin(now, work).map_err(io::Error::other)?;
            }
            self.settle(place)?;
        }
        self.turn_for(span / 10)?;
        self.micros.clear();
        measure();
        let begin = Moment::now();
        self.turn_for(span)?;
        let span = begin.elapsed();
        measure();
        let mut micros = std::mem::take(&mut self.micros);
        micros.sort_unstable();
        self.finish()?;
        Ok(Done { micros, span })
    }

    /// Drives the sessions for so long.
    pub(crate) fn turn_for(&mut self, span: Span) -> io::Result<()> {
        let end = self.now() + span.into();
        while self.now() < end {
            self.turn_until(end)?;
        }
        Ok(())
    }

    /// Ends all sessions.
    pub(crate) fn end(mut self) -> io::Result<()> {
        for place in 0..self.places.len() {
            let now = self.now();
            if let Some(Place { client, .. }) = self.places.get_mut(place) {
                client.session.end(now).map_err(io::Error::other)?;
            }
            self.settle(place)?;
        }
        self.wait_for(Step::Ended)
    }

    /// Begins nothing new, and waits until what is under way is done.
    fn finish(&mut self) -> io::Result<()> {
        self.work = None;
        for place in 0..self.places.len() {
            self.release_if(place, |client| client.step == Step::Holding)?;
        }
        self.wait_for(Step::Idle)
    }

    fn wait_for(&mut self, step: Step) -> io::Result<()> {
        let give_up = self.now() + PATIENCE;
        while self.places.iter().any(|place| place.client.step != step) {
            self.turn(give_up)?;
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn add(&mut self, path: Option<String>) -> io::Result<()> {
        let (now, place, servers) = (self.now(), self.places.len(), [self.server]);
        let mut seed = [0; 32];
        seed.copy_from_slice(&self.rng.bytes(32));
        let config = Config::new(b"bench", b"bench", &servers, seed);
        let client = Client::new(&config, now, path).map_err(io::Error::other)?;
        self.sids.insert(client.session.sid(), place);
        self.places.push(Place { client, deadline: None });
        self.settle(place)
    }

    /// Like [`Load::turn_until`], but an error once `give_up` has passed.
    fn turn(&mut self, give_up: Instant) -> io::Result<()> {
        if self.now() > give_up {
            return Err(io::Error::new(ErrorKind::TimedOut, "the server does not answer all clients"));
        }
        self.turn_until(give_up)
    }

    /// Takes in what has come and does what is due; if that is nothing, waits for it, until `end` at most.
    fn turn_until(&mut self, end: Instant) -> io::Result<()> {
        let mut buffer: Datagram = [0; MAX_PACKET];
        let mut received = false;
        for socket in 0..SOCKETS {
            for _ in 0..DATAGRAMS {
                let Some(socket) = self.sockets.get(socket) else { break };
                match socket.recv(&mut buffer) {
                    Ok(length) => {
                        received = true;
                        self.receive(buffer.get(..length).unwrap_or_default())?;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        let now = self.now();
        while let Some(&(at, place)) = self.deadlines.first()
            && at <= now
        {
            if let Some(Place { client, .. }) = self.places.get_mut(place) {
                client.session.handle_timeout(now);
            }
            self.settle(place)?;
        }
        let next = self.deadlines.first().map_or(end, |&(at, _)| at.min(end));
        if received { Ok(()) } else { self.wait(next) }
    }

    fn wait(&self, until: Instant) -> io::Result<()> {
        let timeout = Timespec::try_from(Span::from(until.since(self.now()))).map_err(io::Error::other)?;
        let mut sockets: Vec<PollFd<'_>> =
            self.sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        poll(&mut sockets, Some(&timeout))?;
        Ok(())
    }

    fn receive(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.traffic.received.count(datagram);
        // The session's id stands behind the magic.
        let sid = datagram.get(8..16).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let Some(&place) = sid.and_then(|sid| self.sids.get(&sid)) else { return Ok(()) };
        let (now, server) = (self.now(), self.server);
        if let Some(Place { client, .. }) = self.places.get_mut(place) {
            // What is not taken in is a copy, or comes again.
            let _ = client.session.handle_datagram(now, server, datagram);
        }
        self.settle(place)
    }

    /// Drains a session: what it tells, what it sends, when it wants to be called.
    fn settle(&mut self, place: usize) -> io::Result<()> {
        let now = self.now();
        while let Some(Place { client, .. }) = self.places.get_mut(place)
            && let Some(news) = client.poll().map_err(io::Error::other)?
        {
            let before = client.step;
            let done = client.take(now, news, self.work).map_err(io::Error::other)?;
            let after = client.step;
            if let (true, Some(work)) = (done, self.work) {
                if work != Work::HandOver {
                    self.micros.push(now.since(client.began).as_micros());
                }
                client.begin(now, work).map_err(io::Error::other)?;
            }
            if after != before {
                self.hand_over(place, before, after)?;
            }
        }
        self.transmit(place)
    }

    /// What a step of one client means for the other one that shares its file.
    fn hand_over(&mut self, place: usize, before: Step, after: Step) -> io::Result<()> {
        let (now, other) = (self.now(), place ^ 1);
        match after {
            Step::Waiting => self.release_if(other, |other| other.step == Step::Holding),
            Step::Holding => {
                let partner = self.places.get(other).map(|place| &place.client);
                if let (Step::Waiting, Some(partner)) = (before, partner) {
                    self.micros.push(now.since(partner.released).as_micros());
                }
                let release = self.work.is_none() || partner.is_some_and(|other| other.step == Step::Waiting);
                self.release_if(place, |_| release)
            }
            _ => Ok(()),
        }
    }

    fn release_if(&mut self, place: usize, condition: impl Fn(&Client) -> bool) -> io::Result<()> {
        let now = self.now();
        let Some(Place { client, .. }) = self.places.get_mut(place) else { return Ok(()) };
        if !condition(client) {
            return Ok(());
        }
        client.release(now).map_err(io::Error::other)?;
        self.transmit(place)
    }

    fn transmit(&mut self, place: usize) -> io::Result<()> {
        let now = self.now();
        let Some(socket) = self.sockets.get(place % SOCKETS) else { return Ok(()) };
        let Some(Place { client, deadline }) = self.places.get_mut(place) else { return Ok(()) };
        let mut buffer: Datagram = [0; MAX_PACKET];
        while let Some(transmit) = client.session.poll_transmit(now, &mut buffer) {
            let datagram = buffer.get(..transmit.len).unwrap_or_default();
            self.traffic.sent.count(datagram);
            match socket.send(datagram) {
                // It is lost, and will be sent again.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => drop(result?),
            }
        }
        let next = client.session.poll_timeout();
        if next != *deadline {
            if let Some(at) = *deadline {
                self.deadlines.remove(&(at, place));
            }
            self.deadlines.extend(next.map(|at| (at, place)));
            *deadline = next;
        }
        Ok(())
    }
}

fn socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
