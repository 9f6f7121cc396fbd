//! What the servers of a cell have in common: files, handles, locks, and the answers that were given.

use std::collections::{BTreeMap, BTreeSet};

use cldc_core::wire::extended::Sequencer;
use cldc_core::wire::limits::MAX_MESSAGE;
use cldc_core::wire::{Answer, Code, LockFlags, Metadata, Op, OpenMode, Writer, dirent};

use super::peer::{Asked, body};

/// The number of every file: one is enough for these tests.
const INODE: u64 = 7;

#[derive(Default)]
pub(super) struct Cell {
    /// The extended sessions.
    pub(super) sids: BTreeSet<u64>,
    /// See [`Peer::proposed`](super::Peer::proposed).
    pub(super) proposed: Option<u32>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) handles: BTreeMap<u64, String>,
    pub(super) serial: u64,
    /// The locks that are held, by handle.
    locks: BTreeMap<u64, Held>,
    last_fh: u64,
    last_generation: u64,
    /// What extended sessions were answered, by the request's xid.
    pub(super) answers: BTreeMap<u64, (Op, Vec<u8>)>,
}

#[derive(Clone, Copy)]
pub(super) struct Held {
    generation: u64,
    shared: bool,
}

impl Held {
    pub(super) fn on_wire(self, path: &str) -> Sequencer<'_> {
        let mode = if self.shared { LockFlags::SHARED } else { LockFlags::NONE };
        Sequencer { inode: INODE, generation: self.generation, mode, path: path.as_bytes() }
    }
}

impl Cell {
    /// Does what is asked; gives the body of the answer.
    pub(super) fn execute(&mut self, op: Op, xid: u64, asked: &Asked, fencing: bool) -> Vec<u8> {
        let done = |code| body(&Answer::Done { op, xid, code });
        match asked {
            Asked::Open { path, mode, .. } => {
                if !self.files.contains_key(path) && path != "/" {
                    if !mode.contains(OpenMode::CREATE) {
                        return done(Code::NameInval);
                    }
                    self.files.insert(path.clone(), Vec::new());
                }
                self.last_fh += 1;
                self.handles.insert(self.last_fh, path.clone());
                body(&Answer::Opened { xid, fh: self.last_fh })
            }
            Asked::Get(fh) | Asked::GetMeta(fh) => {
                let path = &self.handles[fh];
                let mut data = match path.as_str() {
                    "/" => names(self.files.keys()),
                    file => self.files[file].clone(),
                };
                let metadata = Metadata { inode: INODE, version: data.len() as u64, ..Metadata::default() };
                if op == Op::GetMeta {
                    data.clear();
                }
                body(&Answer::Contents { xid, metadata, path: path.as_bytes(), data: &data })
            }
            Asked::PutFenced(_, generation, _) | Asked::DelFenced(_, generation)
                if !self.stands(*generation) =>
            {
                done(Code::Stale)
            }
            Asked::Put(fh, data) | Asked::PutFenced(fh, _, data) => {
                self.files.insert(self.handles[fh].clone(), data.clone());
                done(Code::Ok)
            }
            Asked::Close(fh) => {
                self.unlock(*fh);
                let known = self.handles.remove(fh).is_some();
                done(if known { Code::Ok } else { Code::FhInval })
            }
            Asked::Del(path) | Asked::DelFenced(path, _) => {
                let known = self.files.remove(path).is_some();
                done(if known { Code::Ok } else { Code::NameInval })
            }
            Asked::Lock { fh, shared, .. } if fencing => {
                let held = self.grant(*fh, *shared);
                self.with_sequencer(done(Code::Ok), *fh, held)
            }
            Asked::Unlock(fh) => {
                self.unlock(*fh);
                done(Code::Ok)
            }
            Asked::GetSequencer(fh) => match self.locks.get(fh) {
                Some(&held) => self.with_sequencer(done(Code::Ok), *fh, held),
                None => done(Code::LockInval),
            },
            Asked::CheckSequencer(inode, generation) => {
                let stands = *inode == INODE && self.stands(*generation);
                done(if stands { Code::Ok } else { Code::Stale })
            }
            _ => done(Code::Ok),
        }
    }

    pub(super) fn grant(&mut self, fh: u64, shared: bool) -> Held {
        self.last_generation += 1;
        let held = Held { generation: self.last_generation, shared };
        self.locks.insert(fh, held);
        held
    }

    pub(super) fn unlock(&mut self, fh: u64) {
        self.locks.remove(&fh);
    }

    pub(super) fn is_locked(&self, fh: u64) -> bool {
        self.locks.contains_key(&fh)
    }

    fn stands(&self, generation: u64) -> bool {
        self.locks.values().any(|held| held.generation == generation)
    }

    fn with_sequencer(&self, mut body: Vec<u8>, fh: u64, held: Held) -> Vec<u8> {
        let mut buffer = [0; 512];
        let mut out = Writer::new(&mut buffer);
        held.on_wire(&self.handles[&fh]).emit(&mut out).unwrap();
        body.extend_from_slice(out.written());
        body
    }
}

fn names<'a>(paths: impl Iterator<Item = &'a String>) -> Vec<u8> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut out = Writer::new(&mut buffer);
    for path in paths {
        dirent::emit(path.trim_start_matches('/').as_bytes(), &mut out).unwrap();
    }
    out.written().to_vec()
}
