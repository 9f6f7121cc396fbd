//! The command line.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand};
use cldc_udp::{LockKind, Sequencer};

use crate::command::{Command, Path};
use crate::output::Format;
use crate::status;

/// Files, locks and events of a CLD cell, from a shell or a script
///
/// Without COMMAND, reads commands from standard input; 'help' lists them.
#[derive(Debug, Parser)]
#[command(name = "cldcli", version, disable_help_flag = true, disable_version_flag = true)]
#[command(disable_help_subcommand = true, after_help = after_help())]
#[command(override_usage = "cldcli [OPTIONS] [COMMAND]\n       cldcli [OPTIONS] lock PATH -- COMMAND...")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) options: Options,

    #[command(subcommand)]
    action: Option<Action>,

    /// Print help
    #[arg(short = '?', long, action = ArgAction::Help, global = true)]
    help: Option<bool>,

    /// Print version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// The options.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A server of the cell; may be repeated, all are tried [default: those of CLD_SERVERS, with commas between them]
    #[arg(short = 'h', long = "host", value_name = "HOST:PORT", global = true)]
    pub(crate) hosts: Vec<HostPort>,

    /// Act as this user
    #[arg(short, long, default_value = "cli_user", global = true)]
    pub(crate) user: String,

    /// Read the user's secret key from this file, which nobody else may read [default: the user's name is the key]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) key_file: Option<PathBuf>,

    /// The deadline of each call, of connecting, of waiting for a lock; ends 'watch' [default: 30, 'watch': none]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, global = true)]
    pub(crate) timeout: Option<Duration>,

    /// The lease to ask for, 2 to 600: so long locks outlive a client that has died [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = lease, global = true)]
    pub(crate) lease: Option<Duration>,

    /// Print JSON, one object on a line; errors too
    #[arg(long, global = true)]
    json: bool,

    /// Show the prompt even if standard input is no terminal
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// Tell on standard error what is done: 0 nothing, 1 the session, 2 each command
    #[arg(short = 'D', long = "debug", value_name = "0..2", default_value_t = 0, global = true)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) debug: u8,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List a directory, / if none is given
    Ls { path: Option<OsString> },
    /// Print a file, and a newline after it
    Cat { path: OsString },
    /// Print a file as it is
    Get { path: OsString },
    /// Write standard input to a file; create it if it does not exist
    Put {
        /// Only if this lock is still held; - is that of CLD_SEQUENCER
        #[arg(long, value_name = "SEQUENCER", value_parser = sequencer())]
        sequencer: Option<Sequencer>,
        path: OsString,
    },
    /// Show what a file or directory is
    Stat { path: OsString },
    /// Tell of each change of a file or directory, until interrupted
    Watch { path: OsString },
    /// Run COMMAND, with CLD_SEQUENCER, while the lock of a file is held; kill it if the lock is lost
    Lock(UnderLock),
    /// As lock, but do not wait for a lock that others hold
    Trylock(UnderLock),
    /// Copy a file of this machine into the cell
    Cpin {
        #[arg(value_name = "FSFILE")]
        local: OsString,
        #[arg(value_name = "PATH")]
        remote: OsString,
    },
    /// Copy a file of the cell to this machine
    Cpout {
        #[arg(value_name = "PATH")]
        remote: OsString,
        #[arg(value_name = "FSFILE")]
        local: OsString,
    },
    /// Make a directory
    Mkdir { path: OsString },
    /// Delete a file or an empty directory
    Rm {
        /// Only if this lock is still held; - is that of CLD_SEQUENCER
        #[arg(long, value_name = "SEQUENCER", value_parser = sequencer())]
        sequencer: Option<Sequencer>,
        path: OsString,
    },
    /// Tell by the exit status whether the lock that a sequencer is of is still held
    CheckSequencer {
        /// As in CLD_SEQUENCER; - is that
        #[arg(value_parser = sequencer(), allow_hyphen_values = true)]
        sequencer: Sequencer,
    },
    /// Start a server, show what it does, and check that it does it
    #[cfg(feature = "demo")]
    Demo {
        /// Start a cell of 1, 3 or 5 servers, and kill its master while a lock is held
        #[arg(long, value_name = "N", value_parser = servers)]
        cell: Option<usize>,
    },
    /// Print help
    Help,
    /// What makes sense only with other commands before or after it.
    #[command(hide = true, aliases = ["unlock", "list", "quit", "exit"])]
    Cd {
        #[arg(trailing_var_arg = true)]
        rest: Vec<OsString>,
    },
}

