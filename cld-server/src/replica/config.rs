//! What an engine is told at its start.

use std::num::NonZeroU64;

use cldc_core::time::Duration;
use thiserror::Error;

use crate::codec::CodecError;
use crate::versions::VersionError;

/// What an engine is told at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// This server, from its identity.
    pub node: NonZeroU64,
    /// A follower that hears nothing for this many ticks, or up to twice as many, asks for votes.
    pub election_ticks: usize,
    /// A leader makes itself heard every this many ticks; fewer than the election takes.
    pub heartbeat_ticks: usize,
    /// The least time between two ticks; the same on all servers of the cell.
    pub tick: Duration,
    /// The bound on how far the rate of any server's clock is off, in millionths. The lease is shorter by it.
    pub drift_ppm: u32,
    /// A server that did not confirm a snapshot, or that it makes progress, for this many ticks is sent another.
    pub snapshot_ticks: u64,
    /// The most entries kept before a snapshot for servers that lag a little. A cell of one keeps none.
    pub keep_entries: u64,
    /// The most bytes that these may have.
    pub keep_bytes: u64,
    /// Makes elections differ between servers and runs, and a run repeatable.
    pub seed: u64,
}

impl EngineConfig {
    /// The usual settings: elections after 10 to 19 ticks of 100 ms, heartbeats every 2, clocks within 1 %.
    #[must_use]
    pub const fn new(node: NonZeroU64, seed: u64) -> Self {
        Self {
            node,
            election_ticks: 10,
            heartbeat_ticks: 2,
            tick: Duration::from_millis(100),
            drift_ppm: 10_000,
            snapshot_ticks: 100,
            keep_entries: 10_000,
            keep_bytes: 16 << 20,
            seed,
        }
    }
}

/// Why an engine could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is impossible, such as an election as short as a heartbeat.
    #[error("the replica cannot start: {0}")]
    Config(#[source] Box<raft::Error>),
    /// The log holds a change of the members that this version does not know.
    #[error("the replica cannot start: its log cannot be read: {0}")]
    Log(#[from] CodecError),
    /// The data is of a version of the cell that this server cannot apply.
    #[error("the server cannot start: {0}")]
    Version(#[from] VersionError),
    /// Something in the log cannot be applied.
    #[error("the server cannot start: {0}")]
    Replay(String),
}
