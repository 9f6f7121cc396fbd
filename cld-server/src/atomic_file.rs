//! Replacing or creating a file so that a reader meets the old content or the new one, never a part, whatever fails in
//! between.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid};

/// Writes `content` to the file, durably, with these permission bits. A file that is replaced passes on its owner.
/// A link is followed, so the link stays.
///
/// # Errors
/// The operating system's; the file is then as it was.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name =
        target.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    let directory = directory_of(&target);
    let temporary = directory.join(temporary_name(name));

    let written = write_temporary(&temporary, &target, content, mode)
        .and_then(|()| std::fs::rename(&temporary, &target));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
        return written;
    }
    File::open(directory)?.sync_all()
}

/// Writes `content` to a new file, durably, with these permission bits. The file appears whole or not at all.
///
/// # Errors
/// The operating system's, [`io::ErrorKind::AlreadyExists`] if there is anything of that name, which stays as it is.
pub(crate) fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    let directory = directory_of(path);
    let temporary = directory.join(temporary_name(name));
    // Unlike a rename, a link never takes another file's place.
    let written =
        write_temporary(&temporary, path, content, mode).and_then(|()| std::fs::hard_link(&temporary, path));
    let _ = std::fs::remove_file(&temporary);
    written?;
    File::open(directory)?.sync_all()
}

fn temporary_name(name: &OsStr) -> OsString {
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    temporary
}

/// The directory that a file is in, for `name` alone the present one.
pub(crate) fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn write_temporary(temporary: &Path, target: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // Left behind by a process that was killed and had our number.
    let _ = std::fs::remove_file(temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    if let Ok(old) = target.metadata() {
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            rustix::fs::fchown(&file, Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())))?;
        }
    }
    // Whatever the umask took away.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}
