//! What the peer does in extended sessions (docs/protocol.md 7).

use std::net::SocketAddr;
use std::time::Duration;

use cldc_core::link::Acknowledger;
use cldc_core::wire::answer::outcome;
use cldc_core::wire::extended::{Features, Standing, Stands, Welcome};
use cldc_core::wire::{Answer, Code, Op, Packet, Part, Request, Rider, Writer};

use super::link::{List, PeerSender, receiver};
use super::peer::{Asked, PACING, Session, Work, body};

/// What a peer grants.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) epoch: u64,
    pub(crate) lease: Duration,
    pub(crate) grace: Duration,
    pub(crate) fencing: bool,
    pub(crate) servers: Vec<SocketAddr>,
}

impl Default for Grant {
    fn default() -> Self {
        let (lease, grace) = (Duration::from_secs(30), Duration::from_secs(45));
        Self { epoch: 1, lease, grace, fencing: true, servers: Vec::new() }
    }
}

/// The number that a resumed stream begins with.
const RESUMED: u64 = 5_000;

impl Session {
    /// Makes it an extended one.
    pub(super) fn extend(&mut self, window: u32) {
        self.sender.set_selective(window.into());
        self.acks = Some(Acknowledger::default());
    }

    pub(super) fn rider(&self, loose: bool) -> Option<Rider> {
        self.acks.map(|_| Rider { ack: self.receiver.ack(), loose })
    }
}

impl Work {
    /// Answers NEW_SESS.
    pub(super) fn greet(&mut self, op: Op, xid: u64, extended: bool) {
        let mut message = body(&Answer::Done { op, xid, code: Code::Ok });
        if extended {
            message.extend(self.welcome());
        }
        self.push(op, message);
    }

    /// Whether the session has sequencers.
    pub(super) fn has_fencing(&self) -> bool {
        let extended = self.session.as_ref().is_some_and(|session| session.acks.is_some());
        extended && self.grant.as_ref().is_some_and(|grant| grant.fencing)
    }

    fn welcome(&self) -> Vec<u8> {
        let grant = self.grant.as_ref().unwrap();
        let welcome = Welcome {
            version: 1,
            features: if grant.fencing { Features::FENCING } else { Features::NONE },
            epoch: grant.epoch,
            lease_ms: grant.lease.as_millis() as u32,
            grace_ms: grant.grace.as_millis() as u32,
            window: 64,
            max_message: 196_608,
            requests: 64,
            servers: grant.servers.iter().copied().collect(),
        };
        written(|out| welcome.emit(out).unwrap())
    }

    /// Goes on with a session of the cell, if its client proves that it is there.
    pub(super) fn resume(&mut self, from: SocketAddr, packet: &Packet<'_>) {
        let (Part::Only { xid, op }, Some(_)) = (packet.part, &self.grant) else { return };
        let Ok(Request::Resume(resume)) = Request::parse(op, packet.piece) else { panic!("not a RESUME") };
        if !self.cell().sids.contains(&packet.sid) {
            let body = body(&Answer::Done { op, xid, code: Code::SessInval });
            return self.one_shot(from, packet.sid, op, xid, &body, packet.number);
        }
        let cookie = packet.number ^ u64::from(from.port()) << 32 | 1;
        if resume.cookie != cookie {
            let mut body = body(&Answer::Done { op, xid, code: Code::Challenge });
            body.extend_from_slice(&cookie.to_be_bytes());
            return self.one_shot(from, packet.sid, op, xid, &body, packet.number);
        }
        if self.session.as_ref().is_some_and(|session| session.sender.base_number() == RESUMED) {
            // Its answer is on its way.
            return;
        }
        self.cell().answers.retain(|&xid, _| xid >= resume.oldest);
        let sender = PeerSender::new(RESUMED, PACING, List(Vec::new()));
        let receiver = receiver(packet.number.wrapping_add(1));
        let mut session = Session { sid: packet.sid, client: from, sender, receiver, acks: None };
        session.extend(resume.hello.window);
        self.session = Some(session);
        self.log.send(Asked::Resume).ok();
        let mut message = body(&Answer::Done { op, xid, code: Code::Ok });
        message.extend(self.welcome());
        let standing = self.standing();
        message.extend(written(|out| {
            out.u32(standing.len() as u32).unwrap();
            standing.iter().for_each(|stands| stands.emit(out).unwrap());
        }));
        self.push(op, message);
    }

    fn standing(&self) -> Vec<Stands> {
        let cell = self.cell();
        let lock = |fh| if cell.is_locked(fh) { Standing::Held } else { Standing::Free };
        cell.handles.keys().map(|&fh| Stands { fh, lock: lock(fh) }).collect()
    }

    /// Takes a packet of an extended session.
    pub(super) fn take_extended(&mut self, from: SocketAddr, packet: &Packet<'_>, rider: Rider) {
        let now = self.now();
        let known = |session: &&mut Session| session.sid == packet.sid && session.client == from;
        let Some(session) = self.session.as_mut().filter(known) else { return self.hint(from, packet) };
        if !session.sender.acknowledge_selectively(now, rider.ack) {
            return;
        }
        while let Some(message) = session.sender.take_acknowledged() {
            if message.op == Op::EndSess {
                self.log.send(Asked::EndAcknowledged).ok();
            }
        }
        match packet.part {
            Part::Only { op: Op::Ack, .. } if rider.loose => {}
            Part::Only { op: Op::Nop, xid } if rider.loose => self.renew(packet.number, xid),
            _ => self.take_numbered(packet),
        }
    }

    /// Says that the client should resume, or that its session is gone.
    fn hint(&self, from: SocketAddr, packet: &Packet<'_>) {
        let Part::Only { xid, op } = packet.part else { return };
        let (op, code) = match self.cell().sids.contains(&packet.sid) {
            true => (Op::Resume, Code::Challenge),
            false => (op, Code::SessInval),
        };
        if packet.part.op() != Some(Op::Ack) {
            let body = body(&Answer::Done { op, xid, code });
            self.one_shot(from, packet.sid, op, xid, &body, packet.number);
        }
    }

    /// Answers the NOP that keeps the lease.
    fn renew(&mut self, number: u64, xid: u64) {
        let mut body = body(&Answer::Done { op: Op::Nop, xid, code: Code::Ok });
        body.extend_from_slice(&self.grant.as_ref().unwrap().epoch.to_be_bytes());
        let session = self.session.as_ref().unwrap();
        self.send_loose(session, Part::Only { xid, op: Op::Nop }, number, &body);
    }

    /// Whether this has been answered before; then it is answered so again.
    pub(super) fn repeat(&mut self, xid: u64) -> bool {
        let answer = self.cell().answers.get(&xid).cloned();
        answer.map(|(op, body)| self.push(op, body)).is_some()
    }

    /// Remembers what an extended session is answered.
    pub(super) fn record(&self, op: Op, body: &[u8]) {
        if self.session.as_ref().is_some_and(|session| session.acks.is_some()) && op != Op::Event {
            let (_, xid) = outcome(body).unwrap();
            self.cell().answers.insert(xid, (op, body.to_vec()));
        }
    }
}

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut out = Writer::new(&mut buffer);
    write(&mut out);
    out.written().to_vec()
}
