//! Plays the clients of a script against a live server and compares every packet that comes back.
//!
//! Session ids, xids, numbers, handles and inode numbers differ from run to run: the replay keeps which live one
//! stands for which recorded one, and demands that the same one is used ever after. Times need only be plausible.
//! Everything else must be as recorded, and nothing may come that is not.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::script::{Expectation, Kind, Script, Sending, Step};
use crate::raw::codes::{code, op};
use crate::raw::{Answer, Footer, Head, Node, PATIENCE, Packet, RawSession, socket_to};
use crate::rng::Rng;

/// How far a live number may lie before or behind the expected one and still be of the same stream.
const WINDOW: u64 = 1 << 20;
/// How long a message in several packets may be without an answer before it is sent again.
const RESEND: Duration = Duration::from_secs(1);
/// How far a file's time may be from ours, in seconds.
const CLOCK_SLACK: u64 = 3600;
/// Added to handles that the live server never gave out, so that they stay so.
const UNKNOWN_HANDLE: u64 = 1_000_000;

/// How a script is replayed.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// The server.
    pub server: SocketAddr,
    /// How long each expected packet may take.
    pub patience: Duration,
}

/// Replays a script with the usual patience.
///
/// # Errors
/// The first difference, in words.
pub fn replay(server: SocketAddr, script: &Script) -> Result<(), String> {
    Replay { server, patience: PATIENCE }.run(script)
}

impl Replay {
    /// Replays a script.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn run(self, script: &Script) -> Result<(), String> {
        let mut run = Run::new(self, script);
        for step in &script.steps {
            let place = |flow: usize, record: usize| {
                let client = script.flows.get(flow).map_or("?", String::as_str);
                format!("{}, record {record}, client {client}", script.name)
            };
            match step {
                Step::Send(step) => {
                    run.send(step).map_err(|error| format!("{}: {error}", place(step.flow, step.record)))
                }
                Step::Expect(step) => {
                    run.expect(step).map_err(|error| format!("{}: {error}", place(step.flow, step.record)))
                }
            }?;
        }
        // A stranger's exchange comes after everything that the server had to do for the script.
        RawSession::connect(self.server, "barrier").settle();
        run.quiet().map_err(|error| format!("{}, at its end: {error}", script.name))
    }
}

/// The server's numbered stream of one session.
#[derive(Default)]
struct Stream {
    next: Option<u64>,
    sent: BTreeMap<u64, Vec<u8>>,
    /// How often each number was sent again and not expected yet.
    resent: BTreeMap<u64, u32>,
}

/// One client.
struct Flow {
    socket: UdpSocket,
    deaf: bool,
    /// What came and was not expected yet, with whether it is numbered.
    queue: VecDeque<(Packet, bool)>,
    /// The message that is being put together.
    message: (i32, Vec<u8>),
}

/// A replay under way. Keys of the maps are recorded, values live, unless said otherwise.
struct Run {
    replay: Replay,
    flows: Vec<Flow>,
    sid_salt: u64,
    xid_salt: u64,
    rng: Rng,
    /// The packets of the last message that a client sent, with that client.
    message: (usize, Vec<Vec<u8>>),
    /// By session: the first recorded number of its client and the live one for it.
    bases: BTreeMap<u64, (u64, u64)>,
    /// By live session.
    streams: BTreeMap<u64, Stream>,
    /// The server's numbers, by session and recorded number.
    numbers: BTreeMap<(u64, u64), u64>,
    handles: BTreeMap<(u64, u64), u64>,
    inodes: BTreeMap<u64, u64>,
    /// The time of creation by live inode.
    births: BTreeMap<u64, u64>,
}

