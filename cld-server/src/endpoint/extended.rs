//! The extended session (docs/protocol.md 7): what it agreed on, its packets with their acknowledgements, and what is
//! said outside its stream. How it moves to another stream is in `resume`.

use cldc_core::link::{Acknowledger, Arrival, ahead};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::extended::{Features, Hello, VERSION, Welcome, emit_addresses};
use cldc_core::wire::limits::{FOOTER, MAX_MESSAGE, PIECE};
use cldc_core::wire::xdr::pad;
use cldc_core::wire::{Ack, Answer, Code, EventMask, Full, Op, Packet, Part, Rider, Seal};

use super::EndpointConfig;
use super::content::{Content, result, success};
use super::outbox::Outbox;
use super::resume::Moves;
use super::session::{Context, Session, Stage};
use crate::database::{Database, Notice, REPLIES_MAX, Reply, Terms, UserName};

/// Packets that a client may have unacknowledged. Those that come early are held, so that none is taken back.
const WINDOW: u32 = 64;

/// What is to be said outside the stream, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Once {
    /// The answer to a NOP that keeps the session alive.
    Alive { number: u64, xid: u64, epoch: u64 },
    /// That the client should resume the session.
    Hint,
}

/// What an extended session has beyond a plain one.
#[derive(Debug)]
pub(super) struct Extended {
    terms: Terms,
    features: Features,
    /// How many packets the client lets be unacknowledged.
    window: u64,
    /// The longest body that the client takes in.
    max_message: usize,
    acknowledger: Acknowledger,
    /// An acknowledgement is overdue.
    says_ack: bool,
    /// The highest number of a loose NOP in this stream.
    keepalive: Option<u64>,
    once: Option<Once>,
    pub(super) moves: Moves,
}

impl Extended {
    /// What a client asks for in NEW_SESS gets.
    pub(super) fn granted(cx: &mut Context<'_>, hello: &Hello) -> Self {
        let mut extended = Self::recovered(cx, cx.config.timing.terms(hello.lease_ms));
        extended.agree(hello);
        extended
    }

    /// What is known after a restart.
    pub(super) fn recovered(cx: &mut Context<'_>, terms: Terms) -> Self {
        Self {
            terms,
            features: Features::NONE,
            window: 1,
            max_message: PIECE,
            acknowledger: Acknowledger::default(),
            says_ack: false,
            keepalive: None,
            once: None,
            moves: Moves::new(cx),
        }
    }

    /// Takes over what a client says of itself. Its lease stays.
    pub(super) fn agree(&mut self, hello: &Hello) {
        self.features = hello.features.common(Features::KNOWN);
        self.window = hello.window.into();
        self.max_message = usize::try_from(hello.max_message).unwrap_or(usize::MAX).max(PIECE);
    }

    /// A new stream begins.
    pub(super) fn begin_stream(&mut self) {
        self.acknowledger = Acknowledger::default();
        (self.says_ack, self.keepalive, self.once) = (false, None, None);
    }

    pub(super) const fn terms(&self) -> Terms {
        self.terms
    }

    pub(super) const fn features(&self) -> Features {
        self.features
    }

    /// Whether sequencers are told.
    pub(super) const fn fences(&self) -> bool {
        self.features.contains(Features::FENCING)
    }

    pub(super) const fn window(&self) -> u64 {
        self.window
    }

    pub(super) const fn max_message(&self) -> usize {
        self.max_message
    }

    pub(super) const fn lease(&self) -> Duration {
        Duration::from_millis(self.terms.lease_ms as u64)
    }

    pub(super) const fn grace(&self) -> Duration {
        Duration::from_millis(self.terms.grace_ms as u64)
    }

    /// Whether a hint is to be sent.
    pub(super) const fn hints(&self) -> bool {
        matches!(self.once, Some(Once::Hint))
    }

    pub(super) const fn hint(&mut self) {
        self.once = Some(Once::Hint);
    }

