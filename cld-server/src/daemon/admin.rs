//! The commands that ask a running server: `cld status`, `member`, `transfer`, `user`, `limits` and `snapshot save`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::tell;
use crate::admin::client::{AdminError, Client};
use crate::admin::{Answer, Change, Report, Request};
use crate::cli::{LimitsAction, MemberAction, Running};
use crate::config::{ConfigError, data_directory};
use crate::storage::{SnapshotError, SnapshotReader};

/// For so long a change is asked for again that could not be made at the moment, and so often.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// Prints how things are.
pub(super) fn status(server: Running, json: bool) -> Result<(), CommandError> {
    let report = report(server)?;
    print(&if json { to_json(&report)? } else { report.to_string() })
}

/// Changes or prints the members.
pub(super) fn member(server: Running, action: MemberAction) -> Result<(), CommandError> {
    match action {
        MemberAction::Add { token } => change(server, &Request::AddMember { token }),
        MemberAction::Remove { member } => change(server, &Request::RemoveMember { member }),
        MemberAction::List { json } => {
            let report = report(server)?;
            let mut table = String::new();
            // Writing to a string does not fail.
            let _ = report.members(&mut table);
            print(&if json { to_json(&report.members)? } else { table })
        }
    }
}

/// Makes another server the master.
pub(super) fn transfer(server: Running, member: String) -> Result<(), CommandError> {
    change(server, &Request::Transfer { member })
}

/// Writes a snapshot of the running server to a new file, and checks it.
pub(super) fn save(server: Running, path: &Path) -> Result<(), CommandError> {
    let mut client = Client::connect(&data_directory(server.data)?)?;
    let failed = |source| CommandError::File { file: path.to_owned(), source };
    let mut file = tempfile_beside(path).map_err(failed)?;
    client.ask(&Request::Snapshot)?;
    client.copy_snapshot(&mut file.file)?;
    file.file.sync_all().map_err(failed)?;
    let reader = SnapshotReader::open(&file.path)?;
    let (index, length) = (reader.record().point.at.index, reader.record().length);
    file.keep(path).map_err(failed)?;
    tell(&format_args!("cld: {} has the state as of index {index} in {length} bytes", path.display()));
    Ok(())
}

/// The users that the server lists, and whether others are let in.
pub(super) fn users(server: Running) -> Result<(Vec<String>, bool), CommandError> {
    let mut client = Client::connect(&data_directory(server.data)?)?;
    let mut all: Vec<String> = Vec::new();
    loop {
        match client.ask(&Request::Users { after: all.last().cloned() })? {
            Answer::Users { names, more, user_as_key } => {
                all.extend(names);
                if !more {
                    return Ok((all, user_as_key));
                }
            }
            _ => return Err(CommandError::Unexpected),
        }
    }
}

/// Prints or sets the limits.
pub(super) fn limits(server: Running, action: Option<LimitsAction>) -> Result<(), CommandError> {
    if let Some(LimitsAction::Set { name, value }) = action {
        return change(server, &Request::Set(Change::Limit { name, value }));
    }
    match Client::connect(&data_directory(server.data)?)?.ask(&Request::Limits)? {
        Answer::Limits { limits } => {
            print(&limits.iter().map(|(name, value)| format!("{name:<24} {value}\n")).collect::<String>())
        }
        _ => Err(CommandError::Unexpected),
    }
}

fn report(server: Running) -> Result<Report, CommandError> {
    match Client::connect(&data_directory(server.data)?)?.ask(&Request::Status)? {
        Answer::Status(report) => Ok(*report),
        _ => Err(CommandError::Unexpected),
    }
}

/// Asks for a change until it is made or refused for good.
pub(super) fn change(server: Running, request: &Request) -> Result<(), CommandError> {
    let mut client = Client::connect(&data_directory(server.data)?)?;
    let begun = Instant::now();
    loop {
        match client.ask(request) {
            Ok(Answer::Done { what }) => {
                tell(&format_args!("cld: {what}"));
                return Ok(());
            }
            Ok(_) => return Err(CommandError::Unexpected),
            Err(AdminError::Refused { again: true, .. }) if begun.elapsed() < PATIENCE => sleep(PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<String, CommandError> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(AdminError::Answer)
        .map_err(Into::into)
}

fn print(text: &str) -> Result<(), CommandError> {
    io::stdout().write_all(text.as_bytes()).map_err(CommandError::Output)
}

/// A file that is removed unless it is kept.
struct Unfinished {
    file: std::fs::File,
    path: PathBuf,
}

fn tempfile_beside(path: &Path) -> io::Result<Unfinished> {
    use std::os::unix::fs::OpenOptionsExt;
    if path.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let path = path.with_file_name(name);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    Ok(Unfinished { file, path })
}

impl Unfinished {
    /// Gives it its name; another file of that name stays as it is.
    fn keep(&self, path: &Path) -> io::Result<()> {
        std::fs::hard_link(&self.path, path)?;
        std::fs::File::open(crate::atomic_file::directory_of(path))?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What stays is but in the way.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Why a command failed.
#[derive(Debug, Error)]
pub(super) enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("the server answers something else than was asked; is it of another version?")]
    Unexpected,
    #[error("cannot write {}: {source}", file.display())]
    File { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}
