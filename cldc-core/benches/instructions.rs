//! For `instructions.sh`: so many exchanges of one kind, or a list of the kinds, or the digests of the same bytes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark may fail by panic"
)]

mod exchange;

use std::hint::black_box;

use exchange::{Exchange, KINDS};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// How many exchanges are counted.
const ROUNDS: usize = 10;

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    match KINDS.iter().find(|(name, _)| *name == wanted) {
        Some((_, kind)) => {
            let mut exchange = Exchange::new(*kind);
            for _ in 0..ROUNDS {
                counted_client_asks(&mut exchange);
                exchange.server_answers();
                counted_client_takes(&mut exchange);
            }
            let packets: Vec<&[u8]> = exchange.packets().collect();
            for _ in 0..ROUNDS {
                counted_digests(&packets);
            }
            println!(
                "{ROUNDS} {} {}",
                packets.len(),
                packets.iter().map(|packet| packet.len()).sum::<usize>()
            );
        }
        None => KINDS.iter().for_each(|(name, _)| println!("{name}")),
    }
}

#[inline(never)]
fn counted_client_asks(exchange: &mut Exchange) {
    exchange.client_asks();
}

#[inline(never)]
fn counted_client_takes(exchange: &mut Exchange) {
    exchange.client_takes();
}

#[inline(never)]
fn counted_digests(packets: &[&[u8]]) {
    let key = Hmac::<Sha1>::new_from_slice(b"tester").unwrap();
    for packet in packets {
        let mut mac = key.clone();
        mac.update(&packet[..packet.len() - 20]);
        black_box(mac.finalize());
    }
}
