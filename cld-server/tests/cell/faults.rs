//! Crashes, pauses, partitions and losses of all kinds: what was acknowledged stays, and is seen by whoever reads later.

use cld_server::node::{NodeConfig, SnapshotPolicy};
use cldc_core::session::RequestId;
use cldc_core::wire::EventMask;

use crate::client::Got;
use crate::world::{Faults, World};
use crate::{ms, secs};

/// A request on its way, and what had been acknowledged and seen when it began.
struct Asked {
    request: RequestId,
    floor: u64,
}

/// What clients know of a file whose contents only grow.
#[derive(Default)]
struct Known {
    /// The last value that was asked to be written.
    proposed: u64,
    /// The highest that a later read must not be below: acknowledged, or read by somebody.
    floor: u64,
    acknowledged: u64,
    reads: u64,
}

fn value(data: &[u8]) -> u64 {
    data.try_into().map_or(0, u64::from_be_bytes)
}

/// Lets a writer and readers work while servers fail; no more than a minority is down for long. How many writes were
/// acknowledged and how many reads answered meanwhile, and how many servers took a snapshot over since their start.
fn torture(seed: u64, size: u64, rounds: u64) -> (u64, u64) {
    // With and without snapshots, which are taken often and leave little of the log.
    let snapshot =
        SnapshotPolicy { entries: if seed.is_multiple_of(2) { 15 } else { u64::MAX }, bytes: u64::MAX };
    let config = NodeConfig { snapshot, keep_entries: Some(3), ..NodeConfig::default() };
    let mut world = World::with(seed, size, config);
    let all: Vec<u64> = (1..=size).collect();
    world.drift(10_000);
    let mut clients: Vec<_> = (0..2).map(|_| world.join(&all, true)).collect();
    // A plain client knows one server only.
    clients.push(if seed.is_multiple_of(3) { world.join(&[1], false) } else { world.join(&all, true) });
    let files: Vec<_> = clients.iter().map(|&at| world.open(at, b"/value", EventMask::NONE)).collect();
    world.faults = Faults { loss: 5, duplicates: 5, peer_loss: 2, delay: 3000 };
    let mut known = Known::default();
    let mut asked: Vec<Option<Asked>> = clients.iter().map(|_| None).collect();
    let mut down: Vec<u64> = Vec::new();
    for round in 0..rounds {
        world.disk_latency = 500 + world.random(20_000);
        match world.random(11) {
            0..=2 if down.len() < (all.len() - 1) / 2 => {
                let id = all[usize::try_from(world.random(size)).unwrap()];
                if !down.contains(&id) {
                    world.crash(id);
                    down.push(id);
                }
            }
            3 | 4 => {
                let id = all[usize::try_from(world.random(size)).unwrap()];
                let span = ms(world.random(1500));
                world.pause(id, span);
            }
            5 => {
                let id = all[usize::try_from(world.random(size)).unwrap()];
                world.isolate(&[id]);
            }
            6 | 7 => world.heal(),
            // The power fails: all go off at once.
            8 => {
                all.iter().for_each(|&id| world.crash(id));
                down.clone_from(&all);
                down.drain(..).for_each(|id| world.start(id));
            }
            _ => down.drain(..).for_each(|id| world.start(id)),
        }
        let steps = world.random(100);
        for _ in 0..steps {
            for (place, &at) in clients.iter().enumerate() {
                if let Some(Asked { request, floor }) = &asked[place] {
                    let Some(answer) = world.clients[at].answer(*request).cloned() else { continue };
                    match answer {
                        Ok(Got::Done) => {
                            known.acknowledged = known.proposed;
                            known.floor = known.floor.max(known.proposed);
                        }
                        Ok(Got::Contents(data)) => {
                            let read = value(&data);
                            assert!(
                                read >= *floor,
                                "seed {seed}, round {round}: {read} was read after {floor}"
                            );
                            assert!(read <= known.proposed, "seed {seed}: {read} was never written");
                            known.floor = known.floor.max(read);
                            known.reads += 1;
                        }
                        other => panic!("seed {seed}: {other:?}"),
                    }
                    asked[place] = None;
                }
                let floor = known.floor;
                let request = if place == 0 {
                    known.proposed += 1;
                    world.put(at, files[place], &known.proposed.to_be_bytes())
                } else {
                    world.get(at, files[place])
                };
                asked[place] = Some(Asked { request, floor });
            }
            world.run(ms(10));
        }
    }
    world.heal();
    down.drain(..).for_each(|id| world.start(id));
    world.faults = Faults { delay: 500, ..Faults::default() };
    for (place, &at) in clients.iter().enumerate() {
        if let Some(Asked { request, .. }) = &asked[place] {
            world.answer(at, *request, secs(30)).unwrap_or_else(|code| panic!("seed {seed}: {code:?}"));
        }
    }
    for (place, &at) in clients.iter().enumerate() {
        assert_eq!(value(&world.read(at, files[place])), known.proposed, "seed {seed}");
    }
    // Each write was executed once.
    let master = world.await_master(secs(5)).0;
    let version = world.node(master).database().stat(b"/value").unwrap().version;
    assert_eq!(version, known.proposed + 1, "seed {seed}");
    world.agree();
    let restored = all.iter().map(|&id| world.node(id).status().peers.snapshots_restored).sum();
    (known.acknowledged + known.reads, restored)
}

/// Tortures cells of these seeds; in all of them together much must get done.
fn torture_all(seeds: std::ops::Range<u64>, size: u64) {
    let cells = seeds.end - seeds.start;
    let (mut done, mut restored) = (0, 0);
    for seed in seeds {
        let (more, snapshots) = torture(seed, size, 14);
        done += more;
        restored += snapshots;
    }
    assert!(done > cells * 50, "{done}");
    assert!(restored > 0, "no server needed a snapshot");
}

#[test]
fn three_servers_lose_nothing_that_was_acknowledged() {
    torture_all(0..120, 3);
}

#[test]
fn five_servers_lose_nothing_that_was_acknowledged() {
    torture_all(1000..1040, 5);
}
