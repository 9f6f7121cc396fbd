//! Packets of extended sessions that somebody recorded and sends again: they execute nothing, and are answered by nothing
//! large (docs/protocol.md 7.8; failures.md 13).

use std::time::{Duration, Instant};

use cld_tests::observe::Figures;
use cld_tests::raw::codes::{code, lock, mode};
use cld_tests::raw::extended::{Extended, HELLO};
use cld_tests::raw::{RawSession, Request};
use cld_tests::server::Cld;

use super::connect;

/// How long is listened for what a recording evokes.
const SILENCE: Duration = Duration::from_millis(300);

/// The version of a file, and what its lock answers to one who tries it.
#[track_caller]
fn state(witness: &mut RawSession, path: &str) -> (u64, i32) {
    let fh = witness.open(path, mode::READ | mode::LOCK, 0).unwrap();
    let version = witness.get(fh).unwrap().version;
    let tried = witness.try_lock(fh, lock::EXCLUSIVE);
    assert_eq!(witness.close(fh), code::OK);
    (version, tried)
}

/// Sends a recording from somewhere. What it evokes is not longer than it.
#[track_caller]
fn play(cld: &Cld, somebody: &mut Extended, recording: &[Vec<u8>]) {
    somebody.acks = false;
    let (sent, received) = (somebody.sent, somebody.received);
    for datagram in recording {
        somebody.send(datagram);
    }
    cld.connect("settler").settle();
    somebody.listen(SILENCE);
    let (sent, received) = (somebody.sent.since(sent), somebody.received.since(received));
    assert!(received.bytes <= sent.bytes, "{received:?} for {sent:?}; {}", somebody.what_came());
    println!("{sent:?} evoked {received:?}");
}

/// Somebody at another address who has nothing but a recording.
fn eavesdropper(cld: &Cld, client: &Extended) -> Extended {
    let mut other = Extended::new(cld.address(), "");
    // The keys only to read what comes, for messages.
    (other.sid, other.user, other.key) = (client.sid, client.user.clone(), client.key.clone());
    other
}

/// A whole life: greeting, writes, a lock taken and released, a resumption, keep-alives.
#[track_caller]
fn live(cld: &Cld, user: &str, path: &str) -> Extended {
    let mut client = connect(cld, user);
    let fh = client.create(path);
    for data in [&b"one"[..], &[7; 3_000]] {
        assert_eq!(client.put(fh, data), code::OK);
    }
    assert!(client.lock(fh, lock::EXCLUSIVE).is_ok());
    client.settle();
    client.resume();
    assert_eq!(client.put(fh, b"three"), code::OK);
    assert_eq!(client.unlock(fh), code::OK);
    client
}

#[test]
fn a_recorded_conversation_executes_nothing_and_evokes_nothing_large() {
    let mut cld = Cld::start();
    let mut client = live(&cld, "tester", "/f");
    let recording = client.recording.clone();
    let mut witness = cld.connect("witness");
    let (version, _) = state(&mut witness, "/f");
    let fh = client.create("/own");
    // While the session lives.
    play(&cld, &mut eavesdropper(&cld, &client), &recording);
    assert_eq!(state(&mut witness, "/f"), (version, code::OK));
    play(&cld, &mut client, &recording);
    assert_eq!(state(&mut witness, "/f"), (version, code::OK));
    // The client's streams have not been touched.
    client.acks = true;
    assert_eq!(client.put(fh, b"x"), code::OK);
    client.settle();
    // After its end.
    assert_eq!(client.call(&Request::EndSess).code, code::OK);
    let recording = client.recording.clone();
    play(&cld, &mut eavesdropper(&cld, &client), &recording);
    assert_eq!(state(&mut witness, "/f"), (version, code::OK));
    play(&cld, &mut client, &recording);
    assert_eq!(state(&mut witness, "/f"), (version, code::OK));
    // And on another server process.
    cld.kill9();
    cld.restart();
    let mut witness = cld.connect("witness");
    for _ in 0..2 {
        play(&cld, &mut eavesdropper(&cld, &client), &recording);
        play(&cld, &mut client, &recording);
    }
    assert_eq!(state(&mut witness, "/f"), (version, code::OK));
}

#[test]
fn a_recording_of_a_living_session_executes_nothing_after_a_restart() {
    let mut cld = Cld::start();
    let mut client = live(&cld, "tester", "/f");
    let fh = client.create("/own");
    let recording = client.recording.clone();
    let mut witness = cld.connect("witness");
    let (version, _) = state(&mut witness, "/f");
    cld.kill9();
    cld.restart();
    let mut witness = cld.connect("witness");
    play(&cld, &mut eavesdropper(&cld, &client), &recording);
    play(&cld, &mut client, &recording);
    assert_eq!(state(&mut witness, "/f"), (version, code::OK));
    client.acks = true;
    client.resume();
    assert_eq!(client.put(fh, b"x"), code::OK);
    play(&cld, &mut eavesdropper(&cld, &client), &recording);
    assert_eq!(state(&mut witness, "/f"), (version, code::OK));
    client.settle();
}

