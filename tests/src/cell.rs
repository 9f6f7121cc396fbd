//! A cell of several real servers on loopback, made by the commands that an operator runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::programs;
use crate::server::{Cld, Options, free_port};

/// How long the cell may take to come to what a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it has.
const POLL: Duration = Duration::from_millis(20);

/// The servers, of which any may be killed, stopped and started again.
#[derive(Debug)]
pub struct Cell {
    /// Where the folders of the servers are made.
    folder: PathBuf,
    /// Holds the cell's secret.
    common: TempDir,
    /// The servers, in the order in which they joined.
    pub servers: Vec<Cld>,
    /// Where other servers find them.
    peers: Vec<SocketAddr>,
}

/// A server whose data directory is made, and which was not started yet.
#[derive(Debug)]
pub struct Prepared {
    /// Its join token; the first server of a cell has none.
    pub token: String,
    folder: TempDir,
    options: Options,
    peer: SocketAddr,
}

impl Cell {
    /// Starts so many servers; all of them vote.
    ///
    /// # Panics
    /// When they do not become a cell in time.
    #[must_use]
    pub fn start(servers: usize) -> Self {
        Self::start_with(vec![Options::new(); servers])
    }

    /// The same, with the data of all servers on the disk of this folder.
    ///
    /// # Panics
    /// When they do not become a cell in time.
    #[must_use]
    pub fn start_in(folder: &Path, servers: usize) -> Self {
        Self::start_so(folder, vec![Options::new(); servers])
    }

    /// The same with servers that are started by these options.
    ///
    /// # Panics
    /// When they do not become a cell in time.
    #[must_use]
    pub fn start_with(servers: impl IntoIterator<Item = Options>) -> Self {
        Self::start_so(&std::env::temp_dir(), servers)
    }

    fn start_so(folder: &Path, servers: impl IntoIterator<Item = Options>) -> Self {
        let common = tempfile::tempdir_in(folder).expect("make a temporary folder");
        let mut cell = Self { folder: folder.to_owned(), common, servers: Vec::new(), peers: Vec::new() };
        for options in servers {
            cell.join(options);
        }
        cell
    }

    /// Makes another server, and adds it; the first makes the cell. Returns its place.
    ///
    /// # Panics
    /// When it does not vote in time.
    pub fn join(&mut self, options: Options) -> usize {
        let members = self.members();
        let prepared = self.prepare(options);
        let token = prepared.token.clone();
        let place = self.run(prepared);
        if place > 0 {
            self.add(&token);
        }
        self.await_votes(members + 1);
        place
    }

    fn members(&self) -> usize {
        if self.servers.is_empty() {
            return 0;
        }
        let count = |cell: &Self| Some(cell.find_master()?.1.get("members")?.as_array()?.len());
        self.wait("the master tells the members", count)
    }

    /// Waits until the cell has so many members, and all vote.
    ///
    /// # Panics
    /// When that does not come in time.
    pub fn await_votes(&self, members: usize) {
        // Asking one of them is less work for a busy machine than asking all each time.
        let mut master = self.master();
        self.wait(&format!("{members} members vote"), |cell| {
            let Some(all) = cell.status(master).filter(is_master) else {
                master = cell.find_master()?.0;
                return None;
            };
            let votes = |member: &Value| member.get("votes").and_then(Value::as_bool) == Some(true);
            all.get("members")?.as_array().filter(|all| all.len() == members && all.iter().all(votes))?;
            Some(())
        });
    }

    /// Waits until all servers that run have what the master has now.
    ///
    /// # Panics
    /// When that does not come in time.
    pub fn await_caught_up(&self) {
        let applied = |status: Value| status.pointer("/log/applied")?.as_u64();
        let master = |cell: &Self| applied(cell.find_master()?.1);
        let has = self.wait("the master tells how far it is", master);
        for place in (0..self.servers.len()).filter(|&place| self.runs(place)) {
            let caught_up = |cell: &Self| applied(cell.status(place)?).filter(|&applied| applied >= has);
            self.wait(&format!("server {place} has caught up"), caught_up);
        }
    }

