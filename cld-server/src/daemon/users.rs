//! `cld user`: editing the key file.

use std::io::{self, Write};
use std::path::Path;

use super::{Failure, tell};
use crate::cli::UserAction;
use crate::keys::file;

/// Does it. A new secret goes to standard output alone on a line, so that it can be put into a file for the client;
/// everything else is told on standard error.
pub(super) fn run(action: &UserAction, keys: &Path) -> Result<(), Failure> {
    let mut out = io::stdout();
    match action {
        UserAction::Add { name } => {
            let secret = file::add(keys, name)?;
            out.write_all(secret.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(Failure::Output)?;
            tell(&format_args!(
                "cld: '{name}' is in {}. The line above is the secret; the client reads it from a file of its own, \
                 such as cldcli's --key-file. A running server takes it in on SIGHUP.",
                keys.display()
            ));
        }
        UserAction::Remove { name } => {
            file::remove(keys, name)?;
            tell(&format_args!(
                "cld: '{name}' is no longer in {}. A running server forgets it on SIGHUP.",
                keys.display()
            ));
        }
        UserAction::List => {
            for name in file::load(keys)?.keys() {
                writeln!(out, "{name}").map_err(Failure::Output)?;
            }
        }
    }
    Ok(())
}
