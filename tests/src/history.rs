//! Histories of what clients asked and were answered, and whether a cell may have answered so.
//!
//! [`History`] is for one thread and for any clock, also a simulated one; [`Recorder`] is for threads and the clock of this
//! machine. Two things are checked of a history:
//! - each file, with its lock, is *linearizable*: every operation can be given one moment between its call and its answer
//!   so that, in the order of these moments, all answers are right. Operations without an answer may have happened at any
//!   time since, or not at all.
//! - no two clients *trust* in locks of one file at the same time, unless both are shared, and generations rise.
//!
//! The search is that of `todc-utils`. It takes long if much happened at the same time, above all if many operations have
//! no answer: tests keep histories short by going on to other paths after some hundred operations.

mod file;
mod linear;
mod locks;
mod recorder;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use recorder::Recorder;

/// An operation of a [`History`]. That of [`Call::Open`] stands for the handle, that of [`Call::Lock`] and
/// [`Call::TryLock`] for the lock that it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(usize);

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// By one.
    Exclusive,
    /// Together with other shared holders.
    Shared,
}

/// Which holding of a lock, out of a sequencer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The number of the file.
    pub inode: u64,
    /// The generation of the lock.
    pub generation: u64,
}

/// What is asked. Handles are opened for reading, writing and locking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// OPEN of a file.
    Open {
        /// Create it if it is not there.
        create: bool,
        /// With `create`: only if it is not there.
        exclusive: bool,
    },
    /// CLOSE, also of what an operation without an answer may have opened.
    Close(OpId),
    /// DEL of the path.
    Delete,
    /// PUT of these contents.
    Put(OpId, Arc<[u8]>),
    /// GET.
    Get(OpId),
    /// GET_META.
    Meta(OpId),
    /// LOCK, until it is granted.
    Lock(OpId, Mode),
    /// TRYLOCK.
    TryLock(OpId, Mode),
    /// UNLOCK.
    Unlock(OpId),
    /// CHECK_SEQUENCER.
    Check(Stamp, Mode),
    /// The client's session is over, which closes its handles; see [`History::session_over`].
    Over,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done; a sequencer stands.
    Done,
    /// To GET.
    Contents {
        /// The number of the file.
        inode: u64,
        /// How often it was written, and 1.
        version: u64,
        /// What was written last.
        data: Arc<[u8]>,
    },
    /// To GET_META.
    Metadata {
        /// The number of the file.
        inode: u64,
        /// How often it was written, and 1.
        version: u64,
    },
    /// The lock is held; plain sessions are told no more.
    Locked(Option<Stamp>),
    /// Refused with this code (`raw::codes::code`).
    Refused(i32),
}

/// When something was recorded: its place in the order of all, and the time for whoever reads it.
#[derive(Clone, Copy, Debug)]
struct Moment {
    order: usize,
    at: Duration,
}

#[derive(Clone, Debug)]
struct Operation {
    id: OpId,
    client: u64,
    path: Arc<str>,
    call: Call,
    called: Moment,
    answered: Option<(Moment, Outcome)>,
}

/// From when until when a client counted on a lock, as it said itself.
#[derive(Clone, Copy, Debug)]
struct Trust {
    from: Duration,
    until: Duration,
}

/// What clients asked and were answered, in the order in which it is recorded here: a call before it leaves, an answer
/// after it came. Times are those of one clock, since any beginning.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    trust: BTreeMap<OpId, Trust>,
    moments: usize,
}

/// What a cell must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// No order of the operations explains the answers.
    NotLinearizable {
        /// The file.
        path: String,
        /// The shortest beginning of its history for which there is none, without what does not matter.
        history: String,
    },
    /// Whether there is one was not found out within the limit of the search. The history is to be cut into shorter
    /// ones.
    TooLong {
        /// The file.
        path: String,
        /// How many operations it saw.
        operations: usize,
        /// How many of them have no answer.
        open: usize,
    },
    /// Two clients counted on locks that exclude each other, at the same time.
    TwoHolders {
        /// The file.
        path: String,
        /// Both, as text.
        holders: [String; 2],
    },
    /// The later holding of a lock has not the higher generation.
    Generations {
        /// The file.
        path: String,
        /// Both, as text, the earlier one first.
        holders: [String; 2],
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLinearizable { path, history } => {
                write!(f, "no order of these operations on {path} explains their answers:\n{history}")
            }
            Self::TooLong { path, operations, open } => {
                write!(
                    f,
                    "{operations} operations on {path}, {open} of them without an answer, are too many to check"
                )
            }
            Self::TwoHolders { path, holders: [one, other] } => {
                write!(f, "two clients trust in the lock of {path} at the same time:\n{one}\n{other}")
            }
            Self::Generations { path, holders: [one, other] } => {
                write!(f, "the generation of the lock of {path} did not rise:\n{one}\n{other}")
            }
        }
    }
}

impl std::error::Error for Violation {}

