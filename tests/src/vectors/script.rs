//! A captured scenario as a list of steps: what the clients send, and what the server must answer.

use std::collections::{BTreeMap, BTreeSet};

use super::{Deviation, Edit, Record, Scenario};
use crate::raw::codes::op;
use crate::raw::{Answer, Head, Packet};

/// How the number of an expected packet is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The next of the session's numbered stream.
    Numbered,
    /// Not of the stream: its number is that of the request.
    Refusal,
    /// The same bytes that the server sent before and were lost.
    Resend,
}

/// A datagram that a client sends. Its packet is the recorded one; the replay puts live identifiers into it.
#[derive(Clone, Debug)]
pub struct Sending {
    /// Its place in the recording.
    pub record: usize,
    /// The client.
    pub flow: usize,
    /// The recorded packet; none for garbage, which is sent as it is.
    pub packet: Option<Packet>,
    /// The recorded bytes.
    pub datagram: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
    /// Whether its HMAC is made wrong.
    pub bad_hmac: bool,
    /// How often it is sent: not at all if it was lost on its way.
    pub copies: usize,
}

impl Sending {
    /// Whether it acknowledges something; such packets may overlap with what the server still sends.
    #[must_use]
    pub fn is_ack(&self) -> bool {
        self.packet.as_ref().and_then(|packet| packet.head).is_some_and(|head| head.op == op::ACK)
    }
}

/// A packet that the server must send.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Its place in the recording; of an added one, the place before which it is added.
    pub record: usize,
    /// The client that it goes to.
    pub flow: usize,
    /// The recorded packet, with its recorded identifiers.
    pub packet: Packet,
    /// What is true of its number. An added packet's number is 0 and is not compared.
    pub kind: Kind,
    /// The message that ends with this packet.
    pub answer: Option<(i32, Answer)>,
}

/// One thing to happen.
#[derive(Clone, Debug)]
pub enum Step {
    /// A client sends.
    Send(Sending),
    /// The server must send.
    Expect(Expectation),
}

/// A scenario, ready to be replayed.
#[derive(Clone, Debug)]
pub struct Script {
    /// The scenario's name.
    pub name: String,
    /// The clients' names; a step's `flow` is an index.
    pub flows: Vec<String>,
    /// The clients that leave PINGs unanswered.
    pub deaf: BTreeSet<usize>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Script {
    /// The script of a scenario as it was recorded.
    ///
    /// Left out: PINGs and their ACKs, whose times depend on the session's age (a replay answers PINGs as the
    /// recorded client did), and resends of events, which Hail's client never acknowledges.
    ///
    /// # Panics
    /// When the recording holds what no server sends.
    #[must_use]
    pub fn recorded(scenario: &Scenario) -> Self {
        let mut flows: Vec<String> = Vec::new();
        let mut steps = Vec::new();
        let mut pings = BTreeSet::new();
        let (mut pinged, mut answering) = (BTreeSet::new(), BTreeSet::new());
        let mut sent = BTreeSet::new();
        let mut partial: BTreeMap<usize, (i32, Vec<u8>)> = BTreeMap::new();
        for (index, record) in scenario.records.iter().enumerate() {
            let flow = flows.iter().position(|flow| *flow == record.flow).unwrap_or_else(|| {
                flows.push(record.flow.clone());
                flows.len() - 1
            });
            if record.from_client {
                let sending = sending(index, flow, record);
                match &sending.packet {
                    Some(packet) if sending.is_ack() && pings.contains(&(packet.sid, packet.number)) => {
                        answering.insert(flow);
                    }
                    _ => steps.push(Step::Send(sending)),
                }
                continue;
            }
            let (packet, footer) = Packet::open(&record.datagram, &record.key)
                .unwrap_or_else(|error| panic!("{}, record {index}: {error}", scenario.name));
            let numbered = footer == crate::raw::Footer::Standard;
            let of = packet.head.map(|head| head.op);
            let resent = numbered && !sent.insert((packet.sid, packet.number));
            match of {
                Some(op::PING) => {
                    pings.insert((packet.sid, packet.number));
                    pinged.insert(flow);
                    continue;
                }
                Some(op::EVENT) if resent => continue,
                _ => {}
            }
            let answer = assemble(&mut partial, flow, &packet).map(|message| {
                message.unwrap_or_else(|error| panic!("{}, record {index}: {error}", scenario.name))
            });
            let kind = match (numbered, resent) {
                (true, true) => Kind::Resend,
                (true, false) => Kind::Numbered,
                (false, _) => Kind::Refusal,
            };
            steps.push(Step::Expect(Expectation { record: index, flow, packet, kind, answer }));
        }
        let deaf = pinged.difference(&answering).copied().collect();
        Self { name: scenario.name.clone(), flows, deaf, steps }
    }

    /// Applies the listed deviations. Each must find what it changes; after that, the replay demands the deviation.
    ///
    /// # Errors
    /// A deviation finds nothing to change.
    pub fn apply<'a>(&mut self, deviations: impl IntoIterator<Item = &'a Deviation>) -> Result<(), String> {
        for deviation in deviations {
            let applied = match deviation.edit {
                Edit::Unsent(records) => self.remove(records),
                Edit::NoFragmentAcks(count) => {
                    let records: Vec<usize> = (self.expectations())
                        .filter(|step| matches!(step.answer, Some((op::ACK_FRAG, _))))
                        .map(|step| step.record)
                        .collect();
                    records.len() == count && self.remove(&records)
                }
                Edit::Code(record, code) => self.change(&[record], |step| step.set_code(code)),
                Edit::Numbered(record) => self.make_numbered(record),
                Edit::Refused(records) => self.change(records, |step| step.kind == Kind::Refusal),
                Edit::AlsoRefused(record, code) => self.add_refusal(record, code),
                Edit::Contents { record, version, data } => self.change(&[record], |step| {
                    let Some((_, Answer::Contents { node, .. })) = &mut step.answer else { return false };
                    (node.version, node.data) = (version, data.to_vec());
                    step.packet.body =
                        step.answer.as_ref().map(|(_, answer)| answer.encode()).unwrap_or_default();
                    true
                }),
                Edit::Earlier { record, before } => self.advance(record, before),
                Edit::Event { before, flow, fh, events } => self.add_event(before, flow, fh, events),
            };
            if !applied {
                return Err(format!("{}: nothing to change for the deviation: {deviation:?}", self.name));
            }
        }
        self.check_refusals()
    }

