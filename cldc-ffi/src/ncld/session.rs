//! A session of `ncld.h`, and the thread that runs its callbacks.

use core::ffi::{c_uint, c_void};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use cldc_udp::blocking::{Client, Events};
use cldc_udp::{Error, EventMask, FileEvent, Handle, OpenMode, Options};

use super::errors::{EBUSY, Failure};
use super::file::File;

/// The deadline of calls, unless the program sets one: when Hail's library gave up.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);
/// How long the end of a session may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// A function of the program that is told of events.
#[derive(Clone, Copy)]
pub(super) struct EventFn {
    function: unsafe extern "C" fn(*mut c_void, c_uint),
    argument: *mut c_void,
}

#[expect(unsafe_code, reason = "C's function is called on a thread of ours")]
mod callback {
    use super::{EventFn, EventMask, c_uint, c_void};

    // SAFETY: the header says that it is called on a thread of the library's.
    unsafe impl Send for EventFn {}
    // SAFETY: as above; it is called on one thread only.
    unsafe impl Sync for EventFn {}

    impl EventFn {
        pub(crate) fn new(
            function: Option<unsafe extern "C" fn(*mut c_void, c_uint)>,
            argument: *mut c_void,
        ) -> Option<Self> {
            function.map(|function| Self { function, argument })
        }

        pub(crate) fn tell(self, events: EventMask) {
            // SAFETY: the program gave this function for this purpose, with this argument.
            unsafe { (self.function)(self.argument, events.0) }
        }
    }
}

impl fmt::Debug for EventFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventFn")
    }
}

/// Wakes the session's thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What the thread and the program's threads share.
#[derive(Debug, Default)]
struct State {
    closing: bool,
    files: BTreeMap<Handle, Arc<File>>,
    /// How many opens are on their way, and what has been told of handles that may be theirs.
    opening: usize,
    early: BTreeMap<Handle, EventMask>,
    /// To be told next.
    told: VecDeque<(Arc<File>, EventMask)>,
    /// The file whose callback runs.
    running: Option<Handle>,
}

#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    deadline_ms: AtomicU32,
    event: Option<EventFn>,
    state: Mutex<State>,
    /// A callback has returned.
    returned: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Session {
    /// Opens a session.
    pub(super) fn open(options: Options, event: Option<EventFn>) -> Result<Arc<Self>, Error> {
        let client = Client::connect(options.timeout(DEADLINE))?;
        let events = client.events();
        let session = Arc::new(Self {
            client,
            deadline_ms: AtomicU32::new(u32::try_from(DEADLINE.as_millis()).unwrap_or(u32::MAX)),
            event,
            state: Mutex::default(),
            returned: Condvar::new(),
            thread: Mutex::default(),
        });
        let shared = Arc::clone(&session);
        let thread = thread::Builder::new().name("ncld".into()).spawn(move || shared.run(events))?;
        *session.thread() = Some(thread);
        Ok(session)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is inside is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what wakes the session's thread.
    ///
    /// # Errors
    /// `EBUSY` if the session is being closed.
    pub(super) fn waker(&self) -> Result<Waker, Failure> {
        let thread = self.thread().as_ref().map(|thread| thread.thread().clone());
        Ok(Waker::from(Arc::new(Unpark(thread.ok_or(Failure(EBUSY))?))))
    }

    pub(super) fn set_deadline(&self, msec: u32) {
        self.deadline_ms.store(msec, Ordering::Relaxed);
    }

    pub(super) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.load(Ordering::Relaxed).into())
    }

    /// The client, with the deadline of now.
    pub(super) fn client(&self) -> Client {
        self.client.with_timeout(self.deadline())
    }

    pub(super) fn open_file(
        self: &Arc<Self>,
        path: &[u8],
        mode: OpenMode,
        events: EventMask,
        event: Option<EventFn>,
    ) -> Result<Arc<File>, Failure> {
        self.state().opening += 1;
        let opened = self.client().open(path, mode, events);
        let mut state = self.state();
        state.opening = state.opening.saturating_sub(1);
        let added = opened.map(|file| {
            let file = Arc::new(File::new(Arc::clone(self), file, path.to_vec(), event));
            if let Some(events) = state.early.remove(&file.handle()) {
                state.told.push_back((Arc::clone(&file), events));
            }
            state.files.insert(file.handle(), Arc::clone(&file));
            file
        });
        if state.opening == 0 {
            state.early.clear();
        }
        drop(state);
        self.wake();
        Ok(added?)
    }

    fn wake(&self) {
        if let Ok(waker) = self.waker() {
            waker.wake();
        }
    }

    /// Nothing is told of a file any more; waits until its callback has returned.
    pub(super) fn forget_file(&self, handle: Handle) {
        let mut state = self.state();
        state.files.remove(&handle);
        state.told.retain(|(file, _)| file.handle() != handle);
        if !self.is_own_thread() {
            while state.running == Some(handle) {
                state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn is_own_thread(&self) -> bool {
        self.thread().as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id())
    }

    /// Ends the session; no callback runs afterwards.
    pub(super) fn close(&self) {
        self.state().closing = true;
        let deadline = self.deadline().min(FAREWELL);
        // Whatever comes of it, the session is over here, and at the server at the latest with its lease.
        let _ = self.client.with_timeout(deadline).close();
        self.wake();
        if !self.is_own_thread() {
            let thread = self.thread().take();
            // A panic there is over too.
            let _ = thread.map(JoinHandle::join);
        }
        // They hold the session as it holds them.
        let files = std::mem::take(&mut self.state().files);
        for file in files.values() {
            file.forget_lock();
        }
    }

    /// Runs the callbacks until the session is over.
    fn run(self: Arc<Self>, mut events: Events) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let context = Context::from_waker(&waker);
        loop {
            while let Some((file, events)) = self.next_told() {
                file.tell(events);
                self.state().running = None;
                self.returned.notify_all();
            }
            let files: Vec<_> = self.state().files.values().cloned().collect();
            for file in files.into_iter().filter(|file| file.look_at_lock(&waker)) {
                self.state().told.push_back((file, EventMask::LOCKED));
            }
            match events.poll_next(&context) {
                Poll::Ready(Some(event)) => self.take_in(&event),
                Poll::Ready(None) => break,
                Poll::Pending if self.state().told.is_empty() => thread::park(),
                Poll::Pending => {}
            }
            if self.state().closing {
                return;
            }
        }
        for file in self.state().files.values() {
            file.give_up_lock();
        }
        if matches!(events.end_error(), Error::SessionLost) && !self.state().closing {
            self.tell(EventMask::SESS_FAILED);
        }
    }

    fn tell(&self, events: EventMask) {
        if let Some(event) = self.event {
            event.tell(events);
        }
    }

    /// What is told next; its file counts as running from now on.
    fn next_told(&self) -> Option<(Arc<File>, EventMask)> {
        let mut state = self.state();
        if state.closing {
            return None;
        }
        let (file, events) = state.told.pop_front()?;
        state.running = Some(file.handle());
        Some((file, events))
    }

    fn take_in(&self, event: &FileEvent) {
        if event.handle == FileEvent::SESSION {
            return self.tell(event.events);
        }
        let mut state = self.state();
        if let Some(file) = state.files.get(&event.handle).cloned() {
            state.told.push_back((file, event.events));
        } else if state.opening > 0 {
            let early = state.early.entry(event.handle).or_default();
            *early = *early | event.events;
        }
    }
}
