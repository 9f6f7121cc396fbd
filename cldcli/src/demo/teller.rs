//! How the demonstration speaks: lines with the time since its beginning, and checks.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Tells who did what, and when.
pub(super) struct Teller {
    begun: Instant,
}

impl Teller {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now() }
    }

    /// The time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What follows now.
    pub(super) fn chapter(&self, title: &str) -> Result<(), Failure> {
        self.print(&format!("\n{title}\n"))
    }

    /// Somebody has done something.
    pub(super) fn line(&self, who: &str, what: impl Display) -> Result<(), Failure> {
        self.print(&format!("{:>9.3} s  {who:<7} {what}\n", self.elapsed().as_secs_f64()))
    }

    pub(super) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
    }
}

/// Goes on only if it is so.
pub(super) fn check(is_so: bool, claim: &str) -> Result<(), Failure> {
    if is_so { Ok(()) } else { Err(Failure::Demo(format!("this is not so: {claim}"))) }
}

/// A time as a person reads it.
pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
