//! What clients get of a server that is not the master: hints to those of extended sessions, and a way to the master for
//! plain ones. While nobody knows who is the master, what plain clients say waits, but not for long.

use std::collections::VecDeque;
use std::net::SocketAddr;

use cldc_core::time::{Duration, Instant};
use cldc_core::wire::extended::Master;

use super::Node;
use super::interface::Clock;
use crate::endpoint::{Lookout, SocketId, Transmit, Via};
use crate::peer::frame::{Frame, Relay, RelayWay};
use crate::replica::Engine;

/// Datagrams kept until it is known who serves.
const PARKED: usize = 256;
/// In a cell of several servers, for so long: their senders repeat them.
const PARKED_FOR: Duration = Duration::from_secs(2);
/// Twice the longest time-out of an election: if nobody is known to be the master for so long, plain clients are told.
const VACANT_AFTER: Duration = Duration::from_secs(2);
/// Frames that may wait when a datagram is passed on.
pub(super) const RELAYS: usize = 1024;
/// Stands for the first socket of the client's family of addresses.
const ANY_SOCKET: SocketId = SocketId(u16::MAX);
/// Datagrams from the master that may wait to be sent to clients.
const RELAYED: usize = 1024;

/// Datagrams that wait.
#[derive(Debug, Default)]
pub(super) struct Front {
    parked: VecDeque<Parked>,
    /// Datagrams from the master, to be sent to clients.
    relayed: VecDeque<Relay>,
    /// Since when nobody is known to be the master.
    vacant_since: Option<Instant>,
}

#[derive(Debug)]
struct Parked {
    at: Instant,
    via: SocketId,
    from: SocketAddr,
    datagram: Box<[u8]>,
}

/// Who serves, as far as this server knows.
enum Leader {
    /// This one, in a moment.
    Here,
    /// That one, and there is a link to it.
    At(u64),
    Unknown,
}

impl<E: Engine> Node<E> {
    /// A datagram of a client to a server that is not the master.
    pub(super) fn handle_unserved(&mut self, clock: Clock, via: SocketId, from: SocketAddr, datagram: &[u8]) {
        let leader = self.leader();
        if let Leader::Here = leader {
            return self.park(clock, via, from, datagram);
        }
        let address = match leader {
            Leader::At(node) => self.members.members.get(&node).and_then(|member| member.addresses.client),
            _ => None,
        };
        let is_vacant = self.front.vacant_since.is_some_and(|since| clock.now >= since + VACANT_AFTER);
        let lookout = Lookout { master: Master { epoch: self.database.epoch(), address }, is_vacant };
        let users = self.database.users();
        if !self.endpoint.redirect(clock.now, users, (Via::Socket(via), from), datagram, lookout) {
            return;
        }
        match leader {
            Leader::At(node) => {
                self.relay(node, RelayWay::ToMaster, from, via, datagram);
            }
            _ => self.park(clock, via, from, datagram),
        }
    }

    /// A datagram that another server passes on.
    pub(super) fn handle_relay(&mut self, clock: Clock, peer: u64, relay: Relay) {
        let Relay { way, client, socket, ref datagram } = relay;
        let is_it = |id, local: SocketAddr| {
            id == socket || (socket == ANY_SOCKET && local.is_ipv4() == client.is_ipv4())
        };
        let ours = self.config.sockets.iter().find(|&&(id, local)| is_it(id, local)).map(|&(id, _)| id);
        match way {
            // A server that is not the master passes nothing on that was passed on: it would go round.
            RelayWay::ToMaster if self.serves() => {
                self.lease();
                let via = Via::Relay { peer, socket };
                self.endpoint.handle_datagram(clock.now, &self.database, (via, client), datagram);
            }
            RelayWay::ToClient if self.front.relayed.len() < RELAYED => match ours {
                Some(socket) => self.front.relayed.push_back(Relay { socket, ..relay }),
                None => self.relay_dropped(),
            },
            RelayWay::ToMaster | RelayWay::ToClient => self.relay_dropped(),
        }
    }

    /// The next datagram of the master to one of this server's clients.
    pub(super) fn poll_relayed(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        while let Some(Relay { client, socket, datagram, .. }) = self.front.relayed.pop_front() {
            if let Some(room) = buffer.get_mut(..datagram.len()) {
                room.copy_from_slice(&datagram);
                return Some(Transmit { via: socket, to: client, len: datagram.len() });
            }
            self.relay_dropped();
        }
        None
    }

    /// Passes a datagram on by another server.
    pub(super) fn relay(
        &mut self,
        peer: u64,
        way: RelayWay,
        client: SocketAddr,
        socket: SocketId,
        datagram: &[u8],
    ) {
        if self.has_room_to_relay() && self.peers.links.contains_key(&peer) {
            let datagram = datagram.to_vec();
            self.peers.frames.push_back((peer, Frame::Relay(Relay { way, client, socket, datagram })));
            self.peers.counters.relayed = self.peers.counters.relayed.saturating_add(1);
        } else {
            self.relay_dropped();
        }
    }

    /// Has all other servers tell a client something: one of them is the one that it talks to.
    pub(super) fn relay_by_all(&mut self, client: SocketAddr, datagram: &[u8]) {
        let peers: Vec<u64> = self.peers.links.keys().copied().collect();
        for peer in peers {
            self.relay(peer, RelayWay::ToClient, client, ANY_SOCKET, datagram);
        }
    }

    /// Gives what waits to the endpoint, which serves now.
    pub(super) fn unpark(&mut self, clock: Clock) {
        for Parked { via, from, datagram, .. } in std::mem::take(&mut self.front.parked) {
            self.lease();
            let via = Via::Socket(via);
            self.endpoint.handle_datagram(clock.now, &self.database, (via, from), &datagram);
        }
    }

    /// Passes on what waits, if the master is known now, and drops what has waited for long.
    pub(super) fn sort_parked(&mut self, clock: Clock) {
        let is_vacant = !self.serves() && matches!(self.leader(), Leader::Unknown);
        self.front.vacant_since = is_vacant.then(|| self.front.vacant_since.unwrap_or(clock.now));
        if self.front.parked.is_empty() || self.serves() {
            return;
        }
        if let Leader::At(_) = self.leader() {
            for Parked { via, from, datagram, .. } in std::mem::take(&mut self.front.parked) {
                self.handle_unserved(clock, via, from, &datagram);
            }
        } else if !self.is_alone() {
            let before = self.front.parked.len();
            self.front.parked.retain(|parked| clock.now < parked.at + PARKED_FOR);
            let dropped = before.saturating_sub(self.front.parked.len());
            self.lost = self.lost.saturating_add(u64::try_from(dropped).unwrap_or(u64::MAX));
        }
    }

    fn park(&mut self, clock: Clock, via: SocketId, from: SocketAddr, datagram: &[u8]) {
        if self.front.parked.len() < PARKED {
            self.front.parked.push_back(Parked { at: clock.now, via, from, datagram: datagram.into() });
        } else {
            self.lost = self.lost.saturating_add(1);
        }
    }

    fn leader(&self) -> Leader {
        match self.engine.status().leader {
            _ if self.is_alone() => Leader::Here,
            Some(node) if node == self.me => Leader::Here,
            Some(node) if self.peers.links.contains_key(&node) => Leader::At(node),
            _ => Leader::Unknown,
        }
    }

    /// Whether nobody else can be the master.
    fn is_alone(&self) -> bool {
        self.members.is_sole_voter(self.me)
    }

    fn relay_dropped(&mut self) {
        self.peers.counters.relays_dropped = self.peers.counters.relays_dropped.saturating_add(1);
    }
}
