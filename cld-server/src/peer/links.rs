//! A link to each other server of the cell: dialled and accepted, kept up, one for each pair of servers.
//!
//! [`Links::start`] gives the node two things: [`Links`], by which it sends and says who the members are, and [`Events`], from
//! which it takes what came. Sending never waits. A server that is slow or gone costs a bounded amount of memory: what waits
//! for it is dropped, the oldest first; and what it sends is not read from the connection while the node leaves more
//! than 4 MiB of it in [`Events`].
//!
//! Both servers of a pair dial; of two connections made at the same time both keep the one that the server with the lower
//! id dialled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::frame::Frame;
use super::link::Connection;
pub use super::link::LinkError;
use super::members::{Envelope, Member, Members, Spoken, lock};
use super::noise::End;
use super::secret::Secret;
use super::session::{Hello, SEED_SIZE, Session, SessionError};
use crate::versions::{Offer, Versions};

/// The most connections at once that have not finished the handshake, from addresses that no member has, and again
/// from those of members.
pub const MAX_UNKNOWN: usize = 16;

/// How long accepting rests after an error that may last, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// So many log lines about unknown connections come at once, and then one in each [`LOG_INTERVAL`].
const LOG_BURST: u32 = 8;
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// What the links need to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cell's secret.
    pub secret: Secret,
    /// What this server says of itself.
    pub hello: Hello,
    /// How long things may take.
    pub timing: Timing,
}

/// How long things may take. The same on all servers, or nearly so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For connecting and the handshake together, and for the handshake of one who connects.
    pub handshake: Duration,
    /// Each server says something so often.
    pub keepalive: Duration,
    /// A link is closed when nothing has come for so long; several times `keepalive`.
    pub silence: Duration,
    /// The wait before the second attempt to connect; it doubles from then on.
    pub retry: Duration,
    /// The longest wait between two attempts.
    pub longest_retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(2),
            keepalive: Duration::from_millis(500),
            silence: Duration::from_millis(2_500),
            retry: Duration::from_millis(20),
            longest_retry: Duration::from_secs(1),
        }
    }
}

/// What the links tell the node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A server can be sent to. Nothing that was sent before is on its way any more.
    Up {
        /// Its id.
        peer: u64,
        /// The versions of the cell that it can apply.
        can: Versions,
    },
    /// A server cannot be sent to; what waited for it is dropped.
    Down {
        /// Its id.
        peer: u64,
    },
    /// A server has sent this.
    Received {
        /// Its id.
        from: u64,
        /// What it sent.
        frame: Frame,
    },
    /// There is no connection, or no more. It is in the log already, is told once for each new reason, and needs no
    /// answer.
    Trouble {
        /// With this server, if it is known which.
        peer: Option<u64>,
        /// The address of the other end.
        address: SocketAddr,
        /// What is wrong.
        error: LinkError,
    },
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no such member.
    #[error("server {to} is no other member of the cell")]
    NoMember {
        /// The id.
        to: u64,
    },
    /// There is no link to it now.
    #[error("there is no link to server {to} now")]
    NotConnected {
        /// The id.
        to: u64,
    },
    /// Too much of a snapshot waits: send no more than the window before it is acknowledged.
    #[error("too much waits for server {to}")]
    Full {
        /// The id.
        to: u64,
    },
    /// The frame is longer than the other end would read.
    #[error("{length} bytes are too many for one frame; the most are {limit}")]
    TooLong {
        /// The length of its content.
        length: usize,
        /// The most bytes.
        limit: usize,
    },
}

/// How things stand with one other server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its id.
    pub peer: u64,
    /// Where it is dialled.
    pub address: SocketAddr,
    /// The version of the protocol on the present link; none if there is no link.
    pub version: Option<u16>,
    /// How many links there have been.
    pub links: u64,
    /// Bytes that wait to be sent.
    pub queued: usize,
    /// Frames that were dropped.
    pub dropped: u64,
    /// What was wrong last, until there is a link again.
    pub trouble: Option<String>,
}

/// The links, as the node sees them. When it is dropped all connections are closed.
#[derive(Debug)]
pub struct Links {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    manager: JoinHandle<()>,
}

/// What came, in order for each server.
#[derive(Debug)]
pub struct Events(mpsc::UnboundedReceiver<Envelope>);

#[derive(Debug)]
struct Shared {
    config: Config,
    /// Of the cell.
    version: AtomicU32,
    members: Members,
    members_changed: Notify,
    events: mpsc::UnboundedSender<Envelope>,
    strangers: Arc<Semaphore>,
    neighbours: Arc<Semaphore>,
    refused: AtomicU64,
    log: Mutex<LogLimit>,
}

