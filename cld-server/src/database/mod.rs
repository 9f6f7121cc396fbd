//! The replicated state and nothing else: files, sessions, handles, locks, replies, users and limits. The same commands in the same order
//! make the same state and the same effects on every replica: there is no clock here, no randomness, no I/O, and no
//! configuration of the one server.
//!
//! [`Database::apply`] takes a [`Command`] and says what it did ([`Effects`]); reads change nothing. Everything is in
//! persistent maps, so that a clone costs nothing and can be written out ([`Snapshot`]) while `apply` goes on.

mod apply;
mod command;
mod digest;
mod effects;
mod files;
mod handle;
mod limits;
mod lock;
mod namespace;
mod path;
mod sequencer;
mod session;
mod settings;
mod snapshot;
#[cfg(test)]
mod tests;
mod users;

pub use command::{Action, Batch, Command, ENTRY_MAX, Settled, Write};
pub use digest::{DIGEST_VERSION, Digest};
pub use effects::{Effects, Notice, Reply};
pub use handle::{Handle, Pending};
pub use limits::{HANDLES_MAX, INODE_COST, LimitKind, Limits, REPLIES_MAX, SESSION_TIMEOUTS, Totals, Usage};
pub use lock::{Claim, Owner};
pub use namespace::{File, Meta};
pub use sequencer::Sequencer;
pub use session::{Session, Terms, UserName};
pub use settings::{Setting, SettingError};
pub use snapshot::{Snapshot, SnapshotError};
pub use users::{USERS_MAX, Users};

use crate::versions;
use cldc_core::wire::codes::{Code, OpenMode};
use digest::Item;
use lock::Locks;
use namespace::Namespace;
use session::Sessions;

/// The replicated state. A clone is O(1), and does not change with the original.
#[derive(Clone, Debug)]
pub struct Database {
    version: u32,
    epoch: u64,
    limits: Limits,
    users: Users,
    adopted: bool,
    namespace: Namespace,
    sessions: Sessions,
    locks: Locks,
}

impl Default for Database {
    fn default() -> Self {
        Self::new()
    }
}

impl Database {
    /// The state of a new cell: the root directory, and no session.
    #[must_use]
    pub fn new() -> Self {
        Self {
            version: versions::NONE,
            epoch: 0,
            limits: Limits::default(),
            users: Users::default(),
            adopted: false,
            namespace: Namespace::new(),
            sessions: Sessions::default(),
            locks: Locks::new(1),
        }
    }

    /// The version of the cell, [`NONE`](versions::NONE) before its first master.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The epoch of the latest master that has begun, 0 before the first.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Who may sign packets.
    #[must_use]
    pub const fn users(&self) -> &Users {
        &self.users
    }

    /// Whether users and limits are set: those of a new cell are not, and come from its first server's configuration.
    #[must_use]
    pub const fn has_adopted(&self) -> bool {
        self.adopted
    }

    /// The file behind a handle, as GET returns it.
    ///
    /// # Errors
    /// [`Code::SessInval`], [`Code::FhInval`] for a handle that is unknown or whose file is deleted,
    /// [`Code::ModeInval`] without READ, [`Code::TooLarge`] for a directory whose list is longer than a reply carries.
    pub fn get(&self, sid: u64, fh: u64) -> Result<File, Code> {
        self.namespace.read(self.readable(sid, fh)?)
    }

    /// The metadata of the file behind a handle, as GET_META returns it.
    ///
    /// # Errors
    /// As [`Self::get`], but for the size.
    pub fn get_meta(&self, sid: u64, fh: u64) -> Result<Meta, Code> {
        self.namespace.meta(self.readable(sid, fh)?)
    }

    /// A session by its id.
    #[must_use]
    pub fn session(&self, sid: u64) -> Option<&Session> {
        self.sessions.get(sid)
    }

    /// All sessions with their ids, in the order of these.
    pub fn sessions(&self) -> impl Iterator<Item = (u64, &Session)> {
        self.sessions.from(0)
    }

    /// The metadata of a file by its path, for the operator and the tests.
    #[must_use]
    pub fn stat(&self, path: &[u8]) -> Option<Meta> {
        self.namespace.meta(self.namespace.lookup(path)?).ok()
    }

    /// The queue of a file's lock, first come first: each claim, and whether it holds the lock.
    pub fn lock_queue(&self, inode: u64) -> impl Iterator<Item = (Claim, bool)> {
        self.locks.queue(inode).map(|(_, claim, holds)| (claim, holds))
    }

    /// The generation of a file's lock: 0 before its first grant, and raised by every grant to a lock that has no
    /// holder left (extensions.md 8).
    #[must_use]
    pub fn lock_generation(&self, inode: u64) -> u64 {
        self.locks.generation(inode)
    }

    /// What one user has.
    #[must_use]
    pub fn usage(&self, user: &UserName) -> Usage {
        self.sessions.usage(user)
    }

    /// What the cell has.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            sessions: self.sessions.total().sessions,
            handles: self.sessions.open_handles() as u64,
            inodes: self.namespace.len() as u64,
            data: self.namespace.data(),
            claims: self.locks.len() as u64,
        }
    }

    /// A checksum of everything: replicas that have applied the same commands have the same. It is kept up to date with
    /// every change, and costs nothing to ask for.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut digest = self.header_digest();
        digest.add(self.users.digest());
        digest.add(self.namespace.digest());
        digest.add(self.sessions.digest());
        digest.add(self.locks.digest());
        digest
    }

    /// The same, worked out anew from all that is there. It differs from [`Self::digest`] only if memory was spoiled, or a
    /// change of the state went past the digest. Reads the whole state, so let a clone do it on another thread.
    #[must_use]
    pub fn recomputed_digest(&self) -> Digest {
        let mut digest = self.header_digest();
        digest.add(self.users.recomputed_digest());
        digest.add(self.namespace.recomputed_digest());
        digest.add(self.sessions.recomputed_digest());
        digest.add(self.locks.recomputed_digest());
        digest
    }

    /// What stands once: as in a snapshot's header, and the sums over the rest.
    fn header_digest(&self) -> Digest {
        let Totals { sessions, handles, inodes, data, claims } = self.totals();
        Digest::of(Item::Header, |out| {
            out.u32(self.version);
            snapshot::encode_header(self, out);
            [sessions, handles, inodes, data, claims].into_iter().for_each(|total| out.u64(total));
        })
    }

    /// The inode behind a handle that may read.
    fn readable(&self, sid: u64, fh: u64) -> Result<u64, Code> {
        let (inode, handle) = self.handle(Owner { sid, fh })?;
        if handle.mode.contains(OpenMode::READ) { Ok(inode) } else { Err(Code::ModeInval) }
    }

    /// A handle whose file exists, with that file's number.
    fn handle(&self, owner: Owner) -> Result<(u64, &Handle), Code> {
        let session = self.sessions.get(owner.sid).ok_or(Code::SessInval)?;
        let handle = session.handle(owner.fh).ok_or(Code::FhInval)?;
        Ok((handle.inode.ok_or(Code::FhInval)?, handle))
    }
}
