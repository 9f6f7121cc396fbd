//! What each fuzz target does with its input. A finding is a panic.
//!
//! A new target is a function here with its line in [`TARGETS`], three lines in `fuzz/fuzz_targets/NAME.rs`, its
//! `[[bin]]` in `fuzz/Cargo.toml`, and at least one file in `fuzz/seeds/NAME/`. The tests of this crate run every target
//! over its seeds, and say what was forgotten. An input that found something is kept as a seed.
#![allow(clippy::expect_used, clippy::panic, reason = "a finding is a panic")]

mod session;
mod wire;

pub use session::session;
pub use wire::{dirent, messages, packet};

/// What a target does with its input.
pub type Body = fn(&[u8]);

/// Every target, by its name.
pub const TARGETS: &[(&str, Body)] =
    &[("packet", packet), ("messages", messages), ("dirent", dirent), ("session", session)];
