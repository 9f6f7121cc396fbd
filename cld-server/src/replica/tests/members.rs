//! Changes of the members, under load and under faults.

use super::cluster::{Cluster, GOOD, Network, SECOND, TICK};
use crate::replica::*;
use crate::storage::Addresses;

fn busy(cluster: &mut Cluster, time: u64) {
    for _ in 0..time / (TICK / 4) {
        if let Some(master) = cluster.master() {
            cluster.propose(master);
            cluster.read(master);
        }
        cluster.run(TICK / 4);
    }
}

/// Tries until it is done, as an operator does.
fn change(cluster: &mut Cluster, what: MemberChange, done: impl Fn(&Configuration) -> bool) {
    let end = cluster.now + 60 * SECOND;
    loop {
        let result = cluster.change(what);
        busy(cluster, 3 * TICK);
        let master = cluster.master();
        if master.is_some_and(|master| done(&cluster.servers[&master].members)) {
            return;
        }
        assert!(cluster.now < end, "seed {}: {what:?}: {result:?}", cluster.seed);
    }
}

fn grow(cluster: &mut Cluster, node: u64) {
    cluster.join(node);
    change(cluster, MemberChange::AddLearner { node, addresses: addresses(node) }, |members| {
        members.contains(node)
    });
    change(cluster, MemberChange::Promote { node }, |members| members.voters().any(|voter| voter == node));
}

fn addresses(node: u64) -> Addresses {
    let port = 8000 + node as u16;
    Addresses { peer: Some(([10, 0, 0, 1], port).into()), client: Some(([192, 0, 2, 1], port).into()) }
}

#[test]
fn a_cell_grows_from_one_to_five_and_shrinks_to_three_under_load() {
    for seed in 0..40 {
        let mut cluster = Cluster::new(seed, 1);
        cluster.drift(10_000);
        cluster.snapshot_every = 25;
        cluster.until("a master", |cluster| cluster.master() == Some(1));
        busy(&mut cluster, SECOND);
        if seed % 2 == 0 {
            cluster.network = Network { loss: 5, duplicates: 5, delay: 50_000 };
        }
        for node in 2..=5 {
            grow(&mut cluster, node);
            if seed % 4 == 1 {
                // Whoever it is, also the only voter of a moment ago.
                let victim = cluster.master().unwrap();
                cluster.crash(victim);
                cluster.run(TICK);
                cluster.start(victim);
                cluster.until("a master", |cluster| cluster.master().is_some());
            }
        }
        for _ in 0..2 {
            let master = cluster.master().unwrap();
            let members = cluster.servers[&master].members.clone();
            let node = members.voters().find(|voter| *voter != master).unwrap();
            change(&mut cluster, MemberChange::Remove { node }, |members| !members.contains(node));
        }
        cluster.settle();
        let master = cluster.master().unwrap();
        let members = &cluster.servers[&master].members;
        assert_eq!((members.members.len(), members.voters().count(), members.removed.len()), (3, 3, 2));
        for (node, member) in members.members.iter().filter(|(node, _)| **node != 1) {
            assert_eq!(member.addresses, addresses(*node));
        }
    }
}

#[test]
fn a_removed_server_is_refused_and_does_not_disturb() {
    let mut cluster = Cluster::new(1, 3);
    cluster.until("a master", |cluster| cluster.master().is_some());
    let master = cluster.master().unwrap();
    let node = 1 + master % 3;
    cluster.run(SECOND);
    change(&mut cluster, MemberChange::Remove { node }, |members| !members.contains(node));
    let term = cluster.status(master).term;
    busy(&mut cluster, 30 * SECOND);
    assert_eq!((cluster.master(), cluster.status(master).term), (Some(master), term));
    assert!(cluster.refusals.contains(&MessageError::Removed { from: node }));
    assert_eq!(cluster.add_member(node), Err(ChangeError::Removed { node }));
}

#[test]
fn a_stranger_is_refused_while_the_master_is_in_touch() {
    let mut cluster = Cluster::new(2, 3);
    cluster.until("a master", |cluster| cluster.master().is_some());
    cluster.run(SECOND);
    let (master, term) = (cluster.master().unwrap(), cluster.masterships[0].1);
    // One that thinks itself a member, as one with a foreign or forged disk would.
    cluster.intrude(9, 1..=3);
    busy(&mut cluster, 10 * SECOND);
    assert_eq!((cluster.master(), cluster.status(master).term), (Some(master), term));
    assert!(cluster.refusals.contains(&MessageError::Stranger { from: 9 }));
}

