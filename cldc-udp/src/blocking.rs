//! The blocking client, on std threads: each call returns by its deadline.
//!
//! One helper thread per session moves the datagrams and keeps the lease, so that a program may do as it likes between
//! its calls.

mod thread;
mod wait;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cldc_core::lease::LeaseState;
use cldc_core::session::Handle;
use cldc_core::wire::{EventMask, Metadata, OpenMode};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::sequencer::Sequencer;
use crate::types::{Contents, FileEvent, LeaseTerms, LockKind};
use crate::{client, events};
use wait::{block_on, block_on_for};

/// A session with a cell. Clones share it; it lives as long as one of them, or a [`File`], [`Lock`] or [`Events`] of
/// it, and is ended in the background when the last is dropped. A program that ends at once after that may be too
/// fast: see [`Client::close`].
///
/// Every call ends by a deadline: that of the [`Options`], or of [`Client::with_timeout`].
#[derive(Clone, Debug)]
pub struct Client(client::Client);

impl Client {
    /// Opens a session with the first server of the options that answers as master.
    ///
    /// # Errors
    /// [`Error::Timeout`] if none does, [`Error::Server`] if one refuses the session, [`Error::Config`],
    /// [`Error::Io`].
    pub fn connect(options: Options) -> Result<Self> {
        let hub = thread::start(&options)?;
        block_on(client::Client::open_session(hub, options.timeout)).map(Self)
    }

    /// The same session, with another deadline for calls made through it.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self(self.0.with_timeout(timeout))
    }

    /// Opens a file or directory, or creates it; `events` is what it shall tell [`Client::events`] of. A file
    /// opened for locking tells of `DELETED` in any case: the lock goes with it.
    ///
    /// # Errors
    /// [`Error::Server`] with the reason; and what all calls may say, see [`Error`].
    pub fn open(&self, path: impl AsRef<[u8]>, mode: OpenMode, events: EventMask) -> Result<File> {
        block_on(self.0.open(path, mode, events)).map(File)
    }

    /// Opens a file for reading, writing and locking, and creates it if it does not exist.
    ///
    /// # Errors
    /// As for [`Client::open`].
    pub fn create(&self, path: impl AsRef<[u8]>) -> Result<File> {
        block_on(self.0.create(path)).map(File)
    }

    /// Creates a directory.
    ///
    /// # Errors
    /// `INODE_EXISTS` if the path exists; and as for [`Client::open`].
    pub fn mkdir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        block_on(self.0.mkdir(path))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// `NAME_INVAL` if it does not exist; and as for [`Client::open`].
    pub fn read(&self, path: impl AsRef<[u8]>) -> Result<Contents> {
        block_on(self.0.read(path))
    }

    /// Replaces the contents of a file, 131072 bytes at most, and creates it if it does not exist.
    ///
    /// # Errors
    /// As for [`Client::open`].
    pub fn write(&self, path: impl AsRef<[u8]>, data: &[u8]) -> Result<()> {
        block_on(self.0.write(path, data))
    }

    /// Reads the metadata of a file.
    ///
    /// # Errors
    /// As for [`Client::read`].
    pub fn metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        block_on(self.0.metadata(path))
    }

    /// The names in a directory, in the order of their creation.
    ///
    /// # Errors
    /// `MODE_INVAL` if it is not a directory; and as for [`Client::read`].
    pub fn list(&self, path: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>> {
        block_on(self.0.list(path))
    }

    /// Deletes a file or an empty directory.
    ///
    /// # Errors
    /// `NAME_INVAL` if it does not exist, `DIR_NOTEMPTY`; and what all calls may say.
    pub fn remove(&self, path: impl AsRef<[u8]>) -> Result<()> {
        block_on(self.0.remove(path))
    }

    /// Takes the lock of a file that exists. While others hold it, waits in its queue until the deadline, and then
    /// leaves the queue.
    ///
    /// # Errors
    /// [`Error::Timeout`] if others hold it for too long; and as for [`Client::open`].
    pub fn lock(&self, path: impl AsRef<[u8]>, kind: LockKind) -> Result<Lock> {
        block_on(self.0.lock(path, kind)).map(Lock)
    }

    /// Takes the lock of a file that exists, unless others hold it.
    ///
    /// # Errors
    /// As for [`Client::open`].
    pub fn try_lock(&self, path: impl AsRef<[u8]>, kind: LockKind) -> Result<Option<Lock>> {
        Ok(block_on(self.0.try_lock(path, kind))?.map(Lock))
    }

    /// Whether a sequencer stands: whether its lock is held, without a break since.
    ///
    /// # Errors
    /// [`Error::Unsupported`]; and what all calls may say.
    pub fn check_sequencer(&self, sequencer: &Sequencer) -> Result<bool> {
        block_on(self.0.check_sequencer(sequencer))
    }

    /// As [`Client::remove`], if the sequencer stands.
    ///
    /// # Errors
    /// `STALE` if it does not: nothing has changed then. [`Error::Unsupported`]; and as for [`Client::remove`].
    pub fn remove_fenced(&self, path: impl AsRef<[u8]>, sequencer: &Sequencer) -> Result<()> {
        block_on(self.0.remove_fenced(path, sequencer))
    }

    /// Asks the server for nothing, and so finds out whether it is there.
    ///
    /// # Errors
    /// What all calls may say, see [`Error`].
    pub fn nop(&self) -> Result<()> {
        block_on(self.0.nop())
    }

    /// Ends the session, which releases all that it holds, and waits for the server's answer. Calls of other clones
    /// fail with [`Error::Closed`] from then on. After the deadline, the client goes on trying in the background for a
    /// few seconds; if the server does not hear of it, it keeps the session until the lease has run out.
    ///
    /// # Errors
    /// [`Error::SessionLost`] if it was lost before; and what all calls may say.
    pub fn close(self) -> Result<()> {
        block_on(self.0.close())
    }

    /// What happens from now on to files that are opened with an event mask.
    #[must_use]
    pub fn events(&self) -> Events {
        Events(self.0.events())
    }

    /// How far the lease is to be trusted at this moment.
    #[must_use]
    pub fn lease_state(&self) -> LeaseState {
        self.0.lease_state()
    }

    /// What the server has granted.
    #[must_use]
    pub fn terms(&self) -> LeaseTerms {
        self.0.terms()
    }

    /// The epoch of the cell's master, which rises with each new one; none from a plain server.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.0.epoch()
    }

    /// Whether the session can do what plain ones cannot: move to other addresses and servers, and use sequencers.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.0.is_extended()
    }

    /// Waits until the lease is to be trusted more, or less, than `from` says, for so long at most; gives the state
    /// that it has then.
    #[must_use]
    pub fn wait_lease_change(&self, from: LeaseState, timeout: Duration) -> LeaseState {
        block_on(self.0.wait_lease_change(from, timeout))
    }

    /// The session's id, a random number.
    #[must_use]
    pub fn sid(&self) -> u64 {
        self.0.sid()
    }

    /// The server that the session is with.
    #[must_use]
    pub fn server(&self) -> Option<SocketAddr> {
        self.0.server()
    }
}

