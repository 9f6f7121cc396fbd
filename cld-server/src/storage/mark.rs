//! The mark on the data of a server whose state was found to differ from that of the others: such data is not used again.

use std::fmt::Display;
use std::io;
use std::path::Path;

use super::disk::Disk;
use super::open::OpenError;
use super::store::Store;

/// The name of the mark. That it is there is what counts; it says why in words.
pub const DIVERGED: &str = "DIVERGED";

/// The longest mark that is read, in bytes.
const MAX_MARK: usize = 4096;

impl Store {
    /// Marks the data, durably: from now on the directory is refused with [`OpenError::Diverged`]. A mark that is there
    /// stays as it is.
    ///
    /// # Errors
    /// The disk's.
    pub fn mark_diverged(&self, why: &dyn Display) -> io::Result<()> {
        let disk = self.snapshots().disk();
        let file = match disk.create(DIVERGED) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return disk.sync(),
            created => created?,
        };
        file.write(0, format!("{why}\n").as_bytes())?;
        file.sync()?;
        disk.sync()
    }
}

/// Refuses data that is marked.
pub(super) fn refuse_marked(disk: &dyn Disk, names: &[String]) -> Result<(), OpenError> {
    if !names.iter().any(|name| name == DIVERGED) {
        return Ok(());
    }
    let file = disk.location().join(DIVERGED);
    let read = || -> io::Result<String> {
        let mark = disk.open(DIVERGED)?;
        let length = usize::try_from(mark.size()?).unwrap_or(usize::MAX).min(MAX_MARK);
        let mut text = vec![0; length];
        mark.read(0, &mut text)?;
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    };
    match read() {
        Ok(why) => Err(OpenError::Diverged { file, why }),
        Err(source) => Err(OpenError::Disk { file, source }),
    }
}

/// Why the server on this data directory stopped for good, if it did.
#[must_use]
pub fn read_mark(directory: &Path) -> Option<String> {
    let disk = super::disk::OsDisk::new(directory);
    match refuse_marked(&disk, &disk.list().ok()?) {
        Err(OpenError::Diverged { why, .. }) => Some(why),
        _ => None,
    }
}
