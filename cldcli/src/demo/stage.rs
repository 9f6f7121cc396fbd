//! Where the demonstration takes place: a folder, and the processes in it, which are all ended with it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cld_server::keys::{Secret, file};
use tempfile::TempDir;

use super::{SERVE, problem};
use crate::failure::Failure;

/// How long anything may take that a server is to come to.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked whether it has.
const GLANCE: Duration = Duration::from_millis(5);
/// How many lines of each log are shown when something went wrong.
const LAST_LINES: usize = 20;
/// The name of the one process that is no server.
const COMMAND: &str = "command";

/// See the module. It may be cleaned up by another thread at any time.
pub(super) struct Stage {
    secret: Secret,
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// None once it has been cleaned up.
    folder: Option<TempDir>,
    /// The servers that run, by name, and the command that does, if any.
    processes: BTreeMap<String, Child>,
}

impl Stage {
    /// The user that all servers know.
    pub(super) const USER: &str = "demo";

    /// A folder with a key file: one user, with a random secret.
    pub(super) fn prepare() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("cld-demo-")
            .tempdir()
            .map_err(problem("making a temporary folder"))?;
        let path = folder.path().to_path_buf();
        let secret = file::add(&path.join("keys"), Self::USER).map_err(problem("making a key file"))?;
        let state = Mutex::new(State { folder: Some(folder), processes: BTreeMap::new() });
        Ok(Self { secret, path, state })
    }

    pub(super) fn secret(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.path
    }

    /// The data directory of the server of this name.
    pub(super) fn data(&self, server: &str) -> PathBuf {
        self.path.join(server)
    }

    /// Starts a server, on a free port or on this one, with more options; gives its process id and its address.
    pub(super) fn start(
        &self,
        server: &str,
        port: Option<u16>,
        options: &[&OsStr],
    ) -> Result<(u32, SocketAddr), Failure> {
        let port_file = self.path.join(format!("{server}.port"));
        // A server that was killed has left it behind.
        let _ = fs::remove_file(&port_file);
        let pid = self.spawn(server, port, &port_file, options).map_err(problem("starting a server"))?;
        let port = await_that("the server begins", || {
            if !self.is_running(server) {
                return Err(Failure::Demo("the server ended at its start".into()));
            }
            let written = fs::read_to_string(&port_file).ok();
            Ok(written.and_then(|text| text.strip_suffix('\n')?.parse().ok()))
        })?;
        Ok((pid, (Ipv4Addr::LOCALHOST, port).into()))
    }

    fn spawn(
        &self,
        server: &str,
        port: Option<u16>,
        port_file: &Path,
        options: &[&OsStr],
    ) -> io::Result<u32> {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.path.join(format!("{server}.log")))?;
        let mut command = server_program()?;
        command
            .args(["--foreground", "--stderr", "--bind", "127.0.0.1", "--config", "/dev/null"])
            .arg("--port")
            .arg(port.map_or_else(|| "auto".into(), |port| port.to_string()))
            .arg("--port-file")
            .arg(port_file)
            .arg("--data")
            .arg(self.data(server))
            .arg("--keys")
            .arg(self.path.join("keys"))
            .args(options)
            .stdout(Stdio::null())
            .stderr(log);
        self.spawn_as(server, command)
    }

    /// Starts a process that ends with the stage; gives its process id.
    fn spawn_as(&self, name: &str, mut command: Command) -> io::Result<u32> {
        let mut state = self.state();
        if state.folder.is_none() {
            return Err(ended());
        }
        let child = command.spawn()?;
        let pid = child.id();
        state.processes.insert(name.into(), child);
        Ok(pid)
    }

    fn is_running(&self, server: &str) -> bool {
        self.state().processes.get_mut(server).is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Runs a command of `cld` on the data of this server: what it prints.
    pub(super) fn ask(&self, server: &str, args: &[&OsStr]) -> Result<String, Failure> {
        let output = self.run(server, args).map_err(problem("running a command of the server's program"))?;
        let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(Failure::Demo(text(&output.stderr)))
        }
    }

    fn run(&self, server: &str, args: &[&OsStr]) -> io::Result<Output> {
        let mut command = server_program()?;
        command.args(args).arg("--data").arg(self.data(server));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn_as(COMMAND, command)?;
        let printed = self.state().processes.get_mut(COMMAND).and_then(|child| child.stdout.take());
        let mut stdout = Vec::new();
        // To the command's end, which another thread may bring about.
        printed.ok_or_else(ended)?.read_to_end(&mut stdout)?;
        let mut child = self.state().processes.remove(COMMAND).ok_or_else(ended)?;
        // Closed, this would end it before it has said how it went.
        let _open = child.stdin.take();
        Ok(Output { stdout, ..child.wait_with_output()? })
    }

    /// Kills a server, as `kill -9` does, and waits until it is gone.
    pub(super) fn kill(&self, server: &str) -> Result<(), Failure> {
        let child = self.state().processes.remove(server);
        child.map_or(Ok(()), kill).map_err(problem("killing a server"))
    }

    /// The ends of the servers' logs.
    pub(super) fn last_words(&self) -> String {
        let mut logs: Vec<PathBuf> = fs::read_dir(&self.path)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension() == Some(OsStr::new("log")))
            .collect();
        logs.sort();
        logs.iter().map(|path| last_words(path)).collect()
    }

    /// Ends the processes and removes the folder. Nothing starts after that.
    pub(super) fn clean_up(&self) {
        let mut state = self.state();
        for child in std::mem::take(&mut state.processes).into_values() {
            // There is nobody to tell; it may have ended by itself.
            let _ = kill(child);
        }
        state.folder = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.clean_up();
    }
}

/// Waits until there is something.
pub(super) fn await_that<T>(
    claim: &str,
    mut look: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if begun.elapsed() > PATIENCE {
            let within = PATIENCE.as_secs();
            return Err(Failure::Demo(format!("this did not come within {within} s: {claim}")));
        }
        thread::sleep(GLANCE);
    }
}

/// The program `cld`, which this one is as well.
fn server_program() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(SERVE).env_remove("NOTIFY_SOCKET").env_remove("RUST_LOG").stdin(Stdio::piped());
    Ok(command)
}

fn ended() -> io::Error {
    io::Error::other("the demonstration has been ended")
}

fn kill(mut child: Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

fn last_words(log: &Path) -> String {
    let name = log.file_stem().unwrap_or_default().display();
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    format!("The log of {name} ends so:\n{}\n", last.join("\n"))
}
