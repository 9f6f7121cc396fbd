//! Both Rust clients in extended sessions against the real server: through loss, kills, pauses and moves, nothing is done
//! twice, and no two clients trust one lock at the same time (failures.md 2, 11, 12, 18, 36, 37).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use cld_tests::proxy::{Direction, Faults, Proxy};
use cld_tests::raw::codes::{code, op};
use cld_tests::raw::extended::Master;
use cld_tests::raw::{Head, Packet};
use cld_tests::rng::Rng;
use cld_tests::server::{self, Cld};
use cldc_udp::{Code, Error, EventMask, FileEvent, LeaseState, LockKind, OpenMode, Options};
use support::{Kind, with_both_clients};

/// Every call ends by then, and a wait that should bring something.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long something is waited for that must not come.
const SHORT: Duration = Duration::from_millis(300);
/// The shortest that is granted.
const LEASE: Duration = Duration::from_secs(2);

fn options(server: SocketAddr) -> Options {
    Options::new("tester", "tester").server(server).timeout(DEADLINE)
}

/// The network of the timed tests: 20 ms there and back.
fn far(loss: f64) -> Faults {
    Faults { loss, delay: Duration::from_millis(10), ..Faults::default() }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[test]
fn both_kinds_of_session_are_had_for_the_asking() {
    with_both_clients(|kind| {
        let cld = Cld::start();
        let extended = kind.connect(options(cld.address()).lease(LEASE)).unwrap();
        let plain = kind.connect(options(cld.address()).plain()).unwrap();
        assert!(extended.is_extended() && extended.epoch().is_some());
        assert!(!plain.is_extended() && plain.epoch().is_none());
        let (ours, theirs) = (extended.create("/l").unwrap(), plain.create("/l").unwrap());
        let held = theirs.lock(LockKind::Exclusive).unwrap();
        assert!(held.sequencer().is_none());
        assert!(extended.try_lock("/l", LockKind::Exclusive).unwrap().is_none());
        held.release().unwrap();
        let held = ours.lock(LockKind::Exclusive).unwrap();
        let sequencer = held.sequencer().unwrap();
        assert!(extended.check_sequencer(&sequencer).unwrap());
        assert!(plain.try_lock("/l", LockKind::Shared).unwrap().is_none());
        assert!(matches!(plain.check_sequencer(&sequencer).unwrap_err(), Error::Unsupported));
        plain.write("/l", b"plain").unwrap();
        assert_eq!(extended.read("/l").unwrap().data, b"plain");
        // Longer than its lease.
        thread::sleep(LEASE + SHORT);
        assert!(held.is_safe());
        extended.close().unwrap();
        plain.close().unwrap();
    });
}

#[test]
fn the_longest_contents_go_through_a_far_and_lossy_network_in_less_than_two_seconds() {
    const LIMIT: Duration = Duration::from_secs(2);
    let cld = server::Options::new().behind_proxy().start();
    let data = Rng::new(1).bytes(131_072);
    // One after the other: they would share the processor, and the time is what is tested.
    for kind in [Kind::Blocking, Kind::Async] {
        for (loss, times) in [(0.0, 5), (0.1, 5), (0.3, 2)] {
            let proxy = Proxy::start(cld.address());
            proxy.set_both(far(loss));
            let client = kind.connect(options(proxy.address())).unwrap();
            let file = client.create("/f").unwrap();
            let base = file.metadata().unwrap().version;
            let timed = |work: &dyn Fn()| {
                let begin = Instant::now();
                work();
                begin.elapsed()
            };
            let puts: Vec<Duration> = (0..times).map(|_| timed(&|| file.write(&data).unwrap())).collect();
            let gets: Vec<Duration> =
                (0..times).map(|_| timed(&|| assert!(file.read().unwrap().data == data))).collect();
            assert_eq!(file.metadata().unwrap().version, base + times);
            let (put, get) = (median(puts.clone()), median(gets.clone()));
            println!("{kind:?}, {loss} lost: put {put:?} of {puts:?}, get {get:?} of {gets:?}");
            assert!(
                loss > 0.1 || (put < LIMIT && get < LIMIT),
                "{kind:?}, {loss} lost: put {put:?}, get {get:?}"
            );
        }
    }
}

#[test]
fn many_small_requests_of_one_session_are_on_their_way_together() {
    const REQUESTS: u64 = 100;
    with_both_clients(|kind| {
        let cld = server::Options::new().behind_proxy().start();
        let proxy = Proxy::start(cld.address());
        proxy.set_both(far(0.0));
        let client = kind.connect(options(proxy.address())).unwrap();
        let file = client.create("/f").unwrap();
        let base = file.metadata().unwrap().version;
        let begin = Instant::now();
        thread::scope(|scope| {
            for _ in 0..REQUESTS {
                scope.spawn(|| file.write(b"x").unwrap());
            }
        });
        let took = begin.elapsed();
        println!("{kind:?}: {REQUESTS} writes in {took:?}");
        assert_eq!(file.metadata().unwrap().version, base + REQUESTS);
        // One after the other they would take 2 s for the way alone.
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

#[test]
fn a_client_whose_address_changes_keeps_what_it_has() {
    with_both_clients(|kind| {
        let cld = server::Options::new().behind_proxy().start();
        let proxy = Proxy::start(cld.address());
        let client = kind.connect(options(proxy.address())).unwrap();
        let file = client.create("/f").unwrap();
        let held = file.lock(LockKind::Exclusive).unwrap();
        let base = file.metadata().unwrap().version;
        for moves in 1..=3 {
            proxy.move_clients();
            file.write(b"moved").unwrap();
            assert_eq!(file.metadata().unwrap().version, base + moves);
            assert!(held.is_safe());
            assert!(client.check_sequencer(&held.sequencer().unwrap()).unwrap());
        }
        held.release().unwrap();
    });
}

#[test]
fn a_server_that_is_started_again_is_told_of_once_and_all_stands() {
    with_both_clients(|kind| {
        let mut cld = Cld::start();
        let client = kind.connect(options(cld.address())).unwrap();
        let file = client.create("/f").unwrap();
        let held = file.lock(LockKind::Exclusive).unwrap();
        let (epoch, sequencer) = (client.epoch().unwrap(), held.sequencer().unwrap());
        let mut events = client.events();
        for restarts in 1..=2 {
            cld.kill9();
            cld.restart();
            file.write(b"x").unwrap();
            assert!(held.is_safe());
            assert!(client.check_sequencer(&sequencer).unwrap());
            let told = events.next_timeout(DEADLINE).unwrap();
            assert_eq!((told.handle, told.events), (FileEvent::SESSION, EventMask::MASTER_FAILOVER));
            assert!(client.epoch().unwrap() >= epoch + restarts);
            assert!(events.next_timeout(SHORT).is_err(), "it is told once");
        }
    });
}

#[test]
fn a_server_that_is_stopped_for_longer_than_the_lease_puts_the_client_in_jeopardy_and_its_calls_wait() {
    with_both_clients(|kind| {
        let mut cld = Cld::start();
        let client = kind.connect(options(cld.address()).lease(LEASE)).unwrap();
        let file = client.create("/l").unwrap();
        let held = file.lock(LockKind::Exclusive).unwrap();
        let base = file.metadata().unwrap().version;
        assert_eq!(client.lease_state(), LeaseState::Safe);
        let began = Instant::now();
        cld.stop();
        assert_eq!(client.wait_lease_change(LeaseState::Safe, DEADLINE), LeaseState::Jeopardy);
        assert!(!held.is_safe());
        assert!(began.elapsed() < LEASE, "the client gives up before the server does");
        let hasty = client.with_timeout(SHORT);
        assert!(matches!(hasty.nop().unwrap_err(), Error::Timeout { .. }));
        thread::scope(|scope| {
            let waits = scope.spawn(|| file.write(b"in jeopardy"));
            thread::sleep(LEASE);
            assert!(!waits.is_finished() && !held.is_safe());
            cld.cont();
            waits.join().unwrap().unwrap();
        });
        // The write left too long ago to renew the lease; what does follows at once.
        assert_eq!(client.wait_lease_change(LeaseState::Jeopardy, DEADLINE), LeaseState::Safe);
        assert!(held.is_safe());
        assert_eq!(file.metadata().unwrap().version, base + 1);
        held.release().unwrap();
    });
}

#[test]
fn a_client_that_is_cut_off_gives_its_lock_up_before_another_gets_it() {
    with_both_clients(|kind| {
        let cld = server::Options::new().behind_proxy().start();
        let proxy = Proxy::start(cld.address());
        let near = kind.connect(options(cld.address())).unwrap();
        let far = kind.connect(options(proxy.address()).lease(LEASE)).unwrap();
        let [theirs, ours] = [&far, &near].map(|client| client.create("/l").unwrap());
        let held = theirs.lock(LockKind::Exclusive).unwrap();
        let guarded = near.create("/guarded").unwrap();
        let stale = held.sequencer().unwrap();
        guarded.write_fenced(&stale, b"held").unwrap();
        // Renewed once or twice before.
        thread::sleep(LEASE);
        assert!(held.is_safe());
        proxy.cut_both();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let safe_until = scope.spawn(|| {
                let mut last = Instant::now();
                while !done.load(SeqCst) {
                    let now = Instant::now();
                    if held.is_safe() {
                        last = now;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                last
            });
            let granted = ours.lock(LockKind::Exclusive).unwrap();
            let now = Instant::now();
            assert!(granted.is_safe() && !held.is_safe());
            done.store(true, SeqCst);
            assert!(safe_until.join().unwrap() < now);
            assert!(matches!(
                guarded.write_fenced(&stale, b"stale").unwrap_err(),
                Error::Server(Code::Stale)
            ));
            guarded.write_fenced(&granted.sequencer().unwrap(), b"fresh").unwrap();
        });
        assert_eq!(guarded.read().unwrap().data, b"fresh");
        proxy.heal();
        // It learns that its session is over.
        assert!(matches!(theirs.metadata().unwrap_err(), Error::SessionLost));
        assert!(!held.is_safe());
    });
}

#[test]
fn no_two_clients_trust_one_lock_whatever_kills_and_cuts_do() {
    const CLIENTS: u64 = 3;
    with_both_clients(|kind| {
        let mut cld = server::Options::new().behind_proxy().start();
        let proxy = Proxy::start(cld.address());
        proxy.set_both(Faults { loss: 0.05, ..far(0.0) });
        let (holders, turns, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for place in 0..CLIENTS {
                let (proxy, holders, turns, stop) = (&proxy, &holders, &turns, &stop);
                scope.spawn(move || {
                    let client = kind.connect(options(proxy.address())).unwrap();
                    let file = client.create("/l").unwrap();
                    while !stop.load(SeqCst) {
                        let lock = file.lock(LockKind::Exclusive).unwrap();
                        // Whoever is safe is alone.
                        for _ in 0..10 {
                            if lock.is_safe() {
                                let others = holders.fetch_add(1, SeqCst);
                                assert_eq!(others, 0, "client {place} is not alone");
                                thread::sleep(Duration::from_millis(1));
                                holders.fetch_sub(1, SeqCst);
                            }
                        }
                        turns.fetch_add(1, SeqCst);
                        lock.release().unwrap();
                    }
                });
            }
            for _ in 0..5 {
                await_more(&turns, CLIENTS * 2);
                cld.kill9();
                cld.restart();
                await_more(&turns, CLIENTS);
                proxy.move_clients();
                await_more(&turns, CLIENTS);
                cld.stop();
                thread::sleep(SHORT);
                cld.cont();
            }
            stop.store(true, SeqCst);
        });
    });
}

/// Waits until so many more were counted.
#[track_caller]
fn await_more(count: &AtomicU64, more: u64) {
    let (deadline, goal) = (Instant::now() + DEADLINE, count.load(SeqCst) + more);
    while count.load(SeqCst) < goal {
        assert!(Instant::now() < deadline, "{} of {goal}", count.load(SeqCst));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn requests_that_kills_and_moves_cut_off_are_done_once() {
    const WRITERS: u64 = 4;
    with_both_clients(|kind| {
        let mut cld = server::Options::new().behind_proxy().start();
        let proxy = Proxy::start(cld.address());
        proxy.set_both(Faults { duplication: 0.1, reordering: 0.1, ..far(0.1) });
        let client = kind.connect(options(proxy.address())).unwrap();
        let base = client.create("/f").unwrap().metadata().unwrap().version;
        let (writes, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    let file = client.open("/f", OpenMode::WRITE, EventMask::NONE).unwrap();
                    while !stop.load(SeqCst) {
                        file.write(b"x").unwrap();
                        writes.fetch_add(1, SeqCst);
                    }
                });
            }
            for _ in 0..4 {
                await_more(&writes, WRITERS * 2);
                cld.kill9();
                cld.restart();
                await_more(&writes, WRITERS * 2);
                proxy.move_clients();
            }
            stop.store(true, SeqCst);
        });
        let version = client.metadata("/f").unwrap().version;
        assert_eq!(version, base + writes.load(SeqCst));
        let [to, back] = [Direction::ToServer, Direction::ToClient].map(|way| proxy.counters(way));
        assert!(to.lost > 0 && back.lost > 0 && to.duplicated + back.duplicated > 0, "{to:?}, {back:?}");
    });
}

/// Answers each datagram by NOT_MASTER, until it gets an empty one.
fn not_the_master(socket: &UdpSocket, master: Option<SocketAddr>) -> u64 {
    let mut buffer = [0; 4096];
    let mut count = 0;
    loop {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        if length == 0 {
            return count;
        }
        let asked = Packet::decode(buffer.get(..length).unwrap()).unwrap();
        let answer = Packet {
            head: Some(Head { xid: 1, op: op::NOT_MASTER }),
            last: true,
            body: Master { epoch: 1, address: master }.encode(),
            ..asked
        };
        socket.send_to(&answer.encode(b"tester"), from).unwrap();
        count += 1;
    }
}

#[test]
fn a_client_goes_where_it_is_told_that_the_master_is() {
    with_both_clients(|kind| {
        let cld = Cld::start();
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = other.local_addr().unwrap();
        thread::scope(|scope| {
            let (other, master) = (&other, cld.address());
            let asked = scope.spawn(move || not_the_master(other, Some(master)));
            let begin = Instant::now();
            // It knows no address but the wrong one.
            let client = kind.connect(options(address)).unwrap();
            assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
            client.write("/f", b"x").unwrap();
            client.close().unwrap();
            let end = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            end.send_to(&[], address).unwrap();
            assert_eq!(asked.join().unwrap(), 1);
        });
        assert_eq!(cld.connect("near").del("/f"), code::OK);
    });
}
