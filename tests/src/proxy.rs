//! A UDP proxy that loses, repeats, reorders, damages and delays datagrams, each direction by its own settings.
//!
//! Any number of clients share one proxy: each address gets its own socket towards the server, so the server tells
//! them apart. What happens to the n-th datagram of a client in a direction follows from the seed alone, which is
//! printed. The proxy ends when it is dropped.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::rng::{self, Rng};

/// How long a reordered datagram is held back for later ones to overtake it.
const HOLD: Duration = Duration::from_millis(15);
/// How often a thread that waits for datagrams looks whether the proxy has ended.
const TICK: Duration = Duration::from_millis(25);

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client to the server.
    ToServer,
    /// From the server to a client.
    ToClient,
}

/// What is done to the datagrams of one direction. Rates are probabilities per datagram, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Thrown away.
    pub loss: f64,
    /// Sent twice.
    pub duplication: f64,
    /// Held back until later ones have overtaken it.
    pub reordering: f64,
    /// One bit flipped.
    pub corruption: f64,
    /// Every datagram is late by this.
    pub delay: Duration,
    /// And by up to this more, each by another.
    pub jitter: Duration,
}

/// What the proxy did to the datagrams of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Came in.
    pub received: u64,
    /// Went out, duplicates included. Those that are still delayed are not counted yet.
    pub sent: u64,
    /// Thrown away by [`Faults::loss`].
    pub lost: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
    /// Sent with a bit flipped.
    pub corrupted: u64,
    /// Thrown away because the direction was cut.
    pub cut: u64,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    faults: Faults,
    cut: bool,
    counters: Counters,
}

/// A datagram with the socket and the address that it leaves by.
#[derive(Debug)]
struct Parcel {
    way: Direction,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    datagram: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    to_server: Lane,
    to_client: Lane,
    /// By due time, then by order of arrival.
    queue: BTreeMap<(Instant, u64), Parcel>,
    arrivals: u64,
}

impl State {
    const fn lane(&mut self, way: Direction) -> &mut Lane {
        match way {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
    ended: AtomicBool,
    /// How often all clients were moved.
    moves: AtomicU64,
    seed: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the proxy panics")
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Decides what becomes of a datagram, and queues what is left of it.
    fn pass(&self, way: Direction, socket: &Arc<UdpSocket>, to: SocketAddr, datagram: &[u8], rng: &mut Rng) {
        let state = &mut *self.state();
        let lane = state.lane(way);
        let (faults, counters) = (lane.faults, &mut lane.counters);
        // Every datagram draws the same number of times, so that one setting does not shift the course of another.
        let [lost, twice, late, damaged] =
            [faults.loss, faults.duplication, faults.reordering, faults.corruption]
                .map(|rate| rng.chance(rate));
        let (mut place, jitters) = (Rng::new(rng.next_u64()), [rng.next_u64(), rng.next_u64()]);
        counters.received += 1;
        if lane.cut {
            counters.cut += 1;
            return;
        }
        if lost {
            counters.lost += 1;
            return;
        }
        counters.duplicated += u64::from(twice);
        counters.reordered += u64::from(late);
        counters.corrupted += u64::from(damaged);
        let mut datagram = datagram.to_vec();
        let damage = usize::try_from(place.below(datagram.len() as u64)).unwrap_or_default();
        if damaged && let Some(byte) = datagram.get_mut(damage) {
            *byte ^= 1 << place.below(8);
        }
        let now = Instant::now() + faults.delay + if late { HOLD } else { Duration::ZERO };
        for jitter in jitters.into_iter().take(1 + usize::from(twice)) {
            let jitter = Rng::new(jitter).below(faults.jitter.as_micros() as u64 + 1);
            let parcel = Parcel { way, socket: Arc::clone(socket), to, datagram: datagram.clone() };
            state.queue.insert((now + Duration::from_micros(jitter), state.arrivals), parcel);
            state.arrivals += 1;
        }
        self.more.notify_one();
    }

    /// Sends queued datagrams when they are due, until the proxy ends.
    fn deliver(&self) {
        let mut state = self.state();
        while !self.ended() {
            let now = Instant::now();
            let next = state.queue.first_key_value().map(|((due, _), _)| *due);
            if next.is_some_and(|due| due <= now) {
                if let Some((_, parcel)) = state.queue.pop_first() {
                    // A server that is down makes this fail: the datagram is lost, as on any network.
                    let _ = parcel.socket.send_to(&parcel.datagram, parcel.to);
                    state.lane(parcel.way).counters.sent += 1;
                }
            } else {
                let wait = next.map_or(TICK, |due| (due - now).min(TICK));
                state = self.more.wait_timeout(state, wait).expect("no thread of the proxy panics").0;
            }
        }
    }
}

/// Receives into `buffer`; none at a tick without a datagram.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    match socket.recv_from(buffer) {
        Ok(received) => Some(received),
        Err(error) => match error.kind() {
            // Refused: an answer of the host where a server is down.
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused => None,
            _ => panic!("the proxy cannot receive: {error}"),
        },
    }
}

