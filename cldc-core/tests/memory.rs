//! The memory that a session takes: what a small device is promised.

use cldc_core::session::{Datagram, FullSession, SmallSession};

#[test]
fn the_smallest_session_takes_less_than_8_kib_with_two_datagram_buffers() {
    let total = size_of::<SmallSession>() + 2 * size_of::<Datagram>();
    assert!(total < 8 * 1024, "{total} bytes");
}

#[test]
fn the_full_session_takes_less_than_half_a_megabyte() {
    assert!(size_of::<FullSession>() < 640 * 1024, "{} bytes", size_of::<FullSession>());
}