#[test]
fn a_recorded_request_is_not_executed_behind_a_recorded_greeting() {
    let cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    assert_eq!(client.put(fh, b"old"), code::OK);
    assert_eq!(client.call(&Request::EndSess).code, code::OK);
    let mut witness = cld.connect("witness");
    let seen = witness.create("/f");
    assert_eq!(witness.put(seen, b"new"), code::OK);
    let version = witness.get(seen).unwrap().version;
    // One after the other, each when the one before has been taken.
    let mut other = eavesdropper(&cld, &client);
    other.acks = false;
    for datagram in client.recording.clone() {
        other.send(&datagram);
        witness.settle();
    }
    let node = witness.get(seen).unwrap();
    assert_eq!((node.version, node.data), (version, b"new".to_vec()));
}

#[test]
fn a_recorded_resume_gets_a_challenge_and_moves_nothing() {
    let cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let fh = client.create("/f");
    let number = 1 << 40;
    let cookie = client.cookie(number);
    let (_, resume) = client.prepare_resume(number, cookie);
    client.send(&resume);
    client.wait("answer", |inbox| inbox.pop_front());
    assert_eq!(client.put(fh, b"x"), code::OK);
    let mut other = eavesdropper(&cld, &client);
    other.acks = false;
    other.send(&resume);
    let came = other.wait("challenge", |inbox| inbox.pop_front());
    assert_eq!((came.number, came.rider), (number, None));
    assert!(came.body.starts_with(&code::CHALLENGE.to_be_bytes()));
    assert!(other.received.packets == 1 && other.received.bytes <= other.sent.bytes, "{:?}", other.received);
    // At its own address it is a copy of what was answered, and acknowledged.
    client.settle();
    let received = client.received.packets;
    client.send(&resume);
    client.listen(SILENCE);
    assert_eq!(client.received.packets, received, "{}", client.what_came());
    assert_eq!(client.put(fh, b"y"), code::OK);
    // After the next one it is nothing at either.
    client.resume();
    for somebody in [&mut other, &mut client] {
        let received = somebody.received;
        somebody.send(&resume);
        somebody.listen(SILENCE);
        let received = somebody.received.since(received);
        assert!(received.packets == 1 && received.bytes <= 256, "{received:?}");
    }
    assert_eq!(client.put(fh, b"z"), code::OK);
}

#[test]
fn a_recorded_greeting_is_answered_once_and_its_session_ends_with_its_lease() {
    let mut cld = Cld::start();
    let mut client = Extended::new(cld.address(), "tester");
    client.hello.lease = super::SHORTEST;
    client.acks = false;
    let (_, greeting) = client.prepare_greeting();
    let began = Instant::now();
    client.send(&greeting);
    // Longer than the first resend of a plain answer.
    while Figures::of(&mut cld).get("sessions") == 1 || began.elapsed() < Duration::from_millis(2_500) {
        client.listen(Duration::from_millis(50));
        assert!(began.elapsed() < Duration::from_secs(6), "the session of a recording lives on");
    }
    assert_eq!(client.received.packets, 1, "{}", client.what_came());
}

#[test]
fn a_flood_of_resumes_gets_little_and_does_not_keep_the_server_from_its_clients() {
    const COUNT: u64 = 1_000;
    let cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let mut known = eavesdropper(&cld, &client);
    let mut unknown = eavesdropper(&cld, &client);
    unknown.sid ^= 1;
    let began = Instant::now();
    for number in 0..COUNT {
        for flood in [&mut known, &mut unknown] {
            let (_, resume) = flood.prepare_resume(number, 0);
            flood.send(&resume);
        }
        if number % 50 == 0 {
            client.settle();
        }
    }
    known.listen(SILENCE);
    unknown.listen(SILENCE);
    let seconds = began.elapsed().as_secs() + 2;
    let (challenges, refusals) = (known.received, unknown.received);
    println!("{COUNT} each in {seconds} s: {challenges:?}, {refusals:?}");
    assert!((1..=2_000 * seconds).contains(&challenges.packets) && challenges.bytes < known.sent.bytes / 2);
    assert!((1..=100 * seconds).contains(&refusals.packets), "{refusals:?}");
    client.create("/f");
}

#[test]
fn a_user_has_no_more_than_64_sessions_that_never_spoke_again() {
    let cld = Cld::start();
    let mut codes = Vec::new();
    let mut unproved = Vec::new();
    for _ in 0..65 {
        let mut session = Extended::new(cld.address(), "tester");
        session.acks = false;
        session.hello = HELLO;
        let (xid, greeting) = session.prepare_greeting();
        session.send(&greeting);
        codes.push(session.try_reply(xid, SILENCE * 3).map(|reply| reply.code));
        unproved.push(session);
    }
    assert!(codes[..64].iter().all(|&answer| answer == Some(code::OK)), "{codes:?}");
    assert_ne!(codes[64], Some(code::OK));
    connect(&cld, "other").create("/f");
    // One of them speaks: there is room for another.
    unproved[0].acknowledge();
    unproved[0].settle();
    connect(&cld, "tester").create("/g");
}
