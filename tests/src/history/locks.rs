//! The lock check: whoever trusts in a lock is alone, and generations rise from holder to holder. It needs no search.

use std::fmt;
use std::time::Duration;

use super::{Call, History, Mode, Moment, OpId, Operation, Outcome, Stamp, Violation};

/// A lock that was granted.
struct Holding<'a> {
    operation: &'a Operation,
    mode: Mode,
    stamp: Option<Stamp>,
    granted: Moment,
    /// In which the client trusted in it.
    span: Option<(Duration, Duration)>,
}

pub(super) fn check(history: &History) -> Result<(), Violation> {
    for (path, operations) in history.by_path() {
        let held: Vec<Holding<'_>> =
            operations.iter().filter_map(|operation| Holding::of(history, operation, &operations)).collect();
        for (place, one) in held.iter().enumerate() {
            for other in held.iter().skip(place + 1) {
                let violation = |[one, other]: [&Holding<'_>; 2],
                                 make: fn(String, [String; 2]) -> Violation| {
                    Err(make(path.to_owned(), [one.to_string(), other.to_string()]))
                };
                if one.excludes(other) && one.overlaps(other) {
                    let make = |path, holders| Violation::TwoHolders { path, holders };
                    return violation([one, other], make);
                }
                let make = |path, holders| Violation::Generations { path, holders };
                for [earlier, later] in [[one, other], [other, one]] {
                    if earlier.granted.order < later.operation.called.order && !earlier.precedes(later) {
                        return violation([earlier, later], make);
                    }
                }
            }
        }
    }
    Ok(())
}

impl<'a> Holding<'a> {
    fn of(history: &History, operation: &'a Operation, all: &[&Operation]) -> Option<Self> {
        let (Call::Lock(handle, mode) | Call::TryLock(handle, mode)) = operation.call else { return None };
        let &Some((granted, Outcome::Locked(stamp))) = &operation.answered else { return None };
        let given_back = |other: &&&Operation| {
            gives_back(&other.call) == Some(handle) && other.called.order > granted.order
        };
        let end = all.iter().find(given_back).map_or(Duration::MAX, |other| other.called.at);
        let span = history.trust.get(&operation.id).map(|trust| (trust.from, trust.until.min(end)));
        Some(Self { operation, mode, stamp, granted, span })
    }

    /// Whether both must not hold at a time: locks of one file, not both shared.
    fn excludes(&self, other: &Self) -> bool {
        let same_file = match (self.stamp, other.stamp) {
            (Some(one), Some(other)) => one.inode == other.inode,
            _ => true,
        };
        same_file && (self.mode, other.mode) != (Mode::Shared, Mode::Shared)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let (Some(one), Some(other)) = (self.span, other.span) else { return false };
        one.0 < other.1 && other.0 < one.1
    }

    /// Whether this stamp may be of an earlier time than the other.
    fn precedes(&self, later: &Self) -> bool {
        let (Some(one), Some(other)) = (self.stamp, later.stamp) else { return true };
        let together = (self.mode, later.mode) == (Mode::Shared, Mode::Shared);
        let (one, other) = ((one.inode, one.generation), (other.inode, other.generation));
        one < other || (one == other && together)
    }
}

impl fmt::Display for Holding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        match self.span {
            Some((from, until)) => write!(f, ", trusted from {from:.3?} to {until:.3?}"),
            None => write!(f, ", never trusted"),
        }
    }
}

/// The handle whose lock goes.
const fn gives_back(call: &Call) -> Option<OpId> {
    match call {
        Call::Unlock(handle) | Call::Close(handle) => Some(*handle),
        _ => None,
    }
}
