//! One connection between two servers as a state machine: bytes go in, bytes and frames come out. The module's front
//! page shows what is on the wire.
//!
//! Drive it so: while [`Session::room`] is not 0, give it what the connection has by [`Session::handle_bytes`], then
//! call [`Session::poll_frame`] until it has no more. While [`Session::wants_frames`], [`Session::send`] what is
//! waiting; write what [`Session::transmit`] shows and say how much of it was taken by [`Session::transmitted`].
//! After an error write what [`Session::transmit`] still shows, which may tell the other end why, and close the
//! connection: the session does nothing any more but repeat the error.

use std::collections::BTreeSet;
use std::fmt::{self, Debug, Formatter};
use std::net::SocketAddr;

use thiserror::Error;

use super::frame::{Frame, MAX_FRAME, VERSIONS};
use super::noise::{End, Handshake, KEY, MAX_PLAIN, Records, TAG};
use super::secret::Secret;
use crate::codec::{CodecError, Reader, Writer};
use crate::versions::{self, Misfit, Offer, SUPPORTED, Versions};

/// What each end sends first: the protocol's name, and the version of the handshake.
pub const PREAMBLE: [u8; 8] = [b'C', b'L', b'D', b'P', b'E', b'E', b'R', HANDSHAKE_VERSION];

const HANDSHAKE_VERSION: u8 = 2;

/// The longest handshake message, in bytes: a stranger cannot make the server hold more than this.
pub const MAX_HANDSHAKE: usize = 512;

/// The random bytes that each connection needs.
pub const SEED_SIZE: usize = KEY;

/// What the end that accepted answers behind its hello: whether it takes the connection. It refuses for reasons that the
/// other sees as well, or because that one is no member.
const REFUSED: u8 = 0;
const TAKEN: u8 = 1;
/// The other was a member of the cell, and was removed.
const REMOVED: u8 = 2;

/// The length in front of handshake messages and records.
const LENGTH: usize = 2;

/// How much is received before it is opened: two of the longest records.
const RECEIVE: usize = 2 * (LENGTH + MAX_PLAIN + TAG);

/// The length in front of frames.
const FRAME_LENGTH: usize = 4;

/// What a server says of itself when a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The cell that it belongs to.
    pub cell: u128,
    /// Its id in the cell.
    pub node: u64,
    /// Where other servers reach it.
    pub address: SocketAddr,
    /// The lowest and the highest version of the protocol that it speaks.
    pub versions: (u16, u16),
    /// The versions of the cell that it can apply, and the one that it knows.
    pub offer: Offer,
}

impl Hello {
    /// What this program says of itself, if it knows no version of the cell yet.
    #[must_use]
    pub const fn new(cell: u128, node: u64, address: SocketAddr) -> Self {
        let offer = Offer { can: SUPPORTED, has: versions::NONE };
        Self { cell, node, address, versions: VERSIONS, offer }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(&self.cell.to_be_bytes());
        out.u64(self.node);
        out.socket_addr(self.address);
        out.u16(self.versions.0);
        out.u16(self.versions.1);
        out.u32(self.offer.can.lowest);
        out.u32(self.offer.can.highest);
        out.u32(self.offer.has);
        out.into_vec()
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let cell = (u128::from(from.u64()?) << 64) | u128::from(from.u64()?);
        Ok(Self {
            cell,
            node: from.u64()?,
            address: from.socket_addr()?,
            versions: (from.u16()?, from.u16()?),
            offer: Offer { can: Versions { lowest: from.u32()?, highest: from.u32()? }, has: from.u32()? },
        })
    }
}

/// Who the other end of a connection may be, of those who prove the cell's secret and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// One of these.
    Only(BTreeSet<u64>),
    /// Anybody but these, who are no members any more. A server may have missed how others became members, even its
    /// master, and one that waits to be added knows nobody.
    AllBut(BTreeSet<u64>),
}

impl Expected {
    fn has(&self, node: u64) -> bool {
        match self {
            Self::Only(members) => members.contains(&node),
            Self::AllBut(removed) => !removed.contains(&node),
        }
    }
}

/// One end of a connection.
pub struct Session {
    end: End,
    hello: Hello,
    expected: Expected,
    stage: Stage,
    /// What the other end has said of itself, once that was accepted.
    peer: Option<(Hello, u16)>,
    /// Received and not yet opened: at most one handshake message, or [`RECEIVE`] bytes of records.
    received: Vec<u8>,
    /// How much of `received` was opened.
    used: usize,
    /// Opened and not yet given out: at most one frame and one record.
    opened: Vec<u8>,
    /// How much of `opened` was given out.
    taken: usize,
    /// To be sealed: less than a record and one frame.
    plain: Vec<u8>,
    /// To be sent.
    sealed: Vec<u8>,
    /// How much of `sealed` was sent.
    sent: usize,
}

