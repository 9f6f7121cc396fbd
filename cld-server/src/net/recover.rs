//! Opening the data directory: from the files to what the node goes on from. Reads everything, and so may take a while.

use std::io::{self, Read};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::info;

use crate::database::{Database, Snapshot, SnapshotError as DecodeError};
use crate::node::Start;
use crate::storage::{Identity, LogStore, OpenError, OpenMode, SnapshotReader, Store};

/// Opens the directory. One that does not exist or is empty becomes a new cell of one server.
pub(super) fn recover(directory: &Path) -> Result<(Start, Store), RecoverError> {
    let fresh = fresh_identity()?;
    let (store, recovered) = Store::open(directory, OpenMode::NewCell(fresh))?;
    let identity = store.identity();
    if identity == fresh {
        info!("{} is a new cell of one server", directory.display());
    }
    let database = match recovered.snapshot {
        None => Database::new(),
        Some(reader) => {
            let file = reader.path().to_owned();
            Snapshot::decode(Chunks { reader, chunk: Vec::new(), taken: 0 })
                .map_err(|source| RecoverError::Snapshot { file, source })?
        }
    };
    info!(
        snapshot = recovered.log.base.at.index,
        entries = recovered.log.entries.len(),
        sessions = database.totals().sessions,
        "the data is read",
    );
    Ok((Start { identity, log: recovered.log, database }, store))
}

fn fresh_identity() -> Result<Identity, getrandom::Error> {
    let node = NonZeroU64::new(getrandom::u64()?).unwrap_or(NonZeroU64::MIN);
    let cell = u128::from(getrandom::u64()?) << 64 | u128::from(getrandom::u64()?);
    Ok(Identity { node, cell })
}

/// A snapshot file's chunks as one stream.
struct Chunks {
    reader: SnapshotReader,
    chunk: Vec<u8>,
    taken: usize,
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() {
            self.chunk = self.reader.next_chunk().map_err(io::Error::other)?.unwrap_or_default();
            self.taken = 0;
        }
        let length = self.chunk.get(self.taken..).unwrap_or_default().read(out)?;
        self.taken += length;
        Ok(length)
    }
}

/// Why the data directory cannot be used.
#[derive(Debug, Error)]
pub(crate) enum RecoverError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "{} is whole, but not what this version writes: {source}; use the version of the server that wrote it",
        file.display()
    )]
    Snapshot { file: PathBuf, source: DecodeError },
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}
