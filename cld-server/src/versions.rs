//! Versions of a cell, so that its servers can be upgraded one after the other.
//!
//! The replicated state has one version, which says what its commands, log entries and snapshots look like and what they
//! may contain ([`Feature`]). Each program can apply some range of them ([`Versions`]), and tells it when servers are linked
//! ([`Offer`]). The first master of a cell sets the version; its master raises it, through the log, once every member is
//! linked and can apply a higher one. It never sinks: a server that cannot apply it stays out.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of a state that holds nothing yet, which every program can apply.
pub const NONE: u32 = 0;

/// The version that came first.
pub const FIRST: u32 = 1;

/// What this program can apply.
pub const SUPPORTED: Versions = Versions { lowest: FIRST, highest: 2 };

/// What came later than the first version. All that is not named here came with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// The states of the servers are compared through the log.
    CompareDigests,
}

impl Feature {
    /// The version of the cell from which on there is such a thing.
    #[must_use]
    pub const fn since(self) -> u32 {
        match self {
            Self::CompareDigests => 2,
        }
    }
}

/// The versions of the cell that a program can apply: all from `lowest` to `highest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub lowest: u32,
    /// The newest.
    pub highest: u32,
}

impl Default for Versions {
    fn default() -> Self {
        SUPPORTED
    }
}

impl Versions {
    /// Whether this version can be applied.
    #[must_use]
    pub const fn has(&self, version: u32) -> bool {
        version == NONE || (self.lowest <= version && version <= self.highest)
    }

    /// Whether something of this version can be applied.
    ///
    /// # Errors
    /// [`VersionError`], which names it.
    pub const fn check(self, what: &'static str, found: u32) -> Result<(), VersionError> {
        if self.has(found) { Ok(()) } else { Err(VersionError { what, found, known: self }) }
    }

    /// The highest version that this server and all others can apply; `None` if it is not known of some other what it can.
    #[must_use]
    pub fn common(self, mut others: impl Iterator<Item = u64>, known: &BTreeMap<u64, Self>) -> Option<u32> {
        others.try_fold(self.highest, |highest, other| Some(known.get(&other)?.highest.min(highest)))
    }
}

impl Display for Versions {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{} to {}", self.lowest, self.highest)
    }
}

/// What a server says of versions to another when they are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offer {
    /// What it can apply.
    pub can: Versions,
    /// The version of the cell as far as it knows; [`NONE`] if it waits to be added.
    pub has: u32,
}

impl Offer {
    /// Whether two servers may be linked: both can apply the cell's version as far as either knows. The one that lags knows
    /// an older one, which is no harm if it can apply what comes.
    ///
    /// # Errors
    /// The cell's version, and whether it is this server that cannot apply it or the other.
    pub fn check(self, other: Self) -> Result<(), (u32, Misfit)> {
        let cell = self.has.max(other.has);
        match (self.can.has(cell), other.can.has(cell)) {
            (true, true) => Ok(()),
            (false, _) => Err((cell, Misfit::This)),
            (true, false) => Err((cell, Misfit::Other)),
        }
    }
}

/// Which of two servers cannot apply the cell's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// The one that asks.
    This,
    /// The one that it is to be linked with.
    Other,
}

/// Something is of a version of the cell that this server cannot apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{what} is of version {found} of the cell, and this server can apply {known}: {}", self.remedy())]
pub struct VersionError {
    /// What it is.
    pub what: &'static str,
    /// Its version.
    pub found: u32,
    /// What can be applied.
    pub known: Versions,
}

impl VersionError {
    const fn remedy(&self) -> &'static str {
        if self.found > self.known.highest {
            "start a newer version of the server; the data is left as it is"
        } else {
            "start an older version of the server until the cell's version has risen; the data is left as it is"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn can(lowest: u32, highest: u32) -> Versions {
        Versions { lowest, highest }
    }

    #[test]
    fn the_common_version_is_the_highest_that_all_can_apply_if_all_are_known() {
        let known = BTreeMap::from([(2, can(1, 3)), (3, can(1, 2))]);
        assert_eq!(can(1, 4).common([2].into_iter(), &known), Some(3));
        assert_eq!(can(1, 4).common([2, 3].into_iter(), &known), Some(2));
        assert_eq!(can(1, 1).common([2, 3].into_iter(), &known), Some(1));
        assert_eq!(can(1, 4).common([2, 3, 4].into_iter(), &known), None, "4 may be an old program");
        assert_eq!(can(1, 4).common([].into_iter(), &known), Some(4), "a cell of one asks nobody");
    }

    #[test]
    fn an_error_says_what_to_start() {
        let text = |found| can(2, 3).check("the log", found).unwrap_err().to_string();
        assert!(text(4).starts_with(
            "the log is of version 4 of the cell, and this server can apply 2 to 3: start a newer"
        ));
        assert!(text(1).contains("start an older version"));
        assert!([NONE, 2, 3].into_iter().all(|found| can(2, 3).check("the log", found).is_ok()));
    }
}
