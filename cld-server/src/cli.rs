//! The command line of `cld`. Its options are those of Hail's `cld` (protocol.md 11) and more.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};

use crate::config::Settings;

/// The key file that `cld user` edits when it is not told another.
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
    /// Edit the key file: the users and their secrets
    User {
        #[command(subcommand)]
        action: UserAction,

        /// The key file
        #[arg(long, value_name = "FILE", default_value = DEFAULT_KEYS, global = true)]
        keys: PathBuf,
    },
}

/// What to do with the key file.
#[derive(Debug, Subcommand)]
pub(crate) enum UserAction {
    /// Add a user with a random secret, and print the secret
    Add {
        /// 1 to 31 bytes, without ':' and control characters
        name: String,
    },
    /// Take a user out
    Remove {
        /// The user
        name: String,
    },
    /// Print the users' names
    List,
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
