//! Events: acknowledged, in order, each once, and told with the version that they are about (docs/protocol.md 7.7).

use cldc_core::session::{FullSession, Handle, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::EventMask;

use super::{Extended, connected};
use crate::support::client::{Came, Client, Told};
use crate::support::network::Faults;
use crate::support::peer::Peer;

/// A change of the file from outside, and its event.
fn change<C: Client>(world: &mut Extended<C>, path: &[u8]) {
    let now = world.now;
    for (sid, fh, events) in world.servers[0].name_space().write(path, b"changed") {
        world.servers[0].tell(now, sid, fh, events);
    }
}

fn versions<C: Client>(world: &Extended<C>, handle: Handle) -> Vec<u64> {
    let told = world.told.iter().filter_map(|told| match told {
        Told::Happened(id, EventMask::UPDATED, version, None) if *id == handle => Some(*version),
        _ => None,
    });
    told.collect()
}

#[test]
fn every_change_is_told_once_in_order_with_its_version_on_a_rough_network_and_across_restarts() {
    fn run<C: Client>(seed: u64) {
        let mut world = connected::<C>(seed, Faults::ROUGH);
        let handle = world.open(b"/file", EventMask::UPDATED);
        for round in 0..40 {
            change(&mut world, b"/file");
            world.run_for(Duration::from_millis(seed * 7));
            let now = world.now;
            match round {
                10 | 30 => world.servers[0].restart(now),
                20 => world.client.set_port(50_000),
                _ => {}
            }
        }
        world.run_until(|world| versions(world, handle).len() >= 41);
        world.run_for(Duration::from_secs(30));
        // The creation is version 1.
        assert_eq!(versions(&world, handle), (1..=41).collect::<Vec<u64>>(), "seed {seed}");
        assert_eq!(world.servers[0].unacknowledged(world.session.id()).0, 0);
    }
    for seed in 0..6 {
        run::<SmallSession>(seed);
        run::<FullSession>(seed);
    }
}

#[test]
fn events_and_answers_are_acknowledged_without_a_packet_for_each() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::UPDATED);
    world.run_for(Duration::from_millis(100));
    world.sent.clear();
    for _ in 0..40 {
        change(&mut world, b"/file");
        world.run_for(Duration::from_millis(3));
    }
    world.run_for(Duration::from_millis(100));
    assert_eq!(versions(&world, handle).len(), 41);
    assert!((10..=14).contains(&world.sent.len()), "one for four: {}", world.sent.len());
    assert_eq!(world.servers[0].unacknowledged(world.session.id()), (0, 0));
}

#[test]
fn an_event_that_was_taken_but_not_acknowledged_is_not_told_again() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::UPDATED);
    world.run_for(Duration::from_millis(100));
    change(&mut world, b"/file");
    // The event is here in a millisecond, and its acknowledgement would leave ten later.
    world.run_for(Duration::from_millis(5));
    assert_eq!(versions(&world, handle), [1, 2]);
    let now = world.now;
    world.servers[0].restart(now);
    assert_eq!(world.servers[0].unacknowledged(world.session.id()).0, 1);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.servers[0].unacknowledged(world.session.id()).0, 0);
    change(&mut world, b"/file");
    world.run_for(Duration::from_secs(1));
    assert_eq!(versions(&world, handle), [1, 2, 3]);
}

#[test]
fn a_deletion_is_told_once_though_the_handle_is_missing_after_a_restart() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::DELETED);
    assert_eq!(world.call(|session, now| session.del(now, b"/file")), Ok(Came::Done));
    world.run_for(Duration::from_secs(1));
    let now = world.now;
    world.servers[0].restart(now);
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.events(), [(handle, EventMask::DELETED)]);
}

#[test]
fn an_application_that_does_not_take_its_events_loses_none() {
    let mut world = connected::<FullSession>(1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::UPDATED);
    world.drains = false;
    for _ in 0..100 {
        change(&mut world, b"/file");
    }
    world.run_for(Duration::from_secs(20));
    world.drains = true;
    world.run_for(Duration::from_secs(30));
    assert_eq!(versions(&world, handle), (1..=101).collect::<Vec<u64>>());
}