enum Stage {
    /// Waits for the other end's preamble and handshake message.
    Handshake(Box<Handshake>),
    /// Waits for the first record. To the one that accepted it shows that the handshake was no replay; to the one that dialled,
    /// that the other has made the connection its link.
    Unconfirmed(Box<Records>),
    Up(Box<Records>),
    Failed(SessionError),
}

impl Session {
    /// The end that dialled, and expects `peer` to answer. `seed` must be random and used once.
    ///
    /// # Errors
    /// [`SessionError::Noise`], which nothing outside this program can cause.
    pub fn dial(
        secret: &Secret,
        hello: Hello,
        peer: u64,
        seed: [u8; SEED_SIZE],
    ) -> Result<Self, SessionError> {
        let mut session = Self::new(End::Dialled, hello, Expected::Only(BTreeSet::from([peer])));
        let mut handshake = Handshake::new(End::Dialled, secret, &PREAMBLE, seed)?;
        let message = handshake.write(&hello.encode())?;
        session.stage = Stage::Handshake(Box::new(handshake));
        session.put_handshake(&message);
        Ok(session)
    }

    /// The end that was dialled, by who is `expected`. `seed` must be random and used once.
    ///
    /// # Errors
    /// As [`Self::dial`].
    pub fn accept(
        secret: &Secret,
        hello: Hello,
        expected: Expected,
        seed: [u8; SEED_SIZE],
    ) -> Result<Self, SessionError> {
        let mut session = Self::new(End::Accepted, hello, expected);
        session.stage = Stage::Handshake(Box::new(Handshake::new(End::Accepted, secret, &PREAMBLE, seed)?));
        Ok(session)
    }

    const fn new(end: End, hello: Hello, expected: Expected) -> Self {
        Self {
            end,
            hello,
            expected,
            stage: Stage::Failed(SessionError::Closed),
            peer: None,
            received: Vec::new(),
            used: 0,
            opened: Vec::new(),
            taken: 0,
            plain: Vec::new(),
            sealed: Vec::new(),
            sent: 0,
        }
    }

    /// Who is at the other end, and the version of the protocol that both speak; nothing until that is sure. The end that
    /// accepted must then send something, so that the other is sure too.
    #[must_use]
    pub fn peer(&self) -> Option<(Hello, u16)> {
        self.peer.filter(|_| matches!(self.stage, Stage::Up(_)))
    }

    /// How many bytes [`Self::handle_bytes`] takes now; when it is 0, [`Self::poll_frame`] must be called first.
    #[must_use]
    pub fn room(&self) -> usize {
        match &self.stage {
            Stage::Handshake(_) => self.handshake_room(),
            Stage::Unconfirmed(_) | Stage::Up(_) => RECEIVE.saturating_sub(self.received.len() - self.used),
            Stage::Failed(_) => 0,
        }
    }

    /// Takes bytes that came, and returns how many it took: no more than [`Self::room`].
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> usize {
        let part = prefix(bytes, self.room());
        self.received.drain(..self.used);
        self.used = 0;
        self.received.extend_from_slice(part);
        part.len()
    }

