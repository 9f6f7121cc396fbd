//! Large files through a bad network, and many requests on their way at once.

use cldc_core::session::{CallError, FullSession};
use cldc_core::time::Duration;
use cldc_core::wire::{EventMask, Op};

use super::{Extended, connected, count, seconds};
use crate::support::client::{Came, Client};
use crate::support::extended_server::ExtendedServer;
use crate::support::network::Faults;
use crate::support::peer::Peer;

/// 10 % lost, and a round trip of 20 ms.
const LOSSY: Faults = Faults { loss: 10, delay: Duration::from_millis(10), ..Faults::NONE };

#[test]
fn the_longest_file_goes_both_ways_in_two_seconds_through_ten_percent_loss() {
    let contents: Vec<u8> = (0..131_072).map(|index| (index % 251) as u8).collect();
    let mut slowest = 0.0_f64;
    for seed in 0..40 {
        let mut world = connected::<FullSession>(seed, LOSSY);
        let handle = world.open(b"/file", EventMask::NONE);
        let begin = world.now;
        assert_eq!(world.call(|session, now| session.put(now, handle, &contents)), Ok(Came::Done));
        let put = seconds(begin, world.now);
        let begin = world.now;
        let read = world.call(|session, now| session.get(now, handle));
        assert!(matches!(read, Ok(Came::Contents { data, .. }) if data == contents));
        let get = seconds(begin, world.now);
        assert!(put < 2.0 && get < 2.0, "seed {seed}: put {put} s, get {get} s");
        slowest = slowest.max(put).max(get);
    }
    println!("the slowest took {slowest:.2} s");
}

#[test]
fn as_many_requests_as_the_session_holds_are_on_their_way_at_once() {
    let faults = Faults { delay: Duration::from_millis(10), ..Faults::NONE };
    let mut world = connected::<FullSession>(1, faults);
    let handle = world.open(b"/file", EventMask::NONE);
    world.run_for(Duration::from_millis(100));
    let begin = world.now;
    let clock = world.clock();
    let requests: Vec<_> = (0..64).map(|_| world.session.get_meta(clock, handle).unwrap()).collect();
    assert_eq!(world.session.get_meta(clock, handle), Err(CallError::Busy));
    for request in requests {
        assert!(matches!(world.answer(request), Ok(Came::Contents { .. })));
    }
    // A window of 16 at first, doubled with each round trip.
    assert!(seconds(begin, world.now) < 0.1, "{} s", seconds(begin, world.now));
    let next: Vec<_> =
        (0..64).map(|_| world.when_there_is_room(|session, now| session.get_meta(now, handle))).collect();
    next.into_iter().for_each(|request| drop(world.answer(request)));
    assert_eq!(count(&world.sent, Op::GetMeta), 128, "each is sent once");
}

#[test]
fn no_more_requests_are_on_their_way_than_the_server_lets() {
    let mut strict = ExtendedServer::new(1);
    (strict.welcome.requests, strict.welcome.max_message) = (3, 2_000);
    let mut world = Extended::<FullSession>::connected(strict, 1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    let clock = world.clock();
    let room = (0..10).take_while(|_| world.session.nop(clock).is_ok()).count();
    assert_eq!(room, 3);
    world.run_for(Duration::from_secs(1));
    let clock = world.clock();
    assert_eq!(world.session.put(clock, handle, &[1; 2_000]), Err(CallError::TooLarge));
    assert_eq!(world.call(|session, now| session.put(now, handle, &[1; 1_900])), Ok(Came::Done));
}

#[test]
fn a_file_larger_than_the_session_is_too_large_and_the_session_goes_on() {
    let mut world = connected::<cldc_core::session::SmallSession>(1, LOSSY);
    let handle = world.open(b"/large", EventMask::NONE);
    world.servers[0].name_space().write(b"/large", &vec![7; 20_000]);
    let read = world.call(|session, now| session.get(now, handle));
    assert_eq!(read, Err(cldc_core::wire::Code::TooLarge));
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
}
