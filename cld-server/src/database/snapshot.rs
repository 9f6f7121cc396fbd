//! The whole state as bytes, in bounded pieces, and back.
//!
//! A snapshot is the cell's version (32 bits) and records, each behind its length (32 bits): the header, the users in the order of
//! their names, the inodes in the order of their numbers (so that a directory precedes its children), the sessions in the
//! order of their ids, the end.
//! Only what cannot be derived is stored; indexes, sums, children and the holders of locks are worked out again, so
//! that they cannot contradict the rest. The end says what digest the state has, and what is decoded must have it.

use super::Database;
use super::command::{decode_user, encode_user};
use super::digest::Digest;
use super::effects::Reply;
use super::handle::{Handle, Pending};
use super::limits::{HANDLES_MAX, Limits, REPLIES_MAX};
use super::lock::{Claim, Locks, Owner};
use super::namespace::{Body, Inode, Namespace};
use super::session::{Session, Sessions, Terms, UserName};
use super::users::{USERS_MAX, Users, decode_secret, encode_secret};
use crate::codec::{CodecError, Reader, Writer};
use crate::versions::Versions;
use cldc_core::wire::codes::{EventMask, OpenMode};
use cldc_core::wire::limits::{MAX_PATH, MAX_PAYLOAD};
use std::io::Read;

/// A piece is given out once it has this length.
const CHUNK: usize = 64 << 10;
/// Longest record: that of a session with [`HANDLES_MAX`] handles and two events pending on each. That of the longest
/// file is shorter.
const RECORD_MAX: usize = 180 << 10;

const HEADER: u8 = 0;
const INODE: u8 = 1;
const SESSION: u8 = 2;
const END: u8 = 3;
const USER: u8 = 4;

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Reading failed, or the data ended early.
    #[error("cannot read the snapshot: {0}")]
    Read(#[from] std::io::Error),
    /// The bytes are no snapshot, or one of a version of the cell that this server cannot apply.
    #[error("the snapshot is malformed: {0}")]
    Malformed(#[from] CodecError),
    /// The values contradict each other.
    #[error("the snapshot contradicts itself: {kind} {id}: {problem}")]
    Inconsistent {
        /// What is wrong: a user, an inode, a session.
        kind: &'static str,
        /// Which one.
        id: u64,
        /// How.
        problem: &'static str,
    },
}

/// The pieces of a snapshot, made one after the other while the database goes on: each at most 64 KiB and a record long.
#[derive(Clone, Debug)]
pub struct Snapshot {
    database: Database,
    next: Next,
}

/// What the next piece begins with.
#[derive(Clone, Copy, Debug)]
enum Next {
    Header,
    /// The one after this.
    User(Option<UserName>),
    Inode(u64),
    Session(u64),
    Nothing,
}

impl Snapshot {
    /// The snapshot of the database as it is now.
    #[must_use]
    pub fn encode(database: &Database) -> Self {
        Self { database: database.clone(), next: Next::Header }
    }

    /// The database of a snapshot, for a server that can apply these versions of the cell.
    ///
    /// # Errors
    /// [`SnapshotError`], if anything is not as [`Self::encode`] writes it. At most one record is in memory beside
    /// what is being built.
    pub fn decode(mut input: impl Read, can: Versions) -> Result<Database, SnapshotError> {
        let mut version = [0; 4];
        input.read_exact(&mut version)?;
        let version = u32::from_be_bytes(version);
        can.check("the snapshot", version).map_err(CodecError::CellVersion)?;
        let mut record = Vec::new();
        let mut database = decode_header(version, next_record(&mut input, &mut record, HEADER)?)?;
        loop {
            next_record_of_any_kind(&mut input, &mut record)?;
            let mut fields = Reader::new(&record);
            match fields.u8()? {
                USER => decode_listed(fields, &mut database)?,
                INODE => decode_inode(fields, &mut database)?,
                SESSION => decode_session(fields, &mut database)?,
                END => {
                    finish(fields, &mut database)?;
                    break;
                }
                other => {
                    return Err(CodecError::Invalid { what: "kind of record", value: other.into() }.into());
                }
            }
        }
        match input.read(&mut [0])? {
            0 => Ok(database),
            more => Err(CodecError::Trailing(more).into()),
        }
    }
}

impl Iterator for Snapshot {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut out = Writer::new();
        let database = &self.database;
        if let Next::Header = self.next {
            out.u32(database.version);
            record(&mut out, |out| encode_header(database, out));
            self.next = Next::User(None);
        }
        if let Next::User(mut last) = self.next {
            for name in database.users.names_after(last) {
                if out.len() >= CHUNK {
                    self.next = Next::User(last);
                    return Some(out.into_vec());
                }
                record(&mut out, |out| encode_listed(name, &database.users, out));
                last = Some(*name);
            }
            self.next = Next::Inode(0);
        }
        if let Next::Inode(first) = self.next {
            for (number, inode) in database.namespace.from(first) {
                if out.len() >= CHUNK {
                    self.next = Next::Inode(number);
                    return Some(out.into_vec());
                }
                record(&mut out, |out| encode_inode(number, inode, database.locks.generation(number), out));
            }
            self.next = Next::Session(0);
        }
        if let Next::Session(first) = self.next {
            for (sid, session) in database.sessions.from(first) {
                if out.len() >= CHUNK {
                    self.next = Next::Session(sid);
                    return Some(out.into_vec());
                }
                record(&mut out, |out| encode_session(sid, session, &database.locks, out));
            }
            record(&mut out, |out| {
                out.u8(END);
                out.count(database.users.len());
                out.count(database.namespace.len());
                out.u64(database.sessions.total().sessions);
                database.digest().encode(out);
            });
            self.next = Next::Nothing;
            return Some(out.into_vec());
        }
        None
    }
}

