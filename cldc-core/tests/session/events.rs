//! What the server tells without being asked: events, locks granted, and the acknowledgement of all of it.

use cldc_core::session::{Handle, LockState, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::{Answer, Code, EventMask, LockFlags, Op, OpenMode};

use crate::support::bare::Bare;
use crate::support::client::{Came, Client, Told};
use crate::support::name_space::{done, emit};
use crate::support::network::Faults;
use crate::support::peer::Peer;
use crate::support::world::World;

everywhere! {
    a_change_is_told_once_to_the_handle_that_asked
    the_event_before_the_answer_to_its_open_is_told_after_it
    a_lock_that_is_waited_for_is_granted_by_an_event
    a_repeated_grant_is_told_once
    an_application_that_does_not_take_its_events_loses_none
}

fn a_change_is_told_once_to_the_handle_that_asked<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 1, Faults::NONE);
    let silent = world.open(b"/silent", EventMask::NONE);
    let handle = world.open(b"/silent", EventMask::UPDATED);
    assert_eq!(world.call(|session, now| session.put(now, silent, b"x")), Ok(Came::Done));
    // An event that is not acknowledged would come again, every five seconds.
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.events(), [(handle, EventMask::UPDATED)]);
}

fn the_event_before_the_answer_to_its_open_is_told_after_it<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 1, Faults::NONE);
    let handle = world.open(b"/new", EventMask::UPDATED);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.events(), [(handle, EventMask::UPDATED)]);
    assert!(matches!(world.told[1], Told::Done(_, Ok(Came::Opened(_)))), "{:?}", world.told);
}

fn a_lock_that_is_waited_for_is_granted_by_an_event<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 1, Faults::NONE);
    world.servers[0].name_space().stranger_locks(b"/lock");
    let handle = world.open(b"/lock", EventMask::NONE);
    let queue = |session: &mut C, now| session.lock(now, handle, LockFlags::NONE, true);
    assert_eq!(world.call(queue), Ok(Came::LockPending));
    assert_eq!(world.session.lock_of(handle), LockState::Waiting);
    let told = world.servers[0].name_space().stranger_unlocks(b"/lock");
    for (sid, fh, events) in told {
        let now = world.now;
        world.servers[0].tell(now, sid, fh, events);
    }
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.events(), [(handle, EventMask::LOCKED)]);
    assert_eq!(world.session.lock_of(handle), LockState::Held);
    assert_eq!(world.call(|session, now| session.unlock(now, handle)), Ok(Came::Done));
    assert_eq!(world.session.lock_of(handle), LockState::Free);
}

fn a_repeated_grant_is_told_once<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 1, Faults::NONE);
    world.servers[0].name_space().stranger_locks(b"/lock");
    let handle = world.open(b"/lock", EventMask::NONE);
    let queue = |session: &mut C, now| session.lock(now, handle, LockFlags::NONE, true);
    assert_eq!(world.call(queue), Ok(Came::LockPending));
    let (now, sid) = (world.now, world.session.id());
    for _ in 0..3 {
        world.servers[0].tell(now, sid, handle.0, EventMask::LOCKED);
    }
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.events(), [(handle, EventMask::LOCKED)]);
    assert_eq!(world.call(|session, now| session.unlock(now, handle)), Ok(Came::Done));
    // The server starts again, and does not know that the lock has been released in the meantime.
    let now = world.now;
    world.servers[0].tell(now, sid, handle.0, EventMask::LOCKED | EventMask::UPDATED);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.events()[1..], [(handle, EventMask::UPDATED)]);
    assert_eq!(world.session.lock_of(handle), LockState::Free);
}

