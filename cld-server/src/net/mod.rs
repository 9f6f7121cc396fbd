//! The server's outside: sockets, clocks, signals, disk threads, and the one task that owns the node.
//!
//! [`Server`] feeds the node what happens, and does what the node wants, until the process is told to end. Nothing in
//! here decides anything about the protocol.

mod admin;
mod clock;
mod disk;
mod peers;
mod questions;
mod recover;
mod server;
mod settings;
mod signals;
mod snapshot_stream;
mod snapshots;
mod sockets;

use std::io;

use thiserror::Error;

pub(crate) use recover::{RecoverError, check_cell, decode, fresh_identity};
pub(crate) use server::Server;
pub(crate) use sockets::BindError;

use crate::config::ConfigError;
use crate::keys::file::KeyFileError;
use crate::peer::secret::SecretError;
use crate::replica::StartError;

/// Why the server could not start, or had to stop.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Engine(#[from] StartError),
    #[error("the system does not give what the server needs: {0}")]
    System(#[from] io::Error),
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// The node cannot go on: the disk failed, or what is on it makes no sense.
    #[error("the server stops: {0}")]
    Fatal(String),
    /// The state here is not that of a majority of the servers. The data is marked, and not used again.
    #[error("the server stops for good: {0}")]
    Diverged(String),
}
