//! The part of the suite that is about many clients, against a cell of five servers.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on must fail")]

mod support;

#[path = "suite/clients.rs"]
mod clients;
#[path = "suite/fencing.rs"]
mod fencing;
#[path = "suite/locks.rs"]
mod locks;
#[path = "suite/servers.rs"]
mod servers;
#[path = "suite/sessions.rs"]
mod sessions;

/// How many servers there are.
const SERVERS: usize = 5;
