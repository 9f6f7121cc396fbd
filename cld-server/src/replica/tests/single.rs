//! The engine as a cell of one, on a log in memory whose writes finish late.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use super::store::MemoryStore;
use crate::replica::*;
use crate::storage::{Configuration, LogEntry, LogStore, MAX_ENTRY_SIZE, Member, SnapshotRecord};

const NODE: NonZeroU64 = NonZeroU64::new(7).unwrap();
const CONFIG: EngineConfig = EngineConfig::new(NODE, 1);
const NOW: Instant = Instant::START;

/// A server: its engine, its disk, and what the engine gave out since it started.
struct Server {
    engine: RaftEngine,
    store: MemoryStore,
    /// Writes that the disk has not finished.
    writes: VecDeque<(u64, LogWrite)>,
    committed: Vec<LogEntry>,
    master: Option<u64>,
}

impl Server {
    fn start(store: MemoryStore) -> Self {
        let engine = RaftEngine::new(CONFIG, store.image.clone()).unwrap();
        Self { engine, store, writes: VecDeque::new(), committed: Vec::new(), master: None }
    }

    /// Started, with all writes done.
    fn master() -> Self {
        let mut server = Self::start(MemoryStore::of_cell(NODE, [NODE.get()]));
        server.settle();
        server
    }

    fn poll(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Persist { ticket, write } => self.writes.push_back((ticket, write)),
                Output::Committed { at, payload } => {
                    let entry = LogEntry { at, payload, ..LogEntry::default() };
                    assert!(
                        self.store.image.entries.contains(&entry),
                        "{at:?} was committed before it was durable"
                    );
                    self.committed.push(entry);
                }
                Output::BecameMaster { term } => {
                    assert!(
                        self.store.image.entries.iter().any(|entry| entry.at.term == term),
                        "no entry is durable"
                    );
                    let given_out = self.engine.snapshot_point().at.term;
                    assert_eq!(
                        (given_out, self.engine.status().term),
                        (term, term),
                        "not all was given out before"
                    );
                    assert_eq!(self.master.replace(term), None);
                }
                Output::Deposed { term } => assert_eq!(self.master.take(), Some(term)),
                other => panic!("of no use in a cell of one: {other:?}"),
            }
        }
    }

    /// The disk finishes this many writes, and tells so for all or only for the last.
    fn persist(&mut self, count: usize, tell_all: bool) {
        for left in (0..count.min(self.writes.len())).rev() {
            let (ticket, write) = self.writes.pop_front().unwrap();
            self.store.append(&[write]).unwrap();
            if tell_all || left == 0 {
                self.engine.handle_persisted(ticket);
            }
        }
        self.poll();
    }

    /// Polls and writes until nothing is left.
    fn settle(&mut self) {
        self.poll();
        while !self.writes.is_empty() {
            self.persist(1, true);
        }
    }

    fn snapshot(&mut self, trim_through: u64) {
        let point = self.engine.snapshot_point();
        let record = SnapshotRecord { point, length: 0, checksum: 0 };
        self.store.record_snapshot(&record, trim_through).unwrap();
        self.engine.compact(record, trim_through);
    }
}

#[test]
fn a_cell_of_one_is_master_at_once_when_its_first_entry_is_durable() {
    let mut server = Server::start(MemoryStore::of_cell(NODE, [NODE.get()]));
    server.poll();
    assert_eq!(server.master, None, "nothing is on the disk");
    assert_eq!(server.engine.status().role, Role::Leader);
    assert_eq!(server.engine.propose(vec![1]), Err(ProposeError::NotMaster));
    server.settle();
    assert_eq!(server.master, Some(2));
    assert_eq!(server.engine.propose(vec![1]), Ok(()));
    let status = server.engine.status();
    assert_eq!((status.leader, status.term, status.applied, status.last_index), (Some(7), 2, 2, 3));
}

#[test]
fn nothing_is_committed_before_it_is_durable() {
    let mut server = Server::master();
    for payload in 1..=3 {
        server.engine.propose(vec![payload]).unwrap();
        server.poll();
    }
    assert_eq!((server.writes.len(), server.committed.len()), (3, 0));
    for done in 1..=3 {
        server.persist(1, true);
        assert_eq!(server.committed.len(), done);
    }
}

