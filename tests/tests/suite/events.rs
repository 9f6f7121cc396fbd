//! Events: to those who asked, after the change, until acknowledged (protocol.md 9; failures.md 6, 7).
#![expect(clippy::panic, reason = "a helper that fails is a failed test")]

use std::time::{Duration, Instant};

use cld_tests::raw::codes::event::{DELETED, LOCKED, UPDATED};
use cld_tests::raw::codes::{code, lock, mode};
use cld_tests::raw::{Acks, Answer, RawSession, Request};

use crate::servers::Servers;

const ALL: u32 = UPDATED | DELETED | LOCKED;
const RW: u32 = mode::READ | mode::WRITE | mode::LOCK | mode::CREATE;
const LIST: u32 = mode::READ | mode::DIRECTORY;

/// The handle of `path`, opened with a mask of events.
#[track_caller]
fn open(session: &mut RawSession, path: &str, mode: u32, events: u32) -> u64 {
    session.open(path, mode, events).unwrap_or_else(|code| panic!("OPEN {path}: code {code}"))
}

#[test]
fn an_update_is_told_to_every_handle_that_asked_the_writers_included() {
    let cld = Servers::start();
    let (mut writer, mut reader) = (cld.connect("writer"), cld.connect("reader"));
    let fh = open(&mut writer, "/f", RW, UPDATED);
    let deaf = open(&mut writer, "/f", RW, DELETED | LOCKED);
    let (one, two) = (open(&mut reader, "/f", RW, UPDATED), open(&mut reader, "/f", 0, ALL));
    let three = open(&mut reader, "/f", RW, 0);
    assert_eq!(writer.put(deaf, b"x"), code::OK);
    assert_eq!(writer.events_so_far(), [(fh, UPDATED)]);
    let mut told = [reader.event(), reader.event()];
    told.sort_unstable();
    assert_eq!(told, [(one, UPDATED), (two, UPDATED)]);
    assert_eq!(reader.events_so_far(), [], "handle {three} did not ask");
}

#[test]
fn an_opener_is_not_told_of_its_own_creation() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    open(&mut session, "/f", RW, ALL);
    open(&mut session, "/d", mode::CREATE | mode::DIRECTORY, ALL);
    assert_eq!(session.events_so_far(), []);
}

#[test]
fn a_directory_tells_of_children_created_and_deleted() {
    let cld = Servers::start();
    let (mut session, mut watcher) = (cld.connect("tester"), cld.connect("watcher"));
    let root = open(&mut watcher, "/", LIST, ALL);
    let fh = session.create("/f");
    assert_eq!(watcher.event(), (root, UPDATED));
    session.create("/f");
    assert_eq!(session.put(fh, b"x"), code::OK);
    assert_eq!(watcher.events_so_far(), [], "neither opening nor writing a child changes a directory");
    assert_eq!(session.del("/f"), code::OK);
    assert_eq!(watcher.event(), (root, UPDATED));
    assert_eq!(watcher.events_so_far(), []);
}

#[test]
fn a_deletion_is_told_to_those_who_asked() {
    let cld = Servers::start();
    let (mut session, mut watcher) = (cld.connect("tester"), cld.connect("watcher"));
    let own = open(&mut session, "/f", RW, DELETED);
    let fh = open(&mut watcher, "/f", mode::READ, DELETED | UPDATED);
    open(&mut watcher, "/f", mode::READ, UPDATED | LOCKED);
    open(&mut watcher, "/f", mode::READ, 0);
    let root = open(&mut watcher, "/", LIST, UPDATED);
    assert_eq!(session.del("/f"), code::OK);
    assert_eq!(
        (watcher.event(), watcher.event()),
        ((fh, DELETED), (root, UPDATED)),
        "the file before its directory"
    );
    assert_eq!(watcher.events_so_far(), []);
    assert_eq!(session.events_so_far(), [(own, DELETED)]);
}

#[test]
fn a_refused_request_tells_nobody_anything() {
    let cld = Servers::start();
    let (mut session, mut watcher) = (cld.connect("tester"), cld.connect("watcher"));
    open(&mut watcher, "/d", mode::CREATE | LIST, ALL);
    session.create("/d/f");
    assert_eq!(watcher.events_so_far().len(), 1);
    let fh = open(&mut session, "/d/f", mode::READ, 0);
    open(&mut watcher, "/d/f", mode::READ, ALL);
    assert_eq!(session.put(fh, b"x"), code::MODE_INVAL);
    assert_eq!(session.open("/d/f", mode::CREATE | mode::EXCL, 0), Err(code::INODE_EXISTS));
    assert_eq!(session.open("/d/f/x", mode::CREATE, 0).map_err(drop), Err(()));
    assert_eq!(session.del("/d"), code::DIR_NOTEMPTY);
    assert_eq!(session.del("/d/none"), code::NAME_INVAL);
    assert_eq!(watcher.events_so_far(), []);
}

#[test]
fn a_closed_handle_is_told_nothing() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let (closed, fh) = (open(&mut session, "/f", RW, ALL), open(&mut session, "/f", RW, 0));
    assert_eq!(session.close(closed), code::OK);
    assert_eq!(session.put(fh, b"x"), code::OK);
    assert_eq!(session.events_so_far(), []);
}

