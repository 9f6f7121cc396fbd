//! The sequential specification: what one file and its lock answer if requests come one after the other
//! (docs/protocol.md 5 and 7.6, read anew).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Call, Mode, OpId, Outcome, Stamp};
use crate::raw::codes::code;

/// One thing that happens at one moment.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) id: OpId,
    pub(super) client: u64,
    pub(super) call: Call,
    /// LOCK is two steps: asking, and being granted the lock.
    pub(super) grant: bool,
    /// None if it is not known, nor whether the step happened before the history ends.
    pub(super) outcome: Option<Outcome>,
}

/// What a path stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    file: Option<File>,
    /// The highest number of those that were deleted.
    deleted: u64,
}

/// From creation to deletion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct File {
    /// Once a client was told it.
    inode: Option<u64>,
    version: u64,
    data: Arc<[u8]>,
    /// Open handles, each named by the operation that opened it, and whose they are.
    handles: BTreeMap<OpId, u64>,
    /// Who holds the lock and who waits, in the order of asking.
    queue: Vec<Claim>,
    generation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claim {
    handle: OpId,
    mode: Mode,
    holds: bool,
}

/// What a step tells, if it happens now.
enum Told {
    Done,
    Contents,
    Metadata,
    Locked,
    Refused(i32),
}

impl State {
    /// The state after a step; none if the step cannot have had its outcome here.
    pub(super) fn after(&self, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        let told = next.happen(step);
        let possible = match (&told, &step.outcome) {
            (_, None) => true,
            (Told::Done, Some(Outcome::Done)) => true,
            // That it was asked for; the other step sees the grant.
            (Told::Done, Some(Outcome::Locked(_))) => matches!(step.call, Call::Lock(..)) && !step.grant,
            (Told::Contents, Some(Outcome::Contents { inode, version, data })) => {
                next.is(*inode)
                    && next.file.as_ref().is_some_and(|f| f.version == *version && f.data == *data)
            }
            (Told::Metadata, Some(Outcome::Metadata { inode, version })) => {
                next.is(*inode) && next.file.as_ref().is_some_and(|file| file.version == *version)
            }
            (Told::Locked, Some(Outcome::Locked(None))) => true,
            (Told::Locked, Some(Outcome::Locked(Some(stamp)))) => {
                next.is(stamp.inode)
                    && next.file.as_ref().is_some_and(|file| file.generation == stamp.generation)
            }
            // Our clients take a handle that is gone for one that they closed.
            (Told::Refused(code::FH_INVAL), Some(Outcome::Done)) => matches!(step.call, Call::Close(_)),
            // Who waited for the lock is told so.
            (Told::Refused(code::FH_INVAL), Some(Outcome::Refused(code::INODE_INVAL))) => true,
            (Told::Refused(right), Some(Outcome::Refused(code))) => right == code,
            _ => false,
        };
        possible.then_some(next)
    }

    /// Whether the file has this number; learns it if it was not known.
    fn is(&mut self, inode: u64) -> bool {
        let deleted = self.deleted;
        self.file.as_mut().is_some_and(|file| *file.inode.get_or_insert(inode) == inode && inode > deleted)
    }

    fn happen(&mut self, step: &Step) -> Told {
        match step.call {
            Call::Open { create, exclusive } => match &mut self.file {
                Some(_) if create && exclusive => Told::Refused(code::INODE_EXISTS),
                None if !create => Told::Refused(code::NAME_INVAL),
                file => {
                    file.get_or_insert_with(File::new).handles.insert(step.id, step.client);
                    Told::Done
                }
            },
            Call::Delete => match self.file.take() {
                Some(file) => {
                    self.deleted = self.deleted.max(file.inode.unwrap_or(0));
                    Told::Done
                }
                None => Told::Refused(code::NAME_INVAL),
            },
            Call::Over => {
                if let Some(file) = &mut self.file {
                    file.close(|_, client| client == step.client);
                }
                Told::Done
            }
            Call::Check(stamp, mode) => {
                let stands = self.file.as_ref().is_some_and(|file| file.stands(stamp, mode));
                if stands { Told::Done } else { Told::Refused(code::STALE) }
            }
            Call::Put(handle, _)
            | Call::Get(handle)
            | Call::Meta(handle)
            | Call::Close(handle)
            | Call::Lock(handle, _)
            | Call::TryLock(handle, _)
            | Call::Unlock(handle) => match &mut self.file {
                Some(file) if file.handles.contains_key(&handle) => file.happen(handle, step),
                // Closed, or of a file that was deleted.
                _ => Told::Refused(code::FH_INVAL),
            },
        }
    }
}

impl File {
    /// As it is created.
    fn new() -> Self {
        Self {
            inode: None,
            version: 1,
            data: Arc::default(),
            handles: BTreeMap::new(),
            queue: Vec::new(),
            generation: 0,
        }
    }

    fn happen(&mut self, handle: OpId, step: &Step) -> Told {
        let claim = self.queue.iter().position(|claim| claim.handle == handle);
        match step.call {
            Call::Put(_, ref data) => {
                self.version += 1;
                self.data = data.clone();
                Told::Done
            }
            Call::Get(_) => Told::Contents,
            Call::Meta(_) => Told::Metadata,
            Call::Close(_) => {
                self.close(|other, _| other == handle);
                Told::Done
            }
            Call::Lock(..) if step.grant => {
                let holds = claim.and_then(|place| self.queue.get(place)).is_some_and(|claim| claim.holds);
                if holds { Told::Locked } else { Told::Refused(code::LOCK_PENDING) }
            }
            Call::Lock(..) | Call::TryLock(..) if claim.is_some() => Told::Refused(code::LOCK_CONFLICT),
            Call::Lock(_, mode) => {
                self.claim(handle, mode);
                Told::Done
            }
            Call::TryLock(_, mode) => {
                self.claim(handle, mode);
                if self.queue.last().is_some_and(|claim| claim.holds) {
                    Told::Locked
                } else {
                    self.queue.pop();
                    Told::Refused(code::LOCK_CONFLICT)
                }
            }
            Call::Unlock(_) => match claim {
                Some(place) => {
                    self.queue.remove(place);
                    self.grant();
                    Told::Done
                }
                None => Told::Refused(code::LOCK_INVAL),
            },
            Call::Open { .. } | Call::Delete | Call::Check(..) | Call::Over => Told::Done,
        }
    }

    /// Closes the handles that are chosen, and releases their locks together.
    fn close(&mut self, chosen: impl Fn(OpId, u64) -> bool) {
        self.handles.retain(|&handle, &mut client| !chosen(handle, client));
        self.queue.retain(|claim| self.handles.contains_key(&claim.handle));
        self.grant();
    }

    fn claim(&mut self, handle: OpId, mode: Mode) {
        self.queue.push(Claim { handle, mode, holds: false });
        self.grant();
    }

    /// First come, first served: nobody is granted the lock before those who asked earlier.
    fn grant(&mut self) {
        let mut held = None;
        for claim in &mut self.queue {
            if held.is_some_and(|held| (held, claim.mode) != (Mode::Shared, Mode::Shared)) {
                break;
            }
            if held.is_none() && !claim.holds {
                self.generation += 1;
            }
            claim.holds = true;
            held = Some(claim.mode);
        }
    }

    /// Whether the lock is held as the sequencer says. If nobody was told the file's number yet, it may be that one.
    fn stands(&self, stamp: Stamp, mode: Mode) -> bool {
        self.inode.is_none_or(|inode| inode == stamp.inode)
            && self.generation == stamp.generation
            && self.queue.first().is_some_and(|first| first.mode == mode)
    }
}
