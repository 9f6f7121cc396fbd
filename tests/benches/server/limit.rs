//! When the benchmark gives up: it was interrupted, or takes too long. It then ends as after any error, and its servers with it.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static LIMIT: OnceLock<(Arc<AtomicBool>, Instant)> = OnceLock::new();

/// From now on, signals do not end the process, but make [`check`] fail; so does the end of this time.
///
/// # Errors
/// The system's.
pub(crate) fn set(time: Duration) -> io::Result<()> {
    let (interrupted, _) = LIMIT.get_or_init(|| (Arc::default(), Instant::now() + time));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(interrupted))?;
    }
    Ok(())
}

/// To be called wherever something is waited for.
///
/// # Errors
/// [`ErrorKind::Interrupted`], [`ErrorKind::TimedOut`].
pub(crate) fn check() -> io::Result<()> {
    match LIMIT.get() {
        Some((interrupted, _)) if interrupted.load(Ordering::Relaxed) => Err(ErrorKind::Interrupted.into()),
        Some((_, end)) if Instant::now() >= *end => {
            Err(io::Error::new(ErrorKind::TimedOut, "it takes longer than CLD_BENCH_LIMIT"))
        }
        _ => Ok(()),
    }
}
