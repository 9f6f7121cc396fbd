//! `cldcli` against a real server: one-shot commands, commands from a pipe, and how it ends.
#![cfg(feature = "demo")]

mod common;

use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{PATIENCE, Server, cldcli, run};
use rustix::process::Signal;

#[test]
fn one_shot_commands_do_their_work_and_end_with_their_status() {
    let server = Server::start();
    let data: Vec<u8> = (0..=255).cycle().take(131_072).collect();
    assert_eq!(server.run(&["mkdir", "/d"]).status, 0);
    assert_eq!(server.feed(&["put", "/d/all"], &data).status, 0);
    assert_eq!(server.feed(&["put", "/d/none"], b"").status, 0);
    assert_eq!(server.run(&["ls", "/d"]).text(), "all\nnone\n");
    assert!(server.run(&["get", "/d/all"]).out == data, "what was put is got");
    assert_eq!(server.run(&["cat", "d/none"]).text(), "\n");
    assert!(server.run(&["stat", "/d/all"]).text().contains("size      131072 bytes\n"));

    let too_large = server.feed(&["put", "/d/large"], &[0; 131_073]);
    assert_eq!(too_large.status, 65, "{}", too_large.err);
    let exists = server.run(&["mkdir", "/d"]);
    assert_eq!((exists.status, exists.text()), (65, ""));
    assert_eq!(exists.err, "cldcli: mkdir(/d) failed: 1114: File exists (INODE_EXISTS)\n");
    assert_eq!(server.run(&["rm", "/d"]).status, 65);
    assert_eq!(server.run(&["cat", "/nothing"]).status, 66);
    assert_eq!(server.run(&["ls", "/d"]).text(), "all\nnone\n", "nothing was created for what failed");
    assert_eq!(server.run(&["rm", "/d/all"]).status, 0);
    assert_eq!(server.run(&["ls", "/d"]).text(), "none\n");
}

#[test]
fn files_are_copied_between_machine_and_cell() {
    let server = Server::start();
    let (from, to) = (server.path("from"), server.path("to"));
    fs::write(&from, "contents\n").unwrap();
    assert_eq!(server.run(&["cpin", &from, "/a b"]).status, 0);
    assert_eq!(server.run(&["cpout", "/a b", &to]).status, 0);
    assert_eq!(fs::read(&to).unwrap(), b"contents\n");
    assert_eq!(server.run(&["cpin", "/no/such/file", "/c"]).status, 74);
}

#[test]
fn commands_from_a_pipe_print_what_hail_prints() {
    let server = Server::start();
    let script = "# a script\n\nmkdir /d\nls\nls /d\ncd d\nmkdir e\nls\ncat e\nbogus  command\nlist\n\
                  lock /d\nlock f\nhelp\nquit\nls\n";
    let done = server.feed(&[], script.as_bytes());
    assert_eq!(done.text(), "Waiting for session startup...\nd\ne\n");
    assert_eq!(done.status, 0);
    let err: Vec<_> = done.err.lines().collect();
    assert!(err[0].starts_with("cldcli: cannot open path `/d/e': 1113: "), "{}", done.err);
    assert_eq!(err[1..3], ["INVALID COMMAND: bogus command", "INVALID COMMAND: list"]);
    assert!(err[3].starts_with("cldcli: /d: cannot open: 1113: "), "{}", done.err);
    assert!(err[4].starts_with("cldcli: /d/f: cannot open: 1106: "), "{}", done.err);
    assert!(done.err.contains("\n  unlock FILE "), "the quick reference is on standard error");
}

#[test]
fn the_prompt_is_shown_if_it_is_asked_for() {
    let server = Server::start();
    server.run(&["mkdir", "/d"]);
    let done = server.feed(&["-u", "bob", "-i"], b"cd /d\n");
    let start = "Waiting for session startup...\nType 'help' at the prompt to list commands.\n";
    assert_eq!(done.text(), format!("{start}[bob /]$ [bob /d]$ "));
}

#[test]
fn json_is_all_there_is_on_standard_output() {
    let server = Server::start();
    let done = server.feed(&["--json"], b"mkdir /d\nls\nbogus\nls /x\n");
    assert_eq!(done.text(), "{\"path\":\"/\",\"entries\":[\"d\"]}\n");
    let errors: Vec<serde_json::Value> =
        done.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(errors[0]["error"]["message"], "INVALID COMMAND: bogus");
    assert_eq!(errors[1]["error"]["name"], "NAME_INVAL");
}

