//! Opening a data directory: the lock that keeps a second daemon out, and why a directory is refused.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use super::configuration::Addresses;
use super::log::Identity;

/// The name of the lock file in a data directory.
pub(super) const LOCK_NAME: &str = "LOCK";

/// What to do with a directory that holds no cell's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Refuse it: [`OpenError::NoCell`].
    Existing,
    /// Make it a new cell of one server with this identity. A directory that holds data is opened as it is.
    NewCell(Identity),
    /// The same, for a cell that is meant to grow: the one server's addresses are in its first configuration.
    FirstMember(Identity, Addresses),
    /// Make it the empty log of a server that joins a cell: it has no configuration, and so never votes before its
    /// master has sent it one. A directory that holds data is opened as it is.
    NewMember(Identity),
    /// The same, while a snapshot is restored into the directory ([`Restoration`](super::Restoration)). No other mode opens it
    /// then.
    Restore(Identity),
}

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another daemon uses the directory.
    #[error("{} is in use by {}; stop it, or give this server a directory of its own", directory.display(), holder(*pid))]
    Locked {
        /// The data directory.
        directory: PathBuf,
        /// The other daemon's process id, if its lock file tells.
        pid: Option<u32>,
    },
    /// The directory is empty, and no new cell was asked for.
    #[error("{} holds no cell's data; check the path, or ask for a new cell", directory.display())]
    NoCell {
        /// The data directory.
        directory: PathBuf,
    },
    /// A snapshot was being restored into the directory, and that was not finished.
    #[error(
        "a snapshot was to be restored into {}, and that was not finished: run 'cld snapshot restore' once more",
        directory.display()
    )]
    Unfinished {
        /// The data directory.
        directory: PathBuf,
    },
    /// A snapshot is to be restored into a directory that holds something.
    #[error("{} is not empty; a snapshot is restored into an empty directory", directory.display())]
    Occupied {
        /// The data directory.
        directory: PathBuf,
    },
    /// The state here was found to differ from that of the other servers.
    #[error("{why}. {} says so: the data is not used again", file.display())]
    Diverged {
        /// The mark's file.
        file: PathBuf,
        /// What was found, and what to do.
        why: String,
    },
    /// The directory is not ours.
    #[error("{} is not a file of a data directory, and there is no log; give the server an empty directory", file.display())]
    Foreign {
        /// A file that does not belong to us.
        file: PathBuf,
    },
    /// There are snapshots, but the log is gone.
    #[error("{} is missing although there are snapshots; {}", file.display(), RESTORE)]
    LogMissing {
        /// The log's file.
        file: PathBuf,
    },
    /// The data was written by a newer version.
    #[error("{} has format {found} and this version knows {known}; use a newer version of the server", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// The data was written by an older version.
    #[error("{} has format {found}, of an older version, and this one reads {known}; start again with an empty directory, or use that version", file.display())]
    OlderFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The format that this version reads.
        known: u32,
    },
    /// A file is damaged.
    #[error("{} is damaged: {what}; {}", file.display(), RESTORE)]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        what: String,
    },
    /// The log needs a snapshot that is not there.
    #[error("{} is missing, and the log begins with it; {}", file.display(), RESTORE)]
    SnapshotMissing {
        /// The snapshot's file.
        file: PathBuf,
    },
    /// The snapshot file is whole, but not the one that the log recorded.
    #[error("{} is not the snapshot that the log recorded but one of another time or cell; {}", file.display(), RESTORE)]
    SnapshotForeign {
        /// The snapshot's file.
        file: PathBuf,
    },
    /// A snapshot goes beyond the end of the log: the log is an old copy.
    #[error("{} is newer than the log, which ends at index {last}; {}", file.display(), RESTORE)]
    LogOutdated {
        /// The snapshot's file.
        file: PathBuf,
        /// The log's last index.
        last: u64,
    },
    /// Entries between the snapshot and the log's first entry are missing.
    #[error("{} begins at index {first} but the snapshot ends at {snapshot}; {}", file.display(), RESTORE)]
    Gap {
        /// The log's file.
        file: PathBuf,
        /// The index of the first entry in the log.
        first: u64,
        /// The index of the snapshot.
        snapshot: u64,
    },
    /// The disk failed.
    #[error("{}: {source}; check the disk and the permissions", file.display())]
    Disk {
        /// The file.
        file: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The database library failed in a way that is none of the above.
    #[error("{}: {source}; check the disk and the permissions", file.display())]
    Database {
        /// The log's file.
        file: PathBuf,
        /// What failed.
        source: Box<redb::Error>,
    },
}

/// The remedy for lost or damaged data.
const RESTORE: &str = "restore the whole directory from one backup, or, if other servers of the cell are alive, \
                       remove it and let this server join again";

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// The lock on a data directory, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let file = directory.join(LOCK_NAME);
        match Self::try_take(&file) {
            Ok(Ok(lock)) => Ok(lock),
            Ok(Err(pid)) => Err(OpenError::Locked { directory: directory.to_owned(), pid }),
            Err(source) => Err(OpenError::Disk { file, source }),
        }
    }

    /// The inner error is the process id of the holder.
    fn try_take(path: &Path) -> io::Result<Result<Self, Option<u32>>> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0)?;
                writeln!(file, "{}", std::process::id())?;
                Ok(Ok(Self { _file: file }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // The holder may be writing it just now; its number is only a help for the reader.
                let _ = file.take(32).read_to_string(&mut text);
                Ok(Err(text.trim().parse().ok()))
            }
            Err(error) => Err(error.into()),
        }
    }
}
