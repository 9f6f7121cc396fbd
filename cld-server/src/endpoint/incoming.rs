//! A session's packets that arrive: which are taken, which show that something was lost, which change nothing.

use cldc_core::link::{Arrival, ahead};
use cldc_core::wire::{Code, Op, Packet, Part};

use super::admission::hello_of;
use super::limits::Refused;
use super::session::{Context, Session, Stage};

impl Session {
    /// A packet of this session's user, from the session's address, with a right HMAC. An error is a result to be sent
    /// outside the stream.
    pub(super) fn handle_packet(&mut self, cx: &mut Context<'_>, packet: &Packet<'_>) -> Result<(), Code> {
        if self.extended.is_some() {
            return self.handle_extended_packet(cx, packet);
        }
        match packet.part.op() {
            Some(Op::Ack) => {
                self.acknowledged(cx, packet.number);
                return Ok(());
            }
            Some(Op::NewSess) => return self.opened_again(cx, packet),
            _ => {}
        }
        match self.stage {
            Stage::Opening { .. } | Stage::Expiring { .. } | Stage::Gone => {}
            Stage::Unproved | Stage::Calling => self.held_back(cx),
            Stage::Dormant { .. } => self.call(cx),
            Stage::Gathering => self.gather(cx, packet),
            Stage::Live => self.receive(cx, packet),
            Stage::Ended { .. } => return self.ended(cx, packet),
        }
        Ok(())
    }

    /// A NEW_SESS for a session that exists.
    pub(super) fn opened_again(&mut self, cx: &mut Context<'_>, packet: &Packet<'_>) -> Result<(), Code> {
        let hello = hello_of(packet);
        // After a restart, only the xid of an extended NEW_SESS is known.
        let forgotten = self.extended.is_some() && matches!(self.stage, Stage::Dormant { .. });
        let same = matches!(packet.part, Part::Only { xid, .. }
            if xid == self.opened.0 && (packet.number == self.opened.1 || forgotten));
        if !same || hello.is_some() != self.extended.is_some() {
            return Err(Code::SessExists);
        }
        cx.counters.duplicates = cx.counters.duplicates.saturating_add(1);
        match self.stage {
            Stage::Dormant { .. } => match hello {
                Some(hello) => self.greet_again(cx, packet.number, &hello),
                None => self.call(cx),
            },
            Stage::Unproved | Stage::Calling => self.held_back(cx),
            _ => {}
        }
        Ok(())
    }

    /// A packet of a client that is not proved: its acknowledgement was probably lost, or the greeting was.
    fn held_back(&mut self, cx: &mut Context<'_>) {
        cx.counters.not_proved = cx.counters.not_proved.saturating_add(1);
        self.outbox.hasten(cx.now, cx.config.timing.hasten_greeting, false, cx.rng);
    }

    /// A packet for a session that its client has ended.
    pub(super) fn ended(&mut self, cx: &mut Context<'_>, packet: &Packet<'_>) -> Result<(), Code> {
        if ahead(packet.number, self.incoming.next_number()) >= 0 {
            return Err(Code::SessInval);
        }
        if packet.part.is_first() {
            self.hasten(cx);
        }
        Ok(())
    }

    /// A numbered packet of a session that is live.
    pub(super) fn receive(&mut self, cx: &mut Context<'_>, packet: &Packet<'_>) {
        if self.refuses(cx, packet) {
            return;
        }
        let distance = ahead(packet.number, self.incoming.next_number());
        match self.incoming.accept(packet.number, packet.part, packet.piece) {
            Arrival::Taken => {
                self.heard(cx);
                if let Some(recovered) = &mut self.recovered {
                    recovered.aligned();
                }
                self.proceed(cx);
            }
            Arrival::Duplicate => {
                cx.counters.duplicates = cx.counters.duplicates.saturating_add(1);
                if packet.part.is_first() && !self.asked_again(cx, packet) {
                    self.hasten(cx);
                }
            }
            Arrival::Held | Arrival::Refused if distance > 0 => self.came_early(cx, packet),
            Arrival::Held | Arrival::Refused => {}
        }
    }

    /// Whether a limit keeps a packet out. Its sender will send it again.
    pub(super) fn refuses(&self, cx: &mut Context<'_>, packet: &Packet<'_>) -> bool {
        let distance = ahead(packet.number, self.incoming.next_number());
        if distance >= 0
            && let Some(limit) = self.limit(cx).or_else(|| self.stream_limit(cx, packet, distance))
        {
            cx.counters.limit(cx.now, limit, &self.user);
            return true;
        }
        false
    }

    /// Whether the packet would make the session hold or assemble, and too many of its user's sessions do.
    fn stream_limit(&self, cx: &Context<'_>, packet: &Packet<'_>, distance: i64) -> Option<Refused> {
        let passes_through = distance == 0 && matches!(packet.part, Part::Only { .. });
        let refused =
            !passes_through && self.incoming.is_idle() && cx.user.streams >= cx.config.queue.streams_per_user;
        refused.then_some(Refused::StreamsPerUser)
    }
}
