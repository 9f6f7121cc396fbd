//! What the demonstration shows of a cell: its master is killed while a lock is held and waited for.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use cldc_udp::blocking::{Client, Events, File, Lock};
use cldc_udp::{Error, EventMask, LeaseState, LockKind, Options, Sequencer};

use super::cell::{Cell, Server};
use super::problem;
use super::stage::{Stage, await_that};
use super::teller::{Teller, check, milliseconds};
use crate::failure::Failure;

/// The deadline of each call: the cell has no master for a moment, and a loaded machine is slow.
const TIMEOUT: Duration = Duration::from_secs(20);
/// For how long it is listened whether an event comes again.
const LISTEN: Duration = Duration::from_millis(300);

const ALICE: &str = "alice";
const BOB: &str = "bob";
const LEADER: &str = "/leader";

/// Shows everything, with so many servers.
pub(super) fn tell(stage: &Stage, servers: usize) -> Result<(), Failure> {
    let teller = Teller::new();
    let number = if servers == 1 { "1 server".to_owned() } else { format!("{servers} servers") };
    teller.print(&format!(
        "A cell of {number}, and two clients, alice and bob. Each line is checked before it is shown.\n"
    ))?;
    let story = Story { cell: Cell::plan(stage, servers)?, stage, teller };
    story.form()?;
    let (alice, bob) = (story.connect()?, story.connect()?);
    let (leader, lock, sequencer) = story.take(&alice)?;
    let waiting = story.wait(&bob)?;
    let events = story.kill_master(&alice, &bob, &leader, &lock, &sequencer, &waiting)?;
    let lock = story.release(&alice, lock, &sequencer, &waiting)?;
    story.told_once(events)?;
    story.end(alice, bob, lock)?;
    let Story { teller, .. } = story;
    teller.print(&format!("\nAll of it was so, in {:.1} s.\n", teller.elapsed().as_secs_f64()))
}

/// What bob got, and when.
type Granted = (Result<Lock, Error>, Instant);

/// Everybody in it, but the clients.
struct Story<'a> {
    teller: Teller,
    stage: &'a Stage,
    cell: Cell<'a>,
}

