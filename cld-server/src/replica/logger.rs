//! The engine's log lines, which come through `slog`, passed on to `tracing`.

use std::fmt;

use slog::{Drain, KV, Logger, Never, OwnedKVList, Record};

/// A logger whose lines become tracing events of the target `raft`.
pub(super) fn tracing_logger() -> Logger {
    Logger::root(TracingDrain, slog::o!())
}

struct TracingDrain;

impl Drain for TracingDrain {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        // The engine tells every change of role and term at level info: that is detail here.
        match record.level() {
            slog::Level::Critical | slog::Level::Error => tracing::error!(target: "raft", "{}", Line(record)),
            slog::Level::Warning => tracing::warn!(target: "raft", "{}", Line(record)),
            slog::Level::Info => tracing::debug!(target: "raft", "{}", Line(record)),
            _ => tracing::trace!(target: "raft", "{}", Line(record)),
        }
        Ok(())
    }
}

/// A record's message and its keys and values; formatted only when somebody listens.
struct Line<'a>(&'a Record<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0.msg())?;
        self.0.kv().serialize(self.0, &mut Pairs(out)).map_err(|_| fmt::Error)
    }
}

struct Pairs<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl slog::Serializer for Pairs<'_, '_> {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        Ok(write!(self.0, ", {key}: {value}")?)
    }
}
