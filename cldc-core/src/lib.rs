//! The CLD lock-service protocol, and one client session of it: sans-IO, `no_std`, without an allocator.
#![no_std]
#![forbid(unsafe_code)]

pub mod lease;
pub mod link;
pub mod rng;
pub mod time;
pub mod wire;
