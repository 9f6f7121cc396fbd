//! Random locking, releasing, expiring, deleting: a sequencer stands as long as somebody has held its lock without a
//! break, and no longer, and that is what decides over every fenced request.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

const PATHS: [&str; 2] = ["/l", "/m"];
/// The handle of each session on a file that is not locked, opened after those on [`PATHS`].
const DATA: u64 = 4;

#[derive(Clone, Debug)]
enum Step {
    Write(u64, Write),
    Expire(u64),
    /// A request that carries one of the sequencers that there ever were.
    Fenced(u64, Option<&'static str>, prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let (sid, fh, path) = (|| 1..4u64, || 2..7u64, || prop::sample::select(&PATHS[..]));
    let lock = (fh(), any::<bool>(), prop::bool::weighted(0.8)).prop_map(|(fh, shared, wait)| Write::Lock {
        fh,
        flags: LockFlags(shared.into()),
        wait,
    });
    let write = prop_oneof![
        12 => lock,
        8 => fh().prop_map(|fh| Write::Unlock { fh }),
        2 => fh().prop_filter("the one for writing", |&fh| fh != DATA).prop_map(|fh| Write::Close { fh }),
        1 => path().prop_map(del),
        4 => path().prop_map(|path| open(path, CREATE | LOCK, NONE)),
    ];
    prop_oneof![
        20 => (sid(), write).prop_map(|(sid, write)| Step::Write(sid, write)),
        1 => sid().prop_map(Step::Expire),
        8 => (sid(), prop::option::weighted(0.1, path()), any::<prop::sample::Index>())
            .prop_map(|(sid, deleted, at)| Step::Fenced(sid, deleted, at)),
    ]
}

/// One file's lock as an onlooker sees it.
#[derive(Default)]
struct Watched {
    inode: u64,
    holders: BTreeSet<Owner>,
    /// Raised whenever none of the holders was one before.
    tenure: u64,
}

impl Watched {
    fn look(&mut self, db: &Database, path: &str) {
        let inode = db.stat(path.as_bytes()).map_or(0, |meta| meta.inode);
        let held = db.lock_queue(inode).filter(|(_, holds)| *holds);
        let holders: BTreeSet<_> = held.map(|(claim, _)| claim.owner).collect();
        if inode != self.inode || holders.is_disjoint(&self.holders) {
            self.tenure += 1;
        }
        (self.inode, self.holders) = (inode, holders);
    }
}

/// Opens what every session has open.
fn arrive(cell: &mut Cell, sid: u64) {
    cell.session(sid, "alice");
    for path in PATHS {
        cell.open(sid, path, CREATE | LOCK, NONE);
    }
    assert_eq!(cell.open(sid, "/data", CREATE | WRITE, NONE), DATA);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_sequencer_stands_while_its_lock_is_held_without_a_break(steps in vec(step(), 0..120)) {
        let mut cell = Cell { db: Database::new(), at: 0, numbers: BTreeMap::new() };
        (1..=3).for_each(|sid| arrive(&mut cell, sid));
        let mut watched = [Watched::default(), Watched::default()];
        // Every sequencer that ever was, with its file and tenure.
        let mut known: Vec<(Sequencer, usize, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Write(sid, write) => {
                    let effects = cell.write(sid, write.clone());
                    if let (Write::Lock { fh, .. }, Some(reply @ Reply::Locked { .. })) = (write, effects.reply) {
                        prop_assert_eq!(cell.db.sequencer_of(reply), cell.db.sequencer(sid, fh).ok());
                    }
                    for granted in effects.events.iter().filter(|notice| notice.events == LOCKED) {
                        prop_assert!(cell.db.sequencer(granted.sid, granted.fh).is_ok());
                    }
                }
                Step::Expire(sid) => {
                    cell.expire(sid);
                    arrive(&mut cell, sid);
                }
                Step::Fenced(_, _, _) if known.is_empty() => continue,
                Step::Fenced(sid, deleted, at) => {
                    let (fence, file, tenure) = at.get(&known).clone();
                    let stands = watched[file].tenure == tenure && !watched[file].holders.is_empty();
                    let before = format!("{:?}", cell.db.namespace);
                    let code = cell.code(sid, match deleted {
                        Some(path) => Write::Del { path: path.as_bytes().into(), fence: Some(fence) },
                        None => Write::Put { fh: DATA, data: b"x".as_slice().into(), fence: Some(fence) },
                    });
                    let expected = match deleted {
                        _ if !stands => Code::Stale,
                        Some(path) if watched.iter().zip(PATHS).any(|(w, p)| p == path && w.inode == 0) => Code::NameInval,
                        _ => Code::Ok,
                    };
                    prop_assert_eq!(code, expected);
                    prop_assert_eq!(before == format!("{:?}", cell.db.namespace), expected != Code::Ok);
                }
            }
            for ((file, path), watched) in PATHS.iter().enumerate().zip(&mut watched) {
                watched.look(&cell.db, path);
                for holder in &watched.holders {
                    let sequencer = cell.db.sequencer(holder.sid, holder.fh).unwrap();
                    if !known.contains(&(sequencer.clone(), file, watched.tenure)) {
                        known.push((sequencer, file, watched.tenure));
                    }
                }
            }
            for (sequencer, file, tenure) in &known {
                let stands = watched[*file].tenure == *tenure && !watched[*file].holders.is_empty();
                prop_assert_eq!(cell.db.check_sequencer(sequencer).is_ok(), stands);
            }
        }
    }
}
