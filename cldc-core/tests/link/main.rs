//! The link: a sender and a receiver with a bad network between them, and each of them alone.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panic")]

#[path = "../support/random.rs"]
mod random;
#[path = "../support/storage.rs"]
mod storage;

mod acknowledging;
mod adapting;
mod anew;
mod duplex;
mod receiving;
mod schedules;
mod selective;
mod sending;

use cldc_core::link::{Early, Outgoing, Pacing, Receiver, Sender};
use cldc_core::time::Duration;
use storage::{Bytes, List};

type TestSender = Sender<List<Outgoing<Vec<u8>>, 64>>;
type TestReceiver<const EARLY: usize> = Receiver<Bytes, List<Early<Bytes>, EARLY>>;

const PACING: Pacing = Pacing {
    resend: Duration::from_millis(200),
    resend_next: Duration::from_millis(400),
    resend_max: Duration::from_millis(1_600),
    window: 32,
    burst: 16,
    gap: Duration::from_millis(2),
    whole: 0,
};

fn sender(next: u64, pacing: Pacing) -> TestSender {
    Sender::new(next, pacing, List::default())
}

fn receiver<const EARLY: usize>(next: u64) -> TestReceiver<EARLY> {
    Receiver::new(next, Bytes::default(), List::default())
}

/// Bytes that differ from place to place and from message to message.
fn contents(message: usize, len: usize) -> Vec<u8> {
    (0..len).map(|place| (place.wrapping_mul(31) ^ place >> 8 ^ message) as u8).collect()
}
