//! Both Rust clients against real servers: every call, locks and events (failures.md 36).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::thread;
use std::time::Duration;

use cld_tests::raw::codes::{code, event, lock};
use cldc_udp::{Code, Error, EventMask, LockKind, OpenMode, Options, Result};

use crate::servers::Servers;
use crate::support::{Client, Events, Kind, with_both_clients};

/// Every call ends by then, and a wait that should bring something.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long something is waited for that must not come.
const SHORT: Duration = Duration::from_millis(300);
const EXCLUSIVE: OpenMode =
    OpenMode(OpenMode::READ.0 | OpenMode::WRITE.0 | OpenMode::LOCK.0 | OpenMode::CREATE.0 | OpenMode::EXCL.0);

fn connect(kind: Kind, cld: &Servers) -> Client {
    kind.connect(Options::new("tester", "tester").server(cld.any()).timeout(DEADLINE)).unwrap()
}

/// Waits until somebody waits for the exclusive lock of a file that is held for sharing: from then on nobody else can share.
fn await_waiter(cld: &Servers, path: &str) {
    let mut raw = cld.connect("probe");
    let fh = raw.create(path);
    while raw.try_lock(fh, lock::SHARED) == code::OK {
        assert_eq!(raw.unlock(fh), code::OK);
    }
    assert_eq!(raw.close(fh), code::OK);
}

