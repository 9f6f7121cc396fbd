//! A server, and `cldcli` run against it.
#![allow(dead_code, reason = "each test program uses a part of this")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "clippy exempts only #[test] functions, not the helpers around them"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// `cldcli`, with nothing of the surroundings.
pub(crate) fn cldcli() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cldcli"));
    command
        .env_remove("CLD_SERVERS")
        .env_remove("CLD_SEQUENCER")
        .env_remove("NOTIFY_SOCKET")
        .env_remove("RUST_LOG");
    command
}

/// A server of the test's own. It ends with the test, whatever happens.
pub(crate) struct Server {
    process: Child,
    pub(crate) folder: TempDir,
    pub(crate) address: String,
}

/// What a run of `cldcli` left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.out).expect("text on standard output")
    }
}

impl Server {
    /// A server that takes each user's name as the key.
    pub(crate) fn start() -> Self {
        Self::start_with(|_| vec!["--insecure-user-as-key".into()])
    }

    /// A server with these options; the folder is there already.
    pub(crate) fn start_with(options: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port_file = folder.path().join("port");
        let process = cldcli()
            .args(["serve-for-demo", "--foreground", "--stderr", "--config", "/dev/null", "--port", "auto"])
            .args(["--bind", "127.0.0.1", "--port-file"])
            .arg(&port_file)
            .arg("--data")
            .arg(folder.path().join("data"))
            .args(options(folder.path()))
            .stdin(Stdio::piped())
            .stderr(fs::File::create(folder.path().join("log")).expect("a log"))
            .spawn()
            .expect("start the server");
        let mut server = Self { process, folder, address: String::new() };
        let port = wait_for("the server's port", || {
            fs::read_to_string(&port_file).ok().filter(|port| port.ends_with('\n'))
        });
        server.address = format!("127.0.0.1:{}", port.trim());
        server
    }

    /// `cldcli` for this server.
    pub(crate) fn cldcli(&self, args: &[&str]) -> Command {
        let mut command = cldcli();
        command.env("CLD_SERVERS", &self.address).args(args);
        command
    }

    /// Runs `cldcli`.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        run(self.cldcli(args), b"")
    }

    /// Runs `cldcli` with something on standard input.
    pub(crate) fn feed(&self, args: &[&str], input: &[u8]) -> Run {
        run(self.cldcli(args), input)
    }

    /// Starts `cldcli`.
    pub(crate) fn spawn(&self, args: &[&str]) -> Program {
        Program::spawn(self.cldcli(args))
    }

    /// A path in the server's folder, for the test's own files.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: Command, input: &[u8]) -> Run {
    let mut program = Program::spawn(command);
    let mut stdin = program.child.stdin.take().expect("standard input");
    let input = input.to_vec();
    // It may end before it has read everything.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let out = program.out.rest();
    feeding.join().expect("feed standard input");
    let (status, err) = program.end();
    Run { status, out, err }
}

/// A program that runs; killed when dropped.
pub(crate) struct Program {
    child: Child,
    out: Lines,
    err: Lines,
}

/// Lines as a program prints them, with their newlines.
struct Lines(Receiver<Vec<u8>>);

impl Lines {
    fn read(stream: impl Read + Send + 'static) -> Self {
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).expect("read a line") > 0 {
                if tell.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Self(told)
    }

    /// The next line; empty at the end.
    fn next(&self) -> Vec<u8> {
        match self.0.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => panic!("waited in vain for a line"),
            line => line.unwrap_or_default(),
        }
    }

    /// All that is left.
    fn rest(&self) -> Vec<u8> {
        std::iter::repeat_with(|| self.next()).take_while(|line| !line.is_empty()).flatten().collect()
    }

    fn next_text(&self) -> String {
        String::from_utf8(self.next()).expect("text")
    }
}

impl Program {
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the program");
        let out = Lines::read(child.stdout.take().expect("standard output"));
        let err = Lines::read(child.stderr.take().expect("standard error"));
        Self { child, out, err }
    }

    /// The next line on standard output; empty at the end.
    pub(crate) fn line(&self) -> String {
        self.out.next_text()
    }

    /// The next line on standard error; empty at the end.
    pub(crate) fn err_line(&self) -> String {
        self.err.next_text()
    }

    /// Writes to standard input.
    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("standard input");
        stdin.write_all(text.as_bytes()).expect("write to standard input");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("send a signal");
    }

    /// Closes standard input and waits for the end: the exit status, 1000 and more for a signal, and what was left on
    /// standard error.
    pub(crate) fn end(&mut self) -> (i32, String) {
        drop(self.child.stdin.take());
        self.wait()
    }

    /// As [`Program::end`], for a program that ends with its standard input open.
    pub(crate) fn wait(&mut self) -> (i32, String) {
        let status =
            wait_for("the end of the program", || self.child.try_wait().expect("wait for the program"));
        let err = String::from_utf8(self.err.rest()).expect("text");
        (status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0)), err)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there is something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
