//! Cells of several real servers, made and changed by the commands of an operator: writes, locks and sessions outlive
//! the master; any server helps a client; members come and go; what is saved can be restored.

use std::net::SocketAddr;
use std::time::Duration;

use cld_tests::cell::Cell;
use cld_tests::raw::codes::op;
use cld_tests::raw::extended::{Extended, Master};
use cld_tests::server;
use cldc_udp::blocking::Client;
use cldc_udp::{LeaseState, LockKind, Options};

/// Every call ends by then.
const DEADLINE: Duration = Duration::from_secs(30);

fn options(servers: impl IntoIterator<Item = SocketAddr>) -> Options {
    Options::new("tester", "tester").servers(servers).timeout(DEADLINE)
}

#[test]
fn what_was_written_outlives_the_kill_of_the_master_and_status_says_who_serves() {
    let mut cell = Cell::start(3);
    let client = Client::connect(options(cell.addresses())).unwrap();
    client.write("/before", b"one").unwrap();
    let old = cell.master();
    let epoch = cell.status(old).unwrap()["epoch"].as_u64().unwrap();
    cell.servers[old].kill9();
    client.write("/after", b"two").unwrap();
    assert_eq!(client.read("/before").unwrap().data, b"one");
    let new = cell.master();
    assert_ne!(new, old);
    assert!(cell.status(new).unwrap()["epoch"].as_u64().unwrap() > epoch);
    let other = 3 - old - new;
    assert_eq!(cell.says(other, "master"), cell.says(new, "server"));
    assert_eq!(cell.says(other, "role").as_deref(), Some("follower"));

    cell.servers[old].restart();
    cell.await_caught_up();
    // With the second one gone too, the cell has a majority with the one that came back only.
    cell.servers[new].kill9();
    assert_eq!(client.read("/after").unwrap().data, b"two");
}

#[test]
fn a_lock_outlives_the_master_and_the_waiter_gets_it_afterwards() {
    let mut cell = Cell::start(3);
    let holder = Client::connect(options(cell.addresses())).unwrap();
    let waiter = Client::connect(options(cell.addresses())).unwrap();
    let held = holder.create("/lock").unwrap().lock(LockKind::Exclusive).unwrap();
    let sequencer = held.sequencer().unwrap();
    let (told, hears) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let lock = waiter.lock("/lock", LockKind::Exclusive).unwrap();
        told.send(lock.sequencer().unwrap()).unwrap();
    });
    let old = cell.master();
    cell.servers[old].kill9();
    assert!(holder.check_sequencer(&sequencer).unwrap(), "the lock is held after the fail-over");
    assert!(held.is_safe() && holder.lease_state() == LeaseState::Safe);
    assert!(hears.try_recv().is_err(), "nobody else has the lock");
    held.release().unwrap();
    let next = hears.recv_timeout(DEADLINE).unwrap();
    waiting.join().unwrap();
    assert!(!holder.check_sequencer(&sequencer).unwrap() && next != sequencer);
}

#[test]
fn a_plain_client_is_served_by_any_server() {
    let cell = Cell::start(3);
    for (place, &address) in cell.addresses().iter().enumerate() {
        let client = Client::connect(options([address]).plain()).unwrap();
        client.write("/plain", format!("{place}").as_bytes()).unwrap();
        assert_eq!(client.read("/plain").unwrap().data, format!("{place}").as_bytes());
    }
}

#[test]
fn a_follower_says_who_the_master_is_readably() {
    let cell = Cell::start(3);
    let master = cell.master();
    let epoch = cell.status(master).unwrap()["epoch"].as_u64().unwrap();
    for follower in cell.others(master) {
        cell.wait("the follower knows the master", |cell| {
            (cell.says(follower, "master") == cell.says(master, "server")).then_some(())
        });
        let mut session = Extended::new(cell.addresses()[follower], "tester");
        let (_, greeting) = session.prepare_greeting();
        session.send(&greeting);
        // It is taken only if it is signed with the user's key.
        let answer = session.wait("NOT_MASTER", |inbox| inbox.pop_front());
        assert_eq!(answer.op, op::NOT_MASTER);
        let told = Master::decode(&answer.body).unwrap();
        assert_eq!(told, Master { epoch, address: Some(cell.addresses()[master]) });
    }
}