#[test]
fn the_events_of_a_request_precede_its_reply() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let fh = open(&mut session, "/f", RW, ALL);
    let put = session.call(&Request::Put { fh, data: b"x".to_vec() });
    let (number, told, bits) = session.numbered_event();
    assert_eq!((number.wrapping_add(1), told, bits), (put.message.number, fh, UPDATED));
    let del = session.call(&Request::Del { path: b"/f".to_vec() });
    let (number, told, bits) = session.numbered_event();
    assert_eq!((number.wrapping_add(1), told, bits), (del.message.number, fh, DELETED));
}

#[test]
fn what_an_event_tells_of_can_be_read() {
    let cld = Servers::start();
    let (mut writer, mut reader) = (cld.connect("writer"), cld.connect("reader"));
    let fh = writer.create("/f");
    let watched = open(&mut reader, "/f", mode::READ, UPDATED);
    for version in 2..30 {
        writer.request(&Request::Put { fh, data: version.to_string().into_bytes() });
        assert_eq!(reader.event(), (watched, UPDATED));
        let node = reader.get(watched).unwrap_or_else(|code| panic!("GET: code {code}"));
        assert_eq!((node.version, node.data), (version, version.to_string().into_bytes()));
    }
}

#[test]
fn a_grant_is_told_whatever_the_mask() {
    let cld = Servers::start();
    let (mut holder, mut waiter) = (cld.connect("holder"), cld.connect("waiter"));
    let held = holder.create("/l");
    for mask in [0, LOCKED] {
        let wanted = open(&mut waiter, "/l", RW, mask);
        assert_eq!(holder.lock(held, lock::EXCLUSIVE), code::OK);
        assert_eq!(waiter.lock(wanted, lock::EXCLUSIVE), code::LOCK_PENDING);
        assert_eq!(holder.unlock(held), code::OK);
        assert_eq!(waiter.event(), (wanted, LOCKED), "mask {mask}");
        assert_eq!(waiter.close(wanted), code::OK);
    }
}

#[test]
fn an_unacknowledged_event_comes_again_and_an_acknowledged_one_does_not() {
    let cld = Servers::start();
    let (mut writer, mut reader) = (cld.connect("writer"), cld.connect("reader"));
    let fh = writer.create("/f");
    let watched = open(&mut reader, "/f", mode::READ, UPDATED);
    reader.acks = Acks::Never;
    reader.patience = Duration::from_secs(20);
    assert_eq!(writer.put(fh, b"x"), code::OK);
    let (number, told, bits) = reader.numbered_event();
    assert_eq!((told, bits), (watched, UPDATED));
    let deadline = Instant::now() + reader.patience;
    while reader.duplicates == 0 {
        assert!(Instant::now() < deadline, "no resend; {}", reader.what_came());
        let _ = reader.try_wait(Duration::from_millis(200), |_| None::<()>);
    }
    reader.ack(number);
    reader.acks = Acks::All;
    let before = reader.duplicates;
    // One that was on its way may still come; the next would be due 5 s after the first.
    let _ = reader.try_wait(Duration::from_secs(7), |_| None::<()>);
    assert!(reader.duplicates <= before + 1, "{}", reader.what_came());
    assert_eq!(reader.events_so_far(), [], "an event that comes again is not a new one");
}

#[test]
fn an_ack_is_good_for_the_events_before_it() {
    let cld = Servers::start();
    let (mut writer, mut reader) = (cld.connect("writer"), cld.connect("reader"));
    let fh = writer.create("/f");
    open(&mut reader, "/f", mode::READ, UPDATED);
    // As Hail's client, which never acknowledges an event.
    reader.acks = Acks::NotEvents;
    for _ in 0..3 {
        assert_eq!(writer.put(fh, b"x"), code::OK);
    }
    assert_eq!(reader.events_so_far().len(), 3);
    let _ = reader.try_wait(Duration::from_secs(7), |_| None::<()>);
    assert_eq!(reader.duplicates, 0, "the ACK of the NOP's reply covered them; {}", reader.what_came());
}

#[test]
fn events_to_a_client_that_never_acknowledges_them_end() {
    let cld = Servers::start();
    let (mut writer, mut reader) = (cld.connect("writer"), cld.connect("reader"));
    let fh = writer.create("/f");
    open(&mut reader, "/f", mode::READ, UPDATED);
    reader.acks = Acks::NotEvents;
    assert_eq!(writer.put(fh, b"x"), code::OK);
    // The client sends nothing of its own: the server asks by a PING, whose ACK covers the event.
    reader.patience = Duration::from_secs(20);
    reader.ping();
    let before = reader.duplicates;
    let _ = reader.try_wait(Duration::from_secs(7), |_| None::<()>);
    assert!(reader.duplicates <= before + 1, "{}", reader.what_came());
    let events =
        reader.inbox().iter().filter(|message| matches!(message.answer, Answer::Event { .. })).count();
    assert_eq!(events, 1);
}
