//! The configuration: what the command line and the configuration file say, checked, with the defaults filled in.
//!
//! Both speak the same language: an option `--session-timeout 30` is `session-timeout = 30` in the file. [`Settings`]
//! is read from either; the command line's are laid over the file's and become a [`Config`].

mod settings;
mod values;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use cldc_core::wire::extended::MAX_ADDRESSES as MAX_CLIENT_ADDRESSES;
use thiserror::Error;

use crate::database::Limits;
use crate::endpoint::QueueLimits;
use crate::keys::Keys;
use crate::keys::file::{self, KeyFileError};
pub(crate) use settings::Settings;
use values::Within;
pub(crate) use values::{LogFormat, Port};

/// The file that is read, if it exists, when no other is named.
const DEFAULT_FILE: &str = "/etc/cld/cld.toml";

const DEFAULT_DATA: &str = "/var/lib/cld";
const DEFAULT_PID: &str = "/var/run/cld.pid";

/// The most addresses that a server listens on.
const MAX_ADDRESSES: usize = 64;

/// Where a configuration comes from. It can be read again.
#[derive(Clone, Debug)]
pub(crate) struct ConfigSource {
    /// What the command line says.
    pub(crate) command_line: Settings,
    /// The file that it names.
    pub(crate) file: Option<PathBuf>,
}

impl ConfigSource {
    /// Reads the configuration file, the default one if it exists and no other is named, and lays the command line over it.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub(crate) fn read(&self) -> Result<Config, ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        let file = self.file.as_deref().or_else(|| default.exists().then_some(default));
        let from_file = file.map(Settings::load).transpose()?.unwrap_or_default();
        Config::new(self.command_line.clone().over(from_file))
    }
}

/// A checked configuration: everything that a server is told when it starts.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// The addresses to listen on, each once; none means all.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where clients can reach the cell's servers; none means the addresses to listen on.
    pub(crate) client_addresses: Vec<SocketAddr>,
    /// What makes this server one of several; none is a cell of one.
    pub(crate) cell: Option<CellConfig>,
    /// The UDP port, the same for all addresses.
    pub(crate) port: Port,
    /// Whether to stay in the foreground.
    pub(crate) foreground: bool,
    /// Where to write the process id.
    pub(crate) pid_file: Option<PathBuf>,
    /// Where to write the port number.
    pub(crate) port_file: Option<PathBuf>,
    /// Where the users' secrets come from.
    pub(crate) keys: KeySource,
    /// How much the server takes on.
    pub(crate) limits: Limits,
    /// How much it keeps for clients that do not acknowledge it.
    pub(crate) queue_limits: QueueLimits,
    /// Where log lines go, and which.
    pub(crate) log: LogConfig,
}

/// What a server of a cell of several is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CellConfig {
    /// The file with the cell's id and secret.
    pub(crate) secret: PathBuf,
    /// Where to listen for the other servers.
    pub(crate) peer: SocketAddr,
}

/// Where the users' secrets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// A key file.
    File(PathBuf),
    /// Each user's name is its secret.
    UserAsKey,
    /// The configuration names no users: they are the cell's.
    Cell,
}

impl Display for KeySource {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "the key file {}", path.display()),
            Self::UserAsKey => out.write_str("insecure-user-as-key"),
            Self::Cell => out.write_str("the cell"),
        }
    }
}

impl KeySource {
    /// Reads the keys.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub(crate) fn load(&self) -> Result<Keys, KeyFileError> {
        match self {
            Self::File(path) => file::load(path).map(Keys::Listed),
            Self::UserAsKey => Ok(Keys::UserAsKey),
            Self::Cell => Ok(Keys::Listed(BTreeMap::new())),
        }
    }
}

/// Where log lines go, and which.
#[derive(Clone, Debug)]
pub(crate) struct LogConfig {
    /// To standard error rather than syslog.
    pub(crate) stderr: bool,
    /// Their form.
    pub(crate) format: LogFormat,
    /// 0 to 2.
    pub(crate) verbosity: u64,
}

