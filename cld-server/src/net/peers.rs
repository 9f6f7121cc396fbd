//! The links to the cell's other servers, as the task that owns the node drives them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tracing::{debug, info, warn};

use super::sockets::BindError;
use crate::node::{Clock, Node};
use crate::peer::frame::Frame;
use crate::peer::links::{Config, Event, Events, Links, PeerStatus, Timing};
use crate::peer::secret::Secret;
use crate::peer::session::Hello;
use crate::storage::{Configuration, Identity};
use crate::versions::Offer;

/// The links, and what comes by them.
#[derive(Debug)]
pub(super) struct Peers {
    links: Links,
    events: Events,
    me: u64,
}

impl Peers {
    /// Listens at `listen` for the other servers; [`Peers::set_members`] makes it dial them. Within a tokio runtime only.
    ///
    /// # Errors
    /// [`BindError::Peer`].
    pub(super) async fn start(
        listen: SocketAddr,
        secret: Secret,
        identity: Identity,
        members: &Configuration,
        offer: Offer,
    ) -> Result<Self, BindError> {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|source| BindError::Peer { address: listen, source })?;
        info!("listening on {listen} (TCP) for the cell's other servers");
        let me = identity.node.get();
        let advertised = members.members.get(&me).and_then(|member| member.addresses.peer);
        let hello = Hello { offer, ..Hello::new(identity.cell, me, advertised.unwrap_or(listen)) };
        let config = Config { secret, hello, timing: Timing::default() };
        let (links, events) = Links::start(config, listener, &BTreeMap::new());
        Ok(Self { links, events, me })
    }

    /// Links with these members. One that waits to be added is linked with whoever proves that it belongs to the cell.
    pub(super) fn set_members(&self, configuration: &Configuration) {
        self.links.admit_all_but(configuration.removed.iter().copied().collect());
        if configuration.members.is_empty() {
            info!(
                "this server waits to be added to the cell: 'cld member add' with its join token does that"
            );
            return;
        }
        if configuration.removed.contains(&self.me) {
            warn!("this server was removed from the cell; to come back it needs an empty data directory");
            return self.links.set_members(&BTreeMap::new());
        }
        let address = |(node, member): (&u64, &crate::storage::Member)| Some((*node, member.addresses.peer?));
        self.links.set_members(&configuration.members.iter().filter_map(address).collect());
    }

    /// The cell has this version now, which servers that are linked from now on must be able to apply.
    pub(super) fn set_version(&self, version: u32) {
        self.links.set_version(version);
    }

    /// What comes next.
    pub(super) async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // The links end only when they are told to.
            None => std::future::pending().await,
        }
    }

    /// What has come, if anything has.
    pub(super) fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv()
    }

    /// Sends a frame. One that is not taken is lost, as any may be.
    pub(super) fn send(&self, to: u64, frame: &Frame) {
        if let Err(error) = self.links.send(to, frame) {
            debug!("a frame is dropped: {error}");
        }
    }

    /// How things stand with the other servers.
    pub(super) fn status(&self) -> Vec<PeerStatus> {
        self.links.status()
    }

    /// Closes all connections.
    pub(super) async fn close(self) {
        self.links.shutdown().await;
    }
}

/// Gives the node what has come from another server.
pub(super) fn deliver(node: &mut Node, clock: Clock, event: Event) {
    match event {
        Event::Up { peer, can } => node.handle_link(clock, peer, Some(can)),
        Event::Down { peer } => node.handle_link(clock, peer, None),
        Event::Received { from, frame } => node.handle_peer(clock, from, frame),
        // The links have logged it.
        Event::Trouble { .. } => {}
    }
}
