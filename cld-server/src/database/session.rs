//! Sessions, and the table of replies that makes every request take effect exactly once.

use super::command::{Settled, encode_user};
use super::digest::{Digest, Item};
use super::effects::Reply;
use super::handle::Handle;
use super::limits::{REPLIES_MAX, Usage};
use super::lock::Owner;
use crate::codec::{CodecError, Reader, Writer};
use cldc_core::wire::codes::{EventMask, OpenMode};
use cldc_core::wire::limits::MAX_USER;
use imbl::{OrdMap, OrdSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// The first handle of a session (protocol.md 7, OPEN step 5).
const FIRST_FH: u64 = 2;

/// The name of a user: 1 to [`MAX_USER`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName {
    /// Zero after the name's end, so that equal names are equal values. Before the length, so that names are in the order
    /// of their letters.
    bytes: [u8; MAX_USER],
    len: u8,
}

impl UserName {
    /// A name; `None` if it is empty or too long.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_USER];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        let len = u8::try_from(name.len()).ok().filter(|&len| len > 0)?;
        Some(Self { len, bytes })
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }
}

impl std::fmt::Display for UserName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}

impl std::fmt::Debug for UserName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// What was agreed when an extended session was opened (extensions.md 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long the session lives without a sign of its client, in milliseconds.
    pub lease_ms: u32,
    /// How much longer it may still be resumed, in milliseconds.
    pub grace_ms: u32,
}

impl Terms {
    pub(super) fn encode(terms: Option<Self>, out: &mut Writer) {
        out.bool(terms.is_some());
        if let Some(Self { lease_ms, grace_ms }) = terms {
            out.u32(lease_ms);
            out.u32(grace_ms);
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        let is_extended = input.bool()?;
        is_extended.then(|| Ok(Self { lease_ms: input.u32()?, grace_ms: input.u32()? })).transpose()
    }
}

/// A client's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose it is.
    pub user: UserName,
    /// From where it was opened.
    pub peer: SocketAddr,
    /// The request id of the NEW_SESS that opened it.
    pub xid: u64,
    /// The place of that NEW_SESS in the order of the session's requests: of a plain session its packet number.
    pub order: u64,
    /// The highest order among the requests executed.
    pub last_order: u64,
    /// What an extended session agreed on; `None` for a plain one.
    pub terms: Option<Terms>,
    /// The number that the next handle gets.
    pub next_fh: u64,
    /// The handles, in the order of their numbers.
    pub handles: Vec<Handle>,
    /// Replies that the client has not acknowledged, by request id, in the order of execution.
    pub replies: Vec<(u64, Reply)>,
}

/// What is known of a request before it is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Never seen.
    No,
    /// Executed, with this reply.
    Executed(Reply),
    /// Executed, and its reply acknowledged.
    Settled,
    /// Never seen, and there is no room to record its reply.
    NoRoom,
}

