//! The version of the cell: raised by the master once every member can apply a higher one ([`crate::versions`]).

use super::{Event, Node};
use crate::database::Database;
use crate::replica::Engine;
use crate::storage::LogPosition;
use crate::versions::{Feature, NONE, Offer};

impl<E: Engine> Node<E> {
    /// What this server can apply, and the version of the cell that it knows.
    #[must_use]
    pub const fn offer(&self) -> Offer {
        Offer { can: self.config.versions, has: self.database.version() }
    }

    /// The version with which a new cell begins; `None` if it has one.
    pub(super) fn first_version(&self) -> Option<u32> {
        let lowest = self.config.versions.lowest;
        (self.database.version() == NONE).then(|| self.common_version().unwrap_or(lowest))
    }

    /// The version of what is proposed now.
    pub(super) fn version_to_propose(&self) -> u32 {
        self.first_version().unwrap_or(self.database.version())
    }

    /// The version to raise the cell's to, if this server serves and every member can apply it.
    pub(super) fn rise(&self) -> Option<u32> {
        let common = if self.serves() { self.common_version() } else { None };
        common.filter(|&common| common > self.database.version())
    }

    /// The highest version that all members can apply, voting or not; `None` if one is not linked, as it may have become an
    /// older program.
    fn common_version(&self) -> Option<u32> {
        let others = self.members.members.keys().copied().filter(|&id| id != self.me);
        self.config.versions.common(others, &self.peers.links)
    }

    /// The cell's version was raised. What comes now may be more than this server can apply: then it must stop, and
    /// nothing is lost.
    pub(super) fn raised(&mut self, at: LogPosition, before: u32) {
        let version = self.database.version();
        self.events.push_back(Event::VersionChanged { version });
        if let Err(error) = self.config.versions.check("the cell's state", version) {
            return self.fail(format!("entry {} of the log raises the cell's version: {error}", at.index));
        }
        if before != NONE {
            tracing::info!(version, before, "the version of the cell is raised");
            // From there a later program can start that knows nothing of what was before.
            self.snapshots.want();
        }
    }

    /// The state of a snapshot that came, if this server can apply what follows it.
    pub(super) fn of_known_version(
        &self,
        database: Result<Box<Database>, String>,
    ) -> Result<Box<Database>, String> {
        let database = database?;
        match self.config.versions.check("the snapshot of another server", database.version()) {
            Ok(()) => Ok(database),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the cell's version has this.
    pub(super) const fn has_feature(&self, feature: Feature) -> bool {
        feature.since() <= self.database.version()
    }

    /// Whether a member that is linked can apply what the cell's version has.
    pub(super) fn can_apply(&self, member: u64) -> bool {
        self.peers.links.get(&member).is_some_and(|can| can.has(self.database.version()))
    }
}