/// An open file or directory. Dropped, it is closed in the background, once no [`Lock`] of it is left.
#[derive(Debug)]
pub struct File(client::File);

impl File {
    /// The same open file, with another deadline for calls made through it. It is closed when both are gone.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self(self.0.with_timeout(timeout))
    }

    /// Reads the file, all of it at one moment.
    ///
    /// # Errors
    /// `MODE_INVAL` if it was not opened for reading, `TOO_LARGE`; and what all calls may say, see [`Error`].
    pub fn read(&self) -> Result<Contents> {
        block_on(self.0.read())
    }

    /// Replaces the contents, 131072 bytes at most.
    ///
    /// # Errors
    /// `MODE_INVAL` if it was not opened for writing; and what all calls may say.
    pub fn write(&self, data: &[u8]) -> Result<()> {
        block_on(self.0.write(data))
    }

    /// As [`File::write`], if the sequencer stands.
    ///
    /// # Errors
    /// `STALE` if it does not: nothing has changed then. [`Error::Unsupported`]; and as for [`File::write`].
    pub fn write_fenced(&self, sequencer: &Sequencer, data: &[u8]) -> Result<()> {
        block_on(self.0.write_fenced(sequencer, data))
    }

    /// The sequencer of the lock that is held through this file.
    ///
    /// # Errors
    /// `LOCK_INVAL` if none is held, [`Error::Unsupported`]; and what all calls may say.
    pub fn sequencer(&self) -> Result<Sequencer> {
        block_on(self.0.sequencer())
    }

    /// Reads the metadata.
    ///
    /// # Errors
    /// As for [`File::read`].
    pub fn metadata(&self) -> Result<Metadata> {
        block_on(self.0.metadata())
    }

    /// Takes the file's lock. While others hold it, waits in its queue until the deadline, and then leaves the queue.
    ///
    /// # Errors
    /// [`Error::Timeout`] if others hold it for too long, `LOCK_CONFLICT` if it is held, or asked for, through this
    /// very `File`, `MODE_INVAL` if it was not opened for locking, `INODE_INVAL` if the file is deleted meanwhile;
    /// and what all calls may say.
    pub fn lock(&self, kind: LockKind) -> Result<Lock> {
        block_on(self.0.lock(kind)).map(Lock)
    }

    /// Takes the file's lock, unless it is held.
    ///
    /// # Errors
    /// As for [`File::lock`].
    pub fn try_lock(&self, kind: LockKind) -> Result<Option<Lock>> {
        Ok(block_on(self.0.try_lock(kind))?.map(Lock))
    }

    /// Asks for the file's lock, and waits in its queue without a deadline: for programs that have other things to do.
    pub fn queue_lock(&self, kind: LockKind) -> Queued {
        let file = self.0.with_timeout(Duration::MAX);
        Queued(Box::pin(async move { file.lock(kind).await }))
    }

    /// Closes the file, which releases its lock, and waits for the server's answer.
    ///
    /// # Errors
    /// What all calls may say, see [`Error`].
    pub fn close(self) -> Result<()> {
        block_on(self.0.close())
    }

    /// The server's number for the open file, as [`FileEvent`]s have it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }
}