/// The server's reason for refusing.
fn refusal<T: std::fmt::Debug>(result: Result<T>) -> Code {
    match result.unwrap_err() {
        Error::Server(code) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_call_does_what_it_says() {
    with_both_clients(|kind| {
        let cld = Servers::start();
        let client = connect(kind, &cld);
        client.mkdir("/d").unwrap();
        client.write("/d/a", b"one").unwrap();
        let read = client.read("/d/a").unwrap();
        assert_eq!((&read.data[..], &read.path[..]), (&b"one"[..], &b"/d/a"[..]));
        assert_eq!(client.metadata("/d/a").unwrap(), read.metadata);
        client.write("/d/a", b"two").unwrap();
        assert_eq!(client.metadata("/d/a").unwrap().version, read.metadata.version + 1);
        let file = client.open("/d/b", EXCLUSIVE, EventMask::NONE).unwrap();
        let long: Vec<u8> = (0..131_072_u32).map(|at| (at / 5) as u8).collect();
        for data in [&long[..], &long[..1024], b""] {
            file.write(data).unwrap();
            assert!(file.read().unwrap().data == data, "{} bytes", data.len());
        }
        assert_eq!(file.metadata().unwrap(), file.read().unwrap().metadata);
        assert_eq!(client.list("/d").unwrap(), [b"a", b"b"]);
        client.nop().unwrap();
        file.close().unwrap();
        client.remove("/d/b").unwrap();
        assert_eq!(client.list("/d").unwrap(), [b"a"]);
        let sid = client.sid();
        client.close().unwrap();
        assert_ne!(connect(kind, &cld).sid(), sid);
    });
}

#[test]
fn what_is_refused_is_told_with_its_reason() {
    with_both_clients(|kind| {
        let cld = Servers::start();
        let client = connect(kind, &cld);
        client.write("/f", b"x").unwrap();
        client.mkdir("/d").unwrap();
        client.write("/d/f", b"x").unwrap();
        assert_eq!(refusal(client.read("/none")), Code::NameInval);
        assert_eq!(refusal(client.remove("/none")), Code::NameInval);
        assert_eq!(refusal(client.mkdir("/d")), Code::InodeExists);
        assert_eq!(refusal(client.open("/f", EXCLUSIVE, EventMask::NONE)), Code::InodeExists);
        assert_eq!(refusal(client.remove("/d")), Code::DirNotEmpty);
        let readable = client.open("/f", OpenMode::READ, EventMask::NONE).unwrap();
        assert_eq!(refusal(readable.write(b"y")), Code::ModeInval);
        assert!(matches!(client.write("/f", &[0; 131_073]).unwrap_err(), Error::Call(_)));
        assert!(matches!(client.read("f").unwrap_err(), Error::Call(_)));
        // None of these cost the session anything.
        assert_eq!(client.read("/f").unwrap().data, b"x");
    });
}

#[test]
fn a_lock_is_released_by_its_guard_by_closing_and_at_the_end_of_the_session() {
    with_both_clients(|kind| {
        let cld = Servers::start();
        let mut raw = cld.connect("other");
        let fh = raw.create("/l");
        for way in ["release", "drop", "close the file", "end the session"] {
            let client = connect(kind, &cld);
            let file = client.create("/l").unwrap();
            let lock = file.lock(LockKind::Exclusive).unwrap();
            assert!(lock.is_safe());
            assert_eq!(raw.lock(fh, lock::EXCLUSIVE), code::LOCK_PENDING);
            match way {
                "release" => lock.release().unwrap(),
                "drop" => drop(lock),
                "close the file" => file.close().unwrap(),
                _ => client.with_timeout(DEADLINE).close().unwrap(),
            }
            assert_eq!(raw.event(), (fh, event::LOCKED), "{way}");
            assert_eq!(raw.unlock(fh), code::OK);
        }
    });
}

#[test]
fn a_lock_that_others_hold_is_waited_for_until_the_deadline() {
    with_both_clients(|kind| {
        let cld = Servers::start();
        let mut raw = cld.connect("holder");
        let fh = raw.create("/l");
        assert_eq!(raw.lock(fh, lock::SHARED), code::OK);
        let client = connect(kind, &cld);
        assert!(client.try_lock("/l", LockKind::Exclusive).unwrap().is_none());
        let late = client.with_timeout(SHORT).lock("/l", LockKind::Exclusive).unwrap_err();
        assert!(matches!(late, Error::Timeout { .. }), "{late:?}");
        // It has left the queue: the lock can be shared again.
        client.lock("/l", LockKind::Shared).unwrap().release().unwrap();
        let lock = thread::scope(|scope| {
            let waits = scope.spawn(|| client.lock("/l", LockKind::Exclusive));
            await_waiter(&cld, "/l");
            assert_eq!(raw.unlock(fh), code::OK);
            waits.join().unwrap().unwrap()
        });
        assert!(lock.is_safe());
        assert_eq!(raw.try_lock(fh, lock::SHARED), code::LOCK_CONFLICT);
        lock.release().unwrap();
        assert_eq!(raw.try_lock(fh, lock::SHARED), code::OK);
        assert!(client.try_lock("/l", LockKind::Shared).unwrap().unwrap().is_safe());
    });
}

#[test]
fn events_are_a_stream_that_ends_with_the_session() {
    with_both_clients(|kind| {
        let cld = Servers::start();
        let mut raw = cld.connect("writer");
        let fh = raw.create("/f");
        let client = connect(kind, &cld);
        let mut events = [client.events(), client.events()];
        let watched = client.open("/f", OpenMode::READ, EventMask::UPDATED | EventMask::DELETED).unwrap();
        let unwatched = client.open("/f", OpenMode::READ, EventMask::NONE).unwrap();
        assert_eq!(raw.put(fh, b"x"), code::OK);
        let next = |events: &mut Events| {
            let event = events.next_timeout(DEADLINE).unwrap();
            assert_eq!((&event.path[..], event.missed), (&b"/f"[..], 0));
            event.events
        };
        assert_eq!(events.each_mut().map(next), [EventMask::UPDATED; 2]);
        // The change is there when its event is.
        assert_eq!(watched.read().unwrap().data, b"x");
        drop(unwatched);
        assert_eq!(raw.del("/f"), code::OK);
        assert_eq!(events.each_mut().map(next), [EventMask::DELETED; 2]);
        let [mut one, _] = events;
        assert!(matches!(one.next_timeout(SHORT).unwrap_err(), Error::Timeout { .. }));
        client.close().unwrap();
        assert!(matches!(one.next_timeout(DEADLINE).unwrap_err(), Error::Closed));
    });
}

#[test]
fn a_wrong_key_ends_at_the_deadline() {
    with_both_clients(|kind| {
        let cld = Servers::start();
        let stranger = Options::new("tester", "wrong").server(cld.any()).timeout(SHORT);
        assert!(matches!(kind.connect(stranger).unwrap_err(), Error::Timeout { .. }));
    });
}
