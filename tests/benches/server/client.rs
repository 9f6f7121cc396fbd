//! One client: a session of the client core that does one thing over and over, with one request in flight.

use cldc_core::session::{
    CallError, Config, ConfigError, Event, Handle, Outcome, Session, rx_bytes, tx_bytes,
};
use cldc_core::time::Instant;
use cldc_core::wire::{EventMask, LockFlags, OpenMode};

/// How many bytes are written and read.
pub(crate) const CONTENTS: usize = 256;
/// How many bytes each of very many files has.
const SMALL: usize = 64;

/// A session just large enough: one request of one handle at a time, one packet per message.
type Small = Session<{ rx_bytes(CONTENTS) }, { tx_bytes(CONTENTS, 1) }, 1, 1, 0>;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// PUT of [`CONTENTS`] bytes into its own file.
    Write,
    /// GET of that file.
    Read,
    /// LOCK and UNLOCK of that file.
    Lock,
    /// LOCK of a file that it shares with one other client. It releases the lock when the other one waits for it.
    HandOver,
    /// PUT as with [`Work::Write`], into a file that others watch. It is done when all of them were told.
    Notify,
    /// OPEN of a new file, PUT of a few bytes, CLOSE.
    Create,
}

/// What a client opens at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opens {
    Nothing,
    /// This file, which it fills.
    Filling(String),
    /// This file, to be told of its changes.
    Watching(String),
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Connecting,
    Opening,
    /// OPEN of a new file is on its way.
    Creating,
    /// PUT into that file is on its way.
    Filling,
    /// CLOSE of that file is on its way.
    Closing,
    /// PUT is on its way.
    Writing,
    /// GET is on its way.
    Reading,
    /// LOCK is on its way.
    Locking,
    /// It stands in the lock's queue.
    Waiting,
    /// It holds the lock for as long as the other client does not ask.
    Holding,
    /// UNLOCK is on its way.
    Unlocking,
    /// Ready for work.
    Idle,
    Ended,
}

/// What the session tells, without its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    Connected,
    Opened(Handle),
    Done,
    Pending,
    Locked,
    Updated,
    Ended,
}

/// A client.
pub(crate) struct Client {
    pub(crate) session: Small,
    pub(crate) step: Step,
    /// When its present operation began.
    pub(crate) began: Instant,
    /// When it last released the lock.
    pub(crate) released: Instant,
    opens: Opens,
    handle: Option<Handle>,
    /// What the names of new files begin with, and how many there are.
    prefix: String,
    created: u64,
}

impl Client {
    /// A client that connects, and opens this. New files get names that begin with `prefix`.
    pub(crate) fn new(
        config: &Config<'_>,
        now: Instant,
        opens: Opens,
        prefix: String,
    ) -> Result<Self, ConfigError> {
        let session = Small::new(config, now)?;
        let (step, handle) = (Step::Connecting, None);
        Ok(Self { session, step, began: now, released: now, opens, handle, prefix, created: 0 })
    }

    /// The next thing that the session tells.
    ///
    /// # Errors
    /// A request that failed: none should.
    pub(crate) fn poll(&mut self) -> Result<Option<News>, String> {
        while let Some(event) = self.session.poll_event() {
            return Ok(Some(match event {
                Event::Connected => News::Connected,
                Event::Done { result: Ok(Outcome::Opened(handle)), .. } => News::Opened(handle),
                Event::Done { result: Ok(Outcome::LockPending), .. } => News::Pending,
                Event::Done {
                    result: Ok(Outcome::Done | Outcome::Locked { .. } | Outcome::Contents { .. }),
                    ..
                } => News::Done,
                Event::Handle { events, .. } if events.contains(EventMask::LOCKED) => News::Locked,
                Event::Handle { events, .. } if events.contains(EventMask::UPDATED) => News::Updated,
                Event::Ended(_) if self.step == Step::Idle => News::Ended,
                Event::Handle { .. } | Event::Lease(_) => continue,
                event => return Err(format!("{event:?} while {:?}", self.step)),
            }));
        }
        Ok(None)
    }

    /// Goes on after this. `true` if that completes an operation of `work`.
    ///
    /// # Errors
    /// The session takes no call.
    pub(crate) fn take(&mut self, now: Instant, news: News, work: Option<Work>) -> Result<bool, CallError> {
        match (self.step, news) {
            (_, News::Ended) => self.step = Step::Ended,
            (Step::Connecting, News::Connected) => self.open(now)?,
            (Step::Opening, News::Opened(handle)) => {
                self.handle = Some(handle);
                match self.opens {
                    Opens::Watching(_) => self.step = Step::Idle,
                    _ => self.begin(now, Work::Write)?,
                }
            }
            (Step::Creating, News::Opened(handle)) => {
                self.handle = Some(handle);
                self.session.put(now, handle, &[0x5a; SMALL])?;
                self.step = Step::Filling;
            }
            (Step::Filling, News::Done) => {
                let handle = self.handle.take().ok_or(CallError::UnknownHandle)?;
                self.session.close(now, handle)?;
                self.step = Step::Closing;
            }
            (Step::Writing | Step::Reading | Step::Closing, News::Done) => {
                self.step = Step::Idle;
                return Ok(true);
            }
            (Step::Locking, News::Done) if work == Some(Work::Lock) => self.release(now)?,
            (Step::Locking, News::Pending) => self.step = Step::Waiting,
            (Step::Locking | Step::Waiting, News::Done | News::Locked) => self.step = Step::Holding,
            (Step::Unlocking, News::Done) => {
                self.step = Step::Idle;
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    fn open(&mut self, now: Instant) -> Result<(), CallError> {
        let (path, events) = match &self.opens {
            Opens::Nothing => {
                self.step = Step::Idle;
                return Ok(());
            }
            Opens::Filling(path) => (path, EventMask::LOCKED),
            Opens::Watching(path) => (path, EventMask::UPDATED),
        };
        let mode = OpenMode::CREATE | OpenMode::READ | OpenMode::WRITE | OpenMode::LOCK;
        self.session.open(now, path.as_bytes(), mode, events)?;
        self.step = Step::Opening;
        Ok(())
    }

    /// Begins an operation.
    ///
    /// # Errors
    /// The session takes no call.
    pub(crate) fn begin(&mut self, now: Instant, work: Work) -> Result<(), CallError> {
        self.began = now;
        if work == Work::Create {
            let path = format!("/{}{:x}", self.prefix, self.created);
            let mode = OpenMode::CREATE | OpenMode::WRITE;
            self.session.open(now, path.as_bytes(), mode, EventMask::NONE)?;
            (self.step, self.created) = (Step::Creating, self.created + 1);
            return Ok(());
        }
        let handle = self.handle.ok_or(CallError::UnknownHandle)?;
        self.step = match work {
            Work::Write | Work::Notify | Work::Create => {
                self.session.put(now, handle, &[0x5a; CONTENTS])?;
                Step::Writing
            }
            Work::Read => {
                self.session.get(now, handle)?;
                Step::Reading
            }
            Work::Lock | Work::HandOver => {
                self.session.lock(now, handle, LockFlags::NONE, true)?;
                Step::Locking
            }
        };
        Ok(())
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// The session takes no call.
    pub(crate) fn release(&mut self, now: Instant) -> Result<(), CallError> {
        let handle = self.handle.ok_or(CallError::UnknownHandle)?;
        self.session.unlock(now, handle)?;
        (self.step, self.released) = (Step::Unlocking, now);
        Ok(())
    }
}
