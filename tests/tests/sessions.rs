//! Sessions: their beginning, their end, and who may use them (protocol.md 4-6; failures.md 5, 10, 13, 20, 25, 31).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use cld_tests::raw::codes::{code, event, lock, mode, op};
use cld_tests::raw::{Acks, Answer, Head, Packet, RawSession, Request};
use cld_tests::server::{Cld, Options};

/// How often an unanswered request is sent again.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the server answers to a NOP of `session` that must be refused outside the numbered stream.
#[track_caller]
fn refusal(session: &mut RawSession) -> i32 {
    let number = session.next;
    let reply = session.call(&Request::Nop);
    let got = (reply.message.numbered, reply.message.number, reply.message.op);
    assert_eq!(got, (false, number, op::NOP), "not in the stream, with the number of what it answers");
    assert!(session.strange.is_empty(), "{:?}", session.strange);
    reply.code
}

#[test]
fn a_duplicate_new_sess_makes_one_session() {
    let cld = Cld::start();
    let mut session = RawSession::new(cld.address(), "tester");
    let (xid, datagrams) = session.prepare(&Request::NewSess);
    for _ in 0..3 {
        session.send_all(&datagrams);
    }
    assert_eq!(session.reply(xid).code, code::OK);
    let fh = session.create("/f");
    session.send_all(&datagrams);
    assert_eq!(session.put(fh, b"x"), code::OK, "the handle stands");
    session.settle();
    assert!(session.inbox().is_empty() && session.strange.is_empty(), "{}", session.what_came());
}

#[test]
fn a_lost_reply_to_new_sess_comes_again() {
    let cld = Cld::start();
    let mut session = RawSession::new(cld.address(), "tester");
    session.acks = Acks::Never;
    let xid = session.request(&Request::NewSess);
    let first = session.reply(xid);
    // Not acknowledged, it comes again by itself.
    assert_eq!(session.reply(xid), first);
    session.acks = Acks::All;
    session.ack(first.message.number);
    session.settle();
}

#[test]
fn a_session_id_that_is_taken_is_refused_and_the_session_goes_on() {
    let cld = Cld::start();
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    let number = session.next;
    let reply = session.call(&Request::NewSess);
    assert_eq!(
        (reply.code, reply.message.numbered, reply.message.number),
        (code::SESS_EXISTS, false, number)
    );
    // It was refused, so its number is still free.
    session.next = number;
    assert_eq!(session.put(fh, b"x"), code::OK);
}

#[test]
fn the_session_of_an_unknown_id_is_refused_readably() {
    let cld = Cld::start();
    let mut session = RawSession::new(cld.address(), "tester");
    assert_eq!(refusal(&mut session), code::SESS_INVAL);
}

#[test]
fn an_ack_is_never_answered() {
    let cld = Cld::start();
    let stranger = RawSession::new(cld.address(), "tester");
    let mut session = cld.connect("tester");
    let known = session.sid;
    session.sid = stranger.sid;
    session.ack(1);
    session.sid = known;
    session.ack(session.expected().unwrap().wrapping_add(5));
    session.settle();
    assert!(session.inbox().is_empty() && session.strange.is_empty(), "{}", session.what_came());
}

#[test]
fn another_address_cannot_use_a_session() {
    let cld = Cld::start();
    let mut owner = cld.connect("tester");
    let fh = owner.create("/f");
    let mut other = owner.at_another_address();
    assert_eq!(refusal(&mut other), code::SESS_INVAL);
    assert_eq!(other.put(fh, b"stolen"), code::SESS_INVAL);
    assert_eq!(owner.get(fh).unwrap().data, b"", "and the owner's next number is still free");
}

#[test]
fn another_user_cannot_use_a_session() {
    let cld = Cld::start();
    let mut owner = cld.connect("tester");
    let fh = owner.create("/f");
    // From the owner's own address, properly signed by the other user.
    let (user, key) = (owner.user.clone(), owner.key.clone());
    (owner.user, owner.key) = (b"mallory".to_vec(), b"mallory".to_vec());
    let number = owner.next;
    assert_eq!(owner.put(fh, b"stolen"), code::SESS_INVAL);
    (owner.user, owner.key, owner.next) = (user, key, number);
    assert_eq!(owner.get(fh).unwrap().data, b"");
}

