//! Packets that somebody recorded and sends again: they execute nothing (failures.md 13, 16).
#![expect(clippy::panic, reason = "a helper that fails is a failed test")]

use std::time::Duration;

use cld_tests::raw::codes::{code, lock, mode};
use cld_tests::raw::{Acks, Answer, RawSession, Reply, Request};
use cld_tests::server::Cld;

/// How often an unanswered request is sent again.
const INTERVAL: Duration = Duration::from_secs(1);

/// A client, and all that it has sent, its acknowledgements included.
struct Recorded {
    session: RawSession,
    recording: Vec<Vec<u8>>,
}

impl Recorded {
    fn connect(cld: &Cld) -> Self {
        let mut recorded = Self { session: RawSession::new(cld.address(), "tester"), recording: Vec::new() };
        recorded.call(&Request::NewSess);
        recorded
    }

    #[track_caller]
    fn call(&mut self, request: &Request) -> Reply {
        let (xid, datagrams) = self.session.prepare(request);
        self.session.send_all(&datagrams);
        self.recording.extend(datagrams);
        let reply = self.session.reply(xid);
        assert!(matches!(reply.code, code::OK), "{request:?}: code {}", reply.code);
        self.recording.push(self.session.ack_packet(reply.message.number));
        reply
    }

    #[track_caller]
    fn create(&mut self, path: &str) -> u64 {
        let mode = mode::CREATE | mode::WRITE | mode::LOCK;
        match self.call(&Request::Open { mode, events: 0, path: path.into() }).message.answer {
            Answer::Opened { fh, .. } => fh,
            other => panic!("{other:?} answers OPEN"),
        }
    }

    /// All of it again, from the client's own address and from another.
    fn replay(&self) {
        self.session.send_all(&self.recording);
        self.session.at_another_address().send_all(&self.recording);
    }
}

/// The version and the contents of a file.
#[track_caller]
fn read(witness: &mut RawSession, path: &str) -> (u64, Vec<u8>) {
    let fh = witness.open(path, mode::READ, 0).unwrap_or_else(|code| panic!("OPEN {path}: code {code}"));
    let node = witness.get(fh).unwrap_or_else(|code| panic!("GET {path}: code {code}"));
    (node.version, node.data)
}

#[test]
fn a_recorded_conversation_executes_nothing_again() {
    let cld = Cld::start();
    let mut client = Recorded::connect(&cld);
    let fh = client.create("/f");
    client.call(&Request::Put { fh, data: b"old".to_vec() });
    // While the session lives.
    client.replay();
    client.session.settle();
    let mut witness = cld.connect("witness");
    assert_eq!(read(&mut witness, "/f"), (2, b"old".to_vec()));
    // After its end.
    client.call(&Request::EndSess);
    let seen = witness.create("/f");
    assert_eq!(witness.put(seen, b"new"), code::OK);
    client.replay();
    witness.settle();
    assert_eq!(read(&mut witness, "/f"), (3, b"new".to_vec()));
}

#[test]
fn a_recorded_conversation_executes_nothing_on_a_server_that_was_started_again() {
    let mut cld = Cld::start();
    let (mut living, mut ended) = (Recorded::connect(&cld), Recorded::connect(&cld));
    let fh = living.create("/f");
    living.call(&Request::Put { fh, data: b"old".to_vec() });
    living.call(&Request::Lock { fh, flags: lock::EXCLUSIVE });
    living.call(&Request::Unlock { fh });
    let gone = ended.create("/g");
    ended.call(&Request::Put { fh: gone, data: b"old".to_vec() });
    ended.call(&Request::Del { path: b"/g".to_vec() });
    ended.call(&Request::EndSess);
    let mut witness = cld.connect("witness");
    let (f, g) = (witness.create("/f"), witness.create("/g"));
    assert_eq!((witness.put(f, b"new"), witness.put(g, b"new")), (code::OK, code::OK));
    cld.kill9();
    cld.restart();
    // Nobody answers what the server says to it: whoever sends a recording does not know the new numbers.
    living.session.acks = Acks::Never;
    let mut witness = cld.connect("witness");
    for _ in 0..4 {
        living.replay();
        ended.replay();
        let _ = witness.try_wait(INTERVAL, |_| None::<()>);
        witness.settle();
    }
    let (f, g) = (read(&mut witness, "/f"), read(&mut witness, "/g"));
    assert_eq!((f, g), ((3, b"new".to_vec()), (2, b"new".to_vec())));
    let lockable = witness.create("/f");
    assert_eq!(witness.try_lock(lockable, lock::EXCLUSIVE), code::OK);
    // The client itself goes on as if nothing had been.
    living.session.acks = Acks::All;
    living.session.patience = Duration::from_secs(30);
    let put = Request::Put { fh, data: b"own".to_vec() };
    assert_eq!(living.session.call_until_answered(&put, INTERVAL).code, code::OK);
    assert_eq!(read(&mut witness, "/f"), (4, b"own".to_vec()));
}

#[test]
fn a_request_that_was_caught_on_its_way_is_executed_for_nobody_but_its_client() {
    let mut cld = Cld::start();
    let mut client = Recorded::connect(&cld);
    let fh = client.create("/f");
    let (xid, caught) = client.session.prepare(&Request::Put { fh, data: b"caught".to_vec() });
    cld.kill9();
    cld.restart();
    client.session.acks = Acks::Never;
    let mut witness = cld.connect("witness");
    for _ in 0..4 {
        client.session.send_all(&caught);
        let _ = witness.try_wait(INTERVAL, |_| None::<()>);
        assert_eq!(read(&mut witness, "/f").0, 1, "the client has not shown that it is there");
    }
    client.session.acks = Acks::All;
    client.session.patience = Duration::from_secs(30);
    let mut reply = None;
    for _ in 0..20 {
        client.session.send_all(&caught);
        reply = client.session.try_reply(xid, INTERVAL);
        if reply.is_some() {
            break;
        }
    }
    assert_eq!(reply.map(|reply| reply.code), Some(code::OK), "{}", client.session.what_came());
    assert_eq!(read(&mut witness, "/f"), (2, b"caught".to_vec()));
}