impl Run {
    fn new(replay: Replay, script: &Script) -> Self {
        let mut rng = Rng::fresh();
        let flows = (0..script.flows.len())
            .map(|flow| {
                let deaf = script.deaf.contains(&flow);
                Flow {
                    socket: socket_to(replay.server),
                    deaf,
                    queue: VecDeque::new(),
                    message: (op::NOP, Vec::new()),
                }
            })
            .collect();
        Self {
            replay,
            flows,
            sid_salt: rng.next_u64(),
            xid_salt: rng.next_u64(),
            rng,
            message: (0, Vec::new()),
            bases: BTreeMap::new(),
            streams: BTreeMap::new(),
            numbers: BTreeMap::new(),
            handles: BTreeMap::new(),
            inodes: BTreeMap::new(),
            births: BTreeMap::new(),
        }
    }

    const fn live_sid(&self, sid: u64) -> u64 {
        sid ^ self.sid_salt
    }

    /// An xid of 0 stays: it means that there is none.
    const fn live_xid(&self, xid: u64) -> u64 {
        if xid == 0 { 0 } else { xid ^ self.xid_salt }
    }

    /// The live number for a client's recorded one: as far from its first as in the recording.
    fn client_number(&mut self, sid: u64, number: u64) -> u64 {
        let rng = &mut self.rng;
        let (first, live) = *self.bases.entry(sid).or_insert_with(|| (number, rng.next_u64()));
        live.wrapping_add(number.wrapping_sub(first))
    }

    // ---- sending ----

    fn send(&mut self, step: &Sending) -> Result<(), String> {
        let Some(recorded) = &step.packet else { return self.transmit(step.flow, &step.datagram) };
        let (sid, is_ack) = (recorded.sid, step.is_ack());
        if !is_ack {
            self.quiet()?;
        }
        let mut packet = recorded.clone();
        packet.sid = self.live_sid(sid);
        packet.number = match self.numbers.get(&(sid, recorded.number)) {
            Some(number) if is_ack => *number,
            _ if is_ack => recorded.number,
            _ => self.client_number(sid, recorded.number),
        };
        if let Some(head) = &mut packet.head {
            head.xid = self.live_xid(head.xid);
            self.put_live_handle(sid, head.op, &mut packet.body);
        }
        let mut datagram = packet.encode(&step.key);
        if let Some(last) = datagram.last_mut() {
            *last ^= u8::from(step.bad_hmac);
        }
        (0..step.copies).try_for_each(|_| self.transmit(step.flow, &datagram))?;
        if !is_ack {
            if packet.head.is_some() {
                self.message = (step.flow, Vec::new());
            }
            self.message.1.push(datagram);
        }
        Ok(())
    }

    /// Puts the live handle into the first eight bytes of a body that begins with one.
    fn put_live_handle(&self, sid: u64, of: i32, body: &mut [u8]) {
        if !matches!(of, op::GET | op::GET_META | op::PUT | op::CLOSE | op::LOCK | op::TRYLOCK | op::UNLOCK) {
            return;
        }
        if let Some(handle) = body.first_chunk_mut::<8>() {
            let recorded = u64::from_be_bytes(*handle);
            let live = self.handles.get(&(sid, recorded)).copied();
            *handle = live.unwrap_or(recorded.wrapping_add(UNKNOWN_HANDLE)).to_be_bytes();
        }
    }

    fn transmit(&self, flow: usize, datagram: &[u8]) -> Result<(), String> {
        let flow = self.flows.get(flow).ok_or("no such client")?;
        flow.socket.send(datagram).map(drop).map_err(|error| format!("cannot send: {error}"))
    }

    // ---- receiving ----