#[test]
fn a_master_that_was_stopped_does_not_answer_from_what_it_remembers() {
    let mut cell = Cell::start(3);
    let client = Client::connect(options(cell.addresses())).unwrap();
    client.write("/value", b"old").unwrap();
    let old = cell.master();
    let stale = Client::connect(options([cell.addresses()[old]]).plain()).unwrap();
    assert_eq!(stale.read("/value").unwrap().data, b"old");
    cell.servers[old].stop();
    client.write("/value", b"new").unwrap();
    cell.servers[old].cont();
    assert_eq!(stale.read("/value").unwrap().data, b"new");
}

#[test]
fn without_a_majority_nothing_is_acknowledged() {
    let mut cell = Cell::start(3);
    let client = Client::connect(options(cell.addresses()).timeout(Duration::from_secs(3))).unwrap();
    client.write("/value", b"acknowledged").unwrap();
    let master = cell.master();
    let others: Vec<usize> = (0..3).filter(|&place| place != master).collect();
    for &other in &others {
        cell.servers[other].kill9();
    }
    client.write("/value", b"not acknowledged").unwrap_err();
    cell.wait("the master steps down", |cell| (cell.says(master, "role")? != "master").then_some(()));
    for &other in &others {
        cell.servers[other].restart();
    }
    let again = Client::connect(options(cell.addresses())).unwrap();
    again.write("/other", b"served again").unwrap();
}

#[test]
fn members_come_and_go_by_commands_and_a_token_is_good_once() {
    let mut cell = Cell::start(1);
    Client::connect(options(cell.addresses())).unwrap().write("/value", b"early").unwrap();
    let prepared = cell.prepare(server::Options::new());
    let token = prepared.token.clone();
    cell.run(prepared);
    assert_eq!(cell.says(1, "role").as_deref(), Some("waiting"));
    let changed = token.replace(&token[20..24], "0000");
    assert!(cell.ask(0, &["member", "add", &changed]).is_err());
    assert_eq!(cell.says(1, "role").as_deref(), Some("waiting"));
    cell.add(&token);
    cell.join(server::Options::new());
    assert!(cell.ask(0, &["member", "add", &token]).unwrap_err().contains("is a member already"));

    let client = Client::connect(options([cell.addresses()[0]])).unwrap();
    client.nop().unwrap();
    let (first, third) = (cell.says(0, "server").unwrap(), cell.says(2, "server").unwrap());
    let other = cell.ask(1, &["member", "remove", &third]).unwrap_err();
    assert!(other.contains("run the command on the master") && other.contains(&first), "{other}");
    let itself = cell.ask(0, &["member", "remove", &first]).unwrap_err();
    assert!(itself.contains("hand the mastership to another server first"), "{itself}");
    cell.ask(0, &["transfer", &third]).unwrap();
    assert_eq!(cell.master(), 2);
    cell.ask(2, &["member", "remove", &first]).unwrap();
    cell.wait("two members are left", |cell| {
        let list: serde_json::Value =
            serde_json::from_str(&cell.ask(2, &["member", "list", "--json"]).ok()?).ok()?;
        (list.as_array()?.len() == 2).then_some(())
    });
    assert!(cell.ask(2, &["member", "add", &token]).unwrap_err().contains("is a member already"));
    assert_eq!(client.read("/value").unwrap().data, b"early");
}

#[test]
fn what_is_saved_from_a_running_cell_is_restored_into_a_new_one() {
    let cell = Cell::start(3);
    let client = Client::connect(options(cell.addresses())).unwrap();
    let large = vec![7; 100_000];
    client.write("/large", &large).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("saved"), folder.path().join("data"));
    let [file, data] = [file.to_str().unwrap(), data.to_str().unwrap()];
    let master = cell.master();
    cell.ask(master, &["snapshot", "save", file]).unwrap();
    assert!(
        cell.ask(master, &["snapshot", "save", file]).unwrap_err().contains("saved"),
        "it is not written over"
    );
    let cld = |args: &[&str]| {
        let output = std::process::Command::new(cld_tests::programs::cld()).args(args).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (whole, told) = cld(&["snapshot", "verify", file]);
    assert!(whole && told.contains("whole"), "{told}");
    let (restored, told) = cld(&["snapshot", "restore", file, "--data", data]);
    assert!(restored, "{told}");
    let server = server::Options::new().start_in(folder);
    let client = Client::connect(options([server.address()])).unwrap();
    assert_eq!(client.read("/large").unwrap().data, large);
    client.write("/new", b"goes on").unwrap();

    let folder = server.into_folder();
    let copy = folder.path().join("saved");
    let mut bytes = std::fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    let (whole, told) = cld(&["snapshot", "verify", copy.to_str().unwrap()]);
    assert!(!whole && told.contains("its checksum is wrong"), "{told}");
}