impl Session {
    pub(super) const fn new(
        user: UserName,
        peer: SocketAddr,
        xid: u64,
        order: u64,
        terms: Option<Terms>,
    ) -> Self {
        Self {
            user,
            peer,
            xid,
            order,
            last_order: order,
            terms,
            next_fh: FIRST_FH,
            handles: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// A handle by its number.
    #[must_use]
    pub fn handle(&self, fh: u64) -> Option<&Handle> {
        let at = self.handles.binary_search_by_key(&fh, |handle| handle.fh).ok()?;
        self.handles.get(at)
    }

    /// What it has beside its handles and replies: the beginning of its encoding.
    pub(super) fn encode(&self, sid: u64, out: &mut Writer) {
        out.u64(sid);
        encode_user(&self.user, out);
        out.socket_addr(self.peer);
        for field in [self.xid, self.order, self.last_order, self.next_fh] {
            out.u64(field);
        }
        Terms::encode(self.terms, out);
    }

    /// The replies that it keeps: the end of its encoding.
    pub(super) fn encode_replies(&self, out: &mut Writer) {
        out.count(self.replies.len());
        for &(xid, reply) in &self.replies {
            out.u64(xid);
            reply.encode(out);
        }
    }

    /// Its part of the digest. Handles are items of their own.
    fn item(&self, sid: u64) -> Digest {
        Digest::of(Item::Session, |out| {
            self.encode(sid, out);
            self.encode_replies(out);
        })
    }

    /// The part of a session with its handles in the digest.
    fn items(&self, sid: u64) -> Digest {
        let mut digest = self.item(sid);
        self.handles.iter().for_each(|handle| digest.add(handle.item(sid)));
        digest
    }

    /// Looks a request up by its id, and by its order: that only grows (modulo 2^64), so that a request that is not
    /// above the last one executed was itself executed, even if its reply is settled and forgotten.
    pub(super) fn seen(&self, xid: u64, order: u64) -> Seen {
        if let Some(&(_, reply)) = self.replies.iter().find(|(recorded, _)| *recorded == xid) {
            Seen::Executed(reply)
        } else if order.wrapping_sub(self.last_order).cast_signed() <= 0 {
            Seen::Settled
        } else if self.replies.len() >= REPLIES_MAX {
            Seen::NoRoom
        } else {
            Seen::No
        }
    }
}

/// Appends to a list that mostly has one item: an idle session's handle, or its last reply.
fn push_small<T>(list: &mut Vec<T>, item: T) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
    list.push(item);
}

/// All sessions, with the indexes that follow from them.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    map: OrdMap<u64, Arc<Session>>,
    /// Every handle on a file that exists, by inode, session and number.
    openers: OrdSet<(u64, u64, u64)>,
    usage: OrdMap<UserName, Usage>,
    /// The number of sessions and handles of all users.
    total: Usage,
    /// That of all sessions and handles.
    digest: Digest,
}

impl Sessions {
    pub(super) fn get(&self, sid: u64) -> Option<&Session> {
        self.map.get(&sid).map(Arc::as_ref)
    }

    /// Changes a session, but for its handles.
    fn change<T>(&mut self, sid: u64, change: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let session = self.map.get_mut(&sid).map(Arc::make_mut)?;
        self.digest.remove(session.item(sid));
        let changed = change(session);
        self.digest.add(session.item(sid));
        Some(changed)
    }

    /// Changes a handle; its file only through [`Self::orphan`].
    pub(super) fn change_handle<T>(
        &mut self,
        owner: Owner,
        change: impl FnOnce(&mut Handle) -> T,
    ) -> Option<T> {
        let session = self.map.get_mut(&owner.sid).map(Arc::make_mut)?;
        let at = session.handles.binary_search_by_key(&owner.fh, |handle| handle.fh).ok()?;
        let handle = session.handles.get_mut(at)?;
        self.digest.remove(handle.item(owner.sid));
        let changed = change(handle);
        self.digest.add(handle.item(owner.sid));
        Some(changed)
    }

    /// Records the reply to a request that was executed.
    pub(super) fn record(&mut self, sid: u64, xid: u64, order: u64, reply: Reply) {
        self.change(sid, |session| {
            session.last_order = order;
            push_small(&mut session.replies, (xid, reply));
        });
    }

    /// The part of all sessions and handles in the digest.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// The same, worked out anew.
    pub(super) fn recomputed_digest(&self) -> Digest {
        let mut digest = Digest::default();
        self.from(0).for_each(|(sid, session)| digest.add(session.items(sid)));
        digest
    }

    /// All sessions from `sid` on, in the order of their ids.
    pub(super) fn from(&self, sid: u64) -> impl Iterator<Item = (u64, &Session)> {
        self.map.range(sid..).map(|(&sid, session)| (sid, session.as_ref()))
    }

    pub(super) fn usage(&self, user: &UserName) -> Usage {
        self.usage.get(user).copied().unwrap_or_default()
    }

    pub(super) const fn total(&self) -> Usage {
        self.total
    }

    /// The number of handles on files that exist.
    pub(super) fn open_handles(&self) -> usize {
        self.openers.len()
    }

    /// The handles on a file, by session and number.
    pub(super) fn openers(&self, inode: u64) -> Vec<Owner> {
        let handles = self.openers.range((inode, 0, 0)..=(inode, u64::MAX, u64::MAX));
        handles.map(|&(_, sid, fh)| Owner { sid, fh }).collect()
    }

