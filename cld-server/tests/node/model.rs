//! Everything at once, at random: clients that write, read and lock through a network that loses, duplicates and
//! reorders, and a server that dies again and again. No request is executed twice or lost, and no exclusive lock has
//! two holders.

use std::collections::BTreeMap;

use cldc_core::time::Duration;
use cldc_core::wire::{Code, EventMask, LockFlags, Request};

use crate::peer::Told;
use crate::world::{Faults, World};

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Writing { xid: u64 },
    Locking { xid: u64 },
    AwaitingGrant,
    Holding { until: cldc_core::time::Instant },
    Unlocking { xid: u64 },
}

struct Client {
    peer: usize,
    path: Vec<u8>,
    own: u64,
    lock: u64,
    doing: Doing,
    /// Writes that were answered with OK, and that one which may have been executed.
    written: u64,
    grants_seen: usize,
    cycles: u32,
}

impl Client {
    /// Whether it believes that it holds the lock.
    fn holds(&self) -> bool {
        matches!(self.doing, Doing::Holding { .. })
    }

    fn step(&mut self, world: &mut World) {
        let code = |xid| world.peers[self.peer].code(xid);
        let fh = self.lock;
        self.doing = match self.doing {
            Doing::Nothing => {
                if world.random(2) == 0 {
                    let data = self.written.to_be_bytes();
                    Doing::Writing { xid: world.send(self.peer, &Request::Put { fh: self.own, data: &data }) }
                } else {
                    self.grants_seen = world.peers[self.peer].events_once.len();
                    let lock = Request::Lock { fh, flags: LockFlags::NONE, wait: true };
                    Doing::Locking { xid: world.send(self.peer, &lock) }
                }
            }
            Doing::Writing { xid } => match code(xid) {
                Some(Code::Ok) => {
                    self.written += 1;
                    self.cycles += 1;
                    Doing::Nothing
                }
                Some(Code::InternalErr) => Doing::Nothing,
                None => return,
                other => panic!("a write was answered by {other:?}"),
            },
            Doing::Locking { xid } => match code(xid) {
                Some(Code::Ok) => Doing::Holding { until: world.now + Duration::from_millis(700) },
                Some(Code::LockPending) => Doing::AwaitingGrant,
                Some(Code::InternalErr) => Doing::Nothing,
                None => return,
                other => panic!("a lock was answered by {other:?}"),
            },
            Doing::AwaitingGrant => {
                let events = &world.peers[self.peer].events_once;
                if !events[self.grants_seen.min(events.len())..].contains(&(fh, EventMask::LOCKED)) {
                    return;
                }
                Doing::Holding { until: world.now + Duration::from_millis(700) }
            }
            Doing::Holding { until } if world.now < until => return,
            Doing::Holding { .. } => Doing::Unlocking { xid: world.send(self.peer, &Request::Unlock { fh }) },
            Doing::Unlocking { xid } => match code(xid) {
                Some(Code::Ok) => {
                    self.cycles += 1;
                    Doing::Nothing
                }
                Some(Code::InternalErr) => {
                    Doing::Unlocking { xid: world.send(self.peer, &Request::Unlock { fh }) }
                }
                None => return,
                other => panic!("an unlock was answered by {other:?}"),
            },
        };
    }
}