/// A lock that is waited for, as a future that needs no runtime: it begins when it is polled first, and is woken when
/// the lock is held, or cannot be. Dropped, it leaves the queue. The errors are those of [`File::lock`].
#[must_use = "a lock is asked for when this is polled"]
pub struct Queued(Pin<Box<dyn Future<Output = Result<client::Lock>> + Send>>);

impl Future for Queued {
    type Output = Result<Lock>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context).map(|locked| locked.map(Lock))
    }
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queued")
    }
}

/// A lock that is held. Dropped, it is released in the background.
///
/// Hail's own server gives a lock to the next in the queue only when the holder's file is closed; locks taken by path
/// do that.
#[derive(Debug)]
#[must_use = "a lock is released when it is dropped"]
pub struct Lock(client::Lock);

impl Lock {
    /// Whether the lock is held for certain at this moment: granted, and the lease safe. In jeopardy, the server may
    /// have given it to others; it may also still be ours, and safe again later.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.0.is_safe()
    }

    /// For how long the lock is safe from now on, if nothing renews the lease; zero if it is not. Who needs time to stop
    /// what the lock allows begins when so much is left.
    #[must_use]
    pub fn safe_for(&self) -> Duration {
        self.0.safe_for()
    }

    /// What to show to those who shall act only while the lock is held; none from a plain server.
    #[must_use]
    pub fn sequencer(&self) -> Option<Sequencer> {
        self.0.sequencer()
    }

    /// Waits until the lock is not safe any more, for so long at most; gives whether that is so: the lease is in
    /// jeopardy, the session is over, or the file is deleted or closed.
    #[must_use]
    pub fn lost(&self, timeout: Duration) -> bool {
        block_on(self.0.watch(Some(timeout)))
    }

    /// Releases the lock, and waits for the server's answer.
    ///
    /// # Errors
    /// What all calls may say, see [`Error`]. The lock is released in any case, at the latest when the lease has run
    /// out.
    pub fn release(self) -> Result<()> {
        block_on(self.0.release())
    }
}

/// What happens to open files, in the order in which the server tells it: an iterator that waits for each event, and
/// ends with the session.
///
/// Each `Events` has every event since it was made. A reader that is slow misses the oldest of more than 1024 events,
/// and is told so: [`FileEvent::missed`].
#[derive(Debug)]
pub struct Events(events::Events);

impl Events {
    /// The next event, if it comes within so long.
    ///
    /// # Errors
    /// [`Error::Timeout`] if none came; [`Error::SessionLost`] or [`Error::Closed`] if none will come.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<FileEvent> {
        match block_on_for(self.0.next(), timeout) {
            Some(Some(event)) => Ok(event),
            Some(None) => Err(self.0.end_error()),
            None => Err(Error::Timeout { doing: "waiting for an event" }),
        }
    }

    /// The next event, or nothing when the session has ended, for who waits for other things too: without one, the
    /// context is woken when there is.
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<FileEvent>> {
        self.0.poll(context)
    }

    /// Why there are no events any more.
    #[must_use]
    pub fn end_error(&self) -> Error {
        self.0.end_error()
    }
}

impl Iterator for Events {
    type Item = FileEvent;

    fn next(&mut self) -> Option<FileEvent> {
        block_on(self.0.next())
    }
}
