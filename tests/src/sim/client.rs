//! A client: a real session, a random mix of calls, and the history of what it asked and was told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cldc_core::lease::LeaseState;
use cldc_core::session::{
    CallError, Config, Datagram, End, Event, Handle, LockState, Outcome as Answer, RequestId, Session,
    rx_bytes, tx_bytes,
};
use cldc_core::time::Instant;
use cldc_core::wire::extended::Sequencer;
use cldc_core::wire::limits::MAX_PACKET;
use cldc_core::wire::{Code, EventMask, LockFlags, OpenMode};

use super::clock::Watch;
use super::names::Names;
use super::trace::Trace;
use crate::history::{Call, History, Mode, OpId, Outcome, Stamp};
use crate::rng::Rng;

/// Contents are this long at most.
const CONTENTS: usize = 8192;
/// Files that a client has open at most.
const OPEN: usize = 6;
const REQUESTS: usize = 6;

type SimSession = Session<{ rx_bytes(CONTENTS) }, { tx_bytes(CONTENTS, REQUESTS) }, REQUESTS, 16, 32>;

/// What all clients share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Microseconds since the beginning.
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) names: Names,
    pub(super) history: History,
    pub(super) trace: Trace,
}

/// What a client is to do.
#[derive(Debug)]
pub(super) enum Task {
    /// Anything, now and then.
    Mix,
    /// Give locks back, and begin nothing.
    Finish,
    /// Read these files, each once.
    Read(Vec<Arc<str>>),
}

/// How a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Ended,
    Lost,
    /// No server opened it.
    Refused,
}

#[derive(Debug)]
pub(super) struct Client {
    /// Of this session alone.
    pub(super) number: u64,
    session: Box<SimSession>,
    pub(super) addr: SocketAddr,
    pub(super) watch: Watch,
    pub(super) task: Task,
    /// It stands still until then.
    pub(super) paused: u64,
    /// When its session wants to be woken, and when it thinks of something to do.
    due: Option<u64>,
    wake: u64,
    think: u64,
    is_plain: bool,
    files: Vec<OpenFile>,
    pending: BTreeMap<RequestId, Pending>,
    pub(super) fate: Option<Fate>,
    fate_told: bool,
    has_opened: bool,
    written: u64,
}

#[derive(Debug)]
struct OpenFile {
    handle: Handle,
    /// The OPEN.
    op: OpId,
    path: Arc<str>,
    lock: Lock,
    /// It is being closed, or has been deleted.
    is_over: bool,
    /// It was read.
    was_read: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Free,
    /// A call about it is not answered yet.
    Busy,
    Waiting(OpId),
    Held(OpId),
}

#[derive(Debug)]
struct Pending {
    op: OpId,
    path: Arc<str>,
    kind: Kind,
    since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Open,
    Close(Handle),
    /// GET and PUT.
    Data(Handle),
    Meta(Handle),
    Lock(Handle),
    /// What the lock was before.
    Unlock(Handle, Lock),
    Delete,
}

/// What a client is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    pub(super) is_plain: bool,
    pub(super) lease: u64,
    pub(super) think: u64,
}

impl Client {
    pub(super) fn new(
        number: u64,
        addr: SocketAddr,
        servers: &[SocketAddr],
        traits: Traits,
        watch: Watch,
        shared: &mut Shared,
    ) -> Result<Self, String> {
        let mut seed = [0; 32];
        for part in seed.chunks_mut(8) {
            part.copy_from_slice(&shared.rng.next_u64().to_be_bytes());
        }
        let config = Config {
            extended: !traits.is_plain,
            lease: cldc_core::time::Duration::from_micros(traits.lease),
            ..Config::new(b"tester", b"tester", servers, seed)
        };
        let session = SimSession::new(&config, watch.shows(shared.now)).map_err(|error| error.to_string())?;
        Ok(Self {
            number,
            session: Box::new(session),
            addr,
            watch,
            task: Task::Mix,
            paused: 0,
            due: None,
            wake: shared.now,
            think: traits.think,
            is_plain: traits.is_plain,
            files: Vec::new(),
            pending: BTreeMap::new(),
            fate: None,
            fate_told: false,
            has_opened: false,
            written: 0,
        })
    }

