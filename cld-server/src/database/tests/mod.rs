//! Tests of the replicated state, through `apply` and the reads alone. Numbers in comments are those of failures.md.

mod events;
mod exactly_once;
mod files;
mod limits;
mod locks;
mod random;
mod random_locks;
mod sequencers;
mod sessions;
mod settings;
mod snapshots;

use super::*;
use crate::keys::Secret;
use crate::versions::SUPPORTED;
use cldc_core::wire::codes::{EventMask, LockFlags};
use settings::add;
use std::collections::BTreeMap;
use std::net::SocketAddr;

const READ: OpenMode = OpenMode::READ;
const WRITE: OpenMode = OpenMode::WRITE;
const LOCK: OpenMode = OpenMode::LOCK;
const CREATE: OpenMode = OpenMode::CREATE;
const EXCL: OpenMode = OpenMode::EXCL;
const DIRECTORY: OpenMode = OpenMode::DIRECTORY;
const NONE: EventMask = EventMask::NONE;
const UPDATED: EventMask = EventMask::UPDATED;
const DELETED: EventMask = EventMask::DELETED;
const LOCKED: EventMask = EventMask::LOCKED;

/// A database with clients that send requests in order and acknowledge every reply at once, and no event.
/// After every command it is checked that the state is in order.
struct Cell {
    db: Database,
    at: u64,
    /// Of each session, the last packet number, which is the last request's id as well.
    numbers: BTreeMap<u64, u64>,
}

impl Cell {
    /// A cell in its first epoch, with sessions 1, 2 and 3 of the same user.
    fn new() -> Self {
        let mut cell = Self { db: Database::new(), at: 1000, numbers: BTreeMap::new() };
        cell.epoch(1);
        for sid in 1..=3 {
            assert_eq!(cell.session(sid, "alice").reply, Some(Reply::OK));
        }
        cell
    }

    fn apply(&mut self, epoch: u64, action: Action) -> Effects {
        let effects = self.db.apply(&Command { at: self.at, epoch, action });
        assert_in_order(&self.db);
        effects
    }

    fn epoch(&mut self, epoch: u64) {
        assert_eq!(self.apply(epoch, Action::BeginEpoch), Effects::default());
    }

    fn session(&mut self, sid: u64, user: &str) -> Effects {
        self.numbers.insert(sid, 100);
        self.apply(self.db.epoch(), open_session(sid, user, 100))
    }

    fn expire(&mut self, sid: u64) -> Effects {
        self.apply(self.db.epoch(), Action::ExpireSession { sid })
    }

    /// Sends a session's next request.
    fn write(&mut self, sid: u64, write: Write) -> Effects {
        let number = self.numbers.entry(sid).or_insert(100);
        *number += 1;
        let (xid, settled) = (*number, Settled { replies: vec![*number - 1], events: vec![] });
        self.request(sid, xid, xid, settled, write)
    }

    fn request(&mut self, sid: u64, xid: u64, order: u64, settled: Settled, write: Write) -> Effects {
        self.apply(self.db.epoch(), Action::Request { sid, xid, order, settled, write })
    }

    fn code(&mut self, sid: u64, write: Write) -> Code {
        match self.write(sid, write).reply {
            Some(Reply::Code(code)) => code,
            Some(Reply::Opened(_) | Reply::Locked { .. }) => Code::Ok,
            None => panic!("no reply"),
        }
    }

    /// Opens a path that can be opened; the handle.
    fn open(&mut self, sid: u64, path: &str, mode: OpenMode, events: EventMask) -> u64 {
        match self.write(sid, open(path, mode, events)).reply {
            Some(Reply::Opened(fh)) => fh,
            other => panic!("{path} cannot be opened: {other:?}"),
        }
    }

    fn lock(&mut self, sid: u64, fh: u64) -> Code {
        self.code(sid, Write::Lock { fh, flags: LockFlags::NONE, wait: true })
    }

    fn share(&mut self, sid: u64, fh: u64) -> Code {
        self.code(sid, Write::Lock { fh, flags: LockFlags::SHARED, wait: true })
    }

    fn try_lock(&mut self, sid: u64, fh: u64) -> Code {
        self.code(sid, Write::Lock { fh, flags: LockFlags::NONE, wait: false })
    }

