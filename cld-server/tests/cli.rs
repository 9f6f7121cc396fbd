//! The `cld` program as a process: options, exit status, files, signals.
//!
//! Every wait is for an event, such as a line of the log or the end of the process, and is bounded.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy exempts only #[test] functions, not the helpers around them"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use cldc_core::wire::{Key, Op, Packet, Part, Seal};
use rustix::process::{Pid, Signal, getsid, kill_process};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A `cld` that reads no configuration but that of the test.
fn cld(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cld"));
    command.current_dir(directory).env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    command
}

/// Runs a `cld` that must end by itself.
fn run(directory: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = cld(directory).args(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The same for a server: with a configuration file that leaves nothing out, whatever the machine has in /etc.
fn run_server(directory: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    run(directory, &[&["--config", "/dev/null"], args].concat())
}

/// Receives a datagram, once more if something else interrupts it: calls with a time limit are not begun again by
/// themselves.
fn receive(mut call: impl FnMut() -> std::io::Result<usize>) -> usize {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            length => return length.unwrap(),
        }
    }
}

/// A program whose standard error is read line by line.
struct Process {
    child: Child,
    log: Receiver<String>,
}

impl Process {
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (lines, log) = channel();
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        Self { child, log }
    }

    /// Waits for a line that has this text in it.
    fn wait_for(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no '{text}' in the log ({error}): {seen:#?}"),
            }
        }
    }

    /// Waits until nobody has the standard error open any more: until this process and its children have ended.
    fn wait_for_end(&self) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => seen.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return seen,
                Err(error) => panic!("the program does not end ({error}): {seen:#?}"),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // For tests that fail; otherwise it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server in the background, until it is known to have ended.
struct Background(Option<Pid>);

impl Drop for Background {
    fn drop(&mut self) {
        // For a test that fails.
        let _ = self.0.map(|pid| kill_process(pid, Signal::KILL));
    }
}

/// A server in the foreground.
struct Server {
    process: Process,
    directory: TempDir,
}

const INSECURE: &[&str] = &["--insecure-user-as-key"];

