//! Clients that open, read, write, lock and delete a few files together, all of it recorded, while something is done to the
//! cell; what they saw must have an order that explains it, and no two may have trusted one lock. `CLD_TEST_SEED` repeats
//! what the clients do.
#![allow(dead_code, reason = "each test program uses another part of it")]
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a helper that fails is a failed test")]

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use cld_tests::cell::Cell;
use cld_tests::history::Recorder;
use cld_tests::rng::{Rng, seed};
use cldc_udp::{Error, LockKind, Options, Result};

use super::Kind;
use super::recorded::{RecordedClient, RecordedFile};

/// Every call ends by then, but for hasty ones.
const DEADLINE: Duration = Duration::from_secs(30);
/// Too short for a fail-over.
const HASTE: Duration = Duration::from_millis(200);
/// Two blocking ones, two async ones, and a plain one that knows one server only and takes no locks: it would hold
/// them while that server is down.
const CLIENTS: u64 = 5;
/// Files at a time.
const FILES: u64 = 2;
/// Operations of each client in one round. Each round has files of its own, so that histories stay short.
const OPERATIONS: u64 = 60;

/// How far the clients are in a round.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU64);

impl Progress {
    /// Waits for some more operations of clients that need the cell to serve.
    #[track_caller]
    pub(crate) fn await_more(&self) {
        // Faults come in the first half of a round, so that there are as many left.
        self.await_count(self.0.load(SeqCst) + CLIENTS * 2);
    }

    #[track_caller]
    fn await_count(&self, goal: u64) {
        let deadline = Instant::now() + DEADLINE;
        while self.0.load(SeqCst) < goal {
            assert!(Instant::now() < deadline, "{} operations of {goal} in time", self.0.load(SeqCst));
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Does one thing after the other to the cell while clients work, and sees that what they saw is right. After each, all
/// servers serve again.
pub(crate) fn linearizes<F: Debug>(
    cell: &mut Cell,
    faults: &[F],
    mut harm: impl FnMut(&mut Cell, &F, &Progress),
) {
    let seed = seed();
    println!("CLD_TEST_SEED={seed}");
    let mut rng = Rng::new(seed);
    let recorder = Recorder::new();
    let options = Options::new("tester", "tester").timeout(DEADLINE);
    let clients: Vec<RecordedClient<'_>> = (0..CLIENTS)
        .map(|number| {
            let kind = if number % 2 == 0 { Kind::Blocking } else { Kind::Async };
            let options = options.clone();
            let options = match number {
                0..4 => options.servers(cell.addresses()),
                _ => options.server(cell.addresses()[rng.below(cell.servers.len() as u64) as usize]).plain(),
            };
            RecordedClient::new(&recorder, number, kind.connect(options).unwrap())
        })
        .collect();
    for (round, fault) in faults.iter().enumerate() {
        println!("round {round}: {fault:?}");
        let progress = Progress::default();
        thread::scope(|scope| {
            for client in &clients {
                let (rng, done) = (Rng::new(rng.next_u64()), &progress.0);
                scope.spawn(move || {
                    Worker { client, rng, round, files: [const { None }; FILES as usize], done }.work()
                });
            }
            let at = rng.below(CLIENTS * OPERATIONS / 2);
            progress.await_count(at);
            harm(cell, fault, &progress);
        });
    }
    let (operations, open) = recorder.size();
    println!("{operations} operations, {open} without an answer");
    if let Err(violation) = recorder.check() {
        panic!("CLD_TEST_SEED={seed}: {violation}");
    }
}

/// What one client does in a round.
struct Worker<'a> {
    client: &'a RecordedClient<'a>,
    rng: Rng,
    round: usize,
    /// Those that it has open.
    files: [Option<RecordedFile<'a>>; FILES as usize],
    done: &'a AtomicU64,
}

impl Worker<'_> {
    fn work(mut self) {
        for number in 0..OPERATIONS {
            let place = self.rng.below(FILES);
            match self.step(place, number) {
                Ok(()) => {}
                // The file was deleted by another client, or is not there yet; whether it may be so is checked.
                Err(Error::Server(_)) => self.close(place),
                Err(Error::Timeout { doing: "reading a file" | "writing a file" }) => {}
                Err(error) => {
                    let client = self.client.client();
                    panic!(
                        "{error}: {client:?} in lease {:?}, epoch {:?}",
                        client.lease_state(),
                        client.epoch()
                    );
                }
            }
            self.done.fetch_add(1, SeqCst);
        }
        (0..FILES).for_each(|place| self.close(place));
    }

    fn step(&mut self, place: u64, number: u64) -> Result<()> {
        let path = format!("/{}.{place}", self.round);
        let data = format!("{}.{number}", self.client.client().sid());
        let choice = self.rng.below(100);
        let slot = &mut self.files[place as usize];
        let Some(file) = slot else {
            *slot = Some(self.client.open(&path, choice < 80)?);
            return Ok(());
        };
        match choice {
            // While its server is stopped, it asks again and again: a late answer must not be an old one.
            0..30 | 75.. if !self.client.client().is_extended() => file.read_within(HASTE).map(drop),
            0..30 => file.read().map(drop),
            30..50 => file.write(data.as_bytes()),
            50..54 => file.write_within(HASTE, data.as_bytes()),
            54..65 => file.version().map(drop),
            65..70 => self.client.remove(&path),
            70..75 => {
                self.close(place);
                Ok(())
            }
            _ => {
                let kind = if self.rng.chance(0.7) { LockKind::Exclusive } else { LockKind::Shared };
                let lock = if self.rng.chance(0.5) { file.try_lock(kind)? } else { Some(file.lock(kind)?) };
                let Some(lock) = lock else { return Ok(()) };
                if self.rng.chance(0.5) {
                    file.write(data.as_bytes())?;
                }
                lock.note_trust();
                if let Some(sequencer) = lock.sequencer().filter(|_| self.rng.chance(0.5)) {
                    self.client.check_sequencer(&path, &sequencer)?;
                }
                lock.release()
            }
        }
    }

    fn close(&mut self, place: u64) {
        // Of a file that was deleted this is refused.
        let closed = self.files[place as usize].take().map(RecordedFile::close);
        assert!(matches!(closed, None | Some(Ok(()) | Err(Error::Server(_)))), "{closed:?}");
    }
}
