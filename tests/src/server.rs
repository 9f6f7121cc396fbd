//! The real `cld` as a process on a free loopback port, with a data directory of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

use crate::programs;
use crate::raw::RawSession;
use crate::rng::Rng;

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked whether it has.
const POLL: Duration = Duration::from_millis(5);
/// How many lines of the log a failed test shows.
const TAIL: usize = 60;

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Options {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    own_keys: bool,
    launcher: Vec<String>,
    program: Option<PathBuf>,
    host: Ipv4Addr,
    port: Option<u16>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Foreground, log on stderr, one loopback address, users' names as keys.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            arguments: Vec::new(),
            environment: Vec::new(),
            own_keys: false,
            launcher: Vec::new(),
            program: None,
            host: Ipv4Addr::LOCALHOST,
            port: None,
        }
    }

    /// Adds an argument, or several.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Tells clients an address at which nobody listens: those that come through a proxy would find the way around it
    /// otherwise.
    #[must_use]
    pub fn behind_proxy(self) -> Self {
        self.args(["--client-addresses", "127.0.0.1:9"])
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another program than the `cld` under test, such as an earlier version.
    #[must_use]
    pub fn program(mut self, path: &Path) -> Self {
        self.program = Some(path.to_owned());
        self
    }

    /// By another program, which is given these arguments, and then the server's program and its arguments. It must
    /// become the server, and not start it beside itself.
    #[must_use]
    pub fn launcher<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.launcher = command.into_iter().map(Into::into).collect();
        self
    }

    /// So that [`Cld::limit_file_size`] makes writing fail, as a full disk does, instead of killing the server by a signal.
    #[must_use]
    pub fn on_a_small_disk(self) -> Self {
        self.launcher(["/bin/sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
    }

    /// On this address, instead of the loopback's.
    #[must_use]
    pub const fn host(mut self, host: Ipv4Addr) -> Self {
        self.host = host;
        self
    }

    pub(crate) const fn address(&self) -> Ipv4Addr {
        self.host
    }

    /// On this port, instead of any free one.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// With a file of users and secrets instead of `--insecure-user-as-key`.
    #[must_use]
    pub fn keys(mut self, file: &Path) -> Self {
        self.own_keys = true;
        self.args(["--keys".to_owned(), file.display().to_string()])
    }

    /// Starts a server with a new data directory.
    ///
    /// # Panics
    /// When it does not start; the message holds its log.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> Cld {
        let folder = tempfile::tempdir().expect("make a temporary folder");
        self.start_in(folder)
    }

    /// Starts a server on an existing folder (of [`Cld::into_folder`]).
    ///
    /// # Panics
    /// When it does not start; the message holds its log.
    #[must_use]
    #[track_caller]
    pub fn start_in(self, folder: TempDir) -> Cld {
        let port = self.port.unwrap_or_else(free_port);
        let child = spawn(folder.path(), port, &self);
        let mut cld = Cld { child, port, options: self, folder: Some(folder), ended: None, stopped: false };
        cld.wait_until_ready();
        cld
    }

    /// Runs a server that must refuse to start, on an existing folder (of [`Cld::into_folder`]), and returns why it
    /// did, with its log.
    ///
    /// # Panics
    /// When it starts after all, or does not end.
    #[track_caller]
    #[must_use]
    pub fn refused(self, folder: &TempDir) -> String {
        let mut child = spawn(folder.path(), free_port(), &self);
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait for cld") {
                break Some(status);
            }
            if port_in(folder.path()).is_some() || Instant::now() >= deadline {
                child.kill().and_then(|()| child.wait()).expect("end cld");
                break None;
            }
            std::thread::sleep(POLL);
        };
        let tail = tail(folder.path());
        match status {
            Some(status) => format!("cld ended at its start: {status}; {tail}"),
            None => panic!("cld did not refuse to start; {tail}"),
        }
    }
}

/// A port below those that the kernel hands out by itself, so that nobody takes it while the server is down.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(Rng::fresh().below(u64::from(COUNT))).unwrap_or_default();
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// A running (or ended, and restartable) server. It is killed when dropped; if a test fails, its log is shown.
#[derive(Debug)]
pub struct Cld {
    child: Child,
    port: u16,
    options: Options,
    /// None after it was handed over.
    folder: Option<TempDir>,
    ended: Option<ExitStatus>,
    stopped: bool,
}

