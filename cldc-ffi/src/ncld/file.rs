//! An open file of `ncld.h`, and its lock.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use cldc_udp::blocking::{self, Queued};
use cldc_udp::{Code, EventMask, Handle, LockKind};

use super::errors::{EBUSY, EINVAL, EOPNOTSUPP, ETIMEDOUT, Failure};
use super::session::{EventFn, Session};

/// What the program has of the file's lock.
#[derive(Debug, Default)]
enum LockState {
    #[default]
    Free,
    /// A call is about to take it.
    Taking,
    Queued(Queued),
    Held(blocking::Lock),
    /// It queued, and was refused.
    Refused(Failure),
}

#[derive(Debug)]
pub(super) struct File {
    session: Arc<Session>,
    file: blocking::File,
    path: Vec<u8>,
    event: Option<EventFn>,
    lock: Mutex<LockState>,
    /// The lock has changed.
    changed: Condvar,
}

impl File {
    pub(super) fn new(
        session: Arc<Session>,
        file: blocking::File,
        path: Vec<u8>,
        event: Option<EventFn>,
    ) -> Self {
        Self { session, file, path, event, lock: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn handle(&self) -> Handle {
        self.file.handle()
    }

    /// The path that it was opened by.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    pub(super) fn is_of(&self, session: &Arc<Session>) -> bool {
        Arc::ptr_eq(&self.session, session)
    }

    /// The file, with the deadline of now.
    pub(super) fn open(&self) -> blocking::File {
        self.file.with_timeout(self.session.deadline())
    }

    /// Runs the callback.
    pub(super) fn tell(&self, events: EventMask) {
        if let Some(event) = self.event {
            event.tell(events);
        }
    }

    /// Closes the file; no callback runs afterwards.
    pub(super) fn close(&self) {
        self.session.forget_file(self.handle());
        // Closing releases the lock.
        let lock = self.change(LockState::Free);
        // Whatever comes of it, the handle is gone here, and at the server at the latest with the lease.
        let _ = self.open().close();
        drop(lock);
    }

    fn lock_state(&self) -> MutexGuard<'_, LockState> {
        // What is inside is whole between any two statements.
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, state: LockState) -> LockState {
        let before = std::mem::replace(&mut *self.lock_state(), state);
        self.changed.notify_all();
        before
    }

    /// Begins to take the lock: one call at a time.
    fn begin_lock(&self) -> Result<(), Failure> {
        let mut state = self.lock_state();
        match *state {
            LockState::Free | LockState::Refused(_) => {
                *state = LockState::Taking;
                Ok(())
            }
            _ => Err(Failure::server(Code::LockConflict)),
        }
    }

    fn end_lock(&self, locked: Result<Option<blocking::Lock>, Failure>) -> Result<bool, Failure> {
        let (state, result) = match locked {
            Ok(Some(lock)) => (LockState::Held(lock), Ok(true)),
            Ok(None) => (LockState::Free, Ok(false)),
            Err(failure) => (LockState::Free, Err(failure)),
        };
        drop(self.change(state));
        result
    }

    /// Takes the lock, unless others hold it: whether it is held.
    pub(super) fn try_lock(&self) -> Result<bool, Failure> {
        self.begin_lock()?;
        self.end_lock(self.open().try_lock(LockKind::Exclusive).map_err(Failure::from))
    }

    /// Takes the lock within so long.
    pub(super) fn lock(&self, kind: LockKind, timeout: Duration) -> Result<(), Failure> {
        self.begin_lock()?;
        let locked = self.file.with_timeout(timeout).lock(kind);
        self.end_lock(locked.map(Some).map_err(Failure::from)).map(drop)
    }

    /// Takes the lock, or queues for it: whether it is held.
    pub(super) fn queue_lock(&self) -> Result<bool, Failure> {
        if self.try_lock()? {
            return Ok(true);
        }
        let waker = self.session.waker()?;
        self.begin_lock()?;
        drop(self.change(LockState::Queued(self.file.queue_lock(LockKind::Exclusive))));
        waker.wake();
        Ok(false)
    }

    /// Looks whether a lock that queues is held now: if so, its callback is to be told.
    pub(super) fn look_at_lock(&self, waker: &Waker) -> bool {
        let mut state = self.lock_state();
        let LockState::Queued(queued) = &mut *state else { return false };
        let next = match Pin::new(queued).poll(&mut Context::from_waker(waker)) {
            Poll::Pending => return false,
            Poll::Ready(Ok(lock)) => LockState::Held(lock),
            Poll::Ready(Err(error)) => LockState::Refused(error.into()),
        };
        let is_held = matches!(next, LockState::Held(_));
        *state = next;
        drop(state);
        self.changed.notify_all();
        is_held
    }

    /// The session is over: whoever waits for the lock waits in vain.
    pub(super) fn give_up_lock(&self) {
        let mut state = self.lock_state();
        if matches!(*state, LockState::Queued(_)) {
            *state = LockState::Refused(Failure(EBUSY));
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The session is closed.
    pub(super) fn forget_lock(&self) {
        drop(self.change(LockState::Refused(Failure(EBUSY))));
    }

    /// Waits until the lock that queues is held.
    pub(super) fn wait_lock(&self, timeout: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut state = self.lock_state();
        loop {
            match *state {
                LockState::Held(_) => return Ok(()),
                LockState::Free => return Err(Failure::server(Code::LockInval)),
                LockState::Refused(failure) => return Err(failure),
                LockState::Queued(_) | LockState::Taking => {}
            }
            let left = timeout.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
            let left = left.ok_or(Failure(ETIMEDOUT))?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Releases the lock, or leaves its queue.
    pub(super) fn unlock(&self) -> Result<(), Failure> {
        let mut state = self.lock_state();
        if matches!(*state, LockState::Taking) {
            return Err(Failure::server(Code::LockInval));
        }
        let before = std::mem::take(&mut *state);
        drop(state);
        self.changed.notify_all();
        match before {
            LockState::Held(lock) => Ok(lock.release()?),
            // Dropped, it leaves the queue.
            LockState::Queued(_) => Ok(()),
            LockState::Free | LockState::Taking | LockState::Refused(_) => {
                Err(Failure::server(Code::LockInval))
            }
        }
    }

    pub(super) fn safe_for(&self) -> Duration {
        match &*self.lock_state() {
            LockState::Held(lock) => lock.safe_for(),
            _ => Duration::ZERO,
        }
    }

    /// The text of the lock's sequencer.
    pub(super) fn sequencer(&self) -> Result<Vec<u8>, Failure> {
        match &*self.lock_state() {
            LockState::Held(lock) => {
                lock.sequencer().map(|sequencer| sequencer.to_bytes()).ok_or(Failure(EOPNOTSUPP))
            }
            _ => Err(Failure::server(Code::LockInval)),
        }
    }
}

/// How a lock is taken, by C's flags.
///
/// # Errors
/// `EINVAL` for flags that there are not.
pub(super) fn kind(flags: u32) -> Result<LockKind, Failure> {
    match flags {
        0 => Ok(LockKind::Exclusive),
        1 => Ok(LockKind::Shared),
        _ => Err(Failure(EINVAL)),
    }
}