    /// The next frame that has come whole.
    ///
    /// # Errors
    /// What is wrong with the other end or its bytes: close the connection.
    pub fn poll_frame(&mut self) -> Result<Option<Frame>, SessionError> {
        loop {
            if let Stage::Failed(error) = &self.stage {
                return Err(error.clone());
            }
            let step = match self.take_frame() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => self.open_next(),
                Err(error) => Err(error),
            };
            match step {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => self.stage = Stage::Failed(error),
            }
        }
    }

    /// The connection has ended: what that means.
    #[must_use]
    pub fn handle_end(&mut self) -> SessionError {
        let error = match &self.stage {
            Stage::Failed(error) => error.clone(),
            Stage::Unconfirmed(_) if self.end == End::Dialled => SessionError::NotTaken,
            Stage::Handshake(_) | Stage::Unconfirmed(_) => SessionError::ClosedInHandshake,
            Stage::Up(_) if self.received.len() == self.used && self.opened.len() == self.taken => {
                SessionError::Closed
            }
            Stage::Up(_) => SessionError::Cut,
        };
        self.stage = Stage::Failed(error.clone());
        error
    }

    /// Whether [`Self::send`] may be called: the other end is sure, and less than a record waits.
    #[must_use]
    pub fn wants_frames(&self) -> bool {
        matches!(self.stage, Stage::Up(_)) && self.plain.len() < MAX_PLAIN && self.sealed.is_empty()
    }

    /// Sends an encoded frame; one of no bytes tells nothing but that this end lives.
    pub fn send(&mut self, frame: &[u8]) {
        // A frame that no reader accepts has a length that none accepts.
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.plain.extend_from_slice(&length.to_be_bytes());
        self.plain.extend_from_slice(frame);
    }

    /// The bytes to write to the connection now.
    ///
    /// # Errors
    /// [`SessionError::Noise`], which nothing outside this program can cause, or the error that came before.
    pub fn transmit(&mut self) -> Result<&[u8], SessionError> {
        if self.sealed.is_empty()
            && !self.plain.is_empty()
            && let Stage::Up(records) | Stage::Unconfirmed(records) = &mut self.stage
        {
            for part in self.plain.chunks(MAX_PLAIN) {
                put_length(part.len() + TAG, &mut self.sealed);
                if let Err(error) = records.seal(part, &mut self.sealed) {
                    let error = SessionError::from(error);
                    self.stage = Stage::Failed(error.clone());
                    return Err(error);
                }
            }
            self.plain.clear();
        }
        Ok(self.sealed.get(self.sent..).unwrap_or_default())
    }

    /// So many bytes of [`Self::transmit`] were written.
    pub fn transmitted(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count);
        if self.sent >= self.sealed.len() {
            self.sealed.clear();
            self.sent = 0;
        }
    }

    /// How many more bytes the handshake needs, as far as is known: none behind its end, for they belong to records, and none
    /// after what is wrong.
    fn handshake_room(&self) -> usize {
        let head = PREAMBLE.len() + LENGTH;
        let whole = match self.received.get(PREAMBLE.len()..head) {
            _ if !PREAMBLE.starts_with(prefix(&self.received, PREAMBLE.len())) => 0,
            None => head,
            Some(length) if length_of(length) > MAX_HANDSHAKE => 0,
            Some(length) => head + length_of(length),
        };
        whole.saturating_sub(self.received.len())
    }

    /// Opens the next handshake message or record; false if it has not come whole.
    fn open_next(&mut self) -> Result<bool, SessionError> {
        match &self.stage {
            Stage::Handshake(_) => self.open_handshake(),
            _ => self.open_record(),
        }
    }

    fn open_handshake(&mut self) -> Result<bool, SessionError> {
        let preamble = prefix(&self.received, PREAMBLE.len());
        if !PREAMBLE.starts_with(preamble) {
            let name = PREAMBLE.len() - 1;
            return Err(match preamble.split_at_checked(name) {
                Some((found, &[version])) if PREAMBLE.starts_with(found) => {
                    SessionError::HandshakeVersion { found: version }
                }
                _ => SessionError::Stranger,
            });
        }
        let Some(body) = self.received.get(PREAMBLE.len()..) else { return Ok(false) };
        let Some((length, message)) = body.split_at_checked(LENGTH) else { return Ok(false) };
        let length = length_of(length);
        if length > MAX_HANDSHAKE {
            return Err(SessionError::HandshakeSize { length });
        }
        if message.len() < length {
            return Ok(false);
        }
        let Stage::Handshake(mut handshake) =
            std::mem::replace(&mut self.stage, Stage::Failed(SessionError::Closed))
        else {
            return Ok(false);
        };
        let payload = handshake.read(message).map_err(|_| SessionError::Secret)?;
        self.received = Vec::new();
        // Later versions may say more at the end.
        let mut payload = Reader::new(&payload);
        let theirs = Hello::decode(&mut payload).map_err(SessionError::Hello)?;
        let version = self.check(&theirs);
        match self.end {
            End::Dialled => {
                let version = version?;
                let (node, by) = (self.hello.node, theirs.node);
                match payload.u8().map_err(SessionError::Hello)? {
                    TAKEN => {}
                    REMOVED => return Err(SessionError::Removed { node, by }),
                    _ => return Err(SessionError::NotMember { node, by }),
                }
                self.peer = Some((theirs, version));
                self.send(&[]);
            }
            End::Accepted => {
                // Answered even if this end refuses: so the other end learns why.
                let mut answer = self.hello.encode();
                answer.push(self.verdict(theirs.node, &version));
                let answer = handshake.write(&answer)?;
                self.put_handshake(&answer);
                self.peer = Some((theirs, version?));
            }
        }
        self.stage = Stage::Unconfirmed(Box::new(handshake.finish()?));
        Ok(true)
    }

    /// What the end that accepted answers behind its hello.
    fn verdict(&self, node: u64, version: &Result<u16, SessionError>) -> u8 {
        match (version, &self.expected) {
            (Ok(_), _) => TAKEN,
            (Err(_), Expected::AllBut(removed)) if removed.contains(&node) => REMOVED,
            (Err(_), _) => REFUSED,
        }
    }

    fn check(&self, theirs: &Hello) -> Result<u16, SessionError> {
        let ours = &self.hello;
        let version = theirs.versions.1.min(ours.versions.1);
        if theirs.cell != ours.cell {
            Err(SessionError::Cell { theirs: theirs.cell, ours: ours.cell })
        } else if version < theirs.versions.0.max(ours.versions.0) {
            Err(SessionError::Version { theirs: theirs.versions, ours: ours.versions })
        } else if theirs.node == ours.node {
            Err(SessionError::Itself { node: ours.node })
        } else if !self.expected.has(theirs.node) {
            let expected = self.expected.clone();
            Err(SessionError::Unexpected { node: theirs.node, address: theirs.address, expected })
        } else {
            self.check_offer(theirs).map(|()| version)
        }
    }

    fn check_offer(&self, theirs: &Hello) -> Result<(), SessionError> {
        self.hello.offer.check(theirs.offer).map_err(|(cell, misfit)| {
            let hello = match misfit {
                Misfit::This => &self.hello,
                Misfit::Other => theirs,
            };
            SessionError::CellVersion { node: hello.node, can: hello.offer.can, cell }
        })
    }

    fn open_record(&mut self) -> Result<bool, SessionError> {
        let received = self.received.get(self.used..).unwrap_or_default();
        let Some((length, rest)) = received.split_at_checked(LENGTH) else { return Ok(false) };
        let Some(record) = rest.get(..length_of(length)) else { return Ok(false) };
        let (Stage::Up(records) | Stage::Unconfirmed(records)) = &mut self.stage else { return Ok(false) };
        self.opened.drain(..self.taken);
        self.taken = 0;
        let opened = records.open(record, &mut self.opened);
        self.used += LENGTH + record.len();
        self.stage = match (std::mem::replace(&mut self.stage, Stage::Failed(SessionError::Closed)), opened) {
            (Stage::Unconfirmed(_), Err(_)) if self.end == End::Accepted => {
                Stage::Failed(SessionError::Replayed)
            }
            (_, Err(_)) => Stage::Failed(SessionError::Tampered),
            (Stage::Unconfirmed(records), Ok(())) => Stage::Up(records),
            (stage, Ok(())) => stage,
        };
        Ok(true)
    }

    fn take_frame(&mut self) -> Result<Option<Frame>, SessionError> {
        loop {
            let rest = self.opened.get(self.taken..).unwrap_or_default();
            let Some((length, rest)) = rest.split_first_chunk::<FRAME_LENGTH>() else { return Ok(None) };
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length > MAX_FRAME {
                return Err(SessionError::FrameSize { length });
            }
            let Some(frame) = rest.get(..length) else { return Ok(None) };
            self.taken += FRAME_LENGTH + length;
            if length > 0 {
                return Frame::decode(frame).map(Some).map_err(SessionError::Frame);
            }
        }
    }

    fn put_handshake(&mut self, message: &[u8]) {
        self.sealed.extend_from_slice(&PREAMBLE);
        put_length(message.len(), &mut self.sealed);
        self.sealed.extend_from_slice(message);
    }
}

