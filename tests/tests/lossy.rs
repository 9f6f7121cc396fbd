//! Through a network that loses 30 % of the datagrams each way, repeats 10 % and reorders 10 %: every kind of operation is
//! completed, once, by both Rust clients and by a raw session (failures.md 11, 15, 16, 18, 19).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use cld_tests::proxy::{Direction, Faults, Proxy};
use cld_tests::raw::codes::{code, event, lock, mode};
use cld_tests::raw::{Answer, RawSession, Request};
use cld_tests::rng::Rng;
use cld_tests::server::{self, Cld};
use cldc_udp::{Code, Error, EventMask, LockKind, OpenMode, Options};
use support::{Client, Kind, with_both_clients};

/// The network of these tests.
const LOSSY: Faults = Faults {
    loss: 0.3,
    duplication: 0.1,
    reordering: 0.1,
    corruption: 0.0,
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
};
/// One that damages as well.
const DAMAGING: Faults = Faults { corruption: 0.05, ..LOSSY };
/// Every call ends by then, and none should need as long.
const DEADLINE: Duration = Duration::from_secs(120);
/// How often a file is written.
const WRITES: u64 = 5;
/// How often a raw session repeats a request.
const INTERVAL: Duration = Duration::from_millis(250);
const READ_AND_WRITE: OpenMode = OpenMode(OpenMode::READ.0 | OpenMode::WRITE.0);

fn behind(faults: Faults) -> (Cld, Proxy) {
    let cld = server::Options::new().behind_proxy().start();
    let proxy = Proxy::start(cld.address());
    proxy.set_both(faults);
    (cld, proxy)
}

fn connect(kind: Kind, proxy: &Proxy, user: &str) -> Client {
    kind.connect(Options::new(user, user).server(proxy.address()).timeout(DEADLINE)).unwrap()
}

#[test]
fn every_operation_is_done_once() {
    with_both_clients(|kind| every_operation(kind, LOSSY, extended));
}

#[test]
fn every_operation_of_a_plain_session_is_done_once() {
    with_both_clients(|kind| every_operation(kind, LOSSY, Options::plain));
}

#[test]
fn damaged_datagrams_change_nothing() {
    with_both_clients(|kind| every_operation(kind, DAMAGING, extended));
}

/// The clients' sessions are extended if nothing else is asked for.
fn extended(options: Options) -> Options {
    options
}

fn every_operation(kind: Kind, faults: Faults, session: fn(Options) -> Options) {
    let (cld, proxy) = behind(faults);
    let options = Options::new("tester", "tester").server(proxy.address()).timeout(DEADLINE);
    let client = kind.connect(session(options)).unwrap();
    // Done a second time, these three would be refused.
    client.mkdir("/d").unwrap();
    let exclusive = READ_AND_WRITE | OpenMode::LOCK | OpenMode::CREATE | OpenMode::EXCL;
    let file = client.open("/d/f", exclusive, EventMask::NONE).unwrap();
    client.write("/d/gone", b"").unwrap();
    client.remove("/d/gone").unwrap();
    let base = file.metadata().unwrap().version;
    for n in 1..=WRITES {
        file.write(n.to_string().as_bytes()).unwrap();
        let read = file.read().unwrap();
        assert_eq!((read.data, read.metadata.version), (n.to_string().into_bytes(), base + n));
    }
    assert_eq!(client.list("/d").unwrap(), [b"f"]);
    let held = file.lock(LockKind::Exclusive).unwrap();
    assert!(client.try_lock("/d/f", LockKind::Shared).unwrap().is_none());
    held.release().unwrap();
    client.try_lock("/d/f", LockKind::Shared).unwrap().unwrap().release().unwrap();
    client.nop().unwrap();
    file.close().unwrap();
    assert!(matches!(client.remove("/d").unwrap_err(), Error::Server(Code::DirNotEmpty)));
    client.close().unwrap();
    // What the server has, seen from near.
    let mut raw = cld.connect("near");
    let fh = raw.open("/d/f", mode::READ | mode::LOCK, 0).unwrap();
    let node = raw.get(fh).unwrap();
    assert_eq!((node.version, node.data), (base + WRITES, WRITES.to_string().into_bytes()));
    assert_eq!(raw.try_lock(fh, lock::EXCLUSIVE), code::OK);
    let [to, back] = [Direction::ToServer, Direction::ToClient].map(|way| proxy.counters(way));
    assert!(to.lost > 0 && back.lost > 0 && to.duplicated + back.duplicated > 0, "{to:?}, {back:?}");
}

#[test]
fn long_contents_arrive_intact() {
    with_both_clients(long_contents);
}

fn long_contents(kind: Kind) {
    let (_cld, proxy) = behind(LOSSY);
    let client = connect(kind, &proxy, "tester");
    let file = client.create("/f").unwrap();
    let base = file.metadata().unwrap().version;
    let mut rng = Rng::new(0xda7a);
    for (data, n) in [0, 1, 1024, 1025, 20_000, 131_072].map(|length| rng.bytes(length)).iter().zip(1..) {
        file.write(data).unwrap();
        let read = file.read().unwrap();
        assert_eq!(read.metadata.version, base + n);
        assert!(read.data == *data, "{} bytes came back as {} others", data.len(), read.data.len());
    }
}

