//! `cld cell`: making the data directories of the servers of a cell.
//!
//! An empty disk never becomes a server of a cell by itself: it might be one that was wiped, and would vote as if it
//! remembered. So an operator makes the first server's directory, and prepares each that joins; every disk gets an id of
//! its own when it is made.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::tell;
use crate::cli::{CellAction, NewServer};
use crate::config::is_reachable;
use crate::net::fresh_identity;
use crate::peer::secret::{Secret, SecretError, SecretFile};
use crate::peer::token::{Token, TokenError};
use crate::storage::{Addresses, Identity, OpenError, OpenMode, Store};

/// Does it. A join token goes to standard output alone on a line; everything else is told on standard error.
pub(super) fn run(action: &CellAction) -> Result<(), CellError> {
    match action {
        CellAction::Init(server) => init(server),
        CellAction::Prepare(server) => prepare(server),
    }
}

fn init(server: &NewServer) -> Result<(), CellError> {
    let addresses = addresses(server)?;
    must_be_empty(&server.data)?;
    let identity = fresh_identity()?;
    let file = SecretFile { cell: identity.cell, secret: Secret::generate()? };
    file.write_new(&server.cell_secret)?;
    if let Err(error) = Store::open(&server.data, OpenMode::FirstMember(identity, addresses)) {
        // It is the secret of no cell.
        let _ = std::fs::remove_file(&server.cell_secret);
        return Err(error.into());
    }
    tell(&format_args!(
        "cld: {} is the first server of the new cell {:032x}. Start it with '--cell-secret {}' and '--peer'; \
         copy that file to each server that shall join, and run 'cld cell prepare' there.",
        server.data.display(),
        identity.cell,
        server.cell_secret.display()
    ));
    Ok(())
}

fn prepare(server: &NewServer) -> Result<(), CellError> {
    let addresses = addresses(server)?;
    let file = SecretFile::read(&server.cell_secret)?;
    must_be_empty(&server.data)?;
    let identity = Identity { cell: file.cell, ..fresh_identity()? };
    let token = Token { identity, addresses }.to_text(&file.secret)?;
    Store::open(&server.data, OpenMode::NewMember(identity))?;
    writeln!(io::stdout(), "{token}").map_err(CellError::Output)?;
    tell(&format_args!(
        "cld: {} is server {:016x}, which waits to be added to cell {:032x}. Start it, and run 'cld member add' with \
         the line above on a server of the cell.",
        server.data.display(),
        identity.node,
        identity.cell
    ));
    Ok(())
}

fn addresses(server: &NewServer) -> Result<Addresses, CellError> {
    let unreachable = |address: &&SocketAddr| !is_reachable(**address);
    if let Some(&address) =
        [Some(&server.peer), server.client.as_ref()].into_iter().flatten().find(unreachable)
    {
        return Err(CellError::Unreachable { address });
    }
    Ok(Addresses { peer: Some(server.peer), client: server.client })
}

fn must_be_empty(directory: &Path) -> Result<(), CellError> {
    let failed = |source| CellError::Directory { directory: directory.to_owned(), source };
    match std::fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(CellError::NotEmpty { directory: directory.to_owned() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Why no directory was made.
#[derive(Debug, Error)]
pub(super) enum CellError {
    #[error("{} is not empty; a server of a cell begins with an empty directory", directory.display())]
    NotEmpty { directory: PathBuf },
    #[error("cannot read {}: {source}", directory.display())]
    Directory { directory: PathBuf, source: io::Error },
    #[error("nobody can reach a server at {address}; give the address and port by which others find it")]
    Unreachable { address: SocketAddr },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}