impl Links {
    /// Begins to listen, and to dial the members. Within a tokio runtime only.
    #[must_use]
    pub fn start(
        config: Config,
        listener: TcpListener,
        members: &BTreeMap<u64, SocketAddr>,
    ) -> (Self, Events) {
        // Bounded by the members' budgets: see `Registered::room`. Ups and downs come slowly.
        let (events, received) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            version: AtomicU32::new(config.hello.offer.has),
            config,
            members: Members::default(),
            members_changed: Notify::new(),
            events,
            strangers: Arc::new(Semaphore::new(MAX_UNKNOWN)),
            neighbours: Arc::new(Semaphore::new(MAX_UNKNOWN)),
            refused: AtomicU64::new(0),
            log: Mutex::new(LogLimit { left: LOG_BURST, since: Instant::now(), unsaid: 0 }),
        });
        let (stop, stopped) = oneshot::channel();
        let manager = tokio::spawn(manage(Arc::clone(&shared), listener, stopped));
        let links = Self { shared, stop: Some(stop), manager };
        links.set_members(members);
        (links, Events(received))
    }

    /// Says who the members are and where; this server may be among them. Links to others are closed. A new address
    /// is used from the next attempt to connect on.
    pub fn set_members(&self, members: &BTreeMap<u64, SocketAddr>) {
        self.shared.members.set(self.shared.config.hello.node, members, &self.shared.events);
        self.shared.members_changed.notify_one();
    }

    /// From now on also lets in servers that are no known members, if they prove the cell's secret and id: all but those
    /// that were removed. They are linked, and dialled where they say that they are reached, like members, until the
    /// members change.
    pub fn admit_all_but(&self, removed: BTreeSet<u64>) {
        self.shared.members.open(removed);
    }

    /// The cell has this version now, which servers that are linked from now on must be able to apply.
    pub fn set_version(&self, version: u32) {
        self.shared.version.store(version, Ordering::Relaxed);
    }

    /// Sends a frame, without waiting. That it is taken is no promise: it is dropped when the link goes down, or when
    /// too much waits behind it.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&self, to: u64, frame: &Frame) -> Result<(), SendError> {
        self.shared.members.get(to).ok_or(SendError::NoMember { to })?.send(frame)
    }

    /// How things stand, by id.
    #[must_use]
    pub fn status(&self) -> Vec<PeerStatus> {
        self.shared.members.all().iter().map(|member| member.status()).collect()
    }

    /// How many connections were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Closes all connections, and returns when that is done.
    pub async fn shutdown(mut self) {
        // The manager may have ended, by a panic only.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = (&mut self.manager).await;
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.manager.abort();
    }
}

impl Events {
    /// The next event; none when the links are shut down and all was taken.
    pub async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await.map(|(event, _room)| event)
    }

    /// The next event, if there is one now.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.0.try_recv().ok().map(|(event, _room)| event)
    }
}

