//! Sessions that go on from another address, at another server, or after a restart.

use cldc_core::session::{FullSession, LockState, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::{EventMask, LockFlags};

use super::Extended;
use crate::support::client::{Came, Client, Told};
use crate::support::extended_server::ExtendedServer;
use crate::support::network::Faults;
use crate::support::peer::Peer;
use crate::support::world::{CLIENT, server};

#[test]
fn a_session_goes_on_from_another_address() {
    let mut world = Extended::<SmallSession>::connected(ExtendedServer::new(1), 1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    world.client.set_port(CLIENT.port() + 1);
    let begin = world.now;
    assert_eq!(world.call(|session, now| session.put(now, handle, b"from here")), Ok(Came::Done));
    assert!(world.now.since(begin) < Duration::from_millis(20), "four round trips of 2 ms, and no timer");
    assert_eq!(world.servers[0].resumes, 1);
    assert_eq!(world.servers[0].name_space().executions().1, 1);
    assert!(!world.told.iter().any(|told| matches!(told, Told::Failover(_))), "it is the same master");
}

#[test]
fn requests_in_flight_at_a_restart_are_executed_once_and_the_new_epoch_is_told_once() {
    for seed in 0..20 {
        let mut world = Extended::<FullSession>::connected(ExtendedServer::new(seed), seed, Faults::ROUGH);
        let handle = world.open(b"/file", EventMask::NONE);
        let mut requests = Vec::new();
        for round in 0..30_u8 {
            requests.push(world.when_there_is_room(|session, now| session.put(now, handle, &[round; 1_500])));
            world.run_for(Duration::from_millis(seed));
            if round % 10 == 5 {
                let now = world.now;
                world.servers[0].restart(now);
            }
        }
        for request in requests {
            assert_eq!(world.answer(request), Ok(Came::Done), "seed {seed}");
        }
        let space = world.servers[0].name_space();
        assert_eq!((space.executions().1, space.version(b"/file")), (1, Some(31)), "seed {seed}");
        assert_eq!(space.data(b"/file"), Some(&[29; 1_500][..]));
        let told = world.told.iter().filter_map(|told| match told {
            Told::Failover(epoch) => Some(*epoch),
            _ => None,
        });
        let epochs: Vec<u64> = told.collect();
        assert!(epochs.is_sorted_by(|one, other| one < other), "{epochs:?}");
        assert_eq!(epochs.last(), Some(&10));
    }
}

/// The master hands over to the second server.
fn hand_over<C: Client>(world: &mut Extended<C>) {
    let now = world.now;
    let [from, to] = &mut world.servers[..] else { panic!("two servers") };
    from.hand_over(now, to, server(1));
}

#[test]
fn a_session_goes_on_at_the_master_that_the_old_one_names() {
    let servers = vec![ExtendedServer::new(1), ExtendedServer::follower(2, Some(server(0)))];
    // The client knows of the first server only.
    let mut world = Extended::<SmallSession>::with(servers, 1, Faults::NONE, |config| {
        config.servers = &config.servers[..1];
    });
    world.run_until(|world| world.told == [Told::Connected]);
    let handle = world.open(b"/lock", EventMask::NONE);
    let lock = |session: &mut SmallSession, now| session.lock(now, handle, LockFlags::NONE, true);
    assert!(matches!(world.call(lock), Ok(Came::Locked(Some(_)))));
    hand_over(&mut world);
    let begin = world.now;
    assert_eq!(world.call(|session, now| session.put(now, handle, b"x")), Ok(Came::Done));
    assert!(world.now.since(begin) < Duration::from_millis(20), "without waiting for a timer");
    assert_eq!(world.session.address(), server(1));
    assert_eq!(world.session.lock_of(handle), LockState::Held);
    let told: Vec<&Told> = world.told.iter().filter(|told| !matches!(told, Told::Done(..))).collect();
    assert_eq!(told, [&Told::Connected, &Told::Failover(8)]);
    assert_eq!(world.session.current_epoch(), Some(8));
}