impl Cld {
    /// A server with the usual [`Options`].
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Options::new().start()
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Read before the exit is looked at, so that what an ending server left is not taken for a start.
            let port = port_in(self.path());
            if let Some(status) = self.try_exit() {
                panic!("cld ended at its start: {status}; {}", self.tail());
            }
            if let Some(port) = port {
                return assert_eq!(port, self.port.to_string(), "the port file");
            }
            assert!(Instant::now() < deadline, "cld wrote no port file within {PATIENCE:?}; {}", self.tail());
            std::thread::sleep(POLL);
        }
    }

    fn path(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(self.options.host), self.port)
    }

    /// The id of the process that was started last.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Whether it was neither ended nor stopped.
    #[must_use]
    pub const fn answers(&self) -> bool {
        self.ended.is_none() && !self.stopped
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.path())
    }

    /// A new session of `user`, with the user's name for a key.
    #[must_use]
    #[track_caller]
    pub fn connect(&self, user: &str) -> RawSession {
        RawSession::connect(self.address(), user)
    }

    /// All that it has logged since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(log_file(self.path())).unwrap_or_default()
    }

    /// The last lines of the log, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(self.path())
    }

    fn try_exit(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("wait for cld");
        }
        self.ended
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.try_exit().is_some()
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.try_exit() {
                return status;
            }
            assert!(Instant::now() < deadline, "cld did not end within {PATIENCE:?}");
            std::thread::sleep(POLL);
        }
    }

    fn signal(&mut self, signal: Signal) {
        assert!(self.try_exit().is_none(), "cld has ended; {}", self.tail());
        kill_process(Pid::from_child(&self.child), signal).expect("send cld a signal");
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub fn kill9(&mut self) {
        if self.try_exit().is_none() {
            self.child.kill().expect("kill cld");
            self.ended = Some(self.child.wait().expect("wait for cld"));
        }
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    #[track_caller]
    pub fn sigterm(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit()
    }

    /// Asks it to read its keys again (SIGHUP).
    #[track_caller]
    pub fn sighup(&mut self) {
        self.signal(Signal::HUP);
    }

    /// Asks it to log its figures (SIGUSR1); [`Figures`](crate::observe::Figures) reads them.
    #[track_caller]
    pub fn sigusr1(&mut self) {
        self.signal(Signal::USR1);
    }

    /// From now on no file that it writes may become longer, as on a full disk.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn limit_file_size(&self, bytes: u64) {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        let process = Some(Pid::from_child(&self.child));
        prlimit(process, Resource::Fsize, limit).expect("limit the size of cld's files");
    }

    /// Stops its clock hands, as it were (SIGSTOP).
    #[track_caller]
    pub fn stop(&mut self) {
        self.stopped = true;
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    #[track_caller]
    pub fn cont(&mut self) {
        self.stopped = false;
        self.signal(Signal::CONT);
    }

    /// Starts it again on the same port and data directory, with the same options. It must have ended.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn restart(&mut self) {
        self.begin_restart();
        self.wait_until_ready();
    }

    /// As [`Cld::restart`], but does not wait until it serves.
    ///
    /// # Panics
    /// When it cannot be run.
    #[track_caller]
    pub fn begin_restart(&mut self) {
        assert!(self.try_exit().is_some(), "end cld before it is started again");
        self.child = spawn(self.path(), self.port, &self.options);
        (self.ended, self.stopped) = (None, false);
    }

    /// Starts it again though it must refuse to, and returns why it did, with its log.
    ///
    /// # Panics
    /// When it starts after all.
    #[track_caller]
    pub fn refuses_to_restart(&mut self) -> String {
        self.begin_restart();
        let status = self.wait_exit();
        assert!(port_in(self.path()).is_none(), "cld started; {}", self.tail());
        format!("cld ended at its start: {status}; {}", self.tail())
    }

    /// Loses all data, as a disk that was replaced has. It must have ended.
    ///
    /// # Panics
    /// When the files cannot be removed.
    #[track_caller]
    pub fn wipe(&mut self) {
        assert!(self.try_exit().is_some(), "end cld before its disk is wiped");
        fs::remove_dir_all(self.data_dir()).expect("remove the data directory");
        fs::create_dir(self.data_dir()).expect("make the data directory");
    }

    /// Ends it, and hands over the folder that holds its data directory.
    ///
    /// # Panics
    /// Never: the folder is there until it is handed over.
    #[must_use]
    pub fn into_folder(mut self) -> TempDir {
        self.kill9();
        self.folder.take().expect("the folder is there until it is handed over")
    }
}