#[test]
fn a_bad_hmac_gets_no_answer_and_uses_up_no_number() {
    let cld = Cld::start();
    let mut session = cld.connect("tester");
    let head = Some(Head { xid: 77, op: op::NOP });
    let packet = Packet {
        sid: session.sid,
        user: session.user.clone(),
        head,
        last: true,
        body: Vec::new(),
        number: session.next,
    };
    let good = packet.encode(&session.key);
    for at in 8..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        session.send(&bad);
    }
    session.send(&packet.encode(b"another key"));
    session.send(&packet.encode(b""));
    session.send(&packet.encode_shifted(&session.key, [0; 8]));
    session.settle();
    assert!(session.inbox().is_empty() && session.strange.is_empty(), "{}", session.what_came());
}

#[test]
fn names_that_no_user_has_get_no_answer() {
    let cld = Cld::start();
    let mut session = cld.connect("tester");
    let head = Some(Head { xid: 77, op: op::NEW_SESS });
    for user in [&b""[..], &[b'u'; 32]] {
        let packet = Packet {
            sid: session.sid ^ 1,
            user: user.to_vec(),
            head,
            last: true,
            body: Vec::new(),
            number: 1,
        };
        session.send(&packet.encode(user));
        session.settle();
        assert!(session.inbox().is_empty() && session.strange.is_empty(), "{}", session.what_came());
    }
    let longest = "u".repeat(31);
    cld.connect(&longest).settle();
}

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
fn requests_are_held_until_the_first_reply_is_acknowledged() {
    let cld = Cld::start();
    let mut witness = cld.connect("witness");
    let mut session = RawSession::new(cld.address(), "tester");
    session.acks = Acks::Never;
    let new = session.request(&Request::NewSess);
    let number = session.reply(new).message.number;
    let create = Request::Open { mode: mode::CREATE, events: 0, path: b"/held".to_vec() };
    let (xid, datagrams) = session.prepare(&create);
    session.send_all(&datagrams);
    assert_eq!(witness.open("/held", 0, 0), Err(code::NAME_INVAL));
    session.ack(number);
    session.acks = Acks::All;
    // It was held, or dropped and is sent again: both are allowed.
    let reply = session.try_reply(xid, INTERVAL).unwrap_or_else(|| {
        session.send_all(&datagrams);
        session.reply(xid)
    });
    assert_eq!(reply.code, code::OK);
    assert!(witness.open("/held", 0, 0).is_ok());
}

#[test]
fn end_sess_releases_locks_and_handles_at_once() {
    let cld = Cld::start();
    let (mut holder, mut waiter) = (cld.connect("holder"), cld.connect("waiter"));
    let (held, wanted) = (holder.create("/l"), waiter.create("/l"));
    assert_eq!(holder.lock(held, lock::EXCLUSIVE), code::OK);
    assert_eq!(waiter.lock(wanted, lock::EXCLUSIVE), code::LOCK_PENDING);
    let began = Instant::now();
    assert_eq!(holder.call(&Request::EndSess).code, code::OK);
    assert_eq!(waiter.event(), (wanted, event::LOCKED));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(refusal(&mut holder), code::SESS_INVAL);
}

#[test]
fn the_id_of_an_ended_session_may_be_used_again() {
    let cld = Cld::start();
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    assert_eq!(session.call(&Request::EndSess).code, code::OK);
    let mut again = RawSession::new(cld.address(), "tester");
    again.sid = session.sid;
    assert_eq!(again.call(&Request::NewSess).code, code::OK);
    assert_eq!(again.get(fh), Err(code::FH_INVAL), "handles do not pass over");
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
    assert_eq!(refusal(&mut silent), code::SESS_INVAL);
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
fn many_sessions_live_side_by_side() {
    let cld = Cld::start();
    let mut sessions: Vec<RawSession> = (0..100).map(|i| cld.connect(&format!("user{i}"))).collect();
    let handles: Vec<u64> =
        sessions.iter_mut().enumerate().map(|(i, session)| session.create(&format!("/f{i}"))).collect();
    for (i, (session, fh)) in sessions.iter_mut().zip(&handles).enumerate() {
        assert_eq!(session.put(*fh, format!("{i}").as_bytes()), code::OK);
    }
    for (i, (session, fh)) in sessions.iter_mut().zip(&handles).enumerate() {
        assert_eq!(session.get(*fh).unwrap().data, format!("{i}").as_bytes());
    }
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