    fn expectations(&self) -> impl Iterator<Item = &Expectation> {
        self.steps.iter().filter_map(|step| match step {
            Step::Expect(expectation) => Some(expectation),
            Step::Send(_) => None,
        })
    }

    /// Takes out expected packets, and the clients' ACKs of them.
    fn remove(&mut self, records: &[usize]) -> bool {
        let before = self.steps.len();
        let mut gone = BTreeSet::new();
        self.steps.retain(|step| match step {
            Step::Expect(step) if records.contains(&step.record) => {
                // A refusal's number is its request's: nobody acknowledges it.
                if step.kind != Kind::Refusal {
                    gone.insert((step.packet.sid, step.packet.number));
                }
                false
            }
            _ => true,
        });
        let removed = before - self.steps.len();
        self.steps.retain(|step| match step {
            Step::Send(step) if step.is_ack() => {
                step.packet.as_ref().is_none_or(|packet| !gone.contains(&(packet.sid, packet.number)))
            }
            _ => true,
        });
        removed == records.len()
    }

    fn change(&mut self, records: &[usize], mut change: impl FnMut(&mut Expectation) -> bool) -> bool {
        let mut changed = 0;
        for step in &mut self.steps {
            if let Step::Expect(step) = step
                && records.contains(&step.record)
                && change(step)
            {
                changed += 1;
            }
        }
        changed == records.len()
    }

    /// The place of a record's step.
    fn place(&self, record: usize) -> Option<usize> {
        self.steps.iter().position(|step| match step {
            Step::Expect(step) => step.record == record,
            Step::Send(step) => step.record == record,
        })
    }

    /// Moves an expected packet to an earlier place.
    fn advance(&mut self, record: usize, before: usize) -> bool {
        match (self.place(record), self.place(before)) {
            (Some(from), Some(to)) if to < from && matches!(self.steps.get(from), Some(Step::Expect(_))) => {
                let step = self.steps.remove(from);
                self.steps.insert(to, step);
                true
            }
            _ => false,
        }
    }

