//! What a session makes of the datagrams that come in, and the events that follow from them.

use core::net::SocketAddr;

use super::event::{End, Event, Handle, Outcome, Rejected, RequestId};
use super::handles::Happening;
use super::{InFlight, Kind, LockState, Phase, Session};
use crate::lease::LeaseState;
use crate::link::{Arrival, Message, Outgoing};
use crate::time::Instant;
use crate::wire::answer::outcome;
use crate::wire::extended::{EventDetail, Features, Sequencer, alive};
use crate::wire::{Answer, Code, EventMask, Op, Packet, Part, Rider};

/// What has come in and waits to be taken by `poll_event`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ready {
    /// The outcome of a call, which needs no bytes.
    Done { request: RequestId, result: Result<Small, Code> },
    /// A call has succeeded, and its outcome stays in the receiver.
    Answer { request: RequestId },
    /// Something has happened to a handle, and its details stay in the receiver.
    Happened { handle: Handle, events: EventMask },
    /// What stays in the receiver has been lent to the application: it may be released with the next call.
    Lent,
}

/// An outcome that needs no bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Small {
    Done,
    Opened(Handle),
    LockPending,
}

/// What a message says, without its bytes.
enum Reply {
    Event(Happening),
    Opened {
        xid: u64,
        handle: Handle,
    },
    /// It has succeeded, and there may be more to say of it than that.
    Full {
        xid: u64,
    },
    Done {
        xid: u64,
        code: Code,
    },
    Nothing,
}

impl Reply {
    fn of(message: &Message<'_>, is_extended: bool) -> Self {
        match Answer::parse(message.op, message.body) {
            // Whose answer it is can be told even of one that is cut, or that makes no sense.
            _ if message.cut => Self::failed(message, Code::TooLarge),
            Err(_) => Self::failed(message, Code::BadPkt),
            Ok(Answer::Event { fh, events }) => {
                let detail = EventDetail::of(message.body).filter(|_| is_extended);
                let detail = detail.map(|detail| (detail.serial, detail.version));
                Self::Event(Happening { fh, events, detail })
            }
            Ok(Answer::Opened { xid, fh }) => Self::Opened { xid, handle: Handle(fh) },
            Ok(Answer::Contents { xid, .. }) => Self::Full { xid },
            Ok(Answer::Done { op: Op::Lock | Op::TryLock | Op::GetSequencer, xid, code: Code::Ok }) => {
                Self::Full { xid }
            }
            Ok(Answer::Done { xid, code, .. }) => Self::Done { xid, code },
            Ok(Answer::Ping | Answer::NotMaster | Answer::AckFrag { .. }) => Self::Nothing,
        }
    }

    fn failed(message: &Message<'_>, code: Code) -> Self {
        outcome(message.body).map_or(Self::Nothing, |(_, xid)| Self::Done { xid, code })
    }
}

