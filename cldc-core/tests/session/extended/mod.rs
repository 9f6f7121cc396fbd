//! Extended sessions, against a server of theirs, on simulated time.

mod fencing;
mod negotiation;
mod resuming;

use crate::support::extended_server::ExtendedServer;
use crate::support::world::World;

pub(super) type Extended<C> = World<C, ExtendedServer>;
