//! The blocking client: its calls, its deadlines, its limits, and the end of its session.

use std::thread;
use std::time::Duration;

use cldc_udp::blocking::Client;
use cldc_udp::{CallError, Code, ConfigError, Error, EventMask, LeaseState, OpenMode, Options};

use crate::support::{Asked, KEY, LONG, Peer, SHORT, Say, USER, connect, options};

#[test]
fn every_call_does_what_it_says() {
    let peer = Peer::start();
    let client = connect(&peer);
    assert_eq!(client.server(), Some(peer.address()));
    assert_eq!(client.lease_state(), LeaseState::Safe);
    client.write("/a", b"one").unwrap();
    let contents = client.read("/a").unwrap();
    assert_eq!((contents.path.as_slice(), contents.data.as_slice()), (b"/a".as_slice(), b"one".as_slice()));
    assert_eq!(client.metadata("/a").unwrap().version, 3);
    client.mkdir("/d").unwrap();
    assert_eq!(client.list("/").unwrap(), [b"a", b"d"]);
    let file = client.create("/b").unwrap();
    file.write(b"two").unwrap();
    assert_eq!(file.read().unwrap().data, b"two");
    assert_eq!(file.metadata().unwrap().inode, 7);
    file.close().unwrap();
    client.remove("/b").unwrap();
    assert!(matches!(client.read("/b"), Err(Error::Server(Code::NameInval))));
    client.nop().unwrap();
    client.close().unwrap();
    peer.await_asked(&Asked::EndSess);
}

#[test]
fn a_file_of_the_longest_kind_goes_there_and_back_and_a_longer_one_is_refused() {
    let peer = Peer::start();
    let client = connect(&peer);
    let data: Vec<u8> = (0..131_072_u32).map(|i| (i % 251) as u8).collect();
    client.write("/long", &data).unwrap();
    assert!(client.read("/long").unwrap().data == data);
    let longer = client.write("/long", &[0; 131_073]);
    assert!(matches!(longer, Err(Error::Call(CallError::TooLarge))), "{longer:?}");
}

#[test]
fn a_reply_that_is_too_large_is_reported_and_the_session_goes_on() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Get(_) => Say::Oversized(190_000),
        _ => Say::Usual,
    });
    let client = connect(&peer);
    let file = client.create("/a").unwrap();
    assert!(matches!(file.read(), Err(Error::Server(Code::TooLarge))));
    client.nop().unwrap();
}

#[test]
fn an_answer_that_does_not_fit_is_an_error() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Get(_) => Say::Code(Code::Ok),
        Asked::Nop => Say::Opened(5),
        _ => Say::Usual,
    });
    let client = connect(&peer);
    assert!(matches!(
        client.create("/a").unwrap().read(),
        Err(Error::Server(Code::BadPkt) | Error::BadAnswer)
    ));
    assert!(client.nop().is_err());
}

#[test]
fn connecting_to_a_silent_server_ends_by_its_deadline_and_says_why() {
    let peer = Peer::silent();
    let error = Client::connect(options([&peer]).timeout(SHORT)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }));
    assert!(error.to_string().contains("no server opened the session"), "{error}");
}

