//! The end that asks: the commands of `cld` that talk to a running server.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{Answer, MAX_ANSWER, MAX_PART, Request, SOCKET};
use crate::storage::read_mark;

/// The longest wait for an answer or a part of one: longer than the server's own.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the server that runs on a data directory.
#[derive(Debug)]
pub(crate) struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the server on this data directory.
    ///
    /// # Errors
    /// [`AdminError::Connect`], [`AdminError::Diverged`].
    pub(crate) fn connect(data: &Path) -> Result<Self, AdminError> {
        let path = data.join(SOCKET);
        let connect = || {
            let stream = UnixStream::connect(&path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = connect().map_err(|source| match read_mark(data) {
            Some(why) => AdminError::Diverged { data: data.to_owned(), why },
            None => AdminError::Connect { path: path.clone(), source },
        })?;
        Ok(Self { path, stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`AdminError::Connection`], [`AdminError::Answer`], [`AdminError::Refused`].
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Answer, AdminError> {
        let mut line = serde_json::to_vec(request).map_err(AdminError::Answer)?;
        line.push(b'\n');
        let mut exchange = || {
            self.stream.get_mut().write_all(&line)?;
            let mut answer = Vec::new();
            self.stream.by_ref().take(MAX_ANSWER).read_until(b'\n', &mut answer)?;
            Ok(answer)
        };
        let answer = exchange().map_err(|source| self.failed(source))?;
        match serde_json::from_slice(&answer).map_err(AdminError::Answer)? {
            Answer::Refused { why, again } => Err(AdminError::Refused { why, again }),
            answer => Ok(answer),
        }
    }

    /// Copies the parts that follow [`Answer::Snapshot`].
    ///
    /// # Errors
    /// [`AdminError::Connection`], also if the server gave it up; [`AdminError::Write`].
    pub(crate) fn copy_snapshot(&mut self, out: &mut impl Write) -> Result<(), AdminError> {
        loop {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).map_err(|source| self.failed(source))?;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length == 0 {
                return Ok(());
            }
            if length > MAX_PART {
                return Err(self.failed(io::ErrorKind::InvalidData.into()));
            }
            let mut part = vec![0; length];
            self.stream.read_exact(&mut part).map_err(|source| self.failed(source))?;
            out.write_all(&part).map_err(AdminError::Write)?;
        }
    }

    fn failed(&self, source: io::Error) -> AdminError {
        AdminError::Connection { path: self.path.clone(), source }
    }
}

/// Why nothing was answered, or nothing good.
#[derive(Debug, Error)]
pub(crate) enum AdminError {
    #[error("the server on {} has stopped for good: {why}", data.display())]
    Diverged { data: PathBuf, why: String },
    #[error(
        "no server answers at {}: {source}; is one running on that data directory ('--data'), and is this its user or root?",
        path.display()
    )]
    Connect { path: PathBuf, source: io::Error },
    #[error("the server at {} broke off: {source}; its log may say why", path.display())]
    Connection { path: PathBuf, source: io::Error },
    #[error("the server's answer makes no sense: {0}; is it of another version?")]
    Answer(serde_json::Error),
    #[error("{why}")]
    Refused { why: String, again: bool },
    #[error("cannot write the snapshot: {0}")]
    Write(io::Error),
}
