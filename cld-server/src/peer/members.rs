//! What is known of each other server of the cell: its address, its link if there is one, and what waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::frame::Frame;
use super::link::LinkError;
use super::links::{Event, PeerStatus, SendError};
use super::noise::End;
use super::outbox::Outbox;
use super::session::{Expected, Hello};
use crate::codec::CodecError;
use crate::storage::MAX_MEMBERS;
use crate::versions::Versions;

/// The most bytes received from one server that the node has not taken yet.
const BUDGET: u32 = 4 << 20;

/// What a frame costs beside its bytes.
const OVERHEAD: usize = 128;

/// An event on its way to the node, and the room that it takes up until the node has it.
pub(super) type Envelope = (Event, Option<OwnedSemaphorePermit>);

/// The most servers that are let in without being known as members: as many as a cell may have.
const MAX_GUESTS: usize = MAX_MEMBERS;

/// All other servers.
#[derive(Debug, Default)]
pub(super) struct Members(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    members: BTreeMap<u64, Arc<Member>>,
    /// Whoever else proves that it belongs to the cell is let in too, unless it is one of these.
    open_but: Option<BTreeSet<u64>>,
    /// Who was let in so, of `members`.
    guests: BTreeSet<u64>,
}

impl Members {
    pub(super) fn get(&self, id: u64) -> Option<Arc<Member>> {
        lock(&self.0).members.get(&id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Member>> {
        lock(&self.0).members.values().cloned().collect()
    }

    /// Who may connect.
    pub(super) fn expected(&self) -> Expected {
        let known = lock(&self.0);
        match &known.open_but {
            Some(removed) => Expected::AllBut(removed.clone()),
            None => Expected::Only(known.members.keys().copied().collect()),
        }
    }

    /// Lets in whoever proves that it belongs to the cell, but these.
    pub(super) fn open(&self, removed: BTreeSet<u64>) {
        lock(&self.0).open_but = Some(removed);
    }

    /// The server that has connected and is no known member; nothing if it may not, or too many such have.
    pub(super) fn introduce(
        &self,
        me: u64,
        hello: Hello,
        events: &mpsc::UnboundedSender<Envelope>,
    ) -> Option<Arc<Member>> {
        let mut known = lock(&self.0);
        let Known { members, open_but, guests } = &mut *known;
        if let Some(member) = members.get(&hello.node) {
            return Some(Arc::clone(member));
        }
        if open_but.as_ref().is_none_or(|removed| removed.contains(&hello.node)) || guests.len() >= MAX_GUESTS
        {
            return None;
        }
        let member = Arc::new(Member::new(me, hello.node, hello.address, events.clone()));
        guests.insert(hello.node);
        members.insert(hello.node, Arc::clone(&member));
        Some(member)
    }

    /// Whether one of them has this address.
    pub(super) fn any_at(&self, address: IpAddr) -> bool {
        lock(&self.0).members.values().any(|member| member.address().ip() == address)
    }

    /// Makes the members these. Links to others are closed.
    pub(super) fn set(
        &self,
        me: u64,
        addresses: &BTreeMap<u64, SocketAddr>,
        events: &mpsc::UnboundedSender<Envelope>,
    ) {
        let mut known = lock(&self.0);
        let Known { members, guests, .. } = &mut *known;
        guests.clear();
        members.retain(|id, member| {
            let stays = addresses.contains_key(id);
            if !stays {
                member.remove();
            }
            stays
        });
        for (&id, &address) in addresses.iter().filter(|&(&id, _)| id != me) {
            members
                .entry(id)
                .and_modify(|member| lock(&member.state).address = address)
                .or_insert_with(|| Arc::new(Member::new(me, id, address, events.clone())));
        }
    }
}

/// Another server of the cell.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: u64,
    me: u64,
    state: Mutex<State>,
    /// The number of the present link.
    current: watch::Sender<Option<u64>>,
    /// Told when the outbox has something.
    pub(super) wake: Notify,
    /// What may be received before the node takes some of it.
    budget: Arc<Semaphore>,
    events: mpsc::UnboundedSender<Envelope>,
}

#[derive(Debug)]
struct State {
    address: SocketAddr,
    outbox: Outbox,
    link: Option<Link>,
    /// Links that there have been.
    links: u64,
    removed: bool,
    dropped: u64,
    trouble: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    number: u64,
    end: End,
    since: Instant,
    spoken: Spoken,
}

/// What the handshake of a link came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spoken {
    /// The version of the protocol between servers.
    pub(super) version: u16,
    /// The versions of the cell that the other server can apply.
    pub(super) can: Versions,
}

/// A link that was registered: it is down when this is dropped.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) member: Arc<Member>,
    number: u64,
    current: watch::Receiver<Option<u64>>,
}

