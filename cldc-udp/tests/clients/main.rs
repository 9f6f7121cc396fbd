//! Both clients against a server of the tests' own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

mod aio;
mod blocking;
mod events;
mod extended;
mod fencing;
mod locks;
mod support;
