//! The pid file and the port file: how scripts find a running server. Both are removed at its end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use thiserror::Error;

use crate::atomic_file;

/// A file with this process's number, locked as long as this lives.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    _locked: File,
}

impl PidFile {
    /// Locks the file and writes the number and a newline.
    ///
    /// # Errors
    /// [`RunFileError::Held`] if another process has it locked.
    pub(super) fn write(path: &Path) -> Result<Self, RunFileError> {
        let failed = |source| RunFileError::Pid { file: path.to_owned(), source };
        loop {
            let mut options = OpenOptions::new();
            let mut file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(path)
                .map_err(failed)?;
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::ACCESS) => {
                    let mut text = String::new();
                    // Only a help for the reader; the holder may be writing it just now.
                    let _ = file.take(32).read_to_string(&mut text);
                    return Err(RunFileError::Held { file: path.to_owned(), pid: text.trim().parse().ok() });
                }
                Err(error) => return Err(failed(error.into())),
            }
            // The holder before us may have removed the file between our opening and locking it.
            let here =
                path.metadata().is_ok_and(|now| file.metadata().is_ok_and(|ours| now.ino() == ours.ino()));
            if !here {
                continue;
            }
            file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
            return Ok(Self { path: path.to_owned(), _locked: file });
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file that stays is not locked, and so stands for no process.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A file with the port that the server listens on.
#[derive(Debug)]
pub(super) struct PortFile(PathBuf);

impl PortFile {
    /// Writes the port in decimal and a newline, all at once for whoever waits for the file.
    ///
    /// # Errors
    /// [`RunFileError::Port`].
    pub(super) fn write(path: &Path, port: u16) -> Result<Self, RunFileError> {
        atomic_file::replace(path, format!("{port}\n").as_bytes(), 0o644)
            .map_err(|source| RunFileError::Port { file: path.to_owned(), source })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PortFile {
    fn drop(&mut self) {
        // Whoever reads a port file that stays finds a port that does not answer.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Why one of the files could not be written.
#[derive(Debug, Error)]
pub(super) enum RunFileError {
    #[error("the pid file {} is held by {}; stop that one, or give this server a pid file of its own with -P",
        file.display(), pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Held { file: PathBuf, pid: Option<u32> },
    #[error("cannot write the pid file {}: {source}; give another with -P, or stay in the foreground with -F",
        file.display())]
    Pid { file: PathBuf, source: io::Error },
    #[error("cannot write the port file {}: {source}; give another with --port-file", file.display())]
    Port { file: PathBuf, source: io::Error },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_has_the_number_and_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        std::fs::write(&path, "a longer text that an earlier process left behind").unwrap();
        let pid_file = PidFile::write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(pid_file);
        assert!(!path.exists());
    }

    #[test]
    fn the_port_file_has_the_port_and_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("port");
        let port_file = PortFile::write(&path, 8081).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "8081\n");
        drop(port_file);
        assert!(!path.exists());
        assert!(
            PortFile::write(&directory.path().join("no/port"), 1)
                .unwrap_err()
                .to_string()
                .contains("no/port")
        );
    }
}