fn an_application_that_does_not_take_its_events_loses_none<C: Client, P: Peer>(server: fn(u64) -> P) {
    let mut world = World::<C, P>::connected(server(1), 1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    world.drains = false;
    let clock = world.clock();
    let reading = world.session.get(clock, handle).unwrap();
    let (now, sid) = (world.now, world.session.id());
    for bits in 1..=10 {
        world.servers[0].tell(now, sid, handle.0, EventMask(bits << 8));
    }
    world.run_for(Duration::from_secs(12));
    world.drains = true;
    assert!(matches!(world.answer(reading), Ok(Came::Contents { .. })));
    world.run_for(Duration::from_secs(60));
    let bits: Vec<u32> = world.events().iter().map(|(_, events)| events.0 >> 8).collect();
    assert_eq!(bits, (1..=10).collect::<Vec<u32>>());
}

fn event(fh: u64, events: EventMask) -> (Op, Vec<u8>) {
    emit(Answer::Event { fh, events })
}

#[test]
fn pings_events_and_answers_are_acknowledged_each_with_its_number() {
    let mut bare = Bare::<SmallSession>::connected(u64::MAX);
    let handle = bare.open(2);
    bare.say((Op::Ping, Vec::new())).unwrap();
    assert_eq!(bare.acks(), [1], "the numbers have wrapped");
    bare.say(event(2, EventMask::UPDATED)).unwrap();
    assert_eq!(bare.told(), [Told::Handle(handle, EventMask::UPDATED)]);
    bare.say(event(99, EventMask::UPDATED)).unwrap();
    assert_eq!(bare.told(), [], "an unknown handle is nobody's");
    assert_eq!(bare.acks(), [2, 3]);
    // Duplicates are acknowledged again, and told no more.
    for number in [3, 1] {
        bare.say_at(number, event(2, EventMask::UPDATED)).unwrap();
    }
    assert_eq!(bare.told(), []);
    assert_eq!(bare.acks(), [3, 1]);
    // What comes early is not acknowledged before it can be taken.
    assert!(bare.say_at(5, event(2, EventMask::UPDATED)).is_err());
    assert_eq!(bare.acks(), []);
}

#[test]
fn events_before_the_answer_are_merged_and_those_of_a_refused_open_are_forgotten() {
    let mut bare = Bare::<SmallSession>::connected(100);
    let now = bare.now;
    bare.session.open(now, b"/a", OpenMode::READ, EventMask::UPDATED).unwrap();
    let request = bare.only_sent();
    bare.say(event(7, EventMask::UPDATED)).unwrap();
    bare.say(event(7, EventMask::DELETED)).unwrap();
    assert_eq!(bare.told(), []);
    bare.say(emit(Answer::Opened { xid: request.xid(), fh: 7 })).unwrap();
    let told = bare.told();
    assert!(matches!(told[0], Told::Done(_, Ok(Came::Opened(Handle(7))))), "{told:?}");
    assert_eq!(told[1..], [Told::Handle(Handle(7), EventMask::UPDATED | EventMask::DELETED)]);

    bare.acks();
    bare.session.open(now, b"/b", OpenMode::READ, EventMask::UPDATED).unwrap();
    let request = bare.only_sent();
    bare.say(event(8, EventMask::UPDATED)).unwrap();
    bare.say(done(Op::Open, request.xid(), Code::NameInval)).unwrap();
    assert_eq!(bare.told().len(), 1);
    bare.acks();
    bare.open(8);
    assert_eq!(bare.told(), []);
}

#[test]
fn a_grant_that_overtakes_its_pending_answer_is_a_grant() {
    let mut bare = Bare::<SmallSession>::connected(100);
    let handle = bare.open(2);
    let now = bare.now;
    bare.session.lock(now, handle, LockFlags::NONE, true).unwrap();
    let request = bare.only_sent();
    bare.say(event(2, EventMask::LOCKED)).unwrap();
    assert_eq!(bare.told(), [Told::Handle(handle, EventMask::LOCKED)]);
    bare.say(done(Op::Lock, request.xid(), Code::LockPending)).unwrap();
    bare.told();
    assert_eq!(bare.session.lock_of(handle), LockState::Held);
}

#[test]
fn an_event_that_comes_again_under_another_number_is_told_once() {
    let mut bare = Bare::<SmallSession>::connected(100);
    let handle = bare.open(2);
    for xid in 1..=16 {
        bare.say_named(xid, bare.next, event(2, EventMask::UPDATED)).unwrap();
        bare.next += 1;
        assert_eq!(bare.told(), [Told::Handle(handle, EventMask::UPDATED)]);
    }
    // The server begins its numbers anew, with all whose acknowledgements it missed.
    bare.say_at(7_000, done(Op::NewSess, 0, Code::Ok)).unwrap();
    bare.acks();
    for xid in 1..=16 {
        bare.say_named(xid, 7_000 + xid, event(2, EventMask::UPDATED)).unwrap();
    }
    assert_eq!(bare.told(), []);
    assert_eq!(bare.acks(), (7_001..=7_016).collect::<Vec<u64>>());
    bare.say_named(17, 7_017, event(2, EventMask::DELETED)).unwrap();
    assert_eq!(bare.told(), [Told::Handle(handle, EventMask::DELETED)]);
}
