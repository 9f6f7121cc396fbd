//! Sessions that go on from another address, at another server, or after a restart.

use cldc_core::session::{End, FullSession, LockState, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::extended::Standing;
use cldc_core::wire::{EventMask, LockFlags, Op, OpenMode, Packet, Part};

use super::{Extended, connected, count, hand_over};
use crate::support::client::{Came, Client, Told};
use crate::support::extended_server::ExtendedServer;
use crate::support::network::{Faults, Flight};
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

#[test]
fn both_streams_begin_with_fresh_numbers_and_the_requests_keep_their_names() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    let clock = world.clock();
    world.session.put(clock, handle, b"x").unwrap();
    world.network.faults = Faults::CUT;
    world.run_for(Duration::from_millis(10));
    let before = last(&world.sent, Op::Put);
    let theirs = Packet::parse(&world.received.last().unwrap().bytes).unwrap().number;
    world.client.set_port(50_000);
    world.network.faults = Faults::NONE;
    world.run_for(Duration::from_secs(2));
    let (resume, after) = (last(&world.sent, Op::Resume), last(&world.sent, Op::Put));
    assert_eq!(after.0, before.0, "the xid");
    assert_eq!(after.1, resume.1.wrapping_add(1), "the new stream begins after the RESUME");
    assert_ne!(after.1, before.1);
    let distance = Packet::parse(&world.received.last().unwrap().bytes).unwrap().number.wrapping_sub(theirs);
    assert!(distance > 1 << 20 && distance < u64::MAX - (1 << 20), "the server's, too");
}

/// The xid and the number of the packet sent last with this operation.
fn last(sent: &[Flight], op: Op) -> (u64, u64) {
    let packets = sent.iter().rev().map(|sent| Packet::parse(&sent.bytes).unwrap());
    let named = packets.filter_map(|packet| match packet.part {
        Part::Only { xid, op: found } if found == op => Some((xid, packet.number)),
        _ => None,
    });
    named.into_iter().next().unwrap()
}

#[test]
fn packets_of_streams_that_are_over_change_nothing() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::UPDATED);
    assert_eq!(world.call(|session, now| session.put(now, handle, b"x")), Ok(Came::Done));
    world.run_for(Duration::from_secs(15));
    let now = world.now;
    world.servers[0].restart(now);
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
    world.run_for(Duration::from_secs(1));
    let recorded = world.received.clone();
    let end = recorded.iter().rposition(|flight| is(flight, Op::Resume)).unwrap();
    let granted = world.session.safe_until();
    world.told.clear();
    world.sent.clear();
    let clock = world.clock();
    for flight in &recorded[..end] {
        let taken = world.session.handle_datagram(clock, flight.from, &flight.bytes);
        // But for hints, which are not of a stream, and the greeting, which is known.
        assert!(taken.is_err() || !is_flagged(flight), "{taken:?}");
    }
    world.drain();
    assert_eq!((world.told.len(), world.session.safe_until()), (0, granted));
    assert!(world.sent.len() <= 2, "an acknowledgement, a RESUME: {}", world.sent.len());
}

#[test]
fn a_recorded_answer_to_an_earlier_resume_does_not_disturb_a_later_one() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let restart = |world: &mut Extended<SmallSession>| {
        world.run_for(Duration::from_secs(2));
        let now = world.now;
        world.servers[0].restart(now);
    };
    restart(&mut world);
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
    let is_answer = |flight: &&Flight| is(flight, Op::Resume) && is_flagged(flight);
    let recorded = world.received.iter().find(is_answer).unwrap().clone();
    restart(&mut world);
    let clock = world.clock();
    let request = world.session.nop(clock).unwrap();
    // The hint, a RESUME, the challenge, and a RESUME with it.
    let sent = count(&world.sent, Op::Resume);
    world.run_until(|world| count(&world.sent, Op::Resume) == sent + 2);
    let (clock, begin) = (world.clock(), world.now);
    // As long as the present stream stands, it is a packet of it that comes twice.
    world.session.handle_datagram(clock, recorded.from, &recorded.bytes).unwrap();
    assert_eq!(world.answer(request), Ok(Came::Done));
    assert!(world.now.since(begin) < Duration::from_millis(20), "without waiting for a timer");
}

