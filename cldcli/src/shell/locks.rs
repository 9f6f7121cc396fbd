//! Locks that live as long as the session, or until `unlock`.

use std::io::Write;

use cldc_udp::{EventMask, LockKind, OpenMode};

use super::files::cannot_open;
use super::{Shell, show};
use crate::failure::Failure;
use crate::output::LockLine;
use crate::remote::{Remote, RemoteFile, Standing};

/// The number of the first lock, as in Hail.
const FIRST: u64 = 2;

/// The locks that were asked for in this session, those that were refused included, in the order of asking.
pub(super) struct Locks<F> {
    entries: Vec<Entry<F>>,
    next: u64,
}

struct Entry<F> {
    number: u64,
    path: Vec<u8>,
    file: F,
}

impl<F> Default for Locks<F> {
    fn default() -> Self {
        Self { entries: Vec::new(), next: FIRST }
    }
}

impl<R: Remote, W: Write> Shell<R, W> {
    pub(super) fn lock(&mut self, path: &[u8], kind: LockKind, wait: bool) -> Result<(), Failure> {
        let name = if wait { "lock" } else { "trylock" };
        let failed = Failure::call(format!("{name}({}) failed", show(path)));
        let path = self.absolute(path);
        let mut file =
            self.remote.open(&path, OpenMode::LOCK, EventMask::NONE).map_err(cannot_open(&path))?;
        let asked = file.lock(kind, wait);
        let number = self.locks.next;
        self.locks.next += 1;
        let standing = *asked.as_ref().unwrap_or(&Standing::Failed);
        let line = LockLine::new(number, &path, standing, file.sequencer().as_ref());
        self.locks.entries.push(Entry { number, path, file });
        self.output.lock(&line, standing)?;
        asked.map(drop).map_err(failed)
    }

    pub(super) fn unlock(&mut self, path: &[u8]) -> Result<(), Failure> {
        let wanted = self.absolute(path);
        let entries = &mut self.locks.entries;
        let Some(index) = entries.iter().position(|entry| entry.path == wanted) else {
            return Err(Failure::Refused("no lock found".into()));
        };
        let unlocked = entries.remove(index).file.unlock();
        unlocked.map_err(Failure::call(format!("unlock({}) failed", show(path))))
    }

    pub(super) fn list_locks(&mut self) -> Result<(), Failure> {
        let lines = self
            .locks
            .entries
            .iter()
            .map(|Entry { number, path, file }| {
                LockLine::new(*number, path, file.standing(), file.sequencer().as_ref())
            })
            .collect();
        self.output.locks(lines)
    }
}