    /// When it has something to do.
    pub(super) fn next(&self) -> Option<u64> {
        if self.fate.is_some() {
            return None;
        }
        let wake = self.session.is_open().then_some(self.wake);
        [self.due, wake].into_iter().flatten().min().map(|at| at.max(self.paused))
    }

    /// Does what is due.
    pub(super) fn go_on(&mut self, shared: &mut Shared) {
        let time = self.time(shared);
        if self.session.poll_timeout().is_some_and(|at| at <= time) {
            self.session.handle_timeout(time);
            self.hear(shared);
        }
        if self.fate.is_none() && self.session.is_open() && self.wake <= shared.now {
            self.wake = shared.now + 1 + shared.rng.below(2 * self.think);
            self.work(shared);
            self.hear(shared);
        }
    }

    pub(super) fn handle_datagram(&mut self, shared: &mut Shared, from: SocketAddr, datagram: &[u8]) {
        let time = self.time(shared);
        // What is not taken in is damaged, a copy, or comes again.
        let _ = self.session.handle_datagram(time, from, datagram);
        self.hear(shared);
    }

    /// The next datagram that it sends.
    pub(super) fn poll_transmit(
        &mut self,
        shared: &Shared,
        buffer: &mut Datagram,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let transmit = self.session.poll_transmit(self.time(shared), buffer)?;
        Some((transmit.to, buffer.get(..transmit.len.min(MAX_PACKET))?.to_vec()))
    }

    /// To be called when the session may want to be woken at another time.
    pub(super) fn reckon(&mut self) {
        self.due = self.session.poll_timeout().map(|at| self.watch.moment(at));
    }

    /// The process is killed: its session goes on without it until its lease is over.
    pub(super) fn die(&mut self, shared: &mut Shared) {
        if self.fate.is_none() {
            shared.history.session_over(at(shared), self.number);
            self.fate = Some(Fate::Ended);
        }
    }

    /// Whether its session has opened since this was last asked.
    pub(super) fn take_opened(&mut self) -> bool {
        std::mem::take(&mut self.has_opened)
    }

    /// What it waits for since before `since`; unless `with_locks`, waiting for locks does not count.
    pub(super) fn waits(&self, since: u64, with_locks: bool) -> Option<String> {
        if self.fate.is_some() {
            return None;
        }
        if !self.session.is_open() {
            return Some("its session is not open".to_owned());
        }
        let late = self.pending.values().find(|pending| pending.since < since);
        if let Some(Pending { op, path, kind, since }) = late {
            return Some(format!("{op:?} {kind:?} of {path} since {:.3} s", *since as f64 / 1e6));
        }
        let waiting = self.files.iter().find(|file| matches!(file.lock, Lock::Waiting(_)) && !file.is_over);
        waiting.filter(|_| with_locks).map(|file| format!("the lock of {}, {:?}", file.path, file.lock))
    }

    /// How its session is over, told once.
    pub(super) fn take_fate(&mut self) -> Option<Fate> {
        self.fate.filter(|_| !std::mem::replace(&mut self.fate_told, self.fate.is_some()))
    }

    /// Whether it has read all that it was to read.
    pub(super) fn has_read(&self) -> bool {
        matches!(&self.task, Task::Read(left) if left.is_empty())
            && self.files.is_empty()
            && self.pending.is_empty()
    }

    fn time(&self, shared: &Shared) -> Instant {
        self.watch.shows(shared.now)
    }

    /// Thinks of something to do, and does it.
    fn work(&mut self, shared: &mut Shared) {
        if self.pending.len() >= 3 {
            return;
        }
        match &mut self.task {
            Task::Mix => self.mix(shared),
            Task::Finish => {
                let held = |file: &OpenFile| matches!(file.lock, Lock::Held(_)) && !file.is_over;
                if let Some(place) = self.files.iter().position(held) {
                    self.unlock(shared, place);
                } else if let Some(place) = self.unclosed() {
                    self.close(shared, place);
                }
            }
            Task::Read(left) => {
                if !self.pending.is_empty() {
                    return;
                }
                match self.files.first() {
                    Some(file) if file.was_read || file.is_over => self.close(shared, 0),
                    Some(_) => self.get(shared, 0, false),
                    None => {
                        if let Some(path) = left.pop() {
                            self.open(shared, &path, false);
                        }
                    }
                }
            }
        }
    }

