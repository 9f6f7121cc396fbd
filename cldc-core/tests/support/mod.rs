//! A simulated world for a session: network, clock and two kinds of servers.

pub(crate) mod bare;
pub(crate) mod client;
pub(crate) mod extended_server;
pub(crate) mod hail_server;
pub(crate) mod name_space;
pub(crate) mod network;
pub(crate) mod our_server;
pub(crate) mod peer;
pub(crate) mod random;
pub(crate) mod storage;
pub(crate) mod world;