impl Config {
    /// The configuration that these settings make, with the defaults filled in.
    ///
    /// # Errors
    /// Settings that are missing or do not go together.
    fn new(settings: Settings) -> Result<Self, ConfigError> {
        let (limits, queue_limits) = (settings.limits(), settings.queue_limits());
        let keys = match (settings.keys, settings.insecure_user_as_key) {
            (Some(file), false) => KeySource::File(file),
            (None, true) => KeySource::UserAsKey,
            (None, false) if settings.cell_secret.is_some() => KeySource::Cell,
            (None, false) => return Err(ConfigError::NoKeys),
            (Some(_), true) => return Err(ConfigError::KeysTwice),
        };
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in settings.bind {
            if addresses.contains(&address) {
                return Err(ConfigError::BindTwice { address });
            }
            addresses.push(address);
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(ConfigError::TooManyAddresses { count: addresses.len() });
        }
        let client_addresses = settings.client_addresses;
        if let Some(&address) = client_addresses.iter().find(|address| !is_reachable(**address)) {
            return Err(ConfigError::NoClientAddress { address });
        }
        if client_addresses.len() > MAX_CLIENT_ADDRESSES {
            return Err(ConfigError::TooManyClientAddresses { count: client_addresses.len() });
        }
        let cell = match (settings.cell_secret, settings.peer) {
            (Some(_), Some(peer)) if peer.port() == 0 => return Err(ConfigError::NoPeerPort),
            (Some(secret), Some(peer)) => Some(CellConfig { secret, peer }),
            (None, None) => None,
            (Some(_), None) => return Err(ConfigError::NoPeer),
            (None, Some(_)) => return Err(ConfigError::NoCellSecret),
        };
        let default_pid = (!settings.foreground).then(|| PathBuf::from(DEFAULT_PID));
        Ok(Self {
            data: settings.data.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA)),
            addresses,
            client_addresses,
            cell,
            port: settings.port.unwrap_or_default(),
            foreground: settings.foreground,
            pid_file: settings.pid.or(default_pid),
            port_file: settings.port_file,
            keys,
            limits,
            queue_limits,
            log: LogConfig {
                stderr: settings.stderr,
                format: settings.log_format.unwrap_or_default(),
                verbosity: settings.debug.map_or(0, Within::get),
            },
        })
    }
}

/// The data directory that a command is about: the one it names, or that of the default configuration file.
///
/// # Errors
/// See [`ConfigError`].
pub(crate) fn data_directory(named: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    if let Some(named) = named {
        return Ok(named);
    }
    let default = Path::new(DEFAULT_FILE);
    let settings = if default.exists() { Settings::load(default)? } else { Settings::default() };
    Ok(settings.data.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA)))
}

/// Whether the default configuration file is that of a server of a cell of several.
///
/// # Errors
/// [`ConfigError`] if the file cannot be read.
pub(crate) fn default_is_of_cell() -> Result<bool, ConfigError> {
    let default = Path::new(DEFAULT_FILE);
    Ok(default.exists() && Settings::load(default)?.cell_secret.is_some())
}