impl Member {
    fn new(me: u64, id: u64, address: SocketAddr, events: mpsc::UnboundedSender<Envelope>) -> Self {
        Self {
            id,
            me,
            state: Mutex::new(State {
                address,
                outbox: Outbox::new(),
                link: None,
                links: 0,
                removed: false,
                dropped: 0,
                trouble: None,
            }),
            current: watch::Sender::new(None),
            wake: Notify::new(),
            budget: Arc::new(Semaphore::new(BUDGET as usize)),
            events,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        lock(&self.state).address
    }

    /// Waits until there is no link.
    pub(super) async fn without_link(&self) {
        // The sender is in this very struct, so it is not gone.
        let _ = self.current.subscribe().wait_for(Option::is_none).await;
    }

    /// Puts a frame into the outbox.
    pub(super) fn send(&self, frame: &Frame) -> Result<(), SendError> {
        if let Err(CodecError::TooLong { length, limit }) = frame.check() {
            return Err(SendError::TooLong { length, limit });
        }
        let mut state = lock(&self.state);
        if state.link.is_none() {
            state.dropped += 1;
            return Err(SendError::NotConnected { to: self.id });
        }
        let dropped = state.outbox.push(frame).map_err(|_| SendError::Full { to: self.id })?;
        state.dropped += dropped;
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Makes a connection the link to this server. Of two that were made at the same time both servers keep the one that
    /// the server with the lower id dialled; one that comes later than `settled` after the first is no such case: the other
    /// server has lost the first, and it is replaced.
    pub(super) fn register(
        self: &Arc<Self>,
        end: End,
        spoken: Spoken,
        settled: Duration,
    ) -> Result<Registered, LinkError> {
        let kept = if self.me < self.id { End::Dialled } else { End::Accepted };
        let mut state = lock(&self.state);
        if state.removed {
            return Err(LinkError::Removed);
        }
        if let Some(old) = &state.link {
            if old.end != end && end != kept && old.since.elapsed() < settled {
                return Err(LinkError::Simultaneous);
            }
            debug!("server {:016x}: another connection takes the place of the link", self.id);
            self.tell(Event::Down { peer: self.id });
        }
        state.links += 1;
        let number = state.links;
        state.link = Some(Link { number, end, since: Instant::now(), spoken });
        state.dropped += state.outbox.clear();
        if state.trouble.take().is_some() || number == 1 {
            info!("server {:016x} at {}: linked", self.id, state.address);
        }
        self.current.send_replace(Some(number));
        self.tell(Event::Up { peer: self.id, can: spoken.can });
        Ok(Registered { member: Arc::clone(self), number, current: self.current.subscribe() })
    }

    fn remove(&self) {
        let mut state = lock(&self.state);
        state.removed = true;
        self.take_down(&mut state);
    }

    fn take_down(&self, state: &mut State) {
        if state.link.take().is_some() {
            state.dropped += state.outbox.clear();
            self.current.send_replace(None);
            self.tell(Event::Down { peer: self.id });
        }
    }

    /// Notes what is wrong with the link; the log has a line only if it is something else than before.
    pub(super) fn trouble(&self, error: LinkError) {
        let text = error.to_string();
        let mut state = lock(&self.state);
        if state.trouble.as_ref() == Some(&text) {
            debug!("server {:016x} at {}: {text}", self.id, state.address);
            return;
        }
        warn!("server {:016x} at {}: {text}", self.id, state.address);
        state.trouble = Some(text);
        self.tell(Event::Trouble { peer: Some(self.id), address: state.address, error });
    }

    /// The node may be gone already.
    fn tell(&self, event: Event) {
        let _ = self.events.send((event, None));
    }

    pub(super) fn status(&self) -> PeerStatus {
        let state = lock(&self.state);
        PeerStatus {
            peer: self.id,
            address: state.address,
            version: state.link.map(|link| link.spoken.version),
            links: state.links,
            queued: state.outbox.size(),
            dropped: state.dropped,
            trouble: state.trouble.clone(),
        }
    }
}

impl Registered {
    /// Waits until another link has taken its place, or the server is no member any more.
    pub(super) fn replaced(&self) -> impl Future<Output = ()> + use<> {
        let (number, mut current) = (self.number, self.current.clone());
        async move {
            // The sender lives as long as the member.
            let _ = current.wait_for(|current| *current != Some(number)).await;
        }
    }

    /// The frame to send next.
    pub(super) fn next_frame(&self) -> Option<Vec<u8>> {
        let mut state = lock(&self.member.state);
        state.link.filter(|link| link.number == self.number)?;
        state.outbox.pop()
    }

    /// Room for a frame, if there is some now.
    pub(super) fn try_room(&self, frame: &Frame) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.member.budget).try_acquire_many_owned(cost(frame)).ok()
    }

    /// Waits for room for a frame.
    pub(super) fn room(&self, frame: &Frame) -> impl Future<Output = Option<OwnedSemaphorePermit>> + use<> {
        let acquire = Arc::clone(&self.member.budget).acquire_many_owned(cost(frame));
        async { acquire.await.ok() }
    }

    /// Gives a frame to the node.
    pub(super) fn deliver(&self, frame: Frame, room: OwnedSemaphorePermit) {
        let state = lock(&self.member.state);
        if state.link.is_some_and(|link| link.number == self.number) {
            let event = Event::Received { from: self.member.id, frame };
            let _ = self.member.events.send((event, Some(room)));
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = lock(&self.member.state);
        if state.link.is_some_and(|link| link.number == self.number) {
            self.member.take_down(&mut state);
        }
    }
}

fn cost(frame: &Frame) -> u32 {
    let bytes = match frame {
        Frame::Message(bytes) => bytes.len(),
        Frame::Relay(relay) => relay.datagram.len(),
        Frame::Snapshot(super::frame::SnapshotFrame::Chunk { bytes, .. }) => bytes.len(),
        Frame::Snapshot(_) => super::frame::MAX_POINT,
        Frame::Digest(_) => 0,
    };
    u32::try_from(bytes + OVERHEAD).unwrap_or(BUDGET).min(BUDGET)
}

/// What is behind these locks is whole after each change, so a panic elsewhere does no harm to it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
