//! A cell of several real servers on loopback, made by the commands that an operator runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::programs;
use crate::server::{Cld, Options, free_port};

/// How long the cell may take to come to what a test waits for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked whether it has.
const POLL: Duration = Duration::from_millis(10);

/// The servers, of which any may be killed, stopped and started again.
#[derive(Debug)]
pub struct Cell {
    /// Holds the cell's secret.
    common: TempDir,
    /// The servers, in the order in which they joined.
    pub servers: Vec<Cld>,
}

impl Cell {
    /// Starts so many servers; all of them vote.
    ///
    /// # Panics
    /// When they do not become a cell in time.
    #[must_use]
    pub fn start(servers: usize) -> Self {
        let mut cell =
            Self { common: tempfile::tempdir().expect("make a temporary folder"), servers: Vec::new() };
        for _ in 0..servers {
            cell.join();
        }
        cell
    }

    /// Makes another server, and adds it; the first makes the cell. Returns its place.
    ///
    /// # Panics
    /// When it does not vote in time.
    pub fn join(&mut self) -> usize {
        let (token, folder, options) = self.prepare();
        self.servers.push(options.start_in(folder));
        let place = self.servers.len() - 1;
        if place > 0 {
            self.add(&token);
        }
        self.wait("its last server votes", |cell| {
            let master = cell.find_master()?;
            let all = cell.status(master)?;
            let votes = |member: &Value| member.get("votes").and_then(Value::as_bool) == Some(true);
            all.get("members")?.as_array().filter(|all| all.len() == place + 1 && all.iter().all(votes))?;
            Some(())
        });
        place
    }

    /// The data directory of another server, made but not started: its join token (of the first, none), its folder, and
    /// how to start it.
    ///
    /// # Panics
    /// When the command fails.
    #[must_use]
    pub fn prepare(&self) -> (String, TempDir, Options) {
        let folder = tempfile::tempdir().expect("make a temporary folder");
        let (client, peer, secret) = (free_port(), format!("127.0.0.1:{}", free_port()), self.secret());
        let action = if secret.exists() { "prepare" } else { "init" };
        let output = Command::new(programs::cld())
            .args(["cell", action, "--peer", &peer, "--client", &format!("127.0.0.1:{client}")])
            .arg("--data")
            .arg(folder.path().join("data"))
            .arg("--cell-secret")
            .arg(&secret)
            .output()
            .expect("run cld");
        let token = said(output).unwrap_or_else(|error| panic!("cld cell {action}: {error}"));
        let secret = secret.display().to_string();
        let options = Options::new().port(client).args(["--cell-secret", &secret, "--peer", &peer]);
        (token.trim().to_owned(), folder, options)
    }

    fn secret(&self) -> PathBuf {
        self.common.path().join("secret")
    }

    /// Adds the server of this token.
    ///
    /// # Panics
    /// When the master refuses it.
    pub fn add(&self, token: &str) {
        let master = self.master();
        self.ask(master, &["member", "add", token]).unwrap_or_else(|error| panic!("cld member add: {error}"));
    }

    /// Where clients reach the servers.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(Cld::address).collect()
    }

    /// Runs a command of `cld` on the machine of this server: what it prints.
    ///
    /// # Errors
    /// What it says when it fails.
    ///
    /// # Panics
    /// When `cld` cannot be run.
    pub fn ask(&self, server: usize, args: &[&str]) -> Result<String, String> {
        let data = self.servers.get(server).map(Cld::data_dir).unwrap_or_default();
        let output =
            Command::new(programs::cld()).args(args).arg("--data").arg(data).output().expect("run cld");
        said(output)
    }

    /// What a server says of itself; nothing if it does not run.
    #[must_use]
    pub fn status(&self, server: usize) -> Option<Value> {
        let said = self.ask(server, &["status", "--json"]).ok()?;
        serde_json::from_str(&said).ok()
    }

    /// One string of that.
    #[must_use]
    pub fn says(&self, server: usize, what: &str) -> Option<String> {
        self.status(server)?.get(what)?.as_str().map(str::to_owned)
    }

    fn find_master(&self) -> Option<usize> {
        let running =
            (0..self.servers.len()).filter(|&place| self.servers.get(place).is_some_and(Cld::answers));
        running
            .filter(|&place| self.says(place, "role").as_deref() == Some("master"))
            .max_by_key(|&place| self.status(place).and_then(|status| status.get("epoch")?.as_u64()))
    }

    /// The server that says that it is the master, once one does.
    ///
    /// # Panics
    /// When none does in time.
    #[must_use]
    pub fn master(&self) -> usize {
        self.wait("there is a master", Self::find_master)
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait<T>(&self, what: &str, holds: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = holds(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "it does not come that {what}: {}", self.logs());
            std::thread::sleep(POLL);
        }
    }

    fn logs(&self) -> String {
        self.servers.iter().map(|server| format!("\n{}", server.tail())).collect()
    }
}

fn said(output: Output) -> Result<String, String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