/// Writes a record behind its length.
fn record(out: &mut Writer, fill: impl FnOnce(&mut Writer)) {
    let mut fields = Writer::new();
    fill(&mut fields);
    out.bytes(fields.as_slice());
}

/// Reads a record.
fn next_record_of_any_kind(input: &mut impl Read, record: &mut Vec<u8>) -> Result<(), SnapshotError> {
    let mut len = [0; 4];
    input.read_exact(&mut len)?;
    let length = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
    if length > RECORD_MAX {
        return Err(CodecError::TooLong { length, limit: RECORD_MAX }.into());
    }
    record.resize(length, 0);
    input.read_exact(record)?;
    Ok(())
}

/// Reads a record of one kind; its fields.
fn next_record<'a>(
    input: &mut impl Read,
    record: &'a mut Vec<u8>,
    kind: u8,
) -> Result<Reader<'a>, SnapshotError> {
    next_record_of_any_kind(input, record)?;
    let mut fields = Reader::new(record);
    match fields.u8()? {
        found if found == kind => Ok(fields),
        found => Err(CodecError::Invalid { what: "kind of record", value: found.into() }.into()),
    }
}

pub(super) fn encode_header(database: &Database, out: &mut Writer) {
    out.u8(HEADER);
    out.u64(database.epoch);
    database.limits.encode(out);
    out.bool(database.adopted);
    out.bool(database.users.user_as_key());
    out.u64(database.namespace.next_inode());
    out.u64(database.locks.next_ticket());
}

fn decode_header(version: u32, mut fields: Reader<'_>) -> Result<Database, SnapshotError> {
    let epoch = fields.u64()?;
    let limits = Limits::decode(&mut fields)?.clamped();
    let (adopted, mut users) = (fields.bool()?, Users::default());
    users.set_user_as_key(fields.bool()?);
    let namespace = Namespace::empty(fields.u64()?);
    let locks = Locks::new(fields.u64()?.max(1));
    fields.finish()?;
    Ok(Database { version, epoch, limits, users, adopted, namespace, sessions: Sessions::default(), locks })
}

fn encode_listed(name: &UserName, users: &Users, out: &mut Writer) {
    out.u8(USER);
    encode_user(name, out);
    if let Some(secret) = users.secret(name) {
        encode_secret(secret, out);
    }
}

