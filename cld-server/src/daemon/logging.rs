//! Where log lines go: standard error or syslog, for people or as JSON.

use std::io::{self, IsTerminal};

use tracing::{error, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::syslog::{self, Syslog};
use crate::config::{LogConfig, LogFormat};

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// Standard error.
    Stderr,
    /// The local syslog.
    Syslog,
}

/// Sets up the process's log: standard error if asked for or if there is no syslog.
pub(super) fn init(config: &LogConfig) -> Destination {
    let (filter, complaint) = filter(config.verbosity);
    let syslog = if config.stderr { None } else { Syslog::open(syslog::SOCKET) };
    let destination = if syslog.is_some() { Destination::Syslog } else { Destination::Stderr };
    let writer = match syslog {
        Some(syslog) => BoxMakeWriter::new(syslog),
        None => BoxMakeWriter::new(io::stderr),
    };
    install(config.format, destination, filter, writer);
    // In the background nobody reads standard error.
    std::panic::set_hook(Box::new(|panic| error!("a bug: {panic}")));
    if let Some(complaint) = complaint {
        warn!("{complaint}");
    }
    if destination == Destination::Stderr && !config.stderr {
        warn!("there is no syslog at {}: logging to standard error, as with -E", syslog::SOCKET);
    }
    destination
}

fn install<W>(format: LogFormat, destination: Destination, filter: EnvFilter, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would panic when standard error is closed.
        .log_internal_errors(false)
        .with_ansi(destination == Destination::Stderr && io::stderr().is_terminal())
        .with_target(false)
        .with_writer(writer);
    // These fail only when the process has a log already: then that one is used.
    let _ = match (format, destination) {
        (LogFormat::Json, _) => log.json().try_init(),
        (LogFormat::Human, Destination::Stderr) => log.try_init(),
        // The time and the level are syslog's.
        (LogFormat::Human, Destination::Syslog) => log.without_time().with_level(false).try_init(),
    };
}

/// What is logged, and what is wrong with RUST_LOG.
fn filter(verbosity: u64) -> (EnvFilter, Option<String>) {
    let default = EnvFilter::new(match verbosity {
        0 => "info",
        1 => "info,cld_server=debug",
        _ => "info,cld_server=trace",
    });
    match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) if !text.is_empty() => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (default, Some(format!("RUST_LOG={text} is not used: {error}"))),
        },
        _ => (default, None),
    }
}
