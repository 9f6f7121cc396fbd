//! Extended sessions: negotiation, lease, pipelining and acknowledgements (docs/protocol.md 7.1 to 7.3).

use cldc_core::time::Duration;
use cldc_core::wire::extended::{Features, Sequencer};
use cldc_core::wire::{Code, EventMask, LockFlags, Request};

use crate::extended_peer::Grant;
use crate::world::World;

#[test]
fn an_extended_session_opens_writes_and_reads() {
    let mut world = World::new();
    let peer = world.extend(1);
    let welcome = world.extended[peer].welcome.clone().unwrap();
    assert_eq!((welcome.version, welcome.features), (1, Features::FENCING));
    assert_eq!((welcome.epoch, welcome.lease_ms, welcome.grace_ms), (1, 30_000, 45_000));
    assert_eq!((welcome.window, welcome.max_message, welcome.requests), (64, 196_608, 64));
    let fh = world.handle(peer, b"/file", EventMask::UPDATED);
    assert_eq!(world.says(peer, &Request::Put { fh, data: b"hello" }), Code::Ok);
    let said = world.answer(peer, &Request::Get { fh });
    assert!(said.body.windows(5).any(|bytes| bytes == b"hello"));
    assert_eq!(world.extended[peer].events.len(), 1);
    world.run(Duration::from_secs(20));
    assert_eq!(world.extended[peer].unacknowledged.len(), 0);
}

#[test]
fn a_keepalive_is_answered_at_once_with_the_epoch_and_costs_no_log_entry() {
    let mut world = World::new();
    let peer = world.extend(1);
    let entries = world.entries();
    for number in 1..=100 {
        let packet = world.extended[peer].keepalive(number, 5000 + number);
        world.inject(world.extended[peer].addr, packet);
        world.run(Duration::from_secs(10));
        assert_eq!(world.extended[peer].alive.last(), Some(&(number, 5000 + number, 1)));
    }
    assert_eq!(world.entries(), entries);
    assert!(world.node.database().session(1).is_some());
    assert_eq!(world.node.status().endpoint.keepalives, 100);
}

#[test]
fn a_write_with_the_sequencer_of_a_lock_that_was_handed_over_is_refused() {
    let mut world = World::new();
    let (one, other) = (world.extend(1), world.extend(2));
    let lock = world.handle(one, b"/lock", EventMask::NONE);
    let data = world.handle(one, b"/data", EventMask::NONE);
    let wanted = world.handle(other, b"/lock", EventMask::NONE);
    let request = Request::Lock { fh: lock, flags: LockFlags::NONE, wait: true };
    let said = world.answer(one, &request);
    let old = Grant::of(&Sequencer::of(&said.body).unwrap());
    assert_eq!((old.generation, old.path.as_slice()), (1, b"/lock".as_slice()));
    assert_eq!(
        world.says(other, &Request::Lock { fh: wanted, flags: LockFlags::NONE, wait: true }),
        Code::LockPending
    );
    let fenced = |data_fh| Request::PutFenced { sequencer: old.sequencer(), fh: data_fh, data: b"x" };
    assert_eq!(world.says(one, &fenced(data)), Code::Ok);
    assert_eq!(world.says(one, &Request::CheckSequencer { sequencer: old.sequencer() }), Code::Ok);
    assert_eq!(world.says(one, &Request::Unlock { fh: lock }), Code::Ok);
    let event = world.extended[other].events[0].clone();
    let new = event.granted.unwrap();
    assert_eq!((event.fh, event.events, new.generation), (wanted, EventMask::LOCKED, 2));
    let version = world.node.database().stat(b"/data").unwrap().version;
    assert_eq!(world.says(one, &fenced(data)), Code::Stale);
    assert_eq!(
        world.says(one, &Request::DelFenced { sequencer: old.sequencer(), path: b"/data" }),
        Code::Stale
    );
    assert_eq!(world.says(one, &Request::CheckSequencer { sequencer: old.sequencer() }), Code::Stale);
    assert_eq!(world.says(one, &Request::GetSequencer { fh: lock }), Code::LockInval);
    assert_eq!(world.node.database().stat(b"/data").unwrap().version, version);
    let said = world.answer(other, &Request::GetSequencer { fh: wanted });
    assert_eq!(Grant::of(&Sequencer::of(&said.body).unwrap()), new);
    assert_eq!(world.says(one, &Request::DelFenced { sequencer: new.sequencer(), path: b"/data" }), Code::Ok);
}

#[test]
fn a_session_goes_on_from_another_address_and_requests_in_flight_are_executed_once() {
    let mut world = World::new();
    let peer = world.extend(1);
    let fh = world.handle(peer, b"/f", EventMask::NONE);
    world.deaf = true;
    let puts: Vec<u64> = (0..10u8).map(|at| world.ask(peer, &Request::Put { fh, data: &[at] })).collect();
    world.run(Duration::from_millis(20));
    assert_eq!(world.node.database().stat(b"/f").unwrap().version, 11);
    world.deaf = false;
    world.extended[peer].addr.set_port(30_000);
    world.resume(peer);
    assert_eq!(world.extended[peer].resumed, 1);
    world.run(Duration::from_millis(50));
    for put in puts {
        let answers = world.extended[peer].answers(put);
        assert_eq!((answers.len(), answers[0].code), (1, Code::Ok));
    }
    assert_eq!(world.node.database().stat(b"/f").unwrap().version, 11);
}