fn bind() -> Arc<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("bind a loopback socket");
    socket.set_read_timeout(Some(TICK)).expect("set a read timeout");
    Arc::new(socket)
}

/// Takes the clients' datagrams; makes a socket and a thread for each new client.
fn serve_clients(shared: &Arc<Shared>, front: &Arc<UdpSocket>, server: SocketAddr) {
    let mut clients = BTreeMap::new();
    let mut threads = Vec::new();
    let mut buffer = vec![0; 65_536];
    while !shared.ended() {
        let Some((length, client)) = receive(front, &mut buffer) else { continue };
        let (socket, rng) =
            clients.entry((client, shared.moves.load(Ordering::Relaxed))).or_insert_with(|| {
                let socket = bind();
                let mut seeds = Rng::new(shared.seed.wrapping_add(threads.len() as u64));
                let (to_server, to_client) = (Rng::new(seeds.next_u64()), Rng::new(seeds.next_u64()));
                let (shared, front, back) = (Arc::clone(shared), Arc::clone(front), Arc::clone(&socket));
                threads.push(std::thread::spawn(move || {
                    serve_server(&shared, &back, server, &front, client, to_client)
                }));
                (socket, to_server)
            });
        shared.pass(Direction::ToServer, socket, server, buffer.get(..length).unwrap_or_default(), rng);
    }
    join(threads);
}

/// Takes the server's datagrams for one client.
fn serve_server(
    shared: &Shared,
    back: &UdpSocket,
    server: SocketAddr,
    front: &Arc<UdpSocket>,
    client: SocketAddr,
    mut rng: Rng,
) {
    let mut buffer = vec![0; 65_536];
    while !shared.ended() {
        if let Some((length, from)) = receive(back, &mut buffer)
            && from == server
        {
            shared.pass(
                Direction::ToClient,
                front,
                client,
                buffer.get(..length).unwrap_or_default(),
                &mut rng,
            );
        }
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // A panic is reported where it happens; here the proxy only ends.
        let _ = thread.join();
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy in front of `server` that does nothing to what it passes yet. Its seed is new, and printed; the
    /// environment variable `CLD_TEST_SEED` (a decimal number) repeats a run.
    #[must_use]
    pub fn start(server: SocketAddr) -> Self {
        Self::with_seed(server, rng::seed())
    }

    /// A proxy in front of `server` with a given seed.
    #[must_use]
    pub fn with_seed(server: SocketAddr, seed: u64) -> Self {
        println!("proxy seed: CLD_TEST_SEED={seed}");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            more: Condvar::new(),
            ended: AtomicBool::new(false),
            moves: AtomicU64::new(0),
            seed,
        });
        let front = bind();
        let address = front.local_addr().expect("the socket is bound");
        let (for_clients, for_delivery) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || serve_clients(&for_clients, &front, server)),
            std::thread::spawn(move || for_delivery.deliver()),
        ];
        Self { shared, address, threads }
    }

    /// Where clients send to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what happens to the datagrams of one direction from now on.
    pub fn set(&self, way: Direction, faults: Faults) {
        self.shared.state().lane(way).faults = faults;
    }

    /// Sets what happens to the datagrams of both directions from now on.
    pub fn set_both(&self, faults: Faults) {
        self.set(Direction::ToServer, faults);
        self.set(Direction::ToClient, faults);
    }

    /// Lets nothing through in this direction, until [`Proxy::heal`]. What is on its way arrives.
    pub fn cut(&self, way: Direction) {
        self.shared.state().lane(way).cut = true;
    }

    /// Lets nothing through either way, until [`Proxy::heal`]. What is on its way arrives.
    pub fn cut_both(&self) {
        self.cut(Direction::ToServer);
        self.cut(Direction::ToClient);
    }

    /// Mends a cut. The faults set stay set.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        (state.to_server.cut, state.to_client.cut) = (false, false);
    }

    /// From now on the server sees every client at another address, as behind a router that was started again. What it
    /// sends to the old ones arrives still.
    pub fn move_clients(&self) {
        self.shared.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// What was done in one direction so far.
    #[must_use]
    pub fn counters(&self, way: Direction) -> Counters {
        self.shared.state().lane(way).counters
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.more.notify_all();
        join(std::mem::take(&mut self.threads));
    }
}

#[cfg(test)]
mod tests;
