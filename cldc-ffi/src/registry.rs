//! The sessions that live, so that a pointer to one that does not is found out.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::types::Errno;

/// Where they begin, and where they end.
static LIVE: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn live() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    // Nothing that holds the lock panics.
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the session begins that an address lies in.
pub(crate) fn around(address: usize) -> Option<usize> {
    let live = live();
    let (&start, &end) = live.range(..=address).next_back()?;
    (address < end).then_some(start)
}

/// Whether a new session has this memory for itself.
///
/// # Errors
/// [`Errno::Busy`] if not.
pub(crate) fn check_free(start: usize, len: usize) -> Result<(), Errno> {
    let end = start.checked_add(len).ok_or(Errno::Inval)?;
    let taken = live().range(..end).next_back().is_some_and(|(_, &other_end)| other_end > start);
    if taken { Err(Errno::Busy) } else { Ok(()) }
}

pub(crate) fn add(start: usize, len: usize) {
    live().insert(start, start.saturating_add(len));
}

pub(crate) fn remove(start: usize) {
    live().remove(&start);
}
