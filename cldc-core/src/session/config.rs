//! What a session is told at its start, and the sizes that are chosen at compile time.

use core::net::SocketAddr;

use super::Session;
use crate::lease::Terms;
use crate::link::Pacing;
use crate::time::Duration;
use crate::wire::Key;
use crate::wire::extended::{Features, MAX_ADDRESSES};
use crate::wire::limits::{MAX_KEY, MAX_PATH, MAX_USER};
use crate::wire::xdr::pad;

/// How many server addresses a session knows at most.
pub const MAX_SERVERS: usize = 8;

/// The lease of a plain session: Hail's servers keep one for 60 s (protocol.md 5).
pub const PLAIN_TERMS: Terms =
    Terms { lease: Duration::from_secs(60), grace: Duration::from_secs(45), drift_ppm: 10_000 };

/// What a session is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// The name of the user, 1 to 31 bytes.
    pub user: &'a [u8],
    /// The user's secret key, 1 to 127 bytes.
    pub key: &'a [u8],
    /// Where servers of the cell may be reached, 1 to [`MAX_SERVERS`]; tried in this order.
    pub servers: &'a [SocketAddr],
    /// From a good source, and another one for every session: whoever can guess it can forge a session's numbers.
    pub seed: [u8; 32],
    /// The lease to ask for; the server decides. A plain server is not asked: see [`PLAIN_TERMS`].
    pub lease: Duration,
    /// By how much the rate of either clock may be off, in parts per million; more for a poor oscillator.
    pub drift_ppm: u32,
    /// Whether to ask for an extended session (docs/protocol.md 7). A server that has none gives a plain one.
    pub extended: bool,
    /// How long a server may be silent to NEW_SESS before the next one is tried.
    pub patience: Duration,
}

impl<'a> Config<'a> {
    /// A configuration with the usual values: a lease of 30 s, clocks that are 1 % off, two seconds of patience.
    #[must_use]
    pub const fn new(user: &'a [u8], key: &'a [u8], servers: &'a [SocketAddr], seed: [u8; 32]) -> Self {
        Self {
            user,
            key,
            servers,
            seed,
            lease: Duration::from_secs(30),
            drift_ppm: PLAIN_TERMS.drift_ppm,
            extended: true,
            patience: Duration::from_secs(2),
        }
    }
}

/// A configuration that a session can be made of.
#[derive(Debug)]
pub struct Checked<'a> {
    pub(super) config: &'a Config<'a>,
    pub(super) user: heapless::Vec<u8, MAX_USER>,
    pub(super) key: Key,
    pub(super) servers: heapless::Vec<SocketAddr, MAX_SERVERS>,
    /// The first of them.
    pub(super) server: SocketAddr,
}

impl<'a> Checked<'a> {
    /// Checks a configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(config: &'a Config<'a>) -> Result<Self, ConfigError> {
        if config.user.is_empty() {
            return Err(ConfigError::User);
        }
        if config.key.len() > MAX_KEY {
            return Err(ConfigError::Key);
        }
        Ok(Self {
            config,
            user: heapless::Vec::from_slice(config.user).map_err(|_| ConfigError::User)?,
            key: Key::new(config.key).map_err(|_| ConfigError::Key)?,
            servers: heapless::Vec::from_slice(config.servers).map_err(|_| ConfigError::Servers)?,
            server: *config.servers.first().ok_or(ConfigError::Servers)?,
        })
    }
}

/// Why a session cannot be made of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The user's name is empty, or longer than 31 bytes.
    User,
    /// The key is empty, or longer than 127 bytes.
    Key,
    /// There is no server address, or there are more than [`MAX_SERVERS`].
    Servers,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::User => "the user's name must have 1 to 31 bytes",
            Self::Key => "the secret key must have 1 to 127 bytes",
            Self::Servers => "there must be 1 to 8 server addresses",
        })
    }
}

impl core::error::Error for ConfigError {}

/// How a client sends to a plain server. That acknowledges no pieces, so the window cannot be used, and bursts are
/// kept to a third of what the default socket buffer of such a server holds (failures.md 21).
pub(super) const PACING: Pacing = Pacing {
    resend: Duration::from_millis(250),
    resend_next: Duration::from_millis(500),
    resend_max: Duration::from_secs(4),
    window: u64::MAX,
    burst: 32,
    gap: Duration::from_millis(2),
    whole: u64::MAX,
};

/// How much an extended session puts up with before it looks for another server.
#[derive(Debug)]
pub(super) struct Patience {
    /// How many resend timers, or NOPs, in a row are in vain with a server that is silent.
    pub(super) times: u32,
    /// How long the answer to a first NOP, or RESUME, is waited for at least.
    pub(super) pause: Duration,
    /// A search slows down: from RESUME to RESUME it waits for this part of the time that it has lasted.
    pub(super) part: u64,
    /// After so long without a word, a server that owes an answer is asked whether it is still there: it may have
    /// taken a request, and be the master no more.
    pub(super) answered_within: Duration,
}

/// With a server that is the only one known: it may be started again.
pub(super) const ALONE: Patience = Patience {
    times: 3,
    pause: Duration::from_millis(250),
    part: 2,
    answered_within: Duration::from_secs(1),
};

/// With one of several: while this one is silent, the others choose a master within a second.
pub(super) const AMONG_OTHERS: Patience = Patience {
    times: 2,
    pause: Duration::from_millis(100),
    part: 6,
    answered_within: Duration::from_millis(250),
};

/// What a session can do beyond what every peer of its version can.
pub(super) const OFFERED: Features = Features::KNOWN;

/// How long the rest of the answer to RESUME is waited for, once its beginning is here: the server repeats it.
pub(super) const RESUMED_WITHIN: Duration = Duration::from_secs(2);

/// The `RX` of a session that reads files of up to `file` bytes.
#[must_use]
pub const fn rx_bytes(file: usize) -> usize {
    // Code, xid, four numbers, flags, path, contents.
    12 + 32 + 4 + (4 + MAX_PATH) + (4 + file + pad(file))
}

/// The `TX` of a session that writes files of up to `file` bytes, with `requests` requests in flight.
#[must_use]
pub const fn tx_bytes(file: usize, requests: usize) -> usize {
    // PUT: handle and contents. OPEN: mode, events, path.
    let put = 8 + 4 + file + pad(file);
    let open = 8 + 4 + MAX_PATH;
    requests * if put > open { put } else { open }
}

/// How many bytes the answer to RESUME has at most, for a session with so many handles.
pub(super) const fn resumed_bytes(handles: usize) -> usize {
    // Code and xid, a welcome with addresses of IPv6, and the list.
    12 + 40 + 4 + MAX_ADDRESSES * 20 + 4 + handles * 12
}

/// How many packets the server may have on their way to a session that holds so many before their turn. What is held
/// is acknowledged, and so must not have to give way to others; without any, a few may be on their way at their peril.
pub(super) const fn receive_window(early: usize) -> u32 {
    match early {
        0 => 4,
        1..63 => early as u32 + 1,
        _ => 64,
    }
}

/// A session for a small device: files of 1 KiB, 2 requests in flight, 4 handles.
pub type SmallSession = Session<{ rx_bytes(1024) }, { tx_bytes(1024, 2) }, 2, 4, 0>;

/// A session without compromises: the longest files, many requests in flight, packets held that come early.
pub type FullSession = Session<{ rx_bytes(131_072) }, { tx_bytes(131_072, 2) }, 64, 256, 128>;
