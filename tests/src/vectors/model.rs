//! A stand-in for a server, that plays the server's part of a script: it shows that the replay accepts what it
//! should, and nothing else.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::script::{Expectation, Kind, Script, Sending, Step};
use super::{Deviation, Edit, Replay, Scenario, deviations_of, load_all, load_one, replay};
use crate::raw::codes::{code, event, op};
use crate::raw::{Answer, Head, Packet, RECEIVE_BUFFER};
use crate::rng::Rng;

struct Model {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Model {
    fn start(script: Script) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER).unwrap();
        let address = socket.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let mut play = Play {
            socket,
            ended: Arc::clone(&ended),
            rng: Rng::fresh(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
            addresses: BTreeMap::new(),
            sids: BTreeMap::new(),
            xids: BTreeMap::new(),
            numbers: BTreeMap::new(),
            streams: BTreeMap::new(),
            sent: BTreeMap::new(),
            message: BTreeMap::new(),
        };
        let thread = std::thread::spawn(move || {
            // None: the replay went away in the middle, as it found what it was to find.
            let _ = play.run(&script);
        });
        Self { address, ended, thread: Some(thread) }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let result = self.thread.take().unwrap().join();
        assert!(result.is_ok() || std::thread::panicking(), "the model found a wrong request");
    }
}

struct Play {
    socket: UdpSocket,
    ended: Arc<AtomicBool>,
    rng: Rng,
    started: u64,
    addresses: BTreeMap<usize, SocketAddr>,
    sids: BTreeMap<u64, u64>,
    xids: BTreeMap<u64, u64>,
    numbers: BTreeMap<(u64, u64), u64>,
    streams: BTreeMap<u64, u64>,
    sent: BTreeMap<(u64, u64), Vec<u8>>,
    message: BTreeMap<usize, Vec<u8>>,
}

impl Play {
    fn receive(&self) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = [0; 4096];
        while !self.ended.load(Ordering::Relaxed) {
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                return Some((buffer[..length].to_vec(), from));
            }
        }
        None
    }

    fn run(&mut self, script: &Script) -> Option<()> {
        for (at, step) in script.steps.iter().enumerate() {
            match step {
                Step::Send(step) => (0..step.copies).try_for_each(|_| self.take(step))?,
                Step::Expect(step) => self.answer(step, &script.steps[at..]),
            }
        }
        // The replay's last question.
        loop {
            let (datagram, from) = self.receive()?;
            let packet = Packet::decode(&datagram).unwrap();
            let head = packet.head.unwrap();
            if head.op != op::ACK {
                let number =
                    *self.streams.entry(packet.sid).and_modify(|n| *n = n.wrapping_add(1)).or_insert(5);
                let body = Answer::Result { code: code::OK, xid: head.xid }.encode();
                let reply = Packet { body, number, ..packet };
                self.socket.send_to(&reply.encode(&reply.user), from).unwrap();
            }
        }
    }

    /// Takes a request and remembers which live identifiers stand for the recorded ones.
    fn take(&mut self, step: &Sending) -> Option<()> {
        let (datagram, from) = self.receive()?;
        self.addresses.insert(step.flow, from);
        let Some(recorded) = &step.packet else {
            assert_eq!(datagram, step.datagram);
            return Some(());
        };
        let live = Packet::open(&datagram, &step.key).unwrap();
        assert_eq!(live.1 == crate::raw::Footer::Bad, step.bad_hmac, "record {}", step.record);
        let live = live.0;
        let shape = |packet: &Packet| {
            (packet.user.clone(), packet.head.map(|head| head.op), packet.last, packet.body.len())
        };
        assert_eq!(shape(&live), shape(recorded), "record {}", step.record);
        assert_eq!(*self.sids.entry(recorded.sid).or_insert(live.sid), live.sid);
        if step.is_ack() {
            return Some(());
        }
        let number = *self.numbers.entry((recorded.sid, recorded.number)).or_insert(live.number);
        assert_eq!(number, live.number, "a packet sent again has its number again");
        if let (Some(recorded), Some(live)) = (recorded.head, live.head) {
            assert_eq!(*self.xids.entry(recorded.xid).or_insert(live.xid), live.xid);
        }
        Some(())
    }

    /// Answers as recorded, with handles, inodes, times and numbers of its own.
    fn answer(&mut self, step: &Expectation, rest: &[Step]) {
        let recorded = &step.packet;
        let key = (recorded.sid, recorded.number);
        let to = self.addresses[&step.flow];
        if step.kind == Kind::Resend {
            self.socket.send_to(&self.sent[&key], to).unwrap();
            return;
        }
        if recorded.head.is_some() {
            let whole = rest.iter().find_map(|later| match later {
                Step::Expect(later) if later.flow == step.flow => later.answer.as_ref(),
                _ => None,
            });
            let body = self.live(&whole.unwrap().1).encode();
            self.message.insert(step.flow, body);
        }
        let message = self.message.get_mut(&step.flow).unwrap();
        let body: Vec<u8> = message.drain(..recorded.body.len()).collect();
        let rng = &mut self.rng;
        let number = match step.kind {
            // Hail numbers acknowledgements of fragments like this.
            Kind::Refusal => self.numbers.get(&key).copied().unwrap_or(0xdead_beef),
            _ => *self
                .streams
                .entry(recorded.sid)
                .and_modify(|number| *number = number.wrapping_add(1))
                .or_insert_with(|| rng.next_u64()),
        };
        let head = recorded.head.map(|head| Head { xid: self.rng.next_u64(), ..head });
        let packet = Packet { sid: self.sids[&recorded.sid], head, body, number, ..recorded.clone() };
        let datagram = packet.encode(&packet.user);
        self.socket.send_to(&datagram, to).unwrap();
        self.sent.insert(key, datagram);
    }

    fn live(&self, answer: &Answer) -> Answer {
        let xid = |xid: u64| self.xids.get(&xid).copied().unwrap_or(xid);
        match answer.clone() {
            Answer::Result { code, xid: of } => Answer::Result { code, xid: xid(of) },
            Answer::Opened { xid: of, fh } => Answer::Opened { xid: xid(of), fh: fh + 100 },
            Answer::Event { fh, events } => Answer::Event { fh: fh + 100, events },
            Answer::Contents { xid: of, mut node } => {
                (node.inum, node.time_create, node.time_modify) =
                    (node.inum + 7, self.started, self.started + 1);
                Answer::Contents { xid: xid(of), node }
            }
            Answer::AckFrag { number } => Answer::AckFrag { number },
            Answer::Ping => Answer::Ping,
            Answer::NotMaster => Answer::NotMaster,
        }
    }
}