#[test]
fn connecting_to_a_closed_port_ends_by_its_deadline() {
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Client::connect(Options::new(USER, KEY).server(closed).timeout(SHORT)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[test]
fn a_wrong_key_gets_no_session() {
    let peer = Peer::start();
    let options = Options::new(USER, "another key").server(peer.address()).timeout(SHORT);
    assert!(matches!(Client::connect(options), Err(Error::Timeout { .. })));
    assert_eq!(peer.all_asked(), []);
}

#[test]
fn a_refused_session_tells_the_servers_reason() {
    let peer = Peer::scripted(|_| Say::Code(Code::Limit));
    assert!(matches!(Client::connect(options([&peer])), Err(Error::Server(Code::Limit))));
}

#[test]
fn the_second_server_is_tried_when_the_first_is_silent_or_not_the_master() {
    for first in [Peer::silent(), Peer::not_master()] {
        let second = Peer::start();
        let client = Client::connect(options([&first, &second])).unwrap();
        assert_eq!(client.server(), Some(second.address()));
        client.nop().unwrap();
    }
}

#[test]
fn servers_of_both_families_are_reached() {
    let Some(v6) = Peer::start_v6() else { return eprintln!("skipped: no IPv6 here") };
    let not_master = Peer::not_master();
    let client = Client::connect(options([&not_master, &v6])).unwrap();
    assert_eq!(client.server(), Some(v6.address()));
    client.write("/a", b"over IPv6").unwrap();
}

#[test]
fn bad_options_are_named() {
    let error = Client::connect(Options::new(USER, KEY)).unwrap_err();
    assert!(matches!(error, Error::Config(ConfigError::Servers)), "{error}");
    let error = Client::connect(Options::new("", KEY).server(([127, 0, 0, 1], 1).into())).unwrap_err();
    assert!(matches!(error, Error::Config(ConfigError::User)), "{error}");
    assert!(!format!("{:?}", Options::new(USER, KEY)).contains(KEY));
}

#[test]
fn a_call_without_an_answer_ends_by_its_deadline_and_says_what_it_was() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Get(_) => Say::Later,
        _ => Say::Usual,
    });
    let client = connect(&peer).with_timeout(SHORT);
    let file = client.with_timeout(LONG).create("/a").unwrap();
    let hasty = client.create("/a").unwrap();
    let error = hasty.read().unwrap_err();
    assert_eq!(error.to_string(), "the deadline passed while reading a file");
    file.write(b"still of use").unwrap();
}

#[test]
fn a_call_beyond_what_the_session_holds_waits_for_room() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Nop => Say::Later,
        _ => Say::Usual,
    });
    let client = connect(&peer);
    thread::scope(|scope| {
        let nops: Vec<_> = (0..64).map(|_| scope.spawn(|| client.nop())).collect();
        (0..64).for_each(|_| drop(peer.await_asked(&Asked::Nop)));
        // There is no room, and none comes before this deadline.
        let hasty = client.with_timeout(SHORT).remove("/x");
        assert!(matches!(hasty, Err(Error::Timeout { doing: "removing a file" })), "{hasty:?}");
        let late = scope.spawn(|| client.write("/a", b"now"));
        (0..64).for_each(|_| peer.answer(Code::Ok));
        nops.into_iter().for_each(|nop| nop.join().unwrap().unwrap());
        late.join().unwrap().unwrap();
    });
    assert!(!peer.all_asked().contains(&Asked::Del("/x".into())));
}

#[test]
fn a_close_that_waits_for_room_is_done_even_if_its_deadline_passes() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Nop => Say::Later,
        _ => Say::Usual,
    });
    let client = connect(&peer);
    let file = client.with_timeout(SHORT).create("/a").unwrap();
    thread::scope(|scope| {
        let nops: Vec<_> = (0..64).map(|_| scope.spawn(|| client.nop())).collect();
        (0..64).for_each(|_| drop(peer.await_asked(&Asked::Nop)));
        assert!(matches!(file.close(), Err(Error::Timeout { doing: "closing a file" })));
        (0..64).for_each(|_| peer.answer(Code::Ok));
        nops.into_iter().for_each(|nop| nop.join().unwrap().unwrap());
    });
    peer.await_asked(&Asked::Close(1));
}

#[test]
fn noise_is_ignored() {
    let peer = Peer::start();
    let client = connect(&peer);
    peer.make_noise(5_000);
    client.write("/a", b"through").unwrap();
    assert_eq!(client.read("/a").unwrap().data, b"through");
}

#[test]
fn too_many_open_files_are_a_clear_error_and_closing_one_makes_room() {
    let peer = Peer::start();
    let client = connect(&peer);
    let mut files: Vec<_> = (0..256).map(|i| client.create(format!("/{i}")).unwrap()).collect();
    let error = client.with_timeout(SHORT).create("/more").unwrap_err();
    assert!(matches!(error, Error::Call(CallError::TooManyHandles)), "{error}");
    files.pop();
    client.create("/more").unwrap();
}

