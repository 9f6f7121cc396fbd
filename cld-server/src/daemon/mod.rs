//! The `cld` program around the server: command line, start and end, the files that tell others about the process.

mod admin;
mod cell;
mod check;
mod detach;
mod logging;
mod run_files;
mod syslog;
mod users;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use thiserror::Error;
use tracing::{error, info};

use self::admin::CommandError;
use self::cell::CellError;
use self::logging::Destination;
use self::run_files::{PidFile, PortFile, RunFileError};
use crate::cli::{Command, CommandLine, SnapshotAction};
use crate::config::{Config, ConfigError, ConfigSource};
use crate::keys::file::KeyFileError;
use crate::net::{RecoverError, ServeError, Server};
use crate::storage::OpenError;

/// The exit status when the server could not start or had to stop.
const EXIT_FAILURE: u8 = 1;
/// The exit status for a bad command line, as in Hail (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;
/// The exit status when the server's data is not that of the other servers, and never will be (`EX_DATAERR`): to start it
/// again does not help.
const EXIT_DIVERGED: u8 = 65;
/// The exit status for a bad configuration or key file (`EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;

/// Does what the `cld` program does with these arguments, the program's name first. A server runs until it is told to
/// end by a signal. A process calls this once: it sets up the process's log and signals.
///
/// Unless told to stay in the foreground, the server goes into the background by running this process's executable
/// again with this process's own arguments; a program that passes other arguments must pass `--foreground` too.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command_line = match CommandLine::read(args) {
        Ok(command_line) => command_line,
        Err(error) => return explain_usage(&error),
    };
    let done = match command_line.command {
        Some(command) => command_of(command).map(|()| ExitCode::SUCCESS),
        None => {
            let source = ConfigSource { command_line: command_line.settings, file: command_line.config };
            serve_or_check(source, command_line.check)
        }
    };
    done.unwrap_or_else(|failure| {
        tell(&format_args!("cld: {failure}"));
        failure.exit_code()
    })
}

/// Does what is done besides serving.
fn command_of(command: Command) -> Result<(), Failure> {
    match command {
        Command::User { action, keys, server } => users::run(action, keys, server)?,
        Command::Limits { server, action } => admin::limits(server, action)?,
        Command::Cell { action } => cell::run(&action)?,
        Command::Status { server, json } => admin::status(server, json)?,
        Command::Member { server, action } => admin::member(server, action)?,
        Command::Transfer { server, member } => admin::transfer(server, member)?,
        Command::Snapshot { action } => match action {
            SnapshotAction::Save { server, file } => admin::save(server, &file)?,
            SnapshotAction::Verify { file } => cell::verify(&file)?,
            SnapshotAction::Restore { file, data, cell } => cell::restore(&file, &data, cell.as_ref())?,
        },
    }
    Ok(())
}

fn serve_or_check(source: ConfigSource, check: bool) -> Result<ExitCode, Failure> {
    let config = source.read()?;
    if check {
        check::run(&config)?;
        Ok(ExitCode::SUCCESS)
    } else if detach::is_child() {
        Ok(start(&config, source, true))
    } else if config.foreground {
        Ok(start(&config, source, false))
    } else {
        detach::respawn().map_err(Failure::Detach)
    }
}

/// The server, from here on in the process that it stays in.
fn start(config: &Config, source: ConfigSource, detached: bool) -> ExitCode {
    let prepared = if detached { detach::leave_session().map_err(Failure::Detach) } else { Ok(()) };
    let destination = logging::init(&config.log);
    let served = prepared.and_then(|()| {
        serve(config, source, || {
            if detached {
                detach::report_ready(destination == Destination::Stderr);
            }
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure}");
            if destination == Destination::Syslog {
                tell(&format_args!("cld: {failure}"));
            }
            failure.exit_code()
        }
    }
}

/// Runs the server until it ends. `on_ready` is called once it serves, and the pid and port files are written.
fn serve(config: &Config, source: ConfigSource, on_ready: impl FnOnce()) -> Result<(), Failure> {
    info!("cld {} starts on the data in {}", env!("CARGO_PKG_VERSION"), config.data.display());
    let _pid_file = config.pid_file.as_deref().map(PidFile::write).transpose()?;
    if let Some(server) = Server::start(config, source)? {
        let _port_file =
            config.port_file.as_deref().map(|path| PortFile::write(path, server.port())).transpose()?;
        on_ready();
        server.run()?;
    }
    info!("cld ends");
    Ok(())
}

/// Prints what is wrong with the arguments, and the usage; or the help or version that they ask for.
fn explain_usage(error: &clap::Error) -> ExitCode {
    // If the terminal is gone, nobody is left to tell.
    let _ = error.print();
    if error.exit_code() == 0 {
        return ExitCode::SUCCESS;
    }
    if !error.to_string().contains("Usage:") {
        tell(&CommandLine::usage());
    }
    ExitCode::from(EXIT_USAGE)
}

/// Writes a line to standard error, if that is still open.
fn tell(line: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Why the program failed.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    #[error("cannot go into the background: {0}; '-F' stays in the foreground")]
    Detach(std::io::Error),
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Cell(#[from] CellError),
    #[error("a key file cannot say that; start the server with or without '--insecure-user-as-key'")]
    NotInFile,
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::Keys(_) => EXIT_CONFIG,
            Self::Command(CommandError::Config(_)) => EXIT_CONFIG,
            Self::Serve(
                ServeError::Diverged(_) | ServeError::Recover(RecoverError::Open(OpenError::Diverged { .. })),
            ) => EXIT_DIVERGED,
            Self::Serve(ServeError::Config(_) | ServeError::Keys(_) | ServeError::Secret(_)) => EXIT_CONFIG,
            Self::Detach(_)
            | Self::RunFile(_)
            | Self::Serve(_)
            | Self::Cell(_)
            | Self::Command(_)
            | Self::NotInFile
            | Self::Output(_) => EXIT_FAILURE,
        })
    }
}