impl Server {
    fn start(args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), args, &[])
    }

    fn start_in(directory: TempDir, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = cld(directory.path());
        command.args(["--config", "/dev/null", "-F", "-E", "-d", "data", "-P", "cld.pid", "-p", "auto"]);
        command.args(["--bind", "127.0.0.1", "--port-file", "cld.port"]);
        let process = Process::spawn(command.args(args).envs(environment.iter().copied()));
        process.wait_for("serving");
        Self { process, directory }
    }

    fn wait_for(&self, text: &str) -> String {
        self.process.wait_for(text)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.child), signal).unwrap();
    }

    /// Ends it by a signal. Returns its status and what it leaves.
    fn end(mut self, signal: Signal) -> (ExitStatus, TempDir) {
        self.signal(signal);
        self.process.wait_for_end();
        (self.process.child.wait().unwrap(), self.directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn port(&self) -> u16 {
        fs::read_to_string(self.path("cld.port")).unwrap().strip_suffix('\n').unwrap().parse().unwrap()
    }

    /// One of the numbers in its statistics.
    fn statistic(&self, name: &str) -> u64 {
        self.signal(Signal::USR1);
        let line = self.wait_for("STAT");
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in {line}")).parse().unwrap()
    }

    /// Whether a user is let in with this secret: whether a request for a session is answered.
    fn lets_in(&self, user: &str, secret: &[u8]) -> bool {
        let (received, forged) = (self.statistic("received"), self.statistic("forged"));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let key = Key::new(secret).unwrap();
        let sid = u64::from(socket.local_addr().unwrap().port());
        let seal = Seal { sid, user: user.as_bytes(), key: &key };
        let mut buffer = [0; 2048];
        let length = seal.emit(Part::Only { xid: 1, op: Op::NewSess }, 1, &[], &mut buffer).unwrap();
        socket.send_to(&buffer[..length], (Ipv4Addr::LOCALHOST, self.port())).unwrap();
        while self.statistic("received") == received {}
        if self.statistic("forged") > forged {
            return false;
        }
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = receive(|| socket.recv(&mut buffer));
        let answer = Packet::parse(&buffer[..length]).unwrap();
        assert_eq!((answer.sid, answer.part.op()), (sid, Some(Op::NewSess)));
        answer.verify(&key).unwrap();
        true
    }
}

#[test]
fn a_bad_command_line_is_told_with_the_usage_and_status_64() {
    let directory = tempfile::tempdir().unwrap();
    for (args, message) in [
        (&["-p", "0"][..], "invalid port: '0'"),
        (&["-p", "65536"], "invalid port: '65536'"),
        (&["-p", "http"], "invalid port: 'http'"),
        (&["-D", "3"], "'3' is not a number from 0 to 2"),
        (&["--session-timeout", "601"], "'601' is not a number from 2 to 600"),
        (&["--bind", "localhost"], "invalid IP address"),
        (&["--no-such-option"], "--no-such-option"),
        (&["a-word"], "a-word"),
        (&["user"], "add"),
        (&["user", "add"], "<NAME>"),
        (&["-F", "user", "list"], "cannot be used with"),
    ] {
        let (status, out, err) = run(directory.path(), args);
        assert_eq!(status, Some(64), "{args:?}: {err}");
        assert!(err.contains(message) && err.contains("Usage:") && out.is_empty(), "{args:?}: {err}");
    }
}

#[test]
fn help_and_version_are_printed_with_status_0() {
    let directory = tempfile::tempdir().unwrap();
    for option in ["-?", "--help"] {
        let (status, out, _) = run(directory.path(), &[option]);
        assert_eq!(status, Some(0));
        let hails = [
            "--data",
            "--debug",
            "--stderr",
            "--foreground",
            "--port",
            "--pid",
            "--port-file",
            "--strict-free",
        ];
        assert!(hails.iter().all(|option| out.contains(option)), "{out}");
    }
    for option in ["-V", "--version"] {
        let (status, out, _) = run(directory.path(), &[option]);
        assert_eq!((status, out), (Some(0), format!("cld {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn a_server_without_users_does_not_start_and_says_both_ways_out() {
    let directory = tempfile::tempdir().unwrap();
    let (status, _, err) = run_server(directory.path(), &["-F"]);
    assert_eq!(status, Some(78), "{err}");
    assert!(err.contains("--keys") && err.contains("--insecure-user-as-key"), "{err}");
    let (status, _, err) = run_server(directory.path(), &["-F", "-E", "-d", "data", "--keys", "missing"]);
    assert_eq!(status, Some(78), "{err}");
    assert!(err.contains("missing") && err.contains("cld user add"), "{err}");
    assert!(!directory.path().join("data").exists());
}

#[test]
fn a_bad_configuration_file_is_told_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("cld.toml"), "# ours\nsession-timout = 30\n").unwrap();
    let (status, _, err) = run(directory.path(), &["--config", "cld.toml", "-F"]);
    assert_eq!(status, Some(78));
    assert_eq!(err, "cld: cld.toml:2: unknown name 'session-timout'; did you mean 'session-timeout'?\n");
}

#[test]
fn check_shows_what_would_be_used_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("cld.toml"), "data = 'data'\nport = 99\nkeys = 'keys'\n").unwrap();
    run(directory.path(), &["user", "--keys", "keys", "add", "web"]);
    let args = ["--check", "--config", "cld.toml", "--port", "100"];
    let (status, out, err) = run(directory.path(), &args);
    assert_eq!(status, Some(0), "{err}");
    for text in ["data: holds no data; becomes a new cell", "UDP port 100", "1 in the key file keys", "60 s"]
    {
        assert!(out.contains(text), "no '{text}' in {out}");
    }
    assert!(!directory.path().join("data").exists());

    fs::set_permissions(directory.path().join("keys"), fs::Permissions::from_mode(0o644)).unwrap();
    let (status, _, err) = run(directory.path(), &args);
    assert!(status == Some(78) && err.contains("chmod 600 keys"), "{status:?} {err}");
}

#[test]
fn check_tells_a_used_and_a_whole_directory_apart() {
    let server = Server::start(INSECURE);
    let args = ["--check", "-d", "data", "--insecure-user-as-key"];
    let (status, out, _) = run_server(server.directory.path(), &args);
    let pid = server.process.child.id();
    assert!(status == Some(0) && out.contains(&format!("in use by process {pid}")), "{status:?} {out}");
    let (_, directory) = server.end(Signal::TERM);
    let (status, out, _) = run_server(directory.path(), &args);
    assert!(status == Some(0) && out.contains("data: whole"), "{status:?} {out}");
}

#[test]
fn data_of_a_server_that_stopped_for_good_is_refused_with_status_65_and_the_reason() {
    let server = Server::start(INSECURE);
    let (_, directory) = server.end(Signal::TERM);
    fs::write(directory.path().join("data/DIVERGED"), "the state here is wrong").unwrap();
    let (status, _, err) = run_server(directory.path(), &["-FE", "-d", "data", "--insecure-user-as-key"]);
    assert!(
        status == Some(65) && err.contains("the state here is wrong. data/DIVERGED says so"),
        "{status:?} {err}"
    );
    let (status, _, err) = run(directory.path(), &["status", "-d", "data"]);
    assert!(status == Some(1) && err.contains("has stopped for good: the state here is wrong"), "{err}");
}

#[test]
fn a_foreign_directory_is_refused_with_the_files_name_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("data")).unwrap();
    fs::write(directory.path().join("data/thesis.txt"), "mine").unwrap();
    for args in [
        &["--check", "-d", "data", "--insecure-user-as-key"][..],
        &["-FE", "-d", "data", "--insecure-user-as-key"],
    ] {
        let (status, _, err) = run_server(directory.path(), args);
        assert!(status == Some(1) && err.contains("data/thesis.txt"), "{status:?} {err}");
    }
    let names: Vec<_> =
        fs::read_dir(directory.path().join("data")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
}

