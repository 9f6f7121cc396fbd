//! A session outlives its server's process and its client's address (docs/protocol.md 7.4; failures.md 10, 12).

use std::time::{Duration, Instant};

use cld_tests::raw::codes::{code, event, lock, mode, op};
use cld_tests::raw::extended::{Extended, Stands};
use cld_tests::raw::{Answer, Head, Request};
use cld_tests::server::Cld;

use super::connect;

/// What a lock of a handle that stands is told to be.
const FREE: u32 = 0;
const WAITING: u32 = 1;
const HELD: u32 = 2;

/// For so long nothing is said to somebody who should get silence.
const SILENCE: Duration = Duration::from_millis(200);

fn restart(cld: &mut Cld) {
    cld.kill9();
    cld.restart();
}

/// The handle that an answer to OPEN names.
#[track_caller]
fn opened(reply: &cld_tests::raw::extended::Reply) -> u64 {
    match Answer::decode(reply.message.op, &reply.message.body) {
        Ok(Answer::Opened { fh, .. }) => fh,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_goes_on_at_another_address_once_it_has_proved_itself() {
    let cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let (free, held) = (client.create("/f"), client.create("/l"));
    let sequencer = client.lock(held, lock::EXCLUSIVE).unwrap();
    let base = client.get(free).version;
    let epoch = client.settle();
    client.move_away();
    let before = (client.sent, client.received);
    let number = client.next;
    let put = client.request(&Request::Put { fh: free, data: b"moved".to_vec() });
    assert_eq!(client.hint(), number);
    let (asked, told) = (client.sent.since(before.0), client.received.since(before.1));
    assert!(told.packets == 1 && told.bytes <= asked.bytes, "{told:?} for {asked:?}");
    let mut witness = cld.connect("witness");
    let seen = witness.open("/f", mode::READ, 0).unwrap();
    assert_eq!(
        witness.get(seen).unwrap().version,
        base,
        "nothing is executed for an address that is not proved"
    );
    let resumed = client.resume();
    assert_eq!(resumed.welcome.epoch, epoch);
    assert_eq!(resumed.stands, [Stands { fh: free, lock: FREE }, Stands { fh: held, lock: HELD }]);
    assert_eq!(client.reply(put).code, code::OK);
    assert_eq!(witness.get(seen).unwrap().version, base + 1);
    assert_eq!(client.get_sequencer(held), Ok(sequencer));
    assert!(client.strange.is_empty(), "{:?}", client.strange);
}

#[test]
fn a_hint_is_given_to_keepalives_too_and_renews_nothing() {
    let mut cld = Cld::start();
    let mut client = connect(&cld, "tester");
    client.create("/f");
    restart(&mut cld);
    let (_, nop) = client.prepare_nop();
    client.send(&nop);
    client.hint();
    let resumed = client.resume();
    assert_eq!(resumed.stands.len(), 1);
}

#[test]
fn a_packet_that_is_shorter_than_a_hint_gets_none() {
    let cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let mut elsewhere = at_another_address(&client, &cld);
    let short = [
        elsewhere.encode(client.next, None, false, b"", None),
        elsewhere.encode(client.next, None, true, b"", None),
        elsewhere.encode(0, Some(Head { xid: 0, op: op::ACK }), true, b"", Some(client.rider(true))),
    ];
    for datagram in short {
        let (sent, received) = (elsewhere.sent, elsewhere.received);
        elsewhere.send(&datagram);
        client.settle();
        elsewhere.listen(Duration::from_millis(20));
        let (sent, received) = (elsewhere.sent.since(sent), elsewhere.received.since(received));
        assert!(received.bytes <= sent.bytes, "{received:?} for {sent:?}; {}", elsewhere.what_came());
    }
    assert_eq!(client.put(fh, b"x"), code::OK);
}

#[test]
fn a_wrong_cookie_gets_another_challenge_and_moves_nothing() {
    let cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let mut elsewhere = at_another_address(&client, &cld);
    let number = 1 << 40;
    let here = client.cookie(number);
    let there = elsewhere.cookie(number);
    assert_ne!(here, there, "the cookie depends on the address");
    assert_ne!(here, client.cookie(number + 1), "and on the number");
    let wrong = [(number, 1), (number, here ^ 1), (number, there), (number + 1, here), (number - 1, here)];
    for (number, cookie) in wrong {
        let answer = client.ask_resume(number, cookie);
        assert_eq!(answer.code, code::CHALLENGE, "number {number:x}, cookie {cookie:x}");
        assert!(!answer.rest.is_empty() && answer.message.rider.is_none());
    }
    assert_eq!(elsewhere.ask_resume(number, here).code, code::CHALLENGE);
    // The streams are the same as before.
    assert_eq!(client.put(fh, b"x"), code::OK);
    client.settle();
}

/// Somebody who knows the key, at another address, without a part in the streams.
fn at_another_address(client: &Extended, cld: &Cld) -> Extended {
    let mut other = Extended::new(cld.address(), "");
    (other.sid, other.user, other.key) = (client.sid, client.user.clone(), client.key.clone());
    other
}

#[test]
fn a_session_is_resumed_again_and_again_each_time_by_a_new_cookie() {
    let cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let base = client.get(fh).version;
    let number = 1 << 40;
    let used = client.cookie(number);
    assert_eq!(client.ask_resume(number, used).code, code::OK);
    assert_eq!(client.put(fh, b"1"), code::OK);
    client.move_away();
    let again = client.ask_resume(number, used);
    assert_eq!(again.code, code::CHALLENGE);
    assert_ne!(again.hyper(), used);
    for n in 2..6 {
        client.move_away();
        assert_eq!(client.resume().stands, [Stands { fh, lock: FREE }]);
        assert_eq!(client.put(fh, b"x"), code::OK);
        assert_eq!(client.get(fh).version, base + n);
    }
}

#[test]
fn requests_that_a_kill_cut_off_run_once() {
    const COUNT: u64 = 40;
    let mut cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let base = client.get(fh).version;
    for answered in [0, 1, 7, 20] {
        let before = client.get(fh).version;
        let puts: Vec<u64> =
            (0..COUNT).map(|n| client.request(&Request::Put { fh, data: n.to_string().into() })).collect();
        for &xid in puts.iter().take(answered) {
            assert_eq!(client.reply(xid).code, code::OK);
        }
        restart(&mut cld);
        client.resume();
        for &xid in puts.iter().skip(answered) {
            assert_eq!(client.reply(xid).code, code::OK);
        }
        let node = client.get(fh);
        assert_eq!((node.version, node.data), (before + COUNT, (COUNT - 1).to_string().into_bytes()));
    }
    assert_eq!(client.get(fh).version, base + 4 * COUNT);
}

#[test]
fn an_answer_that_was_lost_is_the_same_after_a_restart() {
    let mut cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let locked = client.create("/l");
    let requests = [
        Request::Open { mode: mode::CREATE | mode::EXCL | mode::WRITE, events: 0, path: b"/new".to_vec() },
        Request::Lock { fh: locked, flags: lock::EXCLUSIVE },
        Request::Open { mode: mode::CREATE | mode::EXCL, events: 0, path: b"/l".to_vec() },
        Request::Del { path: b"/l/none".to_vec() },
    ];
    let first = client.expected().unwrap();
    client.lose.extend((0..4).map(|n| first.wrapping_add(n)));
    let xids = requests.map(|request| client.request(&request));
    client.await_loss();
    restart(&mut cld);
    let resumed = client.resume();
    let replies = xids.map(|xid| client.reply(xid));
    assert_eq!(
        replies.each_ref().map(|reply| reply.code),
        [code::OK, code::OK, code::INODE_EXISTS, code::NAME_INVAL]
    );
    let new = opened(&replies[0]);
    assert_eq!(resumed.stands, [Stands { fh: locked, lock: HELD }, Stands { fh: new, lock: FREE }]);
    assert_eq!(client.get_sequencer(locked), Ok(replies[1].sequencer()));
    assert_eq!(replies[1].sequencer().generation, client.get_sequencer(locked).unwrap().generation);
    // It was opened once.
    assert_eq!(client.call(&Request::Close { fh: new }).code, code::OK);
    restart(&mut cld);
    assert_eq!(client.resume().stands, [Stands { fh: locked, lock: HELD }]);
}

#[test]
fn handles_and_locks_stand_after_a_restart_and_waiters_keep_their_places() {
    let mut cld = Cld::start();
    let (mut holder, mut waiter) = (connect(&cld, "holder"), connect(&cld, "waiter"));
    let (held, wanted) = (holder.create("/l"), waiter.create("/l"));
    let first = holder.lock(held, lock::EXCLUSIVE).unwrap();
    assert_eq!(waiter.lock(wanted, lock::EXCLUSIVE), Err(code::LOCK_PENDING));
    let epoch = waiter.settle();
    restart(&mut cld);
    let mut third = connect(&cld, "third");
    let other = third.create("/l");
    assert_eq!(third.lock(other, lock::SHARED), Err(code::LOCK_PENDING));
    let resumed = waiter.resume();
    assert_eq!(resumed.stands, [Stands { fh: wanted, lock: WAITING }]);
    assert!(resumed.welcome.epoch > epoch, "{} after {epoch}", resumed.welcome.epoch);
    assert_eq!(waiter.settle(), resumed.welcome.epoch);
    assert_eq!(holder.resume().stands, [Stands { fh: held, lock: HELD }]);
    assert_eq!(holder.unlock(held), code::OK);
    let granted = waiter.event();
    assert_eq!((granted.fh, granted.events), (wanted, event::LOCKED));
    assert_eq!(granted.granted.map(|granted| granted.generation), Some(first.generation + 1));
    assert_eq!(waiter.unlock(wanted), code::OK);
    assert_eq!(third.event().events, event::LOCKED);
}

#[test]
fn events_that_were_not_acknowledged_come_again_as_the_same() {
    let mut cld = Cld::start();
    let (mut writer, mut watcher) = (connect(&cld, "writer"), connect(&cld, "watcher"));
    let files = ["/f", "/g"].map(|path| writer.open(path, mode::CREATE | mode::WRITE, 0));
    let watched = ["/f", "/g"].map(|path| watcher.create(path));
    watcher.acks = false;
    let [first, other, last] = [0, 1, 0].map(|place: usize| {
        assert_eq!(writer.put(files[place], b"x"), code::OK);
        let told = watcher.event();
        assert_eq!((told.fh, told.events), (watched[place], event::UPDATED));
        told
    });
    assert!(first.serial < last.serial && first.version + 1 == last.version, "{first:?}, {last:?}");
    for restarted in [false, true] {
        if restarted {
            restart(&mut cld);
        } else {
            watcher.move_away();
        }
        watcher.resume();
        // Those of one handle may come as one, which is the last of them.
        let mut missing = vec![&other, &last];
        while !missing.is_empty() {
            let again = watcher.event();
            assert!([&first, &other, &last].contains(&&again), "{again:?}");
            missing.retain(|event| **event != again);
        }
    }
    watcher.acks = true;
    watcher.acknowledge();
    assert_eq!(watcher.put(watched[0], b"own"), code::OK);
    let next = watcher.event();
    assert!(next.serial > last.serial && next.version == last.version + 1, "{next:?} after {last:?}");
    watcher.settle();
    watcher.resume();
    assert!(watcher.events_so_far().is_empty(), "{}", watcher.what_came());
}

#[test]
fn events_waiting_after_a_restart_make_the_server_send_a_hint_unasked() {
    let mut cld = Cld::start();
    let mut watcher = connect(&cld, "watcher");
    let watched = watcher.create("/f");
    restart(&mut cld);
    let mut writer = cld.connect("writer");
    let fh = writer.create("/f");
    assert_eq!(writer.put(fh, b"x"), code::OK);
    watcher.hint();
    watcher.resume();
    assert_eq!(watcher.event().fh, watched);
}

#[test]
fn a_session_is_its_users_alone() {
    let mut cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    for restarted in [false, true] {
        if restarted {
            restart(&mut cld);
        }
        let mut thief = Extended::new(cld.address(), "thief");
        thief.sid = client.sid;
        let answer = thief.ask_resume(7, 0);
        assert_eq!((answer.code, answer.message.number), (code::SESS_INVAL, 7));
        assert_eq!(thief.ask_resume(7, 1).code, code::SESS_INVAL);
        // With the owner's name but not the owner's key.
        let mut stranger = Extended::new(cld.address(), "tester");
        (stranger.sid, stranger.key) = (client.sid, b"guessed".to_vec());
        let (_, resume) = stranger.prepare_resume(7, 0);
        let (_, greeting) = stranger.prepare_greeting();
        let (_, nop) = stranger.prepare_nop();
        stranger.send_all(&[resume, greeting, nop]);
        stranger.listen(SILENCE);
        assert_eq!(stranger.received.packets, 0);
    }
    client.resume();
    assert_eq!(client.put(fh, b"x"), code::OK);
}

#[test]
fn a_session_that_ended_is_not_resumed() {
    let mut cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let number = 1 << 40;
    let cookie = client.cookie(number);
    assert_eq!(client.call(&Request::EndSess).code, code::OK);
    for cookie in [0, cookie] {
        assert_eq!(client.ask_resume(number, cookie).code, code::SESS_INVAL);
    }
    restart(&mut cld);
    assert_eq!(client.ask_resume(number, 0).code, code::SESS_INVAL);
    let began = Instant::now();
    let mut unknown = Extended::new(cld.address(), "tester");
    assert_eq!(unknown.ask_resume(number, 0).code, code::SESS_INVAL);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_plain_session_is_not_resumed_and_is_not_harmed() {
    let cld = Cld::start();
    let mut plain = cld.connect("tester");
    let fh = plain.create("/f");
    let mut client = Extended::new(cld.address(), "tester");
    client.sid = plain.sid;
    let number = 1 << 40;
    let (xid, resume) = client.prepare_resume(number, 0);
    client.send(&resume);
    let answer = client.try_reply(xid, SILENCE);
    assert!(answer.is_none_or(|answer| answer.code != code::OK));
    assert_eq!(plain.put(fh, b"x"), code::OK);
}

#[test]
fn a_sequencer_is_good_after_a_restart_until_its_lock_is_released() {
    let mut cld = Cld::start();
    let (mut holder, mut guard) = (connect(&cld, "holder"), connect(&cld, "guard"));
    let (held, file) = (holder.create("/l"), guard.create("/f"));
    let first = holder.lock(held, lock::EXCLUSIVE).unwrap();
    restart(&mut cld);
    guard.resume();
    // The guard needs no word of the holder.
    assert_eq!(guard.check_sequencer(&first), code::OK);
    assert_eq!(guard.put_fenced(&first, file, b"x"), code::OK);
    holder.resume();
    assert_eq!(holder.get_sequencer(held), Ok(first.clone()));
    assert_eq!(holder.unlock(held), code::OK);
    assert_eq!(guard.check_sequencer(&first), code::STALE);
    assert_eq!(guard.put_fenced(&first, file, b"y"), code::STALE);
    assert_eq!(holder.lock(held, lock::EXCLUSIVE).map(|next| next.generation), Ok(first.generation + 1));
}
