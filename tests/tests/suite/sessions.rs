//! Sessions: their beginning, their end, and who may use them (protocol.md 4-6; failures.md 5, 10, 13, 20, 31).

use std::time::{Duration, Instant};

use cld_tests::raw::codes::{code, event, lock, mode, op};
use cld_tests::raw::{Acks, Head, Packet, RawSession, Request};

use crate::servers::Servers;

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
    let cld = Servers::start();
    let mut session = RawSession::new(cld.any(), "tester");
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
    let cld = Servers::start();
    let mut session = RawSession::new(cld.any(), "tester");
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
    let cld = Servers::start();
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
    let cld = Servers::start();
    let mut session = RawSession::new(cld.any(), "tester");
    assert_eq!(refusal(&mut session), code::SESS_INVAL);
}

#[test]
fn an_ack_is_never_answered() {
    let cld = Servers::start();
    let stranger = RawSession::new(cld.any(), "tester");
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
    let cld = Servers::start();
    let mut owner = cld.connect("tester");
    let fh = owner.create("/f");
    let mut other = owner.at_another_address();
    assert_eq!(refusal(&mut other), code::SESS_INVAL);
    assert_eq!(other.put(fh, b"stolen"), code::SESS_INVAL);
    assert_eq!(owner.get(fh).unwrap().data, b"", "and the owner's next number is still free");
}

#[test]
fn another_user_cannot_use_a_session() {
    let cld = Servers::start();
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
    let cld = Servers::start();
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
    let cld = Servers::start();
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
fn requests_are_held_until_the_first_reply_is_acknowledged() {
    let cld = Servers::start();
    let mut witness = cld.connect("witness");
    let mut session = RawSession::new(cld.any(), "tester");
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
    let cld = Servers::start();
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
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    assert_eq!(session.call(&Request::EndSess).code, code::OK);
    let mut again = RawSession::new(cld.any(), "tester");
    again.sid = session.sid;
    assert_eq!(again.call(&Request::NewSess).code, code::OK);
    assert_eq!(again.get(fh), Err(code::FH_INVAL), "handles do not pass over");
}

#[test]
fn many_sessions_live_side_by_side() {
    let cld = Servers::start();
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
