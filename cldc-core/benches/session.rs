//! What a request and its answer cost the client, beside the digests of the same bytes: `cargo bench -p cldc-core`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark may fail by panic"
)]

mod exchange;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use exchange::{Exchange, KINDS};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

fn exchanges(criterion: &mut Criterion) {
    for (name, kind) in KINDS {
        let mut group = criterion.benchmark_group(name);
        let mut exchange = Exchange::new(kind);
        group.bench_function("session", |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let start = Instant::now();
                    exchange.client_asks();
                    spent += start.elapsed();
                    exchange.server_answers();
                    let start = Instant::now();
                    exchange.client_takes();
                    spent += start.elapsed();
                }
                spent
            });
        });
        let packets: Vec<Vec<u8>> = exchange.packets().map(<[u8]>::to_vec).collect();
        let key = Hmac::<Sha1>::new_from_slice(b"tester").unwrap();
        group.bench_function("HMAC-SHA1 of the same bytes", |bencher| {
            bencher.iter(|| {
                for packet in &packets {
                    let mut mac = key.clone();
                    mac.update(&packet[..packet.len() - 20]);
                    black_box(mac.finalize());
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, exchanges);
criterion_main!(benches);
