//! Opening the data directory: from the files to what the node goes on from. Reads everything, and so may take a while.

use std::io::{self, Read};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::info;

use crate::database::{Database, Snapshot, SnapshotError as DecodeError};
use crate::node::Start;
use crate::storage::{Configuration, Identity, LogStore, OpenError, OpenMode, SnapshotReader, Store};
use crate::versions::SUPPORTED;

/// Opens the directory. One that does not exist or is empty becomes a new cell of one server, unless this is to be a
/// server of `cell`: those are made by hand.
pub(super) fn recover(directory: &Path, cell: Option<u128>) -> Result<(Start, Store), RecoverError> {
    let fresh = fresh_identity()?;
    let mode = if cell.is_some() { OpenMode::Existing } else { OpenMode::NewCell(fresh) };
    let (store, recovered) = Store::open(directory, mode).map_err(|error| match (error, cell) {
        (OpenError::NoCell { directory }, Some(_)) => RecoverError::NotPrepared { directory },
        (error, _) => error.into(),
    })?;
    let identity = store.identity();
    check_cell(directory, identity, &recovered.log.base.configuration, cell)?;
    if identity == fresh {
        info!("{} is a new cell of one server", directory.display());
    }
    let database = match recovered.snapshot {
        None => Database::new(),
        Some(reader) => {
            let file = reader.path().to_owned();
            decode(reader).map_err(|source| RecoverError::Snapshot { file, source })?
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

/// Whether the data is what the options say: of that cell, or of a cell of one that nobody means to enlarge.
pub(crate) fn check_cell(
    directory: &Path,
    identity: Identity,
    configuration: &Configuration,
    cell: Option<u128>,
) -> Result<(), RecoverError> {
    let directory = directory.to_owned();
    let alone = configuration.is_sole_voter(identity.node.get())
        && configuration.members.values().all(|member| member.addresses.peer.is_none());
    match cell {
        None if alone => Ok(()),
        None => Err(RecoverError::NoSecret { directory }),
        Some(cell) if cell == identity.cell => Ok(()),
        Some(cell) => Err(RecoverError::OtherCell { directory, theirs: identity.cell, ours: cell }),
    }
}

/// An identity that no disk has.
pub(crate) fn fresh_identity() -> Result<Identity, getrandom::Error> {
    let node = NonZeroU64::new(getrandom::u64()?).unwrap_or(NonZeroU64::MIN);
    let cell = u128::from(getrandom::u64()?) << 64 | u128::from(getrandom::u64()?);
    Ok(Identity { node, cell })
}

/// What a snapshot file holds.
pub(crate) fn decode(reader: SnapshotReader) -> Result<Database, DecodeError> {
    Snapshot::decode(Chunks { reader, chunk: Vec::new(), taken: 0 }, SUPPORTED)
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
        "{} is whole, but this version of the server cannot read it: {source}",
        file.display()
    )]
    Snapshot { file: PathBuf, source: DecodeError },
    #[error(
        "{} holds no data, and an empty disk never becomes a server of a cell by itself: make it the first server of a \
         new cell with 'cld cell init', or one that joins with 'cld cell prepare'",
        directory.display()
    )]
    NotPrepared { directory: PathBuf },
    #[error(
        "{} holds a server of a cell of several: give '--cell-secret' and '--peer' as well",
        directory.display()
    )]
    NoSecret { directory: PathBuf },
    #[error(
        "{} belongs to cell {theirs:032x}, but the secret file is that of cell {ours:032x}; one of the two is the wrong one",
        directory.display()
    )]
    OtherCell { directory: PathBuf, theirs: u128, ours: u128 },
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Action, Command};
    use crate::storage::{HardState, LogEntry, LogPosition, LogWrite, SnapshotPoint};

    /// A data directory whose snapshot has these chunks.
    fn directory_with(chunks: impl IntoIterator<Item = Vec<u8>>) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut store) = recover(directory.path(), None).unwrap();
        let at = LogPosition { index: 2, term: 1 };
        let hard_state = HardState { term: 1, vote: 1, commit: 2 };
        let entries = vec![LogEntry { at, payload: vec![1], ..LogEntry::default() }];
        store.append(&[LogWrite { snapshot: None, entries, hard_state }]).unwrap();
        let configuration = Configuration::of_voters([store.identity().node.get()]);
        let mut writer = store.snapshots().create(SnapshotPoint { at, configuration }).unwrap();
        chunks.into_iter().for_each(|chunk| writer.write_chunk(&chunk).unwrap());
        store.record_snapshot(&writer.finish().unwrap(), 2).unwrap();
        directory
    }

    #[test]
    fn a_new_directory_becomes_a_cell_that_keeps_its_identity() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let (first, store) = recover(&data, None).unwrap();
        drop(store);
        let (second, store) = recover(&data, None).unwrap();
        assert_eq!(first.identity, second.identity);
        assert!(matches!(recover(&data, None), Err(RecoverError::Open(OpenError::Locked { .. }))));
        drop(store);
        let (other, _store) = recover(&directory.path().join("other"), None).unwrap();
        assert_ne!(first.identity, other.identity);
    }

    #[test]
    fn the_state_comes_from_the_snapshot() {
        let mut database = Database::new();
        database.apply(&Command { at: 1, epoch: 1, action: Action::BeginEpoch });
        let directory = directory_with(Snapshot::encode(&database).flat_map(|chunk| {
            // In small pieces, as the boundaries mean nothing.
            chunk.chunks(5).map(<[u8]>::to_vec).collect::<Vec<_>>()
        }));
        let (start, _store) = recover(directory.path(), None).unwrap();
        assert_eq!(start.database.epoch(), 1);
        assert_eq!(start.log.base.at.index, 2);
    }

    #[test]
    fn a_snapshot_that_is_whole_but_makes_no_sense_is_refused_with_its_name() {
        let directory = directory_with([b"of another version".to_vec()]);
        let error = recover(directory.path(), None).unwrap_err().to_string();
        assert!(error.contains("snapshot-0000000000000002 is whole, but"), "{error}");
    }
}