    /// Makes a refusal an ordinary reply, and its client acknowledge it.
    fn make_numbered(&mut self, record: usize) -> bool {
        let found = self.steps.iter_mut().enumerate().find_map(|(at, step)| match step {
            Step::Expect(step) if step.record == record && step.kind == Kind::Refusal => Some((at, step)),
            _ => None,
        });
        let Some((at, step)) = found else { return false };
        step.kind = Kind::Numbered;
        let head = Some(Head { xid: 0, op: op::ACK });
        let packet = Packet { head, body: Vec::new(), ..step.packet.clone() };
        let ack = Sending {
            record,
            flow: step.flow,
            // Keys are users' names in the recordings.
            key: packet.user.clone(),
            packet: Some(packet),
            datagram: Vec::new(),
            bad_hmac: false,
            copies: 1,
        };
        self.steps.insert(at + 1, Step::Send(ack));
        true
    }

    /// Expects a refusal of a request behind it.
    fn add_refusal(&mut self, record: usize, code: i32) -> bool {
        let Some(at) = self.place(record) else { return false };
        let Some(Step::Send(Sending { flow, packet: Some(request), .. })) = self.steps.get(at) else {
            return false;
        };
        let Some(head) = request.head else { return false };
        let answer = Answer::Result { code, xid: head.xid };
        let packet = Packet { last: true, body: answer.encode(), ..request.clone() };
        let (flow, answer) = (*flow, Some((head.op, answer)));
        let refusal = Expectation { record, flow, packet, kind: Kind::Refusal, answer };
        self.steps.insert(at + 1, Step::Expect(refusal));
        true
    }

    fn add_event(&mut self, before: usize, flow: &str, fh: u64, events: u32) -> bool {
        // The session is the one that the client uses.
        let same = (self.expectations())
            .find(|step| self.flows.get(step.flow).is_some_and(|name| name == flow))
            .map(|step| (step.flow, step.packet.clone()));
        let (Some(at), Some((flow, template))) = (self.place(before), same) else { return false };
        let answer = Answer::Event { fh, events };
        let packet = Packet {
            head: Some(Head { xid: 0, op: op::EVENT }),
            last: true,
            body: answer.encode(),
            number: 0,
            ..template
        };
        let answer = Some((op::EVENT, answer));
        let event = Expectation { record: before, flow, packet, kind: Kind::Numbered, answer };
        self.steps.insert(at, Step::Expect(event));
        true
    }

    /// Hail's one-shot packets cannot be verified by anyone, so no server of ours may send one: each must be listed.
    fn check_refusals(&self) -> Result<(), String> {
        let listed: BTreeSet<usize> = super::deviations_of(&self.name)
            .flat_map(|deviation| match deviation.edit {
                Edit::Refused(records) => records.to_vec(),
                Edit::AlsoRefused(record, _) => vec![record],
                _ => Vec::new(),
            })
            .collect();
        match self.expectations().find(|step| step.kind == Kind::Refusal && !listed.contains(&step.record)) {
            None => Ok(()),
            Some(step) => Err(format!(
                "{}, record {}: a shifted one-shot packet without a deviation that says what comes instead",
                self.name, step.record
            )),
        }
    }
}

impl Expectation {
    /// Makes it a generic reply with this code; false if it is none, or has the code already.
    fn set_code(&mut self, new: i32) -> bool {
        let Some((of, answer)) = &mut self.answer else { return false };
        let Some((xid, code)) = answer.result() else { return false };
        *answer = Answer::Result { code: new, xid };
        self.packet.body = answer.encode();
        // A successful GET_META is answered as GET; its error is not, but no recording needs that here.
        code != new && *of != op::EVENT
    }
}

fn sending(index: usize, flow: usize, record: &Record) -> Sending {
    Sending {
        record: index,
        flow,
        packet: (!record.garbage).then(|| Packet::decode(&record.datagram).ok()).flatten(),
        datagram: record.datagram.clone(),
        key: record.key.clone(),
        bad_hmac: record.bad_hmac,
        copies: if record.dropped { 0 } else { 1 + usize::from(record.duplicated) },
    }
}

/// Puts a client's incoming message together; the message, when it is complete.
fn assemble(
    partial: &mut BTreeMap<usize, (i32, Vec<u8>)>,
    flow: usize,
    packet: &Packet,
) -> Option<Result<(i32, Answer), crate::raw::Malformed>> {
    if let Some(head) = packet.head {
        partial.insert(flow, (head.op, Vec::new()));
    }
    let (op, body) = partial.get_mut(&flow)?;
    body.extend(&packet.body);
    packet.last.then(|| Answer::decode(*op, body).map(|answer| (*op, answer)))
}