/// Owns all tasks. They end with it.
async fn manage(shared: Arc<Shared>, listener: TcpListener, mut stop: oneshot::Receiver<()>) {
    let mut tasks = JoinSet::new();
    let mut dialling: Vec<(Arc<Member>, AbortHandle)> = Vec::new();
    loop {
        tokio::select! {
            _ = &mut stop => break,
            () = shared.members_changed.notified() => {
                let members = shared.members.all();
                // One who was removed and is back is another member than before.
                dialling.retain(|(member, task)| {
                    let stays = members.iter().any(|other| Arc::ptr_eq(other, member));
                    if !stays {
                        task.abort();
                    }
                    stays
                });
                for member in members {
                    if !dialling.iter().any(|(other, _)| Arc::ptr_eq(other, &member)) {
                        let task = keep_linked(Arc::clone(&shared), Arc::clone(&member));
                        dialling.push((member, tasks.spawn(task)));
                    }
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    if let Some(slot) = shared.admit(from) {
                        tasks.spawn(accept(Arc::clone(&shared), stream, from, slot));
                    }
                }
                Err(error) => {
                    warn!("cannot accept connections of other servers: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
    drop(listener);
    tasks.shutdown().await;
}

impl Shared {
    /// A place for a connection in the handshake. Strangers cannot take those of members.
    fn admit(&self, from: SocketAddr) -> Option<OwnedSemaphorePermit> {
        let member = self.members.any_at(canonical(from.ip()));
        let places = if member { &self.neighbours } else { &self.strangers };
        let place = Arc::clone(places).try_acquire_owned().ok();
        if place.is_none() {
            self.refuse(None, from, LinkError::Crowded);
        }
        place
    }

    fn session(&self, dial: Option<u64>) -> Result<Session, LinkError> {
        let mut seed = [0; SEED_SIZE];
        getrandom::fill(&mut seed).map_err(|_| LinkError::Random)?;
        let Config { secret, hello, .. } = &self.config;
        let offer = Offer { has: self.version.load(Ordering::Relaxed), ..hello.offer };
        let hello = Hello { offer, ..*hello };
        Ok(match dial {
            Some(peer) => Session::dial(secret, hello, peer, seed)?,
            None => Session::accept(secret, hello, self.members.expected(), seed)?,
        })
    }

    /// Carries the frames of a connection whose handshake is done, until it ends.
    async fn carry(
        &self,
        connection: Connection,
        member: &Arc<Member>,
        end: End,
        spoken: Spoken,
    ) -> Result<(), LinkError> {
        let timing = &self.config.timing;
        let link = member.register(end, spoken, timing.handshake)?;
        connection.carry(link, timing).await
    }

    /// Counts a connection that was refused, and says so unless that was said too often.
    fn refuse(&self, peer: Option<u64>, address: SocketAddr, error: LinkError) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        match lock(&self.log).take(Instant::now()) {
            None => debug!("connection from {address} refused: {error}"),
            Some(unsaid) => {
                let others = if unsaid > 0 { format!(" (and {unsaid} others)") } else { String::new() };
                warn!("connection from {address} refused: {error}{others}");
                // The node may be gone already.
                let _ = self.events.send((Event::Trouble { peer, address, error }, None));
            }
        }
    }
}

/// Dials a member whenever there is no link to it, and carries the frames of the links that come of it.
async fn keep_linked(shared: Arc<Shared>, member: Arc<Member>) {
    let timing = shared.config.timing;
    let mut wait = timing.retry;
    loop {
        member.without_link().await;
        let began = Instant::now();
        let attempt = timeout(timing.handshake, dial(&shared, &member)).await.unwrap_or(Err(LinkError::Slow));
        let ended = match attempt {
            Ok((connection, spoken)) => shared.carry(connection, &member, End::Dialled, spoken).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) | Err(LinkError::Simultaneous | LinkError::Session(SessionError::NotTaken)) => {
                debug!("server {:016x}: there is another link", member.id);
            }
            Err(error) => member.trouble(error),
        }
        if began.elapsed() > timing.longest_retry + timing.handshake {
            wait = timing.retry;
        }
        sleep(jittered(wait)).await;
        wait = (wait * 2).min(timing.longest_retry);
    }
}

async fn dial(shared: &Shared, member: &Member) -> Result<(Connection, Spoken), LinkError> {
    let stream = TcpStream::connect(member.address()).await;
    let stream = stream.map_err(|error| LinkError::Connect(error.to_string()))?;
    stream.set_nodelay(true)?;
    let mut connection = Connection::new(stream, shared.session(Some(member.id))?);
    let (hello, version) = connection.handshake().await?;
    Ok((connection, Spoken { version, can: hello.offer.can }))
}

/// Finds out who has connected, and carries the frames.
async fn accept(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr, slot: OwnedSemaphorePermit) {
    let greeted = async {
        stream.set_nodelay(true)?;
        let mut connection = Connection::new(stream, shared.session(None)?);
        let (hello, version) = connection.handshake().await?;
        let member = match shared.members.get(hello.node) {
            Some(member) => member,
            None => {
                let me = shared.config.hello.node;
                let guest = shared.members.introduce(me, hello, &shared.events).ok_or(LinkError::Removed)?;
                shared.members_changed.notify_one();
                guest
            }
        };
        Ok((connection, member, Spoken { version, can: hello.offer.can }))
    };
    let greeted = timeout(shared.config.timing.handshake, greeted).await.unwrap_or(Err(LinkError::Slow));
    drop(slot);
    match greeted {
        Ok((connection, member, spoken)) => {
            match shared.carry(connection, &member, End::Accepted, spoken).await {
                Ok(()) | Err(LinkError::Simultaneous) => {
                    debug!("server {:016x}: there is another link", member.id)
                }
                Err(error) => member.trouble(error),
            }
        }
        Err(error) => shared.refuse(None, from, error),
    }
}

/// An IPv4 address that came in by an IPv6 socket as itself.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Half of the span to all of it, so that servers that lost each other together do not dial together again and again.
fn jittered(span: Duration) -> Duration {
    let mut random = [0; 4];
    // Without random numbers there is no link anyway.
    let _ = getrandom::fill(&mut random);
    span.mul_f64(f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX) / 2.0 + 0.5)
}

/// Keeps strangers from filling the log.
#[derive(Debug)]
struct LogLimit {
    left: u32,
    since: Instant,
    unsaid: u64,
}

impl LogLimit {
    /// Whether to log now: how many lines were not, or nothing.
    fn take(&mut self, now: Instant) -> Option<u64> {
        while self.left < LOG_BURST && now.duration_since(self.since) >= LOG_INTERVAL {
            self.left += 1;
            self.since += LOG_INTERVAL;
        }
        if self.left == LOG_BURST {
            self.since = now;
        }
        if self.left == 0 {
            self.unsaid += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}
