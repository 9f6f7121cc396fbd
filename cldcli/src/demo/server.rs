//! The server of the demonstration: a process, its folder and its port.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cld_server::keys::{Secret, file};
use tempfile::TempDir;

use super::{SERVE, problem};
use crate::failure::Failure;

/// How long the server may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked whether it has.
const GLANCE: Duration = Duration::from_millis(5);
/// How many lines of the log are shown when something went wrong.
const LAST_LINES: usize = 20;

/// See the module. It may be cleaned up by another thread at any time.
pub(super) struct Server {
    secret: Secret,
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// None once it has been cleaned up.
    folder: Option<TempDir>,
    process: Option<Child>,
}

impl Server {
    /// The user that the server knows.
    pub(super) const USER: &str = "demo";

    /// A folder with a key file: one user, with a random secret.
    pub(super) fn prepare() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("cld-demo-")
            .tempdir()
            .map_err(problem("making a temporary folder"))?;
        let path = folder.path().to_path_buf();
        let secret = file::add(&path.join("keys"), Self::USER).map_err(problem("making a key file"))?;
        let state = Mutex::new(State { folder: Some(folder), process: None });
        Ok(Self { secret, path, state })
    }

    pub(super) fn secret(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.path
    }

    /// Starts it, on a free port or on the one that it had; gives its process id and its address.
    pub(super) fn start(&self, port: Option<u16>) -> Result<(u32, SocketAddr), Failure> {
        let port_file = self.path.join("port");
        // A server that was killed has left it behind.
        let _ = fs::remove_file(&port_file);
        let pid = self.spawn(port, &port_file).map_err(problem("starting the server"))?;
        let begun = Instant::now();
        loop {
            let written = fs::read_to_string(&port_file).ok();
            if let Some(port) = written.and_then(|text| text.strip_suffix('\n')?.parse().ok()) {
                return Ok((pid, (Ipv4Addr::LOCALHOST, port).into()));
            }
            if !self.is_running() {
                return Err(Failure::Demo("the server ended at its start".into()));
            }
            if begun.elapsed() > PATIENCE {
                return Err(Failure::Demo(format!(
                    "the server did not begin within {} s",
                    PATIENCE.as_secs()
                )));
            }
            thread::sleep(GLANCE);
        }
    }

    fn spawn(&self, port: Option<u16>, port_file: &Path) -> io::Result<u32> {
        let mut state = self.state();
        if state.folder.is_none() {
            return Err(io::Error::other("the demonstration has been ended"));
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path.join("log"))?;
        let child = Command::new(std::env::current_exe()?)
            .args([SERVE, "--foreground", "--stderr", "--bind", "127.0.0.1", "--config", "/dev/null"])
            .arg("--port")
            .arg(port.map_or_else(|| "auto".into(), |port| port.to_string()))
            .arg("--port-file")
            .arg(port_file)
            .arg("--data")
            .arg(self.path.join("data"))
            .arg("--keys")
            .arg(self.path.join("keys"))
            .env_remove("NOTIFY_SOCKET")
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let pid = child.id();
        state.process = Some(child);
        Ok(pid)
    }

    fn is_running(&self) -> bool {
        self.state().process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub(super) fn kill(&self) -> Result<(), Failure> {
        kill(&mut self.state()).map_err(problem("killing the server"))
    }

    /// The end of the server's log.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.path.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
        format!("The server's log ends so:\n{}\n", last.join("\n"))
    }

    /// Ends the process and removes the folder. Nothing starts after that.
    pub(super) fn clean_up(&self) {
        let mut state = self.state();
        // There is nobody to tell; it may have ended by itself.
        let _ = kill(&mut state);
        state.folder = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.clean_up();
    }
}

fn kill(state: &mut State) -> io::Result<()> {
    let Some(mut child) = state.process.take() else { return Ok(()) };
    child.kill()?;
    child.wait().map(drop)
}