/// A command that runs while a lock is held.
#[derive(Debug, Args)]
pub(crate) struct UnderLock {
    /// Share the lock with others who share it
    #[arg(long)]
    shared: bool,
    /// The file whose lock it is
    path: OsString,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// What the program is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Read commands from standard input.
    Commands,
    /// One command.
    One(Command),
    /// Standard input to a file.
    Put { path: Path, fence: Option<Sequencer> },
    /// Deletes a file.
    Rm { path: Path, fence: Option<Sequencer> },
    /// Asks whether a sequencer stands.
    Check(Sequencer),
    /// A command under a lock.
    Locked { path: Path, kind: LockKind, wait: bool, program: OsString, arguments: Vec<OsString> },
    /// The demonstration, of one server or of a cell of so many.
    #[cfg(feature = "demo")]
    Demo { cell: Option<usize> },
    /// Show help.
    Help,
    /// One command that does nothing alone.
    Pointless,
}

impl Arguments {
    pub(crate) fn task(&self) -> Task {
        let bytes = |path: &OsString| path.clone().into_vec();
        let locked = |under: &UnderLock, wait| Task::Locked {
            path: bytes(&under.path),
            kind: if under.shared { LockKind::Shared } else { LockKind::Exclusive },
            wait,
            program: under.command.first().cloned().unwrap_or_default(),
            arguments: under.command.iter().skip(1).cloned().collect(),
        };
        let Some(action) = &self.action else { return Task::Commands };
        Task::One(match action {
            Action::Ls { path } => Command::Ls(path.as_ref().map(bytes)),
            Action::Cat { path } => Command::Cat(bytes(path)),
            Action::Get { path } => Command::Get(bytes(path)),
            Action::Put { path, sequencer } => {
                return Task::Put { path: bytes(path), fence: sequencer.clone() };
            }
            Action::Stat { path } => Command::Stat(bytes(path)),
            Action::Watch { path } => Command::Watch(bytes(path)),
            Action::Lock(under) => return locked(under, true),
            Action::Trylock(under) => return locked(under, false),
            Action::Cpin { local, remote } => Command::CopyIn { local: bytes(local), remote: bytes(remote) },
            Action::Cpout { remote, local } => {
                Command::CopyOut { remote: bytes(remote), local: bytes(local) }
            }
            Action::Mkdir { path } => Command::Mkdir(bytes(path)),
            Action::Rm { path, sequencer } => {
                return Task::Rm { path: bytes(path), fence: sequencer.clone() };
            }
            Action::CheckSequencer { sequencer } => return Task::Check(sequencer.clone()),
            #[cfg(feature = "demo")]
            Action::Demo { cell } => return Task::Demo { cell: *cell },
            Action::Help => return Task::Help,
            Action::Cd { .. } => return Task::Pointless,
        })
    }
}

impl Options {
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Human }
    }

    /// The deadline of each call.
    pub(crate) fn deadline(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(30))
    }
}

/// A host and its port as they were given, such as `cld.example.com:8081` or `[::1]:8081`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort(pub(crate) String);

impl std::str::FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let right = |(host, port): (&str, &str)| {
            let plain =
                !host.is_empty() && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')));
            plain && port.parse::<u16>().is_ok_and(|port| port != 0)
        };
        match text.rsplit_once(':').filter(|&parts| right(parts)) {
            Some(_) => Ok(Self(text.into())),
            None => Err("give a host and a port, such as cld.example.com:8081 or [::1]:8081".into()),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    const YEARS: f64 = 3e8;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= YEARS => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give a number of seconds above 0, such as 2.5".into()),
    }
}

/// A number of servers of which a majority is worth having.
#[cfg(feature = "demo")]
fn servers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(servers @ (1 | 3 | 5)) => Ok(servers),
        _ => Err("give 1, 3 or 5".into()),
    }
}

/// What servers grant.
fn lease(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (2.0..=600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give a number of seconds from 2 to 600".into()),
    }
}

/// Where the command under a lock finds the lock's sequencer.
pub(crate) const SEQUENCER: &str = "CLD_SEQUENCER";

fn sequencer() -> impl TypedValueParser<Value = Sequencer> {
    OsStringValueParser::new().try_map(|text| shown(text, env::var_os(SEQUENCER)))
}

/// A sequencer as it was given, or that of the environment.
fn shown(text: OsString, environment: Option<OsString>) -> Result<Sequencer, String> {
    let text = match text.to_str() {
        Some("-") => environment.ok_or_else(|| {
            format!(
                "{SEQUENCER} is not set: it is for commands under 'cldcli lock', if the server has sequencers"
            )
        })?,
        _ => text,
    };
    Sequencer::try_from(text.as_os_str()).map_err(|error| error.to_string())
}

