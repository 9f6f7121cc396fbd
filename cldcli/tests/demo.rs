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