#[test]
fn a_signal_ends_the_server_with_status_0_and_without_its_files() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(INSECURE);
        let pid = fs::read_to_string(server.path("cld.pid")).unwrap();
        assert_eq!(pid, format!("{}\n", server.process.child.id()));
        assert_ne!(server.port(), 0);
        assert!(server.lets_in("anybody", b"anybody"));
        let (status, directory) = server.end(signal);
        assert_eq!(status.code(), Some(0));
        assert!(!directory.path().join("cld.pid").exists() && !directory.path().join("cld.port").exists());
        assert!(directory.path().join("data/log.redb").exists());
    }
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_the_first_goes_on() {
    let server = Server::start(INSECURE);
    let pid = server.process.child.id();
    let second = ["-F", "-E", "-d", "data", "-p", "auto", "--insecure-user-as-key"];
    let (status, _, err) = run_server(server.directory.path(), &second);
    assert!(
        status == Some(1) && err.contains(&format!("data is in use by process {pid}")),
        "{status:?} {err}"
    );
    let third = [&second[..], &["-P", "cld.pid"]].concat();
    let (status, _, err) = run_server(server.directory.path(), &third);
    assert!(
        status == Some(1) && err.contains(&format!("cld.pid is held by process {pid}")),
        "{status:?} {err}"
    );
    assert!(server.path("cld.pid").exists(), "the refused one took the pid file of the first away");
    assert!(server.lets_in("anybody", b"anybody"));
}

