//! A bad network, and servers that start again: every operation completes, and is executed once.

use cldc_core::session::{FullSession, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::{Code, EventMask, LockFlags, Op, Packet};

use crate::support::bare::Bare;
use crate::support::client::{Came, Client, Told};
use crate::support::hail_server::HailServer;
use crate::support::name_space::done;
use crate::support::network::Faults;
use crate::support::our_server::OurServer;
use crate::support::peer::Peer;
use crate::support::world::World;

everywhere! {
    every_operation_completes_once_on_a_rough_network
    damaged_datagrams_are_as_good_as_lost
    a_server_that_forgot_the_session_ends_it_at_the_next_request
    a_session_survives_a_restart_right_after_an_open
}

fn work<C: Client, P: Peer>(world: &mut World<C, P>, rounds: u8) {
    let handle = world.open(b"/file", EventMask::NONE);
    for round in 0..rounds {
        let contents = vec![round; 400 * usize::from(round % 3)];
        let requests = [
            world.when_there_is_room(|session, now| session.put(now, handle, &contents)),
            world.when_there_is_room(|session, now| session.lock(now, handle, LockFlags::NONE, true)),
            world.when_there_is_room(|session, now| session.get(now, handle)),
            world.when_there_is_room(|session, now| session.unlock(now, handle)),
        ];
        let results = requests.map(|request| world.answer(request));
        assert!(matches!(&results[2], Ok(Came::Contents { data, .. }) if *data == contents), "{results:?}");
        assert_eq!([&results[0], &results[3]], [&Ok(Came::Done); 2]);
        assert_eq!(results[1], Ok(Came::Locked(None)));
        world.assert_lease_is_true();
    }
    assert_eq!(world.call(|session, now| session.close(now, handle)), Ok(Came::Done));
    let (_, most) = world.servers[0].name_space().executions();
    assert_eq!(most, 1, "a request was executed more than once");
    // Its creation, and one more with each round.
    assert_eq!(world.servers[0].name_space().version(b"/file"), Some(1 + u64::from(rounds)));
}

fn every_operation_completes_once_on_a_rough_network<C: Client, P: Peer>(server: fn(u64) -> P) {
    for seed in 0..8 {
        let mut world = World::<C, P>::connected(server(seed), seed, Faults::ROUGH);
        work(&mut world, 6);
        assert_eq!(world.end(), None);
    }
}

fn damaged_datagrams_are_as_good_as_lost<C: Client, P: Peer>(server: fn(u64) -> P) {
    let faults = Faults { loss: 0, corruption: 20, ..Faults::ROUGH };
    for seed in 0..8 {
        let mut world = World::<C, P>::connected(server(seed), seed, faults);
        work(&mut world, 6);
    }
}

fn a_server_that_forgot_the_session_ends_it_at_the_next_request<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 1, Faults::NONE);
    let sid = world.session.id();
    world.servers[0].forget(sid);
    let begin = world.now;
    let clock = world.clock();
    world.session.nop(clock).unwrap();
    world.run_until(|world| world.end().is_some());
    assert!(world.now.since(begin) < Duration::from_secs(1), "at once, not when the lease has run out");
}

fn a_session_survives_a_restart_right_after_an_open<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 1, Faults::NONE);
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
    let handle = world.open(b"/file", EventMask::NONE);
    world.run_for(Duration::from_secs(1));
    let now = world.now;
    world.servers[0].restart(now);
    // Hail's server uses the number of the last OPEN's answer a second time.
    for round in 0..5 {
        assert_eq!(world.call(|session, now| session.put(now, handle, &[round])), Ok(Came::Done));
    }
    assert_eq!(world.servers[0].name_space().version(b"/file"), Some(6));
    assert_eq!(world.end(), None);
}

#[test]
fn requests_in_flight_at_a_restart_are_executed_once() {
    for seed in 0..20 {
        let mut world = World::<FullSession, OurServer>::connected(OurServer::new(seed), seed, Faults::ROUGH);
        let handle = world.open(b"/file", EventMask::NONE);
        let mut requests = Vec::new();
        for round in 0..30_u8 {
            requests.push(world.when_there_is_room(|session, now| session.put(now, handle, &[round; 1_500])));
            world.run_for(Duration::from_millis(seed));
            if round % 10 == 5 {
                let now = world.now;
                world.servers[0].restart(now);
                // Nothing starts again faster than what it sent before has arrived.
                world.run_for(Duration::from_millis(20));
            }
        }
        for request in requests {
            assert_eq!(world.answer(request), Ok(Came::Done), "seed {seed}");
        }
        let space = world.servers[0].name_space();
        assert_eq!((space.executions().1, space.version(b"/file")), (1, Some(31)), "seed {seed}");
        assert_eq!(space.data(b"/file"), Some(&[29; 1_500][..]));
    }
}