impl<const RX: usize, const TX: usize, const REQUESTS: usize, const HANDLES: usize, const EARLY: usize>
    Session<RX, TX, REQUESTS, HANDLES, EARLY>
{
    /// Takes in a datagram. An error is for the record only: nothing needs to be done about it.
    ///
    /// # Errors
    /// Why the datagram was not taken in.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), Rejected> {
        self.now = now;
        if matches!(self.phase, Phase::Ended(_)) {
            return Err(Rejected::Ended);
        }
        let is_other = from != self.server;
        if is_other && !(self.is_extended() && self.place_of(from).is_some()) {
            return Err(Rejected::Address);
        }
        let packet = Packet::parse(datagram).map_err(|_| Rejected::Malformed)?;
        // Another server of the cell may be the master, and say so.
        if is_other && (packet.rider.is_some() || packet.part.op() != Some(Op::Resume)) {
            return Err(Rejected::Address);
        }
        if packet.sid != self.sid {
            return Err(Rejected::Session);
        }
        if packet.user != self.user.as_slice() {
            return Err(Rejected::Forged);
        }
        if packet.verify(&self.key).is_ok() {
            return match (self.extended.is_some(), packet.rider) {
                (true, Some(rider)) => self.handle_extended(&packet, rider),
                (_, None) => self.handle_packet(from, &packet),
                (false, Some(_)) => Err(Rejected::Malformed),
            };
        }
        let number = packet.verify_shifted(&self.key).map_err(|_| Rejected::Forged)?;
        if self.extended.is_some() || packet.rider.is_some() {
            return Err(Rejected::Forged);
        }
        self.handle_shifted(&packet, number)
    }

    /// The next thing to tell the application. To be called until there is none.
    pub fn poll_event(&mut self) -> Option<Event<'_>> {
        if matches!(self.ready, Some(Ready::Lent)) {
            self.ready = None;
            self.receiver.release();
        }
        if self.ready.is_none() {
            if core::mem::take(&mut self.failover_untold) {
                return self.epoch().map(|epoch| Event::MasterFailover { epoch });
            }
            if let Some((handle, events, version)) = self.handles.take_untold() {
                let version = self.is_extended().then_some(version);
                return Some(Event::Handle { handle, events, version, sequencer: None });
            }
        }
        while self.ready.is_none() && self.receiver.message().is_none() {
            let Some(number) = self.receiver.advance() else { break };
            self.note(number, Arrival::Taken);
            self.handle_message();
        }
        match self.ready.take() {
            Some(Ready::Done { request, result }) => {
                let result = result.map(|outcome| match outcome {
                    Small::Done => Outcome::Done,
                    Small::Opened(handle) => Outcome::Opened(handle),
                    Small::LockPending => Outcome::LockPending,
                });
                Some(Event::Done { request, result })
            }
            Some(Ready::Answer { request }) => {
                self.ready = Some(Ready::Lent);
                let result = self.lend_outcome(&self.receiver.message()?);
                Some(Event::Done { request, result })
            }
            Some(Ready::Happened { handle, events }) => {
                self.ready = Some(Ready::Lent);
                let body = self.receiver.message()?.body;
                let detail = EventDetail::of(body).filter(|_| self.is_extended());
                let version = detail.map(|detail| detail.version);
                let granted = self.has_fencing() && events.contains(EventMask::LOCKED);
                let sequencer = detail.and_then(|detail| detail.sequencer).filter(|_| granted);
                Some(Event::Handle { handle, events, version, sequencer })
            }
            Some(Ready::Lent) | None => self.poll_state(),
        }
    }

    fn lend_outcome<'a>(&self, message: &Message<'a>) -> Result<Outcome<'a>, Code> {
        let sequencer = Sequencer::of(message.body).filter(|_| self.has_fencing());
        match Answer::parse(message.op, message.body) {
            Ok(Answer::Contents { metadata, path, data, .. }) => {
                Ok(Outcome::Contents { metadata, path, data })
            }
            Ok(Answer::Done { op: Op::Lock | Op::TryLock, .. }) => Ok(Outcome::Locked { sequencer }),
            Ok(Answer::Done { op: Op::GetSequencer, .. }) => {
                sequencer.map(Outcome::Sequencer).ok_or(Code::BadPkt)
            }
            _ => Err(Code::BadPkt),
        }
    }

    fn has_fencing(&self) -> bool {
        self.features().contains(Features::FENCING)
    }

    /// Events that do not come from a message: the session's own state.
    fn poll_state(&mut self) -> Option<Event<'_>> {
        if core::mem::take(&mut self.connected_untold) {
            return Some(Event::Connected);
        }
        if let Phase::Ended(end) = self.phase {
            return self.poll_end(end);
        }
        let state = self.lease.as_ref()?.state(self.now);
        if state == LeaseState::Expired {
            self.phase = Phase::Ended(End::Expired);
            return self.poll_end(End::Expired);
        }
        (core::mem::replace(&mut self.lease_told, state) != state).then_some(Event::Lease(state))
    }

    /// All calls in flight are answered before the end is told.
    fn poll_end(&mut self, end: End) -> Option<Event<'_>> {
        while let Some(message) = self.sender.pop() {
            if let Some(request) = message.body.call {
                return Some(Event::Done { request, result: Err(Code::Timeout) });
            }
        }
        (!core::mem::replace(&mut self.end_told, true)).then_some(Event::Ended(end))
    }

    /// A packet of a plain session, or one that is outside the streams of an extended one.
    fn handle_packet(&mut self, from: SocketAddr, packet: &Packet<'_>) -> Result<(), Rejected> {
        match packet.part.op() {
            Some(Op::NotMaster) => return self.handle_not_master(packet),
            Some(Op::NewSess) => return self.handle_new_sess(packet),
            Some(Op::Resume) if self.extended.is_some() => return self.handle_challenge(from, packet),
            // Pieces are acknowledged to extended clients only; Hail's are unreadable, and of no use to us.
            Some(Op::AckFrag) => return Ok(()),
            Some(Op::Ack) => return Err(Rejected::Malformed),
            _ => {}
        }
        if self.extended.is_some() {
            return self.handle_one_shot(packet, packet.number);
        }
        if self.handle_one_shot(packet, packet.number).is_ok() {
            return Ok(());
        }
        if matches!(self.phase, Phase::Connecting { .. }) {
            return Err(Rejected::Number);
        }
        self.handle_piece(packet)
    }

    /// A packet of an extended session.
    fn handle_extended(&mut self, packet: &Packet<'_>, rider: Rider) -> Result<(), Rejected> {
        let loose_nop = match packet.part {
            Part::Only { op: Op::Ack, .. } if rider.loose => None,
            Part::Only { op: Op::Nop, .. } if rider.loose => {
                Some(outcome(packet.piece).map_err(|_| Rejected::Malformed)?)
            }
            _ if rider.loose => return Err(Rejected::Malformed),
            _ => None,
        };
        if self.ready.is_none() && !rider.loose {
            self.begin_streams(packet, rider);
        }
        if !self.sender.acknowledge_selectively(self.now, rider.ack) {
            return Err(Rejected::Stream);
        }
        if let Some(extended) = &mut self.extended {
            extended.heard = self.now;
        }
        match loose_nop {
            Some((Code::Ok, xid)) => self.handle_kept_alive(packet, xid),
            Some(_) => Err(Rejected::Number),
            None if rider.loose => Ok(()),
            None => self.handle_piece(packet),
        }
    }

    /// The NOP that keeps the session alive is answered.
    fn handle_kept_alive(&mut self, packet: &Packet<'_>, xid: u64) -> Result<(), Rejected> {
        let Some(extended) = &mut self.extended else { return Err(Rejected::Number) };
        let Some(sent) = extended.keep_alive.answered(packet.number, xid) else {
            return Err(Rejected::Number);
        };
        extended.told = self.now;
        let (epoch, servers) = alive(packet.piece).unwrap_or_default();
        if epoch > extended.epoch {
            extended.epoch = epoch;
            self.seen_epoch = self.seen_epoch.max(epoch);
            self.failover_untold = true;
        }
        if let Some(lease) = &mut self.lease {
            lease.renew(sent);
        }
        self.learn_servers(&servers, true);
        Ok(())
    }

    /// A packet of the server's stream.
    fn handle_piece(&mut self, packet: &Packet<'_>) -> Result<(), Rejected> {
        if self.ready.is_some() {
            return Err(Rejected::Number);
        }
        let arrival = self.accept(packet);
        self.note(packet.number, arrival);
        match arrival {
            Arrival::Taken => self.handle_message(),
            Arrival::Duplicate | Arrival::Held => {}
            Arrival::Refused => return Err(Rejected::Number),
        }
        Ok(())
    }

    /// A packet of this number has come, and is to be acknowledged when it is time.
    pub(super) fn note(&mut self, number: u64, arrival: Arrival) {
        match (&mut self.extended, arrival) {
            (Some(extended), _) => extended.acknowledger.arrived(self.now, arrival),
            (None, Arrival::Taken | Arrival::Duplicate) => self.acks.push(number),
            (None, Arrival::Held | Arrival::Refused) => {}
        }
    }

    /// Hail's server forgets how far it had counted when it starts again, and uses numbers a second time
    /// (protocol.md 5). The answer to a request that is still in flight cannot have come before.
    fn accept(&mut self, packet: &Packet<'_>) -> Arrival {
        let arrival = self.receiver.accept(packet.number, packet.part, packet.piece);
        let reused = arrival == Arrival::Duplicate
            && self.extended.is_none()
            && packet.part.is_first()
            && self.receiver.assembling_since() != Some(packet.number)
            && packet.part.op() != Some(Op::Event)
            && outcome(packet.piece).is_ok_and(|(_, xid)| self.is_in_flight(xid));
        if !reused {
            return arrival;
        }
        self.receiver.restart(packet.number);
        self.receiver.accept(packet.number, packet.part, packet.piece)
    }

    /// What Hail's server sends outside its stream of numbers, with the footer in the wrong place (protocol.md 1.3).
    fn handle_shifted(&mut self, packet: &Packet<'_>, number: u64) -> Result<(), Rejected> {
        match packet.part.op() {
            Some(Op::NotMaster) => self.handle_not_master(packet),
            Some(Op::AckFrag) => self.handle_ack_frag(packet),
            // Of a NEW_SESS that failed the number says nothing (protocol.md 4.5).
            Some(Op::NewSess) if outcome(packet.piece).is_ok_and(|(code, _)| code != Code::Ok) => {
                self.handle_new_sess(packet)
            }
            _ => self.handle_one_shot(packet, number),
        }
    }

    /// A piece of a request has come in order: no need to be in a hurry with the next pass. Earlier requests must
    /// have been answered, for this number answers nothing.
    fn handle_ack_frag(&mut self, packet: &Packet<'_>) -> Result<(), Rejected> {
        let Ok(Answer::AckFrag { number }) = Answer::parse(Op::AckFrag, packet.piece) else {
            return Err(Rejected::Malformed);
        };
        self.kind = Kind::Hail;
        let is_piece =
            self.sender.get(0).is_some_and(|oldest| oldest.covers(number) && oldest.last() != number);
        if is_piece {
            self.sender.acknowledge(self.now, number);
        }
        Ok(())
    }

    /// An error outside the server's stream of numbers, in answer to a packet of ours: it carries the number of that
    /// packet and the xid of the request (protocol.md 4.5).
    fn handle_one_shot(&mut self, packet: &Packet<'_>, number: u64) -> Result<(), Rejected> {
        let (Part::Only { .. }, Ok((code, xid))) = (packet.part, outcome(packet.piece)) else {
            return Err(Rejected::Malformed);
        };
        let is_answer = self.sender.iter().any(|message| message.xid == xid && message.covers(number));
        let keep_alive = self.extended.as_ref().and_then(|extended| extended.keep_alive.names());
        if !is_answer && keep_alive != Some((number, xid)) {
            return Err(Rejected::Number);
        }
        match code {
            Code::SessInval if !matches!(self.phase, Phase::Connecting { .. }) => self.lose(),
            Code::BadPkt if self.ready.is_none() => {
                if let Some(message) = self.settle(xid) {
                    self.ready = message.body.call.map(|request| Ready::Done { request, result: Err(code) });
                }
            }
            _ => return Err(Rejected::Number),
        }
        Ok(())
    }

    /// The server does not know the session, or not any more.
    pub(super) fn lose(&mut self) {
        let end = if matches!(self.phase, Phase::Ending) { End::Closed } else { End::Expired };
        self.phase = Phase::Ended(end);
    }

    /// Looks at the message that may be complete now, and releases it unless some of it is to be lent.
    fn handle_message(&mut self) {
        let Some(message) = self.receiver.message() else { return };
        self.ready = match Reply::of(&message, self.extended.is_some()) {
            _ if message.op == Op::Resume => {
                self.handle_resumed();
                None
            }
            Reply::Event(Happening { detail: None, .. })
                if self.told_events.iter().any(|&told| told == message.xid) =>
            {
                None
            }
            Reply::Event(happening) => {
                if happening.detail.is_none() {
                    if self.told_events.is_full() {
                        self.told_events.pop_front();
                    }
                    let _ = self.told_events.push_back(message.xid);
                }
                self.handle_event(happening)
            }
            Reply::Opened { xid, handle } => self.handle_opened(xid, handle),
            Reply::Full { xid } => self.handle_full(xid),
            Reply::Done { xid, code } => self.handle_done(xid, code),
            Reply::Nothing => None,
        };
        if !matches!(self.ready, Some(Ready::Answer { .. } | Ready::Happened { .. })) {
            self.receiver.release();
        }
        self.close_orphans();
    }

    fn handle_event(&mut self, happening: Happening) -> Option<Ready> {
        let handle = Handle(happening.fh);
        let opens = self.sender.iter().any(|message| message.op == Op::Open);
        let locks = self.sender.iter().any(|m| m.op == Op::Lock && m.body.handle == Some(handle));
        let (handle, events) = self.handles.happened(happening, opens, locks)?;
        Some(Ready::Happened { handle, events })
    }

    fn handle_opened(&mut self, xid: u64, handle: Handle) -> Option<Ready> {
        let message = self.settle(xid)?;
        self.handles.add(handle, message.body.call.is_some());
        self.forget_unknown();
        message.body.call.map(|request| Ready::Done { request, result: Ok(Small::Opened(handle)) })
    }

    fn handle_full(&mut self, xid: u64) -> Option<Ready> {
        let message = self.settle(xid)?;
        if let Some(handle) = message.body.handle {
            self.note_result(message.op, handle, Code::Ok);
        }
        message.body.call.map(|request| Ready::Answer { request })
    }

    fn handle_done(&mut self, xid: u64, code: Code) -> Option<Ready> {
        let message = self.settle(xid)?;
        if let Some(handle) = message.body.handle {
            self.note_result(message.op, handle, code);
        }
        self.forget_unknown();
        if message.op == Op::EndSess {
            self.phase = Phase::Ended(End::Closed);
        } else if code == Code::SessInval {
            self.lose();
        }
        let result = match code {
            Code::Ok => Ok(Small::Done),
            Code::LockPending => Ok(Small::LockPending),
            refused => Err(refused),
        };
        message.body.call.map(|request| Ready::Done { request, result })
    }

    /// Events for handles that nobody knows are nobody's, once nothing is being opened.
    fn forget_unknown(&mut self) {
        if !self.sender.iter().any(|message| message.op == Op::Open) {
            self.handles.forget_unknown();
        }
    }

    /// What the answer to a request says about the handle that it was about.
    fn note_result(&mut self, op: Op, handle: Handle, code: Code) {
        match (op, code) {
            (Op::Close, Code::Ok | Code::FhInval) => return self.handles.remove(handle),
            // Asking again would bring the same answer.
            (Op::Close, _) if self.handles.is_orphan(handle) => return self.handles.remove(handle),
            _ => {}
        }
        let Some(open) = self.handles.find_mut(handle) else { return };
        match (op, code) {
            (Op::Lock | Op::TryLock, Code::Ok) => open.lock = LockState::Held,
            (Op::Lock, Code::LockPending) if open.lock == LockState::Free => open.lock = LockState::Waiting,
            (Op::Unlock, Code::Ok | Code::LockInval) => open.lock = LockState::Free,
            _ => {}
        }
    }

    /// What came of a call is not to be told any more, even if it is here already.
    pub(super) fn forget_ready(&mut self, call: RequestId) {
        match self.ready {
            Some(Ready::Done { request, result }) if request == call => {
                self.ready = None;
                if let Ok(Small::Opened(handle)) = result {
                    self.handles.abandon(handle);
                    self.close_orphans();
                }
            }
            Some(Ready::Answer { request }) if request == call => self.ready = Some(Ready::Lent),
            _ => {}
        }
    }

    /// A request is answered: it leaves the table, and the lease counts from its first transmission.
    pub(super) fn settle(&mut self, xid: u64) -> Option<Outgoing<InFlight>> {
        let message = self.sender.settle(self.now, xid)?;
        if let (Some(lease), Some(sent)) = (&mut self.lease, message.sent) {
            lease.renew(sent);
        }
        // What it was asked for is known without its answer.
        if self.lease.is_some_and(|lease| self.now < self.ask_at(&lease)) {
            if let Some(extended) = &mut self.extended {
                extended.keep_alive.cancel();
            }
        }
        Some(message)
    }

    pub(super) fn is_in_flight(&self, xid: u64) -> bool {
        self.sender.iter().any(|message| message.xid == xid)
    }
}
