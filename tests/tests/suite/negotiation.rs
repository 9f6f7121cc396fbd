//! What is asked for in NEW_SESS, and what is granted (docs/protocol.md 7.1).

use cld_tests::observe::Figures;
use cld_tests::raw::codes::{code, event, lock, mode, op};
use cld_tests::raw::extended::{Extended, HELLO, Hello, Welcome};
use cld_tests::raw::{Head, RawSession};

use crate::servers::{Servers, connect};

fn welcome(cld: &Servers, hello: Hello) -> Welcome {
    Extended::connect_with(cld.master(), "tester", hello).1
}

#[test]
fn a_hello_is_answered_by_a_welcome() {
    let mut cld = Servers::start();
    let welcome = welcome(&cld, HELLO);
    assert_eq!((welcome.version, welcome.features, welcome.lease), (1, 1, 30_000));
    assert_eq!(welcome.epoch, Figures::of(cld.master_process()).get("epoch"));
    assert!(welcome.epoch > 0 && welcome.grace > 0, "{welcome:?}");
    assert_eq!(welcome.requests, 64);
    assert!(welcome.window >= 64 && welcome.max_message >= 131_072 + 512, "{welcome:?}");
}

#[test]
fn the_lease_is_what_was_proposed_within_bounds() {
    let cld = Servers::start();
    let proposals = [
        (0, 30_000),
        (1, 2_000),
        (1_000, 2_000),
        (2_000, 2_000),
        (45_000, 45_000),
        (3_600_000, 600_000),
        (u32::MAX, 600_000),
    ];
    for (lease, granted) in proposals {
        assert_eq!(welcome(&cld, Hello { lease, ..HELLO }).lease, granted, "{lease} ms proposed");
    }
}

#[test]
fn newer_versions_and_unknown_features_are_not_granted() {
    let cld = Servers::start();
    let newer = welcome(&cld, Hello { version: 2, features: u32::MAX, ..HELLO });
    assert_eq!((newer.version, newer.features), (1, 1));
    assert_eq!(welcome(&cld, Hello { features: 0, ..HELLO }).features, 0);
    assert_eq!(welcome(&cld, Hello { features: 0xffff_fffe, ..HELLO }).features, 0);
}

#[test]
fn bytes_behind_the_hello_are_ignored() {
    let cld = Servers::start();
    let mut client = Extended::new(cld.master(), "tester");
    let mut body = HELLO.encode();
    body.extend([0xff; 700]);
    let head = Head { xid: client.next_xid, op: op::NEW_SESS };
    let greeting = client.encode(client.next, Some(head), true, &body, None);
    (client.next, client.next_xid) = (client.next.wrapping_add(1), head.xid + 1);
    client.send(&greeting);
    assert_eq!(client.reply(head.xid).welcome().lease, 30_000);
    client.create("/f");
}

#[test]
fn the_answer_to_an_unproved_client_is_no_longer_than_its_greeting() {
    let cld = Servers::start();
    for user in ["u", "tester", "a user of thirty-one characters"] {
        let mut client = Extended::new(cld.master(), user);
        client.acks = false;
        client.greet();
        assert_eq!((client.sent.packets, client.sent.bytes), (1, 256));
        assert!(client.received.bytes <= 256, "{user}: {:?}", client.received);
    }
}

#[test]
fn a_greeting_that_is_not_filled_up_gets_no_answer_that_is_longer() {
    let cld = Servers::start();
    let mut client = Extended::new(cld.master(), "tester");
    client.acks = false;
    let head = Head { xid: client.next_xid, op: op::NEW_SESS };
    let greeting = client.encode(client.next, Some(head), true, &HELLO.encode(), None);
    client.send(&greeting);
    connect(&cld, "witness").create("/f");
    client.listen(std::time::Duration::from_millis(100));
    assert!(client.received.bytes <= client.sent.bytes, "{:?} for {:?}", client.received, client.sent);
}

#[test]
fn without_a_hello_the_answer_is_a_bare_result() {
    let cld = Servers::start();
    // The plain client takes no bytes behind a message, and no riders.
    for body in [&[][..], &[0; 24], &[0xff; 180], b"CLDY\0\0\0\x01", b"CLD"] {
        let mut plain = RawSession::new(cld.master(), "plain");
        let xid = plain.request_raw(op::NEW_SESS, body);
        assert_eq!(plain.reply(xid).code, code::OK, "{body:?}");
        let fh = plain.create("/f");
        assert_eq!(plain.lock(fh, lock::SHARED), code::OK);
        assert!(plain.strange.is_empty(), "{:?}", plain.strange);
    }
}

#[test]
fn plain_and_extended_sessions_are_served_side_by_side() {
    let cld = Servers::start();
    let (mut plain, mut extended) = (cld.connect("plain"), connect(&cld, "extended"));
    let (theirs, ours) = (plain.create("/f"), extended.create("/f"));
    let watched = plain.open("/f", mode::READ, event::UPDATED).unwrap();
    assert_eq!(plain.lock(theirs, lock::EXCLUSIVE), code::OK);
    assert_eq!(extended.lock(ours, lock::EXCLUSIVE), Err(code::LOCK_PENDING));
    assert_eq!(extended.put(ours, b"of the extended"), code::OK);
    assert_eq!(plain.event(), (watched, event::UPDATED));
    assert_eq!(plain.get(theirs).unwrap().data, b"of the extended");
    assert_eq!(plain.put(theirs, b"of the plain"), code::OK);
    assert_eq!(plain.unlock(theirs), code::OK);
    let told: Vec<u32> = (0..3).map(|_| extended.event().events).collect();
    assert_eq!(told, [event::UPDATED, event::UPDATED, event::LOCKED]);
    assert_eq!(extended.get(ours).data, b"of the plain");
    assert_eq!(plain.lock(theirs, lock::EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(extended.unlock(ours), code::OK);
    assert_eq!(plain.event(), (watched, event::UPDATED));
    assert_eq!(plain.event(), (theirs, event::LOCKED));
    assert!(plain.strange.is_empty() && extended.strange.is_empty());
}

#[test]
fn an_unknown_operation_is_told_from_a_malformed_one() {
    let cld = Servers::start();
    let mut client = connect(&cld, "tester");
    assert_eq!(client.call_raw(99, b"").code, code::UNSUPPORTED);
    assert_eq!(client.call_raw(op::OPEN, b"").code, code::BAD_PKT);
    client.create("/f");
}
