//! Servers that are linked over loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;

use super::super::frame::Frame;
use super::super::links::{Config, Event, Events, LinkError, Links, Timing};
use super::super::session::Hello;
use super::{CELL, secret};

/// A test that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the servers of a test listen.
pub(super) struct Cell {
    pub(super) addresses: BTreeMap<u64, SocketAddr>,
    listeners: BTreeMap<u64, TcpListener>,
}

/// One server of the cell, as its node sees it.
pub(super) struct Server {
    pub(super) id: u64,
    pub(super) links: Links,
    pub(super) events: Events,
}

pub(super) fn config(id: u64, address: SocketAddr) -> Config {
    Config { secret: secret(), hello: Hello::new(CELL, id, address), timing: Timing::default() }
}

pub(super) async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl Cell {
    /// Servers with ids from 1 on, none of which runs yet.
    pub(super) async fn new(servers: u64) -> Self {
        let mut cell = Self { addresses: BTreeMap::new(), listeners: BTreeMap::new() };
        for id in 1..=servers {
            let listener = listen().await;
            cell.addresses.insert(id, listener.local_addr().unwrap());
            cell.listeners.insert(id, listener);
        }
        cell
    }

    /// Starts a server, for the first time or again.
    pub(super) async fn start(&mut self, id: u64) -> Server {
        let config = config(id, self.addresses[&id]);
        self.start_as(id, config).await
    }

    async fn listener(&mut self, id: u64) -> TcpListener {
        match self.listeners.remove(&id) {
            Some(listener) => listener,
            None => TcpListener::bind(self.addresses[&id]).await.unwrap(),
        }
    }

    pub(super) async fn start_as(&mut self, id: u64, config: Config) -> Server {
        let listener = self.listener(id).await;
        let (links, events) = Links::start(config, listener, &self.addresses);
        Server { id, links, events }
    }

    /// Starts a server that knows no other, and lets in all that belong to the cell but these.
    pub(super) async fn start_open(&mut self, id: u64, removed: &[u64]) -> Server {
        let listener = self.listener(id).await;
        let (links, events) = Links::start(config(id, self.addresses[&id]), listener, &BTreeMap::new());
        links.admit_all_but(removed.iter().copied().collect());
        Server { id, links, events }
    }
}

impl Server {
    /// The next event that `wanted` takes, whatever comes before it.
    pub(super) async fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(Event) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the links run");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    pub(super) async fn up(&mut self, other: u64) {
        self.wait_for("link", |event| matches!(event, Event::Up { peer, .. } if peer == other).then_some(()))
            .await;
    }

    pub(super) async fn down(&mut self, other: u64) {
        self.wait_for("end of the link", |event| (event == Event::Down { peer: other }).then_some(())).await;
    }

    pub(super) async fn trouble(&mut self) -> LinkError {
        self.wait_for("trouble", |event| match event {
            Event::Trouble { error, .. } => Some(error),
            _ => None,
        })
        .await
    }

    /// The next frame, and who sent it.
    pub(super) async fn received(&mut self) -> (u64, Frame) {
        self.wait_for("frame", |event| match event {
            Event::Received { from, frame } => Some((from, frame)),
            _ => None,
        })
        .await
    }

    /// Sends until the other server has it: a link that has just been made may give way to another.
    pub(super) async fn exchange(&mut self, other: &mut Self, frame: &Frame) {
        let exchange = async {
            loop {
                // The other end may be sure a little later.
                let _ = self.links.send(other.id, frame);
                tokio::select! {
                    event = other.events.recv() => {
                        let received = Event::Received { from: self.id, frame: frame.clone() };
                        if event == Some(received) {
                            return;
                        }
                    }
                    _ = self.events.recv() => {}
                }
            }
        };
        timeout(PATIENCE, exchange).await.expect("no exchange");
    }

    /// Frames dropped on the way to another server.
    pub(super) fn dropped(&self, other: u64) -> u64 {
        self.links.status().iter().find(|status| status.peer == other).map_or(0, |status| status.dropped)
    }
}
