//! What the two sides agree on when a session begins, whatever their versions.

use cldc_core::session::{CallError, FullSession, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::extended::{Features, HELLO_PACKET, Sequencer, VERSION};
use cldc_core::wire::{Code, EventMask, LockFlags, Op, Packet};

use super::Extended;
use crate::support::client::{Came, Client, Told};
use crate::support::extended_server::ExtendedServer;
use crate::support::hail_server::HailServer;
use crate::support::network::Faults;
use crate::support::our_server::OurServer;
use crate::support::peer::Peer;
use crate::support::world::{World, server};

#[test]
fn a_server_that_welcomes_makes_the_session_extended_with_what_both_have() {
    let mut granting = ExtendedServer::new(1);
    granting.welcome.lease_ms = 20_000;
    granting.welcome.servers.extend([server(0), server(3)]);
    let mut world = Extended::<SmallSession>::connected(granting, 1, Faults::NONE);
    assert!(world.session.extended());
    assert_eq!(world.session.current_epoch(), Some(7));
    let terms = world.session.lease_terms().unwrap();
    assert_eq!((terms.lease, terms.grace), (Duration::from_secs(20), Duration::from_secs(45)));
    let hello = world.servers[0].hellos[0];
    assert_eq!((hello.version, hello.features, hello.lease_ms), (VERSION, Features::FENCING, 30_000));
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
    let handle = world.open(b"/file", EventMask::NONE);
    assert_eq!(world.call(|session, now| session.put(now, handle, b"contents")), Ok(Came::Done));
    let clock = world.clock();
    world.session.end(clock).unwrap();
    world.run_until(|world| world.end().is_some());
    assert_eq!(world.servers[0].foreign, 0);
}

/// Of a NEW_SESS that asks for an extended session, a plain server sees bytes after a complete body.
#[test]
fn a_plain_server_gives_a_plain_session_with_its_sixty_seconds() {
    fn run<P: Peer>(server: P) {
        let mut world = World::<FullSession, P>::connected(server, 1, Faults::NONE);
        assert_eq!(world.sent[0].bytes.len(), HELLO_PACKET);
        assert!(!world.session.extended());
        assert_eq!(world.session.current_epoch(), None);
        let terms = world.session.lease_terms().unwrap();
        assert_eq!((terms.lease, terms.grace), (Duration::from_secs(60), Duration::from_secs(45)));
        let handle = world.open(b"/file", EventMask::NONE);
        let lock = |session: &mut FullSession, now| session.lock(now, handle, LockFlags::NONE, true);
        assert_eq!(world.call(lock), Ok(Came::Locked(None)));
        let clock = world.clock();
        let sequencer = Sequencer { inode: 1, generation: 1, mode: LockFlags::NONE, path: b"/file" };
        let refused = Err(CallError::Unsupported);
        assert_eq!(world.session.get_sequencer(clock, handle), refused);
        assert_eq!(world.session.check_sequencer(clock, &sequencer), refused);
        assert_eq!(world.session.put_fenced(clock, handle, &sequencer, b""), refused);
        assert_eq!(world.session.del_fenced(clock, b"/file", &sequencer), refused);
        assert!(world.sent.iter().all(|sent| Packet::parse(&sent.bytes).unwrap().rider.is_none()));
    }
    run(OurServer::new(1));
    run(HailServer::new(1));
}

#[test]
fn a_client_that_does_not_ask_gets_a_plain_session() {
    let mut world = World::<SmallSession, _>::with(vec![OurServer::new(1)], 1, Faults::NONE, |config| {
        config.extended = false;
    });
    world.run_until(|world| world.told == [Told::Connected]);
    assert!(Packet::parse(&world.sent[0].bytes).unwrap().piece.is_empty());
    // Even what looks like a welcome does not make it extended: it may be chance.
    let mut pushy = ExtendedServer::new(1);
    pushy.is_pushy = true;
    let mut world = World::<SmallSession, _>::with(vec![pushy], 1, Faults::NONE, |config| {
        config.extended = false;
    });
    world.run_until(|world| world.told == [Told::Connected]);
    assert!(!world.session.extended());
}

#[test]
fn a_newer_server_with_unknown_features_and_trailing_bytes_is_understood() {
    let mut newer = ExtendedServer::new(1);
    newer.welcome.version = VERSION + 5;
    newer.welcome.features = Features(0xffff_ffff);
    newer.trailing = 100;
    let mut world = Extended::<SmallSession>::connected(newer, 1, Faults::NONE);
    assert!(world.session.extended());
    let handle = world.open(b"/file", EventMask::NONE);
    assert_eq!(world.call(|session, now| session.get_sequencer(now, handle)), Err(Code::LockInval));
}

#[test]
fn a_server_without_fencing_is_not_asked_for_sequencers() {
    let mut without = ExtendedServer::new(1);
    without.welcome.features = Features::NONE;
    let mut world = Extended::<SmallSession>::connected(without, 1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    let clock = world.clock();
    assert_eq!(world.session.get_sequencer(clock, handle), Err(CallError::Unsupported));
    let lock = |session: &mut SmallSession, now| session.lock(now, handle, LockFlags::NONE, true);
    assert_eq!(world.call(lock), Ok(Came::Locked(None)));
}

#[test]
fn a_lease_that_makes_no_sense_is_never_trusted_for_longer_than_it_was_granted() {
    for (granted, expected) in [(0, 0), (500, 500), (601_000, 600_000), (u32::MAX, 600_000)] {
        let mut odd = ExtendedServer::new(1);
        odd.welcome.lease_ms = granted;
        odd.keeps_for = Some(Duration::from_secs(3_600));
        let mut world = Extended::<SmallSession>::new(vec![odd], 1, Faults::NONE);
        world.run_for(Duration::from_millis(3));
        let lease = world.session.lease_terms().unwrap().lease;
        assert_eq!(lease, Duration::from_millis(expected));
        world.run_for(Duration::from_millis(10_000));
        assert!(world.sent.len() < 200, "{} datagrams", world.sent.len());
    }
}

#[test]
fn xids_count_up_by_one_from_that_of_new_sess_and_each_request_is_one_packet() {
    let mut world = Extended::<FullSession>::connected(ExtendedServer::new(1), 1, Faults::NONE);
    for _ in 0..5 {
        assert_eq!(world.call(Client::nop), Ok(Came::Done));
    }
    let xids: Vec<u64> = world
        .sent
        .iter()
        .filter_map(|sent| match Packet::parse(&sent.bytes).unwrap().part {
            cldc_core::wire::Part::Only { xid, op: Op::NewSess | Op::Nop } => Some(xid),
            _ => None,
        })
        .collect();
    assert_eq!(xids, (xids[0]..xids[0] + 6).collect::<Vec<u64>>());
}
