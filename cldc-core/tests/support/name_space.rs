//! Files, handles and locks in memory, as far as sessions need them: executes requests, and counts that.

use std::collections::{BTreeMap, VecDeque};

use cldc_core::wire::extended::{Sequencer, Standing, Stands};
use cldc_core::wire::limits::MAX_MESSAGE;
use cldc_core::wire::{
    Answer, Code, EventMask, Full, InodeFlags, LockFlags, Metadata, Op, OpenMode, Request, Writer,
};

/// A message of a server: its operation and its body.
pub(crate) type Body = (Op, Vec<u8>);

/// An event for a handle of a session.
pub(crate) type Told = (u64, u64, EventMask);

#[derive(Default)]
struct Node {
    inode: u64,
    version: u64,
    data: Vec<u8>,
    /// Of the lock: how often it was granted while nobody held it.
    generation: u64,
    /// Session, handle, whether shared.
    holders: Vec<(u64, u64, bool)>,
    waiters: VecDeque<(u64, u64, bool)>,
}

struct Open {
    path: Vec<u8>,
    mode: OpenMode,
    events: EventMask,
}

pub(crate) struct NameSpace {
    nodes: BTreeMap<Vec<u8>, Node>,
    /// By session and handle.
    handles: BTreeMap<(u64, u64), Open>,
    next_handle: u64,
    next_inode: u64,
    /// How often each request, by session and xid, was executed.
    executed: BTreeMap<(u64, u64), u32>,
}

impl Default for NameSpace {
    fn default() -> Self {
        let root = Node { inode: 10, version: 1, ..Node::default() };
        Self {
            nodes: BTreeMap::from([(b"/".to_vec(), root)]),
            handles: BTreeMap::new(),
            next_handle: 2,
            next_inode: 50,
            executed: BTreeMap::new(),
        }
    }
}

impl NameSpace {
    /// How many requests were executed, and how often the one executed most often was.
    pub(crate) fn executions(&self) -> (usize, u32) {
        (self.executed.len(), self.executed.values().copied().max().unwrap_or(0))
    }

    pub(crate) fn open_handles(&self) -> usize {
        self.handles.len()
    }

    pub(crate) fn version(&self, path: &[u8]) -> Option<u64> {
        self.nodes.get(path).map(|node| node.version)
    }

    pub(crate) fn data(&self, path: &[u8]) -> Option<&[u8]> {
        self.nodes.get(path).map(|node| node.data.as_slice())
    }

    /// Puts contents into a file from outside.
    pub(crate) fn write(&mut self, path: &[u8], data: &[u8]) -> Vec<Told> {
        let inode = self.next_inode;
        let node = self.nodes.entry(path.to_vec()).or_insert_with(|| Node { inode, ..Node::default() });
        node.data = data.to_vec();
        node.version += 1;
        self.next_inode += 1;
        self.tell(path, EventMask::UPDATED)
    }

    /// Lets a stranger hold a lock, or let go of it.
    pub(crate) fn stranger_locks(&mut self, path: &[u8]) {
        let inode = self.next_inode;
        let node = self.nodes.entry(path.to_vec()).or_insert_with(|| Node { inode, ..Node::default() });
        node.holders.push((0, 0, false));
    }

    pub(crate) fn stranger_unlocks(&mut self, path: &[u8]) -> Vec<Told> {
        self.release(path, 0, 0)
    }

    /// A file is gone, with the handles on it, and nobody is told.
    pub(crate) fn vanish(&mut self, path: &[u8]) {
        self.nodes.remove(path);
        self.handles.retain(|_, open| open.path != path);
    }

    /// A session holds this lock no more, and is not told.
    pub(crate) fn let_go(&mut self, path: &[u8], sid: u64) {
        if let Some(node) = self.nodes.get_mut(path) {
            node.holders.retain(|holder| holder.0 != sid);
        }
    }

    /// The path behind a handle.
    pub(crate) fn path(&self, sid: u64, fh: u64) -> Option<&[u8]> {
        self.handles.get(&(sid, fh)).map(|open| open.path.as_slice())
    }