/// Whether a packet can be sent there at all.
pub(crate) fn is_reachable(address: SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

/// Why there is no configuration to start with.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {}: {source}", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{}:{line}: {what}", file.display())]
    Line { file: PathBuf, line: usize, what: String },
    #[error(
        "nothing says who may use the server. Either give '--keys FILE' (and make the file with 'cld user add --keys \
         FILE NAME'), or, for Hail's own programs, whose secret is the user's name, '--insecure-user-as-key', which \
         keeps nobody out. 'keys = \"FILE\"' or 'insecure-user-as-key = true' in {DEFAULT_FILE} do the same"
    )]
    NoKeys,
    #[error("'keys' and 'insecure-user-as-key' are both given; the second would undo the first, so drop one")]
    KeysTwice,
    #[error("'bind' names {address} twice; name it once")]
    BindTwice { address: IpAddr },
    #[error("'bind' names {count} addresses; name {MAX_ADDRESSES} at most, or none for all")]
    TooManyAddresses { count: usize },
    #[error(
        "'client-addresses' names {address}, where no client can reach a server; name an address and a port"
    )]
    NoClientAddress { address: SocketAddr },
    #[error(
        "'client-addresses' names {count} addresses; name {MAX_CLIENT_ADDRESSES} at most, one for each server"
    )]
    TooManyClientAddresses { count: usize },
    #[error(
        "'cell-secret' is given without 'peer', the address and port to listen on for the cell's other servers"
    )]
    NoPeer,
    #[error("'peer' is given without 'cell-secret', the file that 'cld cell init' made for the cell")]
    NoCellSecret,
    #[error("'peer' has port 0; the other servers must know the port, so choose one")]
    NoPeerPort,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Result<Config, ConfigError> {
        Config::new(Settings::parse(toml).unwrap())
    }

    #[test]
    fn defaults_are_hails() {
        let background = config("insecure-user-as-key = true").unwrap();
        assert_eq!(background.port.to_string(), "8081");
        assert_eq!(background.pid_file, Some("/var/run/cld.pid".into()));
        assert_eq!(background.limits.session_timeout, 60);
        assert!(!background.foreground && !background.log.stderr && background.addresses.is_empty());
        assert_eq!(background.limits, Limits::default());
        assert_eq!(config("insecure-user-as-key = true\nforeground = true").unwrap().pid_file, None);
    }

    #[test]
    fn somebody_must_be_let_in_in_one_way() {
        assert!(matches!(config(""), Err(ConfigError::NoKeys)));
        assert!(matches!(config("keys = 'k'\ninsecure-user-as-key = true"), Err(ConfigError::KeysTwice)));
        assert_eq!(config("keys = 'k'").unwrap().keys, KeySource::File("k".into()));
    }

    #[test]
    fn a_cell_needs_its_secret_and_an_address_for_the_other_servers() {
        let cell = |options| config(&format!("insecure-user-as-key = true\n{options}"));
        assert_eq!(cell("").unwrap().cell, None);
        let both = cell("cell-secret = 's'\npeer = '0.0.0.0:8082'").unwrap().cell;
        assert_eq!(both, Some(CellConfig { secret: "s".into(), peer: "0.0.0.0:8082".parse().unwrap() }));
        assert!(matches!(cell("cell-secret = 's'"), Err(ConfigError::NoPeer)));
        assert!(matches!(cell("peer = '0.0.0.0:8082'"), Err(ConfigError::NoCellSecret)));
        assert!(matches!(cell("cell-secret = 's'\npeer = '0.0.0.0:0'"), Err(ConfigError::NoPeerPort)));
    }

    #[test]
    fn an_address_is_bound_once() {
        let twice = config("keys = 'k'\nbind = ['::1', '0::1']");
        assert!(matches!(twice, Err(ConfigError::BindTwice { .. })));
        let many: Vec<String> = (0..65).map(|n| format!("'127.0.0.{n}'")).collect();
        let many = config(&format!("keys = 'k'\nbind = [{}]", many.join(",")));
        assert!(matches!(many, Err(ConfigError::TooManyAddresses { count: 65 })));
    }

    #[test]
    fn client_addresses_are_such_that_clients_can_use_them() {
        let addresses = |list: &str| config(&format!("keys = 'k'\nclient-addresses = [{list}]"));
        let two = addresses("'192.0.2.1:8081', '[2001:db8::1]:8082'").unwrap();
        assert_eq!(two.client_addresses.len(), 2);
        for wrong in ["'0.0.0.0:8081'", "'[::]:8081'", "'192.0.2.1:0'", "'224.0.0.1:8081'"] {
            assert!(matches!(addresses(wrong), Err(ConfigError::NoClientAddress { .. })), "{wrong}");
        }
        let six: Vec<String> = (1..7).map(|n| format!("'192.0.2.{n}:8081'")).collect();
        let refused = addresses(&six.join(","));
        assert!(matches!(refused, Err(ConfigError::TooManyClientAddresses { count: 6 })));
    }

    #[test]
    fn reading_again_finds_what_changed_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cld.toml");
        std::fs::write(&file, "insecure-user-as-key = true\nmax-sessions = 1").unwrap();
        let source = ConfigSource { command_line: Settings::default(), file: Some(file.clone()) };
        assert_eq!(source.read().unwrap().limits.sessions, 1);
        std::fs::write(&file, "insecure-user-as-key = true\nmax-sessions = 2").unwrap();
        assert_eq!(source.read().unwrap().limits.sessions, 2);
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(source.read(), Err(ConfigError::Unreadable { .. })));
    }
}