#[test]
fn proposals_made_together_are_one_write() {
    let mut server = Server::master();
    for payload in 1..=3 {
        server.engine.propose(vec![payload]).unwrap();
    }
    server.poll();
    assert_eq!(server.writes.len(), 1);
    server.settle();
    assert_eq!(server.committed.iter().map(|entry| entry.payload[0]).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_payload_must_have_a_size_within_the_limit() {
    let mut server = Server::master();
    for size in [0, MAX_ENTRY_SIZE + 1] {
        let refused = server.engine.propose(vec![0; size]);
        assert_eq!(refused, Err(ProposeError::Size { size, limit: MAX_ENTRY_SIZE }));
    }
    server.engine.propose(vec![0; MAX_ENTRY_SIZE]).unwrap();
    server.settle();
    assert_eq!(server.committed.len(), 1);
}

#[test]
fn a_slow_disk_makes_the_engine_refuse_and_recover() {
    let mut server = Server::master();
    let mut taken = 0;
    while server.engine.propose(vec![0; MAX_ENTRY_SIZE]).is_ok() {
        taken += 1;
        assert!(taken < 100, "there is no limit");
        server.poll();
    }
    assert_eq!(server.engine.propose(vec![0; MAX_ENTRY_SIZE]), Err(ProposeError::Busy));
    server.settle();
    assert_eq!(server.committed.len(), taken);
    assert_eq!(server.engine.propose(vec![0; MAX_ENTRY_SIZE]), Ok(()));
}

#[test]
fn a_restart_gives_out_all_behind_the_snapshot_once_and_in_order() {
    let mut server = Server::master();
    for payload in 1..=20 {
        server.engine.propose(vec![payload]).unwrap();
        server.settle();
        if payload == 12 {
            // Keeps some entries before the snapshot.
            server.snapshot(server.engine.status().applied - 4);
        }
    }
    let mut server = Server::start(server.store);
    server.settle();
    assert_eq!(
        server.committed.iter().map(|entry| entry.payload[0]).collect::<Vec<_>>(),
        (13..=20).collect::<Vec<_>>()
    );
    assert_eq!(server.master, Some(3));
    server.engine.propose(vec![21]).unwrap();
    server.settle();
    assert_eq!(server.committed.last().unwrap().payload, [21]);
}

#[test]
fn trimming_forgets_entries_and_the_log_goes_on() {
    let mut server = Server::master();
    for payload in 1..=20 {
        server.engine.propose(vec![payload]).unwrap();
        server.settle();
    }
    let applied = server.engine.status().applied;
    server.snapshot(applied);
    let status = server.engine.status();
    assert_eq!((status.first_index, status.last_index), (applied + 1, applied));
    server.engine.propose(vec![21]).unwrap();
    server.settle();
    assert_eq!(server.committed.len(), 21);
    assert_eq!(server.engine.snapshot_point().at, LogPosition { index: applied + 1, term: 2 });
}

#[test]
fn trimming_never_goes_beyond_what_was_given_out() {
    let mut server = Server::master();
    server.engine.propose(vec![1]).unwrap();
    server.settle();
    server.engine.propose(vec![2]).unwrap();
    server.poll();
    let record = SnapshotRecord { point: server.engine.snapshot_point(), length: 0, checksum: 0 };
    server.engine.compact(record, u64::MAX);
    server.settle();
    assert_eq!(server.committed.last().unwrap().payload, [2]);
}

#[test]
fn a_lone_master_stays_master_however_long_it_idles() {
    let mut server = Server::master();
    for _ in 0..1000 {
        server.engine.handle_tick(NOW);
        server.poll();
    }
    assert_eq!((server.master, server.writes.len()), (Some(2), 0));
}

#[test]
fn a_node_that_may_not_vote_never_campaigns() {
    let mut store = MemoryStore::of_cell(NODE, [NODE.get()]);
    store.image.base.configuration = Configuration::of_voters([1, 2, 3]);
    store.image.base.configuration.members.insert(7, Member::default());
    let mut server = Server::start(store);
    for _ in 0..100 {
        server.engine.handle_tick(NOW);
        server.poll();
    }
    assert_eq!((server.engine.status().role, server.writes.len()), (Role::Follower, 0));
}

#[test]
fn one_of_three_asks_for_votes_after_a_timeout_that_only_the_seed_decides() {
    let ticks_to_campaign = |seed| {
        let mut store = MemoryStore::of_cell(NODE, [NODE.get()]);
        store.image.base.configuration = Configuration::of_voters([7, 8, 9]);
        let mut engine = RaftEngine::new(EngineConfig { seed, ..CONFIG }, store.image).unwrap();
        assert_eq!(engine.poll_output(), None, "it must wait for the others");
        let ticks = (1..).find(|_| {
            engine.handle_tick(NOW);
            engine.status().role == Role::Candidate
        });
        ticks.unwrap()
    };
    let timeouts: Vec<u32> = (0..50).map(ticks_to_campaign).collect();
    assert_eq!(timeouts, (0..50).map(ticks_to_campaign).collect::<Vec<_>>());
    assert_eq!((timeouts.iter().min(), timeouts.iter().max()), (Some(&10), Some(&19)));
}

#[test]
fn whatever_the_disk_does_what_was_committed_stays_and_comes_once() {
    for seed in 0..300 {
        let mut state: u64 = seed;
        let mut random = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        let mut server = Server::start(MemoryStore::of_cell(NODE, [NODE.get()]));
        let mut ever_committed: Vec<LogEntry> = Vec::new();
        let mut base = server.store.image.base.at.index;
        for _ in 0..200 {
            match random(12) {
                0..5 => {
                    let _ = server.engine.propose(vec![random(256) as u8; 1 + random(50) as usize]);
                    if random(2) == 0 {
                        server.poll();
                    }
                }
                5..9 => server.persist(random(4) as usize, random(2) == 0),
                9 => server.engine.handle_tick(NOW),
                10 => {
                    let at = server.engine.snapshot_point().at;
                    server.snapshot(at.index - random(5).min(at.index));
                    base = at.index;
                    server.committed.retain(|entry| entry.at.index > base);
                }
                _ => {
                    // The last writes may have reached the disk without a word.
                    let reached = random(3) as usize;
                    for (_, write) in server.writes.drain(..).take(reached) {
                        server.store.append(&[write]).unwrap();
                    }
                    server = Server::start(server.store);
                    server.poll();
                }
            }
            let through = server.engine.status().applied;
            assert_eq!(
                server.committed.iter().collect::<Vec<_>>(),
                server.store.payloads_after(base, through)
            );
            for entry in &server.committed {
                if ever_committed.last().is_none_or(|last| last.at.index < entry.at.index) {
                    ever_committed.push(entry.clone());
                } else {
                    assert!(ever_committed.contains(entry), "seed {seed}: {:?} was another before", entry.at);
                }
            }
        }
        server.settle();
        assert!(server.master.is_some(), "seed {seed}");
        let known = ever_committed.iter().filter(|entry| entry.at.index > base);
        assert!(known.zip(&server.committed).all(|(known, found)| known == found), "seed {seed}");
        assert!(
            server.committed.len() >= ever_committed.iter().filter(|entry| entry.at.index > base).count()
        );
    }
}

#[test]
fn a_long_log_is_trimmed_in_short_steps_and_wholly() {
    for (entries, size, most) in [(2500_u64, 1, 1000), (40, 300_000, 4)] {
        let mut server = Server::master();
        for _ in 0..entries {
            server.engine.propose(vec![7; size]).unwrap();
            server.settle();
        }
        let snapshot = server.engine.snapshot_point().at.index;
        let mut first = server.engine.status().first_index;
        while first <= snapshot {
            let through = server.engine.trim_point(snapshot);
            assert!(through >= first && through < first + most, "from {first} through {through}");
            server.snapshot(through);
            first = server.engine.status().first_index;
        }
        assert_eq!(server.engine.trim_point(snapshot), snapshot, "nothing is left");
    }
}
