//! What must hold whatever the network, the disks and the machines do.

use super::cluster::{Cluster, GOOD, Network, SECOND, TICK};
use crate::replica::Engine;

/// A cell under faults of all kinds for some time; then all must be well again.
fn storm(seed: u64, size: u64) -> Cluster {
    let mut cluster = Cluster::new(seed, size);
    cluster.snapshot_every = 10 + cluster.random.below(60);
    cluster.drift(10_000);
    let worst = Network { loss: 10, duplicates: 10, delay: 100_000 };
    for _ in 0..60 {
        let victim = 1 + cluster.random.below(size);
        match cluster.random.below(12) {
            0 => cluster.crash(victim),
            1 | 2 => cluster.start(victim),
            3 => {
                let time = cluster.random.below(2 * SECOND);
                cluster.pause(victim, time);
            }
            4 => cluster.isolate(victim),
            5 => {
                let other = 1 + cluster.random.below(size);
                cluster.cut.insert((victim, other));
            }
            6 | 7 => cluster.cut.clear(),
            8 => cluster.network = if cluster.random.percent(50) { worst } else { GOOD },
            9 => {
                let ids: Vec<u64> = (1..=size).collect();
                for id in ids {
                    cluster.start(id);
                }
            }
            10 if cluster.random.percent(30) => {
                if let Some(engine) = &mut cluster.server(victim).engine {
                    let _ = engine.transfer_leadership(1 + seed % size);
                }
            }
            _ => {}
        }
        for _ in 0..cluster.random.below(8) {
            let busy: Vec<u64> =
                cluster.servers.values().filter(|server| server.master.is_some()).map(|s| s.id).collect();
            for id in busy {
                cluster.propose(id);
                cluster.read(id);
            }
            let time = cluster.random.below(TICK);
            cluster.run(time);
        }
        let time = cluster.random.below(5 * TICK);
        cluster.run(time);
    }
    cluster.settle();
    cluster
}

#[test]
fn all_commit_the_same_in_the_same_order_whatever_fails() {
    let (mut committed, mut restored, mut leases, mut reads) = (0, 0, 0, 0);
    for seed in 0..300 {
        let cluster = storm(seed, if seed % 3 == 0 { 5 } else { 3 });
        committed += cluster.agreed.len();
        restored += cluster.restored;
        leases += cluster.lease_reads;
        reads += cluster.index_reads;
    }
    println!("{committed} committed, {restored} restored, {leases} lease reads, {reads} reads");
    assert!(committed > 300 * 20 && restored > 100 && leases > 10_000 && reads > 1000);
}