    /// The handles of a session, with their locks.
    pub(crate) fn stands(&self, sid: u64) -> Vec<Stands> {
        let own = self.handles.iter().filter(|((session, _), _)| *session == sid);
        own.map(|(&(_, fh), open)| {
            let is_it = |(session, handle, _): &(u64, u64, bool)| (*session, *handle) == (sid, fh);
            let lock = match self.nodes.get(&open.path) {
                Some(node) if node.holders.iter().any(is_it) => Standing::Held,
                Some(node) if node.waiters.iter().any(is_it) => Standing::Waiting,
                _ => Standing::Free,
            };
            Stands { fh, lock }
        })
        .collect()
    }

    /// The sequencer of the lock that a handle holds.
    pub(crate) fn sequencer(&self, sid: u64, fh: u64) -> Option<Sequencer<'_>> {
        let path = self.path(sid, fh)?;
        let node = self.nodes.get(path)?;
        let &(.., shared) = node.holders.iter().find(|holder| (holder.0, holder.1) == (sid, fh))?;
        let mode = if shared { LockFlags::SHARED } else { LockFlags::NONE };
        Some(Sequencer { inode: node.inode, generation: node.generation, mode, path })
    }

    fn stands_still(&self, sequencer: &Sequencer<'_>) -> bool {
        let shared = sequencer.mode.contains(LockFlags::SHARED);
        self.nodes.values().any(|node| {
            (node.inode, node.generation) == (sequencer.inode, sequencer.generation)
                && node.holders.iter().any(|holder| holder.2 == shared)
        })
    }

    /// Executes a request: its answer, and the events that it causes, which come before the answer.
    pub(crate) fn execute(&mut self, sid: u64, xid: u64, op: Op, body: &[u8]) -> (Vec<Told>, Body) {
        let Ok(request) = Request::parse(op, body) else {
            return (Vec::new(), emit(Answer::Done { op, xid, code: Code::BadPkt }));
        };
        *self.executed.entry((sid, xid)).or_default() += 1;
        let mut told = Vec::new();
        let answer = match request {
            Request::Open { mode, events, path } => self.open(sid, xid, mode, events, path, &mut told),
            Request::Get { fh } => self.get(sid, xid, fh, true),
            Request::GetMeta { fh } => self.get(sid, xid, fh, false),
            Request::Put { fh, data } => match self.handles.get(&(sid, fh)).map(|open| open.path.clone()) {
                Some(path) => {
                    told = self.write(&path, data);
                    done(op, xid, Code::Ok)
                }
                None => done(op, xid, Code::FhInval),
            },
            Request::Close { fh } => match self.handles.remove(&(sid, fh)) {
                Some(open) => {
                    told = self.release(&open.path, sid, fh);
                    done(op, xid, Code::Ok)
                }
                None => done(op, xid, Code::FhInval),
            },
            Request::Del { path } => {
                let known = self.nodes.contains_key(path);
                told = self.tell(path, EventMask::DELETED);
                self.nodes.remove(path);
                self.handles.retain(|_, open| open.path != path);
                done(op, xid, if known { Code::Ok } else { Code::NameInval })
            }
            Request::GetSequencer { fh } => match self.sequencer(sid, fh) {
                Some(sequencer) => {
                    let (op, mut body) = done(op, xid, Code::Ok);
                    body.extend(bytes(|out| sequencer.emit(out)));
                    (op, body)
                }
                None => done(op, xid, Code::LockInval),
            },
            Request::CheckSequencer { sequencer } => {
                done(op, xid, if self.stands_still(&sequencer) { Code::Ok } else { Code::Stale })
            }
            Request::PutFenced { sequencer, .. } | Request::DelFenced { sequencer, .. }
                if !self.stands_still(&sequencer) =>
            {
                done(op, xid, Code::Stale)
            }
            Request::PutFenced { fh, data, .. } => {
                let path = self.path(sid, fh).unwrap().to_vec();
                told = self.write(&path, data);
                done(op, xid, Code::Ok)
            }
            Request::DelFenced { path, .. } => {
                self.nodes.remove(path);
                done(op, xid, Code::Ok)
            }
            Request::Lock { fh, flags, wait } => done(op, xid, self.lock(sid, fh, flags, wait)),
            Request::Unlock { fh } => match self.handles.get(&(sid, fh)).map(|open| open.path.clone()) {
                Some(path) => {
                    told = self.release(&path, sid, fh);
                    done(op, xid, Code::Ok)
                }
                None => done(op, xid, Code::FhInval),
            },
            _ => done(op, xid, Code::Ok),
        };
        (told, answer)
    }

    /// A session is over: its handles are closed and its locks released.
    pub(crate) fn end_session(&mut self, sid: u64) -> Vec<Told> {
        let gone: Vec<u64> = self.handles.keys().filter(|key| key.0 == sid).map(|key| key.1).collect();
        let mut told = Vec::new();
        for fh in gone {
            if let Some(open) = self.handles.remove(&(sid, fh)) {
                told.extend(self.release(&open.path, sid, fh));
            }
        }
        told
    }

    fn open(
        &mut self,
        sid: u64,
        xid: u64,
        mode: OpenMode,
        events: EventMask,
        path: &[u8],
        told: &mut Vec<Told>,
    ) -> Body {
        let known = self.nodes.contains_key(path);
        if !known && !mode.contains(OpenMode::CREATE) {
            return done(Op::Open, xid, Code::NameInval);
        }
        if known && mode.contains(OpenMode::EXCL) {
            return done(Op::Open, xid, Code::InodeExists);
        }
        let fh = self.next_handle;
        self.next_handle += 1;
        self.handles.insert((sid, fh), Open { path: path.to_vec(), mode, events });
        if !known {
            // The creator hears of the creation, before it knows the handle: Hail's server does so.
            told.extend(self.write(path, b""));
        }
        emit(Answer::Opened { xid, fh })
    }

    fn get(&self, sid: u64, xid: u64, fh: u64, with_data: bool) -> Body {
        let Some(open) = self.handles.get(&(sid, fh)) else { return done(Op::Get, xid, Code::FhInval) };
        if !open.mode.contains(OpenMode::READ) {
            return done(Op::Get, xid, Code::ModeInval);
        }
        let Some(node) = self.nodes.get(&open.path) else { return done(Op::Get, xid, Code::InodeInval) };
        let metadata = Metadata {
            inode: node.inode,
            version: node.version,
            created: 1,
            modified: 2,
            flags: InodeFlags::NONE,
        };
        let data = if with_data { node.data.as_slice() } else { &[] };
        emit(Answer::Contents { xid, metadata, path: &open.path, data })
    }

    fn lock(&mut self, sid: u64, fh: u64, flags: LockFlags, wait: bool) -> Code {
        let Some(open) = self.handles.get(&(sid, fh)) else { return Code::FhInval };
        let Some(node) = self.nodes.get_mut(&open.path) else { return Code::InodeInval };
        let shared = flags.contains(LockFlags::SHARED);
        let free = node.waiters.is_empty() && node.holders.iter().all(|holder| shared && holder.2);
        if free {
            node.generation += u64::from(node.holders.is_empty());
            node.holders.push((sid, fh, shared));
            Code::Ok
        } else if wait {
            node.waiters.push_back((sid, fh, shared));
            Code::LockPending
        } else {
            Code::LockConflict
        }
    }

    fn release(&mut self, path: &[u8], sid: u64, fh: u64) -> Vec<Told> {
        let Some(node) = self.nodes.get_mut(path) else { return Vec::new() };
        node.holders.retain(|holder| (holder.0, holder.1) != (sid, fh));
        node.waiters.retain(|waiter| (waiter.0, waiter.1) != (sid, fh));
        let mut told = Vec::new();
        while let Some(&(sid, fh, shared)) = node.waiters.front() {
            if !node.holders.iter().all(|holder| shared && holder.2) {
                break;
            }
            node.waiters.pop_front();
            node.generation += u64::from(node.holders.is_empty());
            node.holders.push((sid, fh, shared));
            told.push((sid, fh, EventMask::LOCKED));
        }
        told
    }

    fn tell(&self, path: &[u8], what: EventMask) -> Vec<Told> {
        let concerned =
            self.handles.iter().filter(|(_, open)| open.path == path && open.events.intersects(what));
        concerned.map(|(&(sid, fh), _)| (sid, fh, what)).collect()
    }
}

pub(crate) fn done(op: Op, xid: u64, code: Code) -> Body {
    emit(Answer::Done { op, xid, code })
}

/// An answer's operation and body.
pub(crate) fn emit(answer: Answer<'_>) -> Body {
    (answer.op(), bytes(|out| answer.emit(out)))
}

/// What is written.
pub(crate) fn bytes(write: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>) -> Vec<u8> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut out = Writer::new(&mut buffer);
    write(&mut out).unwrap();
    out.written().to_vec()
}