fn decode_listed(mut fields: Reader<'_>, database: &mut Database) -> Result<(), SnapshotError> {
    let name = decode_user(&mut fields)?;
    let secret = decode_secret(&mut fields)?;
    fields.finish()?;
    let count = database.users.len();
    let wrong = |problem| SnapshotError::Inconsistent { kind: "user", id: count as u64, problem };
    if count >= USERS_MAX || database.users.names_after(None).next_back().is_some_and(|last| *last >= name) {
        return Err(wrong("there are too many, or they are out of order"));
    }
    database.users.insert(name, secret);
    Ok(())
}

fn encode_inode(number: u64, inode: &Inode, lock_generation: u64, out: &mut Writer) {
    out.u8(INODE);
    for field in [number, inode.version, inode.created, inode.modified, lock_generation] {
        out.u64(field);
    }
    out.bytes(&inode.path);
    match &inode.body {
        Body::Directory { .. } => out.bool(true),
        Body::File(data, _) => {
            out.bool(false);
            out.bytes(data);
        }
    }
}

fn decode_inode(mut fields: Reader<'_>, database: &mut Database) -> Result<(), SnapshotError> {
    let number = fields.u64()?;
    let (version, created, modified) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let lock_generation = fields.u64()?;
    let path = fields.bytes(MAX_PATH)?.into();
    let body = match fields.bool()? {
        true => Body::Directory { listing: 0 },
        false => Body::file(fields.bytes(MAX_PAYLOAD)?.into()),
    };
    fields.finish()?;
    let inode = Inode { path, version, created, modified, body };
    let wrong = |problem| SnapshotError::Inconsistent { kind: "inode", id: number, problem };
    database.namespace.restore(number, inode).map_err(wrong)?;
    database.locks.restore_generation(number, lock_generation);
    Ok(())
}

fn encode_session(sid: u64, session: &Session, locks: &Locks, out: &mut Writer) {
    out.u8(SESSION);
    session.encode(sid, out);
    out.count(session.handles.len());
    for handle in &session.handles {
        encode_handle(handle, locks, out);
    }
    session.encode_replies(out);
}

/// The shortest that a handle, a pending event and a reply can be.
const HANDLE_MIN: usize = 8 + 4 + 4 + 8 + 4 + 1;
const PENDING_MIN: usize = 4 + 8 + 8;
/// So many kinds of events there can be.
const EVENT_KINDS: usize = 32;
const REPLY_MIN: usize = 8 + 1 + 4;

fn decode_session(mut fields: Reader<'_>, database: &mut Database) -> Result<(), SnapshotError> {
    let sid = fields.u64()?;
    let wrong = |problem| SnapshotError::Inconsistent { kind: "session", id: sid, problem };
    let (user, peer) = (decode_user(&mut fields)?, fields.socket_addr()?);
    let mut session = Session::new(user, peer, fields.u64()?, fields.u64()?, None);
    session.last_order = fields.u64()?;
    session.next_fh = fields.u64()?;
    session.terms = Terms::decode(&mut fields)?;
    let handles_max = usize::try_from(HANDLES_MAX).unwrap_or(usize::MAX);
    for _ in 0..fields.count(handles_max, HANDLE_MIN)? {
        let handle = decode_handle(&mut fields, sid, &mut database.locks)?;
        let follows = session.handles.last().is_none_or(|previous| previous.fh < handle.fh);
        if !follows || handle.fh >= session.next_fh {
            return Err(wrong("its handles are out of order"));
        }
        if handle.inode.is_some_and(|inode| database.namespace.get(inode).is_none()) {
            return Err(wrong("a handle's file is missing"));
        }
        session.handles.push(handle);
    }
    for _ in 0..fields.count(REPLIES_MAX, REPLY_MIN)? {
        let (xid, reply) = (fields.u64()?, Reply::decode(&mut fields)?);
        if session.replies.iter().any(|(other, _)| *other == xid) {
            return Err(wrong("it has two replies to one request"));
        }
        session.replies.push((xid, reply));
    }
    fields.finish()?;
    if database.sessions.from(sid).next().is_some() {
        return Err(wrong("the sessions are out of order"));
    }
    database.sessions.insert(sid, session);
    Ok(())
}

