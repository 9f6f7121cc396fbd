//! One connection to another server: the session driven by a TCP stream.

use std::io;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};

use super::frame::Frame;
use super::links::Timing;
use super::members::Registered;
use super::session::{Hello, Session, SessionError};

/// How much is read at once.
const READ: usize = 64 << 10;

/// So often is something done before others have their turn.
const TURN: u32 = 32;

/// Why there is no connection, or no more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The handshake took too long.
    #[error("the other end did not finish the handshake in time")]
    Slow,
    /// Wrong bytes, or the wrong server.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// Nothing came for too long.
    #[error("nothing came from the other server for {millis} ms")]
    Silent {
        /// How long.
        millis: u128,
    },
    /// There is another link to the same server, made at the same time.
    #[error("there is another link to the same server")]
    Simultaneous,
    /// The server is no member any more.
    #[error("the server is not a member any more")]
    Removed,
    /// Too many connections are in the handshake.
    #[error("too many connections have not finished the handshake")]
    Crowded,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

/// A connection and its session.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    session: Session,
    buffer: Vec<u8>,
    /// The first frame may come with the end of the handshake.
    first: Option<Frame>,
}

impl Connection {
    pub(super) const fn new(stream: TcpStream, session: Session) -> Self {
        Self { stream, session, buffer: Vec::new(), first: None }
    }

    /// Goes on until it is sure who is at the other end; returns what that one says of itself, and the version that both speak.
    pub(super) async fn handshake(&mut self) -> Result<(Hello, u16), LinkError> {
        // Small, for strangers.
        self.buffer.resize(1024, 0);
        loop {
            let polled = self.session.poll_frame();
            // Also after an error: it may tell the other end why.
            let written = self.write();
            self.first = polled?;
            written?;
            if let Some((peer, version)) = self.session.peer() {
                self.buffer.resize(READ, 0);
                return Ok((peer, version));
            }
            if !self.read()? {
                tokio::select! {
                    ready = self.stream.readable() => ready?,
                    ready = self.stream.writable(), if !self.session.transmit()?.is_empty() => ready?,
                }
            }
        }
    }

    /// Carries frames until the link ends or is replaced.
    pub(super) async fn carry(mut self, link: Registered, timing: &Timing) -> Result<(), LinkError> {
        // Tells the other end that this connection is the link now.
        self.session.send(&[]);
        let mut ticks = tokio::time::interval(timing.keepalive);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut incoming = self.first.take();
        let mut done = 0_u32;
        loop {
            let mut progress = self.read()?;
            if progress {
                heard = Instant::now();
            }
            progress |= self.deliver(&link, &mut incoming)?;
            while self.session.wants_frames()
                && let Some(frame) = link.next_frame()
            {
                self.session.send(&frame);
            }
            progress |= self.write()?;
            if progress {
                done = done.wrapping_add(1);
                if done.is_multiple_of(TURN) {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            let unsent = !self.session.transmit()?.is_empty();
            let room = incoming.as_ref().map(|frame| link.room(frame));
            tokio::select! {
                () = link.replaced() => return Ok(()),
                permit = async move { room?.await }, if incoming.is_some() => {
                    if let (Some(frame), Some(permit)) = (incoming.take(), permit) {
                        link.deliver(frame, permit);
                    }
                }
                ready = self.stream.readable(), if incoming.is_none() => ready?,
                ready = self.stream.writable(), if unsent => ready?,
                () = link.member.wake.notified(), if !unsent => {}
                _ = ticks.tick() => {
                    if incoming.is_some() {
                        // The node takes nothing, so the other end is not heard.
                        heard = Instant::now();
                    } else if heard.elapsed() > timing.silence {
                        return Err(LinkError::Silent { millis: timing.silence.as_millis() });
                    }
                    if !unsent {
                        self.session.send(&[]);
                    }
                }
            }
        }
    }

    /// Gives frames to the node while there is room; the first without room stays in `incoming`.
    fn deliver(&mut self, link: &Registered, incoming: &mut Option<Frame>) -> Result<bool, LinkError> {
        let mut progress = false;
        loop {
            if incoming.is_none() {
                *incoming = self.session.poll_frame()?;
            }
            let Some(permit) = incoming.as_ref().and_then(|frame| link.try_room(frame)) else {
                return Ok(progress);
            };
            if let Some(frame) = incoming.take() {
                link.deliver(frame, permit);
                progress = true;
            }
        }
    }

    /// Reads what is there and the session has room for; false if that is nothing.
    fn read(&mut self) -> Result<bool, LinkError> {
        let room = self.session.room().min(self.buffer.len());
        let Some(buffer) = self.buffer.get_mut(..room).filter(|buffer| !buffer.is_empty()) else {
            return Ok(false);
        };
        match self.stream.try_read(buffer) {
            Ok(0) => Err(self.session.handle_end().into()),
            Ok(length) => {
                let _ = self.session.handle_bytes(buffer.get(..length).unwrap_or_default());
                Ok(true)
            }
            Err(error) if is_nothing(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what the connection takes; false if that is nothing.
    fn write(&mut self) -> Result<bool, LinkError> {
        let bytes = self.session.transmit()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        match self.stream.try_write(bytes) {
            Ok(length) => {
                self.session.transmitted(length);
                Ok(length > 0)
            }
            Err(error) if is_nothing(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
