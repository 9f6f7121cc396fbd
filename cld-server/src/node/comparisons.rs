//! Whether the replicas have the same state: their digests behind the same entries of the log, compared.
//!
//! Now and then the master puts [`Action::CompareDigests`](crate::database::Action) into the log. Each replica notes its
//! digest behind that entry and tells all others, again every second; each judges for itself by what the voters say. Where a
//! majority of them has one digest, those with another stop. Where none can have a majority, all stop: nobody knows who is
//! right. While too few have told, a disagreement is borne for a while, and then that is no majority either.
//!
//! Only a state that a majority was found to have becomes a snapshot, so that one that went wrong does not spread by
//! snapshots faster than it is found.

use std::collections::{BTreeMap, VecDeque};

use super::divergence::Divergence;
use crate::database::{DIGEST_VERSION, Database, Digest};
use crate::peer::frame::DigestReport;
use crate::storage::{Configuration, SnapshotPoint};

/// The master asks for a comparison after so many entries,
const ENTRIES: u64 = 4096;
/// or so many bytes of entries,
const BYTES: u64 = 16 << 20;
/// or so many ticks (10 s) if there was an entry at all.
const TICKS: u64 = 200;
/// Ticks until a digest is told again, and until a comparison without an outcome is followed by another.
pub(super) const REPEAT: u64 = 20;
/// Ticks (10 s) for which a disagreement without a majority is borne.
const PATIENCE: u64 = 200;
/// How many digests are kept: our own, and each other server's.
const KEPT: usize = 16;
/// How many states are kept with them, for a snapshot. They share with the present one what has not changed.
const STATES: usize = 2;

/// All that is known of digests.
#[derive(Debug, Default)]
pub(super) struct Comparisons {
    ticks: u64,
    /// What was applied since the last comparison.
    entries: u64,
    bytes: u64,
    /// When the last one was noted, and from when on the next may be asked for.
    noted_at: u64,
    next: u64,
    /// Ours, oldest first.
    notes: VecDeque<Note>,
    /// The other servers', oldest first.
    heard: BTreeMap<u64, VecDeque<(u64, Digest)>>,
    /// The last index at which a majority was found to have our digest.
    confirmed: Option<u64>,
    /// Since when there is a disagreement without a majority.
    disputed: Option<u64>,
}

#[derive(Debug)]
struct Note {
    point: SnapshotPoint,
    digest: Digest,
    /// The state itself, as long as it may become a snapshot.
    state: Option<Box<Database>>,
}

/// What follows from the digests that are known.
#[derive(Debug)]
pub(super) enum Judgement {
    /// Nothing new.
    Open,
    /// A majority has the state that we had at this point.
    Confirmed(SnapshotPoint, Box<Database>),
    /// Ours is not the state of a majority.
    Diverged(Divergence),
}

/// How the digests behind one entry stand.
enum Count {
    Ours,
    Another(Digest),
    None,
    /// It depends on servers that have not told; whether those that have disagree.
    Unknown {
        disagree: bool,
    },
}

impl Comparisons {
    /// Passes a tick. Gives what is to be told to the others again.
    pub(super) fn tick(&mut self) -> Option<DigestReport> {
        self.ticks = self.ticks.wrapping_add(1);
        self.ticks.is_multiple_of(REPEAT).then(|| self.report()).flatten()
    }

    /// What the others are told.
    pub(super) fn report(&self) -> Option<DigestReport> {
        let note = self.notes.back()?;
        Some(DigestReport { version: DIGEST_VERSION, index: note.point.at.index, digest: note.digest })
    }

    /// An entry of `len` bytes was applied.
    pub(super) const fn applied(&mut self, len: usize) {
        self.entries = self.entries.saturating_add(1);
        self.bytes = self.bytes.saturating_add(len as u64);
    }

    /// Whether it is time for the master to ask for a comparison; `wanted` if a snapshot waits for one.
    pub(super) const fn is_due(&self, wanted: bool) -> bool {
        let long_ago = self.ticks >= self.noted_at.saturating_add(TICKS);
        let due = wanted || self.entries >= ENTRIES || self.bytes >= BYTES || (self.entries > 0 && long_ago);
        due && self.ticks >= self.next
    }

    /// A comparison was asked for.
    pub(super) const fn asked(&mut self) {
        self.next = self.ticks.saturating_add(REPEAT);
    }

