//! What `-D` asks to be told on standard error.

use std::fmt;
use std::io::Write;

/// How much is to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notes {
    level: u8,
}

impl Notes {
    pub(crate) fn new(level: u8) -> Self {
        Self { level }
    }

    /// Tells something, if that much is to be told.
    pub(crate) fn tell(self, level: u8, note: fmt::Arguments<'_>) {
        if level <= self.level {
            say(&format!("cldcli: {note}\n"));
        }
    }
}

/// Writes to standard error; if that is closed, nobody is left to tell.
pub(crate) fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
