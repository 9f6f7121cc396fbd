//! What one session does, plain beside extended, with one request on its way or many.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant as Moment};

use cld_tests::raw::RECEIVE_BUFFER;
use cld_tests::rng::Rng;
use cld_tests::server::Cld;
use cldc_core::session::{Config, Datagram, Event, Handle, Outcome, RequestId, Session, rx_bytes, tx_bytes};
use cldc_core::time::Instant;
use cldc_core::wire::limits::MAX_PACKET;
use cldc_core::wire::{EventMask, OpenMode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::client::CONTENTS;
use crate::load::Done;
use crate::{limit, machine};

/// How many requests are unanswered at a time.
const IN_FLIGHT: [usize; 2] = [1, 32];

/// A session with room for the most of them, and for as many packets that come early.
type Wide = Session<{ rx_bytes(CONTENTS) }, { tx_bytes(CONTENTS, 32) }, 32, 1, 63>;

/// One session on a socket of its own.
struct Client {
    session: Box<Wide>,
    socket: UdpSocket,
    start: Moment,
    opened: Option<Handle>,
    /// What is unanswered, and since when.
    begun: BTreeMap<RequestId, Moment>,
    micros: Vec<u64>,
}

impl Client {
    fn connect(cld: &Cld, extended: bool) -> io::Result<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.set_nonblocking(true)?;
        let _ = set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        let (mut seed, mut rng) = ([0; 32], Rng::fresh());
        seed.chunks_mut(8).for_each(|bytes| bytes.copy_from_slice(&rng.next_u64().to_le_bytes()));
        let servers = [cld.address()];
        let config = Config { extended, ..Config::new(b"single", b"single", &servers, seed) };
        let session = Box::new(Wide::new(&config, Instant::START).map_err(io::Error::other)?);
        let start = Moment::now();
        let mut client =
            Self { session, socket, start, opened: None, begun: BTreeMap::new(), micros: Vec::new() };
        while !client.session.is_open() {
            client.turn()?;
        }
        let now = client.now();
        let mode = OpenMode::CREATE | OpenMode::READ | OpenMode::WRITE;
        let path: &[u8] = if extended { b"/extended" } else { b"/plain" };
        client.session.open(now, path, mode, EventMask::NONE).map_err(io::Error::other)?;
        while client.opened.is_none() {
            client.turn()?;
        }
        Ok(client)
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Sends what is to be sent, waits for something to do, and does it.
    fn turn(&mut self) -> io::Result<()> {
        limit::check()?;
        let mut datagram: Datagram = [0; MAX_PACKET];
        while let Some(transmit) = self.session.poll_transmit(self.now(), &mut datagram) {
            self.socket.send_to(datagram.get(..transmit.len).unwrap_or_default(), transmit.to)?;
        }
        let now = self.now();
        let wait = self.session.poll_timeout().map_or(1_000_000, |at| at.since(now).as_micros());
        let wait = Timespec::try_from(Duration::from_micros(wait)).map_err(io::Error::other)?;
        poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&wait))?;
        let mut buffer = [0; 2048];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    let datagram = buffer.get(..len).unwrap_or_default();
                    // What is not taken in will come again.
                    let _ = self.session.handle_datagram(self.now(), from, datagram);
                    self.take_events()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let now = self.now();
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        self.take_events()
    }

    fn take_events(&mut self) -> io::Result<()> {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Done { result: Ok(Outcome::Opened(handle)), .. } => self.opened = Some(handle),
                Event::Done { request, result: Ok(_) } => {
                    let micros = self.begun.remove(&request).map(|begun| begun.elapsed().as_micros());
                    self.micros.extend(micros.map(|micros| u64::try_from(micros).unwrap_or(u64::MAX)));
                }
                Event::Done { result: Err(code), .. } => return Err(io::Error::other(code.describe())),
                Event::Ended(end) => return Err(io::Error::other(format!("the session has ended: {end:?}"))),
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps so many requests on their way for so long.
    fn pipeline(&mut self, writes: bool, flying: usize, span: Duration) -> io::Result<Done> {
        let handle = self.opened.ok_or(ErrorKind::NotFound)?;
        let begin = Moment::now();
        loop {
            while self.begun.len() < flying && begin.elapsed() < span {
                let now = self.now();
                let request = if writes {
                    self.session.put(now, handle, &[0x5a; CONTENTS])
                } else {
                    self.session.get(now, handle)
                };
                self.begun.insert(request.map_err(io::Error::other)?, Moment::now());
            }
            if self.begun.is_empty() {
                break;
            }
            self.turn()?;
        }
        let span = begin.elapsed();
        let mut micros = std::mem::take(&mut self.micros);
        micros.sort_unstable();
        Ok(Done { micros, span, ..Done::default() })
    }
}

/// Prints what one session of either kind does.
///
/// # Errors
/// A request that failed, or nothing to be read of the machine.
pub(crate) fn run(cld: &Cld, folder: &Path, span: Duration) -> io::Result<()> {
    println!(
        "\n{:<28}{:>8}{:>10}{:>10}{:>10}{:>12}{:>12}",
        "one session", "flying", "per s", "p50 ms", "p99 ms", "CPU µs each", "disk per s"
    );
    for (name, extended) in [("plain", false), ("extended", true)] {
        let mut client = Client::connect(cld, extended)?;
        for (work, writes) in [("durable write", true), ("read", false)] {
            for flying in IN_FLIGHT {
                let disk = machine::disk_rate(folder, Duration::from_millis(300))?;
                let before = machine::cpu_time(cld.process())?;
                let done = client.pipeline(writes, flying, span)?;
                let used = machine::cpu_time(cld.process())?.saturating_sub(before);
                let each = used.as_secs_f64() * 1e6 / done.micros.len() as f64;
                println!(
                    "{:<28}{flying:>8}{:>10.0}{:>10.2}{:>10.2}{each:>12.0}{disk:>12.0}",
                    format!("{work}, {name}"),
                    done.rate(),
                    done.percentile(50),
                    done.percentile(99)
                );
            }
        }
    }
    Ok(())
}
