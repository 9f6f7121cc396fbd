//! What the demonstration shows: each line is printed after it has been done, and checked.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use cldc_udp::blocking::{Client, File, Lock};
use cldc_udp::{EventMask, LeaseState, LockKind, OpenMode, Options};

use super::problem;
use super::stage::Stage;
use super::teller::{Teller, check, milliseconds};
use crate::failure::Failure;

/// The deadline of each call: the server is down for a moment, and a loaded machine is slow.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How long alice lets bob wait for the lock.
const HOLD: Duration = Duration::from_millis(300);

const ALICE: &str = "alice";
const BOB: &str = "bob";
const SERVER: &str = "server";

const DIRECTORY: &str = "/service";
const LEADER: &str = "/service/leader";
const DATABASE: &str = "/service/database";
const FIRST: &str = "db1.example.com 5432";
const SECOND: &str = "db2.example.com 5432";

/// Shows everything.
pub(super) fn tell(stage: &Stage) -> Result<(), Failure> {
    let teller = Teller::new();
    teller.print(
        "A CLD server and two of its clients, alice and bob. Each line is checked before it is shown.\n",
    )?;
    teller.chapter("A server, and a session with it")?;
    let (pid, address) = stage.start(SERVER, None, &[])?;
    teller.line(
        SERVER,
        format_args!("process {pid} serves {address}; its folder is {}", stage.folder().display()),
    )?;
    let story = Story { teller, stage, address };
    let alice = story.connect(ALICE)?;
    story.files(&alice)?;
    let bob = story.connect(BOB)?;
    story.lists_and_reads(&bob)?;
    let (leader, lock) = story.hand_over(&alice, &bob)?;
    story.event(&alice, &bob)?;
    story.crash(&alice, &bob, &leader, &lock)?;
    story.end(alice, bob, lock)?;
    let Story { teller, .. } = story;
    teller.print(&format!("\nAll of it was so, in {:.1} s.\n", teller.elapsed().as_secs_f64()))
}

/// Everybody in it, but the clients.
struct Story<'a> {
    teller: Teller,
    stage: &'a Stage,
    address: SocketAddr,
}