impl Debug for Session {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Handshake(_) => "handshake",
            Stage::Unconfirmed(_) => "unconfirmed",
            Stage::Up(_) => "up",
            Stage::Failed(_) => "failed",
        };
        out.debug_struct("Session").field("end", &self.end).field("stage", &stage).finish_non_exhaustive()
    }
}

fn who(expected: &Expected) -> String {
    let (what, nodes) = match expected {
        Expected::Only(members) => ("expected", members),
        Expected::AllBut(removed) => ("removed", removed),
    };
    let nodes: Vec<String> = nodes.iter().map(|node| format!("{node:016x}")).collect();
    format!("{what}: {}", nodes.join(", "))
}

fn prefix(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(bytes)
}

/// All messages are shorter than 64 KiB.
fn put_length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
}

fn length_of(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |length, &byte| (length << 8) | usize::from(byte))
}

/// Why a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The other end is something else.
    #[error("the other end is no CLD server, or this is not its address for other servers")]
    Stranger,
    /// The other end begins in another way.
    #[error("the other server uses version {found} of the handshake, this one version {HANDSHAKE_VERSION}")]
    HandshakeVersion {
        /// Its version.
        found: u8,
    },
    /// A handshake message is too long.
    #[error("a handshake message of {length} bytes; the longest has {MAX_HANDSHAKE}")]
    HandshakeSize {
        /// Its length.
        length: usize,
    },
    /// The other end does not know the secret.
    #[error("the other server has another secret: all servers of a cell must have the same secret file")]
    Secret,
    /// The other end closed the connection before the handshake was over.
    #[error(
        "the other server closed the connection in the handshake: it may have another secret; its log says why"
    )]
    ClosedInHandshake,
    /// What the other end says of itself makes no sense.
    #[error("the other server's greeting is wrong: {0}")]
    Hello(CodecError),
    /// The other end belongs to another cell.
    #[error("the other server belongs to cell {theirs:032x}, this one to cell {ours:032x}")]
    Cell {
        /// The other's cell.
        theirs: u128,
        /// The cell of this server.
        ours: u128,
    },
    /// There is no version that both speak.
    #[error(
        "the other server speaks versions {} to {} of the protocol between servers, this one {} to {}: upgrade the older",
        theirs.0, theirs.1, ours.0, ours.1
    )]
    Version {
        /// Lowest and highest of the other.
        theirs: (u16, u16),
        /// Lowest and highest of this server.
        ours: (u16, u16),
    },
    /// One of the two cannot apply the cell's version.
    #[error(
        "the cell has version {cell}, and server {node:016x} can apply {can}: start {} version of the server there",
        if *cell > can.highest { "a newer" } else { "an older" }
    )]
    CellVersion {
        /// Who cannot.
        node: u64,
        /// What it can.
        can: Versions,
        /// The cell's version.
        cell: u32,
    },
    /// Both ends are one server.
    #[error(
        "server {node:016x} was connected with itself, or another server has the same id: check the addresses of the members"
    )]
    Itself {
        /// Its id.
        node: u64,
    },
    /// The other end is not who it should be.
    #[error(
        "server {node:016x} at {address} is not expected here ({}): is it a member of the cell?",
        who(expected)
    )]
    Unexpected {
        /// The other's id.
        node: u64,
        /// Where it says that it is reached.
        address: SocketAddr,
        /// Who was expected.
        expected: Expected,
    },
    /// The other end does not know this server as a member.
    #[error(
        "server {by:016x} does not know server {node:016x}, which this is, as a member of the cell: was it never added?"
    )]
    NotMember {
        /// This server's id.
        node: u64,
        /// The other's id.
        by: u64,
    },
    /// This server was removed from the cell.
    #[error(
        "server {by:016x} says that server {node:016x}, which this is, was removed from the cell: to come back it needs an empty data directory"
    )]
    Removed {
        /// This server's id.
        node: u64,
        /// The other's id.
        by: u64,
    },
    /// The other end closed the connection after the handshake, before it was a link.
    #[error(
        "the other server did not take this connection: it has another link to this server, or is stopping"
    )]
    NotTaken,
    /// A record was changed, repeated or left out on its way.
    #[error(
        "a record that the other server did not send: something on the way changes what servers send to each other"
    )]
    Tampered,
    /// The other end knows a handshake, but not the keys that came out of it.
    #[error("somebody repeated the beginning of an earlier connection, without knowing the secret")]
    Replayed,
    /// A frame is too long.
    #[error("a frame of {length} bytes; the longest has {MAX_FRAME}")]
    FrameSize {
        /// Its length.
        length: usize,
    },
    /// A frame makes no sense.
    #[error("a frame that makes no sense: {0}")]
    Frame(CodecError),
    /// The other end closed the connection.
    #[error("the other server closed the connection")]
    Closed,
    /// The connection ended inside a record or frame.
    #[error("the connection broke off")]
    Cut,
    /// The Noise library does not work.
    #[error("encryption failed: {0}")]
    Noise(String),
}

impl From<snow::Error> for SessionError {
    fn from(error: snow::Error) -> Self {
        Self::Noise(error.to_string())
    }
}
