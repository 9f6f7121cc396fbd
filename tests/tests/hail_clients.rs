//! Clients that behave as Hail's library does (protocol.md 4.4, 4.6): they take packets in order only, never acknowledge
//! an event, and send everything unanswered again with the newest message first. Its pauses of 5 s are shortened.

use std::time::{Duration, Instant};

use cld_tests::raw::codes::{code, event, lock, mode, op};
use cld_tests::raw::{Acks, Answer, RawSession, Request};
use cld_tests::server::Cld;

/// How often unanswered requests are sent again.
const TICK: Duration = Duration::from_millis(500);
/// How far apart the messages of a resend leave.
const APART: Duration = Duration::from_millis(20);
/// How long a server that was started again may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

struct Hail {
    session: RawSession,
    /// Oldest first, with their request ids.
    unanswered: Vec<(u64, Vec<Vec<u8>>)>,
    /// Replies that are not OK: the request's operation and the code.
    refused: Vec<(i32, i32)>,
}

impl Hail {
    fn connect(cld: &Cld, user: &str) -> Self {
        let mut session = cld.connect(user);
        session.acks = Acks::NotEvents;
        session.patience = PATIENCE;
        Self { session, unanswered: Vec::new(), refused: Vec::new() }
    }

    fn send(&mut self, request: &Request) {
        let (xid, datagrams) = self.session.prepare(request);
        self.session.send_all(&datagrams);
        self.unanswered.push((xid, datagrams));
    }

    /// Takes what comes in for so long, or until everything is answered.
    fn listen(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while !self.unanswered.is_empty() && Instant::now() < deadline {
            let (session, refused) = (&mut self.session, &mut self.refused);
            self.unanswered.retain(|(xid, _)| match session.try_reply(*xid, Duration::from_millis(5)) {
                None => true,
                Some(reply) => {
                    if reply.code != code::OK {
                        refused.push((reply.message.op, reply.code));
                    }
                    false
                }
            });
        }
    }

    /// Sends again what is unanswered, so slowly that the server sees the newest first.
    fn send_again(&self) {
        for (_, datagrams) in self.unanswered.iter().rev() {
            self.session.send_all(datagrams);
            std::thread::sleep(APART);
        }
    }

    /// Sends again what is unanswered, until nothing is.
    #[track_caller]
    fn finish(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        self.listen(TICK);
        while !self.unanswered.is_empty() {
            assert!(
                Instant::now() < deadline,
                "{} unanswered; {}",
                self.unanswered.len(),
                self.session.what_came()
            );
            self.send_again();
            self.listen(TICK);
        }
        assert_eq!(self.refused, []);
    }
}

#[test]
fn hails_clients_keep_handles_and_locks_through_kill_9_and_their_requests_are_executed_once() {
    let mut cld = Cld::start();
    let (mut holder, mut waiter) = (Hail::connect(&cld, "holder"), Hail::connect(&cld, "waiter"));
    let (file, held) = (holder.session.create("/f"), holder.session.create("/l"));
    let wanted = waiter.session.create("/l");
    assert_eq!(holder.session.lock(held, lock::EXCLUSIVE), code::OK);
    assert_eq!(waiter.session.lock(wanted, lock::EXCLUSIVE), code::LOCK_PENDING);
    let mut version = 1;
    for round in 0..6_u8 {
        let last = vec![round; 1500];
        holder.send(&Request::Put { fh: file, data: vec![0xff; 3000] });
        holder.send(&Request::Nop);
        holder.send(&Request::Put { fh: file, data: b"short".to_vec() });
        holder.send(&Request::GetMeta { fh: file });
        holder.send(&Request::Put { fh: file, data: last.clone() });
        version += 3;
        // From nothing executed to everything answered.
        holder.listen(Duration::from_millis(u64::from(round) * 4));
        cld.kill9();
        cld.restart();
        holder.finish();
        let mut third = cld.connect("third");
        let fh = third.open("/f", mode::READ, 0).unwrap();
        let node = third.get(fh).unwrap();
        assert_eq!((node.version, node.data == last), (version, true), "round {round}");
        let other = third.create("/l");
        assert_eq!(third.try_lock(other, lock::EXCLUSIVE), code::LOCK_CONFLICT, "round {round}");
    }
    // The waiter has been silent through all of it.
    holder.send(&Request::Unlock { fh: held });
    holder.finish();
    assert_eq!(waiter.session.event(), (wanted, event::LOCKED));
    waiter.send(&Request::Unlock { fh: wanted });
    waiter.finish();
    assert_eq!(waiter.session.events_so_far(), [], "it was granted once");
}

#[test]
fn an_open_that_was_answered_before_kill_9_gives_the_same_handle_when_it_is_sent_again() {
    let mut cld = Cld::start();
    let mut client = Hail::connect(&cld, "tester");
    // The reply comes, but its acknowledgement gets lost, as it were, and so does the client's memory of it.
    client.session.acks = Acks::Never;
    let open =
        Request::Open { mode: mode::READ | mode::WRITE | mode::CREATE, events: 0, path: b"/f".to_vec() };
    let (xid, datagrams) = client.session.prepare(&open);
    client.session.send_all(&datagrams);
    let before = client.session.reply(xid).message;
    assert_eq!(before.op, op::OPEN);
    cld.kill9();
    cld.restart();
    client.session.acks = Acks::NotEvents;
    client.send(&Request::Nop);
    client.send(&Request::Nop);
    let deadline = Instant::now() + PATIENCE;
    let after = loop {
        assert!(Instant::now() < deadline, "{}", client.session.what_came());
        client.send_again();
        client.session.send_all(&datagrams);
        if let Some(reply) = client.session.try_reply(xid, TICK) {
            break reply.message;
        }
    };
    let handle = |answer: &Answer| match answer {
        Answer::Opened { fh, .. } => Some(*fh),
        _ => None,
    };
    assert!(handle(&before.answer).is_some() && handle(&before.answer) == handle(&after.answer), "{after:?}");
    client.finish();
}
