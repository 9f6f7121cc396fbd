//! The options as they are written: on the command line, in the configuration file, and one laid over the other.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use cldc_core::wire::limits::{MAX_PATH, MAX_PAYLOAD};
use serde::Deserialize;

use super::ConfigError;
use super::values::{LogFormat, Port, Within};
use crate::database::{HANDLES_MAX, Limits};
use crate::endpoint::QueueLimits;

/// The options that the command line and the configuration file share, as far as they were given.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Keep the data in this directory [default: /var/lib/cld]
    #[arg(short, long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,

    /// Log 0: what matters, 1: debugging, 2: everything [default: 0; RUST_LOG wins]
    #[arg(short = 'D', long, value_name = "0..2")]
    pub(super) debug: Option<Within<0, 2>>,

    /// Log to standard error instead of syslog (LOCAL3)
    #[arg(short = 'E', long)]
    pub(super) stderr: bool,

    /// Stay in the foreground
    #[arg(short = 'F', long)]
    pub(super) foreground: bool,

    /// Serve this UDP port, or any free one [default: 8081]
    #[arg(short, long, value_name = "PORT|auto")]
    pub(super) port: Option<Port>,

    /// Serve this address only; may be repeated [default: all addresses]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) bind: Vec<IpAddr>,

    /// Where clients can reach the servers of this cell; may be repeated [default: what is bound]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) client_addresses: Vec<SocketAddr>,

    /// This server belongs to a cell of several: the file with the cell's id and secret
    #[arg(long, value_name = "FILE")]
    pub(super) cell_secret: Option<PathBuf>,

    /// Listen here for the cell's other servers (TCP); may differ from where they are told to find it
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) peer: Option<SocketAddr>,

    /// Write the process id here and keep the file locked [default: /var/run/cld.pid, with -F none]
    #[arg(short = 'P', long, value_name = "FILE")]
    pub(super) pid: Option<PathBuf>,

    /// Write the port number here
    #[arg(long, value_name = "FILE")]
    pub(super) port_file: Option<PathBuf>,

    /// Without effect; accepted because Hail's cld has it
    #[arg(long)]
    pub(super) strict_free: bool,

    /// Read the users and their secrets from this file
    #[arg(long, value_name = "FILE")]
    pub(super) keys: Option<PathBuf>,

    /// Take each user's name as its secret, as Hail's programs do: keeps nobody out
    #[arg(long)]
    pub(super) insecure_user_as_key: bool,

    /// End a session after this many seconds of silence, 2 to 600 [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub(super) session_timeout: Option<Within<2, 600>>,

    /// The form of log lines [default: human]
    #[arg(long, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,

    /// Sessions that the server keeps [default: 131072]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) max_sessions: Option<Within<1, MOST>>,

    /// Sessions of one user [default: 131072]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) max_sessions_per_user: Option<Within<1, MOST>>,

    /// Open handles of one session, 2048 at most [default: 1024]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) max_handles_per_session: Option<Within<1, HANDLES_MAX>>,

    /// Open handles of one user [default: 1048576]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) max_handles_per_user: Option<Within<1, MOST>>,

    /// Bytes in the path of a new file, 256 at most [default: 256]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) max_path_length: Option<Within<1, { MAX_PATH as u64 }>>,

    /// Bytes in a file, 131072 at most [default: 131072]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) max_payload: Option<Within<1, { MAX_PAYLOAD as u64 }>>,

    /// Bytes in all files together, with 128 for each file [default: 1073741824]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) max_total_data: Option<Within<1, MOST>>,

    /// Packets to one session that its client has not acknowledged [default: 512]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) max_packets_per_session: Option<Within<1, MAX_QUEUE>>,

    /// The same for all sessions of one user [default: 65536]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) max_packets_per_user: Option<Within<1, MAX_QUEUE>>,
}

/// The highest number that a limit without a bound of its own may be: what TOML can write.
const MOST: u64 = i64::MAX as u64;

/// The most packets that a queue may be allowed to hold: 1 GiB of them.
const MAX_QUEUE: u64 = 1 << 20;

