//! What a server does about its digest and those of the others: it tells and takes in, and when its state is not that of a
//! majority, it hands the mastership over, marks its data, and stops.
//!
//! Its log is as good as any, only its state is not: until it has stopped it votes and replicates as before, but answers no
//! client. As marked data is never used again, no vote of it is ever given twice.

use std::fmt::{self, Display, Formatter};

use cldc_core::time::Instant;

use super::comparisons::Judgement;
use super::interface::{Clock, DiskJob};
use super::{ELECTION_TICKS, Mastery, Node};
use crate::database::Digest;
use crate::peer::frame::{DigestReport, Frame};
use crate::replica::Engine;
use crate::versions::Feature;

/// How the state of this server is not that of a majority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The entry of the log behind which the states differ.
    pub index: u64,
    /// Our digest there.
    pub ours: Digest,
    /// That of the majority, if there is one.
    pub majority: Option<Digest>,
}

impl Display for Divergence {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { index, ours, majority } = self;
        match majority {
            Some(theirs) => write!(
                out,
                "the state here is wrong: behind entry {index} its digest is {ours}, and that of a majority of the servers is \
                 {theirs}; remove this server from the cell with 'cld member remove', and add it again with an empty data \
                 directory"
            ),
            None => write!(
                out,
                "no majority of the servers has the same state: behind entry {index} the digest here is {ours}, others have \
                 others, and nobody knows which is right; restore the cell from a backup, or choose one server, remove the \
                 mark from its data directory and make the others anew"
            ),
        }
    }
}

/// A server that is about to stop, as its state is wrong.
#[derive(Debug)]
pub(super) struct Stopping {
    why: String,
    marked: bool,
    /// Until when it waits for another to be the master.
    until: Instant,
}

impl<E: Engine> Node<E> {
    /// Whether the state was found to be not that of a majority: the server answers nobody, and stops for good as soon as
    /// its data is marked; [`Node::fatal`] says why then.
    #[must_use]
    pub const fn has_diverged(&self) -> bool {
        self.stopping.is_some()
    }

    /// Whether there are others to compare with, which know how.
    pub(super) fn compares(&self) -> bool {
        self.members.members.len() > 1 && self.has_feature(Feature::CompareDigests)
    }

    /// An entry that asks for a comparison is applied.
    pub(super) fn note_digest(&mut self, clock: Clock) {
        self.comparisons.note(self.engine.snapshot_point(), &self.database);
        if let Some(report) = self.comparisons.report() {
            self.tell_digest(report);
        }
        self.judge(clock);
    }

    /// A tick has passed.
    pub(super) fn compare_again(&mut self, clock: Clock) {
        if let Some(report) = self.comparisons.tick() {
            self.tell_digest(report);
            self.judge(clock);
        }
    }

    /// Another server tells its digest.
    pub(super) fn handle_digest(&mut self, clock: Clock, from: u64, report: DigestReport) {
        if self.members.contains(from) {
            self.comparisons.heard(from, report);
            self.judge(clock);
        }
    }

    fn tell_digest(&mut self, report: DigestReport) {
        let others = self.members.members.keys().filter(|node| self.peers.links.contains_key(node));
        self.peers.frames.extend(others.map(|&node| (node, Frame::Digest(report))));
    }

    fn judge(&mut self, clock: Clock) {
        if self.stopping.is_some() {
            return;
        }
        match self.comparisons.judge(self.me, &self.members) {
            Judgement::Open => {}
            Judgement::Confirmed(point, state) => {
                let others = self.comparisons.others_diverged();
                if !others.is_empty() {
                    tracing::error!(
                        servers = format_args!("{others:x?}"),
                        "the state of servers is wrong; they stop"
                    );
                }
                self.snapshots.confirmed(point, state);
            }
            Judgement::Diverged(divergence) => self.diverge(clock, &divergence),
        }
    }

    /// Answers nobody any more, and hands the mastership to a server whose state is right.
    fn diverge(&mut self, clock: Clock, divergence: &Divergence) {
        let why = divergence.to_string();
        tracing::error!(why, "this server stops");
        let until = clock.now + self.config.timing.tick.times(ELECTION_TICKS as u64);
        if self.mastery != Mastery::No {
            self.deposed();
        }
        if let Some(majority) = divergence.majority {
            let members = self.engine.status().members.into_iter();
            let heirs = members.filter(|member| {
                member.alive && self.comparisons.has_told(member.node, divergence.index, majority)
            });
            if let Some(heir) = heirs.max_by_key(|member| member.matched)
                && let Err(error) = self.engine.transfer_leadership(heir.node)
            {
                tracing::warn!(%error, "the mastership is not handed over");
            }
        }
        self.disk.push_back(DiskJob::MarkDiverged { why: why.clone() });
        self.stopping = Some(Stopping { why, marked: false, until });
    }

    /// The data is marked.
    pub(super) fn marked(&mut self) {
        if let Some(stopping) = &mut self.stopping {
            stopping.marked = true;
        }
    }

    /// Stops when the data is marked, and another is the leader or should have been by now: its vote may be needed.
    pub(super) fn stop_if_done(&mut self, clock: Clock) {
        if let Some(stopping) = &self.stopping
            && stopping.marked
            && (clock.now >= stopping.until
                || self.engine.status().leader.is_some_and(|leader| leader != self.me))
        {
            self.fatal = Some(stopping.why.clone());
        }
    }
}
