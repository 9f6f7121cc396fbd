//! Locks when clients are cut off and masters die: who believes in a lock has it.

use cldc_core::lease::LeaseState;
use cldc_core::session::{Handle, LockState, RequestId};
use cldc_core::wire::EventMask;

use crate::world::World;
use crate::{ms, secs};

const ALL: [u64; 3] = [1, 2, 3];

/// A client that wants a lock.
struct Rival {
    at: usize,
    handle: Handle,
    asked: Option<RequestId>,
    held: bool,
}

impl Rival {
    /// Whether the client may act on the lock, by its own clock. Once it has asked to give it back, it does not.
    fn believes(&self, world: &World) -> bool {
        let session = &world.clients[self.at].session;
        let waits = self.asked.is_some_and(|request| world.clients[self.at].answer(request).is_none());
        session.is_open()
            && !waits
            && session.lock_state(self.handle) == LockState::Held
            && session.lease_state(world.time()) == LeaseState::Safe
    }

    /// Asks for the lock when it has it not, and gives it back after a while.
    fn go_on(&mut self, world: &mut World) {
        if self.asked.is_some_and(|request| world.clients[self.at].answer(request).is_none()) {
            return;
        }
        let session = &world.clients[self.at].session;
        if !session.is_open() {
            return;
        }
        self.asked = match session.lock_state(self.handle) {
            LockState::Free => Some(world.lock(self.at, self.handle)),
            LockState::Held if world.random(40) == 0 => Some(world.unlock(self.at, self.handle)),
            _ => None,
        };
    }
}

/// Lets clients with short leases fight for one lock; how often it has changed hands.
fn fight(seed: u64) -> usize {
    let mut world = World::new(seed, 3);
    world.drift(10_000);
    world.deafens = seed.is_multiple_of(2);
    let mut rivals = Vec::new();
    for _ in 0..4 {
        let at = world.join_with(&ALL, true, secs(2));
        let handle = world.open(at, b"/lock", EventMask::LOCKED);
        rivals.push(Rival { at, handle, asked: None, held: false });
    }
    let (mut down, mut grants) = (None, 0);
    for _ in 0..40 {
        match world.random(6) {
            0 => {
                let at = usize::try_from(world.random(4)).unwrap();
                world.unreachable = ALL.into_iter().map(|id| (at, id)).collect();
            }
            1 => world.unreachable.clear(),
            2 if down.is_none() => {
                let id = world.random(3) + 1;
                world.crash(id);
                down = Some(id);
            }
            3 => {
                let (id, span) = (world.random(3) + 1, ms(world.random(1500)));
                world.pause(id, span);
            }
            _ => down.take().into_iter().for_each(|id| world.start(id)),
        }
        for _ in 0..300 {
            rivals.iter_mut().for_each(|rival| rival.go_on(&mut world));
            world.run(ms(5));
            let believe: Vec<_> =
                rivals.iter().filter(|rival| rival.believes(&world)).map(|rival| rival.at).collect();
            assert!(believe.len() <= 1, "seed {seed}: {believe:?} believe in the same lock");
            for rival in &mut rivals {
                let holds = believe.contains(&rival.at);
                grants += usize::from(holds && !rival.held);
                rival.held = holds;
            }
        }
    }
    grants
}

#[test]
fn at_no_instant_do_two_clients_believe_in_the_same_lock() {
    let grants: usize = (0..12).map(fight).sum();
    assert!(grants > 200, "{grants}");
}