impl Settings {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`], [`ConfigError::Line`].
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(&text).map_err(|(line, what)| ConfigError::Line { file: file.to_owned(), line, what })
    }

    /// The error is a line and what is wrong there.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let line_of = |offset: usize| text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1;
        let located = |error: toml::de::Error| {
            (line_of(error.span().map_or(0, |span| span.start)), error.message().to_owned())
        };
        let table = toml::de::DeTable::parse(text).map_err(located)?;
        let known = Self::names();
        for key in table.get_ref().keys() {
            let name: &str = key.get_ref();
            if !known.iter().any(|known| known == name) {
                return Err((line_of(key.span().start), unknown_key(name, &known)));
            }
        }
        toml::from_str(text).map_err(located)
    }

    /// The names of all options that may stand in a configuration file.
    fn names() -> Vec<String> {
        let options = Self::augment_args(clap::Command::new("cld"));
        options.get_arguments().filter_map(|option| option.get_long().map(str::to_owned)).collect()
    }

    /// These settings, and the other ones where these say nothing.
    pub(crate) fn over(self, other: Self) -> Self {
        Self {
            data: self.data.or(other.data),
            debug: self.debug.or(other.debug),
            stderr: self.stderr || other.stderr,
            foreground: self.foreground || other.foreground,
            port: self.port.or(other.port),
            bind: if self.bind.is_empty() { other.bind } else { self.bind },
            client_addresses: if self.client_addresses.is_empty() {
                other.client_addresses
            } else {
                self.client_addresses
            },
            cell_secret: self.cell_secret.or(other.cell_secret),
            peer: self.peer.or(other.peer),
            pid: self.pid.or(other.pid),
            port_file: self.port_file.or(other.port_file),
            strict_free: self.strict_free || other.strict_free,
            keys: self.keys.or(other.keys),
            insecure_user_as_key: self.insecure_user_as_key || other.insecure_user_as_key,
            session_timeout: self.session_timeout.or(other.session_timeout),
            log_format: self.log_format.or(other.log_format),
            max_sessions: self.max_sessions.or(other.max_sessions),
            max_sessions_per_user: self.max_sessions_per_user.or(other.max_sessions_per_user),
            max_handles_per_session: self.max_handles_per_session.or(other.max_handles_per_session),
            max_handles_per_user: self.max_handles_per_user.or(other.max_handles_per_user),
            max_path_length: self.max_path_length.or(other.max_path_length),
            max_payload: self.max_payload.or(other.max_payload),
            max_total_data: self.max_total_data.or(other.max_total_data),
            max_packets_per_session: self.max_packets_per_session.or(other.max_packets_per_session),
            max_packets_per_user: self.max_packets_per_user.or(other.max_packets_per_user),
        }
    }

    /// The limits that these settings make, with the defaults filled in.
    pub(super) fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            sessions: self.max_sessions.map_or(default.sessions, Within::get),
            sessions_per_user: self.max_sessions_per_user.map_or(default.sessions_per_user, Within::get),
            handles_per_session: self
                .max_handles_per_session
                .map_or(default.handles_per_session, Within::get),
            handles_per_user: self.max_handles_per_user.map_or(default.handles_per_user, Within::get),
            path_length: self.max_path_length.map_or(default.path_length, Within::get),
            payload: self.max_payload.map_or(default.payload, Within::get),
            total_data: self.max_total_data.map_or(default.total_data, Within::get),
            session_timeout: self.session_timeout.map_or(default.session_timeout, Within::get),
        }
    }

    /// The limits of the queues to clients that these settings make, with the defaults filled in.
    pub(super) fn queue_limits(&self) -> QueueLimits {
        let default = QueueLimits::default();
        let limit = |setting: Option<Within<1, MAX_QUEUE>>, default| {
            setting.map_or(default, |n| usize::try_from(n.get()).unwrap_or(usize::MAX))
        };
        QueueLimits {
            packets_per_session: limit(self.max_packets_per_session, default.packets_per_session),
            packets_per_user: limit(self.max_packets_per_user, default.packets_per_user),
            ..default
        }
    }
}

fn unknown_key(name: &str, known: &[String]) -> String {
    let nearest = known.iter().map(|known| (distance(name, known), known)).min();
    match nearest {
        Some((distance, nearest)) if distance <= nearest.len() / 2 => {
            format!("unknown name '{}'; did you mean '{nearest}'?", name.escape_debug())
        }
        _ => format!("unknown name '{}'; there are {}", name.escape_debug(), known.join(", ")),
    }
}

/// How many letters must be added, dropped or replaced to turn one name into the other.
fn distance(from: &str, to: &str) -> usize {
    let mut above: Vec<usize> = (0..=to.chars().count()).collect();
    for (number, a) in from.chars().enumerate() {
        let mut left = number + 1;
        let mut row = vec![left];
        for (b, (diagonal, up)) in to.chars().zip(above.iter().zip(above.iter().skip(1))) {
            left = (diagonal + usize::from(a != b)).min(up + 1).min(left + 1);
            row.push(left);
        }
        above = row;
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn line(args: &[&str]) -> Settings {
        Line::try_parse_from(["cld"].iter().chain(args)).unwrap().settings
    }

    #[test]
    fn the_file_says_the_same_as_the_command_line() {
        let file = "data = '/d'\ndebug = 2\nstderr = true\nforeground = true\nport = 99\nbind = ['127.0.0.1', '::1']\n\
                    client-addresses = ['192.0.2.1:8081', '[2001:db8::1]:8081']\n\
                    cell-secret = '/s'\npeer = '192.0.2.1:8082'\n\
                    pid = '/p'\nport-file = '/f'\nstrict-free = true\nkeys = '/k'\ninsecure-user-as-key = true\n\
                    session-timeout = 600\nlog-format = 'json'\n\
                    max-sessions = 1\nmax-sessions-per-user = 2\nmax-handles-per-session = 3\nmax-handles-per-user = 4\nmax-path-length = 5\nmax-payload = 6\nmax-total-data = 7\nmax-packets-per-session = 8\nmax-packets-per-user = 9\n";
        let args = "-d /d -D 2 -E -F -p 99 --bind 127.0.0.1 --bind ::1 \
                    --client-addresses 192.0.2.1:8081 --client-addresses [2001:db8::1]:8081 --cell-secret /s --peer 192.0.2.1:8082 -P /p --port-file /f --strict-free --keys /k \
                    --insecure-user-as-key --session-timeout 600 --log-format json --max-sessions 1 --max-sessions-per-user 2 --max-handles-per-session 3 --max-handles-per-user 4 --max-path-length 5 --max-payload 6 --max-total-data 7 --max-packets-per-session 8 --max-packets-per-user 9";
        let from_line = line(&args.split_whitespace().collect::<Vec<_>>());
        assert_eq!(Settings::parse(file).unwrap(), from_line);
        let all = Settings::names();
        assert!(
            all.iter().all(|name| file.contains(&format!("{name} ="))),
            "this test must name all of {all:?}"
        );
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file = Settings::parse("port = 1\nbind = ['::1']\nstderr = true\nkeys = 'k'").unwrap();
        let settings = line(&["-p", "auto", "--bind", "127.0.0.1"]).over(file);
        assert_eq!(settings.port, Some(Port::Auto));
        assert_eq!(settings.bind, [IpAddr::from([127, 0, 0, 1])]);
        assert!(settings.stderr);
        assert_eq!(settings.keys, Some("k".into()));
    }

    #[test]
    fn an_unknown_name_gives_its_line_and_the_nearest_name() {
        let refused = |text| Settings::parse(text).unwrap_err();
        assert_eq!(
            refused("port = 1\n\nport_file = 'x'"),
            (3, "unknown name 'port_file'; did you mean 'port-file'?".into())
        );
        assert_eq!(
            refused("sesion-timeout = 3").1,
            "unknown name 'sesion-timeout'; did you mean 'session-timeout'?"
        );
        let (line, what) = refused("[replication]\npeers = []");
        assert_eq!(line, 1);
        assert!(what.contains("there are data, debug,"), "{what}");
    }

    #[test]
    fn a_bad_value_gives_its_line_and_what_would_be_right() {
        let cases = [
            ("\nport = 0", 2, "invalid port: '0'; give 1 to 65535, or auto"),
            ("port = 'many'", 1, "invalid port: 'many'"),
            ("port = true", 1, "a port is a number from 1 to 65535, or \"auto\""),
            ("debug = 3", 1, "'3' is not a number from 0 to 2"),
            ("stderr = true\nsession-timeout = 1", 2, "'1' is not a number from 2 to 600"),
            ("session-timeout = -5", 1, "'-5' is not a number from 2 to 600"),
            ("log-format = 'xml'", 1, "expected `human` or `json`"),
            ("bind = ['localhost']", 1, "invalid IP address syntax"),
            ("client-addresses = ['192.0.2.1']", 1, "invalid socket address syntax"),
            ("stderr = true\nstderr = false", 2, "duplicate key"),
            ("port =", 1, ""),
        ];
        for (text, expected_line, message) in cases {
            let (line, what) = Settings::parse(text).unwrap_err();
            assert!(line == expected_line && what.contains(message), "{text:?} gave line {line}: {what}");
        }
    }

    #[test]
    fn the_help_tells_the_true_defaults() {
        let options = Settings::augment_args(clap::Command::new("cld"));
        let help = |name: &str| {
            let option = options.get_arguments().find(|option| option.get_long() == Some(name)).unwrap();
            option.get_help().unwrap().to_string()
        };
        let (limits, queue) = (Limits::default(), QueueLimits::default());
        for (name, value) in [
            ("max-sessions", limits.sessions),
            ("max-sessions-per-user", limits.sessions_per_user),
            ("max-handles-per-session", limits.handles_per_session),
            ("max-handles-per-user", limits.handles_per_user),
            ("max-path-length", limits.path_length),
            ("max-payload", limits.payload),
            ("max-total-data", limits.total_data),
            ("max-packets-per-session", queue.packets_per_session as u64),
            ("max-packets-per-user", queue.packets_per_user as u64),
        ] {
            assert!(help(name).ends_with(&format!("[default: {value}]")), "{name}: {}", help(name));
        }
    }

    #[test]
    fn the_documents_name_every_option() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let guide = std::fs::read_to_string(docs.join("operator.md")).unwrap();
        let manual = std::fs::read_to_string(docs.join("man/cld.8")).unwrap().replace('\\', "");
        for name in Settings::names() {
            assert!(guide.contains(&format!("`--{name}")), "the operator's guide lacks --{name}");
            assert!(manual.contains(&format!("--{name}")), "the man page lacks --{name}");
        }
    }

    #[test]
    fn distance_counts_single_letters() {
        for (from, to, expected) in
            [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("flaw", "lawn", 2)]
        {
            assert_eq!(distance(from, to), expected, "{from} to {to}");
        }
    }
}
