//! How to reach a cell, and as whom.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use cldc_core::session::{Config, PLAIN_TERMS};

/// The lease that is asked for.
const LEASE: Duration = Duration::from_secs(30);

/// How long a server may be silent at the start before the next one is tried, if the time-out leaves that much.
const PATIENCE: Duration = Duration::from_secs(2);

/// How to reach a cell, and as whom: what `connect` is given.
///
/// ```
/// # use cldc_udp::Options;
/// # use std::time::Duration;
/// let options = Options::new("alice", "her secret")
///     .server(([127, 0, 0, 1], 8081).into())
///     .timeout(Duration::from_secs(5));
/// ```
#[derive(Clone)]
pub struct Options {
    user: Vec<u8>,
    key: Vec<u8>,
    servers: Vec<SocketAddr>,
    lease: Duration,
    plain: bool,
    drift_ppm: u32,
    pub(crate) timeout: Duration,
    pub(crate) bind: Option<SocketAddr>,
}

impl Options {
    /// Options for this user, 1 to 31 bytes, and the user's secret key, 1 to 127 bytes.
    pub fn new(user: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self {
            user: user.into(),
            key: key.into(),
            servers: Vec::new(),
            lease: LEASE,
            plain: false,
            drift_ppm: PLAIN_TERMS.drift_ppm,
            timeout: Duration::from_secs(30),
            bind: None,
        }
    }

    /// Adds a server of the cell, of eight at most. They are tried in this order: the client moves on when one is silent
    /// or is not the master, also to servers that it has been told of. See [`resolve`] for names.
    #[must_use]
    pub fn server(mut self, server: SocketAddr) -> Self {
        self.servers.push(server);
        self
    }

    /// Adds several servers of the cell, as [`Options::server`] does.
    #[must_use]
    pub fn servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.servers.extend(servers);
        self
    }

    /// The lease to ask for, 30 seconds unless it is set here: for so long after a client has died its locks stay with
    /// it, and for so long it can bear that the network is down. The server grants 2 s to 10 min; what it has granted
    /// is in `Client::terms`. A plain session has 60 s.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Asks for a plain session, as Hail's clients have it, also of servers that know more: without sequencers, and
    /// bound to this machine's address and to one server.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// The deadline of `connect` and of every call, 30 seconds unless it is set here.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// By how much the rate of a clock may be off, in parts per million; 10,000 (1 %) unless it is set here. The
    /// client counts on its lease for so much less.
    #[must_use]
    pub fn drift_ppm(mut self, drift_ppm: u32) -> Self {
        self.drift_ppm = drift_ppm;
        self
    }

    /// The local address to send from, for servers of its family. Without it, the system chooses.
    #[must_use]
    pub fn bind(mut self, local: SocketAddr) -> Self {
        self.bind = Some(local);
        self
    }

    /// The configuration of the core, with this seed.
    pub(crate) fn config(&self, seed: [u8; 32]) -> Config<'_> {
        let each = self.timeout.checked_div(u32::try_from(self.servers.len()).unwrap_or(u32::MAX));
        let mut config = Config::new(&self.user, &self.key, &self.servers, seed);
        config.lease = self.lease.into();
        config.extended = !self.plain;
        config.drift_ppm = self.drift_ppm;
        config.patience = each.unwrap_or(PATIENCE).min(PATIENCE).into();
        config
    }

    /// Whether any server is of IPv4, and whether any is of IPv6.
    pub(crate) fn families(&self) -> (bool, bool) {
        (self.servers.iter().any(SocketAddr::is_ipv4), self.servers.iter().any(SocketAddr::is_ipv6))
    }
}

/// Without the key.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("user", &String::from_utf8_lossy(&self.user))
            .field("servers", &self.servers)
            .field("lease", &self.lease)
            .field("plain", &self.plain)
            .field("timeout", &self.timeout)
            .field("drift_ppm", &self.drift_ppm)
            .field("bind", &self.bind)
            .finish_non_exhaustive()
    }
}

/// The addresses of a `host:port`, by the system's resolver. It blocks while it asks.
///
/// # Errors
/// What the system's resolver says.
pub fn resolve(host_port: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(host_port.to_socket_addrs()?.collect())
}