impl Story<'_> {
    fn connect(&self, who: &str) -> Result<Client, Failure> {
        let begun = Instant::now();
        let options = Options::new(Stage::USER, self.stage.secret()).server(self.address).timeout(TIMEOUT);
        let client = Client::connect(options).map_err(problem("opening a session"))?;
        let took = milliseconds(begun.elapsed());
        check(client.lease_state() == LeaseState::Safe, "a new session has a lease")?;
        self.teller.line(
            who,
            format_args!("session {:016X} is open, signed with a random key: {took}", client.sid()),
        )?;
        Ok(client)
    }

    fn files(&self, alice: &Client) -> Result<(), Failure> {
        self.teller.chapter("Directories and files")?;
        alice.mkdir(DIRECTORY).map_err(problem("making a directory"))?;
        self.teller.line(ALICE, format_args!("has made the directory {DIRECTORY}"))?;
        for (path, contents) in [(DATABASE, FIRST), (LEADER, "")] {
            let begun = Instant::now();
            alice.write(path, contents.as_bytes()).map_err(problem("writing a file"))?;
            let took = milliseconds(begun.elapsed());
            self.teller
                .line(ALICE, format_args!("has written {path}: \"{contents}\", on the disk after {took}"))?;
        }
        Ok(())
    }

    fn lists_and_reads(&self, bob: &Client) -> Result<(), Failure> {
        let names = bob.list(DIRECTORY).map_err(problem("listing a directory"))?;
        check(names == [b"database".to_vec(), b"leader".to_vec()], "the directory has both files")?;
        self.teller.line(BOB, format_args!("lists {DIRECTORY}: database, leader"))?;
        let read = bob.read(DATABASE).map_err(problem("reading a file"))?;
        check(read.data == FIRST.as_bytes(), "bob reads what alice has written")?;
        self.teller
            .line(BOB, format_args!("reads {DATABASE}, version {}: \"{FIRST}\"", read.metadata.version))
    }

    /// Alice holds the lock, bob waits for it and gets it.
    fn hand_over(&self, alice: &Client, bob: &Client) -> Result<(File, Lock), Failure> {
        self.teller.chapter("A lock goes from one to the other")?;
        let held = alice.lock(LEADER, LockKind::Exclusive).map_err(problem("taking a lock"))?;
        check(held.is_safe(), "alice holds the lock")?;
        self.teller.line(ALICE, format_args!("holds the lock of {LEADER}"))?;
        let leader = bob
            .open(LEADER, OpenMode::READ | OpenMode::WRITE | OpenMode::LOCK, EventMask::NONE)
            .map_err(problem("opening a file"))?;
        let tried = leader.try_lock(LockKind::Exclusive).map_err(problem("trying a lock"))?;
        check(tried.is_none(), "bob cannot have the lock that alice holds")?;
        self.teller.line(BOB, "tries it, and cannot have it: LOCK_CONFLICT; waits in its queue")?;
        let (lock, after) = thread::scope(|scope| {
            let waiting = thread::Builder::new().name("bob".into()).spawn_scoped(scope, || {
                let lock = leader.lock(LockKind::Exclusive);
                (lock, Instant::now())
            });
            let waiting = waiting.map_err(problem("starting a thread"))?;
            // Long enough that everybody can see him wait.
            thread::sleep(HOLD);
            check(!waiting.is_finished() && held.is_safe(), "bob waits while alice holds the lock")?;
            let released = Instant::now();
            held.release().map_err(problem("releasing a lock"))?;
            self.teller.line(ALICE, format_args!("releases it after {}", milliseconds(HOLD)))?;
            let (lock, granted) = waiting.join().map_err(|_| Failure::Demo("bob's thread failed".into()))?;
            let lock = lock.map_err(problem("waiting for a lock"))?;
            check(granted >= released, "bob had to wait for alice")?;
            Ok::<_, Failure>((lock, granted - released))
        })?;
        check(lock.is_safe(), "bob holds the lock")?;
        self.teller.line(BOB, format_args!("has it {} after alice let go", milliseconds(after)))?;
        Ok((leader, lock))
    }

    /// Bob changes a file that alice watches.
    fn event(&self, alice: &Client, bob: &Client) -> Result<(), Failure> {
        self.teller.chapter("An event")?;
        let mut events = alice.events();
        let watched =
            alice.open(DATABASE, OpenMode::READ, EventMask::UPDATED).map_err(problem("opening a file"))?;
        self.teller.line(ALICE, format_args!("watches {DATABASE}"))?;
        let began = Instant::now();
        bob.write(DATABASE, SECOND.as_bytes()).map_err(problem("writing a file"))?;
        let event = events.next_timeout(TIMEOUT).map_err(problem("waiting for an event"))?;
        let after = milliseconds(began.elapsed());
        self.teller.line(BOB, format_args!("has written {DATABASE}: \"{SECOND}\""))?;
        check(
            event.handle == watched.handle() && event.events == EventMask::UPDATED,
            "the event is about the file that alice watches",
        )?;
        let read = watched.read().map_err(problem("reading a file"))?;
        check(read.data == SECOND.as_bytes(), "alice reads what bob has written")?;
        self.teller.line(
            ALICE,
            format_args!(
                "heard of it {after} after bob began, and reads version {}: \"{SECOND}\"",
                read.metadata.version
            ),
        )
    }

    /// The server is killed, and starts again with all that it had.
    fn crash(&self, alice: &Client, bob: &Client, leader: &File, lock: &Lock) -> Result<(), Failure> {
        self.teller.chapter("The server is killed, and starts again")?;
        let (alice_sid, bob_sid) = (alice.sid(), bob.sid());
        leader.write(b"bob").map_err(problem("writing a file"))?;
        self.stage.kill(SERVER)?;
        self.teller.line(SERVER, "has been killed: SIGKILL, no goodbye")?;
        let (pid, address) = self.stage.start(SERVER, Some(self.address.port()), &[])?;
        check(address == self.address, "the server has its address again")?;
        self.teller
            .line(SERVER, format_args!("process {pid} serves {address}, from what was on the disk"))?;
        let began = Instant::now();
        let read = leader.read().map_err(problem("reading through a handle from before"))?;
        check(read.data == b"bob", "what was acknowledged is there")?;
        check(bob.sid() == bob_sid && lock.is_safe(), "bob's session and lock go on")?;
        self.teller.line(
            BOB,
            format_args!(
                "reads {LEADER} through the handle from before, in the session from before: \"bob\", after {}",
                milliseconds(began.elapsed())
            ),
        )?;
        let tried = alice.try_lock(LEADER, LockKind::Exclusive).map_err(problem("trying a lock"))?;
        check(tried.is_none(), "the server knows that bob holds the lock")?;
        check(alice.sid() == alice_sid, "alice's session goes on")?;
        self.teller.line(ALICE, "tries the lock, in the session from before: bob still holds it")
    }

    fn end(&self, alice: Client, bob: Client, lock: Lock) -> Result<(), Failure> {
        self.teller.chapter("The end")?;
        drop(lock);
        bob.close().map_err(problem("ending bob's session"))?;
        self.teller.line(BOB, "has ended the session")?;
        let lock = alice.try_lock(LEADER, LockKind::Exclusive).map_err(problem("trying a lock"))?;
        check(lock.is_some_and(|lock| lock.is_safe()), "the lock is free when bob's session has ended")?;
        self.teller.line(ALICE, "gets the lock at once: it was free with bob's session")?;
        alice.close().map_err(problem("ending alice's session"))?;
        self.teller.line(ALICE, "has ended the session")?;
        self.stage.clean_up();
        check(!self.stage.folder().exists(), "the server's folder is removed")?;
        self.teller.line(SERVER, "has been stopped, and its folder removed")
    }
}