    fn mix(&mut self, shared: &mut Shared) {
        let over = |file: &OpenFile| file.is_over || !shared.names.is_current(&file.path);
        let closing =
            |handle: Handle| self.pending.values().any(|pending| pending.kind == Kind::Close(handle));
        if let Some(place) = self.files.iter().position(|file| over(file) && !closing(file.handle)) {
            return self.close(shared, place);
        }
        let path = shared.names.path(shared.rng.below(shared.names.len()));
        let open = self.files.iter().position(|file| file.path == path && !file.is_over);
        let chance = shared.rng.below(100);
        let Some(place) = open else {
            if self.files.len() < OPEN {
                self.open(shared, &path, true);
            }
            return;
        };
        let takes_locks = !(self.is_plain && Names::is_deletable(&path));
        match chance {
            0..30 => self.put(shared, place),
            30..58 => self.get(shared, place, false),
            58..62 => self.get(shared, place, true),
            62..88 if takes_locks => self.turn_lock(shared, place),
            88..92 => self.close(shared, place),
            92..95 if Names::is_deletable(&path) => {
                let call = |session: &mut SimSession, time| session.del(time, path.as_bytes());
                self.call(shared, &path, Call::Delete, Kind::Delete, call);
            }
            95..97 if self.files.len() < OPEN => self.open(shared, &path, true),
            _ => self.get(shared, place, false),
        }
    }

    /// A file that is over, and is not being closed.
    fn unclosed(&self) -> Option<usize> {
        let closing =
            |handle: Handle| self.pending.values().any(|pending| pending.kind == Kind::Close(handle));
        self.files.iter().position(|file| file.is_over && !closing(file.handle))
    }

    /// Takes the lock, or gives it back.
    fn turn_lock(&mut self, shared: &mut Shared, place: usize) {
        let Some(file) = self.files.get(place) else { return };
        match file.lock {
            Lock::Busy => {}
            Lock::Held(_) => self.unlock(shared, place),
            Lock::Waiting(_) if shared.rng.below(8) == 0 => self.unlock(shared, place),
            Lock::Waiting(_) => {}
            Lock::Free => {
                let (handle, op, path) = (file.handle, file.op, file.path.clone());
                let is_shared = shared.rng.below(5) == 0;
                let wait = shared.rng.below(3) > 0;
                let (flags, mode) = if is_shared {
                    (LockFlags::SHARED, Mode::Shared)
                } else {
                    (LockFlags::NONE, Mode::Exclusive)
                };
                let asked = if wait { Call::Lock(op, mode) } else { Call::TryLock(op, mode) };
                let call = |session: &mut SimSession, time| session.lock(time, handle, flags, wait);
                if self.call(shared, &path, asked, Kind::Lock(handle), call) {
                    self.set_lock(handle, Lock::Busy);
                }
            }
        }
    }

    fn unlock(&mut self, shared: &mut Shared, place: usize) {
        let Some(file) = self.files.get(place) else { return };
        let (handle, op, path, before) = (file.handle, file.op, file.path.clone(), file.lock);
        let call = |session: &mut SimSession, time| session.unlock(time, handle);
        if self.call(shared, &path, Call::Unlock(op), Kind::Unlock(handle, before), call) {
            self.set_lock(handle, Lock::Busy);
        }
    }

    fn open(&mut self, shared: &mut Shared, path: &Arc<str>, create: bool) {
        let exclusive = create && shared.rng.below(10) == 0;
        let mut mode = OpenMode::READ | OpenMode::WRITE | OpenMode::LOCK;
        if create {
            mode = mode | OpenMode::CREATE;
        }
        if exclusive {
            mode = mode | OpenMode::EXCL;
        }
        let mut events = EventMask::LOCKED | EventMask::DELETED;
        if shared.rng.below(3) == 0 {
            events = events | EventMask::UPDATED;
        }
        let call = |session: &mut SimSession, time| session.open(time, path.as_bytes(), mode, events);
        self.call(shared, path, Call::Open { create, exclusive }, Kind::Open, call);
    }

    fn close(&mut self, shared: &mut Shared, place: usize) {
        let Some(file) = self.files.get_mut(place) else { return };
        // It does not count on the lock any more.
        file.is_over = true;
        let (handle, op, path) = (file.handle, file.op, file.path.clone());
        let time = self.watch.shows(shared.now);
        match self.session.close(time, handle) {
            Ok(request) => self.asked(shared, request, &path, Call::Close(op), Kind::Close(handle)),
            Err(CallError::UnknownHandle) => {
                self.files.remove(place);
            }
            Err(_) => {}
        }
    }