impl Drop for Cld {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() && self.folder.is_some() {
            println!("{}", self.tail());
        }
    }
}

fn data_dir(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn port_file(folder: &Path) -> PathBuf {
    folder.join("cld.port")
}

/// What the port file says, once it is whole.
fn port_in(folder: &Path) -> Option<String> {
    fs::read_to_string(port_file(folder)).ok()?.strip_suffix('\n').map(str::to_owned)
}

fn tail(folder: &Path) -> String {
    let log = fs::read_to_string(log_file(folder)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let last = lines.iter().skip(lines.len().saturating_sub(TAIL));
    let last: Vec<String> = last.map(|line| format!("\n    {line}")).collect();
    format!("cld's log ends:{}", last.concat())
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("cld.log")
}

fn spawn(folder: &Path, port: u16, options: &Options) -> Child {
    fs::create_dir_all(data_dir(folder)).expect("make the data directory");
    // One that an earlier run left would be taken for this one's.
    let _ = fs::remove_file(port_file(folder));
    let log = File::options().create(true).append(true).open(log_file(folder)).expect("open the log");
    let program = options.program.as_deref().unwrap_or_else(|| programs::cld());
    let mut command = match options.launcher.split_first() {
        Some((launcher, arguments)) => {
            let mut command = Command::new(launcher);
            command.args(arguments).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(["-F", "-E", "--bind", &options.host.to_string(), "-p", &port.to_string()]);
    command.arg("-d").arg(data_dir(folder)).arg("-P").arg(folder.join("cld.pid"));
    command.arg("--port-file").arg(port_file(folder));
    if !options.own_keys {
        command.arg("--insecure-user-as-key");
    }
    command.args(&options.arguments).envs(options.environment.iter().cloned());
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("share the log")).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("run {}: {error}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for `cld`: a shell script that writes its port file and says what it hears.
    fn stub() -> Options {
        Options::new().program(&programs::workspace().join("tests/fixtures/stub-cld.sh"))
    }

    fn wait_for_line(cld: &Cld, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !cld.log().lines().any(|l| l == line) {
            assert!(Instant::now() < deadline, "no {line:?}; {}", cld.tail());
            std::thread::sleep(POLL);
        }
    }

    #[test]
    fn a_server_starts_ends_and_starts_again_on_its_port_and_folder() {
        let mut cld = stub().args(["--session-timeout", "4"]).env("STUB_GREETING", "hello").start();
        let (address, log) = (cld.address(), cld.log());
        assert!(log.contains("hello") && log.contains("--insecure-user-as-key --session-timeout 4"), "{log}");
        fs::write(cld.data_dir().join("kept"), "").unwrap();
        cld.sighup();
        wait_for_line(&cld, "reload");
        assert_eq!(cld.sigterm().code(), Some(0));
        wait_for_line(&cld, "bye");
        cld.restart();
        assert_eq!(cld.address(), address);
        cld.kill9();
        cld.restart();
        assert_eq!(cld.log().lines().filter(|line| line.starts_with("started")).count(), 3);
        let folder = cld.into_folder();
        let again = stub().start_in(folder);
        assert!(again.data_dir().join("kept").exists());
    }

    #[test]
    fn a_stopped_server_goes_on() {
        let mut cld = stub().start();
        cld.stop();
        cld.sighup();
        cld.cont();
        wait_for_line(&cld, "reload");
    }

    #[test]
    fn a_server_with_keys_gets_no_insecure_ones() {
        let cld = stub().keys(Path::new("/users")).start();
        assert!(cld.log().contains("--keys /users") && !cld.log().contains("--insecure"), "{}", cld.log());
    }

    #[test]
    fn a_refusal_is_told_with_the_log() {
        let folder = stub().start().into_folder();
        let why = stub().args(["--refuse"]).refused(&folder);
        assert!(why.contains("exit status: 3") && why.contains("refusing"), "{why}");
    }

    #[test]
    #[should_panic(expected = "refusing")]
    fn a_server_that_does_not_start_fails_the_test_with_its_log() {
        drop(stub().args(["--refuse"]).start());
    }

    #[test]
    fn a_dropped_server_is_gone() {
        let cld = stub().start();
        let process = Pid::from_child(&cld.child);
        drop(cld);
        assert!(rustix::process::test_kill_process(process).is_err());
    }
}
