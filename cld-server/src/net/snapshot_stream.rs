//! A snapshot's file as a stream: written by a thread of its own, at the speed of the reader.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::database::{Database, Snapshot};
use crate::storage::{Disk, DiskFile, SnapshotError, SnapshotPoint, Snapshots};

/// How many parts wait for the reader.
const WAITING: usize = 4;

/// The file's bytes in parts, each at most a snapshot's chunk. The last part is empty; without it, the file is not whole.
pub(super) fn encode(cell: u128, point: SnapshotPoint, database: Box<Database>) -> mpsc::Receiver<Vec<u8>> {
    let (send, parts) = mpsc::channel(WAITING);
    spawn_blocking(move || {
        let write = || -> Result<(), SnapshotError> {
            let mut writer = Snapshots::new(Arc::new(Pipe(send.clone())), cell).create(point)?;
            for chunk in Snapshot::encode(&database) {
                writer.write_chunk(&chunk)?;
            }
            writer.finish().map(|_| ())
        };
        match write() {
            // The reader may be gone.
            Ok(()) => drop(send.blocking_send(Vec::new())),
            Err(error) => warn!("a snapshot was not sent: {error}"),
        }
    });
    parts
}

/// A disk with one file, which is written from its beginning to its end.
#[derive(Debug, Clone)]
struct Pipe(mpsc::Sender<Vec<u8>>);

impl Disk for Pipe {
    fn location(&self) -> &Path {
        Path::new("admin connection")
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn create(&self, _: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(self.clone()))
    }

    fn open(&self, _: &str) -> io::Result<Box<dyn DiskFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for Pipe {
    fn size(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A snapshot is written in order, so the place needs no mention.
    fn write(&self, _: u64, data: &[u8]) -> io::Result<()> {
        self.0.blocking_send(data.to_owned()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn resize(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
