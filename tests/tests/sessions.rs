//! Sessions: users of a key file, the session time-out, and restarts (protocol.md 4-6; failures.md 12, 25).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use cld_tests::raw::codes::{code, event, lock, mode};
use cld_tests::raw::{Acks, Answer, RawSession, Request};
use cld_tests::server::{Cld, Options};

/// How often an unanswered request is sent again.
const INTERVAL: Duration = Duration::from_secs(1);

#[test]
fn users_of_the_key_file_are_known_and_others_get_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let write = |text: &str| {
        fs::write(&keys, text).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("alice:the first secret\n");
    let mut cld = Options::new().keys(&keys).start();
    let session = |user: &str, key: &str| {
        let mut session = RawSession::new(cld.address(), user);
        session.key = key.as_bytes().to_vec();
        session
    };
    let mut alice = session("alice", "the first secret");
    assert_eq!(alice.call(&Request::NewSess).code, code::OK);
    // Their packets come before alice's next, which is answered: so they would have been.
    let mut strangers =
        [session("alice", "alice"), session("bob", "bob"), session("bob", "the second secret")];
    for stranger in &mut strangers {
        stranger.request(&Request::NewSess);
        alice.settle();
        assert_eq!(stranger.try_wait(Duration::ZERO, |inbox| inbox.pop_front()), None);
        assert!(stranger.strange.is_empty(), "{}", stranger.what_came());
    }
    write("alice:the first secret\nbob:the second secret\n");
    let mut bob = session("bob", "the second secret");
    cld.sighup();
    assert_eq!(bob.call_until_answered(&Request::NewSess, INTERVAL).code, code::OK);
    alice.settle();
}

#[test]
fn a_silent_session_expires_and_not_before_its_time() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let cld = Options::new().args(["--session-timeout", "4"]).start();
    let (mut silent, mut waiter) = (cld.connect("silent"), cld.connect("waiter"));
    let (held, wanted) = (silent.create("/l"), waiter.create("/l"));
    assert_eq!(waiter.lock(wanted, lock::SHARED), code::OK);
    assert_eq!(waiter.unlock(wanted), code::OK);
    let last_word = Instant::now();
    assert_eq!(silent.lock(held, lock::EXCLUSIVE), code::OK);
    assert_eq!(waiter.lock(wanted, lock::EXCLUSIVE), code::LOCK_PENDING);
    waiter.patience = TIMEOUT * 5;
    assert_eq!(waiter.event(), (wanted, event::LOCKED));
    let silence = last_word.elapsed();
    assert!(silence >= TIMEOUT, "expired after {silence:?}");
    assert!(silence < TIMEOUT * 3, "expired only after {silence:?}");
    assert_eq!(silent.call(&Request::Nop).code, code::SESS_INVAL);
    waiter.settle();
}

#[test]
fn answered_pings_keep_a_session_alive() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let cld = Options::new().args(["--session-timeout", "4"]).start();
    let mut session = cld.connect("tester");
    session.patience = TIMEOUT;
    let fh = session.create("/f");
    let began = Instant::now();
    while began.elapsed() < TIMEOUT * 3 {
        session.ping();
    }
    assert!(session.get(fh).is_ok(), "its handle stands");
}

#[test]
fn an_unanswered_ping_is_sent_again_unchanged() {
    let cld = Options::new().args(["--session-timeout", "20"]).start();
    let mut session = cld.connect("tester");
    session.acks = Acks::Never;
    session.patience = Duration::from_secs(30);
    session.ping();
    // A further packet with the same number and other bytes would be strange, or a PING of its own.
    let deadline = Instant::now() + session.patience;
    while session.duplicates < 2 {
        assert!(Instant::now() < deadline, "{}", session.what_came());
        let _ = session.try_wait(Duration::from_millis(200), |_| None::<()>);
    }
    assert!(session.inbox().is_empty() && session.strange.is_empty(), "{}", session.what_came());
}

#[test]
fn sessions_with_handles_and_locks_survive_kill_9() {
    let mut cld = Cld::start();
    let (mut holder, mut waiter) = (cld.connect("holder"), cld.connect("waiter"));
    let (held, wanted) = (holder.create("/l"), waiter.create("/l"));
    assert_eq!(holder.put(held, b"kept"), code::OK);
    assert_eq!(holder.lock(held, lock::EXCLUSIVE), code::OK);
    assert_eq!(waiter.lock(wanted, lock::EXCLUSIVE), code::LOCK_PENDING);
    cld.kill9();
    cld.restart();
    holder.patience = Duration::from_secs(30);
    waiter.patience = holder.patience;
    let read = holder.call_until_answered(&Request::Get { fh: held }, INTERVAL);
    let Answer::Contents { node, .. } = read.message.answer else { panic!("code {}", read.code) };
    assert_eq!((node.version, &node.data[..]), (2, &b"kept"[..]));
    let mut third = cld.connect("third");
    let other = third.create("/l");
    assert_eq!(third.try_lock(other, lock::EXCLUSIVE), code::LOCK_CONFLICT);
    assert_eq!(waiter.call_until_answered(&Request::Nop, INTERVAL).code, code::OK);
    let unlock = holder.call_until_answered(&Request::Unlock { fh: held }, INTERVAL);
    assert_eq!(unlock.code, code::OK);
    assert_eq!(waiter.event(), (wanted, event::LOCKED), "the queue survived too");
    assert_eq!(third.try_lock(other, lock::EXCLUSIVE), code::LOCK_CONFLICT);
}

#[test]
fn a_request_whose_reply_was_lost_in_a_crash_is_executed_once() {
    let mut cld = Cld::start();
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    session.acks = Acks::Never;
    let (xid, datagrams) = session.prepare(&Request::Put { fh, data: b"once".to_vec() });
    session.send_all(&datagrams);
    assert_eq!(session.reply(xid).code, code::OK);
    // The client has not seen it, as it were: after the crash it sends the same packets again.
    cld.kill9();
    cld.restart();
    session.acks = Acks::All;
    session.patience = Duration::from_secs(30);
    let deadline = Instant::now() + session.patience;
    let reply = loop {
        assert!(Instant::now() < deadline, "{}", session.what_came());
        session.send_all(&datagrams);
        if let Some(reply) = session.try_reply(xid, INTERVAL) {
            break reply;
        }
    };
    assert_eq!(reply.code, code::OK);
    assert_eq!(session.get(fh).unwrap().version, 2);
}

#[test]
fn sigterm_ends_cleanly_and_loses_nothing() {
    let mut cld = Cld::start();
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    assert_eq!(session.put(fh, b"kept"), code::OK);
    assert_eq!(cld.sigterm().code(), Some(0));
    cld.restart();
    let mut other = cld.connect("other");
    let fh = other.open("/f", mode::READ, 0).unwrap();
    assert_eq!(other.get(fh).unwrap().data, b"kept");
}
