//! Limits: at each one a clear code for the client, a line in the log, a count, and no harm to others
//! (protocol.md 15.1.11; failures.md 30).

use std::time::{Duration, Instant};

use cld_tests::observe::Figures;
use cld_tests::raw::codes::{code, mode, op};
use cld_tests::raw::{Acks, RawSession, Request};
use cld_tests::server::{Cld, Options};

/// How often an unanswered request is sent again.
const INTERVAL: Duration = Duration::from_millis(500);

fn server(arguments: &[&str]) -> Cld {
    Options::new().args(arguments.iter().copied()).start()
}

/// The limit was reached so often, and the log says so.
#[track_caller]
fn assert_told(cld: &mut Cld, limit: &str, times: u64) {
    assert_eq!(Figures::of(cld).limit(limit), times, "{}", cld.tail());
    let said = format!("limit=\"{limit}\"");
    let log = cld.log();
    assert!(log.lines().any(|line| line.contains("a limit is reached") && line.contains(&said)), "{log}");
}

#[track_caller]
fn assert_told_at_least_once(cld: &mut Cld, limit: &str) {
    let times = Figures::of(cld).limit(limit);
    assert!(times > 0, "{}", cld.tail());
    assert_told(cld, limit, times);
}

/// NEW_SESS is refused, outside the stream, with LIMIT.
#[track_caller]
fn assert_no_session(cld: &Cld, user: &str) -> RawSession {
    let mut session = RawSession::new(cld.address(), user);
    let number = session.next;
    let reply = session.call(&Request::NewSess);
    let got = (reply.code, reply.message.op, reply.message.numbered, reply.message.number);
    assert_eq!(got, (code::LIMIT, op::NEW_SESS, false, number));
    session.next = number;
    session
}

#[test]
fn a_session_too_many_is_refused_until_another_ends() {
    let mut cld = server(&["--max-sessions", "2"]);
    let (mut one, mut two) = (cld.connect("one"), cld.connect("two"));
    let mut three = assert_no_session(&cld, "three");
    assert_told(&mut cld, "sessions", 1);
    assert_eq!(one.call(&Request::EndSess).code, code::OK);
    assert_eq!(three.call(&Request::NewSess).code, code::OK);
    three.create("/f");
    two.settle();
}

#[test]
fn a_user_with_too_many_sessions_leaves_the_others_theirs() {
    let mut cld = server(&["--max-sessions-per-user", "2"]);
    let (mut one, mut two) = (cld.connect("greedy"), cld.connect("greedy"));
    assert_no_session(&cld, "greedy");
    assert_told(&mut cld, "sessions_per_user", 1);
    cld.connect("modest").settle();
    one.settle();
    two.settle();
}

#[test]
fn a_handle_too_many_is_refused_until_another_is_closed() {
    let mut cld = server(&["--max-handles-per-session", "2"]);
    let (mut session, mut other) = (cld.connect("tester"), cld.connect("tester"));
    let (one, _two) = (session.create("/f"), session.create("/f"));
    assert_eq!(session.open("/f", mode::READ, 0), Err(code::LIMIT));
    assert_eq!(session.open("/new", mode::CREATE, 0), Err(code::LIMIT));
    assert_eq!(other.open("/new", 0, 0), Err(code::NAME_INVAL), "what is refused is not created");
    assert_told(&mut cld, "handles_per_session", 2);
    assert_eq!(session.close(one), code::OK);
    assert!(session.open("/f", mode::READ, 0).is_ok());
    other.create("/f");
}

#[test]
fn a_user_with_too_many_handles_leaves_the_others_theirs() {
    let mut cld = server(&["--max-handles-per-user", "2"]);
    let (mut one, mut two) = (cld.connect("greedy"), cld.connect("greedy"));
    one.create("/f");
    two.create("/f");
    for session in [&mut one, &mut two] {
        assert_eq!(session.open("/f", mode::READ, 0), Err(code::LIMIT));
    }
    assert_told(&mut cld, "handles_per_user", 2);
    cld.connect("modest").create("/f");
    assert_eq!(two.call(&Request::EndSess).code, code::OK);
    one.create("/f");
}

#[test]
fn data_beyond_the_limit_is_refused_and_changes_nothing() {
    let mut cld = server(&["--max-total-data", "5000"]);
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    assert_eq!(session.put(fh, &[1; 4000]), code::OK);
    assert_eq!(session.put(fh, &[2; 5000]), code::LIMIT);
    let node = session.get(fh).unwrap();
    assert_eq!((node.version, node.data == [1; 4000]), (2, true));
    // A file costs something even if it is empty.
    let refused = (0..100).find_map(|i| session.open(&format!("/{i}"), mode::CREATE, 0).err());
    assert_eq!(refused, Some(code::LIMIT));
    assert_told(&mut cld, "total_data", 2);
    assert_eq!(session.put(fh, b""), code::OK);
    session.create("/g");
}

