//! What the end-to-end tests are made with: a raw-packet client, a fault-injecting proxy, the real `cld` as a
//! process, the captured packets of Hail's programs with a replayer for them, and a simulator of whole cells.
//!
//! Nothing here but [`sim`] uses the project's own codec or client: what these tests see is judged by a second reading of
//! `protocol.md`. A broken expectation panics with what was awaited and what came, so that a test reads straight on.
#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "the support library of tests: a broken expectation is a failed test"
)]

pub mod cell;
pub mod history;
pub mod network;
pub mod observe;
pub mod programs;
pub mod proxy;
pub mod raw;
pub mod rng;
pub mod server;
pub mod sim;
pub mod tools;
pub mod vectors;
