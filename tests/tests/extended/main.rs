//! Extended sessions end to end (docs/protocol.md 7), by a raw client that decides which packet is sent when.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use cld_tests::raw::extended::{Extended, HELLO, Hello};
use cld_tests::server::Cld;

mod events;
mod keepalive;
mod replays;
mod resume;

/// The shortest lease that is granted, in milliseconds.
const SHORTEST: u32 = 2_000;

/// A session of `user`.
#[track_caller]
fn connect(cld: &Cld, user: &str) -> Extended {
    Extended::connect(cld.address(), user)
}

/// A session of `user` with the shortest lease.
#[track_caller]
fn connect_briefly(cld: &Cld, user: &str) -> Extended {
    let (session, welcome) = Extended::connect_with(cld.address(), user, Hello { lease: SHORTEST, ..HELLO });
    assert_eq!(welcome.lease, SHORTEST);
    session
}
