//! A history that threads record together, by the monotonic clock of this machine.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Call, History, OpId, Outcome, Violation};

/// Records what the clients of a test do; shared by reference among their threads and tasks.
#[derive(Debug)]
pub struct Recorder {
    begin: Instant,
    history: Mutex<History>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// Begins now.
    #[must_use]
    pub fn new() -> Self {
        Self { begin: Instant::now(), history: Mutex::default() }
    }

    /// Just before a client asks; see [`History::call`].
    pub fn call(&self, client: u64, path: &str, call: Call) -> OpId {
        let mut history = self.history();
        history.call(self.begin.elapsed(), client, path, call)
    }

    /// Just after it was answered; see [`History::answer`].
    pub fn answer(&self, operation: OpId, outcome: Outcome) {
        let mut history = self.history();
        history.answer(self.begin.elapsed(), operation, outcome);
    }

    /// Asks the client of a granted lock for how long it is safe, and records that; see [`History::trusts`].
    pub fn trusts(&self, lock: OpId, safe_for: impl FnOnce() -> Duration) {
        // The clock first: what the client says is true for longer rather than for less.
        let at = self.begin.elapsed();
        let safe_for = safe_for();
        self.history().trusts(at, lock, safe_for);
    }

    /// See [`History::session_over`].
    pub fn session_over(&self, client: u64) {
        let mut history = self.history();
        history.session_over(self.begin.elapsed(), client);
    }

    /// See [`History::size`].
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.history().size()
    }

    /// See [`History::check`].
    ///
    /// # Errors
    /// As there.
    pub fn check(&self) -> Result<(), Violation> {
        self.history().clone().check()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