    fn get(&mut self, shared: &mut Shared, place: usize, metadata: bool) {
        let Some(file) = self.files.get(place) else { return };
        let (handle, op, path) = (file.handle, file.op, file.path.clone());
        if metadata {
            let call = |session: &mut SimSession, time| session.get_meta(time, handle);
            self.call(shared, &path, Call::Meta(op), Kind::Meta(handle), call);
        } else {
            let call = |session: &mut SimSession, time| session.get(time, handle);
            self.call(shared, &path, Call::Get(op), Kind::Data(handle), call);
        }
    }

    /// Writes what nobody else writes.
    fn put(&mut self, shared: &mut Shared, place: usize) {
        let Some(file) = self.files.get(place) else { return };
        let (handle, op, path) = (file.handle, file.op, file.path.clone());
        self.written += 1;
        let mut data = format!("{}-{}", self.number, self.written).into_bytes();
        if shared.rng.below(12) == 0 {
            // Of several packets.
            let length = data.len() + usize::try_from(shared.rng.below(6000)).unwrap_or(0);
            data.resize(length, b'.');
        }
        let call = |session: &mut SimSession, time| session.put(time, handle, &data);
        self.call(shared, &path, Call::Put(op, data.as_slice().into()), Kind::Data(handle), call);
    }

    /// Makes a call, and writes it down; whether the session took it.
    fn call(
        &mut self,
        shared: &mut Shared,
        path: &Arc<str>,
        asked: Call,
        kind: Kind,
        call: impl FnOnce(&mut SimSession, Instant) -> Result<RequestId, CallError>,
    ) -> bool {
        let time = self.time(shared);
        let Ok(request) = call(&mut self.session, time) else { return false };
        self.asked(shared, request, path, asked, kind);
        true
    }

    fn asked(&mut self, shared: &mut Shared, request: RequestId, path: &Arc<str>, asked: Call, kind: Kind) {
        shared.trace.tell(shared.now, format_args!("client {} {path}: {asked}", self.number));
        shared.names.count(path);
        // It leaves after this.
        let op = shared.history.call(at(shared), self.number, path, asked);
        self.pending.insert(request, Pending { op, path: path.clone(), kind, since: shared.now });
    }

    /// Takes out what the session has to tell.
    fn hear(&mut self, shared: &mut Shared) {
        let mut ended = None;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Connected => {
                    self.has_opened = true;
                    shared
                        .trace
                        .tell(shared.now, format_args!("client {}: its session is open", self.number));
                }
                Event::Done { request, result } => {
                    let Some(pending) = self.pending.remove(&request) else { continue };
                    answered(shared, &mut self.files, (self.number, pending), result);
                }
                Event::Handle { handle, events, sequencer, .. } => {
                    happened(shared, &mut self.files, self.number, handle, events, sequencer);
                }
                Event::MasterFailover { epoch } => {
                    shared.trace.tell(shared.now, format_args!("client {}: epoch {epoch}", self.number));
                }
                Event::Lease(state) => {
                    shared
                        .trace
                        .tell(shared.now, format_args!("client {}: its lease is {state:?}", self.number));
                }
                Event::Ended(end) => ended = Some(end),
                _ => {}
            }
        }
        if let Some(end) = ended {
            shared
                .trace
                .tell(shared.now, format_args!("client {}: its session is over: {end:?}", self.number));
            shared.history.session_over(at(shared), self.number);
            self.fate = Some(match end {
                End::Closed => Fate::Ended,
                End::Refused(_) => Fate::Refused,
                _ => Fate::Lost,
            });
        }
        self.note_trust(shared);
    }

    /// Writes down until when it counts on its locks.
    fn note_trust(&mut self, shared: &mut Shared) {
        let time = self.watch.shows(shared.now);
        if self.fate.is_some() || self.session.lease_state(time) != LeaseState::Safe {
            return;
        }
        let Some(until) = self.session.safe_until() else { return };
        let safe_for = Duration::from_micros(self.watch.moment(until).saturating_sub(shared.now));
        for file in &self.files {
            if let Lock::Held(op) = file.lock
                && !file.is_over
                && self.session.lock_state(file.handle) == LockState::Held
            {
                shared.history.trusts(at(shared), op, safe_for);
            }
        }
    }

    fn set_lock(&mut self, handle: Handle, lock: Lock) {
        set_lock(&mut self.files, handle, lock);
    }
}

