//! `cld cell` and `cld snapshot restore`: making the data directories of the servers of a cell.
//!
//! An empty disk never becomes a server of a cell by itself: it might be one that was wiped, and would vote as if it
//! remembered. So an operator makes the first server's directory, and prepares each that joins; every disk gets an id of
//! its own when it is made.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::tell;
use crate::cli::{CellAction, NewCell, NewServer};
use crate::config::is_reachable;
use crate::database::SnapshotError as DecodeError;
use crate::net::{decode, fresh_identity};
use crate::peer::secret::{Secret, SecretError, SecretFile};
use crate::peer::token::{Token, TokenError};
use crate::storage::{
    Addresses, Configuration, HardState, Identity, LogError, LogStore, LogWrite, OpenError, OpenMode,
    Restoration, SnapshotError, SnapshotPoint, SnapshotReader, Store,
};

/// Does it. A join token goes to standard output alone on a line; everything else is told on standard error.
pub(super) fn run(action: &CellAction) -> Result<(), CellError> {
    match action {
        CellAction::Init(server) => init(server),
        CellAction::Prepare(server) => prepare(server),
    }
}

fn init(server: &NewServer) -> Result<(), CellError> {
    let addresses = addresses(server.peer, server.client)?;
    must_be_empty(&server.data)?;
    let identity = fresh_identity()?;
    with_new_secret(identity.cell, &server.cell_secret, || {
        Ok(Store::open(&server.data, OpenMode::FirstMember(identity, addresses)).map(|_| ())?)
    })?;
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
    let addresses = addresses(server.peer, server.client)?;
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

/// Checks a snapshot file, and that this version can read what is in it.
pub(super) fn verify(file: &Path) -> Result<(), CellError> {
    let reader = SnapshotReader::open(file)?;
    let (cell, record) = (reader.cell(), reader.record().clone());
    let undecodable = |source| CellError::Decode { file: file.to_owned(), source };
    let totals = decode(reader).map_err(undecodable)?.totals();
    writeln!(
        io::stdout(),
        "{}: whole, {} bytes; cell {cell:032x} as of index {}, term {}; {} sessions, {} files and directories, {} bytes in them",
        file.display(),
        record.length,
        record.point.at.index,
        record.point.at.term,
        totals.sessions,
        totals.inodes,
        totals.data
    )
    .map_err(CellError::Output)
}

/// Makes the first server of a new cell from a snapshot file.
pub(super) fn restore(file: &Path, data: &Path, cell: Option<&NewCell>) -> Result<(), CellError> {
    let addresses = cell.map(|cell| addresses(cell.peer, cell.client)).transpose()?.unwrap_or_default();
    let unfinished = Restoration::unfinished(data)?;
    if unfinished.is_none() {
        must_be_empty(data)?;
    }
    let undecodable = |source| CellError::Decode { file: file.to_owned(), source };
    decode(SnapshotReader::open(file)?).map_err(undecodable)?;
    let mut identity = fresh_identity()?;
    if let Some(cell) = unfinished.and_then(|unfinished| unfinished.cell) {
        // Its secret may have been written.
        identity.cell = cell;
    }
    let restoration = Restoration::begin(data, identity)?;
    let fill = || fill(restoration, identity.node, addresses, &mut SnapshotReader::open(file)?);
    match cell {
        Some(NewCell { cell_secret, .. })
            if unfinished.is_some() && is_secret_of(identity.cell, cell_secret) =>
        {
            fill()?;
        }
        Some(NewCell { cell_secret, .. }) => with_new_secret(identity.cell, cell_secret, fill)?,
        None => fill()?,
    }
    tell(&format_args!(
        "cld: {} is the first server of the new cell {:032x}, with the state of {}. Before it is started, wait as long \
         as the longest lease of a session: clients of the old cell may still believe in their locks.",
        data.display(),
        identity.cell,
        file.display()
    ));
    Ok(())
}

/// Makes a log that begins with a copy of this snapshot, of which this one server is the only member.
fn fill(
    mut restoration: Restoration,
    node: NonZeroU64,
    addresses: Addresses,
    from: &mut SnapshotReader,
) -> Result<(), CellError> {
    let store = restoration.store();
    let at = from.record().point.at;
    let configuration = Configuration::of_one(node.get(), addresses);
    let mut copy = store.snapshots().receive(SnapshotPoint { at, configuration })?;
    while let Some(chunk) = from.next_chunk()? {
        copy.write_chunk(&chunk)?;
    }
    let hard_state = HardState { term: at.term, vote: 0, commit: at.index };
    let snapshot = Some(copy.finish()?);
    store.append(&[LogWrite { snapshot, entries: Vec::new(), hard_state }])?;
    Ok(restoration.finish()?)
}

/// Writes the file of a new cell's secret, and removes it again if what follows fails: it is the secret of no cell then.
fn with_new_secret(
    cell: u128,
    path: &Path,
    make: impl FnOnce() -> Result<(), CellError>,
) -> Result<(), CellError> {
    SecretFile { cell, secret: Secret::generate()? }.write_new(path)?;
    make().inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// Whether this is the file of that cell's secret, which an attempt that was not finished has left.
fn is_secret_of(cell: u128, path: &Path) -> bool {
    SecretFile::read(path).is_ok_and(|file| file.cell == cell)
}

fn addresses(peer: SocketAddr, client: Option<SocketAddr>) -> Result<Addresses, CellError> {
    if let Some(address) = [Some(peer), client].into_iter().flatten().find(|address| !is_reachable(*address))
    {
        return Err(CellError::Unreachable { address });
    }
    Ok(Addresses { peer: Some(peer), client })
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
    Snapshot(#[from] SnapshotError),
    #[error("{} is whole, but this version of the server cannot read it: {source}", file.display())]
    Decode { file: PathBuf, source: DecodeError },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}
