//! The client's calls as futures, for whichever runtime: the async client is this, the blocking one waits for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cldc_core::lease::LeaseState;
use cldc_core::session::Handle;
use cldc_core::wire::dirent::Names;
use cldc_core::wire::{Code, EventMask, Metadata, OpenMode};

use crate::driver::{Call, Reply};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::hub::{Hub, Waiting};
use crate::sequencer::Sequencer;
use crate::types::{Contents, LeaseTerms, LockKind};

/// A session with a cell. Clones share it; it lives as long as one of them, or a [`File`], [`Lock`] or [`Events`] of
/// it, and is ended in the background when the last is dropped. See [`Client::close`] for a better end.
///
/// Every call ends by a deadline: that of the [`Options`](crate::Options), or of [`Client::with_timeout`]. A future
/// that is dropped gives up: what it has opened or locked is given back.
#[derive(Clone, Debug)]
pub struct Client {
    session: Arc<Owner>,
    timeout: Duration,
}

/// Stands for all users of a session: ends it when the last one is gone.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) hub: Arc<Hub>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.hub.ask(|driver, now| driver.end_later(now));
    }
}

impl Client {
    /// Waits until the session is open.
    pub(crate) async fn open_session(hub: Arc<Hub>, timeout: Duration) -> Result<Self> {
        let session = Arc::new(Owner { hub });
        session.hub.wait(|driver, now| driver.wait_connected(now + timeout.into())).await?;
        Ok(Self { session, timeout })
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.session.hub
    }