impl History {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A client asks something of a path; to be recorded before it leaves. A client is one session.
    pub fn call(&mut self, at: Duration, client: u64, path: &str, call: Call) -> OpId {
        let id = OpId(self.operations.len());
        let called = self.moment(at);
        self.operations.push(Operation { id, client, path: path.into(), call, called, answered: None });
        id
    }

    /// The answer came; to be recorded after that. Nothing is recorded of a call that failed otherwise: it may have
    /// happened, or may yet happen.
    pub fn answer(&mut self, at: Duration, operation: OpId, outcome: Outcome) {
        let moment = self.moment(at);
        if let Some(operation) = self.operations.get_mut(operation.0) {
            operation.answered = Some((moment, outcome));
        }
    }

    /// At `at`, a client says of a lock that it was granted that it is safe for so long from then on, if it is not given
    /// back before. Zero if it is not safe.
    pub fn trusts(&mut self, at: Duration, lock: OpId, safe_for: Duration) {
        if safe_for.is_zero() {
            return;
        }
        let until = at.saturating_add(safe_for);
        let trust = self.trust.entry(lock).or_insert(Trust { from: at, until });
        trust.until = trust.until.max(until);
    }

    /// A session has ended, or is about to, or was lost: at some time since its last answer the cell closes, or has
    /// closed, all that it had open.
    pub fn session_over(&mut self, at: Duration, client: u64) {
        let own = self.operations.iter().filter(|operation| operation.client == client);
        let paths: BTreeSet<Arc<str>> = own.clone().map(|operation| operation.path.clone()).collect();
        // The session was there when its last answer was made, which was not before that was asked for. A refusal may
        // be the client's own.
        let by_the_cell = |operation: &&Operation| {
            operation.answered.as_ref().is_some_and(|(_, outcome)| !matches!(outcome, Outcome::Refused(_)))
        };
        let last = own.filter(by_the_cell).map(|operation| operation.called).next_back();
        let called = last.unwrap_or(Moment { order: 0, at });
        for path in paths {
            let id = OpId(self.operations.len());
            self.operations.push(Operation { id, client, path, call: Call::Over, called, answered: None });
        }
    }

    /// How many operations are recorded, and how many of them have no answer.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let open = self.operations.iter().filter(|operation| operation.answered.is_none()).count();
        (self.operations.len(), open)
    }

    /// Checks everything.
    ///
    /// # Errors
    /// What is wrong; if several files do not linearize, that which needs the fewest operations to see it.
    pub fn check(&self) -> Result<(), Violation> {
        locks::check(self)?;
        linear::check(self)
    }

    fn moment(&mut self, at: Duration) -> Moment {
        self.moments += 1;
        Moment { order: self.moments, at }
    }

    /// The operations by path.
    fn by_path(&self) -> BTreeMap<&str, Vec<&Operation>> {
        let mut paths: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            paths.entry(&operation.path).or_default().push(operation);
        }
        paths
    }
}

/// One line: when, who, what, and what came of it.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, client, call, called, answered, .. } = self;
        write!(f, "{:>10.3?} ", called.at)?;
        match answered {
            Some((moment, _)) => write!(f, "to {:>10.3?}", moment.at)?,
            None => write!(f, "{:13}", "")?,
        }
        write!(f, "  #{} client {client}: {call}", id.0)?;
        match answered {
            Some((_, outcome)) => write!(f, " -> {outcome}"),
            None => write!(f, " -> no answer"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { create: false, .. } => write!(f, "open"),
            Self::Open { exclusive: false, .. } => write!(f, "open or create"),
            Self::Open { .. } => write!(f, "create"),
            Self::Close(handle) => write!(f, "close #{}", handle.0),
            Self::Delete => write!(f, "delete"),
            Self::Put(handle, data) => write!(f, "put {} to #{}", text(data), handle.0),
            Self::Get(handle) => write!(f, "get #{}", handle.0),
            Self::Meta(handle) => write!(f, "metadata of #{}", handle.0),
            Self::Lock(handle, mode) => write!(f, "lock #{} {mode:?}", handle.0),
            Self::TryLock(handle, mode) => write!(f, "try to lock #{} {mode:?}", handle.0),
            Self::Unlock(handle) => write!(f, "unlock #{}", handle.0),
            Self::Check(stamp, mode) => write!(f, "check {stamp} {mode:?}"),
            Self::Over => write!(f, "its session is over"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => write!(f, "done"),
            Self::Contents { inode, version, data } => {
                write!(f, "{}, version {version} of inode {inode}", text(data))
            }
            Self::Metadata { inode, version } => write!(f, "version {version} of inode {inode}"),
            Self::Locked(Some(stamp)) => write!(f, "locked, {stamp}"),
            Self::Locked(None) => write!(f, "locked"),
            Self::Refused(code) => write!(f, "refused, code {code}"),
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} of inode {}", self.generation, self.inode)
    }
}

/// The beginning of contents.
fn text(data: &[u8]) -> String {
    format!("\"{}\"", data.get(..data.len().min(40)).unwrap_or_default().escape_ascii())
}