#[test]
fn in_the_background_the_starter_waits_until_the_server_serves() {
    let directory = tempfile::tempdir().unwrap();
    let args =
        ["--config", "/dev/null", "-E", "-d", "data", "-p", "auto", "--port-file=cld.port", "-P", "cld.pid"];
    let mut process =
        Process::spawn(cld(directory.path()).args(args).args(INSECURE).args(["--bind", "127.0.0.1"]));
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    assert!(directory.path().join("cld.port").exists());
    let pid: i32 = fs::read_to_string(directory.path().join("cld.pid")).unwrap().trim().parse().unwrap();
    assert_ne!(pid, i32::try_from(process.child.id()).unwrap());
    let pid = Pid::from_raw(pid).unwrap();
    let mut server = Background(Some(pid));
    assert_eq!(getsid(Some(pid)).unwrap(), pid, "the server has a session of its own");
    process.wait_for("serving");
    kill_process(pid, Signal::TERM).unwrap();
    process.wait_for_end();
    server.0 = None;
    assert!(!directory.path().join("cld.pid").exists() && !directory.path().join("cld.port").exists());
}

#[test]
fn in_the_background_a_failure_is_told_to_the_starter() {
    let holder = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let directory = tempfile::tempdir().unwrap();
    let args = ["-d", "data", "-P", "cld.pid", "--bind", "127.0.0.1", "-p", &port, "--insecure-user-as-key"];
    let (status, _, err) = run_server(directory.path(), &args);
    assert!(
        status == Some(1) && err.contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{status:?} {err}"
    );
    assert!(!directory.path().join("cld.pid").exists());
}

#[test]
fn users_are_added_listed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let user = |args: &[&str]| run(directory.path(), &[&["user", "--keys", "keys"], args].concat());
    let (status, secret, err) = user(&["add", "web"]);
    assert_eq!(status, Some(0), "{err}");
    assert_eq!(secret.trim_end().len(), 64);
    assert_eq!(fs::read_to_string(directory.path().join("keys")).unwrap(), format!("web:{secret}"));
    assert_eq!(user(&["add", "db"]).0, Some(0));
    assert_eq!(user(&["list"]).1, "db\nweb\n");
    let (status, out, err) = user(&["add", "web"]);
    assert!(status == Some(78) && out.is_empty() && err.contains("'web' already"), "{err}");
    assert_eq!(user(&["remove", "web"]).0, Some(0));
    assert_eq!(user(&["list"]).1, "db\n");
    let (status, _, err) = user(&["remove", "web"]);
    assert!(status == Some(78) && err.contains("no user 'web'"), "{err}");
}

#[test]
fn hangup_reloads_the_keys_and_a_bad_file_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    let write = |text: &str| {
        fs::write(&keys, text).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("web:first\n");
    let server = Server::start_in(directory, &["--keys", "keys"], &[]);
    assert!(server.lets_in("web", b"first"));
    assert!(!server.lets_in("web", b"second"));

    write("web:second\ndb:x\n");
    server.signal(Signal::HUP);
    server.wait_for("keys and limits reloaded");
    assert!(server.lets_in("web", b"second"));
    assert!(!server.lets_in("web", b"first"));

    write("web:third\nnonsense\n");
    server.signal(Signal::HUP);
    let line = server.wait_for("the old keys and limits stay");
    assert!(line.contains("keys:2: there is no ':'"), "{line}");
    assert!(server.lets_in("db", b"x"));
    assert!(!server.lets_in("web", b"third"));
    assert_eq!(server.end(Signal::TERM).0.code(), Some(0));
}

#[test]
fn the_log_is_json_if_asked_for() {
    let server = Server::start(&["--insecure-user-as-key", "--log-format", "json"]);
    server.signal(Signal::USR1);
    let line = server.wait_for("STAT");
    assert!(line.starts_with('{') && line.contains("\"sessions\":0") && line.ends_with('}'), "{line}");
}

#[test]
fn the_service_manager_is_told_of_start_life_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let length = receive(|| manager.recv(&mut buffer));
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "100000")];
    let server = Server::start_in(directory, INSECURE, &environment);
    assert_eq!(heard(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1\n");
    }
    server.signal(Signal::TERM);
    let last = std::iter::repeat_with(heard).find(|word| word != "WATCHDOG=1\n");
    assert_eq!(last.as_deref(), Some("STOPPING=1\n"));
    assert_eq!(server.end(Signal::TERM).0.code(), Some(0));
}

