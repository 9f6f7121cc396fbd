//! `cld --check`: everything that is read at the start is read, and what would be used is shown.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::config::{CellConfig, Config};
use crate::keys::Keys;
use crate::net::{RecoverError, ServeError, check_cell};
use crate::peer::secret::SecretFile;
use crate::storage::{LogStore, OpenError, OpenMode, Store};

/// Checks the keys and the data directory, and prints the configuration.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    let users = match config.keys.load()? {
        _ if config.cell.is_some() => {
            "those of the cell; of a new cell, those of its first server's configuration".to_owned()
        }
        Keys::Listed(users) => format!("{} in {}", users.len(), config.keys),
        Keys::UserAsKey => "everybody, with the user's name as the secret (insecure)".to_owned(),
    };
    let secret = config.cell.as_ref().map(|cell| SecretFile::read(&cell.secret)).transpose();
    let cell = secret.map_err(ServeError::Secret)?.map(|secret| secret.cell);
    let data = examine(&config.data, cell).map_err(ServeError::Recover)?;
    let addresses = match config.addresses.as_slice() {
        [] => "all addresses".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let clients = match config.client_addresses.as_slice() {
        [] => "what is bound to an address".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let others = match (&config.cell, cell) {
        (Some(CellConfig { secret, peer }), Some(cell)) => {
            format!("cell {cell:032x} by {}, TCP on {peer}", secret.display())
        }
        _ => "none, a cell of one server".to_owned(),
    };
    let path = |path: &Option<PathBuf>| match path {
        Some(path) => path.display().to_string(),
        None => "none".to_owned(),
    };
    let log = if config.log.stderr { "standard error" } else { "syslog, LOCAL3" };
    let (limits, queue) = (&config.limits, &config.queue_limits);
    let lines = [
        ("data", format!("{}: {data}", config.data.display())),
        ("listen", format!("{addresses}, UDP port {}", config.port)),
        ("told to clients", clients),
        ("other servers", others),
        ("users", users),
        ("session timeout", format!("{} s", config.limits.session_timeout)),
        ("sessions", format!("{} in all, {} of one user", limits.sessions, limits.sessions_per_user)),
        (
            "handles",
            format!("{} of one session, {} of one user", limits.handles_per_session, limits.handles_per_user),
        ),
        (
            "bytes",
            format!(
                "{} in a path, {} in a file, {} in all",
                limits.path_length, limits.payload, limits.total_data
            ),
        ),
        (
            "packets",
            format!("{} to one session, {} to one user", queue.packets_per_session, queue.packets_per_user),
        ),
        ("pid file", path(&config.pid_file)),
        ("port file", path(&config.port_file)),
        ("log", format!("{log}, {:?}, level {}", config.log.format, config.log.verbosity).to_lowercase()),
    ];
    let mut out = io::stdout().lock();
    for (name, value) in lines {
        writeln!(out, "{name:<16} {value}").map_err(Failure::Output)?;
    }
    writeln!(out, "cld: this would start").map_err(Failure::Output)
}

/// What is in the data directory. One that a server uses just now is not opened.
fn examine(directory: &Path, cell: Option<u128>) -> Result<String, RecoverError> {
    match Store::open(directory, OpenMode::Existing) {
        Ok((store, recovered)) => {
            check_cell(directory, store.identity(), &recovered.log.base.configuration, cell)?;
            let last = recovered.log.entries.last().map_or(recovered.log.base.at, |entry| entry.at);
            Ok(format!("whole; the log ends at index {}", last.index))
        }
        Err(OpenError::NoCell { directory }) if cell.is_some() => {
            Err(RecoverError::NotPrepared { directory })
        }
        Err(OpenError::NoCell { .. }) => {
            let parent = crate::atomic_file::directory_of(directory);
            // It is made with the new cell, but not its parents: a path that is wrong would go unnoticed.
            if !directory.exists() && !parent.is_dir() {
                return Err(OpenError::Disk { file: parent, source: io::ErrorKind::NotFound.into() }.into());
            }
            Ok("holds no data; becomes a new cell of one server".to_owned())
        }
        Err(OpenError::Locked { pid, .. }) => {
            let user = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            Ok(format!("in use by {user}, so not examined"))
        }
        Err(error) => Err(error.into()),
    }
}
