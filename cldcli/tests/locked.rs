//! `cldcli lock PATH -- COMMAND` against a real server.
#![cfg(feature = "demo")]

mod common;

use std::fs;

use common::Server;
use rustix::process::Signal;

/// A server with a file `/a`.
fn server() -> Server {
    let server = Server::start();
    assert_eq!(server.feed(&["put", "/a"], b"").status, 0);
    server
}

#[test]
fn the_command_has_the_surroundings_and_its_status_is_ours() {
    let server = server();
    let mut command = server.cldcli(&["lock", "/a", "--", "sh", "-c", "cat; echo $GREETING; exit 9"]);
    command.env("GREETING", "hello");
    let done = common::run(command, b"input\n");
    assert_eq!((done.status, done.text()), (9, "input\nhello\n"));
    assert_eq!(server.run(&["lock", "/a", "--", "sh", "-c", "kill -KILL $$"]).status, 137);
    assert_eq!(server.run(&["lock", "/a", "--", "/no/such/command"]).status, 127);
    assert_eq!(server.run(&["lock", "/", "--", "true"]).status, 0, "a directory has a lock too");
}

#[test]
fn one_holder_at_a_time_and_the_next_follows_at_once() {
    let server = server();
    let log = server.path("log-of-holders");
    // Nobody else may be between the two lines of a holder.
    let script = format!("echo in >> {log}; sleep 0.05; echo out >> {log}");
    let mut all: Vec<_> = (0..5).map(|_| server.spawn(&["lock", "/a", "--", "sh", "-c", &script])).collect();
    for holder in &mut all {
        assert_eq!(holder.end(), (0, String::new()));
    }
    assert_eq!(fs::read_to_string(log).unwrap(), "in\nout\n".repeat(5));
}

#[test]
fn a_lock_that_cannot_be_had_is_status_122_and_nothing_runs() {
    let server = server();
    let mut holder = server.spawn(&["lock", "/a", "--", "sh", "-c", "echo held; cat"]);
    assert_eq!(holder.line(), "held\n");
    let tried = server.run(&["trylock", "/a", "--", "echo", "ran"]);
    assert_eq!((tried.status, tried.text()), (122, ""));
    assert!(tried.err.contains("1111: Conflicting lock held (LOCK_CONFLICT)"), "{}", tried.err);
    let late = server.run(&["--timeout", "0.5", "lock", "/a", "--", "echo", "ran"]);
    assert_eq!((late.status, late.text()), (122, ""));
    assert!(late.err.contains("1117: the deadline passed while waiting for a lock"), "{}", late.err);
    assert_eq!(server.run(&["lock", "/none", "--", "true"]).status, 122);
    assert_eq!(holder.end().0, 0);
    assert_eq!(server.run(&["trylock", "/a", "--", "echo", "ran"]).text(), "ran\n");
}

#[test]
fn a_shared_lock_has_several_holders() {
    let server = server();
    let mut holder = server.spawn(&["lock", "--shared", "/a", "--", "sh", "-c", "echo held; cat"]);
    assert_eq!(holder.line(), "held\n");
    assert_eq!(server.run(&["trylock", "--shared", "/a", "--", "true"]).status, 0);
    assert_eq!(server.run(&["trylock", "/a", "--", "true"]).status, 122);
    assert_eq!(holder.end().0, 0);
}

#[test]
fn the_command_is_killed_when_the_lock_is_lost() {
    let server = server();
    let script = "exec 2> /dev/null; trap 'echo told; exit 0' TERM; echo held; while :; do sleep 0.01; done";
    let mut holder = server.spawn(&["lock", "/a", "--", "sh", "-c", script]);
    assert_eq!(holder.line(), "held\n");
    assert_eq!(server.run(&["rm", "/a"]).status, 0);
    assert_eq!(holder.line(), "told\n");
    let (status, err) = holder.end();
    assert_eq!(status, 123);
    assert!(err.starts_with("cldcli: the lock of /a is lost"), "{err}");
}

