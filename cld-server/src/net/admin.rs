//! The socket by which an operator asks: connections, and what is asked on its way to the task that owns the node.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::snapshot_stream;
use crate::admin::{Answer, Disk, MAX_REQUEST, Request, SOCKET};
use crate::database::Database;
use crate::storage::SnapshotPoint;

/// The most connections at once.
const CONNECTIONS: usize = 8;
/// How long a change may take, and then how long the other end may take to read.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may stay without a request.
const IDLE: Duration = Duration::from_secs(60);
/// How long accepting rests after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// A request, and where its answer goes.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// What the node's task answers.
#[derive(Debug)]
pub(super) enum Reply {
    /// This.
    Answer(Answer),
    /// A snapshot, to be encoded and sent.
    Snapshot { cell: u128, point: SnapshotPoint, database: Box<Database> },
}

/// The socket. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Admin {
    path: PathBuf,
    questions: mpsc::Receiver<Question>,
    listening: AbortHandle,
}

impl Admin {
    /// Makes the socket in the data directory, which this process has locked. Within a tokio runtime only.
    ///
    /// # Errors
    /// The operating system's, such as a path that is too long for a socket.
    pub(super) fn start(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        match std::fs::remove_file(&path) {
            // A server that was killed has left it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let (ask, questions) = mpsc::channel(CONNECTIONS);
        let listening = tokio::spawn(listen(listener, ask, directory.to_owned())).abort_handle();
        Ok(Self { path, questions, listening })
    }

    /// What is asked next.
    pub(super) async fn next(&mut self) -> Question {
        match self.questions.recv().await {
            Some(question) => question,
            // The task that listens ends with this only.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.listening.abort();
        // One that stays leads to nobody, and the next start removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn listen(listener: UnixListener, ask: mpsc::Sender<Question>, directory: PathBuf) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Those who come when all places are taken wait in the kernel.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (ask, directory) = (ask.clone(), directory.clone());
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &ask, &directory).await {
                        debug!("an admin connection ends: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!("cannot accept admin connections: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Answers what one connection asks, until it is closed.
async fn converse(stream: UnixStream, ask: &mpsc::Sender<Question>, directory: &Path) -> io::Result<()> {
    let (theirs, ours) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
    if theirs != ours && theirs != 0 {
        warn!("user {theirs} is not let in at the admin socket");
        return Ok(());
    }
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut stream).take(MAX_REQUEST as u64);
        timeout(IDLE, bounded.read_until(b'\n', &mut line)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        if line.is_empty() {
            return Ok(());
        }
        let reply = match serde_json::from_slice(&line) {
            Ok(request) => asked(request, ask).await,
            Err(error) => refused(format!("the request makes no sense: {error}")),
        };
        match reply {
            Reply::Answer(mut answer) => {
                if let Answer::Status(report) = &mut answer {
                    let directory = directory.to_owned();
                    report.disk = spawn_blocking(move || disk(&directory).ok()).await.ok().flatten();
                }
                say(&mut stream, &answer).await?;
            }
            Reply::Snapshot { cell, point, database } => {
                say(&mut stream, &Answer::Snapshot).await?;
                let mut parts = snapshot_stream::encode(cell, point, database);
                let mut whole = false;
                while let Some(part) = parts.recv().await {
                    whole = part.is_empty();
                    let length = u32::try_from(part.len()).map_err(io::Error::other)?;
                    write(&mut stream, &length.to_be_bytes()).await?;
                    write(&mut stream, &part).await?;
                }
                if !whole {
                    return Err(io::Error::other("the snapshot could not be encoded"));
                }
            }
        }
    }
}

/// Has the node's task answer.
async fn asked(request: Request, ask: &mpsc::Sender<Question>) -> Reply {
    let (reply, answered) = oneshot::channel();
    let answer = async {
        ask.send(Question { request, reply }).await.ok()?;
        answered.await.ok()
    };
    match timeout(PATIENCE, answer).await {
        Ok(Some(reply)) => reply,
        Ok(None) => refused("the server is ending".to_owned()),
        Err(_) => refused(format!(
            "it is not done after {} seconds, and may be done later or not: is a majority of the servers alive? \
             'cld status' tells",
            PATIENCE.as_secs()
        )),
    }
}

pub(super) fn refused(why: String) -> Reply {
    Reply::Answer(Answer::Refused { why, again: false })
}

async fn say(stream: &mut BufReader<UnixStream>, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    write(stream, &line).await
}

async fn write(stream: &mut BufReader<UnixStream>, bytes: &[u8]) -> io::Result<()> {
    timeout(PATIENCE, stream.write_all(bytes)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// How much the data directory takes up, and how much is free.
fn disk(directory: &Path) -> io::Result<Disk> {
    let mut used = 0;
    for entry in std::fs::read_dir(directory)? {
        // A file may be gone by now.
        used += entry?.metadata().map_or(0, |file| file.len());
    }
    let system = rustix::fs::statvfs(directory)?;
    Ok(Disk { used, free: system.f_bavail.saturating_mul(system.f_frsize) })
}