impl Story<'_> {
    /// The servers become a cell.
    fn form(&self) -> Result<(), Failure> {
        self.teller.chapter("The servers become a cell")?;
        for (place, server) in self.cell.servers.iter().enumerate() {
            let pid = self.cell.join(server)?;
            let did = if place == 0 { "has made the cell" } else { "has joined, caught up, and votes" };
            self.teller.line(&server.name, format_args!("process {pid} serves {}: {did}", server.client))?;
        }
        let master = self.cell.master()?;
        self.teller.line(&master.server.name, format_args!("is the master, in epoch {}", master.epoch))
    }

    fn connect(&self) -> Result<Client, Failure> {
        let servers = self.cell.servers.iter().map(|server| server.client);
        let options = Options::new(Stage::USER, self.stage.secret()).servers(servers).timeout(TIMEOUT);
        let client = Client::connect(options).map_err(problem("opening a session"))?;
        check(client.lease_state() == LeaseState::Safe, "a new session has a lease")?;
        Ok(client)
    }

    /// Alice takes the lock.
    fn take(&self, alice: &Client) -> Result<(File, Lock, Sequencer), Failure> {
        self.teller.chapter("A lock is held, and waited for")?;
        let leader = alice.create(LEADER).map_err(problem("making a file"))?;
        let lock = leader.lock(LockKind::Exclusive).map_err(problem("taking a lock"))?;
        check(lock.is_safe(), "alice holds the lock")?;
        let sequencer = lock.sequencer().ok_or_else(|| not_so("the lock has a sequencer"))?;
        leader.write_fenced(&sequencer, b"alice").map_err(problem("writing under the lock"))?;
        self.teller.line(
            ALICE,
            format_args!("session {:016X} holds the lock; its sequencer is {sequencer}", alice.sid()),
        )?;
        Ok((leader, lock, sequencer))
    }

    /// Bob asks for the lock and waits, on a thread of his own.
    fn wait(&self, bob: &Client) -> Result<Receiver<Granted>, Failure> {
        let (tell, granted) = mpsc::channel();
        let client = bob.clone();
        let wait = move || {
            let lock = client.lock(LEADER, LockKind::Exclusive);
            // Nobody hears of it if the demonstration has ended.
            let _ = tell.send((lock, Instant::now()));
        };
        thread::Builder::new().name(BOB.into()).spawn(wait).map_err(problem("starting a thread"))?;
        await_that("the master has bob in the queue of the lock", || {
            Ok((self.cell.master()?.claims == 2).then_some(()))
        })?;
        check(granted.try_recv().is_err(), "bob waits while alice holds the lock")?;
        self.teller.line(BOB, format_args!("session {:016X} waits for it", bob.sid()))?;
        Ok(granted)
    }

    /// The master is killed; gives what alice hears of it.
    fn kill_master(
        &self,
        alice: &Client,
        bob: &Client,
        leader: &File,
        lock: &Lock,
        sequencer: &Sequencer,
        waiting: &Receiver<Granted>,
    ) -> Result<Events, Failure> {
        self.teller.chapter("The master is killed")?;
        let sessions = (alice.sid(), bob.sid());
        let before = self.cell.master()?;
        let events = alice.events();
        let killed = Instant::now();
        self.stage.kill(&before.server.name)?;
        self.teller.line(&before.server.name, "has been killed: SIGKILL, no goodbye")?;
        if self.cell.servers.len() == 1 {
            self.start_again(before.server)?;
        }
        leader.write_fenced(sequencer, b"alice, still").map_err(problem("writing after the fail-over"))?;
        let took = milliseconds(killed.elapsed());
        self.teller.line(
            ALICE,
            format_args!("has written {LEADER} under the lock: acknowledged {took} after the kill"),
        )?;
        let after = self.cell.master()?;
        let another = after.server.name != before.server.name || self.cell.servers.len() == 1;
        check(another && after.epoch > before.epoch, "another server is the master, in a later epoch")?;
        check(alice.server() == Some(after.server.client), "alice has found the new master")?;
        self.teller.line(
            &after.server.name,
            format_args!("is the master now, in epoch {} after {}", after.epoch, before.epoch),
        )?;
        check((alice.sid(), bob.sid()) == sessions, "both sessions go on")?;
        check(lock.is_safe() && lock.sequencer().as_ref() == Some(sequencer), "alice still holds the lock")?;
        self.teller.line(ALICE, "still holds the lock, in the same session")?;
        let stands = bob.check_sequencer(sequencer).map_err(problem("checking a sequencer"))?;
        check(stands, "the sequencer of alice's lock stands")?;
        check(waiting.try_recv().is_err() && after.claims == 2, "bob waits as before")?;
        self.teller.line(BOB, format_args!("still waits; asks the cell about {sequencer}: it stands"))?;
        Ok(events)
    }

    /// A cell of one has no other server.
    fn start_again(&self, server: &Server) -> Result<(), Failure> {
        let pid = self.cell.start(server)?;
        self.teller.line(&server.name, format_args!("process {pid} serves {} again", server.client))
    }

    /// Alice lets go, and bob gets it.
    fn release(
        &self,
        alice: &Client,
        lock: Lock,
        sequencer: &Sequencer,
        waiting: &Receiver<Granted>,
    ) -> Result<Lock, Failure> {
        self.teller.chapter("The lock goes to who waited")?;
        let released = Instant::now();
        lock.release().map_err(problem("releasing a lock"))?;
        self.teller.line(ALICE, "releases the lock")?;
        let (lock, granted) = waiting.recv_timeout(TIMEOUT).map_err(problem("waiting for bob"))?;
        let lock = lock.map_err(problem("waiting for a lock"))?;
        check(granted >= released && lock.is_safe(), "bob holds the lock, since alice let go")?;
        let new = lock.sequencer().ok_or_else(|| not_so("the lock has a sequencer"))?;
        check(new.generation > sequencer.generation, "the number of bob's holding is above that of alice's")?;
        let after = milliseconds(granted - released);
        self.teller.line(BOB, format_args!("has it {after} after alice let go; its sequencer is {new}"))?;
        let stands = alice.check_sequencer(sequencer).map_err(problem("checking a sequencer"))?;
        check(!stands, "the sequencer of alice's lock is stale")?;
        self.teller.line(ALICE, format_args!("asks about {sequencer}: it is stale"))?;
        Ok(lock)
    }

    /// What alice has heard since before the kill.
    fn told_once(&self, mut events: Events) -> Result<(), Failure> {
        let event = events.next_timeout(TIMEOUT).map_err(problem("waiting for an event"))?;
        check(event.events == EventMask::MASTER_FAILOVER, "alice was told of the fail-over")?;
        let again = events.next_timeout(LISTEN);
        check(matches!(again, Err(Error::Timeout { .. })), "alice was told once, and of nothing else")?;
        self.teller.line(ALICE, "was told of MASTER_FAILOVER, once")
    }

    fn end(&self, alice: Client, bob: Client, lock: Lock) -> Result<(), Failure> {
        self.teller.chapter("The end")?;
        drop(lock);
        bob.close().map_err(problem("ending bob's session"))?;
        alice.close().map_err(problem("ending alice's session"))?;
        self.teller.line("both", "have ended their sessions")?;
        self.stage.clean_up();
        check(!self.stage.folder().exists(), "the servers' folder is removed")?;
        self.teller.line("servers", "have been stopped, and their folder removed")
    }
}

fn not_so(claim: &str) -> Failure {
    Failure::Demo(format!("this is not so: {claim}"))
}
