//! The server is killed under load, again and again: nothing acknowledged is lost, nothing is done twice, no lock has two
//! holders (failures.md 1, 11, 12).
//!
//! The load comes from Rust clients whose sessions, open files and locks last from the beginning to the end. After each
//! restart a raw session reads what is there and compares it with what the clients were told.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use cld_tests::raw::codes::{code, lock, mode};
use cld_tests::raw::{RawSession, Request};
use cld_tests::rng::{self, Rng};
use cld_tests::server::Cld;
use cldc_udp::blocking::{Client, File};
use cldc_udp::{EventMask, LockKind, OpenMode, Options};

const KILLS: u64 = 200;
/// Every call ends by then. While the server is killed too often, some make no progress: they end after the last kill,
/// which comes after three minutes or so.
const DEADLINE: Duration = Duration::from_secs(600);

/// A file whose n-th write has the n-th content, and what its writers were told.
struct Journal {
    path: &'static str,
    content: fn(u64) -> Vec<u8>,
    /// Its version before the first write.
    base: u64,
    begun: AtomicU64,
    acknowledged: AtomicU64,
}

impl Journal {
    fn create(client: &Client, path: &'static str, content: fn(u64) -> Vec<u8>) -> Self {
        let base = client.create(path).unwrap().metadata().unwrap().version;
        Self { path, content, base, begun: AtomicU64::new(0), acknowledged: AtomicU64::new(0) }
    }

    /// Writes the next content. One thread does at a time.
    fn write_next(&self, file: &File) {
        let number = self.begun.fetch_add(1, SeqCst) + 1;
        file.write(&(self.content)(number)).unwrap();
        self.acknowledged.store(number, SeqCst);
    }

    /// What is read lies between what was acknowledged before the reading and what was begun before its end. The version
    /// shows that each write was done once, and the content that it was done wholly.
    fn check(&self, read: impl FnOnce() -> (u64, Vec<u8>)) {
        let least = self.acknowledged.load(SeqCst);
        let (version, data) = read();
        let most = self.begun.load(SeqCst);
        let (path, number) = (self.path, version - self.base);
        assert!(
            (least..=most).contains(&number),
            "{path}: write {number}, acknowledged {least}, begun {most}"
        );
        let expected = if number == 0 { Vec::new() } else { (self.content)(number) };
        assert!(data == expected, "{path}: version {version} holds something else than write {number}");
    }

    fn check_raw(&self, raw: &mut RawSession) {
        let fh = raw.open(self.path, mode::READ, 0).unwrap();
        self.check(|| raw.get(fh).map(|node| (node.version, node.data)).unwrap());
    }

    fn check_through(&self, file: &File) {
        self.check(|| file.read().map(|read| (read.metadata.version, read.data)).unwrap());
    }
}

/// Digits, in one packet.
fn number(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// A log that grows by a line with each write, up to several packets, and then begins anew.
fn log(number: u64) -> Vec<u8> {
    let first = number - number % 400;
    (first..=number).flat_map(|line| format!("{line:07}\n").into_bytes()).collect()
}

/// Who knows at this moment that it holds the lock. A client enters after it was told of the grant, and leaves before it
/// asks for the release.
#[derive(Default)]
struct Holders(Mutex<(u32, u32)>);

impl Holders {
    fn enter(&self, kind: LockKind) {
        let mut holders = self.0.lock().unwrap();
        match kind {
            LockKind::Exclusive => holders.0 += 1,
            LockKind::Shared => holders.1 += 1,
        }
        let (exclusive, shared) = *holders;
        drop(holders);
        assert!(
            exclusive == 0 || (exclusive, shared) == (1, 0),
            "{exclusive} exclusive and {shared} shared holders"
        );
    }

    fn leave(&self, kind: LockKind) {
        let mut holders = self.0.lock().unwrap();
        match kind {
            LockKind::Exclusive => holders.0 -= 1,
            LockKind::Shared => holders.1 -= 1,
        }
    }
}

/// What all threads see.
struct World {
    seed: u64,
    counter: Journal,
    log: Journal,
    /// Written under the exclusive lock alone.
    guarded: Journal,
    holders: Holders,
    kills: AtomicU64,
    /// Locks that were waited for, and held, while the server was killed.
    waited_across: AtomicU64,
    held_across: AtomicU64,
    stop: AtomicBool,
}

impl World {
    fn goes_on(&self) -> bool {
        !self.stop.load(SeqCst)
    }

    /// Writes one file, as fast as it can.
    fn write(&self, client: &Client, journal: &Journal) {
        let file = client.create(journal.path).unwrap();
        while self.goes_on() {
            journal.write_next(&file);
        }
    }

    /// Creates a file that must not exist, and deletes it, which must: each succeeds once.
    fn create_and_remove(&self, client: &Client) {
        let mode = OpenMode::CREATE | OpenMode::EXCL | OpenMode::WRITE;
        while self.goes_on() {
            let file = client.open("/made", mode, EventMask::NONE).unwrap();
            file.close().unwrap();
            client.remove("/made").unwrap();
        }
    }

    /// Takes the lock, writes or reads what it guards, holds it for a while, releases it.
    fn take_locks(&self, client: &Client, rng: &mut Rng) {
        let locked = client.create("/lock").unwrap();
        let guarded = client.create(self.guarded.path).unwrap();
        while self.goes_on() {
            let kind = if rng.chance(0.2) { LockKind::Shared } else { LockKind::Exclusive };
            let kills = self.kills.load(SeqCst);
            let lock = locked.lock(kind).unwrap();
            self.holders.enter(kind);
            self.waited_across.fetch_add(u64::from(self.kills.load(SeqCst) != kills), SeqCst);
            let kills = self.kills.load(SeqCst);
            match kind {
                LockKind::Exclusive => self.guarded.write_next(&guarded),
                LockKind::Shared => self.guarded.check_through(&guarded),
            }
            // For a while that a kill may fall into.
            thread::sleep(Duration::from_millis(rng.below(40)));
            assert!(lock.is_safe());
            self.held_across.fetch_add(u64::from(self.kills.load(SeqCst) != kills), SeqCst);
            self.holders.leave(kind);
            lock.release().unwrap();
        }
    }

    /// What a session of another kind sees.
    fn check(&self, cld: &Cld) {
        let mut raw = cld.connect("checker");
        for journal in [&self.counter, &self.log, &self.guarded] {
            journal.check_raw(&mut raw);
        }
        let fh = raw.open("/lock", mode::LOCK, 0).unwrap();
        match raw.try_lock(fh, lock::EXCLUSIVE) {
            code::OK => {
                self.holders.enter(LockKind::Exclusive);
                self.guarded.check_raw(&mut raw);
                self.holders.leave(LockKind::Exclusive);
            }
            other => assert_eq!(other, code::LOCK_CONFLICT),
        }
        assert_eq!(raw.call(&Request::EndSess).code, code::OK);
    }
}

/// Ends the load, also when the test fails.
struct Stop<'a>(&'a World);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, SeqCst);
    }
}

