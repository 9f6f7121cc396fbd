//! What a session makes of the datagrams that come in, and the events that follow from them.

use core::net::SocketAddr;

use super::event::{End, Event, Handle, Outcome, Rejected, RequestId};
use super::{InFlight, Kind, LockState, OpenHandle, Phase, Session};
use crate::lease::{Lease, LeaseState};
use crate::link::{Arrival, Message, Outgoing};
use crate::time::{Duration, Instant};
use crate::wire::answer::outcome;
use crate::wire::{Answer, Code, EventMask, Op, Packet, Part};

/// What has come in and waits to be taken by `poll_event`. Of contents only the fact: they stay in the receiver.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ready {
    Done {
        request: RequestId,
        result: Result<Small, Code>,
    },
    Contents {
        request: RequestId,
    },
    Handle {
        handle: Handle,
        events: EventMask,
    },
    /// The contents have been lent to the application: they may be released with the next call.
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
    Event { fh: u64, events: EventMask },
    Opened { xid: u64, handle: Handle },
    Contents { xid: u64 },
    Done { xid: u64, code: Code },
    Nothing,
}

impl Reply {
    fn of(message: &Message<'_>) -> Self {
        match Answer::parse(message.op, message.body) {
            // Whose answer it is can be told even of one that is cut, or that makes no sense.
            _ if message.cut => Self::failed(message, Code::TooLarge),
            Err(_) => Self::failed(message, Code::BadPkt),
            Ok(Answer::Event { fh, events }) => Self::Event { fh, events },
            Ok(Answer::Opened { xid, fh }) => Self::Opened { xid, handle: Handle(fh) },
            Ok(Answer::Contents { xid, .. }) => Self::Contents { xid },
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
        if Some(from) != self.server() {
            return Err(Rejected::Address);
        }
        let packet = Packet::parse(datagram).map_err(|_| Rejected::Malformed)?;
        if packet.sid != self.sid {
            return Err(Rejected::Session);
        }
        if packet.user != self.user.as_slice() {
            return Err(Rejected::Forged);
        }
        if packet.verify(&self.key).is_ok() {
            return self.handle_packet(&packet);
        }
        let number = packet.verify_shifted(&self.key).map_err(|_| Rejected::Forged)?;
        self.handle_shifted(&packet, number)
    }

    /// The next thing to tell the application. To be called until there is none.
    pub fn poll_event(&mut self) -> Option<Event<'_>> {
        if matches!(self.ready, Some(Ready::Lent)) {
            self.ready = None;
            self.receiver.release();
        }
        if self.ready.is_none() {
            self.ready = self.take_early_event();
        }
        while self.ready.is_none() && self.receiver.message().is_none() {
            let Some(number) = self.receiver.advance() else { break };
            self.acks.push(number);
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
            Some(Ready::Handle { handle, events }) => Some(Event::Handle { handle, events }),
            Some(Ready::Contents { request }) => {
                self.ready = Some(Ready::Lent);
                let message = self.receiver.message()?;
                let result = match Answer::parse(message.op, message.body) {
                    Ok(Answer::Contents { metadata, path, data, .. }) => {
                        Ok(Outcome::Contents { metadata, path, data })
                    }
                    _ => Err(Code::BadPkt),
                };
                Some(Event::Done { request, result })
            }
            Some(Ready::Lent) | None => self.poll_state(),
        }
    }

