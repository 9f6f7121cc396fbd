//! Clients of the CLD lock service over UDP: small files, locks that a group of programs agrees on, and events.
//!
//! # Which client
//!
//! | | [`blocking::Client`] | [`aio::Client`] |
//! |---|---|---|
//! | calls | return by their deadline | are futures that end by their deadline |
//! | runs on | one thread of its own per session | one task per session on a tokio runtime |
//! | feature | `std` | `tokio` |
//!
//! Both features are on by default, add to each other, and may be chosen alone; without either, this crate has only
//! the types that the clients share. The clients have the same calls: whatever one can do, the other can. A session
//! takes about 600 KiB of memory, in which the longest files fit.
//!
//! ```no_run
//! # #[cfg(feature = "std")]
//! fn main() -> cldc_udp::Result<()> {
//!     use cldc_udp::blocking::Client;
//!     use cldc_udp::{LockKind, Options, resolve};
//!
//!     let options = Options::new("alice", "her secret").servers(resolve("localhost:8081")?);
//!     let client = Client::connect(options)?;
//!     client.write("/motd", b"hello")?;
//!     let lock = client.lock("/motd", LockKind::Exclusive)?;
//!     if lock.is_safe() {
//!         println!("nobody else holds the lock now");
//!     }
//!     lock.release()?;
//!     client.close()
//! }
//! # #[cfg(not(feature = "std"))]
//! # fn main() {}
//! ```
//!
//! ```no_run
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main]
//! async fn main() -> cldc_udp::Result<()> {
//!     use cldc_udp::aio::Client;
//!     use cldc_udp::{EventMask, OpenMode, Options, resolve};
//!
//!     let options = Options::new("alice", "her secret").servers(resolve("localhost:8081")?);
//!     let client = Client::connect(options).await?;
//!     let mut events = client.events();
//!     let file = client.open("/motd", OpenMode::READ, EventMask::UPDATED).await?;
//!     println!("{:?}", file.read().await?.data);
//!     if let Some(event) = events.next().await {
//!         println!("{} has changed: {:?}", event.path_lossy(), file.read().await?.data);
//!     }
//!     client.close().await
//! }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! The folder `examples` has two programs that are useful as they are, `leader_election` and `config_watch`, and one
//! that shows what sequencers are for: `fenced_writer`.
//!
//! # What to rely on
//!
//! - **Deadlines.** Every call ends by its deadline ([`Options::timeout`], `with_timeout`), also when the server is
//!   silent. A request whose answer did not come in time may have been executed, or may still be.
//! - **Locks are advisory, and last as long as the lease.** Ask `Lock::is_safe` before each step that needs the lock,
//!   or stop at `Lock::lost`: both count on the client's own clock, which also runs while the machine sleeps, and end
//!   before the server can give the lock to others. What was sent to a third party before that may still arrive there
//!   later: give it the lock's [`Sequencer`], and let it write by `write_fenced`, which the server refuses once the lock
//!   has gone.
//! - **The lease is kept for you**, as long as the helper thread or task runs. When it runs out all the same, the session
//!   is in jeopardy, and calls wait, up to their deadlines, for the server to come back. The application is told:
//!   `Client::lease`, `wait_lease_change`.
//! - **The session goes where the master is**, with its files, locks, and requests, each executed once, if the server
//!   speaks the extended protocol (`Client::is_extended`). Readers of events are told once: `MASTER_FAILOVER`.
//! - **Nothing is left behind.** A call that gives up, by its deadline or because its future is dropped, closes the
//!   file or leaves the queue that it was after. Files and locks that are dropped are given back in the background;
//!   `close` waits until the server knows.
//! - **Limits**: 256 open files, 64 requests on their way and 4096 that wait for them, 131072 bytes in a file, 1024
//!   events for a slow reader.
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
pub mod clock;
mod driver;
mod error;
mod events;
mod hub;
mod options;
mod sequencer;
mod sockets;
mod types;

pub use error::{Error, Result};
pub use options::{Options, resolve};
pub use sequencer::{Sequencer, SequencerError};
pub use types::{Contents, FileEvent, LeaseTerms, LockKind};

pub use cldc_core::lease::LeaseState;
pub use cldc_core::session::{CallError, ConfigError, Handle};
pub use cldc_core::wire::{Code, EventMask, InodeFlags, Metadata, OpenMode};

/// How a file is opened, under the name that callers know it by.
pub type Mode = OpenMode;