/// What a handle has of its file.
const NO_FILE: u8 = 0;
const FILE: u8 = 1;
const SHARED_CLAIM: u8 = 2;
const EXCLUSIVE_CLAIM: u8 = 3;

fn encode_handle(handle: &Handle, locks: &Locks, out: &mut Writer) {
    handle.encode(out);
    let Some(inode) = handle.inode else { return out.u8(NO_FILE) };
    match handle.ticket.and_then(|ticket| Some((ticket, locks.claim(inode, ticket)?))) {
        None => {
            out.u8(FILE);
            out.u64(inode);
        }
        Some((ticket, claim)) => {
            out.u8(if claim.shared { SHARED_CLAIM } else { EXCLUSIVE_CLAIM });
            out.u64(inode);
            out.u64(ticket);
        }
    }
}

fn decode_handle(fields: &mut Reader<'_>, sid: u64, locks: &mut Locks) -> Result<Handle, SnapshotError> {
    let fh = fields.u64()?;
    let wrong = |problem| SnapshotError::Inconsistent { kind: "handle", id: fh, problem };
    let (mode, events) = (OpenMode(fields.u32()?), EventMask(fields.u32()?));
    let serial = fields.u64()?;
    let pending = decode_pending(fields)?;
    let serials = pending.iter().map(|pending| pending.serial).chain([serial.saturating_add(1)]);
    if !serials.is_sorted_by(|one, next| one < next) {
        return Err(wrong("its events are out of order"));
    }
    let deleted = matches!(pending[..], [Pending { event: EventMask::DELETED, .. }]);
    let (inode, ticket) = match fields.u8()? {
        NO_FILE if deleted => (None, None),
        NO_FILE => return Err(wrong("it has no file, and no deletion to be told of")),
        FILE => (Some(fields.u64()?), None),
        kind @ (SHARED_CLAIM | EXCLUSIVE_CLAIM) => {
            let (inode, ticket) = (fields.u64()?, fields.u64()?);
            let claim = Claim { owner: Owner { sid, fh }, shared: kind == SHARED_CLAIM };
            if !mode.contains(OpenMode::LOCK) || !locks.restore_claim(inode, ticket, claim) {
                return Err(wrong("its lock was never given out"));
            }
            (Some(inode), Some(ticket))
        }
        other => return Err(CodecError::Invalid { what: "kind of handle", value: other.into() }.into()),
    };
    Ok(Handle { fh, inode, ticket, mode, events, pending, serial })
}

fn decode_pending(fields: &mut Reader<'_>) -> Result<Vec<Pending>, CodecError> {
    let mut all: Vec<Pending> = Vec::new();
    for _ in 0..fields.count(EVENT_KINDS, PENDING_MIN)? {
        let event = EventMask(fields.u32()?);
        if event.0.count_ones() != 1 || all.iter().any(|pending| pending.event == event) {
            return Err(CodecError::Invalid { what: "kind of event", value: event.0.into() });
        }
        all.reserve_exact(1);
        all.push(Pending { event, version: fields.u64()?, serial: fields.u64()? });
    }
    Ok(all)
}

fn finish(mut fields: Reader<'_>, database: &mut Database) -> Result<(), SnapshotError> {
    let users = usize::try_from(fields.u32()?).unwrap_or(usize::MAX);
    let inodes = usize::try_from(fields.u32()?).unwrap_or(usize::MAX);
    let sessions = fields.u64()?;
    let digest = Digest::decode(&mut fields)?;
    fields.finish()?;
    let wrong = |kind, id, problem| SnapshotError::Inconsistent { kind, id, problem };
    if users != database.users.len() {
        return Err(wrong("end", users as u64, "not as many users as it says"));
    }
    if inodes != database.namespace.len() || inodes == 0 {
        return Err(wrong("end", inodes as u64, "not as many inodes as it says, or no root"));
    }
    if sessions != database.sessions.total().sessions {
        return Err(wrong("end", sessions, "not as many sessions as it says"));
    }
    database.locks.restore_holders();
    if database.digest() != digest {
        return Err(wrong("end", 0, "the state has not the digest that it had when it was written"));
    }
    Ok(())
}
