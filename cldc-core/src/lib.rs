//! The CLD lock-service protocol, and one client session of it: sans-IO, `no_std`, without an allocator.
//!
//! The two central types are [`session::Session`], a client's session as a state machine, and [`session::Event`], what
//! it tells. Beneath them are [`link`], which makes a stream of datagrams reliable, and [`wire`], the bytes. The
//! server is built on the same `link` and `wire`.
//!
//! The core has no socket, no clock and no source of randomness. Its user feeds it datagrams and the time, and asks it
//! for datagrams, events, and when it wants to be called next. Mutate once, then drain until nothing is left:
//!
//! ```
//! use cldc_core::session::{CallError, Config, Datagram, Event, Outcome, SmallSession};
//! use cldc_core::time::Instant;
//! use cldc_core::wire::limits::MAX_PACKET;
//! use cldc_core::wire::{EventMask, OpenMode};
//!
//! # trait Network {
//! #     fn now(&self) -> Instant;
//! #     fn send(&mut self, to: core::net::SocketAddr, datagram: &[u8]);
//! #     fn receive(&mut self, until: Option<Instant>, buffer: &mut [u8]) -> Option<(core::net::SocketAddr, usize)>;
//! # }
//! /// Reads the first bytes of a file; `network` stands for a socket and a clock.
//! fn read(network: &mut impl Network, config: &Config<'_>, found: &mut [u8; 16]) -> Option<usize> {
//!     let mut session = SmallSession::new(config, network.now()).ok()?;
//!     let (mut outgoing, mut incoming): (Datagram, Datagram) = ([0; MAX_PACKET], [0; MAX_PACKET]);
//!     loop {
//!         // Drain: what is to be told, and what is to be sent.
//!         let mut next = None;
//!         while let Some(event) = session.poll_event() {
//!             match event {
//!                 Event::Connected => next = Some(None),
//!                 Event::Done { result: Ok(Outcome::Opened(handle)), .. } => next = Some(Some(handle)),
//!                 Event::Done { result: Ok(Outcome::Contents { data, .. }), .. } => {
//!                     let len = data.len().min(found.len());
//!                     found[..len].copy_from_slice(&data[..len]);
//!                     return Some(len);
//!                 }
//!                 Event::Done { result: Err(_), .. } | Event::Ended(_) => return None,
//!                 _ => {}
//!             }
//!         }
//!         let now = network.now();
//!         match next {
//!             Some(None) => drop(session.open(now, b"/config", OpenMode::READ, EventMask::NONE).ok()?),
//!             Some(Some(handle)) => drop(session.get(now, handle).ok()?),
//!             None => {}
//!         }
//!         while let Some(transmit) = session.poll_transmit(now, &mut outgoing) {
//!             network.send(transmit.to, &outgoing[..transmit.len]);
//!         }
//!         // Wait, and mutate once.
//!         match network.receive(session.poll_timeout(), &mut incoming) {
//!             Some((from, len)) => drop(session.handle_datagram(network.now(), from, &incoming[..len])),
//!             None => session.handle_timeout(network.now()),
//!         }
//!     }
//! }
//! ```
//!
//! # What it promises
//!
//! - It uses no memory but its own size, which is chosen at compile time: [`session::SmallSession`] and two datagram
//!   buffers take less than 8 KiB, [`session::FullSession`] holds the longest files.
//! - No datagram, whatever its bytes, makes it panic, or read or write out of bounds.
//! - A request is sent until it is answered or the session ends, and its outcome is told once.
//! - Its view of the lease ends before the server's does ([`lease`]).
//! - It speaks with Hail's servers and with ours; the caller sees the same calls.
#![no_std]
#![forbid(unsafe_code)]

pub mod lease;
pub mod link;
pub mod rng;
pub mod session;
pub mod time;
pub mod wire;
