//! Every call, in both sizes of session, at both kinds of server.

use cldc_core::session::{CallError, End, FullSession, Handle};
use cldc_core::time::Duration;
use cldc_core::wire::{Code, EventMask, LockFlags, OpenMode};

use crate::support::client::{Came, Client, Told};
use crate::support::hail_server::HailServer;
use crate::support::network::Faults;
use crate::support::our_server::OurServer;
use crate::support::peer::Peer;
use crate::support::world::World;

everywhere! {
    every_call_is_answered_once
    calls_in_flight_together_are_answered_in_their_order
    an_abandoned_call_is_not_told_and_its_handle_is_closed
    an_answer_not_yet_taken_is_forgotten_when_its_call_is_abandoned
    sizes_around_the_piece_go_both_ways
}

fn every_call_is_answered_once<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 2, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    assert_eq!(world.call(|session, now| session.put(now, handle, b"contents")), Ok(Came::Done));
    let Ok(Came::Contents { metadata, path, data }) = world.call(|session, now| session.get(now, handle))
    else {
        panic!("no contents")
    };
    assert_eq!((metadata.version, path.as_slice(), data.as_slice()), (2, &b"/file"[..], &b"contents"[..]));
    let Ok(Came::Contents { metadata, data, .. }) = world.call(|session, now| session.get_meta(now, handle))
    else {
        panic!("no metadata")
    };
    assert_eq!((metadata.version, data.len()), (2, 0));
    let exclusive = LockFlags::NONE;
    assert_eq!(world.call(|session, now| session.lock(now, handle, exclusive, true)), Ok(Came::Locked(None)));
    assert_eq!(
        world.call(|session, now| session.lock(now, handle, exclusive, false)),
        Err(Code::LockConflict)
    );
    assert_eq!(world.call(|session, now| session.unlock(now, handle)), Ok(Came::Done));
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
    assert_eq!(world.call(|session, now| session.close(now, handle)), Ok(Came::Done));
    let clock = world.clock();
    assert_eq!(world.session.get(clock, handle), Err(CallError::UnknownHandle));
    assert_eq!(world.call(|session, now| session.del(now, b"/file")), Ok(Came::Done));
    let missing = |session: &mut C, now| session.open(now, b"/file", OpenMode::READ, EventMask::NONE);
    assert_eq!(world.call(missing), Err(Code::NameInval));
    world.session.end(clock).unwrap();
    world.run_until(|world| world.end().is_some());
    assert_eq!(world.end(), Some(End::Closed));
    assert_eq!(world.told.last(), Some(&Told::Ended(End::Closed)));
    assert_eq!(world.session.nop(clock), Err(CallError::Ended));
}

fn calls_in_flight_together_are_answered_in_their_order<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 3, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    let mut requests = Vec::new();
    for index in 0..20_u8 {
        requests.push(world.when_there_is_room(|session, now| session.put(now, handle, &[index])));
    }
    for &request in &requests {
        assert_eq!(world.answer(request), Ok(Came::Done));
    }
    let order: Vec<_> = world
        .told
        .iter()
        .filter_map(|told| if let Told::Done(id, _) = told { Some(*id) } else { None })
        .collect();
    assert_eq!(order[1..], requests);
    assert_eq!(world.servers[0].name_space().data(b"/file"), Some(&[19][..]));
}

fn an_abandoned_call_is_not_told_and_its_handle_is_closed<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 4, Faults::NONE);
    let clock = world.clock();
    let mode = OpenMode::READ | OpenMode::CREATE;
    let request = world.session.open(clock, b"/file", mode, EventMask::NONE).unwrap();
    world.session.abandon(request);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.told, [Told::Connected]);
    assert_eq!(world.servers[0].name_space().version(b"/file"), Some(1), "it was executed");
    assert_eq!(world.servers[0].name_space().open_handles(), 0);
}

fn an_answer_not_yet_taken_is_forgotten_when_its_call_is_abandoned<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 5, Faults::NONE);
    let handle = world.open(b"/kept", EventMask::NONE);
    world.told.clear();
    world.drains = false;
    let clock = world.clock();
    let mode = OpenMode::READ | OpenMode::CREATE;
    let opening = world.session.open(clock, b"/file", mode, EventMask::NONE).unwrap();
    world.run_for(Duration::from_secs(1));
    world.session.abandon(opening);
    let clock = world.clock();
    let reading = world.session.get(clock, handle).unwrap();
    world.run_for(Duration::from_secs(1));
    world.session.abandon(reading);
    world.drains = true;
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.told, []);
    assert_eq!(world.servers[0].name_space().open_handles(), 1);
    assert_eq!(world.call(Client::nop), Ok(Came::Done), "the session goes on");
}

fn sizes_around_the_piece_go_both_ways<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 6, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    // The body of a PUT has 12 bytes more, that of the answer to GET 56 with this path.
    for len in [0, 1, 3, 968, 969, 1011, 1012, 1013, 1023, 1024] {
        round_trip(&mut world, handle, len);
    }
}

fn round_trip<C: Client, P: Peer>(world: &mut World<C, P>, handle: Handle, len: usize) {
    let contents: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
    assert_eq!(world.call(|session, now| session.put(now, handle, &contents)), Ok(Came::Done), "{len}");
    match world.call(|session, now| session.get(now, handle)) {
        Ok(Came::Contents { data, .. }) => assert!(data == contents, "{len}"),
        other => panic!("{len}: {other:?}"),
    }
}

#[test]
fn the_longest_file_goes_both_ways_at_either_server() {
    fn run<P: Peer>(server: P) {
        let mut world = World::<FullSession, P>::connected(server, 7, Faults::NONE);
        let handle = world.open(b"/file", EventMask::NONE);
        for len in [2_047, 2_048, 2_049, 131_071, 131_072] {
            round_trip(&mut world, handle, len);
        }
        let clock = world.clock();
        assert_eq!(world.session.put(clock, handle, &[0; 131_073]), Err(CallError::TooLarge));
    }
    run(OurServer::new(1));
    run(HailServer::new(1));
}

#[test]
fn a_large_write_behind_a_large_read_is_answered_at_either_server() {
    fn run<P: Peer>(server: P) {
        let mut world = World::<FullSession, P>::connected(server, 8, Faults::NONE);
        let handle = world.open(b"/file", EventMask::NONE);
        world.servers[0].name_space().write(b"/file", &[1; 131_072]);
        let clock = world.clock();
        let reading = world.session.get(clock, handle).unwrap();
        let writing = world.session.put(clock, handle, &[2; 131_072]).unwrap();
        assert!(matches!(world.answer(reading), Ok(Came::Contents { data, .. }) if data == [1; 131_072]));
        assert_eq!(world.answer(writing), Ok(Came::Done));
        assert!(world.now.as_micros() < 20_000_000, "{:?}", world.now);
    }
    run(OurServer::new(1));
    run(HailServer::new(1));
}
