//! `watch`: tells of a file's changes as they come.

use std::io::Write;
use std::time::{Duration, Instant};

use cldc_udp::{Code, Error, EventMask, FileEvent};

use super::files::{cannot_get, size};
use super::{Shell, show};
use crate::date::Date;
use crate::failure::Failure;
use crate::output::{Change, Kind, State};
use crate::remote::{Remote, RemoteEvents, RemoteFile};

/// How soon an interruption is noticed.
const GLANCE: Duration = Duration::from_millis(100);

/// When to stop what goes on by itself.
pub(crate) struct Until<'a> {
    /// After so long, if at all.
    pub(crate) timeout: Option<Duration>,
    /// Whether the user has had enough.
    pub(crate) interrupted: &'a dyn Fn() -> bool,
}

impl<R: Remote, W: Write> Shell<R, W> {
    /// Prints the state of a file or directory, and then each new one. Several changes in quick succession may be told
    /// as one, with the state after the last. Ends when the file is deleted.
    pub(super) fn watch(&mut self, path: &[u8], until: &Until<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let path = self.absolute(path);
        let mut events = self.remote.events();
        let (file, kind) =
            self.open_any(&path, EventMask::UPDATED | EventMask::DELETED | EventMask::MASTER_FAILOVER)?;
        let mut last = state(&file, kind).map_err(cannot_get(&path))?;
        self.tell("watching", &path, Some(last))?;
        while !(until.interrupted)() && until.timeout.is_none_or(|timeout| begun.elapsed() < timeout) {
            let left = until.timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
            let next = events.next(left.unwrap_or(GLANCE).min(GLANCE));
            let event = next.map_err(Failure::call(format!("cannot watch path `{}'", show(&path))))?;
            let Some(event) = event.filter(|event| concerns(event, &path)) else { continue };
            if event.events.contains(EventMask::DELETED) {
                return self.tell("deleted", &path, None);
            }
            match state(&file, kind) {
                Ok(state) if state == last => {}
                Ok(state) => {
                    last = state;
                    self.tell("updated", &path, Some(state))?;
                }
                // The event that says so follows.
                Err(Error::Server(Code::FhInval | Code::InodeInval)) => {}
                Err(error) => return Err(cannot_get(&path)(error)),
            }
        }
        Ok(())
    }

    fn tell(&mut self, event: &str, path: &[u8], state: Option<State>) -> Result<(), Failure> {
        self.output.change(&Change { time: Date::now(), event, path: path.to_vec().into(), state })
    }
}

/// Whether a file may have changed: it has, or another server has become the master.
fn concerns(event: &FileEvent, path: &[u8]) -> bool {
    event.path == path || event.events.contains(EventMask::MASTER_FAILOVER)
}

fn state(file: &impl RemoteFile, kind: Kind) -> Result<State, Error> {
    let contents = file.read()?;
    Ok(State { version: contents.metadata.version, size: size(&contents, kind)? })
}
