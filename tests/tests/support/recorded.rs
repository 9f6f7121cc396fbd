//! A client that writes down what it asks and is answered, for the checks of `cld_tests::history`.

use std::sync::Arc;
use std::time::Duration;

use cld_tests::history::{Call, Mode, OpId, Outcome, Recorder, Stamp};
use cldc_udp::{Code, Contents, Error, EventMask, LockKind, OpenMode, Result, Sequencer};

use super::{Client, File, Lock};

/// A session whose calls are recorded.
#[derive(Debug)]
pub(crate) struct RecordedClient<'a> {
    recorder: &'a Recorder,
    client: Client,
    /// Of this session alone.
    number: u64,
}

/// A file that it has open for reading, writing and locking. When it is dropped, it is closed at some time.
#[derive(Debug)]
pub(crate) struct RecordedFile<'a> {
    of: &'a RecordedClient<'a>,
    /// Until it is closed.
    file: Option<File>,
    path: String,
    handle: OpId,
}

/// A lock that it was granted. When it is dropped, it is released at some time.
#[derive(Debug)]
pub(crate) struct RecordedLock<'a> {
    of: &'a RecordedClient<'a>,
    lock: Option<Lock>,
    path: String,
    handle: OpId,
    grant: OpId,
}

impl<'a> RecordedClient<'a> {
    pub(crate) fn new(recorder: &'a Recorder, number: u64, client: Client) -> Self {
        Self { recorder, client, number }
    }

    /// Opens a file; with `create`, creates it if it is not there.
    pub(crate) fn open(&'a self, path: &str, create: bool) -> Result<RecordedFile<'a>> {
        let or_create = if create { OpenMode::CREATE } else { OpenMode::NONE };
        let mode = OpenMode::READ | OpenMode::WRITE | OpenMode::LOCK | or_create;
        let call = Call::Open { create, exclusive: false };
        let open = || self.client.open(path, mode, EventMask::NONE);
        let (handle, file) = self.record(path, call, open, |_| Outcome::Done);
        Ok(RecordedFile { of: self, file: Some(file?), path: path.to_owned(), handle })
    }

    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        self.record(path, Call::Delete, || self.client.remove(path), |()| Outcome::Done).1
    }

    /// Whether the lock is held as the sequencer says, whoever holds it.
    pub(crate) fn check_sequencer(&self, path: &str, sequencer: &Sequencer) -> Result<bool> {
        let call = Call::Check(stamp(sequencer), mode(sequencer.kind));
        let outcome = |&stands: &bool| {
            if stands { Outcome::Done } else { Outcome::Refused(Code::Stale.to_wire()) }
        };
        self.record(path, call, || self.client.check_sequencer(sequencer), outcome).1
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    fn record<T>(
        &self,
        path: &str,
        call: Call,
        act: impl FnOnce() -> Result<T>,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> (OpId, Result<T>) {
        let operation = self.recorder.call(self.number, path, call);
        let result = act();
        match &result {
            Ok(value) => self.recorder.answer(operation, outcome(value)),
            Err(Error::Server(code)) => self.recorder.answer(operation, Outcome::Refused(code.to_wire())),
            Err(Error::SessionLost) => self.recorder.session_over(self.number),
            Err(_) => {}
        }
        (operation, result)
    }

    /// Something that is done in the background, at some time.
    fn leave(&self, path: &str, call: Call) {
        self.recorder.call(self.number, path, call);
    }
}

impl<'a> RecordedFile<'a> {
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        self.get(File::read)
    }

    /// With another deadline for this one call.
    pub(crate) fn read_within(&self, timeout: Duration) -> Result<Vec<u8>> {
        self.get(|file| file.with_timeout(timeout).read())
    }

    fn get(&self, read: impl FnOnce(&File) -> Result<Contents>) -> Result<Vec<u8>> {
        let contents = self.record(Call::Get(self.handle), read, |contents| Outcome::Contents {
            inode: contents.metadata.inode,
            version: contents.metadata.version,
            data: contents.data.as_slice().into(),
        });
        contents.1.map(|contents| contents.data)
    }

    /// Contents that nobody else writes can be checked with less work.
    pub(crate) fn write(&self, data: &[u8]) -> Result<()> {
        self.record(Call::Put(self.handle, Arc::from(data)), |file| file.write(data), |()| Outcome::Done).1
    }

    /// With another deadline for this one call.
    pub(crate) fn write_within(&self, timeout: Duration, data: &[u8]) -> Result<()> {
        let call = Call::Put(self.handle, Arc::from(data));
        self.record(call, |file| file.with_timeout(timeout).write(data), |()| Outcome::Done).1
    }

    /// The version.
    pub(crate) fn version(&self) -> Result<u64> {
        let metadata = self.record(Call::Meta(self.handle), File::metadata, |metadata| Outcome::Metadata {
            inode: metadata.inode,
            version: metadata.version,
        });
        metadata.1.map(|metadata| metadata.version)
    }

    pub(crate) fn lock(&self, kind: LockKind) -> Result<RecordedLock<'a>> {
        let call = Call::Lock(self.handle, mode(kind));
        let (grant, lock) = self.record(call, |file| file.lock(kind), granted);
        self.locked(grant, lock.map(Some))?.ok_or(Error::BadAnswer)
    }

