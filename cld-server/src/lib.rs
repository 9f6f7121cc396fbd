//! The replicated CLD server: one state machine that is fed bytes and time, and the shell around it.

mod atomic_file;
pub mod codec;
pub mod database;
pub mod endpoint;
pub mod keys;
pub mod node;
pub mod replica;
pub mod storage;
