//! File events of the blocking client.

use cldc_udp::{Error, EventMask, FileEvent, OpenMode};

use crate::support::{LONG, Peer, SHORT, connect};

const MODE: OpenMode = OpenMode(OpenMode::READ.0 | OpenMode::CREATE.0);

#[test]
fn events_come_in_order_with_path_and_handle_to_every_reader() {
    let peer = Peer::start();
    let client = connect(&peer);
    let a = client.open("/a", MODE, EventMask::UPDATED).unwrap();
    let b = client.open("/b", MODE, EventMask::UPDATED).unwrap();
    let mut readers = [client.events(), client.events()];
    peer.event(1, EventMask::UPDATED);
    peer.event(2, EventMask::UPDATED);
    peer.event(1, EventMask::DELETED);
    for events in &mut readers {
        let told: Vec<_> = (0..3).map(|_| events.next_timeout(LONG).unwrap()).collect();
        let event = |path: &str, handle, events| FileEvent {
            path: path.into(),
            handle,
            events,
            version: None,
            missed: 0,
        };
        assert_eq!(
            told,
            [
                event("/a", a.handle(), EventMask::UPDATED),
                event("/b", b.handle(), EventMask::UPDATED),
                event("/a", a.handle(), EventMask::DELETED),
            ]
        );
    }
}

#[test]
fn a_reader_gets_no_events_from_before_it_or_of_closed_files() {
    let peer = Peer::start();
    let client = connect(&peer);
    let mut first = client.events();
    let file = client.open("/a", MODE, EventMask::UPDATED).unwrap();
    peer.event(1, EventMask::UPDATED);
    first.next_timeout(LONG).unwrap();
    let mut second = client.events();
    drop(file);
    peer.event(1, EventMask::UPDATED);
    client.nop().unwrap();
    for events in [&mut first, &mut second] {
        assert!(matches!(events.next_timeout(SHORT), Err(Error::Timeout { doing: "waiting for an event" })));
    }
}

#[test]
fn a_slow_reader_keeps_the_newest_events_and_is_told_how_many_it_missed() {
    let peer = Peer::start();
    let client = connect(&peer);
    let _file = client.open("/a", MODE, EventMask::UPDATED).unwrap();
    let mut slow = client.events();
    let mut quick = client.events();
    peer.events(1, EventMask::UPDATED, 1029);
    (0..1029).for_each(|_| drop(quick.next_timeout(LONG).unwrap()));
    assert_eq!(slow.next_timeout(LONG).unwrap().missed, 5);
    assert!((1..1024).all(|_| slow.next_timeout(LONG).unwrap().missed == 0));
    assert!(slow.next_timeout(SHORT).is_err());
}