    /// The same session, with another deadline for calls made through it.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { session: Arc::clone(&self.session), timeout }
    }

    /// Opens a file or directory, or creates it; `events` is what it shall tell [`Client::events`] of. A file
    /// opened for locking tells of `DELETED` in any case: the lock goes with it.
    ///
    /// # Errors
    /// [`Error::Server`] with the reason; and what all calls may say, see [`Error`].
    pub async fn open(&self, path: impl AsRef<[u8]>, mode: OpenMode, events: EventMask) -> Result<File> {
        let path = path.as_ref().to_vec();
        let locks = mode.contains(OpenMode::LOCK);
        let events = if locks { events | EventMask::DELETED } else { events };
        match self.hub().call(Call::Open { path, mode, events }, self.timeout).await? {
            Reply::Opened(handle) => {
                let open = Arc::new(OpenFile { session: Arc::clone(&self.session), handle });
                Ok(File { open, timeout: self.timeout })
            }
            _ => Err(Error::BadAnswer),
        }
    }

    /// Opens a file for reading, writing and locking, and creates it if it does not exist.
    ///
    /// # Errors
    /// As for [`Client::open`].
    pub async fn create(&self, path: impl AsRef<[u8]>) -> Result<File> {
        let mode = OpenMode::READ | OpenMode::WRITE | OpenMode::LOCK | OpenMode::CREATE;
        self.open(path, mode, EventMask::NONE).await
    }

    /// Creates a directory.
    ///
    /// # Errors
    /// [`Code::InodeExists`] if the path exists; and as for [`Client::open`].
    pub async fn mkdir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let mode = OpenMode::CREATE | OpenMode::EXCL | OpenMode::DIRECTORY;
        self.open(path, mode, EventMask::NONE).await.map(drop)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Code::NameInval`] if it does not exist; and as for [`Client::open`].
    pub async fn read(&self, path: impl AsRef<[u8]>) -> Result<Contents> {
        self.open(path, OpenMode::READ, EventMask::NONE).await?.read().await
    }

    /// Replaces the contents of a file, 131072 bytes at most, and creates it if it does not exist.
    ///
    /// # Errors
    /// As for [`Client::open`].
    pub async fn write(&self, path: impl AsRef<[u8]>, data: &[u8]) -> Result<()> {
        let mode = OpenMode::WRITE | OpenMode::CREATE;
        self.open(path, mode, EventMask::NONE).await?.write(data).await
    }

    /// Reads the metadata of a file.
    ///
    /// # Errors
    /// As for [`Client::read`].
    pub async fn metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        self.open(path, OpenMode::READ, EventMask::NONE).await?.metadata().await
    }

    /// The names in a directory, in the order of their creation.
    ///
    /// # Errors
    /// [`Code::ModeInval`] if it is not a directory; and as for [`Client::read`].
    pub async fn list(&self, path: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>> {
        let mode = OpenMode::READ | OpenMode::DIRECTORY;
        let Contents { data, .. } = self.open(path, mode, EventMask::NONE).await?.read().await?;
        Names::new(&data).map(|name| name.map(<[u8]>::to_vec).map_err(|_| Error::BadAnswer)).collect()
    }

    /// Deletes a file or an empty directory.
    ///
    /// # Errors
    /// [`Code::NameInval`] if it does not exist, [`Code::DirNotEmpty`]; and what all calls may say.
    pub async fn remove(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.done(Call::Del(path.as_ref().to_vec())).await
    }

    /// Takes the lock of a file that exists. While others hold it, waits in its queue until the deadline, and then
    /// leaves the queue.
    ///
    /// # Errors
    /// [`Error::Timeout`] if others hold it for too long; and as for [`Client::open`].
    pub async fn lock(&self, path: impl AsRef<[u8]>, kind: LockKind) -> Result<Lock> {
        let file = self.open(path, OpenMode::LOCK, EventMask::NONE).await?;
        Ok(file.lock(kind).await?.with_file())
    }

    /// Takes the lock of a file that exists, unless others hold it.
    ///
    /// # Errors
    /// As for [`Client::open`].
    pub async fn try_lock(&self, path: impl AsRef<[u8]>, kind: LockKind) -> Result<Option<Lock>> {
        let file = self.open(path, OpenMode::LOCK, EventMask::NONE).await?;
        Ok(file.try_lock(kind).await?.map(Lock::with_file))
    }

    /// Whether a sequencer stands: whether its lock is held, without a break since.
    ///
    /// # Errors
    /// [`Error::Unsupported`]; and what all calls may say.
    pub async fn check_sequencer(&self, sequencer: &Sequencer) -> Result<bool> {
        match self.done(Call::CheckSequencer(sequencer.clone())).await {
            Ok(()) => Ok(true),
            Err(Error::Server(Code::Stale)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// As [`Client::remove`], if the sequencer stands.
    ///
    /// # Errors
    /// [`Code::Stale`] if it does not: nothing has changed then. [`Error::Unsupported`]; and as for [`Client::remove`].
    pub async fn remove_fenced(&self, path: impl AsRef<[u8]>, sequencer: &Sequencer) -> Result<()> {
        self.done(Call::DelFenced(path.as_ref().to_vec(), sequencer.clone())).await
    }

    /// Asks the server for nothing, and so finds out whether it is there.
    ///
    /// # Errors
    /// What all calls may say, see [`Error`].
    pub async fn nop(&self) -> Result<()> {
        self.done(Call::Nop).await
    }

    /// Ends the session, which releases all that it holds, and waits for the server's answer. Calls of other clones
    /// fail with [`Error::Closed`] from then on. After the deadline, the client goes on trying in the background for a
    /// few seconds; if the server does not hear of it, it keeps the session until the lease has run out.
    ///
    /// # Errors
    /// [`Error::SessionLost`] if it was lost before; and what all calls may say.
    pub async fn close(self) -> Result<()> {
        self.done(Call::End).await
    }

    /// What happens from now on to files that are opened with an event mask.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.session))
    }

    /// How far the lease is to be trusted at this moment.
    #[must_use]
    pub fn lease_state(&self) -> LeaseState {
        self.hub().with(|driver, now| driver.lease_state(now))
    }

    /// What the server has granted.
    #[must_use]
    pub fn terms(&self) -> LeaseTerms {
        self.hub().with(|driver, _| driver.terms())
    }

    /// The epoch of the cell's master, which rises with each new one; none from a plain server.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.hub().with(|driver, _| driver.epoch())
    }

    /// Whether the session can do what plain ones cannot: move to other addresses and servers, and use sequencers.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.hub().with(|driver, _| driver.is_extended())
    }

    /// Waits until the lease is to be trusted more, or less, than `from` says, for so long at most; gives the state
    /// that it has then.
    pub async fn wait_lease_change(&self, from: LeaseState, timeout: Duration) -> LeaseState {
        let change = self.hub().wait(|driver, now| driver.wait_lease(now, from, now + timeout.into()));
        match change.await {
            Ok(Reply::Lease(state)) => state,
            _ => self.lease_state(),
        }
    }

    /// The session's id, a random number.
    #[must_use]
    pub fn sid(&self) -> u64 {
        self.hub().with(|driver, _| driver.sid())
    }

    /// The server that the session is with.
    #[must_use]
    pub fn server(&self) -> Option<SocketAddr> {
        self.hub().with(|driver, _| driver.server())
    }

    async fn done(&self, call: Call) -> Result<()> {
        done(self.hub().call(call, self.timeout)).await
    }
}

async fn done(call: Waiting<'_>) -> Result<()> {
    match call.await? {
        Reply::Done => Ok(()),
        _ => Err(Error::BadAnswer),
    }
}

/// An open handle; closed in the background when the last who needs it is gone.
#[derive(Debug)]
struct OpenFile {
    session: Arc<Owner>,
    handle: Handle,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.session.hub.ask(|driver, now| driver.close_later(now, self.handle));
    }
}

/// An open file or directory. Dropped, it is closed in the background, once no [`Lock`] of it is left.
#[derive(Debug)]
pub struct File {
    open: Arc<OpenFile>,
    timeout: Duration,
}

impl File {
    /// The same open file, with another deadline for calls made through it. It is closed when both are gone.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { open: Arc::clone(&self.open), timeout }
    }

    /// Reads the file, all of it at one moment.
    ///
    /// # Errors
    /// [`Code::ModeInval`] if it was not opened for reading, [`Code::TooLarge`]; and what all calls may say, see
    /// [`Error`].
    pub async fn read(&self) -> Result<Contents> {
        match self.call(Call::Get(self.handle())).await? {
            Reply::Contents(contents) => Ok(contents),
            _ => Err(Error::BadAnswer),
        }
    }

    /// Replaces the contents, 131072 bytes at most.
    ///
    /// # Errors
    /// [`Code::ModeInval`] if it was not opened for writing; and what all calls may say.
    pub async fn write(&self, data: &[u8]) -> Result<()> {
        done(self.call(Call::Put(self.handle(), data.to_vec()))).await
    }

    /// As [`File::write`], if the sequencer stands.
    ///
    /// # Errors
    /// [`Code::Stale`] if it does not: nothing has changed then. [`Error::Unsupported`]; and as for [`File::write`].
    pub async fn write_fenced(&self, sequencer: &Sequencer, data: &[u8]) -> Result<()> {
        done(self.call(Call::PutFenced(self.handle(), sequencer.clone(), data.to_vec()))).await
    }

    /// The sequencer of the lock that is held through this file.
    ///
    /// # Errors
    /// [`Code::LockInval`] if none is held, [`Error::Unsupported`]; and what all calls may say.
    pub async fn sequencer(&self) -> Result<Sequencer> {
        match self.call(Call::GetSequencer(self.handle())).await? {
            Reply::Sequencer(sequencer) => Ok(sequencer),
            _ => Err(Error::BadAnswer),
        }
    }

    /// Reads the metadata.
    ///
    /// # Errors
    /// As for [`File::read`].
    pub async fn metadata(&self) -> Result<Metadata> {
        match self.call(Call::GetMeta(self.handle())).await? {
            Reply::Contents(contents) => Ok(contents.metadata),
            _ => Err(Error::BadAnswer),
        }
    }

    /// Takes the file's lock. While others hold it, waits in its queue until the deadline, and then leaves the queue.
    ///
    /// # Errors
    /// [`Error::Timeout`] if others hold it for too long, [`Code::LockConflict`] if it is held, or asked for, through
    /// this very `File`, [`Code::ModeInval`] if it was not opened for locking, [`Code::InodeInval`] if the file is
    /// deleted meanwhile; and what all calls may say.
    pub async fn lock(&self, kind: LockKind) -> Result<Lock> {
        match self.call(Call::Lock { handle: self.handle(), kind, wait: true }).await? {
            Reply::Locked(_, sequencer) => Ok(self.locked(sequencer)),
            _ => Err(Error::BadAnswer),
        }
    }

    /// Takes the file's lock, unless it is held.
    ///
    /// # Errors
    /// As for [`File::lock`].
    pub async fn try_lock(&self, kind: LockKind) -> Result<Option<Lock>> {
        match self.call(Call::Lock { handle: self.handle(), kind, wait: false }).await {
            Ok(Reply::Locked(_, sequencer)) => Ok(Some(self.locked(sequencer))),
            Err(Error::Server(Code::LockConflict)) => Ok(None),
            Ok(_) => Err(Error::BadAnswer),
            Err(error) => Err(error),
        }
    }

    /// Closes the file, which releases its lock, and waits for the server's answer.
    ///
    /// # Errors
    /// What all calls may say, see [`Error`].
    pub async fn close(self) -> Result<()> {
        done(self.call(Call::Close(self.handle()))).await
    }

    /// The server's number for the open file, as [`FileEvent`](crate::FileEvent)s have it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.open.handle
    }

    fn call(&self, call: Call) -> Waiting<'_> {
        self.open.session.hub.call(call, self.timeout)
    }

    fn locked(&self, sequencer: Option<Sequencer>) -> Lock {
        let (open, timeout) = (Arc::clone(&self.open), self.timeout);
        Lock { open, timeout, sequencer, with_file: false, released: false }
    }
}

/// A lock that is held. Dropped, it is released in the background.
///
/// Hail's own server gives a lock to the next in the queue only when the holder's file is closed; locks taken by path
/// do that.
#[derive(Debug)]
#[must_use = "a lock is released when it is dropped"]
pub struct Lock {
    open: Arc<OpenFile>,
    timeout: Duration,
    sequencer: Option<Sequencer>,
    /// The file is open for the lock alone, and is closed instead of unlocked: Hail's server wakes those who wait
    /// only then (protocol.md 8.3).
    with_file: bool,
    released: bool,
}

impl Lock {
    fn with_file(mut self) -> Self {
        self.with_file = true;
        self
    }

    /// Whether the lock is held for certain at this moment: granted, and the lease safe. In jeopardy, the server may
    /// have given it to others; it may also still be ours, and safe again later.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        !self.released && self.hub().with(|driver, now| driver.is_held(now, self.open.handle))
    }

    /// For how long the lock is safe from now on, if nothing renews the lease; zero if it is not. Who needs time to stop
    /// what the lock allows begins when so much is left.
    #[must_use]
    pub fn safe_for(&self) -> Duration {
        if self.released {
            return Duration::ZERO;
        }
        self.hub().with(|driver, now| driver.held_for(now, self.open.handle)).into()
    }

    /// What to show to those who shall act only while the lock is held; none from a plain server.
    #[must_use]
    pub fn sequencer(&self) -> Option<Sequencer> {
        self.sequencer.clone()
    }

    /// Waits until the lock is not safe any more; gives whether it is so, or the time is over.
    pub(crate) async fn watch(&self, timeout: Option<Duration>) -> bool {
        let handle = self.open.handle;
        let lost = self
            .hub()
            .wait(|driver, now| driver.wait_lost(now, handle, timeout.map(|span| now + span.into())));
        lost.await.is_ok()
    }

    /// Releases the lock, and waits for the server's answer.
    ///
    /// # Errors
    /// What all calls may say, see [`Error`]. The lock is released in any case, at the latest when the lease has run
    /// out.
    pub async fn release(mut self) -> Result<()> {
        self.released = true;
        let handle = self.open.handle;
        let call = if self.with_file { Call::Close(handle) } else { Call::Unlock(handle) };
        done(self.hub().call(call, self.timeout)).await
    }

    fn hub(&self) -> &Hub {
        &self.open.session.hub
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Otherwise the file is about to be closed.
        if !self.released && !self.with_file {
            self.hub().ask(|driver, now| driver.unlock_later(now, self.open.handle));
        }
    }
}
