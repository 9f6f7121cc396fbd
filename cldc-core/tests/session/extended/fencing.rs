//! Sequencers: proof that a lock was held, for others to check (docs/protocol.md 7.6).

use cldc_core::session::{CallError, FullSession, LockState, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::extended::Sequencer;
use cldc_core::wire::{Code, EventMask, LockFlags};

use super::Extended;
use crate::support::client::{Came, Client, Proof, Told};
use crate::support::extended_server::ExtendedServer;
use crate::support::network::Faults;
use crate::support::peer::Peer;

fn lock<C: Client>(world: &mut Extended<C>, handle: cldc_core::session::Handle) -> Proof {
    match world.call(|session, now| session.lock(now, handle, LockFlags::NONE, true)) {
        Ok(Came::Locked(Some(proof))) => proof,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lock_comes_with_a_sequencer_and_a_stale_one_writes_nothing() {
    let mut world = Extended::<SmallSession>::connected(ExtendedServer::new(1), 1, Faults::NONE);
    let handle = world.open(b"/lock", EventMask::NONE);
    let first = lock(&mut world, handle);
    assert_eq!((first.generation, first.path.as_slice()), (1, &b"/lock"[..]));
    let asked = world.call(|session, now| session.get_sequencer(now, handle));
    assert_eq!(asked, Ok(Came::Sequencer(first.clone())));
    let first = first.sequencer();
    assert_eq!(world.call(|session, now| session.check_sequencer(now, &first)), Ok(Came::Done));
    assert_eq!(world.call(|session, now| session.put_fenced(now, handle, &first, b"good")), Ok(Came::Done));
    assert_eq!(world.call(|session, now| session.unlock(now, handle)), Ok(Came::Done));
    assert_eq!(world.call(|session, now| session.get_sequencer(now, handle)), Err(Code::LockInval));
    let second = lock(&mut world, handle);
    assert_eq!(second.generation, 2);
    let stale = Err(Code::Stale);
    assert_eq!(world.call(|session, now| session.check_sequencer(now, &first)), stale);
    assert_eq!(world.call(|session, now| session.put_fenced(now, handle, &first, b"bad")), stale);
    assert_eq!(world.call(|session, now| session.del_fenced(now, b"/lock", &first)), stale);
    assert_eq!(world.servers[0].name_space().data(b"/lock"), Some(&b"good"[..]));
    let second = second.sequencer();
    assert_eq!(world.call(|session, now| session.del_fenced(now, b"/lock", &second)), Ok(Came::Done));
    assert_eq!(world.servers[0].name_space().data(b"/lock"), None);
}

#[test]
fn a_lock_granted_later_comes_with_its_sequencer_and_version() {
    let mut world = Extended::<SmallSession>::connected(ExtendedServer::new(1), 1, Faults::NONE);
    world.servers[0].name_space().stranger_locks(b"/lock");
    let handle = world.open(b"/lock", EventMask::NONE);
    let queue = |session: &mut SmallSession, now| session.lock(now, handle, LockFlags::SHARED, true);
    assert_eq!(world.call(queue), Ok(Came::LockPending));
    assert_eq!(world.session.lock_of(handle), LockState::Waiting);
    for (sid, fh, events) in world.servers[0].name_space().stranger_unlocks(b"/lock") {
        let now = world.now;
        world.servers[0].tell(now, sid, fh, events);
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.session.lock_of(handle), LockState::Held);
    let granted = world.told.last();
    assert!(
        matches!(granted, Some(Told::Happened(id, EventMask::LOCKED, 0, Some(proof)))
            if *id == handle && proof.mode == LockFlags::SHARED && proof.path == b"/lock"),
        "{granted:?}"
    );
    assert_eq!(world.servers[0].unacknowledged(world.session.id()), (0, 0));
}

#[test]
fn a_sequencer_or_contents_that_no_session_could_send_are_refused_at_once() {
    let mut world = Extended::<FullSession>::connected(ExtendedServer::new(1), 1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::NONE);
    let long = [b'x'; 257];
    let sequencer = Sequencer { inode: 1, generation: 1, mode: LockFlags::NONE, path: &long };
    let clock = world.clock();
    assert_eq!(world.session.check_sequencer(clock, &sequencer), Err(CallError::Path));
    let sequencer = Sequencer { path: b"/x", ..sequencer };
    assert_eq!(world.session.del_fenced(clock, b"x", &sequencer), Err(CallError::Path));
    let too_large = world.session.put_fenced(clock, handle, &sequencer, &[0; 131_073]);
    assert_eq!(too_large, Err(CallError::TooLarge));
}
