//! A server: a real node, its disk, its clock, and what it has to do.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use cld_server::endpoint::SocketId;
use cld_server::node::{Clock, DiskJob, Node};
use cld_server::storage::Addresses;

use super::clock::Watch;
use super::disk::Disk;

/// The one socket of every server.
pub(super) const SOCKET: SocketId = SocketId(3);

#[derive(Debug)]
pub(super) struct Server {
    /// While it is up.
    pub(super) node: Option<Node>,
    pub(super) disk: Disk,
    /// Jobs for the disk, in their order, and when each is done.
    pub(super) jobs: VecDeque<(u64, DiskJob)>,
    pub(super) watch: Watch,
    /// It stands still until then.
    pub(super) paused: u64,
    /// When its node wants to be woken.
    pub(super) due: Option<u64>,
    /// How often it was started.
    pub(super) boots: u8,
    /// Up to how long its disk takes for a job.
    pub(super) latency: u64,
}

impl Server {
    pub(super) fn new(disk: Disk, watch: Watch, latency: u64) -> Self {
        let jobs = VecDeque::new();
        Self { node: None, disk, jobs, watch, paused: 0, due: None, boots: 0, latency }
    }

    pub(super) fn clock(&self, now: u64) -> Clock {
        Clock { now: self.watch.shows(now), wall: 1_700_000_000 + now / 1_000_000 }
    }

    /// When it has something to do.
    pub(super) fn next(&self) -> Option<u64> {
        self.node.as_ref()?;
        let job = self.jobs.front().map(|&(at, _)| at);
        [self.due, job].into_iter().flatten().min().map(|at| at.max(self.paused))
    }

    /// To be called when the node may want to be woken at another time.
    pub(super) fn reckon(&mut self) {
        let at = self.node.as_ref().and_then(Node::poll_timeout);
        self.due = at.map(|at| self.watch.moment(at));
    }
}

/// The servers by number.
pub(super) type Servers = BTreeMap<u64, Server>;

pub(super) fn client_address(server: u64) -> SocketAddr {
    SocketAddr::from(([192, 168, 0, u8::try_from(server).unwrap_or(255)], 8081))
}

pub(super) fn addresses(server: u64) -> Addresses {
    let peer = SocketAddr::from(([192, 168, 0, u8::try_from(server).unwrap_or(255)], 9000));
    Addresses { peer: Some(peer), client: Some(client_address(server)) }
}

/// The server at an address.
pub(super) fn at_address(address: SocketAddr) -> Option<u64> {
    match address {
        SocketAddr::V4(address) if address.port() == 8081 => Some(address.ip().octets()[3].into()),
        _ => None,
    }
}