    /// Says what is granted.
    pub(super) fn grant(&self, cx: &Context<'_>) -> Welcome {
        Welcome {
            version: VERSION,
            features: self.features,
            epoch: cx.database.epoch(),
            lease_ms: self.terms.lease_ms,
            grace_ms: self.terms.grace_ms,
            window: WINDOW,
            max_message: u32::try_from(MAX_MESSAGE).unwrap_or(u32::MAX),
            requests: u32::try_from(REPLIES_MAX).unwrap_or(u32::MAX),
            servers: cx.config.addresses(),
        }
    }

    /// The answer to NEW_SESS. With the longest name and all addresses its packet has 248 bytes, and so is not longer
    /// than the request: nobody has proved anything yet.
    pub(super) fn welcome(&self, cx: &Context<'_>, answer: &Answer<'_>) -> Result<Content, Full> {
        let welcome = self.grant(cx);
        Content::with(answer, |out| welcome.emit(out))
    }

    /// The body of an event.
    pub(super) fn event(&self, database: &Database, notice: &Notice) -> Result<Content, Full> {
        let Notice { sid, fh, mut events, version, serial } = *notice;
        let mut granted = None;
        if events.contains(EventMask::LOCKED) {
            granted = database.sequencer(sid, fh).ok();
            if granted.is_none() {
                // It waited for room with others, and the lock was given back meanwhile.
                events = events.without(EventMask::LOCKED);
            }
        }
        let granted = granted.filter(|_| self.fences());
        Content::of_event(&Answer::Event { fh, events }, (serial, version), granted.as_ref())
    }

    /// When packets are due, beside those that may leave now.
    pub(super) fn packets_at(&self, stage: Stage, outbox: Option<Instant>) -> Option<Instant> {
        match stage {
            Stage::Live | Stage::Ended { .. } => {
                [outbox, self.acknowledger.poll_timeout()].into_iter().flatten().min()
            }
            // The answer to NEW_SESS is not repeated of itself: nobody may be there.
            _ => None,
        }
    }

    /// Writes the next packet that may leave now; its length.
    pub(super) fn poll_packet(
        &mut self,
        now: Instant,
        (stage, ack): (Stage, Ack),
        outbox: &mut Outbox,
        (seal, config): (&Seal<'_>, &EndpointConfig),
        buffer: &mut [u8],
    ) -> Result<Option<usize>, Full> {
        let loose = Some(Rider { ack, loose: true });
        match self.once.take() {
            Some(Once::Alive { number, xid, epoch }) => {
                self.acknowledged();
                let content = Content::with(&success(Op::Nop, xid), |out| {
                    out.u64(epoch)?;
                    emit_addresses(&config.addresses(), out)
                })?;
                let part = Part::Only { xid, op: Op::Nop };
                return emit(seal, loose, part, number, &content, buffer).map(Some);
            }
            Some(Once::Hint) => {
                let content = Content::of(&result(Op::Resume, 0, Reply::Code(Code::Challenge)))?;
                let part = Part::Only { xid: 0, op: Op::Resume };
                return emit(seal, None, part, 0, &content, buffer).map(Some);
            }
            None => {}
        }
        if matches!(stage, Stage::Dormant { .. }) {
            return Ok(None);
        }
        let packet = outbox.poll_packet(now, seal, Some(Rider { ack, loose: false }), buffer)?;
        if stage == Stage::Unproved {
            return Ok(packet);
        }
        if packet.is_some() {
            self.acknowledged();
        } else if self.says_ack || self.acknowledger.is_due(now) {
            self.acknowledged();
            let part = Part::Only { xid: 0, op: Op::Ack };
            return emit(seal, loose, part, 0, &Content::default(), buffer).map(Some);
        }
        Ok(packet)
    }

    /// The client will know what has come.
    fn acknowledged(&mut self) {
        self.acknowledger.sent();
        self.says_ack = false;
    }
}

/// Writes a packet of one piece.
fn emit(
    seal: &Seal<'_>,
    rider: Option<Rider>,
    part: Part,
    number: u64,
    content: &Content,
    buffer: &mut [u8],
) -> Result<usize, Full> {
    let mut piece = [0; PIECE];
    let piece = content.piece(&(0..content.len()), &mut piece)?;
    seal.emit_with(rider, part, number, piece, buffer)
}

/// The size of a packet of one piece, without a rider.
pub(super) fn packet_size(user: &UserName, piece: usize) -> usize {
    let user = user.as_bytes().len();
    let header = 36usize.saturating_add(user).saturating_add(pad(user));
    header.saturating_add(piece).saturating_add(FOOTER)
}

impl Session {
    /// Whether the client may go on with the session, if it can prove that it is there.
    pub(super) const fn is_resumable(&self) -> bool {
        self.extended.is_some() && matches!(self.stage, Stage::Unproved | Stage::Dormant { .. } | Stage::Live)
    }

