//! The memory that a session takes: what a small device is promised. `cargo test --test memory -- --nocapture` prints it.

use cldc_core::session::{Datagram, FullSession, Session, SmallSession, rx_bytes, tx_bytes};

/// Locks only: no file is read or written.
type LockSession = Session<{ rx_bytes(0) }, { tx_bytes(0, 1) }, 1, 1, 0>;
/// Files of 4 KiB, and packets held that come early.
type MiddleSession = Session<{ rx_bytes(4_096) }, { tx_bytes(4_096, 4) }, 4, 16, 8>;

const BUFFERS: usize = 2 * size_of::<Datagram>();

#[test]
fn the_smallest_session_takes_less_than_8_kib_with_two_datagram_buffers() {
    let total = size_of::<SmallSession>() + BUFFERS;
    assert!(total < 8 * 1024, "{total} bytes");
}

#[test]
fn the_full_session_takes_less_than_640_kib() {
    assert!(size_of::<FullSession>() < 640 * 1024, "{} bytes", size_of::<FullSession>());
}

#[test]
fn a_session_takes_little_more_than_the_storage_that_was_chosen() {
    println!("| session | files | requests | handles | held | bytes | with two datagram buffers |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    // Of each request the table, of each handle 40 bytes, of each packet held its piece and where it belongs.
    let rows = [
        ("locks only", 0, 1, 1, 0, size_of::<LockSession>(), tx_bytes(0, 1)),
        ("`SmallSession`", 1_024, 2, 4, 0, size_of::<SmallSession>(), tx_bytes(1_024, 2)),
        ("4 KiB files", 4_096, 4, 16, 8, size_of::<MiddleSession>(), tx_bytes(4_096, 4)),
        ("`FullSession`", 131_072, 64, 256, 128, size_of::<FullSession>(), tx_bytes(131_072, 2)),
    ];
    for (name, files, requests, handles, held, size, tx) in rows {
        println!("| {name} | {files} | {requests} | {handles} | {held} | {size} | {} |", size + BUFFERS);
        let storage = rx_bytes(files) + tx + 128 * requests + 40 * handles + 1_088 * held;
        assert!(size <= storage + 1_536, "{name}: {size} bytes for a storage of {storage}");
    }
}
