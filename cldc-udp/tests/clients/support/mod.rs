//! A server for the tests: a thread on a loopback socket, written on the core's codec and link. It keeps files in
//! memory, does what it is asked at once, and can be told to answer something else, or nothing. Some speak only the plain
//! protocol, as Hail's servers do, some the extended one.

mod cell;
mod extended;
mod link;
mod peer;

pub(crate) use extended::Grant;
pub(crate) use peer::{Asked, Peer, Say};

use std::time::Duration;

use cldc_udp::Options;
use cldc_udp::blocking::Client;

/// The user and the key that the peers know.
pub(crate) const USER: &str = "tester";
pub(crate) const KEY: &str = "a secret of the tests";

/// Long enough for anything that should happen.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Short, for what should not happen.
pub(crate) const SHORT: Duration = Duration::from_millis(150);

/// Options for these peers, with a deadline that is not met by waiting.
pub(crate) fn options<'a>(peers: impl IntoIterator<Item = &'a Peer>) -> Options {
    Options::new(USER, KEY).servers(peers.into_iter().map(Peer::address)).timeout(LONG)
}

/// A client of this peer.
pub(crate) fn connect(peer: &Peer) -> Client {
    Client::connect(options([peer])).unwrap()
}