    fn runs(&self, place: usize) -> bool {
        self.servers.get(place).is_some_and(Cld::answers)
    }

    /// The data directory of another server, made but not started.
    ///
    /// # Panics
    /// When the command fails.
    #[must_use]
    pub fn prepare(&self, options: Options) -> Prepared {
        let folder = tempfile::tempdir_in(&self.folder).expect("make a temporary folder");
        let client = SocketAddr::from((options.address(), free_port()));
        let peer = SocketAddr::from((options.address(), free_port()));
        let token = self.make(&folder.path().join("data"), client, peer);
        let secret = self.secret().display().to_string();
        let options =
            options.port(client.port()).args(["--cell-secret", &secret, "--peer", &peer.to_string()]);
        Prepared { token, folder, options, peer }
    }

    /// Makes the data directory of a server that has lost its own anew: its join token.
    ///
    /// # Panics
    /// When the command fails.
    #[must_use]
    pub fn prepare_again(&self, place: usize) -> String {
        match (self.servers.get(place), self.peers.get(place)) {
            (Some(server), Some(peer)) => self.make(&server.data_dir(), server.address(), *peer),
            _ => panic!("there is no server {place}"),
        }
    }

    fn make(&self, data: &Path, client: SocketAddr, peer: SocketAddr) -> String {
        let action = if self.secret().exists() { "prepare" } else { "init" };
        let output = Command::new(programs::cld())
            .args(["cell", action, "--peer", &peer.to_string(), "--client", &client.to_string()])
            .arg("--data")
            .arg(data)
            .arg("--cell-secret")
            .arg(self.secret())
            .output()
            .expect("run cld");
        let token = said(output).unwrap_or_else(|error| panic!("cld cell {action}: {error}"));
        token.trim().to_owned()
    }

    /// Starts it. Returns its place.
    pub fn run(&mut self, prepared: Prepared) -> usize {
        self.servers.push(prepared.options.start_in(prepared.folder));
        self.peers.push(prepared.peer);
        self.servers.len() - 1
    }

    /// The file with the cell's secret.
    #[must_use]
    pub fn secret(&self) -> PathBuf {
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

    /// Takes a server out.
    ///
    /// # Panics
    /// When the master refuses to.
    pub fn remove(&self, id: &str) {
        let master = self.master();
        self.ask(master, &["member", "remove", id])
            .unwrap_or_else(|error| panic!("cld member remove: {error}"));
    }

    /// Hands the mastership to another server, and waits until it has it.
    ///
    /// # Panics
    /// When the master refuses to.
    pub fn transfer(&self, place: usize) {
        let id = self.id(place);
        let ask = |cell: &Self| cell.ask(cell.find_master()?.0, &["transfer", &id]).ok();
        self.wait("the master hands over", ask);
        self.wait("the other server is the master", |cell| (cell.find_master()?.0 == place).then_some(()));
    }

    /// The id of a server that runs.
    #[must_use]
    pub fn id(&self, place: usize) -> String {
        self.wait("the server tells its id", |cell| cell.says(place, "server"))
    }

    /// All places but this one.
    #[must_use]
    pub fn others(&self, place: usize) -> Vec<usize> {
        (0..self.servers.len()).filter(|&other| other != place).collect()
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

    /// The server that says so, of several the last one that was elected; and all that it says.
    fn find_master(&self) -> Option<(usize, Value)> {
        let running = (0..self.servers.len()).filter(|&place| self.runs(place));
        running
            .filter_map(|place| Some((place, self.status(place)?)))
            .filter(|(_, status)| is_master(status))
            .max_by_key(|(_, status)| status.get("epoch").and_then(Value::as_u64))
    }

    /// The server that says that it is the master, once one does.
    ///
    /// # Panics
    /// When none does in time.
    #[must_use]
    pub fn master(&self) -> usize {
        self.wait("there is a master", Self::find_master).0
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait<T>(&self, what: &str, mut holds: impl FnMut(&Self) -> Option<T>) -> T {
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

fn is_master(status: &Value) -> bool {
    status.get("role").is_some_and(|role| role == "master")
}

fn said(output: Output) -> Result<String, String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
