//! The master, its lease and reads: one at a time, never stale, and soon again.

use cldc_core::time::Duration;

use super::cluster::{Cluster, GOOD, Network, SECOND, TICK};
use crate::replica::Role;
use crate::replica::lease::Rounds;

fn with_master(seed: u64, size: u64) -> (Cluster, u64) {
    let mut cluster = Cluster::new(seed, size);
    cluster.until("a master with the lease", |cluster| {
        cluster.master().is_some_and(|master| cluster.servers[&master].has_lease(cluster.now))
    });
    let master = cluster.master().unwrap();
    (cluster, master)
}

/// Clocks as far apart as they may be, messages that take long, a master that is cut off, one way or both, or stands still,
/// and servers that start anew and could forget their promise. The cluster checks at each election that nobody has a lease,
/// and at each moment that who has one has all that was acknowledged.
#[test]
fn a_deposed_master_has_no_lease_when_another_one_may_serve() {
    let mut elections = 0;
    for seed in 0..80 {
        let (mut cluster, _) = with_master(seed, if seed % 2 == 0 { 3 } else { 5 });
        let size = cluster.servers.len() as u64;
        for round in 0..4 {
            let Some(master) = cluster.master() else { break };
            cluster.extreme_drift(master, 10_000);
            cluster.network = Network { delay: 800_000, ..GOOD };
            cluster.run(2 * SECOND);
            cluster.network = GOOD;
            let Some(master) = cluster.master() else { break };
            let other = 1 + master % size;
            match (seed + round) % 6 {
                0 => cluster.isolate(master),
                1 => cluster.pause(master, 3 * SECOND),
                2 => {
                    for id in (1..=size).filter(|id| *id != master) {
                        cluster.cut.insert((id, master));
                    }
                }
                3 => {
                    // What they answered in time still comes.
                    for id in (1..=size).filter(|id| *id != master) {
                        cluster.cut.insert((master, id));
                        cluster.mute.insert((id, master));
                    }
                }
                4 => {
                    // One has long wanted to be elected; the others heard the last heartbeat, and forget it.
                    cluster.cut.extend([(master, other), (other, master)]);
                    cluster.run(2 * SECOND);
                    cluster.isolate(master);
                    for id in (1..=size).filter(|id| *id != master && *id != other) {
                        cluster.crash(id);
                        cluster.start(id);
                    }
                }
                _ => cluster.hand_over(other),
            }
            cluster.propose(master);
            for _ in 0..80 {
                cluster.run(TICK / 2);
                if let Some(master) = cluster.master() {
                    cluster.propose(master);
                }
            }
            cluster.cut.clear();
            cluster.mute.clear();
            cluster.run(SECOND);
        }
        elections += cluster.masterships.len();
        cluster.settle();
    }
    println!("{elections} elections");
    assert!(elections > 250);
}

#[test]
fn the_lease_is_renewed_in_time_and_short_of_the_election_timeout() {
    let (mut cluster, master) = with_master(1, 3);
    let mut longest = 0;
    for _ in 0..1000 {
        cluster.step();
        let now = cluster.now;
        let server = cluster.server(master);
        assert!(server.has_lease(now), "a gap");
        longest = longest.max(server.lease_left(now));
    }
    assert!((6 * TICK..9 * TICK).contains(&longest), "{longest}");
}

#[test]
fn the_lease_is_shorter_by_what_clocks_may_be_off() {
    let span = |ticks, ppm| Rounds::span(ticks, Duration::from_micros(TICK), ppm).as_micros();
    assert_eq!(span(9, 0), 9 * TICK);
    // At worst ours is slow and theirs are fast: 900 ms * 0.99 / 1.01.
    assert_eq!(span(9, 10_000), 882_178);
    assert_eq!(span(9, 2_000_000), 0);
}

