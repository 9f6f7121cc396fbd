//! What commands do to files and directories: OPEN, PUT, CLOSE, DEL (protocol.md 7, as a correct server does it).
//!
//! Where Hail's server answers DB_ERR for what the client got wrong, the answer here is NAME_INVAL: a parent that is
//! missing or is no directory, a deletion in an empty directory.

use super::apply::claim_of;
use super::effects::Effects;
use super::limits::LimitKind;
use super::lock::Owner;
use super::{Database, namespace, path};
use cldc_core::wire::codes::{Code, EventMask, OpenMode};
use cldc_core::wire::limits::MAX_PATH;
use std::sync::Arc;

impl Database {
    /// Opens a file, or creates it; the handle.
    pub(super) fn open(
        &mut self,
        at: u64,
        sid: u64,
        mode: OpenMode,
        events: EventMask,
        raw: &[u8],
        effects: &mut Effects,
    ) -> Result<u64, Code> {
        let create = mode.contains(OpenMode::CREATE);
        let directory = mode.contains(OpenMode::DIRECTORY);
        let path = if create { below_root(raw)? } else { well_formed(raw)? };
        let inode = match self.namespace.lookup(path) {
            Some(_) if create && mode.contains(OpenMode::EXCL) => return Err(Code::InodeExists),
            Some(inode) if self.namespace.is_directory(inode) != directory => return Err(Code::ModeInval),
            Some(inode) => {
                self.room_for_handle(sid, effects)?;
                inode
            }
            None if !create => return Err(Code::NameInval),
            None => {
                let parent = self.namespace.parent(path).ok_or(Code::NameInval)?;
                if path.len() as u64 > self.limits.path_length {
                    return Err(effects.refuse(LimitKind::PathLength));
                }
                self.room_for_data(0, namespace::cost(path, 0), effects)?;
                self.room_for_handle(sid, effects)?;
                let inode = self.namespace.create(parent, path, directory, at);
                self.tell_updated(parent, effects);
                inode
            }
        };
        self.sessions.open(sid, inode, mode, events).ok_or(Code::SessInval)
    }

    /// Replaces a file's contents.
    pub(super) fn put(
        &mut self,
        at: u64,
        owner: Owner,
        data: &Arc<[u8]>,
        effects: &mut Effects,
    ) -> Result<(), Code> {
        let (inode, handle) = self.handle(owner)?;
        if !handle.mode.contains(OpenMode::WRITE) || handle.mode.contains(OpenMode::DIRECTORY) {
            return Err(Code::ModeInval);
        }
        if data.len() as u64 > self.limits.payload {
            return Err(effects.refuse(LimitKind::Payload));
        }
        let before = self.namespace.get(inode).ok_or(Code::InodeInval)?.contents_len();
        self.room_for_data(before, data.len() as u64, effects)?;
        self.namespace.put(inode, data, at);
        self.tell_updated(inode, effects);
        Ok(())
    }

    /// Closes a handle, and releases its lock. Of a deleted file, the handle goes too, but it was none any more.
    pub(super) fn close(&mut self, owner: Owner, effects: &mut Effects) -> Result<(), Code> {
        let handle = self.sessions.close(owner).ok_or(Code::FhInval)?;
        handle.inode.ok_or(Code::FhInval)?;
        self.release(claim_of(&handle).as_slice(), effects);
        Ok(())
    }

    /// Deletes a file or an empty directory, whoever has it open or locked.
    pub(super) fn delete(&mut self, at: u64, raw: &[u8], effects: &mut Effects) -> Result<(), Code> {
        let inode = self.namespace.lookup(below_root(raw)?).ok_or(Code::NameInval)?;
        if self.namespace.has_children(inode) {
            return Err(Code::DirNotEmpty);
        }
        let version = self.namespace.get(inode).ok_or(Code::NameInval)?.version;
        for owner in self.sessions.openers(inode) {
            self.take_file_away(owner, version, effects);
        }
        self.locks.forget(inode);
        if let Some(parent) = self.namespace.remove(inode, at) {
            self.tell_updated(parent, effects);
        }
        Ok(())
    }

    /// Makes a handle on a file that is being deleted useless. It is told if it asked for that, or if it is waiting
    /// for the lock: as far as its client knows, when the grant is not acknowledged yet. Otherwise nothing is to be
    /// remembered, and the handle goes.
    fn take_file_away(&mut self, owner: Owner, version: u64, effects: &mut Effects) {
        let Ok((inode, handle)) = self.handle(owner) else { return };
        let waits = handle.ticket.is_some_and(|ticket| !self.locks.holds(inode, ticket));
        let granted = handle.unsettled().contains(EventMask::LOCKED);
        if handle.events.contains(EventMask::DELETED) || waits || granted {
            self.sessions.orphan(owner);
            self.notify(owner, EventMask::DELETED, version, effects);
        } else {
            self.sessions.close(owner);
        }
    }

    /// Tells the handles on a file that asked for it that its contents have changed.
    fn tell_updated(&mut self, inode: u64, effects: &mut Effects) {
        let version = self.namespace.get(inode).map_or(0, |inode| inode.version);
        for owner in self.sessions.openers(inode) {
            if self.handle(owner).is_ok_and(|(_, handle)| handle.events.contains(EventMask::UPDATED)) {
                self.notify(owner, EventMask::UPDATED, version, effects);
            }
        }
    }

    /// Refuses if `after` bytes in place of `before` are more than the cell takes. What does not grow is never refused.
    fn room_for_data(&self, before: u64, after: u64, effects: &mut Effects) -> Result<(), Code> {
        let total = self.namespace.data().saturating_sub(before).saturating_add(after);
        if after > before && total > self.limits.total_data {
            return Err(effects.refuse(LimitKind::TotalData));
        }
        Ok(())
    }

    fn room_for_handle(&self, sid: u64, effects: &mut Effects) -> Result<(), Code> {
        let session = self.sessions.get(sid).ok_or(Code::SessInval)?;
        if session.handles.len() as u64 >= self.limits.handles_per_session {
            return Err(effects.refuse(LimitKind::HandlesPerSession));
        }
        if self.sessions.usage(&session.user).handles >= self.limits.handles_per_user {
            return Err(effects.refuse(LimitKind::HandlesPerUser));
        }
        Ok(())
    }
}

/// The path that a client wrote.
fn well_formed(raw: &[u8]) -> Result<&[u8], Code> {
    path::parse(raw).filter(|path| path.len() <= MAX_PATH).ok_or(Code::NameInval)
}

/// The path that a client wrote, of something that can be created and deleted: not the root.
fn below_root(raw: &[u8]) -> Result<&[u8], Code> {
    well_formed(raw).and_then(|path| if path == path::ROOT { Err(Code::NameInval) } else { Ok(path) })
}