fn after_help() -> String {
    let mut text = String::from("Exit status:\n");
    for (number, meaning) in status::TABLE {
        text += &format!("  {number:<6} {meaning}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn read(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    fn task(line: &str) -> Task {
        read(line).unwrap().task()
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn hails_options_are_taken() {
        let arguments = read("cldcli -h a:1 -h [::1]:2 -u bob -D 2 -i").unwrap();
        assert_eq!(arguments.task(), Task::Commands);
        let options = arguments.options;
        assert_eq!(options.hosts, [HostPort("a:1".into()), HostPort("[::1]:2".into())]);
        assert_eq!((options.user.as_str(), options.debug, options.interactive), ("bob", 2, true));
        let default = read("cldcli").unwrap().options;
        assert_eq!((default.user.as_str(), default.debug, default.interactive), ("cli_user", 0, false));
        assert_eq!(default.deadline(), Duration::from_secs(30));
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        let arguments = read("cldcli ls -h a:1 /d --json --timeout 2.5 --lease 2").unwrap();
        assert_eq!(arguments.task(), Task::One(Command::Ls(Some(b"/d".into()))));
        assert_eq!(arguments.options.format(), Format::Json);
        assert_eq!(arguments.options.deadline(), Duration::from_millis(2500));
        assert_eq!(arguments.options.lease, Some(Duration::from_secs(2)));
    }

    #[test]
    fn everything_after_two_dashes_is_the_command_under_the_lock() {
        let expected = Task::Locked {
            path: b"/a".into(),
            kind: LockKind::Shared,
            wait: false,
            program: "sh".into(),
            arguments: vec!["-c".into(), "--json".into()],
        };
        assert_eq!(task("cldcli trylock --shared /a -- sh -c --json"), expected);
        assert!(matches!(
            task("cldcli lock /a -- true"),
            Task::Locked { kind: LockKind::Exclusive, wait: true, .. }
        ));
        assert!(read("cldcli lock /a").is_err());
    }

    #[test]
    fn a_sequencer_is_given_or_that_of_the_environment() {
        let held = || "x:51:3:/a b".parse::<Sequencer>().unwrap();
        assert_eq!(shown("x:51:3:/a b".into(), None), Ok(held()));
        assert_eq!(shown("-".into(), Some("x:51:3:/a b".into())), Ok(held()));
        assert!(shown("-".into(), None).unwrap_err().contains("CLD_SEQUENCER is not set"));
        assert!(shown("x:51".into(), Some("x:51:3:/a b".into())).unwrap_err().contains("fields are missing"));
        let odd = OsString::from_vec(b"s:1:2:/\xff".to_vec());
        assert_eq!(shown(odd, None).unwrap().path, b"/\xff");
    }

    #[test]
    fn what_changes_files_takes_a_fence() {
        let fence = || "s:1:2:/l".parse::<Sequencer>().ok();
        assert_eq!(
            task("cldcli put /a --sequencer s:1:2:/l"),
            Task::Put { path: b"/a".into(), fence: fence() }
        );
        assert_eq!(
            task("cldcli rm --sequencer s:1:2:/l /a"),
            Task::Rm { path: b"/a".into(), fence: fence() }
        );
        assert_eq!(task("cldcli rm /a"), Task::Rm { path: b"/a".into(), fence: None });
        assert_eq!(task("cldcli check-sequencer s:1:2:/l"), Task::Check(fence().unwrap()));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for line in [
            "cldcli -h a",
            "cldcli -h a:0",
            "cldcli -h :1",
            "cldcli -h ::1:1",
            "cldcli -h a:65536",
            "cldcli -D 3",
            "cldcli --timeout 0",
            "cldcli --timeout nan",
            "cldcli --timeout 1e99",
            "cldcli --lease 1.9",
            "cldcli --lease 601",
            "cldcli --lease nan",
            "cldcli check-sequencer",
            "cldcli check-sequencer y:1:2:/l",
            "cldcli put --sequencer x:1:2 /a",
            "cldcli make",
            "cldcli -v",
            "cldcli cat",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_and_version_are_shown_when_asked_for() {
        for line in ["cldcli -?", "cldcli --help", "cldcli ls -?", "cldcli -V", "cldcli --version"] {
            assert_eq!(read(line).unwrap_err().exit_code(), 0, "{line}");
        }
        assert_eq!(task("cldcli help"), Task::Help);
    }

    #[test]
    fn commands_that_do_nothing_alone_are_known_as_such() {
        for line in ["cldcli cd /x", "cldcli unlock /x", "cldcli list locks", "cldcli quit", "cldcli exit"] {
            assert_eq!(task(line), Task::Pointless, "{line}");
        }
    }
}
