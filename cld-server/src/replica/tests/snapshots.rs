//! Snapshots for servers that are new or far behind, and what stays in the log for those that are not.

use super::cluster::{Cluster, Network, SECOND, TICK};

fn fill(cluster: &mut Cluster, count: u64) {
    for _ in 0..count {
        cluster.until("a master", |cluster| cluster.master().is_some());
        let master = cluster.master().unwrap();
        cluster.propose(master);
        cluster.run(TICK / 5);
    }
}

#[test]
fn one_that_lags_far_gets_a_snapshot_though_transfers_get_lost_and_the_cell_goes_on() {
    for seed in 0..40 {
        let mut cluster = Cluster::new(seed, 3);
        cluster.snapshot_every = 10;
        cluster.keep(5);
        let lagging = 1 + seed % 3;
        cluster.run(2 * SECOND);
        cluster.crash(lagging);
        fill(&mut cluster, 60);
        cluster.network = Network { loss: 30, duplicates: 5, delay: 50_000 };
        cluster.start(lagging);
        fill(&mut cluster, 60);
        cluster.settle();
        assert!(cluster.restored > 0, "seed {seed}");
    }
}

#[test]
fn a_crash_while_a_snapshot_is_installed_leaves_a_server_that_goes_on() {
    let mut restored = 0;
    for seed in 0..60 {
        let mut cluster = Cluster::new(seed, 3);
        cluster.snapshot_every = 10;
        cluster.keep(0);
        cluster.disk = 100_000;
        let lagging = 1 + seed % 3;
        cluster.run(3 * SECOND);
        cluster.crash(lagging);
        fill(&mut cluster, 30);
        for _ in 0..10 {
            cluster.start(lagging);
            let time = cluster.random.below(5 * TICK);
            cluster.run(time);
            cluster.crash(lagging);
            fill(&mut cluster, 5);
        }
        cluster.settle();
        restored += cluster.restored;
    }
    assert!(restored > 60, "{restored}");
}

#[test]
fn one_that_lags_a_little_gets_entries_from_the_tail_that_trimming_keeps() {
    let mut cluster = Cluster::new(1, 3);
    cluster.snapshot_every = 10;
    cluster.keep(40);
    cluster.run(3 * SECOND);
    let master = cluster.master().unwrap();
    fill(&mut cluster, 100);
    let status = cluster.status(master);
    let kept = status.last_index + 1 - status.first_index;
    assert!((40..=55).contains(&kept), "{kept} entries are kept");
    let lagging = 1 + master % 3;
    cluster.crash(lagging);
    fill(&mut cluster, 25);
    cluster.start(lagging);
    cluster.settle();
    assert_eq!(cluster.restored, 0);
}

#[test]
fn a_newcomer_gets_a_snapshot_that_is_taken_for_it() {
    let mut cluster = Cluster::new(2, 3);
    cluster.run(3 * SECOND);
    fill(&mut cluster, 10);
    cluster.join(4);
    cluster.add_member(4).unwrap();
    cluster.run(2 * SECOND);
    cluster.settle();
    assert_eq!(cluster.restored, 1);
    assert!(cluster.servers[&4].members.contains(4));
}

#[test]
fn a_snapshot_that_nobody_confirms_is_sent_again() {
    let mut cluster = Cluster::new(3, 3);
    cluster.run(3 * SECOND);
    let master = cluster.master().unwrap();
    cluster.join(4);
    cluster.add_member(4).unwrap();
    // Only the streams get lost: the newcomer answers heartbeats.
    cluster.lose_streams = true;
    cluster.run(SECOND);
    let waits = |cluster: &Cluster| cluster.status(master).members.iter().any(|member| member.snapshot);
    assert!(waits(&cluster));
    cluster.run(5 * SECOND);
    assert_eq!(cluster.restored, 0);
    cluster.lose_streams = false;
    cluster.run(4 * SECOND);
    assert_eq!((cluster.restored, waits(&cluster)), (1, false));
}