fn run(seed: u64, crashes: bool, faults: Faults) -> u32 {
    let mut world = World::new();
    let mut clients = Vec::new();
    for sid in 1..=4 {
        let peer = world.join(sid);
        let path = format!("/own{sid}").into_bytes();
        let own = world.open(peer, &path, EventMask::NONE);
        let lock = world.open(peer, b"/lock", EventMask::NONE);
        let doing = Doing::Nothing;
        clients.push(Client { peer, path, own, lock, doing, written: 0, grants_seen: 0, cycles: 0 });
    }
    world.seed(seed);
    world.faults = faults;
    let mut crash_at = world.now + Duration::from_secs(5);
    for _ in 0..3000 {
        world.run(Duration::from_millis(100));
        if crashes && world.now >= crash_at {
            world.crash();
            crash_at = world.now + Duration::from_millis(500 + world.random(25_000));
        }
        for client in &mut clients {
            client.step(&mut world);
        }
        let holders = clients.iter().filter(|client| client.holds()).count();
        assert!(holders <= 1, "seed {seed}: {holders} hold the lock");
        check_writes(seed, &world, &clients);
    }
    // When the network is well again, everything comes to its end.
    world.faults = Faults::default();
    for _ in 0..1200 {
        world.run(Duration::from_millis(100));
        for client in clients.iter_mut().filter(|client| client.doing != Doing::Nothing) {
            client.step(&mut world);
        }
    }
    let stuck: BTreeMap<usize, Doing> = clients
        .iter()
        .filter(|client| client.doing != Doing::Nothing)
        .map(|client| (client.peer, client.doing))
        .collect();
    assert!(stuck.is_empty(), "seed {seed}: {stuck:?}");
    check_writes(seed, &world, &clients);
    clients.iter().map(|client| client.cycles).sum()
}

/// Each client's file has as many versions as writes were answered, or one more while one is on its way.
fn check_writes(seed: u64, world: &World, clients: &[Client]) {
    if !world.node.serves() {
        return;
    }
    for client in clients {
        let executed = world.node.database().stat(&client.path).unwrap().version - 1;
        let pending = u64::from(matches!(client.doing, Doing::Writing { .. }));
        assert!(
            (client.written..=client.written + pending).contains(&executed),
            "seed {seed}: {} writes were answered, {executed} executed",
            client.written
        );
    }
}

#[test]
fn every_request_takes_effect_once_and_a_lock_has_one_holder_whatever_the_network_does() {
    let faults = Faults { loss: 20, duplicates: 10, delay: Duration::from_millis(80) };
    let cycles: u32 = (0..6).map(|seed| run(seed, false, faults)).sum();
    assert!(cycles > 300, "{cycles}");
}

#[test]
fn every_request_takes_effect_once_and_a_lock_has_one_holder_across_restarts() {
    let cycles: u32 = (0..6).map(|seed| run(seed, true, Faults::default())).sum();
    assert!(cycles > 300, "{cycles}");
}

#[test]
fn every_request_takes_effect_once_and_a_lock_has_one_holder_when_everything_fails_at_once() {
    let faults = Faults { loss: 15, duplicates: 10, delay: Duration::from_millis(80) };
    let cycles: u32 = (100..112).map(|seed| run(seed, true, faults)).sum();
    assert!(cycles > 200, "{cycles}");
}

#[test]
fn what_a_client_reads_is_what_it_wrote_last() {
    // Pieces that the network duplicates would garble the messages of Hail's client (protocol.md 15.2.3).
    let lossy = Faults { loss: 15, duplicates: 0, delay: Duration::ZERO };
    let bad = Faults { loss: 15, duplicates: 10, delay: Duration::from_millis(30) };
    for (exact, faults) in [(false, lossy), (true, bad)] {
        let mut world = World::new();
        let peer = world.join(1);
        world.peers[peer].exact = exact;
        let fh = world.open(peer, b"/f", EventMask::NONE);
        world.seed(5);
        world.faults = faults;
        for round in 0..30u8 {
            let put = world.send(peer, &Request::Put { fh, data: &[round; 3000] });
            let get = world.send(peer, &Request::Get { fh });
            world.run(Duration::from_secs(60));
            assert_eq!(world.peers[peer].code(put), Some(Code::Ok), "round {round}");
            match world.peers[peer].answer(get) {
                Some(Told::Contents { data, .. }) => assert_eq!(*data, [round; 3000]),
                other => panic!("round {round}: {other:?}"),
            }
        }
    }
}