    /// Tells that a client has acknowledged the event of this serial number.
    fn settle(&mut self, sid: u64, fh: u64, serial: u64) {
        let number = self.numbers.entry(sid).or_insert(100);
        *number += 1;
        let (xid, settled) = (*number, Settled { replies: vec![*number - 1], events: vec![(fh, serial)] });
        self.request(sid, xid, xid, settled, Write::Close { fh: 999_999 });
    }

    fn get(&self, sid: u64, fh: u64) -> Result<Vec<u8>, Code> {
        self.db.get(sid, fh).map(|file| file.data.to_vec())
    }

    fn version(&self, path: &str) -> u64 {
        self.db.stat(path.as_bytes()).unwrap().version
    }

    /// The sessions that hold and that wait for a file's lock.
    fn queue(&self, path: &str) -> (Vec<u64>, Vec<u64>) {
        let inode = self.db.stat(path.as_bytes()).unwrap().inode;
        let (holders, waiters): (Vec<_>, Vec<_>) = self.db.lock_queue(inode).partition(|(_, holds)| *holds);
        let sids = |side: Vec<(Claim, bool)>| side.iter().map(|(claim, _)| claim.owner.sid).collect();
        (sids(holders), sids(waiters))
    }
}

fn open_session(sid: u64, user: &str, number: u64) -> Action {
    open_extended(sid, user, number, None)
}

fn open_extended(sid: u64, user: &str, number: u64, terms: Option<Terms>) -> Action {
    let user = UserName::new(user.as_bytes()).unwrap();
    Action::OpenSession { sid, user, peer: peer(9000), xid: number, order: number, terms }
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn open(path: &str, mode: OpenMode, events: EventMask) -> Write {
    Write::Open { mode, events, path: path.as_bytes().into() }
}

fn put(fh: u64, data: &[u8]) -> Write {
    Write::Put { fh, data: data.into(), fence: None }
}

fn del(path: &str) -> Write {
    Write::Del { path: path.as_bytes().into(), fence: None }
}

/// The events of a command, without their numbers.
fn told(effects: &Effects) -> Vec<(u64, u64, EventMask)> {
    effects.events.iter().map(|notice| (notice.sid, notice.fh, notice.events)).collect()
}

/// What must hold of every state that commands can lead to.
fn assert_in_order(db: &Database) {
    // All that is derived (names, children, list lengths, holders, openers, sums) is as it would be derived anew.
    let read_back = Snapshot::decode(snapshot(db).as_slice(), SUPPORTED).unwrap();
    assert_eq!(format!("{db:?}"), format!("{read_back:?}"));
    assert_eq!(db.digest(), db.recomputed_digest());

    let mut claims = 0;
    for (sid, session) in db.sessions() {
        assert!(session.replies.len() <= REPLIES_MAX);
        for handle in &session.handles {
            assert!(handle.fh < session.next_fh);
            let inode = handle.inode.unwrap_or(0);
            let queued = db.lock_queue(inode).any(|(claim, _)| claim.owner == Owner { sid, fh: handle.fh });
            assert_eq!(queued, handle.ticket.is_some(), "a claim and its handle know of each other");
            claims += u64::from(queued);
        }
    }
    assert_eq!(db.totals().claims, claims, "every claim has a session and a handle");

    for (inode, _) in db.namespace.from(0) {
        let queue: Vec<_> = db.lock_queue(inode).collect();
        let holders = queue.iter().take_while(|(_, holds)| *holds).count();
        let (held, waiting) = queue.split_at(holders);
        assert!(waiting.iter().all(|(_, holds)| !holds), "nobody is overtaken");
        assert!(
            holders <= 1 || held.iter().all(|(claim, _)| claim.shared),
            "an exclusive lock has one holder"
        );
        if let Some((next, _)) = waiting.first() {
            let compatible = next.shared && held.iter().all(|(claim, _)| claim.shared);
            assert!(holders > 0 && !compatible, "who could hold the lock is not left waiting");
        }
        assert!(holders == 0 || db.lock_generation(inode) > 0);
    }
}

fn snapshot(db: &Database) -> Vec<u8> {
    Snapshot::encode(db).flatten().collect()
}
