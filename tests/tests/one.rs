//! The suite against one server.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on must fail")]

mod support;

#[path = "suite/clients.rs"]
mod clients;
#[path = "suite/events.rs"]
mod events;
#[path = "suite/fencing.rs"]
mod fencing;
#[path = "suite/files.rs"]
mod files;
#[path = "suite/locks.rs"]
mod locks;
#[path = "suite/negotiation.rs"]
mod negotiation;
#[path = "suite/servers.rs"]
mod servers;
#[path = "suite/sessions.rs"]
mod sessions;
#[path = "suite/stream.rs"]
mod stream;

/// How many servers there are.
const SERVERS: usize = 1;
