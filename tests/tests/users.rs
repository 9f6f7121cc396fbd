//! Users and limits of a cell of real servers: set by commands on the running cell, the same at every server, and never
//! taken from the key file of a server that comes later.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cld_tests::cell::Cell;
use cld_tests::server::Options;
use cldc_udp::blocking::Client;

/// A session that will be opened is open by then.
const DEADLINE: Duration = Duration::from_secs(30);
/// One that will not be was refused several times by then.
const REFUSED: Duration = Duration::from_secs(2);

fn connect(servers: &[SocketAddr], user: &str, secret: &str) -> Client {
    let options = cldc_udp::Options::new(user, secret).servers(servers.to_vec()).timeout(DEADLINE);
    Client::connect(options).unwrap()
}

fn is_let_in(servers: &[SocketAddr], user: &str, secret: &str) -> bool {
    let options = cldc_udp::Options::new(user, secret).servers(servers.to_vec()).timeout(REFUSED);
    Client::connect(options).is_ok()
}

fn secret_file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn users_and_limits_outlive_the_master_whatever_the_key_files_of_the_others_say() {
    let folder = tempfile::tempdir().unwrap();
    let first = secret_file(folder.path(), "first", "alice:the first secret\n");
    let stale = secret_file(folder.path(), "stale", "alice:an old secret\nmallory:left long ago\n");
    let later = || Options::new().keys(&stale).args(["--max-payload", "7"]);
    let mut cell = Cell::start_with([Options::new().keys(&first), later(), later()]);
    let all = cell.addresses();
    connect(&all, "alice", "the first secret");

    let master = cell.master();
    let bob = cell.ask(master, &["user", "add", "bob"]).unwrap();
    let bob = bob.trim_end();
    assert_eq!(bob.len(), 64);
    let given = secret_file(folder.path(), "given", "carol's own secret\n");
    cell.ask(master, &["user", "add", "carol", "--key-file", given.to_str().unwrap()]).unwrap();
    assert!(cell.ask(master, &["user", "add", "bob"]).unwrap_err().contains("such a user already"));
    assert!(cell.ask(master, &["user", "add", "a:b"]).unwrap_err().contains("must not have a ':'"));
    cell.ask(master, &["limits", "set", "max-payload", "10"]).unwrap();
    let too_much = cell.ask(master, &["limits", "set", "max-payload", "1000000"]).unwrap_err();
    assert!(too_much.contains("the nearest is 131072"), "{too_much}");
    let follower = cell.others(master)[0];
    let elsewhere = cell.ask(follower, &["user", "add", "dave"]).unwrap_err();
    assert!(elsewhere.contains("run the command on the master"), "{elsewhere}");

    cell.servers[master].kill9();
    let next = cell.master();
    cell.servers[next].sighup();
    connect(&all, "carol", "carol's own secret");
    let client = connect(&all, "bob", bob);
    client.write("/short", b"0123456789").unwrap();
    client.write("/long", b"0123456789+").unwrap_err();
    assert!(!is_let_in(&all, "mallory", "left long ago"));
    assert!(!is_let_in(&all, "alice", "an old secret"));
    assert_eq!(cell.ask(next, &["user", "list"]).unwrap(), "alice\nbob\ncarol\n");
    let limits = cell.ask(next, &["limits"]).unwrap();
    let payload = limits.lines().find(|line| line.starts_with("max-payload ")).unwrap();
    assert_eq!(payload.split_whitespace().last(), Some("10"));

    // The server that was away learns what was set meanwhile.
    cell.ask(next, &["user", "remove", "bob"]).unwrap();
    cell.servers[master].restart();
    cell.wait("all servers know who is left", |cell| {
        let known = |place| cell.ask(place, &["user", "list"]).is_ok_and(|users| users == "alice\ncarol\n");
        (0..3).all(known).then_some(())
    });
    assert!(!is_let_in(&all, "bob", bob));
}

#[test]
fn a_cell_that_lets_everybody_in_can_be_told_not_to() {
    let cell = Cell::start(1);
    let all = cell.addresses();
    connect(&all, "anybody", "anybody");
    let secret = cell.ask(0, &["user", "add", "web"]).unwrap();
    connect(&all, "web", secret.trim_end());
    assert!(!is_let_in(&all, "web", "web"), "who is listed needs the secret");
    cell.ask(0, &["user", "insecure", "off"]).unwrap();
    assert!(!is_let_in(&all, "anybody", "anybody"));
    connect(&all, "web", secret.trim_end());
}

#[test]
fn a_cell_of_one_says_that_it_follows_its_key_file() {
    let folder = tempfile::tempdir().unwrap();
    let keys = secret_file(folder.path(), "keys", "alice:secret\n");
    let mut server = Options::new().keys(&keys).start();
    let ask = |args: &[&str]| {
        let cld = std::process::Command::new(cld_tests::programs::cld())
            .args(args)
            .arg("--data")
            .arg(server.data_dir())
            .output()
            .unwrap();
        String::from_utf8([cld.stdout, cld.stderr].concat()).unwrap()
    };
    connect(&[server.address()], "alice", "secret");
    assert_eq!(ask(&["user", "list"]), "alice\n");
    let refused = ask(&["user", "add", "bob"]);
    assert!(refused.contains("follows its key file"), "{refused}");
    let refused = ask(&["limits", "set", "max-sessions", "5"]);
    assert!(refused.contains("SIGHUP"), "{refused}");
    secret_file(folder.path(), "keys", "bob:secret\n");
    let all = [server.address()];
    server.sighup();
    connect(&all, "bob", "secret");
    assert!(!is_let_in(&all, "alice", "secret"));
}