#[test]
fn a_replayed_greeting_moves_nothing() {
    let mut world = World::<SmallSession, OurServer>::connected(OurServer::new(1), 1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::UPDATED);
    world.run_for(Duration::from_secs(5));
    let now = world.now;
    world.servers[0].restart(now);
    world.run_for(Duration::from_millis(40));
    assert_eq!(world.call(|session, now| session.put(now, handle, b"x")), Ok(Came::Done));
    // Whoever recorded both greetings sends them again.
    let greetings = world.greetings.clone();
    assert_eq!(greetings.len(), 2);
    for greeting in &greetings {
        let clock = world.clock();
        let from = world.session.address();
        let _ = world.session.handle_datagram(clock, from, greeting);
    }
    world.told.clear();
    assert_eq!(world.call(|session, now| session.put(now, handle, b"y")), Ok(Came::Done));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.events(), [(handle, EventMask::UPDATED)]);
}

/// An ACK between the pieces of a request, or between two passes over them, wedges a session at Hail's server.
#[test]
fn no_acknowledgement_is_sent_while_hails_server_may_hold_half_a_request() {
    for seed in 0..30 {
        // In order: what the network does to the order no client can mend.
        let faults = Faults { loss: 15, jitter: Duration::ZERO, ..Faults::ROUGH };
        let mut world = World::<FullSession, HailServer>::connected(HailServer::new(seed), seed, faults);
        let handle = world.open(b"/file", EventMask::UPDATED);
        for round in 0..6_u8 {
            // Each write brings an event, which is to be acknowledged while the next one is on its way.
            let first = world.when_there_is_room(|session, now| session.put(now, handle, &[round; 5_000]));
            let second = world.when_there_is_room(|session, now| session.put(now, handle, &[round; 3_000]));
            assert_eq!(world.answer(first), Ok(Came::Done));
            assert_eq!(world.answer(second), Ok(Came::Done));
        }
        assert_eq!(world.servers[0].wedged, 0, "seed {seed}");
        assert_eq!(world.servers[0].name_space().version(b"/file"), Some(13));
    }
}

#[test]
fn a_large_write_gets_through_a_lossy_network_to_hails_server() {
    for seed in 0..3 {
        let faults = Faults { loss: 10, ..Faults::NONE };
        let mut world = World::<FullSession, HailServer>::connected(HailServer::new(seed), seed, faults);
        let handle = world.open(b"/file", EventMask::NONE);
        let begin = world.now;
        let contents = vec![5; 131_072];
        assert_eq!(world.call(|session, now| session.put(now, handle, &contents)), Ok(Came::Done));
        let took = world.now.since(begin);
        assert!(took < Duration::from_secs(30), "seed {seed}: {took:?}");
        assert!(!world.told.iter().any(|told| matches!(told, Told::Lease(_))));
    }
}

#[test]
fn a_large_file_goes_both_ways_through_heavy_loss_at_our_server() {
    for seed in 0..4 {
        let mut world = World::<FullSession, OurServer>::connected(OurServer::new(seed), seed, Faults::ROUGH);
        let handle = world.open(b"/file", EventMask::NONE);
        let contents: Vec<u8> = (0..131_072_u32).map(|index| index as u8).collect();
        assert_eq!(world.call(|session, now| session.put(now, handle, &contents)), Ok(Came::Done));
        let read = world.call(|session, now| session.get(now, handle));
        assert!(matches!(read, Ok(Came::Contents { data, .. }) if data == contents));
        assert_eq!(world.end(), None);
    }
}

#[test]
fn requests_leave_oldest_first_and_pieces_stay_together() {
    let mut world = World::<FullSession, OurServer>::connected(OurServer::new(1), 1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    world.sent.clear();
    world.network.faults = Faults::CUT;
    let clock = world.clock();
    for len in [2_000, 10, 3_000] {
        world.session.put(clock, handle, &vec![0; len]).unwrap();
    }
    world.run_for(Duration::from_millis(1_000));
    let numbers: Vec<u64> = world
        .sent
        .iter()
        .map(|flight| Packet::parse(&flight.bytes).unwrap())
        .filter(|packet| packet.part.op() != Some(Op::Ack))
        .map(|packet| packet.number)
        .collect();
    // Three passes (at 0, 250 and 750 ms) over 2, 1 and 3 packets, each in the order of the numbers.
    assert_eq!(numbers.len(), 18);
    for pass in numbers.chunks(6) {
        let expected: Vec<u64> = (0..6).map(|index| numbers[0].wrapping_add(index)).collect();
        assert_eq!(pass, expected);
    }
}

#[test]
fn a_server_that_begins_anew_is_acknowledged_and_sent_what_is_in_flight_at_once() {
    let mut bare = Bare::<FullSession>::connected(100);
    let handle = bare.open(2);
    let now = bare.now;
    bare.session.put(now, handle, &[1; 2_000]).unwrap();
    let request = bare.sent();
    assert_eq!(request.len(), 2);
    // Three passes later the next one would be two seconds away.
    for millis in [250, 500, 1_000] {
        bare.wait(Duration::from_millis(millis));
        assert_eq!(bare.sent(), request);
    }
    bare.wait(Duration::from_millis(1));
    assert_eq!(bare.sent(), []);
    bare.say_at(7_000, done(Op::NewSess, 0, Code::Ok)).unwrap();
    let sent = bare.sent();
    assert!(sent[0].is_ack() && sent[0].number == 7_000, "{sent:?}");
    assert_eq!(sent[1..], request);
    bare.say_at(7_001, done(Op::Put, request[0].xid(), Code::Ok)).unwrap();
    assert_eq!(bare.told().len(), 1);
}
