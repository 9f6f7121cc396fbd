//! The open files of a session, with their locks and the events that wait to be told.

use super::event::Handle;
use crate::wire::EventMask;
use crate::wire::extended::{Standing, Stands};

/// What this session knows of a lock of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// Neither held nor waited for.
    Free,
    /// Asked for, and waiting in the lock's queue.
    Waiting,
    /// Held, as long as the lease is safe.
    Held,
}

impl From<Standing> for LockState {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Free => Self::Free,
            Standing::Waiting => Self::Waiting,
            Standing::Held => Self::Held,
        }
    }
}

/// Whose a handle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Nobody's yet: an event came before the answer to the OPEN.
    Unknown,
    /// The application's.
    Application,
    /// Nobody waits for it any more: it is closed as soon as there is room for the request.
    Nobody,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct OpenHandle {
    handle: Handle,
    /// Events with a lower serial have come before.
    next_serial: u64,
    /// Events that wait to be told, and the version of the file at the last of them.
    untold: EventMask,
    version: u64,
    pub(super) lock: LockState,
    owner: Owner,
    /// The application knows that the file is gone.
    is_gone: bool,
}

impl OpenHandle {
    const fn new(handle: Handle, owner: Owner) -> Self {
        Self {
            handle,
            next_serial: 0,
            untold: EventMask::NONE,
            version: 0,
            lock: LockState::Free,
            owner,
            is_gone: false,
        }
    }
}

/// What an EVENT says of a handle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Happening {
    pub(super) fh: u64,
    pub(super) events: EventMask,
    /// In extended sessions: serial and version.
    pub(super) detail: Option<(u64, u64)>,
}

/// The open handles, and those that events have come for while they are being opened.
#[derive(Debug)]
pub(super) struct Handles<const N: usize>(heapless::Vec<OpenHandle, N>);

impl<const N: usize> Handles<N> {
    pub(super) const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.0.iter().filter(|open| open.owner != Owner::Unknown).count()
    }

    /// Whether the application has this one.
    pub(super) fn is_open(&self, handle: Handle) -> bool {
        self.find(handle).is_some_and(|open| open.owner == Owner::Application)
    }

    pub(super) fn find(&self, handle: Handle) -> Option<&OpenHandle> {
        self.0.iter().find(|open| open.handle == handle)
    }

    pub(super) fn find_mut(&mut self, handle: Handle) -> Option<&mut OpenHandle> {
        self.0.iter_mut().find(|open| open.handle == handle)
    }

    /// An OPEN is answered. What came for the handle before is told from now on.
    pub(super) fn add(&mut self, handle: Handle, is_wanted: bool) {
        let owner = if is_wanted { Owner::Application } else { Owner::Nobody };
        if let Some(open) = self.find_mut(handle) {
            open.owner = owner;
            return;
        }
        if self.0.is_full() {
            // `open` has counted the handles to come, so that only events of no handle of ours can be in the way.
            self.0
                .iter()
                .position(|open| open.owner == Owner::Unknown)
                .map(|index| self.0.swap_remove(index));
        }
        let _ = self.0.push(OpenHandle::new(handle, owner));
    }

    pub(super) fn remove(&mut self, handle: Handle) {
        self.0.retain(|open| open.handle != handle);
    }

    /// Nothing is being opened any more: events for other handles are nobody's.
    pub(super) fn forget_unknown(&mut self) {
        self.0.retain(|open| open.owner != Owner::Unknown);
    }

    /// Nobody wants this one any more.
    pub(super) fn abandon(&mut self, handle: Handle) {
        if let Some(open) = self.find_mut(handle) {
            open.owner = Owner::Nobody;
        }
    }

    /// The first one that nobody wants.
    pub(super) fn orphan(&self) -> Option<Handle> {
        self.0.iter().find(|open| open.owner == Owner::Nobody).map(|open| open.handle)
    }

    pub(super) fn is_orphan(&self, handle: Handle) -> bool {
        self.find(handle).is_some_and(|open| open.owner == Owner::Nobody)
    }

    /// Something has happened to a handle; gives what is to be told of it now. `opens`: a handle is being opened.
    /// `locks`: a LOCK of this one is in flight.
    pub(super) fn happened(
        &mut self,
        happening: Happening,
        opens: bool,
        locks: bool,
    ) -> Option<(Handle, EventMask)> {
        let Happening { fh, mut events, detail } = happening;
        let handle = Handle(fh);
        if opens && self.find(handle).is_none() {
            // Without room it is no handle of ours: `open` has counted those to come.
            let _ = self.0.push(OpenHandle::new(handle, Owner::Unknown));
        }
        let open = self.find_mut(handle)?;
        if let Some((serial, version)) = detail {
            if serial < open.next_serial {
                return None;
            }
            open.next_serial = serial.saturating_add(1);
            open.version = version;
        }
        if open.owner == Owner::Unknown {
            open.untold = open.untold | events;
            return None;
        }
        if events.contains(EventMask::LOCKED) {
            match open.lock {
                LockState::Waiting => open.lock = LockState::Held,
                LockState::Free if locks => open.lock = LockState::Held,
                // A grant that was told before, or is no longer wanted.
                LockState::Free | LockState::Held => events = events.without(EventMask::LOCKED),
            }
        }
        if open.is_gone && detail.is_some() {
            events = events.without(EventMask::DELETED);
        }
        open.is_gone |= events.contains(EventMask::DELETED);
        (events != EventMask::NONE && open.owner == Owner::Application).then_some((handle, events))
    }

    /// Something that waits to be told, and the version of the file then.
    pub(super) fn take_untold(&mut self) -> Option<(Handle, EventMask, u64)> {
        let waits =
            |open: &&mut OpenHandle| open.owner == Owner::Application && open.untold != EventMask::NONE;
        let open = self.0.iter_mut().find(waits)?;
        let events = core::mem::take(&mut open.untold);
        open.is_gone |= events.contains(EventMask::DELETED);
        Some((open.handle, events, open.version))
    }

    /// Compares what is known with what stands at the server. What `is_changing` is left alone: requests about it are
    /// in flight, and will be answered.
    pub(super) fn reconcile(
        &mut self,
        stands: impl Iterator<Item = Stands> + Clone,
        is_changing: impl Fn(Handle) -> bool,
    ) {
        for open in self.0.iter_mut().filter(|open| !is_changing(open.handle)) {
            match stands.clone().find(|stands| stands.fh == open.handle.0) {
                // The event that tells of the grant follows.
                Some(stands) if (open.lock, stands.lock) == (LockState::Waiting, Standing::Held) => {}
                Some(stands) => open.lock = stands.lock.into(),
                None if open.owner == Owner::Unknown => {}
                None => {
                    open.lock = LockState::Free;
                    if !core::mem::replace(&mut open.is_gone, true) {
                        open.untold = open.untold | EventMask::DELETED;
                    }
                }
            }
        }
    }
}
