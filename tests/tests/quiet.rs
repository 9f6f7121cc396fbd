//! A server that has nothing to do does nothing, and strangers give it nothing to do (failures.md 22, 30, 39).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use cld_tests::observe::{Figures, processor_ticks, resident_kib, wakes};
use cld_tests::raw::codes::{code, event, lock, mode, op};
use cld_tests::raw::{Acks, Head, Packet, RawSession, Request};
use cld_tests::server::{Cld, Options};

/// Reads what comes for so long, and answers it.
fn listen(session: &mut RawSession, time: Duration) {
    let _ = session.try_wait(time, |_| None::<()>);
}

/// While `during` ran, the server used at most a tenth of a processor, and woke at most 100 times a second: a timer
/// that is due for ever wakes it a thousand times, each time for little.
#[track_caller]
fn assert_rests(cld: &mut Cld, during: impl FnOnce(&mut Cld)) {
    let (ticks, woken, began) = (processor_ticks(cld), wakes(cld), Instant::now());
    during(cld);
    let (ticks, woken, elapsed) = (processor_ticks(cld) - ticks, wakes(cld) - woken, began.elapsed());
    // A tick is 10 ms.
    assert!(u128::from(ticks) * 100 < elapsed.as_millis(), "{ticks} ticks in {elapsed:?}; {}", cld.tail());
    assert!(
        u128::from(woken) * 10 < elapsed.as_millis(),
        "woken {woken} times in {elapsed:?}; {}",
        cld.tail()
    );
}

#[test]
fn living_sessions_are_kept_while_time_passes_and_the_processor_rests() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let mut cld = Options::new().args(["--session-timeout", "2"]).start();
    let (mut holder, mut waiter) = (cld.connect("holder"), cld.connect("waiter"));
    let (held, wanted) = (holder.create("/l"), waiter.create("/l"));
    assert_eq!(holder.lock(held, lock::EXCLUSIVE), code::OK);
    assert_eq!(waiter.lock(wanted, lock::EXCLUSIVE), code::LOCK_PENDING);
    // One that goes away without a word, with its socket.
    cld.connect("gone").create("/g");
    assert_rests(&mut cld, |_| {
        let began = Instant::now();
        while began.elapsed() < TIMEOUT * 3 {
            // They do nothing but answer PINGs.
            listen(&mut holder, Duration::from_millis(50));
            listen(&mut waiter, Duration::from_millis(50));
        }
    });
    let figures = Figures::of(&mut cld);
    assert_eq!((figures.get("sessions"), figures.get("expired")), (2, 1));
    assert_eq!(holder.unlock(held), code::OK);
    assert_eq!(waiter.event(), (wanted, event::LOCKED));
}

#[test]
fn a_server_that_was_stopped_hears_its_clients_before_it_judges_their_leases() {
    let mut cld = Options::new().args(["--session-timeout", "2"]).start();
    let mut client = cld.connect("patient");
    let fh = client.create("/l");
    assert_eq!(client.lock(fh, lock::EXCLUSIVE), code::OK);
    cld.stop();
    let nop = client.request(&Request::Nop);
    // The lease runs out by the server's clock; that it passes is what is tested.
    listen(&mut client, Duration::from_secs(3));
    cld.cont();
    assert_eq!(client.reply(nop).code, code::OK);
    assert_eq!(client.unlock(fh), code::OK);
    assert_eq!(Figures::of(&mut cld).get("expired"), 0);
}

#[test]
fn clients_whose_sockets_are_closed_do_not_keep_the_server_busy() {
    let mut cld = Cld::start();
    let mut writer = cld.connect("writer");
    let fh = writer.create("/f");
    for _ in 0..20 {
        // Events and replies wait for an acknowledgement that never comes: the kernel refuses every resend.
        let mut gone = cld.connect("gone");
        assert!(gone.open("/f", mode::READ, event::UPDATED).is_ok());
    }
    assert_eq!(writer.put(fh, b"x"), code::OK);
    let before = Figures::of(&mut cld).get("sent");
    assert_rests(&mut cld, |_| listen(&mut writer, Duration::from_secs(4)));
    let sent = Figures::of(&mut cld).get("sent") - before;
    assert!((20..200).contains(&sent), "{sent} packets in 4 s to 20 sessions, one event and one PING each");
    writer.settle();
}

#[test]
fn sessions_that_wait_for_their_clients_after_a_restart_do_not_keep_the_server_busy() {
    let mut cld = Cld::start();
    let sessions: Vec<RawSession> = (0..20).map(|i| cld.connect(&format!("user{i}"))).collect();
    cld.kill9();
    cld.restart();
    assert_rests(&mut cld, |_| std::thread::sleep(Duration::from_secs(2)));
    drop(sessions);
}

#[test]
fn strangers_get_no_answer_and_cost_nothing() {
    const ROUNDS: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    fs::write(&keys, "tester:the secret\n").unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    let mut cld = Options::new().keys(&keys).start();
    let mut client = RawSession::new(cld.address(), "tester");
    client.key = b"the secret".to_vec();
    assert_eq!(client.call(&Request::NewSess).code, code::OK);
    client.create("/f");
    let mut stranger = RawSession::new(cld.address(), "tester");
    stranger.acks = Acks::Never;
    let mut bad = |user: &str, key: &[u8], op: i32, number: u64| {
        let head = Some(Head { xid: stranger.new_xid(), op });
        let (sid, user) = (stranger.new_xid(), user.as_bytes().to_vec());
        let body = vec![0; 1024];
        Packet { sid, user, head, last: number.is_multiple_of(2), body, number }.encode(key)
    };
    let mut datagrams = Vec::new();
    for (number, of) in (0..).zip([op::NEW_SESS, op::OPEN, op::PUT, op::ACK, op::END_SESS, 63]) {
        datagrams.push(bad("tester", b"another secret", of, number));
        datagrams.push(bad("nobody", b"nobody", of, number));
        datagrams.push(bad("tester", b"", of, number));
        // As the client's own, but for the signature.
        let forged = Packet {
            sid: client.sid,
            user: client.user.clone(),
            head: Some(Head { xid: 1, op: of }),
            last: true,
            body: Vec::new(),
            number: client.next,
        };
        datagrams.push(forged.encode(b"tester"));
    }
    let send = |client: &mut RawSession, rounds: usize| {
        for _ in 0..rounds {
            stranger.send_all(&datagrams);
            client.settle();
        }
    };
    // What the first ones make the server set up does not count.
    send(&mut client, ROUNDS);
    let (before, log, memory) = (Figures::of(&mut cld), cld.log(), resident_kib(&cld));
    send(&mut client, ROUNDS);
    let after = Figures::of(&mut cld);
    let grown = |name: &str| after.get(name) - before.get(name);
    assert_eq!(grown("forged"), (ROUNDS * datagrams.len()) as u64);
    assert_eq!((grown("sessions"), grown("opened"), grown("refusals"), grown("last_index")), (0, 0, 0, 0));
    assert_eq!(grown("sent"), ROUNDS as u64, "the replies to the client's own requests");
    assert_eq!(cld.log().lines().count(), log.lines().count() + 1, "the figures alone: {}", cld.tail());
    let memory = resident_kib(&cld).saturating_sub(memory);
    assert!(memory < 1024, "{memory} KiB");
    let heard = stranger.try_wait(Duration::from_millis(10), |inbox| inbox.pop_front());
    assert!(heard.is_none() && stranger.strange.is_empty(), "{}", stranger.what_came());
}