#[test]
fn a_dropped_file_is_closed_and_the_last_drop_ends_the_session() {
    let peer = Peer::start();
    let client = connect(&peer);
    let (dropped, kept) = (client.create("/a").unwrap(), client.create("/b").unwrap());
    drop(dropped);
    peer.await_asked(&Asked::Close(1));
    drop(client.clone());
    drop(client);
    kept.write(b"lives").unwrap();
    drop(kept);
    let before = peer.await_asked(&Asked::EndSess);
    assert_eq!(before, [Asked::Put(2, b"lives".into()), Asked::Close(2)]);
    peer.await_asked(&Asked::EndAcknowledged);
}

#[test]
fn close_waits_for_the_answer_acknowledges_it_and_ends_the_clones() {
    let peer = Peer::start();
    let client = connect(&peer);
    let clone = client.clone();
    let mut events = client.events();
    client.close().unwrap();
    peer.await_asked(&Asked::EndSess);
    peer.await_asked(&Asked::EndAcknowledged);
    assert!(matches!(clone.nop(), Err(Error::Closed)));
    assert_eq!(clone.lease_state(), LeaseState::Expired);
    assert!(matches!(events.next_timeout(LONG), Err(Error::Closed)));
    clone.close().unwrap();
}

#[test]
fn closing_a_dead_session_ends_by_its_deadline_and_goes_on_in_the_background() {
    let peer = Peer::start();
    let client = connect(&peer);
    let clone = client.clone();
    peer.fall_silent();
    let error = client.with_timeout(SHORT).close().unwrap_err();
    assert_eq!(error.to_string(), "the deadline passed while ending the session");
    assert!(matches!(clone.nop(), Err(Error::Closed)));
    drop((client, clone));
    peer.speak_again();
    peer.await_asked(&Asked::EndSess);
}

#[test]
fn closing_a_file_that_is_gone_is_no_error() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Close(_) => Say::Code(Code::FhInval),
        _ => Say::Usual,
    });
    connect(&peer).create("/a").unwrap().close().unwrap();
}

#[test]
fn a_lost_session_ends_calls_events_and_the_lease() {
    let peer = Peer::scripted(|asked| match asked {
        Asked::Get(_) => Say::Later,
        _ => Say::Usual,
    });
    let client = connect(&peer);
    let file = client.open("/a", OpenMode::READ | OpenMode::CREATE, EventMask::UPDATED).unwrap();
    let mut events = client.events();
    thread::scope(|scope| {
        let read = scope.spawn(|| file.read());
        peer.await_asked(&Asked::Get(1));
        peer.forget_sessions();
        // The session finds out by its next packet.
        assert!(matches!(client.nop(), Err(Error::SessionLost)));
        assert!(matches!(read.join().unwrap(), Err(Error::SessionLost)));
    });
    assert_eq!(client.lease_state(), LeaseState::Expired);
    assert_eq!(client.wait_lease_change(LeaseState::Safe, LONG), LeaseState::Expired);
    assert!(matches!(events.next_timeout(LONG), Err(Error::SessionLost)));
    assert_eq!(events.next(), None);
    assert!(matches!(client.read("/a"), Err(Error::SessionLost)));
    assert!(matches!(client.close(), Err(Error::SessionLost)));
}

#[test]
fn the_lease_is_counted_with_the_drift_and_renewed_by_an_answer() {
    let peer = Peer::start();
    // Of 60 s, so poor a clock leaves 60 · 0.01 / 1.99 s.
    let client = Client::connect(options([&peer]).drift_ppm(990_000)).unwrap();
    assert_eq!(client.wait_lease_change(LeaseState::Safe, LONG), LeaseState::Jeopardy);
    assert_eq!(
        client.wait_lease_change(LeaseState::Jeopardy, Duration::from_millis(1)),
        LeaseState::Jeopardy
    );
    client.nop().unwrap();
    assert_eq!(client.lease_state(), LeaseState::Safe);
}