    /// Takes what lies in a client's socket, waiting for the first datagram until `deadline`.
    fn receive(&mut self, flow: usize, deadline: Option<Instant>) -> Result<(), String> {
        let mut buffer = [0; 4096];
        let mut wait = deadline;
        loop {
            let Some(Flow { socket, .. }) = self.flows.get(flow) else { return Ok(()) };
            let left = wait.take().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.filter(|left| !left.is_zero());
            socket.set_nonblocking(left.is_none()).map_err(|error| error.to_string())?;
            socket.set_read_timeout(left).map_err(|error| error.to_string())?;
            match socket.recv(&mut buffer) {
                Ok(length) => self.take(flow, buffer.get(..length).unwrap_or_default())?,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(());
                }
                Err(error) => return Err(format!("cannot receive: {error}")),
            }
        }
    }

    fn take(&mut self, flow: usize, datagram: &[u8]) -> Result<(), String> {
        let user =
            Packet::decode(datagram).map_err(|error| format!("an undecodable datagram came: {error}"))?.user;
        // The recorded servers' key is the user's name.
        let (packet, footer) = Packet::open(datagram, &user).map_err(|error| error.to_string())?;
        if footer != Footer::Standard {
            return Err(format!("a packet with the footer {footer:?} came: {packet}"));
        }
        let Some(to) = self.flows.get_mut(flow) else { return Ok(()) };
        let stream = self.streams.entry(packet.sid).or_default();
        if let Some(before) = stream.sent.get(&packet.number) {
            if before != datagram {
                return Err(format!("number {:x} was used before for other bytes: {packet}", packet.number));
            }
            *stream.resent.entry(packet.number).or_default() += 1;
            return Ok(());
        }
        let confirms = packet.head.is_some_and(|head| head.op == op::NEW_SESS)
            && packet.body.first_chunk::<4>() == Some(&code::OK.to_be_bytes());
        let next =
            stream.next.unwrap_or(if confirms { packet.number } else { packet.number.wrapping_add(WINDOW) });
        let ahead = packet.number.wrapping_sub(next).cast_signed();
        if ahead == 0 {
            stream.next = Some(next.wrapping_add(1));
            stream.sent.insert(packet.number, datagram.to_vec());
        } else if ahead.unsigned_abs() < WINDOW {
            // One before it was lost in a full socket buffer: the server sends both again.
            return Ok(());
        }
        if packet.head.is_some_and(|head| head.op == op::PING) {
            let answer = Packet { head: Some(Head { xid: 0, op: op::ACK }), ..packet };
            return if to.deaf { Ok(()) } else { self.transmit(flow, &answer.encode(&user)) };
        }
        to.queue.push_back((packet, ahead == 0));
        Ok(())
    }

    /// Nothing may have come that was not expected.
    fn quiet(&mut self) -> Result<(), String> {
        for flow in 0..self.flows.len() {
            self.receive(flow, None)?;
            if let Some((packet, _)) = self.flows.get(flow).and_then(|flow| flow.queue.front()) {
                let body = packet.head.map(|head| Answer::decode(head.op, &packet.body));
                return Err(format!(
                    "before it, client {flow} of the script got what is not recorded: {packet}, {body:?}"
                ));
            }
        }
        Ok(())
    }

    /// Waits until `done` gives something, while all clients receive and answer PINGs.
    fn wait<T>(
        &mut self,
        flow: usize,
        what: &str,
        mut done: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, String> {
        const TURN: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + self.replay.patience;
        let mut resend = Instant::now() + RESEND;
        loop {
            if let Some(found) = done(self) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                return Err(format!("{what} did not come within {:?}", self.replay.patience));
            }
            // A burst may have filled the server's socket buffer. Single packets are not lost on this host.
            if Instant::now() >= resend && self.message.0 == flow && self.message.1.len() > 1 {
                self.message.1.iter().try_for_each(|datagram| self.transmit(flow, datagram))?;
                resend = Instant::now() + RESEND;
            }
            for other in (0..self.flows.len()).filter(|other| *other != flow) {
                self.receive(other, None)?;
            }
            self.receive(flow, Some(deadline.min(Instant::now() + TURN)))?;
        }
    }

    fn expect(&mut self, step: &Expectation) -> Result<(), String> {
        let recorded = &step.packet;
        let key = (recorded.sid, recorded.number);
        let what = format!(
            "{recorded} ({:?}, {:?})",
            step.kind,
            step.answer.as_ref().map(|(_, answer)| brief(answer))
        );
        if step.kind == Kind::Resend {
            let number = *self.numbers.get(&key).ok_or("a resend of what was never sent")?;
            let sid = self.live_sid(recorded.sid);
            return self.wait(step.flow, &what, |run| {
                let count = run.streams.get_mut(&sid)?.resent.get_mut(&number)?;
                *count = count.checked_sub(1)?;
                Some(())
            });
        }
        let (packet, numbered) = self.wait(step.flow, &what, |run| {
            run.flows.get_mut(step.flow).and_then(|flow| flow.queue.pop_front())
        })?;
        let shape = |packet: &Packet| {
            (packet.user.clone(), packet.head.map(|head| head.op), packet.last, packet.body.len())
        };
        let wanted = (self.live_sid(recorded.sid), shape(recorded), step.kind != Kind::Refusal);
        if (packet.sid, shape(&packet), numbered) != wanted {
            let numbered = if numbered { "numbered" } else { "not numbered" };
            return Err(format!("expected {what}, got {packet} ({numbered})"));
        }
        match step.kind {
            Kind::Refusal if packet.number != self.client_number(recorded.sid, recorded.number) => {
                return Err(format!("the refusal's number {:x} is not that of the request", packet.number));
            }
            Kind::Refusal | Kind::Resend => {}
            Kind::Numbered => drop(self.numbers.insert(key, packet.number)),
        }
        let Some(flow) = self.flows.get_mut(step.flow) else { return Ok(()) };
        if let Some(head) = packet.head {
            flow.message = (head.op, Vec::new());
        }
        flow.message.1.extend(&packet.body);
        match &step.answer {
            None => Ok(()),
            Some((_, expected)) => {
                let live =
                    Answer::decode(flow.message.0, &flow.message.1).map_err(|error| error.to_string())?;
                self.compare(recorded.sid, expected, &live)
            }
        }
    }

    // ---- comparing ----

    fn compare(&mut self, sid: u64, expected: &Answer, live: &Answer) -> Result<(), String> {
        let differs = || Err(format!("expected {}, got {}", brief(expected), brief(live)));
        let xids = |recorded, live| self.live_xid(recorded) == live;
        match (expected, live) {
            (Answer::Result { code, xid }, Answer::Result { code: got, xid: to })
                if code == got && xids(*xid, *to) =>
            {
                Ok(())
            }
            (Answer::Opened { xid, fh }, Answer::Opened { xid: to, fh: got }) if xids(*xid, *to) => {
                let taken = self.handles.iter().any(|((of, _), live)| *of == sid && live == got);
                match self.handles.insert((sid, *fh), *got) {
                    None if !taken => Ok(()),
                    _ => Err(format!("the handle {got} was given out before")),
                }
            }
            (Answer::Event { fh, events }, Answer::Event { fh: got, events: what })
                if events == what && self.handles.get(&(sid, *fh)) == Some(got) =>
            {
                Ok(())
            }
            (Answer::Contents { xid, node }, Answer::Contents { xid: to, node: got }) if xids(*xid, *to) => {
                self.compare_node(node, got)
            }
            _ => differs(),
        }
    }

    fn compare_node(&mut self, expected: &Node, live: &Node) -> Result<(), String> {
        let parts = |node: &Node| (node.version, node.flags, node.name.clone(), node.data.clone());
        if parts(expected) != parts(live) {
            return Err(format!("expected {expected:?}, got {live:?}"));
        }
        let taken = self.inodes.iter().any(|(of, inum)| *inum == live.inum && *of != expected.inum);
        if taken || *self.inodes.entry(expected.inum).or_insert(live.inum) != live.inum {
            return Err(format!("the inode {} stands for another file", live.inum));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let plausible = live.time_create <= live.time_modify && live.time_modify.abs_diff(now) < CLOCK_SLACK;
        if !plausible || *self.births.entry(live.inum).or_insert(live.time_create) != live.time_create {
            return Err(format!("times {} and {} at {now}", live.time_create, live.time_modify));
        }
        Ok(())
    }
}

/// An answer in a line, without long contents.
fn brief(answer: &Answer) -> String {
    match answer {
        Answer::Contents { node, .. } => format!(
            "contents of {}: version {}, flags {}, {} bytes",
            String::from_utf8_lossy(&node.name),
            node.version,
            node.flags,
            node.data.len()
        ),
        other => format!("{other:?}"),
    }
}