#[test]
fn contents_and_paths_have_limits_of_their_own() {
    let mut cld = server(&["--max-payload", "100", "--max-path-length", "8"]);
    let mut session = cld.connect("tester");
    let fh = session.create("/1234567");
    assert_eq!(session.put(fh, &[1; 100]), code::OK);
    assert_eq!(session.put(fh, &[2; 101]), code::TOO_LARGE);
    assert_eq!(session.get(fh).unwrap().data, [1; 100]);
    assert_eq!(session.open("/12345678", mode::CREATE, 0), Err(code::NAME_INVAL));
    assert_told(&mut cld, "payload", 1);
    assert_told(&mut cld, "path_length", 1);
}

#[test]
fn a_client_that_acknowledges_nothing_fills_its_own_queue_alone_and_goes_on_later() {
    const REQUESTS: usize = 300;
    let mut cld = Cld::start();
    let (mut greedy, mut other) = (cld.connect("greedy"), cld.connect("other"));
    let fh = greedy.create("/f");
    greedy.acks = Acks::Never;
    let mut unanswered: Vec<(u64, Vec<Vec<u8>>)> =
        (0..REQUESTS).map(|_| greedy.prepare(&Request::Put { fh, data: b"x".to_vec() })).collect();
    for (_, datagrams) in &unanswered {
        greedy.send_all(datagrams);
    }
    other.settle();
    other.create("/g");
    let figures = Figures::of(&mut cld);
    assert!(figures.limit("messages_per_session") > 0, "{}", cld.tail());
    assert!(cld.log().contains("limit=\"messages_per_session\" user=greedy"), "{}", cld.tail());
    greedy.acks = Acks::All;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !unanswered.is_empty() {
        assert!(Instant::now() < deadline, "{} unanswered; {}", unanswered.len(), greedy.what_came());
        for (_, datagrams) in &unanswered {
            greedy.send_all(datagrams);
        }
        let turn = Instant::now() + INTERVAL;
        while Instant::now() < turn && !unanswered.is_empty() {
            unanswered.retain(|(xid, _)| greedy.try_reply(*xid, Duration::from_micros(100)).is_none());
        }
    }
    assert_eq!(greedy.get(fh).unwrap().version, 1 + REQUESTS as u64, "each was executed once");
}

#[test]
fn long_replies_that_nobody_acknowledges_are_queued_up_to_a_limit() {
    let mut cld = Cld::start();
    let (mut greedy, mut other) = (cld.connect("greedy"), cld.connect("other"));
    let fh = greedy.create("/f");
    let put = Request::Put { fh, data: vec![1; 131_072] };
    assert_eq!(greedy.call_until_answered(&put, Duration::from_secs(1)).code, code::OK);
    greedy.acks = Acks::Never;
    for _ in 0..40 {
        greedy.request(&Request::Get { fh });
    }
    other.settle();
    assert_told_at_least_once(&mut cld, "packets_per_session");
}

#[test]
fn a_user_whose_queues_are_full_leaves_the_others_theirs() {
    let mut cld = server(&["--max-packets-per-user", "20"]);
    let (mut one, mut two, mut other) = (cld.connect("greedy"), cld.connect("greedy"), cld.connect("other"));
    for session in [&mut one, &mut two] {
        session.acks = Acks::Never;
        for _ in 0..30 {
            session.request(&Request::Nop);
        }
    }
    other.settle();
    assert_told_at_least_once(&mut cld, "packets_per_user");
    other.create("/f");
}

#[test]
fn sessions_whose_client_acknowledges_nothing_are_few_and_end_with_their_lease() {
    const TRIES: usize = 80;
    let mut cld = Options::new().args(["--session-timeout", "5"]).start();
    let mut greedy: Vec<RawSession> = (0..TRIES)
        .map(|_| {
            let mut session = RawSession::new(cld.address(), "greedy");
            session.acks = Acks::Never;
            session.request(&Request::NewSess);
            session
        })
        .collect();
    let mut other = cld.connect("other");
    assert_told_at_least_once(&mut cld, "unproved_per_user");
    assert!(Figures::of(&mut cld).get("sessions") < TRIES as u64);
    let answered =
        greedy.iter_mut().filter_map(|session| session.try_wait(INTERVAL, |inbox| inbox.pop_front()));
    assert_eq!(answered.take(1).count(), 1);
    let deadline = Instant::now() + Duration::from_secs(40);
    while Figures::of(&mut cld).get("sessions") > 1 {
        assert!(Instant::now() < deadline, "{}", cld.tail());
        let _ = other.try_wait(INTERVAL, |_| None::<()>);
    }
    cld.connect("greedy").settle();
    other.settle();
}
