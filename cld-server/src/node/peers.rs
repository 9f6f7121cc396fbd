//! The other servers of the cell: their messages, links and snapshots, and the datagrams that they pass on.

use std::collections::{BTreeMap, VecDeque};

use super::interface::{Clock, PeerCounters};
use super::transfers::{Out, Told, Transfers};
use super::{Node, front};
use crate::peer::frame::{Frame, RefuseReason, SnapshotFrame};
use crate::replica::{Engine, Message};
use crate::versions::Versions;

/// What a node has to do with the other servers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) frames: VecDeque<(u64, Frame)>,
    /// The servers that are linked, and which versions of the cell they can apply.
    pub(super) links: BTreeMap<u64, Versions>,
    pub(super) transfers: Transfers,
    pub(super) counters: PeerCounters,
}

impl Peers {
    /// The transfers, and where they put what is to be done.
    pub(super) const fn transfers<'a>(
        &'a mut self,
        disk: &'a mut VecDeque<super::DiskJob>,
    ) -> (&'a mut Transfers, Out<'a>) {
        (&mut self.transfers, Out { disk, frames: &mut self.frames })
    }
}

impl<E: Engine> Node<E> {
    /// Takes in a frame that the server `from` has sent, as its link has proved.
    pub fn handle_peer(&mut self, clock: Clock, from: u64, frame: Frame) {
        if self.fatal.is_some() {
            return;
        }
        match frame {
            Frame::Message(bytes) => self.handle_message(from, &bytes),
            Frame::Snapshot(frame) => {
                let applied = self.engine.snapshot_point().at.index;
                let (transfers, mut out) = self.peers.transfers(&mut self.disk);
                let told = transfers.handle(from, frame, applied, &mut out);
                self.tell(clock, told);
            }
            Frame::Relay(relay) => self.handle_relay(clock, from, relay),
            Frame::Digest(report) => self.handle_digest(clock, from, report),
        }
        self.advance(clock);
    }

    /// There is a link to another server now, which can apply these versions of the cell; or no more.
    pub fn handle_link(&mut self, clock: Clock, peer: u64, link: Option<Versions>) {
        if self.fatal.is_some() {
            return;
        }
        if let Some(can) = link {
            self.peers.links.insert(peer, can);
        } else if self.peers.links.remove(&peer).is_some() {
            let (transfers, mut out) = self.peers.transfers(&mut self.disk);
            let told = transfers.link_lost(peer, &mut out);
            self.tell(clock, told);
        }
        self.advance(clock);
    }

    /// The next frame for another server, and its number. To be called until it gives nothing, like [`Node::poll_disk`];
    /// frames to a server without a link are to be dropped.
    pub fn poll_peer(&mut self) -> Option<(u64, Frame)> {
        if self.fatal.is_some() {
            return None;
        }
        self.peers.frames.pop_front()
    }

    fn handle_message(&mut self, from: u64, bytes: &[u8]) {
        let count = match Message::decode(bytes) {
            Ok(message) => match self.engine.handle_message(from, message) {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(%error, "a message is refused");
                    &mut self.peers.counters.refused
                }
            },
            Err(error) => {
                tracing::debug!(from = format_args!("{from:x}"), %error, "a message cannot be read");
                &mut self.peers.counters.malformed
            }
        };
        *count = count.saturating_add(1);
        if count.is_power_of_two() {
            tracing::warn!(
                from = format_args!("{from:x}"),
                times = *count,
                "messages of a server are not taken"
            );
        }
    }

    /// Tells the engine what became of a snapshot.
    pub(super) fn tell(&mut self, clock: Clock, told: Option<Told>) {
        let counters = &mut self.peers.counters;
        match told {
            None => {}
            Some(Told::Progress { to }) => self.engine.snapshot_progress(to),
            Some(Told::Sent { to, ok }) => {
                counters.snapshots_sent = counters.snapshots_sent.saturating_add(u64::from(ok));
                self.engine.snapshot_sent(to, ok);
            }
            Some(Told::Received { from, transfer, message }) => {
                let answer = match self.engine.restore(from, *message) {
                    Ok(()) => SnapshotFrame::Accepted { transfer },
                    Err(error) => {
                        tracing::warn!(%error, "a snapshot is refused");
                        SnapshotFrame::Refused { transfer, reason: RefuseReason::NotNeeded }
                    }
                };
                self.peers.frames.push_back((from, Frame::Snapshot(answer)));
                self.installing = false;
                self.advance(clock);
                if !self.installing {
                    self.peers.transfers.drop_loaded();
                }
            }
        }
    }

    /// Whether a frame that may get lost has room.
    pub(super) fn has_room_to_relay(&self) -> bool {
        self.peers.frames.len() < front::RELAYS
    }
}