/// Makes the first server of a cell in `a`, with its secret in `secret`.
fn init(directory: &Path) {
    let args = ["cell", "init", "-d", "a", "--peer", "127.0.0.1:9001", "--cell-secret", "secret"];
    let (status, out, err) = run(directory, &args);
    assert!(status == Some(0) && out.is_empty() && err.contains("first server of the new cell"), "{err}");
}

const PREPARE: &[&str] = &[
    "cell",
    "prepare",
    "-d",
    "b",
    "--peer",
    "127.0.0.1:9002",
    "--client",
    "127.0.0.1:8002",
    "--cell-secret",
];

#[test]
fn a_cell_is_made_with_a_secret_of_its_own_and_nothing_is_written_over() {
    let directory = tempfile::tempdir().unwrap();
    init(directory.path());
    let secret = fs::read(directory.path().join("secret")).unwrap();
    let mode = fs::metadata(directory.path().join("secret")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (data, file, message) in [("a", "other", "a is not empty"), ("c", "secret", "secret exists")] {
        let args = ["cell", "init", "-d", data, "--peer", "127.0.0.1:9001", "--cell-secret", file];
        let (status, _, err) = run(directory.path(), &args);
        assert!(status == Some(1) && err.contains(message), "{err}");
    }
    assert_eq!(fs::read(directory.path().join("secret")).unwrap(), secret);
    assert!(!directory.path().join("c").exists() && !directory.path().join("other").exists());
    let nowhere = ["cell", "init", "-d", "c", "--peer", "0.0.0.0:9001", "--cell-secret", "other"];
    let (status, _, err) = run(directory.path(), &nowhere);
    assert!(status == Some(1) && err.contains("nobody can reach a server at 0.0.0.0:9001"), "{err}");
}

#[test]
fn a_server_is_prepared_once_with_the_cells_secret() {
    let directory = tempfile::tempdir().unwrap();
    let (status, _, err) = run(directory.path(), &[PREPARE, &["secret"]].concat());
    assert!(status == Some(1) && err.contains("cannot read the cell's secret secret"), "{err}");
    init(directory.path());
    let (status, token, err) = run(directory.path(), &[PREPARE, &["secret"]].concat());
    assert!(status == Some(0) && err.contains("waits to be added"), "{err}");
    assert!(token.starts_with("cld-join-1:") && token.lines().count() == 1, "{token}");
    let (status, out, err) = run(directory.path(), &[PREPARE, &["secret"]].concat());
    assert!(status == Some(1) && out.is_empty() && err.contains("b is not empty"), "{err}");
}

#[test]
fn a_directory_is_used_only_as_what_it_was_made_for() {
    let directory = tempfile::tempdir().unwrap();
    init(directory.path());
    run(directory.path(), &[PREPARE, &["secret"]].concat());
    let other = ["cell", "init", "-d", "c", "--peer", "127.0.0.1:9003", "--cell-secret", "other"];
    run(directory.path(), &other);
    let serve = |data, options: &[&str]| {
        let base = ["-F", "-E", "-p", "auto", "--insecure-user-as-key", "-d", data];
        let (status, _, err) = run_server(directory.path(), &[&base, options].concat());
        let (checked, _, check) = run_server(directory.path(), &[&base, options, &["--check"]].concat());
        assert!(status != Some(0) && checked == status, "{err} {check}");
        err
    };
    let cell = |secret| ["--peer", "127.0.0.1:9009", "--cell-secret", secret];
    for data in ["a", "b"] {
        assert!(serve(data, &[]).contains("holds a server of a cell of several"));
        assert!(serve(data, &cell("other")).contains("one of the two is the wrong one"));
    }
    let empty = serve("d", &cell("secret"));
    assert!(empty.contains("'cld cell init'") && empty.contains("'cld cell prepare'"), "{empty}");
    assert!(!directory.path().join("d").exists());
    let args = ["--check", "--insecure-user-as-key", "-d", "a"];
    let (status, out, _) = run_server(directory.path(), &[&args[..], &cell("secret")].concat());
    assert!(status == Some(0) && out.contains("by secret, TCP on 127.0.0.1:9009"), "{out}");
}

#[test]
fn a_running_server_tells_how_it_is_in_words_and_in_json() {
    let server = Server::start(INSECURE);
    let directory = server.directory.path();
    assert!(server.lets_in("web", b"web"));
    let (status, out, err) = run(directory, &["status", "-d", "data"]);
    assert!(
        status == Some(0) && out.contains("role      master") && out.contains("sessions  1"),
        "{out}{err}"
    );
    let (_, out, _) = run(directory, &["status", "--json", "-d", "data"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["role"], &report["master"]), (&"master".into(), &report["server"]));
    assert!(report["disk"]["used"].as_u64().unwrap() > 0 && report["log"]["applied"].as_u64().unwrap() > 1);
    assert_eq!(report["log"]["digest"].as_str().map(str::len), Some(32));
    let (_, out, _) = run(directory, &["member", "list", "-d", "data"]);
    assert!(out.lines().nth(1).is_some_and(|line| line.contains("here")), "{out}");

    let (status, _, err) = run(directory, &["member", "add", "cld-join-1:00", "-d", "data"]);
    assert!(status == Some(1) && err.contains("cell of one"), "{err}");
    let mode = fs::metadata(server.path("data/admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_, directory) = server.end(Signal::TERM);
    assert!(!directory.path().join("data/admin.sock").exists());
    let (status, _, err) = run(directory.path(), &["status", "-d", "data"]);
    assert!(status == Some(1) && err.contains("no server answers at data/admin.sock"), "{err}");
}

#[test]
fn nonsense_on_the_admin_socket_is_refused_and_harms_nobody() {
    let server = Server::start(INSECURE);
    let connect = || UnixStream::connect(server.path("data/admin.sock")).unwrap();
    let mut line = String::new();
    for nonsense in [&b"\n"[..], b"{}\n", b"\xff\xfe\n", b"{\"ask\":\"end\"}\n", &[b'x'; 4096]] {
        let mut stream = connect();
        stream.write_all(nonsense).unwrap();
        line.clear();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.contains("the request makes no sense"), "{line}");
    }
    // As many as there is room for, which say nothing; and some that go away at once.
    let silent: Vec<UnixStream> = (0..7).map(|_| connect()).collect();
    (0..20).for_each(|_| drop(connect()));
    let (status, out, err) = run(server.directory.path(), &["status", "-d", "data"]);
    assert!(status == Some(0) && out.contains("master"), "{err}");
    drop(silent);
    assert!(server.lets_in("web", b"web"));
}

/// A directory with a server's data, and a snapshot of it in `saved`.
fn saved() -> TempDir {
    let server = Server::start(INSECURE);
    assert!(server.lets_in("web", b"web"));
    let (status, _, err) = run(server.directory.path(), &["snapshot", "save", "saved", "-d", "data"]);
    assert_eq!(status, Some(0), "{err}");
    server.end(Signal::TERM).1
}

#[test]
fn an_old_snapshot_is_not_restored_over_a_newer_log() {
    let directory = saved();
    let log = fs::read(directory.path().join("data/log.redb")).unwrap();
    for options in [&[][..], &["--peer", "127.0.0.1:9001", "--cell-secret", "secret"]] {
        let args = ["snapshot", "restore", "saved", "-d", "data"];
        let (status, _, err) = run(directory.path(), &[&args, options].concat());
        assert!(status == Some(1) && err.contains("data is not empty"), "{err}");
    }
    assert_eq!(fs::read(directory.path().join("data/log.redb")).unwrap(), log);
    assert!(!directory.path().join("secret").exists() && !directory.path().join("data/RESTORING").exists());
}

#[test]
fn a_restore_that_was_killed_is_not_taken_for_whole_and_can_be_done_again() {
    let directory = saved();
    let restore =
        ["snapshot", "restore", "saved", "-d", "new", "--peer", "127.0.0.1:9001", "--cell-secret", "secret"];
    // Killed wherever it is when its mark is seen, or whole before.
    let mut restoring = cld(directory.path()).args(restore).spawn().unwrap();
    let mark = directory.path().join("new/RESTORING");
    while !mark.exists() && restoring.try_wait().unwrap().is_none() {}
    let _ = restoring.kill();
    restoring.wait().unwrap();
    if !mark.exists() {
        // It was quicker. So is this what a kill just before the end leaves.
        let secret = fs::read_to_string(directory.path().join("secret")).unwrap();
        let cell = secret.split_whitespace().find(|word| word.len() == 32).unwrap_or_default();
        fs::write(&mark, cell).unwrap();
    }
    let serve = ["-F", "-E", "-p", "auto", "--insecure-user-as-key", "-d", "new"];
    let cell = ["--peer", "127.0.0.1:9009", "--cell-secret", "secret"];
    for more in [&[][..], &["--check"]] {
        let (status, _, err) = run_server(directory.path(), &[&serve[..], &cell, more].concat());
        // Without the secret's file, that is what is wrong first.
        let killed_early = !directory.path().join("secret").exists();
        assert!(
            status != Some(0) && (killed_early || err.contains("run 'cld snapshot restore' once more")),
            "{err}"
        );
    }
    let (status, _, err) = run(directory.path(), &restore);
    assert!(status == Some(0) && err.contains("with the state of saved"), "{err}");
    assert!(!mark.exists());
    let (status, out, err) = run_server(directory.path(), &[&serve[..], &cell, &["--check"]].concat());
    assert!(status == Some(0) && out.contains("whole; the log ends at"), "{out}{err}");
}

#[test]
fn a_misspelt_member_is_seen_and_a_name_of_nobody_removes_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let cell = ["--peer", "127.0.0.1:9001", "--cell-secret", "secret"];
    run(directory.path(), &[&["cell", "init", "-d", "data"][..], &cell].concat());
    // Nobody listens where this one says that it is.
    let nowhere = ["cell", "prepare", "-d", "b", "--peer", "127.0.0.1:1", "--cell-secret", "secret"];
    let (_, token, err) = run(directory.path(), &nowhere);
    assert!(token.starts_with("cld-join-1:"), "{err}");
    let options = ["--insecure-user-as-key", "--peer", "127.83.17.5:9001", "--cell-secret", "secret"];
    let server = Server::start_in(directory, &options, &[]);
    let directory = server.directory.path();
    let (status, _, err) = run(directory, &["member", "add", token.trim(), "-d", "data"]);
    assert_eq!(status, Some(0), "{err}");
    let (_, out, _) = run(directory, &["status", "-d", "data"]);
    assert!(out.contains("warning   server ") && out.contains("at 127.0.0.1:1 was not linked"), "{out}");
    assert!(out.contains("of the cell\n") && out.contains("version   "), "{out}");

    let (status, _, err) = run(directory, &["member", "remove", "127.0.0.1:2", "-d", "data"]);
    let members = [
        "'127.0.0.1:2' is no member's id or address; the members are ",
        " at 127.0.0.1:1",
        " at 127.0.0.1:9001",
    ];
    assert!(status == Some(1) && members.iter().all(|text| err.contains(text)), "{err}");
    let (_, out, _) = run(directory, &["member", "list", "-d", "data"]);
    assert_eq!(out.lines().filter(|line| line.contains("127.0.0.1:")).count(), 2, "{out}");
    let (status, _, err) = run(directory, &["member", "remove", "127.0.0.1:1", "-d", "data"]);
    assert_eq!(status, Some(0), "{err}");
    let (_, out, _) = run(directory, &["status", "-d", "data"]);
    assert!(!out.contains("warning"), "{out}");
}
