//! The command line of `cld`. Its options are those of Hail's `cld` (protocol.md 11) and more.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, StyledStr};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use crate::config::Settings;

/// The key file that `cld user` edits when nothing says otherwise.
pub(crate) const DEFAULT_KEYS: &str = "/etc/cld/keys";

/// The CLD lock server: a name space of small files, with sessions and locks.
#[derive(Debug, Parser)]
#[command(
    name = "cld",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true,
    infer_long_args = true,
    args_conflicts_with_subcommands = true,
    after_help = "Exit status: 0 after a clean end, 1 if the server could not start or had to stop, \
                  64 for a bad command line, 78 for a bad configuration or key file."
)]
pub(crate) struct CommandLine {
    /// Read options from this TOML file; the command line wins [default: /etc/cld/cld.toml if it exists]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Check configuration, keys and data directory, show what would be used, and end
    #[arg(long)]
    pub(crate) check: bool,

    #[command(flatten)]
    pub(crate) settings: Settings,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Print help
    #[arg(short = '?', short_alias = 'h', long, action = ArgAction::Help, global = true)]
    help: Option<bool>,

    /// Print version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// What else the program does than serve.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Change the users and their secrets: those of a cell, or in the key file of a cell of one
    User {
        #[command(subcommand)]
        action: UserAction,

        /// Edit this key file [default: /etc/cld/keys, unless '--data' is given or /etc/cld/cld.toml has 'cell-secret']
        #[arg(long, value_name = "FILE", global = true, conflicts_with = "data")]
        keys: Option<PathBuf>,

        #[command(flatten)]
        server: Running,
    },
    /// Show or change the limits of a cell
    Limits {
        #[command(flatten)]
        server: Running,

        #[command(subcommand)]
        action: Option<LimitsAction>,
    },
    /// Show how a running server and its cell are
    Status {
        #[command(flatten)]
        server: Running,

        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Change who the servers of the cell are
    Member {
        #[command(flatten)]
        server: Running,

        #[command(subcommand)]
        action: MemberAction,
    },
    /// Make another server the master
    Transfer {
        #[command(flatten)]
        server: Running,

        /// Its id, or one of its addresses
        member: String,
    },
    /// Save, check and restore what a cell has
    Snapshot {
        #[command(subcommand)]
        action: SnapshotAction,
    },
    /// Make the data of a server of a cell of several
    Cell {
        #[command(subcommand)]
        action: CellAction,
    },
}

/// Which running server is meant: the one on this data directory, on this machine.
#[derive(Debug, Args)]
pub(crate) struct Running {
    /// The server's data directory [default: that of /etc/cld/cld.toml, or /var/lib/cld]
    #[arg(short, long, value_name = "DIR", global = true)]
    pub(crate) data: Option<PathBuf>,
}

/// What to do about the members.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberAction {
    /// Add the server that was prepared
    Add {
        /// What 'cld cell prepare' printed
        token: String,
    },
    /// Take a server out; it cannot come back with its data
    Remove {
        /// Its id, or one of its addresses
        member: String,
    },
    /// Show the members
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to do about snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotAction {
    /// Write what a running server has to a new file
    Save {
        #[command(flatten)]
        server: Running,

        /// The file, which must not exist
        file: PathBuf,
    },
    /// Check a file
    Verify {
        /// The file
        file: PathBuf,
    },
    /// Make the data of the first server of a new cell from a file
    Restore {
        /// The file
        file: PathBuf,

        /// The data directory, which must not exist or be empty
        #[arg(short, long, value_name = "DIR")]
        data: PathBuf,

        #[command(flatten)]
        cell: Option<NewCell>,
    },
}

/// What makes a restored cell one that can grow.
#[derive(Debug, Args)]
pub(crate) struct NewCell {
    /// Where the cell's other servers will find this one [default: a cell of one server]
    #[arg(long, value_name = "ADDRESS:PORT", required = false)]
    pub(crate) peer: SocketAddr,

    /// Where clients will find this one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) client: Option<SocketAddr>,

    /// The file to make with the new cell's id and secret
    #[arg(long, value_name = "FILE", required = false)]
    pub(crate) cell_secret: PathBuf,
}

/// What to do about a cell of several servers.
#[derive(Debug, Subcommand)]
pub(crate) enum CellAction {
    /// Make the data of a new cell's first server, and the file with the cell's secret
    Init(NewServer),
    /// Make the data of a server that waits to be added, and print its join token
    Prepare(NewServer),
}

/// A server whose data directory is to be made.
#[derive(Debug, Args)]
pub(crate) struct NewServer {
    /// The data directory, which must not exist or be empty
    #[arg(short, long, value_name = "DIR")]
    pub(crate) data: PathBuf,

    /// Where the cell's other servers will find this one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) peer: SocketAddr,

    /// Where clients will find this one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) client: Option<SocketAddr>,

    /// The file with the cell's id and secret
    #[arg(long, value_name = "FILE")]
    pub(crate) cell_secret: PathBuf,
}

/// What to do about the users.
#[derive(Debug, Subcommand)]
pub(crate) enum UserAction {
    /// Add a user with a random secret, and print the secret
    Add {
        /// 1 to 31 bytes, without ':' and control characters
        name: String,

        /// Take the secret from this file, or '-' from standard input, instead of a random one
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Take a user out
    Remove {
        /// The user
        name: String,
    },
    /// Print the users' names
    List,
    /// Let in those who are not listed too, with their names as secrets; or no more
    Insecure {
        /// Whether they are let in
        #[arg(value_name = "on|off", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
        on: bool,
    },
}

/// What to do about the limits.
#[derive(Debug, Subcommand)]
pub(crate) enum LimitsAction {
    /// Set one limit
    Set {
        /// The name of its option, such as max-sessions
        name: String,
        /// Its value
        value: u64,
    },
}

impl CommandLine {
    /// Reads the arguments, the program's name first.
    ///
    /// # Errors
    /// What is wrong, or a request for help or for the version.
    pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(args)
    }

    /// How the program is used, in a few lines.
    pub(crate) fn usage() -> StyledStr {
        Self::command().render_usage()
    }
}
