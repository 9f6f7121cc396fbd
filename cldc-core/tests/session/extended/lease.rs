//! The lease that was granted: kept by NOPs outside the stream, and never trusted for longer than the server keeps it.

use cldc_core::lease::LeaseState;
use cldc_core::session::{End, FullSession, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::{Code, EventMask, LockFlags, Op, OpenMode};

use super::{Extended, connected, count, hand_over, with_two_servers};
use crate::support::client::{Came, Client, Told};
use crate::support::network::Faults;
use crate::support::peer::Peer;
use crate::support::random::Random;
use crate::support::world::CLIENT;

#[test]
fn an_idle_session_costs_one_packet_each_way_every_third_of_its_lease() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    world.run_for(Duration::from_secs(1));
    world.sent.clear();
    world.received.clear();
    world.watch(Duration::from_secs(3_600), Extended::assert_lease_is_true);
    assert_eq!(world.told, [Told::Connected], "nothing was in doubt");
    assert_eq!((world.sent.len(), world.received.len()), (360, 360));
    assert_eq!(world.servers[0].nops, 360);
    assert_eq!(world.servers[0].name_space().executions().0, 0, "none of them is a request");
}

#[test]
fn the_session_is_kept_alive_while_all_places_for_requests_are_taken() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    // The server does not answer requests any more, but it does answer NOPs.
    world.servers[0].is_stuck = true;
    let clock = world.clock();
    for _ in 0..2 {
        world.session.put(clock, handle, b"x").unwrap();
    }
    assert!(world.session.put(clock, handle, b"x").is_err());
    world.run_for(Duration::from_secs(200));
    assert_eq!(world.session.state(world.clock()), LeaseState::Safe);
    assert_eq!(world.end(), None);
}

#[test]
fn the_lease_is_granted_then_in_jeopardy_safe_again_and_expired_at_last() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    world.servers[0].keeps_for = Some(Duration::from_secs(60));
    world.run_for(Duration::from_secs(1));
    world.network.faults = Faults::CUT;
    // The client heard at 0 s, and counts 30 s · 0.99 / 1.01.
    world.run_for(Duration::from_millis(28_400));
    assert_eq!(world.told, [Told::Connected]);
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.told[1..], [Told::Lease(LeaseState::Jeopardy)]);
    world.network.faults = Faults::NONE;
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.told[2..], [Told::Lease(LeaseState::Safe)]);
    let begin = world.now;
    world.network.faults = Faults::CUT;
    world.run_until(|world| world.end().is_some());
    assert_eq!(world.told[3..], [Told::Lease(LeaseState::Jeopardy), Told::Ended(End::Expired)]);
    let whole = Duration::from_secs(75);
    assert!(world.now.since(begin) < whole && world.now.since(begin) > Duration::from_secs(60));
}

#[test]
fn calls_in_jeopardy_are_taken_and_answered_when_the_server_is_there_again() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    world.servers[0].keeps_for = Some(Duration::from_secs(60));
    let handle = world.open(b"/file", EventMask::NONE);
    world.network.faults = Faults::CUT;
    world.run_for(Duration::from_secs(35));
    assert_eq!(world.session.state(world.clock()), LeaseState::Jeopardy);
    let clock = world.clock();
    let request = world.session.put(clock, handle, b"late").unwrap();
    world.run_for(Duration::from_secs(5));
    world.network.faults = Faults::NONE;
    assert_eq!(world.answer(request), Ok(Came::Done));
    assert_eq!(world.session.state(world.clock()), LeaseState::Safe);
    assert_eq!(world.servers[0].name_space().executions().1, 1);
}

#[test]
fn calls_that_wait_when_the_session_expires_are_answered_before_its_end() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    world.network.faults = Faults::CUT;
    world.run_for(Duration::from_secs(40));
    let clock = world.clock();
    let request = world.session.nop(clock).unwrap();
    world.run_for(Duration::from_secs(600));
    let expected = [Told::Done(request, Err(Code::Timeout)), Told::Ended(End::Expired)];
    assert_eq!(world.told[2..], expected);
    assert_eq!(world.session.timeout(), None);
}

#[test]
fn the_renewal_counts_from_the_first_transmission_of_the_nop() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let granted = world.session.safe_until().unwrap();
    world.run_for(Duration::from_micros(9_997_000));
    world.network.faults = Faults::CUT;
    world.run_for(Duration::from_millis(400));
    assert_eq!(count(&world.sent, Op::Nop), 2, "at 10 s, and again at 10.25 s");
    world.network.faults = Faults::NONE;
    world.run_for(Duration::from_millis(500));
    assert_eq!(count(&world.sent, Op::Nop), 3, "at 10.75 s, under the same name");
    let renewed = world.session.safe_until().unwrap();
    assert_eq!(renewed, granted + Duration::from_secs(10));
}

/// One schedule of everything that can happen between a client and its servers.
fn anything<C: Client>(seed: u64) {
    let mut random = Random(seed);
    let mut world = with_two_servers::<C>(seed);
    // Both clocks 1 % off, each in its own direction, is a little less than 2 % between them.
    world.drift_ppm = random.below(39_801) as i64 - 19_801;
    let clock = world.clock();
    let mode = OpenMode::LOCK | OpenMode::CREATE;
    let _ = world.session.open(clock, b"/lock", mode, EventMask::UPDATED);
    world.run_for(Duration::from_secs(1));
    let handle = world.told.iter().find_map(|told| match told {
        Told::Done(_, Ok(Came::Opened(handle))) => Some(*handle),
        _ => None,
    });
    let mut handed = false;
    for _ in 0..12 {
        world.network.faults = Faults {
            loss: [0, 0, 30, 60, 100][random.below(5) as usize],
            duplication: random.below(30),
            corruption: random.below(10),
            delay: Duration::from_millis(random.below(8_000) * random.below(2)),
            jitter: Duration::from_millis(random.below(8_000) * random.below(2)),
        };
        match random.below(6) {
            0 => world.client.set_port(CLIENT.port() + random.below(5) as u16),
            1 => {
                let now = world.now;
                world.servers[usize::from(handed)].restart(now);
            }
            2 if !handed => {
                hand_over(&mut world);
                handed = true;
            }
            _ => {}
        }
        let clock = world.clock();
        let _ = world.session.nop(clock);
        if let Some(handle) = handle {
            let _ = world.session.lock(clock, handle, LockFlags::NONE, true);
        }
        world.watch(Duration::from_millis(random.below(20_000)), Extended::assert_lease_is_true);
        if world.end().is_some() {
            break;
        }
    }
    world.network.faults = Faults::CUT;
    world.watch(Duration::from_secs(200), Extended::assert_lease_is_true);
    assert!(world.end().is_some());
}

/// For every schedule of delays, losses, copies, changes of address, restarts and fail-overs, and any clocks within the
/// bound, the client's lease ends before the server's (failures.md 2, 22, 26).
#[test]
fn the_client_gives_up_before_the_server_whatever_happens() {
    for seed in 0..150 {
        anything::<SmallSession>(seed);
    }
    for seed in 1_000..1_020 {
        anything::<FullSession>(seed);
    }
}

#[test]
fn the_server_that_knows_the_session_no_more_ends_it_whatever_is_asked() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let sid = world.session.id();
    world.servers[0].forget(sid);
    // Nothing but the NOP that keeps it alive.
    world.run_for(Duration::from_secs(11));
    assert_eq!(world.end(), Some(End::Expired));
}
