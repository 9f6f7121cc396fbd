//! The lease: when it is renewed, when it is in doubt, and that the client gives up before the server does.

use cldc_core::lease::LeaseState;
use cldc_core::session::{End, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::{Code, Op};

use crate::support::bare::Bare;
use crate::support::client::{Client, Told};
use crate::support::name_space::done;
use crate::support::network::Faults;
use crate::support::our_server::OurServer;
use crate::support::peer::Peer;
use crate::support::random::Random;
use crate::support::world::World;

everywhere! {
    an_idle_session_lives_on
    the_client_gives_up_before_the_server_whatever_happens
    a_session_in_doubt_recovers_when_the_network_does
}

fn an_idle_session_lives_on<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 1, Faults::NONE);
    world.sent.clear();
    world.watch(Duration::from_secs(3_600), World::assert_lease_is_true);
    assert_eq!(world.told, [Told::Connected], "nothing was in doubt");
    // A NOP and its ACK every 20 s, and ACKs of PINGs.
    assert!(world.sent.len() < 180 * 4, "{} datagrams in an hour", world.sent.len());
}

/// Over any schedule of losses and delays, and any clocks within the bound (failures 2, 22, 26).
fn the_client_gives_up_before_the_server_whatever_happens<C: Client, P: Peer>(server: fn(u64) -> P) {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut world = World::<C, P>::connected(server(seed), seed, Faults::NONE);
        // Both clocks 1 % off, each in its own direction, is a little less than 2 % between them.
        world.drift_ppm = random.below(39_801) as i64 - 19_801;
        for _ in 0..8 {
            world.network.faults = Faults {
                loss: random.below(101),
                duplication: random.below(30),
                corruption: random.below(10),
                delay: Duration::from_millis(random.below(20_000)),
                jitter: Duration::from_millis(random.below(20_000)),
            };
            world.watch(Duration::from_secs(random.below(60)), World::assert_lease_is_true);
            let clock = world.clock();
            let _ = world.session.nop(clock);
        }
        world.network.faults = Faults::CUT;
        world.watch(Duration::from_secs(200), World::assert_lease_is_true);
        assert_eq!(world.end(), Some(End::Expired));
        assert!(world.told.ends_with(&[Told::Ended(End::Expired)]));
    }
}

fn a_session_in_doubt_recovers_when_the_network_does<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 1, Faults::NONE);
    world.run_for(Duration::from_secs(10));
    world.network.faults = Faults::CUT;
    // The server heard the client last at 0 s, and a NOP at 20 s and all its copies are lost until 58.9 s.
    world.run_for(Duration::from_micros(48_900_000));
    assert_eq!(world.told[1..], [Told::Lease(LeaseState::Jeopardy)]);
    world.network.faults = Faults::NONE;
    // A copy of the NOP leaves every four seconds; the server has ended the session by then, or it has not.
    world.run_for(Duration::from_secs(10));
    let kept = world.servers[0].keeps(world.session.id());
    let expected = if kept { Told::Lease(LeaseState::Safe) } else { Told::Ended(End::Expired) };
    assert_eq!(world.told[2..], [expected]);
}

#[test]
fn the_lease_counts_from_the_first_transmission_of_the_request_answered() {
    let mut bare = Bare::<SmallSession>::connected(1);
    let granted = bare.session.safe_until().unwrap();
    bare.wait(Duration::from_secs(5));
    let now = bare.now;
    bare.session.nop(now).unwrap();
    let request = bare.only_sent();
    // It is sent again, and answered late.
    for _ in 0..10 {
        bare.wait(Duration::from_secs(4));
        bare.sent();
        bare.told();
    }
    bare.say(done(Op::Nop, request.xid(), Code::Ok)).unwrap();
    assert_eq!(bare.session.safe_until(), Some(granted + Duration::from_secs(5)));
}

#[test]
fn an_answer_that_is_late_or_comes_twice_does_not_change_the_lease() {
    let mut bare = Bare::<SmallSession>::connected(1);
    let now = bare.now;
    bare.session.nop(now).unwrap();
    let early = bare.only_sent();
    bare.wait(Duration::from_secs(6));
    let now = bare.now;
    bare.session.nop(now).unwrap();
    let late = bare.sent().pop().unwrap();
    bare.say(done(Op::Nop, late.xid(), Code::Ok)).unwrap();
    bare.told();
    let granted = bare.session.safe_until();
    bare.say(done(Op::Nop, early.xid(), Code::Ok)).unwrap();
    assert_eq!(bare.told().len(), 1);
    bare.say(done(Op::Nop, late.xid(), Code::Ok)).unwrap();
    assert_eq!(bare.told(), []);
    assert_eq!(bare.session.safe_until(), granted);
}

#[test]
fn a_nop_leaves_at_a_third_of_the_lease_and_the_states_are_told_at_their_times() {
    let mut bare = Bare::<SmallSession>::connected(1);
    let begin = bare.now;
    let at = |micros: u64| begin + Duration::from_micros(micros);
    assert_eq!(bare.session.timeout(), Some(at(20_000_000)));
    bare.now = at(19_999_999);
    bare.session.handle_timeout(bare.now);
    assert_eq!(bare.sent(), []);
    bare.wait(Duration::from_micros(1));
    assert_eq!(bare.only_sent().part.op(), Some(Op::Nop));
    assert_eq!(bare.session.state(at(58_811_880)), LeaseState::Safe);
    let mut seen = Vec::new();
    while let Some(timeout) = bare.session.timeout() {
        assert!(timeout > bare.now, "no timer fires twice at the same time");
        bare.now = timeout;
        bare.session.handle_timeout(timeout);
        for told in bare.told() {
            seen.push((timeout.since(begin).as_micros(), told));
        }
        assert!(bare.sent().len() <= 1);
    }
    // 60 s · 0.99 / 1.01, and 45 s later.
    let expected =
        [(58_811_881, Told::Lease(LeaseState::Jeopardy)), (103_811_881, Told::Ended(End::Expired))];
    assert_eq!(seen, expected);
}

#[test]
fn expiry_and_a_resend_due_at_the_same_time_both_happen() {
    let mut bare = Bare::<SmallSession>::connected(1);
    let now = bare.now;
    let request = bare.session.nop(now).unwrap();
    bare.sent();
    // Nothing was called for hours: a suspended machine.
    bare.wait(Duration::from_secs(7_200));
    assert_eq!(bare.told(), [Told::Done(request, Err(Code::Timeout)), Told::Ended(End::Expired)]);
    assert_eq!((bare.sent(), bare.session.timeout()), (Vec::new(), None));
    assert_eq!(bare.session.state(bare.now), LeaseState::Expired);
}

#[test]
fn calls_are_answered_before_the_end_is_told_and_nothing_follows() {
    let mut world = World::<SmallSession, OurServer>::connected(OurServer::new(1), 1, Faults::NONE);
    world.network.faults = Faults::CUT;
    let clock = world.clock();
    let request = world.session.nop(clock).unwrap();
    world.run_for(Duration::from_secs(600));
    let expected = [
        Told::Connected,
        Told::Lease(LeaseState::Jeopardy),
        Told::Done(request, Err(Code::Timeout)),
        Told::Ended(End::Expired),
    ];
    assert_eq!(world.told, expected);
}