#[test]
fn a_key_file_opens_a_session_and_a_wrong_key_does_not() {
    let server = Server::start_with(|folder| {
        let keys = folder.join("keys");
        fs::write(&keys, "alice:her secret\n").unwrap();
        fs::set_permissions(&keys, Permissions::from_mode(0o600)).unwrap();
        vec!["--keys".into(), keys.display().to_string()]
    });
    let key = server.path("key");
    let write = |contents: &str, mode| {
        fs::write(&key, contents).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        server.run(&["--user", "alice", "--key-file", &key, "--timeout", "2", "ls"])
    };
    assert_eq!(write("her secret\n", 0o600).status, 0);
    let exposed = write("her secret\n", 0o644);
    assert!(exposed.status == 1 && exposed.err.contains("chmod 600"), "{exposed:?}");
    fs::remove_file(&key).unwrap();
    let wrong = write("another", 0o600);
    assert!(
        wrong.status == 1 && wrong.err.starts_with("cldcli: cannot open CLD session: 1117: "),
        "{wrong:?}"
    );
    assert_eq!(server.run(&["--user", "alice", "--timeout", "2", "ls"]).status, 1, "the name is not the key");
}

#[test]
fn a_silent_server_is_given_up_in_time_and_the_next_one_is_tried() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let mut command = cldcli();
    command.args(["-h", &silent, "--timeout", "1", "ls"]);
    let begun = Instant::now();
    let alone = run(command, b"");
    assert_eq!(alone.status, 1, "{alone:?}");
    assert!(begun.elapsed() < PATIENCE);

    let server = Server::start();
    assert_eq!(server.run(&["-h", &silent, "-h", &server.address, "ls"]).status, 0);
}

#[test]
fn without_a_server_it_says_how_to_name_one() {
    let mut command = cldcli();
    command.arg("ls");
    let nowhere = run(command, b"");
    assert_eq!(nowhere.status, 1);
    assert!(nowhere.err.contains("-h HOST:PORT") && nowhere.err.contains("CLD_SERVERS"), "{}", nowhere.err);
}

#[test]
fn a_wrong_command_line_is_status_64() {
    for args in
        [&["-D", "7"][..], &["make"], &["cat"], &["lock", "/a"], &["list", "locks"], &["-h", "x", "ls"]]
    {
        let mut command = cldcli();
        command.args(args);
        assert_eq!(run(command, b"").status, 64, "{args:?}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let server = Server::start();
    server.feed(&["put", "/a"], &[b'x'; 131_072]);
    let mut child =
        server.cldcli(&["get", "/a"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stderr), (Some(141), vec![]));
}

#[test]
fn locks_of_a_script_are_free_when_it_ends() {
    let server = Server::start();
    server.feed(&["put", "/a"], b"");
    let holder = server.feed(&[], b"lock /a\nlist locks\n");
    assert_eq!(holder.text(), "Waiting for session startup...\n2 /a\n");
    let next = server.feed(&["--json"], b"trylock /a\n");
    let held = r#"{"lock":2,"path":"/a","state":"held","sequencer":"x:51:2:/a"}"#;
    assert_eq!(next.text(), format!("{held}\n"));
}

#[test]
fn a_lock_that_waits_is_granted_when_it_is_free() {
    let server = Server::start();
    server.feed(&["put", "/a"], b"");
    let mut first = server.spawn(&["--json"]);
    first.write("lock /a\n");
    assert!(first.line().contains("held"));
    let mut second = server.spawn(&["--json"]);
    second.write("lock /a\n");
    assert!(second.line().contains("queued"));
    first.write("unlock /a\nlist locks\n");
    assert_eq!(first.line(), "{\"locks\":[]}\n");
    common::wait_for("the grant", || {
        second.write("list locks\n");
        second.line().contains("held").then_some(())
    });
    second.write("unlock /a\n");
    first.write("trylock /a\n");
    assert_eq!(second.end().0, 0);
    assert_eq!(first.end().0, 0);
}

#[test]
fn a_signal_ends_the_session_too() {
    let server = Server::start();
    server.feed(&["put", "/a"], b"");
    let mut holder = server.spawn(&["--json"]);
    holder.write("lock /a\n");
    assert!(holder.line().contains("held"));
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait().0, 143);
    assert_eq!(server.run(&["trylock", "/a", "--", "true"]).status, 0);
}

#[test]
fn watch_tells_of_changes_and_of_the_end() {
    let server = Server::start();
    server.feed(&["put", "/a"], b"1");
    let mut watch = server.spawn(&["watch", "/a"]);
    assert!(watch.line().ends_with(" /a watching: version 2, size 1\n"));
    server.feed(&["put", "/a"], b"123");
    assert!(watch.line().ends_with(" /a updated: version 3, size 3\n"));
    server.run(&["rm", "/a"]);
    assert!(watch.line().ends_with(" /a deleted\n"));
    assert_eq!(watch.end(), (0, String::new()));
}

#[test]
fn watch_ends_when_it_is_interrupted_and_in_time() {
    let server = Server::start();
    let mut watch = server.spawn(&["watch", "/"]);
    assert!(watch.line().ends_with(" / watching: version 1, size 0\n"));
    watch.signal(Signal::INT);
    assert_eq!(watch.wait(), (0, String::new()));
    let begun = Instant::now();
    assert_eq!(server.run(&["--timeout", "0.5", "watch", "/"]).status, 0);
    assert!(begun.elapsed() >= Duration::from_millis(500));
}