    /// The entry that asks for a comparison is applied, and leads to this point and state.
    pub(super) fn note(&mut self, point: SnapshotPoint, database: &Database) {
        (self.entries, self.bytes, self.noted_at) = (0, 0, self.ticks);
        let state = Some(Box::new(database.clone()));
        self.notes.push_back(Note { point, digest: database.digest(), state });
        let surplus = self.notes.len().saturating_sub(KEPT);
        self.notes.drain(..surplus);
        let old = self.notes.len().saturating_sub(STATES);
        self.notes.iter_mut().take(old).for_each(|note| note.state = None);
    }

    /// The state is another one now, that of a snapshot.
    pub(super) fn restored(&mut self) {
        (self.entries, self.bytes, self.disputed) = (0, 0, None);
        self.notes.clear();
    }

    /// A member of the cell has told its digest.
    pub(super) fn heard(&mut self, from: u64, report: DigestReport) {
        if report.version != DIGEST_VERSION {
            return;
        }
        let known = self.heard.entry(from).or_default();
        if known.iter().any(|(index, _)| *index == report.index) {
            return;
        }
        known.push_back((report.index, report.digest));
        let surplus = known.len().saturating_sub(KEPT);
        known.drain(..surplus);
    }

    /// Forgets what servers told that are no members any more.
    pub(super) fn members_changed(&mut self, members: &Configuration) {
        self.heard.retain(|node, _| members.contains(*node));
    }

    /// What follows from all that is known for the server `me`. The newest comparison with an outcome counts.
    pub(super) fn judge(&mut self, me: u64, members: &Configuration) -> Judgement {
        let mut disputed = false;
        for at in (0..self.notes.len()).rev() {
            let Some(note) = self.notes.get(at) else { continue };
            let (index, ours) = (note.point.at.index, note.digest);
            let majority = match self.count(me, members, index, ours) {
                Count::Unknown { disagree: false } => continue,
                Count::Unknown { disagree: true } => {
                    disputed = true;
                    let since = *self.disputed.get_or_insert(self.ticks);
                    if self.ticks < since.saturating_add(PATIENCE) {
                        continue;
                    }
                    None
                }
                Count::Another(digest) => Some(digest),
                Count::None => None,
                Count::Ours => return self.confirm(at),
            };
            return Judgement::Diverged(Divergence { index, ours, majority });
        }
        if !disputed {
            self.disputed = None;
        }
        Judgement::Open
    }

    fn confirm(&mut self, at: usize) -> Judgement {
        self.disputed = None;
        // What came before needs no outcome any more.
        self.notes.drain(..at);
        let Some(note) = self.notes.front_mut() else { return Judgement::Open };
        self.confirmed = Some(note.point.at.index);
        self.next = self.next.min(self.ticks);
        note.state.take().map_or(Judgement::Open, |state| Judgement::Confirmed(note.point.clone(), state))
    }

    fn count(&self, me: u64, members: &Configuration, index: u64, ours: Digest) -> Count {
        let (mut counts, mut voters, mut silent) = (BTreeMap::<Digest, usize>::new(), 0, 0);
        for voter in members.voters() {
            voters += 1;
            match if voter == me { Some(ours) } else { self.heard_of(voter, index) } {
                Some(digest) => *counts.entry(digest).or_default() += 1,
                None => silent += 1,
            }
        }
        let quorum = voters / 2 + 1;
        let Some((&digest, &most)) = counts.iter().max_by_key(|(_, count)| **count) else {
            return Count::Unknown { disagree: false };
        };
        if most >= quorum {
            if digest == ours { Count::Ours } else { Count::Another(digest) }
        } else if most + silent < quorum {
            Count::None
        } else {
            Count::Unknown { disagree: counts.keys().any(|digest| *digest != ours) }
        }
    }

    fn heard_of(&self, node: u64, at: u64) -> Option<Digest> {
        let known = self.heard.get(&node)?;
        known.iter().find(|(index, _)| *index == at).map(|(_, digest)| *digest)
    }

    /// The last index at which a majority was found to have our digest.
    pub(super) const fn confirmed(&self) -> Option<u64> {
        self.confirmed
    }

    /// The servers whose digest is another than ours where a majority has ours.
    pub(super) fn others_diverged(&self) -> Vec<u64> {
        let Some(index) = self.confirmed else { return Vec::new() };
        let Some(note) = self.notes.iter().find(|note| note.point.at.index == index) else {
            return Vec::new();
        };
        let differs = |node: &u64| self.heard_of(*node, index).is_some_and(|digest| digest != note.digest);
        self.heard.keys().copied().filter(differs).collect()
    }

    /// Whether a server has told this digest, wherever that was.
    pub(super) fn has_told(&self, node: u64, index: u64, digest: Digest) -> bool {
        self.heard_of(node, index) == Some(digest)
    }
}