#[test]
fn changes_that_make_no_sense_or_lose_the_quorum_are_refused() {
    let mut cluster = Cluster::new(3, 3);
    assert_eq!(cluster.change(MemberChange::Remove { node: 2 }), Err(ChangeError::NotMaster));
    cluster.until("a master", |cluster| cluster.master().is_some());
    cluster.run(SECOND);
    let master = cluster.master().unwrap();
    let (second, third) = (1 + master % 3, 1 + (master + 1) % 3);
    let refused = |cluster: &mut Cluster, change, error| assert_eq!(cluster.change(change), Err(error));
    let add = |node| MemberChange::AddLearner { node, addresses: Addresses::default() };
    refused(&mut cluster, add(second), ChangeError::Member { node: second });
    refused(&mut cluster, add(0), ChangeError::Zero);
    refused(&mut cluster, MemberChange::Promote { node: 9 }, ChangeError::Unknown { node: 9 });
    refused(&mut cluster, MemberChange::Promote { node: second }, ChangeError::Voter { node: second });
    refused(&mut cluster, MemberChange::Remove { node: 9 }, ChangeError::Unknown { node: 9 });
    refused(&mut cluster, MemberChange::Remove { node: master }, ChangeError::Master);

    // Nobody is there: it never answers.
    assert_eq!(cluster.change(add(4)), Ok(()));
    refused(&mut cluster, add(5), ChangeError::UnderWay);
    cluster.run(SECOND);
    refused(&mut cluster, MemberChange::Promote { node: 4 }, ChangeError::Dead { node: 4 });

    cluster.crash(third);
    cluster.run(15 * TICK);
    refused(&mut cluster, MemberChange::Remove { node: second }, ChangeError::Quorum { alive: 1, voters: 2 });
    assert_eq!(cluster.change(MemberChange::Remove { node: third }), Ok(()), "the dead one may go");
    cluster.run(SECOND);
    assert_eq!(cluster.servers[&master].members.voters().count(), 2);
}

#[test]
fn who_lags_may_not_vote_yet() {
    let mut cluster = Cluster::new(4, 1);
    cluster.until("a master", |cluster| cluster.master() == Some(1));
    for _ in 0..1100 {
        cluster.propose(1);
    }
    cluster.run(SECOND);
    cluster.join(2);
    cluster.lose_streams = true;
    cluster.add_member(2).unwrap();
    cluster.run(SECOND);
    let refusal = cluster.change(MemberChange::Promote { node: 2 });
    assert!(matches!(refusal, Err(ChangeError::Behind { node: 2, lag: 1101.., limit: 1000 })), "{refusal:?}");
    cluster.lose_streams = false;
    cluster.until("it has caught up", |cluster| {
        cluster.status(1).members.first().is_some_and(|member| member.lag == 0 && member.alive)
    });
    assert_eq!(cluster.change(MemberChange::Promote { node: 2 }), Ok(()));
    cluster.settle();
}

#[test]
fn the_status_tells_who_lags_and_who_is_dead() {
    let mut cluster = Cluster::new(5, 3);
    cluster.until("a master", |cluster| cluster.master().is_some());
    cluster.run(SECOND);
    let master = cluster.master().unwrap();
    let dead = 1 + master % 3;
    cluster.crash(dead);
    busy(&mut cluster, 3 * SECOND);
    cluster.network = GOOD;
    let members = cluster.status(master).members;
    assert_eq!(members.len(), 2);
    for member in members {
        assert_eq!(member.alive, member.node != dead);
        assert_eq!(member.lag > 10, member.node == dead, "{member:?}");
    }
}

#[test]
fn a_change_of_address_reaches_all() {
    let mut cluster = Cluster::new(6, 3);
    cluster.until("a master", |cluster| cluster.master().is_some());
    let moved = MemberChange::SetAddresses { node: 2, addresses: addresses(2) };
    change(&mut cluster, moved, |members| members.members[&2].addresses == addresses(2));
    cluster.settle();
    for server in cluster.servers.values() {
        assert_eq!(server.members.members[&2].addresses, addresses(2));
        assert_eq!(server.members.voters().count(), 3);
    }
}