#[test]
fn events_are_told_once_and_in_order() {
    with_both_clients(events);
}

fn events(kind: Kind) {
    let (cld, proxy) = behind(LOSSY);
    let mut near = cld.connect("near");
    let written = near.create("/f");
    let client = connect(kind, &proxy, "tester");
    let mut events = client.events();
    let mode = OpenMode::READ;
    let file = client.open("/f", mode, EventMask::UPDATED | EventMask::DELETED).unwrap();
    // Fewer than the server keeps for one client before it merges them.
    for _ in 0..10 {
        assert_eq!(near.put(written, b"x"), code::OK);
    }
    assert_eq!(near.del("/f"), code::OK);
    for told in 0..=10 {
        let event = events.next_timeout(DEADLINE).unwrap();
        let expected = if told < 10 { EventMask::UPDATED } else { EventMask::DELETED };
        assert_eq!((event.events, event.missed, &event.path[..]), (expected, 0, &b"/f"[..]), "event {told}");
    }
    // An answer comes after all events before it.
    file.close().unwrap();
    client.close().unwrap();
    assert!(events.next_timeout(DEADLINE).is_err());
}

#[test]
fn a_lock_goes_from_hand_to_hand() {
    with_both_clients(hand_over);
}

fn hand_over(kind: Kind) {
    const CLIENTS: u32 = 3;
    const TURNS: u32 = 3;
    let (_cld, proxy) = behind(LOSSY);
    let (holders, turns) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let client = connect(kind, &proxy, &format!("client{client}"));
            let (holders, turns) = (&holders, &turns);
            scope.spawn(move || {
                let file = client.create("/lock").unwrap();
                for _ in 0..TURNS {
                    let lock = file.lock(LockKind::Exclusive).unwrap();
                    assert_eq!(holders.fetch_add(1, SeqCst), 0, "two holders");
                    client.nop().unwrap();
                    turns.fetch_add(1, SeqCst);
                    holders.fetch_sub(1, SeqCst);
                    lock.release().unwrap();
                }
            });
        }
    });
    assert_eq!(turns.load(SeqCst), CLIENTS * TURNS);
}

/// A session of the raw client, which repeats its requests until they are answered.
struct Stubborn(RawSession);

impl Stubborn {
    fn connect(proxy: &Proxy, user: &str) -> Self {
        let mut raw = RawSession::new(proxy.address(), user);
        raw.patience = DEADLINE;
        let mut stubborn = Self(raw);
        assert_eq!(stubborn.code(&Request::NewSess), code::OK);
        stubborn
    }

    fn answer(&mut self, request: &Request) -> Answer {
        self.0.call_until_answered(request, INTERVAL).message.answer
    }

    fn code(&mut self, request: &Request) -> i32 {
        self.0.call_until_answered(request, INTERVAL).code
    }

    fn open(&mut self, path: &str, mode: u32, events: u32) -> u64 {
        match self.answer(&Request::Open { mode, events, path: path.into() }) {
            Answer::Opened { fh, .. } => fh,
            other => panic!("OPEN {path}: {other:?}"),
        }
    }

    fn read(&mut self, fh: u64) -> (u64, Vec<u8>) {
        match self.answer(&Request::Get { fh }) {
            Answer::Contents { node, .. } => (node.version, node.data),
            other => panic!("GET: {other:?}"),
        }
    }
}

#[test]
fn a_raw_session_that_repeats_its_requests_has_each_done_once() {
    let (_cld, proxy) = behind(LOSSY);
    let [mut one, mut other] = ["one", "other"].map(|user| Stubborn::connect(&proxy, user));
    let all = mode::READ | mode::WRITE | mode::LOCK | mode::CREATE;
    let fh = one.open("/f", all | mode::EXCL, 0);
    let watched = other.open("/f", all, event::UPDATED | event::LOCKED);
    let (base, _) = one.read(fh);
    let mut rng = Rng::new(1);
    let contents = [0, 100, 3_000, 131_072, 5].map(|length| rng.bytes(length));
    for data in contents {
        assert_eq!(one.code(&Request::Put { fh, data }), code::OK);
    }
    let (version, data) = one.read(fh);
    assert_eq!((version, data.len()), (base + 5, 5));
    let exclusive = |fh| Request::Lock { fh, flags: lock::EXCLUSIVE };
    assert_eq!(one.code(&exclusive(fh)), code::OK);
    assert_eq!(other.code(&exclusive(watched)), code::LOCK_PENDING);
    assert_eq!(one.code(&Request::Unlock { fh }), code::OK);
    let mut updates = 0;
    while other.0.event() == (watched, event::UPDATED) {
        updates += 1;
    }
    // What ended them is the grant. A server that begins its numbers anew may tell some twice.
    assert!(updates >= 5, "{updates} updates");
    assert_eq!(other.code(&Request::Unlock { fh: watched }), code::OK);
    assert_eq!(one.code(&Request::Close { fh }), code::OK);
    assert_eq!(one.code(&Request::Del { path: b"/f".to_vec() }), code::OK);
    assert_eq!(one.code(&Request::EndSess), code::OK);
    assert_eq!(other.code(&Request::EndSess), code::OK);
}