    /// The event that came before the answer to the OPEN of its handle, if that is here now.
    fn take_early_event(&mut self) -> Option<Ready> {
        let (fh, events) = self.event_before_open?;
        let is_open = self.handles.iter().any(|open| open.handle.0 == fh);
        let is_opening = self.sender.iter().any(|message| message.op == Op::Open);
        if is_open || !is_opening {
            self.event_before_open = None;
        }
        if is_open { self.handle_event(fh, events) } else { None }
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

    fn handle_packet(&mut self, packet: &Packet<'_>) -> Result<(), Rejected> {
        match packet.part.op() {
            Some(Op::NotMaster) => return self.handle_not_master(),
            // Pieces are acknowledged to extended clients only; Hail's are unreadable, and of no use to us.
            Some(Op::AckFrag) => return Ok(()),
            Some(Op::Ack) => return Err(Rejected::Malformed),
            Some(Op::NewSess) => return self.handle_new_sess(packet),
            _ => {}
        }
        if self.handle_one_shot(packet, packet.number).is_ok() {
            return Ok(());
        }
        if matches!(self.phase, Phase::Connecting { .. }) {
            return Err(Rejected::Number);
        }
        if self.ready.is_some() {
            return Err(Rejected::Number);
        }
        match self.accept(packet) {
            Arrival::Taken => {
                self.acks.push(packet.number);
                self.handle_message();
                Ok(())
            }
            Arrival::Duplicate => {
                self.acks.push(packet.number);
                Ok(())
            }
            Arrival::Held => Ok(()),
            Arrival::Refused => Err(Rejected::Number),
        }
    }

    /// Hail's server forgets how far it had counted when it starts again, and uses numbers a second time
    /// (protocol.md 5). The answer to a request that is still in flight cannot have come before.
    fn accept(&mut self, packet: &Packet<'_>) -> Arrival {
        let arrival = self.receiver.accept(packet.number, packet.part, packet.piece);
        let reused = arrival == Arrival::Duplicate
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

    fn handle_not_master(&mut self) -> Result<(), Rejected> {
        // When all have said so, there is no master yet: the next one is asked when patience is at its end.
        if matches!(self.phase, Phase::Connecting { .. })
            && self.refusals.saturating_add(1) < self.servers.len()
        {
            self.refusals = self.refusals.saturating_add(1);
            self.connect_to_next();
        }
        Ok(())
    }

    fn handle_new_sess(&mut self, packet: &Packet<'_>) -> Result<(), Rejected> {
        let (code, xid) = outcome(packet.piece).map_err(|_| Rejected::Malformed)?;
        if !matches!(packet.part, Part::Only { .. }) {
            return Err(Rejected::Malformed);
        }
        match (self.phase, code) {
            (Phase::Connecting { .. }, _) if !self.is_in_flight(xid) => Err(Rejected::Number),
            (Phase::Connecting { .. }, Code::Ok) => {
                let sent = self.settle(xid).and_then(|message| message.sent).unwrap_or(self.now);
                self.phase = Phase::Open;
                self.lease = Some(Lease::new(self.terms, sent));
                self.connected_untold = true;
                self.greet(packet.number);
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
                self.acks.push(packet.number);
                Ok(())
            }
            // The server has lost its count and begins anew (protocol.md 16); what is in flight is sent again at
            // once, so that it finds our count too.
            (_, Code::Ok) if self.ready.is_none() => {
                self.greet(packet.number);
                self.kind = Kind::Other;
                self.sender.hasten(self.now, Duration::ZERO);
                Ok(())
            }
            _ => Err(Rejected::Number),
        }
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
        self.acks.push(number);
    }

    /// What Hail's server sends outside its stream of numbers, with the footer in the wrong place (protocol.md 1.3).
    fn handle_shifted(&mut self, packet: &Packet<'_>, number: u64) -> Result<(), Rejected> {
        match packet.part.op() {
            Some(Op::NotMaster) => self.handle_not_master(),
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
        if !is_answer {
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
    fn lose(&mut self) {
        let end = if matches!(self.phase, Phase::Ending) { End::Closed } else { End::Expired };
        self.phase = Phase::Ended(end);
    }

    /// Looks at the message that may be complete now, and releases it unless its contents are to be lent.
    fn handle_message(&mut self) {
        let Some(message) = self.receiver.message() else { return };
        self.ready = match Reply::of(&message) {
            Reply::Event { .. } if self.told_events.iter().any(|&told| told == message.xid) => None,
            Reply::Event { fh, events } => {
                if self.told_events.is_full() {
                    self.told_events.pop_front();
                }
                let _ = self.told_events.push_back(message.xid);
                self.handle_event(fh, events)
            }
            Reply::Opened { xid, handle } => self.handle_opened(xid, handle),
            Reply::Contents { xid } => self.handle_contents(xid),
            Reply::Done { xid, code } => self.handle_done(xid, code),
            Reply::Nothing => None,
        };
        if !matches!(self.ready, Some(Ready::Contents { .. })) {
            self.receiver.release();
        }
        self.close_orphans();
    }

    fn handle_event(&mut self, fh: u64, events: EventMask) -> Option<Ready> {
        let Some(open) = self.handles.iter_mut().find(|open| open.handle.0 == fh) else {
            if self.sender.iter().any(|message| message.op == Op::Open) {
                let earlier = self.event_before_open.filter(|&(early, _)| early == fh);
                let earlier = earlier.map_or(EventMask::NONE, |(_, events)| events);
                self.event_before_open = Some((fh, earlier | events));
            }
            return None;
        };
        let mut events = events;
        if events.contains(EventMask::LOCKED) {
            let asked = self.sender.iter().any(|m| m.op == Op::Lock && m.body.handle == Some(open.handle));
            match open.lock {
                LockState::Waiting => open.lock = LockState::Held,
                LockState::Free if asked => open.lock = LockState::Held,
                // A grant that was told before, or is no longer wanted.
                LockState::Free | LockState::Held => events = events.without(EventMask::LOCKED),
            }
        }
        let handle = open.handle;
        (events != EventMask::NONE && !open.orphan).then_some(Ready::Handle { handle, events })
    }

    fn handle_opened(&mut self, xid: u64, handle: Handle) -> Option<Ready> {
        let message = self.settle(xid)?;
        let orphan = message.body.call.is_none();
        // There is room: `open` has counted the handles to come.
        let _ = self.handles.push(OpenHandle { handle, lock: LockState::Free, orphan });
        message.body.call.map(|request| Ready::Done { request, result: Ok(Small::Opened(handle)) })
    }

    fn handle_contents(&mut self, xid: u64) -> Option<Ready> {
        let request = self.settle(xid)?.body.call?;
        Some(Ready::Contents { request })
    }

    fn handle_done(&mut self, xid: u64, code: Code) -> Option<Ready> {
        let message = self.settle(xid)?;
        if let Some(handle) = message.body.handle {
            self.note_result(message.op, handle, code);
        }
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

    /// What the answer to a request says about the handle that it was about.
    fn note_result(&mut self, op: Op, handle: Handle, code: Code) {
        let Some(index) = self.handles.iter().position(|open| open.handle == handle) else { return };
        let Some(open) = self.handles.get_mut(index) else { return };
        match (op, code) {
            (Op::Close, Code::Ok | Code::FhInval) => {
                self.handles.swap_remove(index);
            }
            // Asking again would bring the same answer.
            (Op::Close, _) if open.orphan => {
                self.handles.swap_remove(index);
            }
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
                    self.handles
                        .iter_mut()
                        .filter(|open| open.handle == handle)
                        .for_each(|open| open.orphan = true);
                    self.close_orphans();
                }
            }
            Some(Ready::Contents { request }) if request == call => self.ready = Some(Ready::Lent),
            _ => {}
        }
    }

    /// A request is answered: it leaves the table, and the lease counts from its first transmission.
    fn settle(&mut self, xid: u64) -> Option<Outgoing<InFlight>> {
        let message = self.sender.settle(self.now, xid)?;
        if let (Some(lease), Some(sent)) = (&mut self.lease, message.sent) {
            lease.renew(sent);
        }
        Some(message)
    }

    fn is_in_flight(&self, xid: u64) -> bool {
        self.sender.iter().any(|message| message.xid == xid)
    }
}