#[test]
fn signals_are_passed_on_and_the_lock_is_free_at_once() {
    let server = server();
    let mut holder = server.spawn(&["lock", "/a", "--", "sh", "-c", "echo held; exec sleep 600"]);
    assert_eq!(holder.line(), "held\n");
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait(), (143, String::new()));
    assert_eq!(server.run(&["trylock", "/a", "--", "true"]).status, 0);
}

#[test]
fn who_is_interrupted_in_the_queue_leaves_it() {
    let server = server();
    let mut holder = server.spawn(&["lock", "/a", "--", "sh", "-c", "echo held; cat"]);
    assert_eq!(holder.line(), "held\n");
    let mut waiting = server.spawn(&["-D", "1", "lock", "/a", "--", "echo", "ran"]);
    let lines = std::iter::repeat_with(|| waiting.err_line()).take_while(|line| !line.is_empty());
    assert!(lines.into_iter().any(|line| line == "cldcli: asking for the lock of /a\n"));
    waiting.signal(Signal::INT);
    let (status, err) = waiting.wait();
    assert_eq!((status, err.as_str()), (130, "cldcli: session ended\n"));
    assert_eq!(waiting.line(), "");
    assert_eq!(holder.end().0, 0);
    assert_eq!(server.run(&["trylock", "/a", "--", "true"]).status, 0);
}

#[test]
fn the_command_finds_its_sequencer_and_may_write_with_it_while_the_lock_is_held() {
    let server = server();
    let script = "echo $CLD_SEQUENCER; cat; exec sleep 600";
    let cldcli = env!("CARGO_BIN_EXE_cldcli");
    let write =
        format!("{cldcli} check-sequencer - && echo mine | {cldcli} put --sequencer - /b && {script}");
    let mut holder = server.spawn(&["--lease", "20", "lock", "/a", "--", "sh", "-c", &write]);
    let sequencer = holder.line().trim_end().to_owned();
    assert!(sequencer.starts_with("x:") && sequencer.ends_with(":/a"), "{sequencer}");
    let fenced = |args: &[&str]| server.feed(args, b"late").status;
    assert_eq!(fenced(&["check-sequencer", &sequencer]), 0);
    assert_eq!(fenced(&["put", "--sequencer", &sequencer, "/c"]), 0);
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait().0, 143);

    assert_eq!(fenced(&["check-sequencer", &sequencer]), 121);
    let late = server.feed(&["put", "--sequencer", &sequencer, "/b"], b"late");
    assert_eq!(late.status, 121);
    assert!(late.err.contains("1166: Stale sequencer (STALE)"), "{}", late.err);
    assert_eq!(fenced(&["rm", "--sequencer", &sequencer, "/b"]), 121);
    assert_eq!(server.run(&["get", "/b"]).text(), "mine\n");
    assert_eq!(fenced(&["put", "--sequencer", &sequencer, "/new"]), 121);
    assert_eq!(server.run(&["ls"]).text(), "a\nb\nc\n", "nothing was created for what was refused");
}

#[test]
fn a_shared_locks_sequencer_says_so_and_another_locks_is_not_passed_on() {
    let server = server();
    let shared = server.run(&["lock", "--shared", "/a", "--", "sh", "-c", "echo $CLD_SEQUENCER"]);
    assert!(shared.text().starts_with("s:"), "{shared:?}");
    let mut command = server.cldcli(&["lock", "/a", "--", "sh", "-c", "echo $CLD_SEQUENCER"]);
    command.env("CLD_SEQUENCER", "x:1:1:/other");
    assert!(common::run(command, b"").text().ends_with(":/a\n"));
    let script = "lock /a\nlist locks\n";
    let locks = server.feed(&["--json"], script.as_bytes());
    assert_eq!(locks.text().matches("\"sequencer\":\"x:").count(), 2, "{locks:?}");
    assert_eq!(server.run(&["check-sequencer", "x:1"]).status, 64);
    let unset = server.run(&["check-sequencer", "-"]);
    assert!(unset.status == 64 && unset.err.contains("CLD_SEQUENCER is not set"), "{unset:?}");
}
