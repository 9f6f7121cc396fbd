//! CLD clients over UDP.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(any(feature = "std", feature = "tokio")),
    allow(dead_code, reason = "without a client, nothing uses what the clients share")
)]
#![cfg_attr(
    not(feature = "tokio"),
    allow(unreachable_pub, reason = "what the clients share is public through the async one")
)]

#[cfg(feature = "tokio")]
pub mod aio;
#[cfg(feature = "std")]
pub mod blocking;
mod client;
mod clock;
mod driver;
mod error;
mod events;
mod hub;
mod options;
mod sockets;
mod types;

pub use error::{Error, Result};
pub use options::{Options, resolve};
pub use types::{Contents, FileEvent, LockKind};

pub use cldc_core::lease::LeaseState;
pub use cldc_core::session::{CallError, ConfigError, Handle};
pub use cldc_core::wire::{Code, EventMask, Metadata, OpenMode};