#[test]
fn the_lease_is_given_up_before_the_master_hands_over_and_not_taken_again() {
    let (mut cluster, master) = with_master(2, 3);
    let other = 1 + master % 3;
    // It never hears of it, and the master goes on.
    cluster.cut.insert((master, other));
    cluster.hand_over(other);
    assert!(!cluster.servers[&master].has_lease(cluster.now));
    cluster.cut.insert((other, master));
    cluster.run(SECOND / 2);
    for _ in 0..100 {
        cluster.run(TICK / 4);
        assert!(!cluster.servers[&master].has_lease(cluster.now), "taken again");
    }
    assert_eq!(cluster.master(), Some(master));
    let before = cluster.index_reads;
    cluster.read(master);
    cluster.run(SECOND);
    assert_eq!(cluster.index_reads, before + 1, "reads go on without it");
}

#[test]
fn the_mastership_is_handed_over_at_once() {
    for seed in 0..20 {
        let (mut cluster, master) = with_master(seed, 3);
        let other = 1 + master % 3;
        cluster.hand_over(other);
        let began = cluster.now;
        cluster.until("the other is master", |cluster| cluster.master() == Some(other));
        assert!(cluster.now - began < 3 * TICK, "seed {seed}");
        cluster.settle();
    }
}

#[test]
fn a_read_without_a_lease_waits_for_a_quorum() {
    let (mut cluster, master) = with_master(3, 3);
    cluster.isolate(master);
    cluster.read(master);
    cluster.run(2 * SECOND);
    assert_eq!(cluster.index_reads, 0, "nobody could answer");
    cluster.cut.clear();
    cluster.until("a master", |cluster| cluster.master().is_some());
    let master = cluster.master().unwrap();
    cluster.read(master);
    cluster.run(SECOND);
    assert_eq!(cluster.index_reads, 1);
}

#[test]
fn a_read_whose_heartbeats_get_lost_is_tried_again() {
    let (mut cluster, master) = with_master(4, 3);
    cluster.isolate(master);
    cluster.read(master);
    cluster.run(2 * TICK);
    cluster.cut.clear();
    cluster.run(6 * TICK);
    assert_eq!((cluster.master(), cluster.index_reads), (Some(master), 1));
}

#[test]
fn no_quorum_no_commit() {
    let (mut cluster, master) = with_master(5, 5);
    let others: Vec<u64> = (1..=5).filter(|id| *id != master).collect();
    others[..3].iter().for_each(|id| cluster.crash(*id));
    let before = cluster.agreed.len();
    for _ in 0..100 {
        cluster.propose(master);
        cluster.run(TICK);
    }
    assert_eq!((cluster.agreed.len(), cluster.master()), (before, None), "it knows that it is alone");
    assert_ne!(cluster.status(master).role, Role::Leader);
    cluster.start(others[0]);
    cluster.settle();
}

#[test]
fn what_was_committed_survives_any_minority_crash() {
    for seed in 0..60 {
        let size = if seed % 2 == 0 { 3 } else { 5 };
        let (mut cluster, _) = with_master(seed, size);
        for _ in 0..4 {
            for _ in 0..5 {
                let Some(master) = cluster.master() else { break };
                cluster.propose(master);
                let time = cluster.random.below(TICK);
                cluster.run(time);
            }
            let acknowledged = cluster.acknowledged;
            let first = cluster.random.below(size);
            let victims: Vec<u64> = (0..size / 2).map(|next| 1 + (first + next) % size).collect();
            victims.iter().for_each(|id| cluster.crash(*id));
            cluster.until("a master with all of it", |cluster| {
                cluster.master().is_some_and(|id| cluster.servers[&id].state.index >= acknowledged)
            });
            victims.iter().for_each(|id| cluster.start(*id));
        }
        cluster.settle();
    }
}

#[test]
fn another_master_serves_within_three_election_timeouts() {
    let mut times = Vec::new();
    for seed in 0..200 {
        let (mut cluster, master) = with_master(seed, 3);
        cluster.crash(master);
        let began = cluster.now;
        cluster.until("another master", |cluster| cluster.master().is_some());
        times.push((cluster.now - began) / TICK);
    }
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("ticks to another master: median {median}, worst {worst}");
    assert!(median <= 15 && worst <= 45, "median {median}, worst {worst}");
}