#[test]
fn a_new_epoch_is_learnt_from_the_answer_to_a_nop() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    world.servers[0].replica.as_mut().unwrap().epoch = 9;
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.told, [Told::Connected, Told::Failover(9)]);
    assert_eq!(world.session.current_epoch(), Some(9));
}

fn is(flight: &Flight, op: Op) -> bool {
    Packet::parse(&flight.bytes).unwrap().part.op() == Some(op)
}

fn is_flagged(flight: &Flight) -> bool {
    Packet::parse(&flight.bytes).unwrap().rider.is_some()
}

#[test]
fn hints_are_followed_at_most_once_a_second() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    world.run_for(Duration::from_secs(2));
    let (sid, to) = (world.session.id(), world.client);
    world.sent.clear();
    for _ in 0..400 {
        world.servers[0].hint(sid, 17, 4, to);
        world.run_for(Duration::from_millis(25));
    }
    // Each costs a RESUME without the cookie, and one with it.
    let resumes = count(&world.sent, Op::Resume);
    assert!((18..=22).contains(&resumes), "{resumes} in ten seconds");
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
}

#[test]
fn a_server_that_hints_and_never_resumes_is_not_asked_in_haste() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    world.servers[0].keeps_for = Some(Duration::from_secs(600));
    // Whatever the client does, the server has forgotten its streams a moment later.
    world.servers[0].forgets = true;
    let clock = world.clock();
    world.session.nop(clock).unwrap();
    world.run_for(Duration::from_secs(20));
    assert!(world.sent.len() < 200, "{} datagrams in 20 s", world.sent.len());
}

#[test]
fn handles_that_stand_no_more_are_told_as_deleted_once_and_locks_follow_the_server() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let gone = world.open(b"/gone", EventMask::NONE);
    let lost = world.open(b"/lost", EventMask::NONE);
    let waiting = world.open(b"/waiting", EventMask::NONE);
    for handle in [gone, lost] {
        let lock = |session: &mut SmallSession, now| session.lock(now, handle, LockFlags::NONE, true);
        assert!(matches!(world.call(lock), Ok(Came::Locked(_))));
    }
    world.servers[0].name_space().stranger_locks(b"/waiting");
    let queue = |session: &mut SmallSession, now| session.lock(now, waiting, LockFlags::NONE, true);
    assert_eq!(world.call(queue), Ok(Came::LockPending));
    world.run_for(Duration::from_secs(1));
    let sid = world.session.id();
    // While the server is away, one file is deleted, one lock is lost, and one is granted.
    let now = world.now;
    world.servers[0].restart(now);
    let space = world.servers[0].name_space();
    space.vanish(b"/gone");
    space.let_go(b"/lost", sid);
    for (sid, fh, events) in space.stranger_unlocks(b"/waiting") {
        world.servers[0].tell(now, sid, fh, events);
    }
    world.told.clear();
    for _ in 0..2 {
        assert_eq!(world.call(Client::nop), Ok(Came::Done));
        world.run_for(Duration::from_secs(2));
        let now = world.now;
        world.servers[0].restart(now);
    }
    let mut events = world.events();
    events.sort_by_key(|(handle, _)| *handle);
    assert_eq!(events, [(gone, EventMask::DELETED), (waiting, EventMask::LOCKED)]);
    let locks = [gone, lost, waiting].map(|handle| world.session.lock_of(handle));
    assert_eq!(locks, [LockState::Free, LockState::Free, LockState::Held]);
}

#[test]
fn what_is_asked_of_a_lock_while_the_session_resumes_is_answered_and_not_overruled() {
    for executed in [false, true] {
        let mut world = connected::<SmallSession>(1, Faults::NONE);
        let handle = world.open(b"/lock", EventMask::NONE);
        world.run_for(Duration::from_secs(1));
        let clock = world.clock();
        let request = world.session.lock(clock, handle, LockFlags::NONE, true).unwrap();
        world.drain();
        if executed {
            // The request gets there, and its answer is lost.
            world.network.faults = Faults::CUT;
            world.run_for(Duration::from_millis(5));
            world.network.faults = Faults::NONE;
            assert_eq!(world.servers[0].name_space().stands(world.session.id())[0].lock, Standing::Held);
        }
        let now = world.now;
        world.servers[0].restart(now);
        assert!(matches!(world.answer(request), Ok(Came::Locked(Some(_)))), "{executed}");
        assert_eq!(world.session.lock_of(handle), LockState::Held);
        assert_eq!(world.servers[0].name_space().executions().1, 1);
    }
}