    pub(crate) fn try_lock(&self, kind: LockKind) -> Result<Option<RecordedLock<'a>>> {
        let call = Call::TryLock(self.handle, mode(kind));
        let conflict = Outcome::Refused(Code::LockConflict.to_wire());
        let outcome = |lock: &Option<Lock>| lock.as_ref().map_or(conflict, granted);
        let (grant, lock) = self.record(call, |file| file.try_lock(kind), outcome);
        self.locked(grant, lock)
    }

    fn locked(&self, grant: OpId, lock: Result<Option<Lock>>) -> Result<Option<RecordedLock<'a>>> {
        if !matches!(lock, Ok(_) | Err(Error::Server(_))) {
            // The client leaves the queue, or gives the lock back.
            self.of.leave(&self.path, Call::Unlock(self.handle));
        }
        let Some(lock) = lock? else { return Ok(None) };
        let (of, path, handle) = (self.of, self.path.clone(), self.handle);
        let lock = RecordedLock { of, lock: Some(lock), path, handle, grant };
        lock.note_trust();
        Ok(Some(lock))
    }

    pub(crate) fn close(mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        self.of.record(&self.path, Call::Close(self.handle), || file.close(), |()| Outcome::Done).1
    }

    fn record<T>(
        &self,
        call: Call,
        act: impl FnOnce(&File) -> Result<T>,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> (OpId, Result<T>) {
        let act = || self.file.as_ref().map_or(Err(Error::Closed), act);
        self.of.record(&self.path, call, act, outcome)
    }
}

impl Drop for RecordedFile<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.of.leave(&self.path, Call::Close(self.handle));
        }
    }
}

impl RecordedLock<'_> {
    /// Asks for how long the lock is safe, and records that. To be called often while it is held.
    pub(crate) fn note_trust(&self) {
        if let Some(lock) = &self.lock {
            self.of.recorder.trusts(self.grant, || lock.safe_for());
        }
    }

    pub(crate) fn sequencer(&self) -> Option<Sequencer> {
        self.lock.as_ref().and_then(Lock::sequencer)
    }

    pub(crate) fn release(mut self) -> Result<()> {
        self.note_trust();
        let Some(lock) = self.lock.take() else { return Ok(()) };
        self.of.record(&self.path, Call::Unlock(self.handle), || lock.release(), |()| Outcome::Done).1
    }
}

impl Drop for RecordedLock<'_> {
    fn drop(&mut self) {
        if self.lock.is_some() {
            self.of.leave(&self.path, Call::Unlock(self.handle));
        }
    }
}

fn granted(lock: &Lock) -> Outcome {
    Outcome::Locked(lock.sequencer().as_ref().map(stamp))
}

const fn stamp(sequencer: &Sequencer) -> Stamp {
    Stamp { inode: sequencer.inode, generation: sequencer.generation }
}

const fn mode(kind: LockKind) -> Mode {
    match kind {
        LockKind::Exclusive => Mode::Exclusive,
        LockKind::Shared => Mode::Shared,
    }
}
