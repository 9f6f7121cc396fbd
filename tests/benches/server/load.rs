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

use crate::client::{Client, News, Opens, Step, Work};
use crate::limit;

const SOCKETS: usize = 4;
/// Whose they are, in turn: the server takes 64 new sessions of one user before their clients have acknowledged them, which
/// idle ones are slow to do.
const USERS: usize = 64;
/// How many sessions are being opened at a time.
const OPENING: usize = 32;
/// How long the server may take for the next client to get ready, and for all to finish.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most datagrams taken from one socket in one turn.
const DATAGRAMS: usize = 64;

/// Which files the clients open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// None.
    None,
    /// Each its own.
    Own,
    /// Two clients share one.
    Shared,
    /// These watch, in turn, the files of so many others, who were there before.
    Watched(usize),
}

impl Files {
    fn of(self, place: usize) -> Opens {
        match self {
            Self::None => Opens::Nothing,
            Self::Own => Opens::Filling(format!("/own-{place}")),
            Self::Shared => Opens::Filling(format!("/shared-{}", place / 2)),
            Self::Watched(writers) => Opens::Watching(format!("/own-{}", place % writers.max(1))),
        }
    }
}

/// How far a write is whose watchers are to be told of it.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    watchers: usize,
    told: usize,
    written: bool,
}

/// How the work went.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// How long each operation took, in microseconds, in ascending order.
    pub(crate) micros: Vec<u64>,
    /// How long all took together.
    pub(crate) span: Span,
    /// How many events were told.
    pub(crate) told: u64,
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
    /// Of each client whose file is watched.
    rounds: Vec<Round>,
    told: u64,
    pub(crate) traffic: Both,
}

impl Load {
    /// No clients yet.
    pub(crate) fn new(server: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            server,
            sockets: (0..SOCKETS).map(|_| socket(server)).collect::<io::Result<_>>()?,
            places: Vec::new(),
            sids: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            rng: Rng::fresh(),
            start: Moment::now(),
            work: None,
            micros: Vec::new(),
            rounds: Vec::new(),
            told: 0,
            traffic: Both::default(),
        })
    }

    /// Connects so many clients, extended ones or plain ones, which open their files.
    pub(crate) fn connect(&mut self, count: usize, files: Files, extended: bool) -> io::Result<()> {
        let mut connected = self.places.len();
        let count = connected + count;
        if let Files::Watched(writers) = files {
            let shares = (0..writers).map(|writer| (connected..count).skip(writer).step_by(writers).count());
            self.rounds = shares.map(|watchers| Round { watchers, ..Round::default() }).collect();
        }
        let mut give_up = self.now() + PATIENCE;
        while connected < count {
            while self.places.len() < count.min(connected + OPENING) {
                self.add(files.of(self.places.len()), extended)?;
            }
            self.turn(give_up)?;
            // They are counted in the order of their places.
            while self.places.get(connected).is_some_and(|place| place.client.step == Step::Idle) {
                connected += 1;
                give_up = self.now() + PATIENCE;
            }
        }
        Ok(())
    }

    /// Does this work for so long, after a tenth of that to warm up. `measure` is called when counting begins and ends.
    pub(crate) fn run(&mut self, work: Work, span: Span, mut measure: impl FnMut()) -> io::Result<Done> {
        self.begin(work)?;
        self.turn_for(span / 10)?;
        self.micros.clear();
        self.told = 0;
        measure();
        let begin = Moment::now();
        self.turn_for(span)?;
        measure();
        self.done(begin)
    }

    /// Creates so many files, and perhaps a few more.
    pub(crate) fn create(&mut self, count: usize) -> io::Result<Done> {
        let begin = Moment::now();
        self.begin(Work::Create)?;
        while self.micros.len() < count {
            let (before, give_up) = (self.micros.len(), self.now() + PATIENCE);
            while self.micros.len() == before {
                self.turn(give_up)?;
            }
        }
        self.done(begin)
    }

    fn begin(&mut self, work: Work) -> io::Result<()> {
        self.work = Some(work);
        self.micros.clear();
        let clients = if work == Work::Notify { self.rounds.len() } else { self.places.len() };
        for place in 0..clients {
            let now = self.now();
            if let Some(Place { client, .. }) = self.places.get_mut(place) {
                client.begin(now, work).map_err(io::Error::other)?;
            }
            self.settle(place)?;
        }
        Ok(())
    }

    fn done(&mut self, begin: Moment) -> io::Result<Done> {
        let (span, told) = (begin.elapsed(), self.told);
        let mut micros = std::mem::take(&mut self.micros);
        micros.sort_unstable();
        self.finish()?;
        Ok(Done { micros, span, told })
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

    fn add(&mut self, opens: Opens, extended: bool) -> io::Result<()> {
        let (now, place, servers) = (self.now(), self.places.len(), [self.server]);
        let mut seed = [0; 32];
        seed.copy_from_slice(&self.rng.bytes(32));
        let user = format!("bench-{}", place % USERS);
        let config = Config { extended, ..Config::new(user.as_bytes(), user.as_bytes(), &servers, seed) };
        let client = Client::new(&config, now, opens, format!("{place}-")).map_err(io::Error::other)?;
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
        limit::check()?;
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
            if let News::Updated = news {
                self.was_told(place)?;
                continue;
            }
            let before = client.step;
            let done = client.take(now, news, self.work).map_err(io::Error::other)?;
            let after = client.step;
            match self.work.filter(|_| done) {
                Some(Work::Notify) => {
                    if let Some(round) = self.rounds.get_mut(place) {
                        round.written = true;
                    }
                    self.end_round(place)?;
                    continue;
                }
                Some(work) => {
                    if work != Work::HandOver {
                        self.micros.push(now.since(client.began).as_micros());
                    }
                    client.begin(now, work).map_err(io::Error::other)?;
                }
                None => {}
            }
            if after != before {
                self.hand_over(place, before, after)?;
            }
        }
        self.transmit(place)
    }

    /// One who watches a file was told that it was written.
    fn was_told(&mut self, place: usize) -> io::Result<()> {
        self.told += 1;
        let Some(writer) = place.checked_rem(self.rounds.len()) else { return Ok(()) };
        if let Some(round) = self.rounds.get_mut(writer) {
            round.told += 1;
        }
        self.end_round(writer)
    }

    /// Writes the file again, once it was written and all who watch it were told.
    fn end_round(&mut self, writer: usize) -> io::Result<()> {
        let now = self.now();
        let (Some(round), Some(Place { client, .. })) =
            (self.rounds.get_mut(writer), self.places.get_mut(writer))
        else {
            return Ok(());
        };
        if !round.written || round.told < round.watchers {
            return Ok(());
        }
        (round.written, round.told) = (false, 0);
        let Some(work) = self.work else { return Ok(()) };
        self.micros.push(now.since(client.began).as_micros());
        client.begin(now, work).map_err(io::Error::other)?;
        self.transmit(writer)
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