#[test]
fn a_lock_that_was_granted_before_its_caller_knew_that_it_waits_is_told() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let handle = world.open(b"/lock", EventMask::NONE);
    world.servers[0].name_space().stranger_locks(b"/lock");
    let clock = world.clock();
    let request = world.session.lock(clock, handle, LockFlags::NONE, true).unwrap();
    lose_answers(&mut world);
    for (sid, fh, events) in world.servers[0].name_space().stranger_unlocks(b"/lock") {
        let now = world.now;
        world.servers[0].tell(now, sid, fh, events);
    }
    assert_eq!(world.answer(request), Ok(Came::LockPending));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.events(), [(handle, EventMask::LOCKED)]);
    assert_eq!(world.session.lock_of(handle), LockState::Held);
}

#[test]
fn a_handle_that_was_closed_while_the_server_went_away_is_not_told_as_deleted() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::DELETED);
    let clock = world.clock();
    let request = world.session.close(clock, handle).unwrap();
    lose_answers(&mut world);
    assert_eq!(world.answer(request), Ok(Came::Done));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.events(), []);
}

/// What has been asked is executed, nothing of that gets back, and the server starts again.
fn lose_answers<C: Client>(world: &mut Extended<C>) {
    world.drain();
    world.network.faults = Faults::CUT;
    world.run_for(Duration::from_millis(5));
    world.network.faults = Faults::NONE;
    let now = world.now;
    world.servers[0].restart(now);
}

#[test]
fn an_open_whose_answer_was_lost_gives_its_handle_after_the_events_of_it() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    world.run_for(Duration::from_secs(1));
    let mode = OpenMode::READ | OpenMode::CREATE;
    let clock = world.clock();
    let names = [&b"/one"[..], b"/two"];
    let requests = names.map(|path| world.session.open(clock, path, mode, EventMask::UPDATED).unwrap());
    // They are executed, and nothing of that gets back; then each file changes.
    lose_answers(&mut world);
    let now = world.now;
    assert_eq!(world.servers[0].name_space().open_handles(), 2);
    for path in names {
        for (sid, fh, events) in world.servers[0].name_space().write(path, b"x") {
            world.servers[0].tell(now, sid, fh, events);
        }
    }
    world.told.clear();
    let opened = requests.map(|request| match world.answer(request) {
        Ok(Came::Opened(handle)) => handle,
        other => panic!("{other:?}"),
    });
    world.run_for(Duration::from_secs(1));
    let mut events = world.events();
    events.sort_by_key(|(handle, _)| *handle);
    assert_eq!(events, opened.map(|handle| (handle, EventMask::UPDATED)));
}

#[test]
fn a_long_list_of_handles_comes_in_pieces_through_a_rough_network() {
    for seed in 0..10 {
        let mut world = connected::<FullSession>(seed, Faults::NONE);
        let handles: Vec<_> =
            (0..250).map(|index| world.open(format!("/{index}").as_bytes(), EventMask::NONE)).collect();
        world.servers[0].name_space().vanish(b"/249");
        world.network.faults = Faults::ROUGH;
        world.client.set_port(50_000);
        assert_eq!(world.call(|session, now| session.put(now, handles[0], b"x")), Ok(Came::Done));
        assert_eq!(world.events(), [(handles[249], EventMask::DELETED)], "seed {seed}");
    }
}

#[test]
fn the_end_of_a_session_gets_through_a_restart() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    world.run_for(Duration::from_secs(1));
    let clock = world.clock();
    world.session.end(clock).unwrap();
    let now = world.now;
    world.servers[0].restart(now);
    world.run_until(|world| world.end().is_some());
    assert_eq!(world.end(), Some(End::Closed));
}