#[test]
fn what_was_acknowledged_survives_kills_and_locks_keep_their_holders() {
    let seed = rng::seed();
    println!("crash seed: CLD_TEST_SEED={seed}");
    let mut cld = Cld::start();
    let options = |user: &str| Options::new(user, user).server(cld.address()).timeout(DEADLINE);
    let connect = |user: &str| Client::connect(options(user)).unwrap();
    let connect_plainly = |user: &str| Client::connect(options(user).plain()).unwrap();
    // Sessions of both kinds, side by side.
    let (writer, maker) = (connect("writer"), connect_plainly("maker"));
    let lockers = [connect("locker0"), connect("locker1"), connect_plainly("locker2")];
    let world = World {
        seed,
        counter: Journal::create(&writer, "/counter", number),
        log: Journal::create(&writer, "/log", log),
        guarded: Journal::create(&writer, "/guarded", number),
        holders: Holders::default(),
        kills: AtomicU64::new(0),
        waited_across: AtomicU64::new(0),
        held_across: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let stop = Stop(&world);
        let world = &world;
        // Two threads of one session: two requests of it are under way.
        let mut workers = vec![
            scope.spawn(|| world.write(&writer, &world.counter)),
            scope.spawn(|| world.write(&writer, &world.log)),
            scope.spawn(|| world.create_and_remove(&maker)),
        ];
        for (locker, seed) in lockers.iter().zip(seed..) {
            workers.push(scope.spawn(move || world.take_locks(locker, &mut Rng::new(seed))));
        }
        kill_again_and_again(world, &mut cld, &workers);
        drop(stop);
    });
    for journal in [&world.counter, &world.log, &world.guarded] {
        let (begun, acknowledged) = (journal.begun.load(SeqCst), journal.acknowledged.load(SeqCst));
        println!("{}: {acknowledged} writes", journal.path);
        assert_eq!(begun, acknowledged);
        assert!(acknowledged > KILLS / 4, "{}: {acknowledged} writes are no load", journal.path);
    }
    world.check(&cld);
    let [waited, held] = [&world.waited_across, &world.held_across].map(|count| count.load(SeqCst));
    println!("locks granted after a kill: {waited}, held through one: {held}");
    assert!(waited > 0 && held > 0);
    // All sessions are still there, and what they held is free now.
    for client in lockers.into_iter().chain([writer, maker]) {
        client.close().unwrap();
    }
    let mut raw = cld.connect("checker");
    let fh = raw.create("/lock");
    assert_eq!(raw.try_lock(fh, lock::EXCLUSIVE), code::OK);
}

fn kill_again_and_again(world: &World, cld: &mut Cld, workers: &[ScopedJoinHandle<'_, ()>]) {
    let mut rng = Rng::new(world.seed);
    while world.kills.load(SeqCst) < KILLS {
        // The moment is what is tried here: before the clients are back, or soon after, or under full load. A session whose
        // last request only read is back after a second (protocol.md 16).
        let longest = if rng.chance(0.3) { 50 } else { 700 };
        let longest = if rng.chance(0.15) { 2_500 } else { longest };
        thread::sleep(Duration::from_micros(rng.below(longest * 1_000)));
        cld.kill9();
        world.kills.fetch_add(1, SeqCst);
        if rng.chance(0.2) {
            cld.begin_restart();
            thread::sleep(Duration::from_micros(rng.below(100_000)));
            cld.kill9();
            world.kills.fetch_add(1, SeqCst);
        }
        cld.restart();
        world.check(cld);
        let failed = workers.iter().any(ScopedJoinHandle::is_finished);
        assert!(!failed, "a client failed after {} kills", world.kills.load(SeqCst));
    }
}
