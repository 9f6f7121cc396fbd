//! The messages' bytes, and what other servers may throw at an engine.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use proptest::prelude::*;

use super::cluster::{Cluster, Random, SECOND, TICK};
use super::store::MemoryStore;
use crate::codec::CodecError;
use crate::replica::*;
use crate::storage::{LogStore, LogWrite, SnapshotRecord};

/// All messages that a cell sends while it elects, replicates, restores and hands over, as bytes.
fn real_messages() -> Vec<(u64, Vec<u8>)> {
    let mut cluster = Cluster::new(3, 3);
    cluster.record = true;
    cluster.snapshot_every = 20;
    cluster.keep(0);
    cluster.until("a master", |cluster| cluster.master().is_some());
    let lagging = cluster.servers.keys().copied().find(|id| Some(*id) != cluster.master()).unwrap();
    cluster.crash(lagging);
    for _ in 0..50 {
        let master = cluster.master().unwrap();
        cluster.propose(master);
        cluster.run(TICK / 4);
    }
    cluster.start(lagging);
    cluster.join(4);
    cluster.add_member(4).unwrap();
    cluster.run(5 * SECOND);
    cluster.hand_over(lagging);
    cluster.run(SECOND);
    cluster.recorded
}

#[test]
fn every_message_of_a_cell_reads_back_as_it_was_and_all_kinds_occur() {
    let messages = real_messages();
    for (_, bytes) in &messages {
        let message = Message::decode(bytes).unwrap();
        assert_eq!(message.encode(), *bytes);
        assert_eq!(Message::decode(&message.encode()).unwrap(), message);
    }
    for kind in 1..=10 {
        assert!(messages.iter().any(|(_, bytes)| bytes[1] == kind), "no message of kind {kind}");
    }
}

#[test]
fn another_version_is_named() {
    let (_, mut bytes) = real_messages().remove(0);
    bytes[0] = 2;
    let error = Message::decode(&bytes).unwrap_err();
    assert!(matches!(error, CodecError::Version { found: 2, known: 1, .. }), "{error}");
}

#[test]
fn a_message_has_a_size_within_the_limit() {
    let error = Message::decode(&vec![1; MAX_MESSAGE_SIZE + 1]).unwrap_err();
    assert!(matches!(error, CodecError::TooLong { .. }), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_and_never_panic(mut bytes: Vec<u8>, kind in 0_u8..12) {
        let _ = Message::decode(&bytes);
        if bytes.len() > 1 {
            (bytes[0], bytes[1]) = (1, kind);
        }
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(message.encode(), bytes);
        }
    }
}

/// One server alone, which believes whatever comes.
struct Victim {
    engine: RaftEngine,
    store: MemoryStore,
    writes: VecDeque<(u64, LogWrite)>,
    now: u64,
}

impl Victim {
    fn start(store: MemoryStore) -> Self {
        let config = EngineConfig { snapshot_ticks: 20, ..EngineConfig::new(store.node, 1) };
        let engine = RaftEngine::new(config, store.image.clone()).unwrap();
        Self { engine, store, writes: VecDeque::new(), now: 0 }
    }

    fn poll(&mut self, random: &mut Random) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Persist { ticket, write } => self.writes.push_back((ticket, write)),
                Output::SendSnapshot { to, .. } => self.engine.snapshot_sent(to, random.percent(50)),
                Output::Committed { .. } if random.percent(5) => {
                    let point = self.engine.snapshot_point();
                    let trim = self.engine.trim_point(point.at.index);
                    let record = SnapshotRecord { point, length: 1, checksum: 1 };
                    self.store.record_snapshot(&record, trim).unwrap();
                    self.engine.compact(record, trim);
                }
                _ => {}
            }
        }
        while !self.writes.is_empty() && random.percent(60) {
            let (ticket, write) = self.writes.pop_front().unwrap();
            // It notices what the real store would refuse.
            self.store.append(&[write]).unwrap();
            self.engine.handle_persisted(ticket);
        }
    }
}

/// A server gets real messages with some fields changed, from anybody and in any order: it may be misled, as it trusts its
/// peers, but it does not die.
#[test]
fn messages_that_make_no_sense_kill_no_server() {
    let messages = real_messages();
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..300 {
        let random = &mut Random(seed);
        let node = NonZeroU64::new(1 + seed % 3).unwrap();
        let store =
            if seed % 5 == 0 { MemoryStore::of_newcomer(node) } else { MemoryStore::of_cell(node, 1..=3) };
        let mut victim = Victim::start(store);
        for _ in 0..400 {
            let place = random.below(messages.len() as u64) as usize;
            let mut bytes = messages[place].1.clone();
            bytes[2..10].copy_from_slice(&node.get().to_be_bytes());
            for _ in 0..random.below(4) {
                // Behind the first 10 bytes come numbers of 8 bytes; small ones are the interesting ones.
                let field = 10 + 8 * random.below(6) as usize;
                let value = match random.below(10) {
                    0 => u64::MAX >> random.below(64),
                    1..6 => random.below(60),
                    _ => victim.engine.status().last_index.saturating_add(random.below(3)),
                };
                if field + 8 <= bytes.len() {
                    bytes[field..field + 8].copy_from_slice(&value.to_be_bytes());
                }
            }
            if random.percent(70) {
                let term = victim.engine.status().term + random.below(20) / 19;
                bytes[10..18].copy_from_slice(&term.to_be_bytes());
            }
            if let Ok(message) = Message::decode(&bytes) {
                let from = random.below(6);
                let result = match message.snapshot() {
                    Some(_) => victim.engine.restore(from, message),
                    None => victim.engine.handle_message(from, message),
                };
                if result.is_ok() { taken += 1 } else { refused += 1 }
            }
            if random.percent(50) {
                victim.now += TICK;
                victim.engine.handle_tick(Instant::from_micros(victim.now));
            }
            if random.percent(20) {
                let _ = victim.engine.propose(vec![1; 10]);
            }
            victim.poll(random);
            if random.percent(1) {
                victim = Victim::start(victim.store);
            }
        }
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > 10_000 && refused > 10_000, "{taken} taken, {refused} refused");
}

#[test]
fn a_message_for_another_server_is_refused() {
    let mut cluster = Cluster::new(1, 3);
    let (_, bytes) = real_messages().into_iter().find(|(to, _)| *to == 2).unwrap();
    let error = cluster.hand(3, 1, &bytes).unwrap_err();
    assert_eq!(error, MessageError::Misdirected { to: 2, here: 1 });
}

/// A message to server 2: its kind, its term, and the fields behind.
fn message(kind: u8, term: u64, numbers: &[u64], end: &[u8]) -> Message {
    let mut bytes = vec![1, kind];
    [2, term].iter().chain(numbers).for_each(|number| bytes.extend(number.to_be_bytes()));
    bytes.extend(end);
    Message::decode(&bytes).unwrap()
}

/// A late reply of a newer term must not make a follower forget its master, and with it what that one's lease rests on.
#[test]
fn a_late_reply_does_not_make_a_follower_forget_its_master() {
    let mut victim = Victim::start(MemoryStore::of_cell(NonZeroU64::new(2).unwrap(), 1..=3));
    victim.engine.handle_message(1, message(3, 5, &[1], &[0; 4])).unwrap();
    for reply in
        [message(6, 9, &[1, 1], &[1]), message(2, 9, &[1, 1, 1, 1], &[1]), message(4, 9, &[1], &[0; 4])]
    {
        victim.engine.handle_message(3, reply).unwrap();
        let status = victim.engine.status();
        assert_eq!((status.term, status.leader), (5, Some(1)));
    }
}