/// The script of a scenario with its deviations, and with some more changes.
fn script(scenario: &Scenario, edits: &[Edit]) -> Script {
    let mut script = Script::recorded(scenario);
    let extra = edits.iter().map(|edit| Deviation { scenario: "", edit: *edit, row: "for the test" });
    let all: Vec<Deviation> = deviations_of(&scenario.name).copied().chain(extra).collect();
    script.apply(&all).unwrap();
    script
}

/// What the replay of a scenario says to a server that does something else than demanded.
fn verdict(name: &str, done_otherwise: &[Edit]) -> Option<String> {
    let scenario = load_one(name)?;
    let model = Model::start(script(&scenario, done_otherwise));
    let replay = Replay { server: model.address, patience: Duration::from_millis(300) };
    Some(replay.run(&script(&scenario, &[])).expect_err("the replay did not see the difference"))
}

#[test]
fn a_server_that_answers_as_recorded_passes() {
    for scenario in load_all() {
        let script = script(&scenario, &[]);
        let model = Model::start(script.clone());
        replay(model.address, &script).unwrap();
    }
}

#[test]
fn a_server_that_does_not_deviate_where_it_must_fails() {
    for scenario in load_all().iter().filter(|scenario| deviations_of(&scenario.name).next().is_some()) {
        let model = Model::start(Script::recorded(scenario));
        let replay = Replay { server: model.address, patience: Duration::from_millis(300) };
        let refused_only =
            deviations_of(&scenario.name).all(|deviation| matches!(deviation.edit, Edit::Refused(_)));
        let verdict = replay.run(&script(scenario, &[]));
        // The model signs every packet properly, so it cannot fail to deviate in that.
        assert!(verdict.is_err() || refused_only, "{}", scenario.name);
    }
}

#[test]
fn another_code_fails() {
    let Some(verdict) = verdict("03_put_small", &[Edit::Code(22, code::OK)]) else { return };
    assert!(verdict.contains("03_put_small, record 22"), "{verdict}");
}

#[test]
fn other_metadata_or_contents_fail() {
    for (version, data) in [(3, &b"hello, coarse locks\n"[..]), (2, b"hello, coarse locks!")] {
        let Some(verdict) = verdict("03_put_small", &[Edit::Contents { record: 10, version, data }]) else {
            return;
        };
        assert!(verdict.contains("record 10") && verdict.contains("expected Node"), "{verdict}");
    }
}

#[test]
fn a_missing_event_fails() {
    let Some(verdict) = verdict("13b_events", &[Edit::Unsent(&[22])]) else { return };
    assert!(verdict.contains("record 22") && verdict.contains("did not come"), "{verdict}");
}

#[test]
fn an_event_too_many_or_too_early_fails() {
    for before in [13, 24] {
        let edit = Edit::Event { before, flow: "c1", fh: 2, events: event::DELETED };
        let Some(verdict) = verdict("13b_events", &[edit]) else { return };
        assert!(verdict.contains("not recorded") || verdict.contains("expected"), "{verdict}");
    }
}

#[test]
fn an_event_for_another_handle_fails() {
    let edits = [Edit::Unsent(&[22]), Edit::Event { before: 23, flow: "c1", fh: 2, events: event::UPDATED }];
    let Some(verdict) = verdict("13b_events", &edits) else { return };
    assert!(verdict.contains("record 22") && verdict.contains("expected Event"), "{verdict}");
}
