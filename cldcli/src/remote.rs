//! What the commands need of a session, and the session that they get.
//!
//! The commands know the two traits only; the tests give them a scripted session.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use cldc_udp::blocking::{Client, Events, File, Lock};
use cldc_udp::{Code, Contents, Error, EventMask, FileEvent, LockKind, OpenMode, Result, Sequencer};

/// How long a place in a lock's queue is kept: until the session ends.
const QUEUE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A session.
pub(crate) trait Remote {
    type File: RemoteFile;
    type Events: RemoteEvents;

    /// Opens a file or directory, or creates it.
    fn open(&self, path: &[u8], mode: OpenMode, events: EventMask) -> Result<Self::File>;

    /// Deletes a file or an empty directory; with a fence, only if that stands.
    fn remove(&self, path: &[u8], fence: Option<&Sequencer>) -> Result<()>;

    /// Whether a sequencer stands.
    fn check_sequencer(&self, sequencer: &Sequencer) -> Result<bool>;

    /// What happens from now on to open files.
    fn events(&self) -> Self::Events;
}

/// An open file; closed when it is dropped.
pub(crate) trait RemoteFile {
    /// Reads all of it, and about it.
    fn read(&self) -> Result<Contents>;

    /// Replaces the contents; with a fence, only if that stands.
    fn write(&self, data: &[u8], fence: Option<&Sequencer>) -> Result<()>;

    /// Takes the lock or, if it may wait, a place in its queue. If it may not, a lock held by others is
    /// [`Code::LockConflict`].
    fn lock(&mut self, kind: LockKind, wait: bool) -> Result<Standing>;

    /// How the lock stands now.
    fn standing(&self) -> Standing;

    /// The sequencer of a lock that is held, if the server has told one.
    fn sequencer(&self) -> Option<Sequencer>;

    /// Releases the lock, or leaves its queue, and closes the file.
    fn unlock(self) -> Result<()>;
}

/// Reads events.
pub(crate) trait RemoteEvents {
    /// The next event, or nothing if none comes within so long.
    fn next(&mut self, wait: Duration) -> Result<Option<FileEvent>>;
}

/// How a lock that was asked for stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Held.
    Held,
    /// In the queue.
    Queued,
    /// Not held, and not asked for any more.
    Failed,
}

impl Remote for Client {
    type File = OpenFile;
    type Events = Events;

    fn open(&self, path: &[u8], mode: OpenMode, events: EventMask) -> Result<OpenFile> {
        let file = Client::open(self, path, mode, events)?;
        Ok(OpenFile { file, lock: Arc::new(Mutex::new(Locking::Failed)) })
    }

    fn remove(&self, path: &[u8], fence: Option<&Sequencer>) -> Result<()> {
        match fence {
            Some(sequencer) => Client::remove_fenced(self, path, sequencer),
            None => Client::remove(self, path),
        }
    }

    fn check_sequencer(&self, sequencer: &Sequencer) -> Result<bool> {
        Client::check_sequencer(self, sequencer)
    }

    fn events(&self) -> Events {
        Client::events(self)
    }
}

/// A file of a session, and the lock that was asked for through it.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: File,
    lock: Arc<Mutex<Locking>>,
}

#[derive(Debug)]
enum Locking {
    Held(Lock),
    Queued,
    Failed,
}

impl OpenFile {
    fn locking(&self) -> MutexGuard<'_, Locking> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits in the lock's queue in a thread of its own.
    fn queue(&self, kind: LockKind) -> Result<()> {
        let file = self.file.with_timeout(QUEUE);
        let lock = Arc::clone(&self.lock);
        *self.locking() = Locking::Queued;
        thread::Builder::new().name("lock queue".into()).spawn(move || {
            let granted = file.lock(kind);
            let mut lock = lock.lock().unwrap_or_else(PoisonError::into_inner);
            *lock = granted.map_or(Locking::Failed, Locking::Held);
        })?;
        Ok(())
    }
}

impl RemoteFile for OpenFile {
    fn read(&self) -> Result<Contents> {
        self.file.read()
    }

    fn write(&self, data: &[u8], fence: Option<&Sequencer>) -> Result<()> {
        match fence {
            Some(sequencer) => self.file.write_fenced(sequencer, data),
            None => self.file.write(data),
        }
    }

    fn lock(&mut self, kind: LockKind, wait: bool) -> Result<Standing> {
        match self.file.try_lock(kind)? {
            Some(lock) => *self.locking() = Locking::Held(lock),
            None if wait => self.queue(kind)?,
            None => return Err(Error::Server(Code::LockConflict)),
        }
        Ok(self.standing())
    }

    fn standing(&self) -> Standing {
        match &*self.locking() {
            Locking::Held(lock) if lock.is_safe() => Standing::Held,
            Locking::Held(_) | Locking::Failed => Standing::Failed,
            Locking::Queued => Standing::Queued,
        }
    }

    fn sequencer(&self) -> Option<Sequencer> {
        match &*self.locking() {
            Locking::Held(lock) if lock.is_safe() => lock.sequencer(),
            _ => None,
        }
    }

    fn unlock(self) -> Result<()> {
        let lock = std::mem::replace(&mut *self.locking(), Locking::Failed);
        match lock {
            Locking::Held(lock) => lock.release()?,
            Locking::Queued => {}
            Locking::Failed => return Err(Error::Server(Code::LockInval)),
        }
        self.file.close()
    }
}

impl RemoteEvents for Events {
    fn next(&mut self, wait: Duration) -> Result<Option<FileEvent>> {
        match self.next_timeout(wait) {
            Ok(event) => Ok(Some(event)),
            Err(Error::Timeout { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
