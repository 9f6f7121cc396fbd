//! Sequencers: what the holder of a lock shows to whoever it asks to act, so that what it asked for before it lost the
//! lock is refused (extensions.md 8; Burrows 2006, section 2.4).

use super::effects::Reply;
use super::lock::Owner;
use super::{Database, path};
use crate::codec::{CodecError, Reader, Writer};
use cldc_core::wire::codes::{Code, OpenMode};
use std::sync::Arc;

/// A lock as it was held once: the file, the mode, and the generation. It stands as long as that holding goes on.
/// Nothing in it is secret; it is a description, and no proof that its bearer holds the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequencer {
    /// The file's number, never used for another file.
    pub inode: u64,
    /// The generation of its lock: another one means that all its holders have changed since.
    pub generation: u64,
    /// Whether it was held together with others.
    pub shared: bool,
    /// The file's path; empty if the file was gone when this was made.
    pub path: Arc<[u8]>,
}

impl Database {
    /// The sequencer of the lock that a handle holds.
    ///
    /// # Errors
    /// [`Code::SessInval`], [`Code::FhInval`] for a handle that is unknown or whose file is deleted,
    /// [`Code::ModeInval`] without LOCK, [`Code::LockInval`] unless it holds the lock now.
    pub fn sequencer(&self, sid: u64, fh: u64) -> Result<Sequencer, Code> {
        let (inode, handle) = self.handle(Owner { sid, fh })?;
        if !handle.mode.contains(OpenMode::LOCK) {
            return Err(Code::ModeInval);
        }
        let ticket = handle.ticket.filter(|&ticket| self.locks.holds(inode, ticket));
        let claim = ticket.and_then(|ticket| self.locks.claim(inode, ticket)).ok_or(Code::LockInval)?;
        Ok(self.sequencer_at(inode, self.locks.generation(inode), claim.shared))
    }

    /// The sequencer that the reply to LOCK or TRYLOCK tells of; `None` for other replies. It is the one of the time
    /// when the lock was granted, and so may be stale if the reply is an old one.
    #[must_use]
    pub fn sequencer_of(&self, reply: Reply) -> Option<Sequencer> {
        let Reply::Locked { inode, generation, shared } = reply else { return None };
        Some(self.sequencer_at(inode, generation, shared))
    }

    /// Whether a sequencer stands: its file is there, and its lock is held, without a break since, in its mode. Any
    /// session may ask.
    ///
    /// # Errors
    /// [`Code::Stale`] if it does not.
    pub fn check_sequencer(&self, sequencer: &Sequencer) -> Result<(), Code> {
        let Sequencer { inode, generation, shared, ref path } = *sequencer;
        let is_file = path::parse(path).and_then(|path| self.namespace.lookup(path)) == Some(inode);
        let first = self.locks.queue(inode).next();
        let is_held = first.is_some_and(|(_, claim, holds)| holds && claim.shared == shared);
        let stands = is_file && is_held && self.locks.generation(inode) == generation;
        if stands { Ok(()) } else { Err(Code::Stale) }
    }

    /// Lets a request pass that carries no sequencer, or one that stands.
    pub(super) fn check_fence(&self, fence: Option<&Sequencer>) -> Result<(), Code> {
        fence.map_or(Ok(()), |sequencer| self.check_sequencer(sequencer))
    }

    fn sequencer_at(&self, inode: u64, generation: u64, shared: bool) -> Sequencer {
        let path = self.namespace.get(inode).map(|inode| inode.path.clone()).unwrap_or_default();
        Sequencer { inode, generation, shared, path }
    }
}

impl Sequencer {
    /// Writes the sequencer that a request may carry.
    pub(super) fn encode_fence(fence: Option<&Self>, out: &mut Writer) {
        out.bool(fence.is_some());
        if let Some(Self { inode, generation, shared, path }) = fence {
            out.u64(*inode);
            out.u64(*generation);
            out.bool(*shared);
            out.bytes(path);
        }
    }

    pub(super) fn decode_fence(input: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        if !input.bool()? {
            return Ok(None);
        }
        let (inode, generation, shared) = (input.u64()?, input.u64()?, input.bool()?);
        Ok(Some(Self { inode, generation, shared, path: input.bytes(super::ENTRY_MAX)?.into() }))
    }
}
