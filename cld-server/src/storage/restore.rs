//! Filling a data directory from a snapshot, so that it is either whole or known to be not.
//!
//! A file `RESTORING` with the new cell's id is there from before the first other file until all is durable. With it there,
//! no server starts; the same can be done once more, which begins with removing what is left.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, OsDisk};
use super::log::Identity;
use super::open::{DirectoryLock, LOCK_NAME, OpenError, OpenMode};
use super::recover::UNFINISHED_LOG;
use super::snapshot::SnapshotName;
use super::store::{LOG_NAME, Store};

/// The file that says so.
pub(super) const RESTORING: &str = "RESTORING";

/// The length of the cell's id in it, in hexadecimal digits.
const CELL: usize = 32;

/// A directory that is being filled.
#[derive(Debug)]
pub struct Restoration {
    disk: Arc<dyn Disk>,
    store: Store,
}

/// What an earlier attempt left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// The cell that was being made; none if the machine went off before that was written.
    pub cell: Option<u128>,
}

impl Restoration {
    /// Whether something was begun in this directory and not finished.
    ///
    /// # Errors
    /// [`OpenError::Disk`].
    pub fn unfinished(directory: &Path) -> Result<Option<Unfinished>, OpenError> {
        unfinished_on(&OsDisk::new(directory))
    }

    /// Begins with an empty directory, which is made if there is none, or with one in which this was not finished. It is
    /// locked until this is dropped. The log has no configuration yet, as in [`OpenMode::NewMember`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn begin(directory: &Path, identity: Identity) -> Result<Self, OpenError> {
        let disk = OsDisk::new(directory);
        let fail = |source| OpenError::Disk { file: directory.to_owned(), source };
        disk.make_directory().map_err(fail)?;
        let made = mark(&disk)?;
        let lock = DirectoryLock::take(directory).inspect_err(|_| {
            if made {
                // It is in the way of whoever was quicker, and says nothing true.
                let _ = disk.remove(RESTORING);
            }
        })?;
        let mut begun = Self::fill_on(Arc::new(disk), identity)?;
        begun.store._lock = Some(lock);
        Ok(begun)
    }

    /// Like [`Self::begin`], on any disk, which nobody else may use meanwhile.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn begin_on(disk: Arc<dyn Disk>, identity: Identity) -> Result<Self, OpenError> {
        mark(disk.as_ref())?;
        Self::fill_on(disk, identity)
    }

    fn fill_on(disk: Arc<dyn Disk>, identity: Identity) -> Result<Self, OpenError> {
        let fail = |name: &str, source| OpenError::Disk { file: disk.location().join(name), source };
        let write = || -> io::Result<()> {
            let file = disk.open(RESTORING)?;
            file.resize(CELL as u64)?;
            file.write(0, format!("{:0CELL$x}", identity.cell).as_bytes())?;
            file.sync()
        };
        write().map_err(|source| fail(RESTORING, source))?;
        for name in disk.list().map_err(|source| fail("", source))? {
            if is_data(&name) {
                disk.remove(&name).map_err(|source| fail(&name, source))?;
            }
        }
        let (store, _) = Store::open_on(Arc::clone(&disk), OpenMode::Restore(identity))?;
        Ok(Self { disk, store })
    }

    /// The store to be filled.
    pub const fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// All is in the store and durable: from now on it is a server's.
    ///
    /// # Errors
    /// [`OpenError::Disk`].
    pub fn finish(self) -> Result<(), OpenError> {
        let fail = |source| OpenError::Disk { file: self.disk.location().join(RESTORING), source };
        self.disk.remove(RESTORING).and_then(|()| self.disk.sync()).map_err(fail)
    }
}

fn unfinished_on(disk: &dyn Disk) -> Result<Option<Unfinished>, OpenError> {
    let read = || -> io::Result<Option<u128>> {
        let file = disk.open(RESTORING)?;
        let mut digits = [0; CELL];
        if file.size()? != CELL as u64 {
            return Ok(None);
        }
        file.read(0, &mut digits)?;
        let digits = std::str::from_utf8(&digits).ok();
        Ok(digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()))
    };
    match read() {
        Ok(cell) => Ok(Some(Unfinished { cell })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Disk { file: disk.location().join(RESTORING), source }),
    }
}

/// Makes the file, durably, if the directory is empty; gives whether it did, as it may be there from an earlier attempt.
fn mark(disk: &dyn Disk) -> Result<bool, OpenError> {
    let fail = |source| OpenError::Disk { file: disk.location().join(RESTORING), source };
    let names = disk.list().map_err(fail)?;
    let is_there = names.iter().any(|name| name == RESTORING);
    for name in names.iter().filter(|name| *name != LOCK_NAME && *name != RESTORING) {
        match (is_there, is_data(name)) {
            (true, true) => {}
            (true, false) => return Err(OpenError::Foreign { file: disk.location().join(name) }),
            (false, _) => return Err(OpenError::Occupied { directory: disk.location().to_owned() }),
        }
    }
    if !is_there {
        disk.create(RESTORING).map_err(fail)?;
    }
    disk.sync().map_err(fail)?;
    Ok(!is_there)
}

fn is_data(name: &str) -> bool {
    name == LOG_NAME || name == UNFINISHED_LOG || SnapshotName::parse(name).is_some()
}
