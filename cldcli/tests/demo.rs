//! `cldcli demo`, as a newcomer runs it, and what becomes of it when it goes wrong.
#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not the helpers around them")]

mod common;

use std::fs;
use std::path::Path;

use common::{Program, cldcli, run, wait_for};
use rustix::process::Signal;

fn demo(folder: &Path) -> std::process::Command {
    let mut command = cldcli();
    command.arg("demo").env("TMPDIR", folder);
    command
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// The number before a word, as in `process 17 serves`.
fn pid(line: &str) -> Option<i32> {
    line.split_once("process ")?.1.split(' ').next()?.parse().ok()
}

/// Who a line is about.
fn server(line: &str) -> Option<&str> {
    line.split_once(" s  ")?.1.split(' ').next()
}

fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn it_shows_all_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let done = run(demo(folder.path()), b"");
    assert_eq!((done.status, done.err.as_str()), (0, ""), "{}", done.text());
    for shown in
        ["alice   heard of it", "bob     has it", "SIGKILL", "bob still holds it", "All of it was so"]
    {
        assert!(done.text().contains(shown), "{shown}: {}", done.text());
    }
    assert!(is_empty(folder.path()));
    let mut servers = done.text().lines().filter_map(pid);
    assert!(servers.clone().count() == 2 && !servers.any(is_running));
}

#[test]
fn a_cell_of_three_survives_its_master_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = demo(folder.path());
    command.args(["--cell", "3"]);
    let done = run(command, b"");
    assert_eq!((done.status, done.err.as_str()), (0, ""), "{}", done.text());
    for shown in [
        "SIGKILL",
        "is the master now",
        "still holds the lock",
        "still waits",
        "bob     has it",
        "MASTER_FAILOVER, once",
        "All of it was so",
    ] {
        assert!(done.text().contains(shown), "{shown}: {}", done.text());
    }
    let master = |what| done.text().lines().find(|line| line.contains(what)).and_then(server);
    assert!(master("is the master, ").is_some() && master("is the master, ") == master("SIGKILL"));
    assert_ne!(master("SIGKILL"), master("is the master now"));
    assert!(is_empty(folder.path()));
    let mut servers = done.text().lines().filter_map(pid);
    assert!(servers.clone().count() == 3 && !servers.any(is_running));
}

#[test]
fn a_cell_has_one_three_or_five_servers() {
    let folder = tempfile::tempdir().unwrap();
    for servers in ["0", "2", "7", "many"] {
        let mut command = demo(folder.path());
        command.args(["--cell", servers]);
        let done = run(command, b"");
        assert_eq!(done.status, 64, "{servers}: {}", done.err);
        assert!(done.err.contains("give 1, 3 or 5"), "{}", done.err);
    }
}

#[test]
fn it_fails_if_something_is_not_as_it_should_be() {
    let done = run(demo(Path::new("/no/such/folder")), b"");
    assert_eq!(done.status, 70);
    assert!(done.err.starts_with("cldcli: demo: making a temporary folder: "), "{}", done.err);
}

#[test]
fn interrupted_it_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::spawn(demo(folder.path()));
    let server = wait_for("the server", || pid(&program.line()));
    assert!(is_running(server));
    program.signal(Signal::INT);
    assert_eq!(program.wait().0, 130);
    assert!(is_empty(folder.path()) && !is_running(server));
}

#[test]
fn killed_it_leaves_no_server_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::spawn(demo(folder.path()));
    let server = wait_for("the server", || pid(&program.line()));
    program.signal(Signal::KILL);
    program.wait();
    wait_for("the end of the server", || (!is_running(server)).then_some(()));
}
