//! Both Rust clients against a real server that is started again or says nothing: the lease, and deadlines (failures.md 36, 37).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use cld_tests::raw::codes::{code, lock};
use cld_tests::server::Cld;
use cldc_udp::{Error, LeaseState, LockKind, Options, Result};
use support::{Client, Kind, with_both_clients};

/// Every call ends by then, and a wait that should bring something.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long something is waited for that must not come.
const SHORT: Duration = Duration::from_millis(300);

fn options(server: SocketAddr) -> Options {
    Options::new("tester", "tester").server(server).timeout(DEADLINE)
}

fn connect(kind: Kind, cld: &Cld) -> Client {
    kind.connect(options(cld.address())).unwrap()
}

/// Waits until somebody waits for the exclusive lock of a file that is held for sharing: from then on nobody else can share.
fn await_waiter(cld: &Cld, path: &str) {
    let mut raw = cld.connect("probe");
    let fh = raw.create(path);
    while raw.try_lock(fh, lock::SHARED) == code::OK {
        assert_eq!(raw.unlock(fh), code::OK);
    }
    assert_eq!(raw.close(fh), code::OK);
}

#[test]
fn a_silent_server_puts_the_lease_in_jeopardy_and_its_word_makes_it_safe_again() {
    with_both_clients(|kind| {
        let mut cld = Cld::start();
        // With so poor a clock, a client trusts a lease of a minute for a second.
        let client = kind.connect(options(cld.address()).drift_ppm(967_000)).unwrap();
        client.write("/l", b"").unwrap();
        let lock = client.lock("/l", LockKind::Exclusive).unwrap();
        assert_eq!(client.lease_state(), LeaseState::Safe);
        assert!(lock.is_safe());
        cld.stop();
        assert_eq!(client.wait_lease_change(LeaseState::Safe, DEADLINE), LeaseState::Jeopardy);
        assert!(!lock.is_safe());
        cld.cont();
        assert_eq!(client.wait_lease_change(LeaseState::Jeopardy, DEADLINE), LeaseState::Safe);
        assert!(lock.is_safe());
        lock.release().unwrap();
    });
}

#[test]
fn a_server_that_is_started_again_goes_on_with_its_clients() {
    with_both_clients(|kind| {
        for kill in [true, false] {
            let mut cld = Cld::start();
            let [holding, waiting] = [connect(kind, &cld), connect(kind, &cld)];
            let file = holding.create("/l").unwrap();
            let held = file.lock(LockKind::Shared).unwrap();
            thread::scope(|scope| {
                let waits = scope.spawn(|| waiting.lock("/l", LockKind::Exclusive));
                await_waiter(&cld, "/l");
                if kill {
                    cld.kill9();
                } else {
                    cld.sigterm();
                }
                cld.restart();
                file.write(b"after").unwrap();
                assert!(held.is_safe());
                held.release().unwrap();
                let granted = waits.join().unwrap().unwrap();
                assert!(granted.is_safe());
                assert!(holding.try_lock("/l", LockKind::Shared).unwrap().is_none());
            });
            assert_eq!(file.read().unwrap().data, b"after");
            holding.close().unwrap();
            waiting.close().unwrap();
        }
    });
}

#[test]
fn a_silent_server_is_given_up_at_the_deadline_and_another_one_is_tried() {
    with_both_clients(|kind| {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let nobody = silent.local_addr().unwrap();
        let late = kind.connect(options(nobody).timeout(SHORT)).unwrap_err();
        assert!(matches!(late, Error::Timeout { .. }), "{late:?}");
        let mut cld = Cld::start();
        let client = kind.connect(options(nobody).server(cld.address())).unwrap();
        let file = client.create("/f").unwrap();
        let lock = file.lock(LockKind::Exclusive).unwrap();
        cld.stop();
        let hasty = client.with_timeout(SHORT);
        let calls: [&dyn Fn() -> Result<()>; 4] =
            [&|| hasty.nop(), &|| hasty.write("/f", b"x"), &|| hasty.read("/f").map(drop), &|| {
                hasty.lock("/f", LockKind::Exclusive).map(drop)
            }];
        for call in calls {
            let late = call().unwrap_err();
            assert!(matches!(late, Error::Timeout { .. }), "{late:?}");
        }
        let late = hasty.close().unwrap_err();
        assert!(matches!(late, Error::Timeout { .. }), "{late:?}");
        drop(lock);
        cld.cont();
    });
}