    /// Adds a session, with the handles it has.
    pub(super) fn insert(&mut self, sid: u64, session: Session) {
        self.count(&session.user, |usage| {
            usage.sessions = usage.sessions.saturating_add(1);
            usage.handles = usage.handles.saturating_add(session.handles.len() as u64);
        });
        for handle in &session.handles {
            if let Some(inode) = handle.inode {
                self.openers.insert((inode, sid, handle.fh));
            }
        }
        self.digest.add(session.items(sid));
        self.map.insert(sid, Arc::new(session));
    }

    /// Removes a session with its handles.
    pub(super) fn remove(&mut self, sid: u64) -> Option<Arc<Session>> {
        let session = self.map.remove(&sid)?;
        self.digest.remove(session.items(sid));
        for handle in &session.handles {
            if let Some(inode) = handle.inode {
                self.openers.remove(&(inode, sid, handle.fh));
            }
        }
        self.count(&session.user, |usage| {
            usage.sessions = usage.sessions.saturating_sub(1);
            usage.handles = usage.handles.saturating_sub(session.handles.len() as u64);
        });
        Some(session)
    }

    /// Adds a handle to a session; its number.
    pub(super) fn open(&mut self, sid: u64, inode: u64, mode: OpenMode, events: EventMask) -> Option<u64> {
        let (fh, user, item) = self.change(sid, |session| {
            let fh = session.next_fh;
            session.next_fh = fh.saturating_add(1);
            let pending = Vec::new();
            let handle = Handle { fh, inode: Some(inode), ticket: None, mode, events, pending, serial: 0 };
            let item = handle.item(sid);
            push_small(&mut session.handles, handle);
            (fh, session.user, item)
        })?;
        self.digest.add(item);
        self.openers.insert((inode, sid, fh));
        self.count(&user, |usage| usage.handles = usage.handles.saturating_add(1));
        Some(fh)
    }

    /// Removes a handle.
    pub(super) fn close(&mut self, owner: Owner) -> Option<Handle> {
        let session = self.map.get_mut(&owner.sid).map(Arc::make_mut)?;
        let at = session.handles.binary_search_by_key(&owner.fh, |handle| handle.fh).ok()?;
        let handle = session.handles.remove(at);
        self.digest.remove(handle.item(owner.sid));
        let user = session.user;
        if let Some(inode) = handle.inode {
            self.openers.remove(&(inode, owner.sid, owner.fh));
        }
        self.count(&user, |usage| usage.handles = usage.handles.saturating_sub(1));
        Some(handle)
    }

    /// Takes the file away from a handle, which stays without one.
    pub(super) fn orphan(&mut self, owner: Owner) {
        let inode = self.change_handle(owner, |handle| {
            handle.ticket = None;
            handle.pending = Vec::new();
            handle.inode.take()
        });
        if let Some(inode) = inode.flatten() {
            self.openers.remove(&(inode, owner.sid, owner.fh));
        }
    }

    /// Forgets what the client has acknowledged. Who has an event has those of its handle before it, as they are told in
    /// order; what was never told cannot be acknowledged.
    pub(super) fn settle(&mut self, sid: u64, settled: &Settled) {
        if !settled.replies.is_empty() {
            self.change(sid, |session| {
                session.replies.retain(|(xid, _)| !settled.replies.contains(xid));
                if session.replies.is_empty() {
                    session.replies = Vec::new();
                }
            });
        }
        for &(fh, serial) in &settled.events {
            let owner = Owner { sid, fh };
            let is_done = self.change_handle(owner, |handle| {
                let is_told = serial <= handle.serial;
                if is_told {
                    handle.keep_pending(|pending| pending.serial > serial);
                }
                is_told && handle.inode.is_none() && handle.pending.is_empty()
            });
            if is_done == Some(true) {
                self.close(owner);
            }
        }
    }

    fn count(&mut self, user: &UserName, change: impl Fn(&mut Usage)) {
        change(&mut self.total);
        let mut usage = self.usage(user);
        change(&mut usage);
        if usage == Usage::default() {
            self.usage.remove(user);
        } else {
            self.usage.insert(*user, usage);
        }
    }
}
