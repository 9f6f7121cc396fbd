//! `cld user`: the users of a cell, by a running server of it, or those in a key file.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Failure, admin, tell};
use crate::admin::{Change, Request};
use crate::cli::{DEFAULT_KEYS, Running, UserAction};
use crate::config::default_is_of_cell;
use crate::keys::Secret;
use crate::keys::file::{self, KeyFileError};

/// Does it. A new secret goes to standard output alone on a line, so that it can be put into a file for the client;
/// everything else is told on standard error.
pub(super) fn run(action: UserAction, keys: Option<PathBuf>, server: Running) -> Result<(), Failure> {
    match keys {
        Some(keys) => in_file(action, &keys),
        None if server.data.is_some() || default_is_of_cell()? => in_cell(action, server),
        None => in_file(action, Path::new(DEFAULT_KEYS)),
    }
}

fn in_file(action: UserAction, keys: &Path) -> Result<(), Failure> {
    match action {
        UserAction::Add { name, key_file } => {
            let given = key_file.as_deref().map(given).transpose()?;
            let secret = given.clone().map_or_else(random, Ok)?;
            file::add_with(keys, &name, &secret)?;
            if given.is_none() {
                show(&secret)?;
            }
            tell(&format_args!(
                "cld: '{name}' is in {}. A running server takes it in on SIGHUP.",
                keys.display()
            ));
        }
        UserAction::Remove { name } => {
            file::remove(keys, &name)?;
            tell(&format_args!(
                "cld: '{name}' is no longer in {}. A running server forgets it on SIGHUP.",
                keys.display()
            ));
        }
        UserAction::List => list(file::load(keys)?.into_keys())?,
        UserAction::Insecure { .. } => return Err(Failure::NotInFile),
    }
    Ok(())
}

fn in_cell(action: UserAction, server: Running) -> Result<(), Failure> {
    let change = match action {
        UserAction::Add { name, key_file: Some(file) } => Change::AddUser { name, secret: given(&file)? },
        UserAction::Add { name, key_file: None } => {
            let secret = random()?;
            admin::change(server, &Request::Set(Change::AddUser { name, secret: secret.clone() }))?;
            return show(&secret);
        }
        UserAction::Remove { name } => Change::RemoveUser { name },
        UserAction::Insecure { on } => Change::UserAsKey { on },
        UserAction::List => {
            let (names, user_as_key) = admin::users(server)?;
            list(names.into_iter())?;
            if user_as_key {
                tell(
                    &"cld: everybody else is let in too, with the name as the secret; 'cld user insecure off' ends that",
                );
            }
            return Ok(());
        }
    };
    Ok(admin::change(server, &Request::Set(change))?)
}

fn random() -> Result<Secret, Failure> {
    Ok(Secret::random().map_err(|source| KeyFileError::Random { source })?)
}

/// The secret in a file, or on standard input.
fn given(path: &Path) -> Result<Secret, Failure> {
    if path == Path::new("-") {
        return Ok(file::read_secret(Path::new("standard input"), io::stdin())?);
    }
    let unreadable = |source| KeyFileError::SecretFile { file: path.to_owned(), source };
    Ok(file::read_secret(path, File::open(path).map_err(unreadable)?)?)
}

fn show(secret: &Secret) -> Result<(), Failure> {
    let mut out = io::stdout();
    out.write_all(secret.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(Failure::Output)?;
    tell(
        &"cld: the line above is the secret; the client reads it from a file of its own, such as cldcli's --key-file",
    );
    Ok(())
}

fn list(names: impl Iterator<Item = String>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for name in names {
        writeln!(out, "{name}").map_err(Failure::Output)?;
    }
    Ok(())
}
