//! How a session begins: which server, which kind of session, and what it grants (docs/protocol.md 7.1).

use core::net::SocketAddr;

use super::config::{OFFERED, PACING, PLAIN_TERMS, receive_window};
use super::event::{End, Rejected};
use super::extended::Extended;
use super::{Bodies, Kind, Phase, Session};
use crate::lease::{Lease, Terms};
use crate::link::{Arrival, Sender};
use crate::time::{Duration, Instant};
use crate::wire::answer::outcome;
use crate::wire::extended::{Addresses, HELLO_PACKET, Hello, Master, VERSION, Welcome, fill};
use crate::wire::{Code, Packet, Part, Request, Writer};

/// To how many servers a session goes at once, one after the other, as those before say that they are not the master.
const AT_ONCE: usize = 2;

impl<const RX: usize, const TX: usize, const REQUESTS: usize, const HANDLES: usize, const EARLY: usize>
    Session<RX, TX, REQUESTS, HANDLES, EARLY>
{
    /// Begins anew with the present server: another id, other numbers, and NEW_SESS.
    pub(super) fn connect(&mut self) {
        self.phase = Phase::Connecting { until: self.now + self.patience };
        self.sid = self.rng.next_u64();
        self.sender = Sender::new(self.rng.next_u64(), PACING, heapless::Vec::new());
        self.bodies = Bodies::new();
        self.acks.clear();
        let mut body = [0; HELLO_PACKET];
        let mut out = Writer::new(&mut body);
        if self.wants_extended {
            // There is room: a hello is shorter than its packet.
            let _ = self.hello().emit(&mut out).and_then(|()| fill(&self.user, &mut out));
        }
        // There is room: nothing else is in flight.
        let _ = self.enqueue(&Request::NewSess { extension: out.written() }, None, None);
    }

    /// What this session says of itself.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            version: VERSION,
            features: OFFERED,
            lease_ms: u32::try_from(self.lease_wanted.as_micros() / 1_000).unwrap_or(u32::MAX),
            window: receive_window(EARLY),
            max_message: u32::try_from(RX).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn go_to_next(&mut self) {
        let next = self.turn.saturating_add(1);
        self.turn = if next < self.servers.len() { next } else { 0 };
        if let Some(&server) = self.servers.get(self.turn) {
            self.server = server;
        }
    }

    pub(super) fn go_to(&mut self, server: SocketAddr) {
        self.server = server;
        if let Some(turn) = self.place_of(server) {
            self.turn = turn;
        }
    }

    /// Where a server stands in the list, if it is known.
    pub(super) fn place_of(&self, server: SocketAddr) -> Option<usize> {
        self.servers.iter().position(|known| *known == server)
    }

    /// Whether there is another server to be tried.
    pub(super) fn has_others(&self) -> bool {
        self.servers.iter().any(|server| *server != self.server)
    }

    /// The server is not the master. It may know who is.
    pub(super) fn handle_not_master(&mut self, packet: &Packet<'_>) -> Result<(), Rejected> {
        let told = Master::of(packet.piece);
        let is_connecting = matches!(self.phase, Phase::Connecting { .. });
        if !is_connecting {
            // A plain session belongs to its server, and what comes here may be recorded.
            if self.extended.is_none() {
                return Ok(());
            }
            if told.is_none() || !self.has_asked(packet.number) {
                return Err(Rejected::Number);
            }
        }
        let mut address = None;
        if let Some((master, servers)) = told {
            // One that lags behind does not know who is the master now, nor one that misses the same as we do.
            let is_news = |address: &SocketAddr| master.epoch >= self.seen_epoch && !self.has_left(address);
            address = master.address.filter(is_news);
            self.seen_epoch = self.seen_epoch.max(master.epoch);
            self.learn_servers(&servers, false);
        }
        // When all have said so, or name each other, there is no master yet: the next one is asked when its time has
        // come.
        let limit = self.servers.len().saturating_sub(usize::from(address.is_none()));
        if self.refusals < limit.min(AT_ONCE) {
            self.refusals = self.refusals.saturating_add(1);
            match address {
                Some(address) => self.go_to(address),
                None => self.go_to_next(),
            }
        } else if is_connecting || self.is_resuming() {
            return Ok(());
        }
        if is_connecting {
            self.connect();
        } else {
            self.resume_here(None);
        }
        Ok(())
    }

    /// Whether a packet of this number is on its way, so that something can be said about it.
    fn has_asked(&self, number: u64) -> bool {
        let Some(extended) = &self.extended else { return false };
        match &extended.resuming {
            Some(resuming) => resuming.is_named(number),
            None => {
                extended.keep_alive.names().is_some_and(|(asked, _)| asked == number)
                    || self.sender.iter().any(|message| message.sent.is_some() && message.covers(number))
            }
        }
    }

    /// Takes over which servers the cell has. The master's list `replaces` what was told before; to that of another
    /// server, which may be old, it adds. Addresses of the configuration that nobody has told stay as far as there is
    /// room: they may lead to the cell some other way.
    pub(super) fn learn_servers(&mut self, list: &Addresses, replaces: bool) {
        if list.is_empty() {
            return;
        }
        // There is room: fewer are told than are known.
        let servers = heapless::Vec::from_slice(list).unwrap_or_default();
        let before = core::mem::replace(&mut self.servers, servers);
        let told = core::mem::replace(&mut self.told_servers, list.len());
        for (place, server) in before.iter().enumerate() {
            let was_told = place < told;
            let stays = !(was_told && replaces) && self.place_of(*server).is_none();
            if stays && self.servers.push(*server).is_ok() && was_told {
                self.told_servers = self.told_servers.saturating_add(1);
            }
        }
        // One that is not in the list is followed by the first that is.
        self.turn = self.place_of(self.server).unwrap_or(self.servers.len());
    }

    pub(super) fn handle_new_sess(&mut self, packet: &Packet<'_>) -> Result<(), Rejected> {
        let (code, xid) = outcome(packet.piece).map_err(|_| Rejected::Malformed)?;
        if !matches!(packet.part, Part::Only { .. }) {
            return Err(Rejected::Malformed);
        }
        match (self.phase, code) {
            (Phase::Connecting { .. }, _) if !self.is_in_flight(xid) => Err(Rejected::Number),
            (Phase::Connecting { .. }, Code::Ok) => {
                let sent = self.settle(xid).and_then(|message| message.sent).unwrap_or(self.now);
                self.begin(packet, xid, sent);
                Ok(())
            }
            // Somebody had this id before us, by chance or by a lost reply of ours.
            (Phase::Connecting { .. }, Code::SessExists) => {
                self.connect();
                Ok(())
            }
            // It knows our key, so the packet was damaged on its way; it will be sent again.
            (Phase::Connecting { .. }, Code::SigInval) => Err(Rejected::Number),
            (Phase::Connecting { .. }, refused) => {
                self.phase = Phase::Ended(End::Refused(refused));
                Ok(())
            }
            (_, Code::Ok) if self.greetings.iter().any(|&known| known == packet.number) => {
                self.note(packet.number, Arrival::Duplicate);
                Ok(())
            }
            // The server has lost its count and begins anew (protocol.md 16); what is in flight is sent again at
            // once, so that it finds our count too.
            (_, Code::Ok) if self.extended.is_none() && self.ready.is_none() => {
                self.greet(packet.number);
                self.kind = Kind::Other;
                self.sender.hasten(self.now, Duration::ZERO);
                Ok(())
            }
            _ => Err(Rejected::Number),
        }
    }

    /// The server has opened the session.
    fn begin(&mut self, packet: &Packet<'_>, xid: u64, sent: Instant) {
        self.phase = Phase::Open;
        self.refusals = 0;
        self.connected_untold = true;
        match Welcome::of(packet.piece).filter(|_| self.wants_extended) {
            Some(welcome) => {
                self.extended = Some(Extended::new(&welcome, OFFERED, xid, self.now));
                self.sender.set_selective(welcome.window.into());
                self.accept_terms(&welcome, sent);
            }
            None => {
                let terms = Terms { drift_ppm: self.drift_ppm, ..PLAIN_TERMS };
                self.lease = Some(Lease::new(terms, sent));
            }
        }
        self.greet(packet.number);
    }

    /// Takes over what a welcome says of the cell and of the lease, which counts from `sent`.
    pub(super) fn accept_terms(&mut self, welcome: &Welcome, sent: Instant) {
        let terms = Terms::granted(welcome.lease_ms, welcome.grace_ms, self.drift_ppm);
        match &mut self.lease {
            Some(lease) => lease.regrant(terms, sent),
            None => self.lease = Some(Lease::new(terms, sent)),
        }
        self.seen_epoch = self.seen_epoch.max(welcome.epoch);
        self.learn_servers(&welcome.servers, true);
    }

    /// The server's numbers begin after this one.
    fn greet(&mut self, number: u64) {
        if self.greetings.is_full() {
            self.greetings.pop_front();
        }
        let _ = self.greetings.push_back(number);
        self.receiver.restart(number.wrapping_add(1));
        // Numbers of the stream before mean nothing in this one.
        self.acks.clear();
        self.note(number, Arrival::Taken);
    }
}