    /// A packet of an extended session from its address. An error is a result to be sent outside the stream.
    pub(super) fn handle_extended_packet(
        &mut self,
        cx: &mut Context<'_>,
        packet: &Packet<'_>,
    ) -> Result<(), Code> {
        let Some(rider) = packet.rider else {
            if packet.part.op() == Some(Op::NewSess) {
                return self.opened_again(cx, packet);
            }
            cx.counters.foreign = cx.counters.foreign.saturating_add(1);
            return Ok(());
        };
        if !matches!(self.stage, Stage::Unproved | Stage::Live | Stage::Ended { .. }) {
            return Ok(());
        }
        match self.outbox.acknowledge_selectively(cx.now, rider.ack) {
            Ok(Some(told)) => self.told(cx, told),
            Ok(None) => {}
            Err(_) => {
                cx.counters.foreign = cx.counters.foreign.saturating_add(1);
                return Ok(());
            }
        }
        match self.stage {
            Stage::Unproved => cx.counters.not_proved = cx.counters.not_proved.saturating_add(1),
            Stage::Live if rider.loose => self.kept_alive(cx, packet),
            Stage::Live => self.receive_extended(cx, packet),
            Stage::Ended { .. } if !rider.loose => return self.ended(cx, packet),
            _ => {}
        }
        Ok(())
    }

    /// A loose packet: a NOP that keeps the session alive is answered at once, outside the stream.
    fn kept_alive(&mut self, cx: &mut Context<'_>, packet: &Packet<'_>) {
        let Part::Only { xid, op: Op::Nop } = packet.part else { return };
        if !cx.leased {
            // Another server may be the master, and have ended the session. The client asks again.
            return;
        }
        let Some(extended) = &mut self.extended else { return };
        let number = packet.number;
        let distance = extended.keepalive.map_or(1, |last| ahead(number, last));
        if distance < 0 {
            return;
        }
        extended.once = Some(Once::Alive { number, xid, epoch: cx.database.epoch() });
        cx.counters.keepalives = cx.counters.keepalives.saturating_add(1);
        if distance > 0 {
            extended.keepalive = Some(number);
            self.heard(cx);
        }
    }

    /// A packet of the stream.
    fn receive_extended(&mut self, cx: &mut Context<'_>, packet: &Packet<'_>) {
        if self.refuses(cx, packet) {
            return;
        }
        let before = self.incoming.ack();
        let arrival = self.incoming.accept(packet.number, packet.part, packet.piece);
        if arrival == Arrival::Duplicate {
            cx.counters.duplicates = cx.counters.duplicates.saturating_add(1);
        }
        if let Some(extended) = &mut self.extended {
            extended.acknowledger.arrived(cx.now, arrival);
        }
        // A packet that is held already is no news: it may be a recording.
        if self.incoming.ack() != before {
            self.heard(cx);
        }
        if arrival == Arrival::Taken {
            self.proceed(cx);
        }
    }

    /// Does what is due, beside what belongs to the stage.
    pub(super) fn handle_extended_timeout(&mut self, cx: &mut Context<'_>) {
        let Some(extended) = &mut self.extended else { return };
        if !matches!(self.stage, Stage::Live | Stage::Ended { .. }) {
            return;
        }
        self.outbox.handle_timeout(cx.now, false, cx.rng);
        if extended.acknowledger.is_due(cx.now) {
            extended.acknowledger.sent();
            extended.says_ack = true;
        }
    }
}
