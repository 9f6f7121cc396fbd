//! What it costs to apply a command, the digest of the state included, and to work the digest out anew:
//! `cargo bench -p cld-server`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may fail by panic")]

use std::hint::black_box;
use std::sync::Arc;

use cld_server::database::{Action, Command, Database, Reply, Settled, UserName, Write};
use cldc_core::wire::{Code, EventMask, LockFlags, OpenMode};
use criterion::{Criterion, criterion_group, criterion_main};

const SID: u64 = 1;
const FH: u64 = 2;

/// A session that sends requests in order.
struct Cell {
    database: Database,
    order: u64,
}

impl Cell {
    /// A cell with so many files, the first of which is open.
    fn new(files: u64) -> Self {
        let mut cell = Self { database: Database::new(), order: 1 };
        let user = UserName::new(b"user").unwrap();
        let peer = ([127, 0, 0, 1], 9).into();
        cell.apply(Action::OpenSession { sid: SID, user, peer, xid: 1, order: 1, terms: None });
        let mode = OpenMode::CREATE | OpenMode::WRITE | OpenMode::LOCK;
        for file in 0..files {
            let path: Arc<[u8]> = format!("/file-{file}").into_bytes().into();
            assert_eq!(
                cell.write(Write::Open { mode, events: EventMask::NONE, path }),
                Reply::Opened(FH + file)
            );
            if file > 0 {
                cell.write(Write::Close { fh: FH + file });
            }
        }
        cell
    }

    fn apply(&mut self, action: Action) -> Option<Reply> {
        self.database.apply(&Command { at: 1, epoch: 0, action }).reply
    }

    /// Makes a request, which acknowledges the one before.
    fn write(&mut self, write: Write) -> Reply {
        self.order += 1;
        let order = self.order;
        let settled = Settled { replies: vec![order - 1], events: Vec::new() };
        self.apply(Action::Request { sid: SID, xid: order, order, settled, write }).unwrap()
    }
}

fn commands(criterion: &mut Criterion) {
    for size in [100, 4096, 131_072] {
        let mut cell = Cell::new(1);
        let data: Arc<[u8]> = vec![7; size].into();
        criterion.bench_function(&format!("put {size} bytes"), |bencher| {
            bencher.iter(|| {
                let reply = cell.write(Write::Put { fh: FH, data: data.clone(), fence: None });
                assert_eq!(black_box(reply), Reply::Code(Code::Ok));
            });
        });
    }
    let mut cell = Cell::new(1);
    criterion.bench_function("lock and unlock", |bencher| {
        bencher.iter(|| {
            black_box(cell.write(Write::Lock { fh: FH, flags: LockFlags::NONE, wait: true }));
            black_box(cell.write(Write::Unlock { fh: FH }));
        });
    });
    let cell = Cell::new(100_000);
    criterion.bench_function("digest of 100,000 files", |bencher| {
        bencher.iter(|| black_box(cell.database.digest()));
    });
    criterion.bench_function("digest of 100,000 files, anew", |bencher| {
        bencher.iter(|| black_box(cell.database.recomputed_digest()));
    });
}

criterion_group!(benches, commands);
criterion_main!(benches);
