//! A log that begins anew at another server's snapshot, and one that begins with nothing.

use super::*;
use proptest::prelude::*;

use crate::codec::{Reader, Writer};

fn receive(store: &Store, point: SnapshotPoint) -> SnapshotRecord {
    let mut writer = store.snapshots().receive(point.clone()).unwrap();
    chunks(&point).iter().for_each(|chunk| writer.write_chunk(chunk).unwrap());
    writer.finish().unwrap()
}

fn install(record: &SnapshotRecord, entries: Vec<LogEntry>, commit: u64) -> LogWrite {
    let hard_state = HardState { term: record.point.at.term, vote: 0, commit };
    LogWrite { snapshot: Some(record.clone()), entries, hard_state }
}

#[test]
fn a_newcomer_has_no_configuration_until_it_begins_with_a_snapshot() {
    let disk = FaultyDisk::new();
    let (mut store, recovered) = open(&disk, OpenMode::NewMember(IDENTITY)).unwrap();
    assert_eq!((recovered.log.base, recovered.log.hard_state), Default::default());
    let point = point(30, 4);
    let record = receive(&store, point.clone());
    store.append(&[install(&record, vec![entry(31, 4, "next")], 30)]).unwrap();
    drop(store);
    let (_, recovered) = open(&disk, OpenMode::NewMember(IDENTITY)).unwrap();
    assert_eq!((&recovered.log.base, recovered.log.start), (&point, point.at));
    assert_eq!(recovered.log.entries, [entry(31, 4, "next")]);
    assert_eq!(recovered.log.file, Some(record.file()));
    assert_eq!(read_chunks(recovered.snapshot.unwrap()), chunks(&point));
}

#[test]
fn a_log_gives_way_to_a_snapshot_and_its_old_files_go() {
    let disk = FaultyDisk::new();
    let (mut store, _) = open(&disk, NEW_CELL).unwrap();
    fill(&mut store, 20);
    let own = make_snapshot(store.snapshots(), point(15, 1)).unwrap();
    store.record_snapshot(&own, 10).unwrap();
    let record = receive(&store, point(18, 3));
    store.append(&[write(vec![entry(21, 1, "before")], 20), install(&record, Vec::new(), 18)]).unwrap();
    assert_eq!(disk.list().unwrap().len(), 2, "{:?}", disk.list());
    store.record_snapshot(&own, 15).unwrap();
    drop(store);
    let (_, recovered) = open(&disk, OpenMode::Existing).unwrap();
    assert_eq!(recovered.log.base, point(18, 3), "an older snapshot changes nothing");
    assert_eq!((recovered.log.entries, recovered.log.hard_state.commit), (Vec::new(), 18));
}

#[test]
fn a_log_begins_with_no_snapshot_that_was_not_received_or_is_not_newer() {
    let disk = FaultyDisk::new();
    let (mut store, before) = open(&disk, NEW_CELL).unwrap();
    let record = SnapshotRecord { point: point(30, 4), length: 1, checksum: 1 };
    let missing = store.append(&[install(&record, Vec::new(), 30)]);
    assert!(matches!(missing, Err(LogError::Misuse(_))), "{missing:?}");
    let record = receive(&store, point(1, 1));
    let old = store.append(&[install(&record, Vec::new(), 1)]);
    assert!(matches!(old, Err(LogError::Misuse(_))), "{old:?}");
    drop(store);
    let (_, after) = open(&disk, OpenMode::Existing).unwrap();
    assert_eq!(after.log, before.log);
    assert_eq!(disk.list().unwrap(), ["log.redb"], "what was received and not used is removed");
}

#[test]
fn entries_keep_their_kind() {
    let disk = FaultyDisk::new();
    let (mut store, _) = open(&disk, NEW_CELL).unwrap();
    let change = LogEntry { kind: EntryKind::Configuration, ..entry(2, 1, "a change") };
    store.append(&[write(vec![change.clone(), entry(3, 1, "a command")], 1)]).unwrap();
    drop(store);
    let (_, recovered) = open(&disk, OpenMode::Existing).unwrap();
    assert_eq!(recovered.log.entries, [change, entry(3, 1, "a command")]);
}

proptest! {
    #[test]
    fn a_configuration_reads_back(
        members: Vec<(u64, bool, Option<std::net::SocketAddr>, Option<std::net::SocketAddr>)>,
        removed: Vec<u64>,
    ) {
        let members = members.into_iter().take(MAX_MEMBERS).map(|(node, votes, peer, client)| {
            (node.max(1), Member { votes, addresses: Addresses { peer, client } })
        });
        let removed = removed.into_iter().take(MAX_REMOVED).collect();
        let configuration = Configuration { members: members.collect(), removed };
        let mut out = Writer::new();
        configuration.write(&mut out);
        let mut input = Reader::new(out.as_slice());
        prop_assert_eq!(Configuration::read(&mut input), Ok(configuration));
        prop_assert_eq!(input.finish(), Ok(()));
        for length in 0..out.len() {
            prop_assert!(Configuration::read(&mut Reader::new(&out.as_slice()[..length])).is_err());
        }
    }
}
