//! The commands at work: what each asks of the session and what it prints (protocol.md 12).

mod files;
mod locks;
mod watch;

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::Write;

use cldc_udp::{Code, Error, EventMask, OpenMode};

use crate::command::Command;
use crate::failure::Failure;
use crate::output::{Kind, Output};
use crate::remote::Remote;
pub(crate) use files::read_limited;
use locks::Locks;
pub(crate) use watch::Until;

/// A session at work: with a working directory and locks.
pub(crate) struct Shell<R: Remote, W> {
    remote: R,
    output: Output<W>,
    directory: Vec<u8>,
    locks: Locks<R::File>,
}

/// What follows after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next command.
    Command,
    /// The quick reference is to be shown, then the next command.
    Help,
    /// The end.
    Quit,
}

impl<R: Remote, W: Write> Shell<R, W> {
    pub(crate) fn new(remote: R, output: Output<W>) -> Self {
        Self { remote, output, directory: b"/".to_vec(), locks: Locks::default() }
    }

    /// The working directory.
    pub(crate) fn directory(&self) -> &[u8] {
        &self.directory
    }

    pub(crate) fn output(&mut self) -> &mut Output<W> {
        &mut self.output
    }

    /// Does what a command says; `until` ends one that goes on by itself.
    pub(crate) fn execute(&mut self, command: Command, until: &Until<'_>) -> Result<Next, Failure> {
        match command {
            Command::Cd(path) => self.cd(&path),
            Command::Ls(path) => self.ls(path.as_deref()),
            Command::Cat(path) => self.cat(&path),
            Command::Get(path) => self.get(&path),
            Command::Stat(path) => self.stat(&path),
            Command::Watch(path) => self.watch(&path, until),
            Command::CopyIn { local, remote } => self.copy_in(&local, &remote),
            Command::CopyOut { remote, local } => self.copy_out(&remote, &local),
            Command::Mkdir(path) => self.mkdir(&path),
            Command::Rm(path) => self.rm(&path, None),
            Command::Lock { path, kind, wait } => self.lock(&path, kind, wait),
            Command::Unlock(path) => self.unlock(&path),
            Command::ListLocks => self.list_locks(),
            Command::Help => return Ok(Next::Help),
            Command::Quit => return Ok(Next::Quit),
        }?;
        Ok(Next::Command)
    }

    fn cd(&mut self, path: &[u8]) -> Result<(), Failure> {
        let path = self.absolute(path);
        self.open(&path, OpenMode::DIRECTORY)?;
        self.directory = path;
        Ok(())
    }

    fn absolute(&self, path: &[u8]) -> Vec<u8> {
        absolute(&self.directory, path)
    }

    fn open(&self, path: &[u8], mode: OpenMode) -> Result<R::File, Failure> {
        self.remote
            .open(path, mode, EventMask::NONE)
            .map_err(Failure::call(format!("cannot open path `{}'", show(path))))
    }

    /// Opens a file or a directory for reading, whichever it is.
    fn open_any(&self, path: &[u8], events: EventMask) -> Result<(R::File, Kind), Failure> {
        let file = match self.remote.open(path, OpenMode::READ, events) {
            Err(Error::Server(Code::ModeInval)) => {
                let mode = OpenMode::READ | OpenMode::DIRECTORY;
                self.remote.open(path, mode, events).map(|directory| (directory, Kind::Directory))
            }
            file => file.map(|file| (file, Kind::File)),
        };
        file.map_err(Failure::call(format!("cannot open path `{}'", show(path))))
    }
}

/// A path as the server takes it: a relative one is in the working directory. Nothing else is changed: `.` and `..` are
/// ordinary names (protocol.md 7).
pub(crate) fn absolute(directory: &[u8], path: &[u8]) -> Vec<u8> {
    match (path, directory) {
        ([b'/', ..], _) => path.to_vec(),
        (_, [.., b'/']) => [directory, path].concat(),
        _ => [directory, b"/", path].concat(),
    }
}

/// Bytes of a path in a message.
pub(crate) fn show(path: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(path)
}
