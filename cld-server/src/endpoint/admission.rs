//! Which packets get to a session at all: those of a known user, with a right HMAC, from the session's address.

use std::net::SocketAddr;

use cldc_core::time::Instant;
use cldc_core::wire::extended::{HELLO_PACKET, Hello};
use cldc_core::wire::{Code, Op, Packet, Part};

use super::extended::Extended;
use super::limits::Refused;
use super::refusals::{Refusal, What};
use super::session::{Session, Stage};
use super::{Endpoint, Via};
use crate::database::{Database, UserName, Users};

/// Whether two addresses are the same peer's: an IPv4 address may come in the clothes of IPv6.
pub(super) fn same_peer(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip().to_canonical() == other.ip().to_canonical() && one.port() == other.port()
}

/// What a NEW_SESS says that asks for an extended session. A packet that is shorter than the answer asks for a plain one.
pub(super) fn hello_of(packet: &Packet<'_>) -> Option<Hello> {
    if packet.size() < HELLO_PACKET { None } else { Hello::of(packet.piece) }
}

impl Endpoint {
    /// Takes in a datagram.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        database: &Database,
        (via, from): (Via, SocketAddr),
        datagram: &[u8],
    ) {
        let Some((user, packet)) = self.authentic(database.users(), datagram) else { return };
        if self.closing && packet.part.op() != Some(Op::Ack) {
            return;
        }
        // Without the lease, what is said of a session may be wrong by now. The client asks again.
        if let Err(code) = self.admit(now, database, user, (via, from), &packet)
            && self.is_leased(now)
        {
            self.refuse(now, user, (via, from), &packet, code);
        }
    }

    /// The packet that a datagram is, if a known user has signed it.
    pub(super) fn authentic<'a>(
        &mut self,
        users: &Users,
        datagram: &'a [u8],
    ) -> Option<(UserName, Packet<'a>)> {
        self.counters.received = self.counters.received.saturating_add(1);
        let Ok(packet) = Packet::parse(datagram) else {
            self.counters.malformed = self.counters.malformed.saturating_add(1);
            return None;
        };
        let known = UserName::new(packet.user).zip(users.key_of(packet.user));
        let Some((user, _)) = known.filter(|(_, key)| packet.verify(key).is_ok()) else {
            self.counters.forged = self.counters.forged.saturating_add(1);
            return None;
        };
        Some((user, packet))
    }

    /// Gives a packet to its session. An error is a result to be sent outside the stream.
    fn admit(
        &mut self,
        now: Instant,
        database: &Database,
        user: UserName,
        (via, from): (Via, SocketAddr),
        packet: &Packet<'_>,
    ) -> Result<(), Code> {
        // The packets that begin a stream have no rider.
        let op = packet.part.op().filter(|_| packet.rider.is_none() && packet.part.is_last());
        let opens = op == Some(Op::NewSess);
        if op == Some(Op::Resume) {
            return self.resume(now, database, user, (via, from), packet);
        }
        let Some(session) = self.sessions.get(&packet.sid) else {
            return if opens {
                self.open(now, database, user, (via, from), packet)
            } else {
                Err(Code::SessInval)
            };
        };
        let over = matches!(session.stage, Stage::Ended { .. });
        if opens && over {
            self.with(now, database, packet.sid, |session, _| session.stage = Stage::Gone);
            return self.open(now, database, user, (via, from), packet);
        }
        let is_here = same_peer(session.peer, from);
        if session.user == user && session.is_resumable() && packet.rider.is_some() {
            // From elsewhere, or after a restart, its stream is not known.
            if !is_here || matches!(session.stage, Stage::Dormant { .. }) {
                self.hint(now, user, (via, from), packet);
                return Ok(());
            }
        }
        if session.user != user || !is_here {
            return Err(if opens { Code::SessExists } else { Code::SessInval });
        }
        if session.extended.is_none() && packet.rider.is_some() {
            self.counters.malformed = self.counters.malformed.saturating_add(1);
            return Ok(());
        }
        let handled = self.with(now, database, packet.sid, |session, cx| {
            (session.via, session.to) = (Some(via), from);
            session.handle_packet(cx, packet)
        });
        handled.unwrap_or(Err(Code::SessInval))
    }

    /// A NEW_SESS for a session that does not exist.
    fn open(
        &mut self,
        now: Instant,
        database: &Database,
        user: UserName,
        from: (Via, SocketAddr),
        packet: &Packet<'_>,
    ) -> Result<(), Code> {
        let Part::Only { xid, .. } = packet.part else { return Err(Code::SessInval) };
        let queue = &self.config.queue;
        let limit = if self.users.of(&user).unproved >= queue.unproved_per_user {
            Some(Refused::UnprovedPerUser)
        } else if self.users.total().unproved >= queue.unproved {
            Some(Refused::Unproved)
        } else {
            None
        };
        if let Some(limit) = limit {
            self.counters.limit(now, limit, &user);
            return Ok(());
        }
        let session = {
            let mut cx = self.context(now, database, user);
            let extended = hello_of(packet).map(|hello| Extended::granted(&mut cx, &hello));
            Session::new(&cx, packet.sid, user, from, (xid, packet.number), extended)
        };
        self.sessions.insert(packet.sid, session);
        self.file(database, packet.sid);
        Ok(())
    }

    /// Answers a packet outside the stream, unless it is an ACK, or a piece that does not say what it asks.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        user: UserName,
        (via, to): (Via, SocketAddr),
        packet: &Packet<'_>,
        code: Code,
    ) {
        let (Part::Only { xid, op } | Part::First { xid, op }) = packet.part else { return };
        if op == Op::Ack {
            return;
        }
        let (sid, number, what) = (packet.sid, packet.number, What::Result(code));
        self.queue_refusal(now, Refusal { via, to, sid, user, op, xid, number, what });
    }

    /// Queues a result outside the stream, if the limit allows it.
    pub(super) fn queue_refusal(&mut self, now: Instant, refusal: Refusal) {
        let counters = &mut self.counters;
        let (count, limit) = match refusal.what {
            What::Result(_) => (&mut counters.refusals, Refused::RefusalsPerSecond),
            What::Challenge(_) => (&mut counters.challenges, Refused::ChallengesPerSecond),
            What::NotMaster { .. } | What::NoMaster => {
                (&mut counters.redirects, Refused::ChallengesPerSecond)
            }
        };
        if self.refusals.push(now, refusal) {
            *count = count.saturating_add(1);
        } else {
            self.counters.limit(now, limit, &refusal.user);
        }
    }
}