/// A call was answered.
fn answered(
    shared: &mut Shared,
    files: &mut Vec<OpenFile>,
    (number, pending): (u64, Pending),
    result: Result<Answer<'_>, Code>,
) {
    let Pending { op, path, kind, .. } = pending;
    let outcome = match result {
        // The session is over; whether it was done is not known.
        Err(Code::Timeout) => return,
        // It was overtaken by later ones of a plain session at a fail-over, and was not executed (docs/protocol.md 4).
        Err(Code::InternalErr) => {
            match kind {
                Kind::Unlock(handle, before) => set_lock(files, handle, before),
                Kind::Lock(handle) => set_lock(files, handle, Lock::Free),
                _ => {}
            }
            return shared
                .trace
                .tell(shared.now, format_args!("client {number} {path}: {op:?} was overtaken"));
        }
        Err(code) => Some(Outcome::Refused(code.to_wire())),
        Ok(Answer::Locked { sequencer }) => Some(Outcome::Locked(sequencer.as_ref().map(stamp))),
        Ok(Answer::LockPending) => None,
        Ok(Answer::Contents { metadata, data, .. }) => {
            let (inode, version) = (metadata.inode, metadata.version);
            Some(match kind {
                Kind::Meta(_) => Outcome::Metadata { inode, version },
                _ => Outcome::Contents { inode, version, data: data.into() },
            })
        }
        Ok(_) => Some(Outcome::Done),
    };
    let is_refused = matches!(outcome, Some(Outcome::Refused(_)));
    match (kind, &result) {
        (Kind::Open, Ok(Answer::Opened(handle))) => files.push(OpenFile {
            handle: *handle,
            op,
            path: path.clone(),
            lock: Lock::Free,
            is_over: false,
            was_read: false,
        }),
        (Kind::Close(handle), _) => files.retain(|file| file.handle != handle),
        (Kind::Lock(handle), Ok(Answer::Locked { .. })) => set_lock(files, handle, Lock::Held(op)),
        (Kind::Lock(handle), Ok(Answer::LockPending)) => set_lock(files, handle, Lock::Waiting(op)),
        (Kind::Lock(handle) | Kind::Unlock(handle, _), _) => set_lock(files, handle, Lock::Free),
        (Kind::Data(handle) | Kind::Meta(handle), _) => {
            if let Some(file) = files.iter_mut().find(|file| file.handle == handle) {
                file.was_read = true;
                file.is_over |= is_refused;
            }
        }
        (Kind::Open | Kind::Delete, _) => {}
    }
    match outcome {
        Some(outcome) => {
            shared.trace.tell(shared.now, format_args!("client {number} {path}: {op:?} -> {outcome}"));
            shared.history.answer(at(shared), op, outcome);
        }
        None => shared.trace.tell(shared.now, format_args!("client {number} {path}: {op:?} waits")),
    }
}

/// Something happened to a handle.
fn happened(
    shared: &mut Shared,
    files: &mut [OpenFile],
    number: u64,
    handle: Handle,
    events: EventMask,
    sequencer: Option<Sequencer<'_>>,
) {
    let Some(file) = files.iter_mut().find(|file| file.handle == handle) else { return };
    shared.trace.tell(shared.now, format_args!("client {number} {}: event {:#x}", file.path, events.0));
    if events.contains(EventMask::LOCKED)
        && let Lock::Waiting(op) = file.lock
    {
        file.lock = Lock::Held(op);
        shared.history.answer(at(shared), op, Outcome::Locked(sequencer.as_ref().map(stamp)));
    }
    if events.contains(EventMask::DELETED) {
        file.is_over = true;
    }
}

fn set_lock(files: &mut [OpenFile], handle: Handle, lock: Lock) {
    if let Some(file) = files.iter_mut().find(|file| file.handle == handle) {
        file.lock = lock;
    }
}

fn stamp(sequencer: &Sequencer<'_>) -> Stamp {
    Stamp { inode: sequencer.inode, generation: sequencer.generation }
}

fn at(shared: &Shared) -> Duration {
    Duration::from_micros(shared.now)
}
