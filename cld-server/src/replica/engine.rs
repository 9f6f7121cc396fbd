//! The engine on the `raft` crate: its asynchronous ready cycle turned into one stream of outputs.
//!
//! The crate panics when its log is broken (an entry that conflicts with a committed one, a gap). That is right: such a
//! server must not go on, and the panic's message says why. What other servers send cannot break it: see `admit`.

use std::collections::{BTreeMap, VecDeque};

use cldc_core::time::Instant;
use raft::eraftpb::{Entry, HardState as RaftHardState, Message as RaftMessage};
use raft::{Config, ProgressState, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};

use super::admit::Admission;
use super::lease::Rounds;
use super::logger::tracing_logger;
use super::message::{MAX_ENTRIES_SIZE, from_snapshot, is_configuration, payload};
use super::tail::{LogTail, from_raft};
use super::{
    ChangeError, Engine, EngineConfig, MemberChange, MemberStatus, Message, MessageError, Output,
    ProposeError, ReadTicket, Role, StartError, Status, TransferError,
};
use crate::storage::{
    Configuration, HardState, LogImage, LogPosition, LogWrite, MAX_ENTRY_SIZE, SnapshotPoint, SnapshotRecord,
};

/// Messages with entries to one peer that may be on their way.
const MAX_INFLIGHT_MESSAGES: usize = 64;
/// Entries that may wait to be committed, in bytes; one is always taken.
const MAX_UNCOMMITTED_SIZE: u64 = 16 << 20;
/// Committed entries taken over in one step, in bytes; one is always taken.
const MAX_COMMITTED_STEP: u64 = 4 << 20;
/// How many entries a server may lack that is to vote.
const MAX_PROMOTION_LAG: u64 = 1000;

/// [`Engine`] on the `raft` crate.
pub struct RaftEngine {
    pub(super) node: RawNode<LogTail>,
    pub(super) config: EngineConfig,
    /// The members as of the last entry given out.
    pub(super) configuration: Configuration,
    /// The time of the last tick, or later.
    now: Instant,
    /// Ticks since the start.
    pub(super) ticks: u64,
    /// Elections begun by time, so that each draws another timeout.
    attempt: u64,
    /// The only voter has nobody to wait for: it becomes leader as soon as what is committed has been given out.
    campaign: bool,
    last_ticket: u64,
    /// Writes on their way, oldest first.
    pub(super) writes: VecDeque<Write>,
    /// The term of the last durable hard state.
    durable_term: u64,
    /// What can be given out at once.
    queue: VecDeque<Output>,
    /// Committed, not yet given out.
    committed: VecDeque<Step>,
    applied: LogPosition,
    /// A snapshot was taken over and is not given out yet.
    pub(super) restoring: bool,
    /// The term in which this server told that it is the master.
    master: Option<u64>,
    rounds: Rounds,
    /// The tick at which each other server was last heard of.
    heard: BTreeMap<u64, u64>,
    /// Servers that are sent a snapshot, and the tick at which they were last known to get on with it.
    sending: BTreeMap<u64, u64>,
    /// A snapshot was asked for.
    asked: bool,
}

/// A write on its way.
#[derive(Debug)]
pub(super) struct Write {
    ticket: u64,
    /// The last ready that is done when it is durable.
    ready: u64,
    term: u64,
    /// Whether it changes the log.
    pub(super) has_log: bool,
    /// What may be sent when it is durable.
    messages: Vec<RaftMessage>,
    /// The snapshot that the log begins with then.
    restored: Option<SnapshotPoint>,
}

/// Something committed.
#[derive(Debug)]
enum Step {
    Entry(Entry),
    Restored(SnapshotPoint),
}

impl std::fmt::Debug for RaftEngine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RaftEngine").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl RaftEngine {
    /// Resumes from a log that was verified by its store.
    ///
    /// # Errors
    /// See [`StartError`].
    ///
    /// # Panics
    /// If the log is not what a store gives out, such as a commit index beyond its end.
    pub fn new(config: EngineConfig, image: LogImage) -> Result<Self, StartError> {
        let durable_term = image.hard_state.term;
        let tail = LogTail::new(image);
        tail.changes().try_for_each(|change| MemberChange::decode(change).map(drop))?;
        let applied = tail.base().at;
        let configuration = tail.base().configuration.clone();
        let raft_config = Config {
            id: config.node.get(),
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: applied.index,
            max_size_per_msg: MAX_ENTRIES_SIZE,
            max_inflight_msgs: MAX_INFLIGHT_MESSAGES,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            batch_append: false,
            max_uncommitted_size: MAX_UNCOMMITTED_SIZE,
            max_committed_size_per_ready: MAX_COMMITTED_STEP,
            ..Config::default()
        };
        let node = RawNode::new(&raft_config, tail, &tracing_logger())
            .map_err(|error| StartError::Config(Box::new(error)))?;
        // The other servers' first tick may come at once: one tick less.
        let span = Rounds::span(config.election_ticks as u64 - 1, config.tick, config.drift_ppm);
        Ok(Self {
            node,
            config,
            configuration,
            now: Instant::START,
            ticks: 0,
            attempt: 0,
            campaign: true,
            last_ticket: 0,
            writes: VecDeque::new(),
            durable_term,
            queue: VecDeque::new(),
            committed: VecDeque::new(),
            applied,
            restoring: false,
            master: None,
            rounds: Rounds::new(span),
            heard: BTreeMap::new(),
            sending: BTreeMap::new(),
            asked: false,
        })
    }

    /// Takes over what the engine has ready. Its writes may finish at any later time.
    fn take_ready(&mut self) {
        let mut ready = self.node.ready();
        let number = ready.number();
        for answer in ready.take_read_states() {
            if let Ok(round) = answer.request_ctx.try_into() {
                self.rounds.answer(u64::from_be_bytes(round), answer.index);
            }
        }
        let snapshot = from_snapshot(ready.snapshot());
        let entries = ready.take_entries();
        self.committed.extend(ready.take_committed_entries().into_iter().map(Step::Entry));
        let must_write = ready.must_sync();
        let mut at_once = ready.take_messages();
        let mut after_write = ready.take_persisted_messages();
        // The engine reads entries back from here at once, before they are durable.
        if let Some(record) = &snapshot {
            self.node.raft.mut_store().restore(record);
            self.restoring = true;
        }
        self.node.raft.mut_store().append(&entries);
        self.node.advance_append_async(ready);

        let term = self.node.raft.term;
        if term != self.durable_term {
            // A sole voter leads before its term and its vote for itself are durable. Nobody is to see that term before:
            // after a crash it may be begun once more.
            after_write.append(&mut at_once);
        }
        self.send(at_once);
        if must_write {
            self.last_ticket += 1;
            let ticket = self.last_ticket;
            let restored = snapshot.as_ref().map(|record| record.point.clone());
            let has_log = restored.is_some() || !entries.is_empty();
            let messages = Vec::new();
            self.writes.push_back(Write { ticket, ready: number, term, has_log, messages, restored });
            let entries = entries.iter().map(from_raft).collect();
            // Always whole: a commit index alone is not worth a write, it goes with the next.
            let hard_state = from_raft_state(&self.node.raft.hard_state());
            let write = LogWrite { snapshot, entries, hard_state };
            self.queue.push_back(Output::Persist { ticket, write });
        }
        match self.writes.back_mut() {
            Some(write) => {
                write.ready = number;
                write.messages.append(&mut after_write);
            }
            None => {
                self.node.on_persist_ready(number);
                self.send(after_write);
            }
        }
    }

    fn send(&mut self, messages: Vec<RaftMessage>) {
        for raft in messages {
            let to = raft.to;
            let Some(message) = Message::from_raft(raft) else { continue };
            self.queue.push_back(match message.snapshot.clone() {
                Some(record) => {
                    self.sending.insert(to, self.ticks);
                    Output::SendSnapshot { to, record, message }
                }
                None => Output::Send { to, message },
            });
        }
    }

    /// Passes a committed entry on. Empty ones are the engine's own.
    fn take_committed(&mut self, entry: Entry) -> Option<Output> {
        self.applied = LogPosition { index: entry.index, term: entry.term };
        if is_configuration(&entry) {
            return self.take_change(&entry);
        }
        self.node.advance_apply_to(entry.index);
        if !entry.data.is_empty() {
            return Some(Output::Committed { at: self.applied, payload: entry.data.to_vec() });
        }
        if self.is_leader_in(entry.term) && self.master.is_none() {
            self.master = Some(entry.term);
            self.begin_round();
            return Some(Output::BecameMaster { term: entry.term });
        }
        None
    }

    /// Puts a committed change of the members in force.
    fn take_change(&mut self, entry: &Entry) -> Option<Output> {
        // That it can be read was checked when it came. One that makes no sense makes none on any server.
        let change = MemberChange::decode(payload(entry)).ok();
        let after = change.and_then(|change| Some((change, change.apply(&self.configuration).ok()?)));
        if let Some((change, after)) = &after {
            let raft = &mut self.node.raft;
            if !after.contains(raft.id) && raft.state == StateRole::Leader {
                // The master before had asked for it. The engine cannot lead a cell that it is no member of.
                raft.become_follower(raft.term, raft::INVALID_ID);
            }
            if let Err(error) = self.node.apply_conf_change(&change.to_raft(after)) {
                tracing::error!(%error, ?change, "the engine refuses a change of the members that makes sense");
            }
        }
        self.node.advance_apply_to(entry.index);
        let (_, after) = after?;
        if !self.configuration.voters().eq(after.voters()) {
            self.rounds.drop_lease();
        }
        self.configuration = after;
        self.heard.retain(|node, _| self.configuration.contains(*node));
        self.sending.retain(|node, _| self.configuration.contains(*node));
        if self.is_master() {
            self.begin_round();
        }
        Some(Output::MembersChanged { configuration: self.configuration.clone() })
    }

    fn take_restored(&mut self, point: SnapshotPoint) -> Output {
        self.applied = point.at;
        self.configuration = point.configuration.clone();
        self.restoring = false;
        self.node.advance_apply_to(point.at.index);
        Output::Restored { point }
    }

    /// Asks the other servers whether this one still is the master.
    fn begin_round(&mut self) {
        let round = self.rounds.begin(self.now);
        self.node.read_index(round.to_be_bytes().to_vec());
    }

    fn is_leader_in(&self, term: u64) -> bool {
        self.node.raft.state == StateRole::Leader && self.node.raft.term == term
    }

    fn is_master(&self) -> bool {
        self.master.is_some_and(|term| self.is_leader_in(term))
    }

    fn is_alive(&self, node: u64) -> bool {
        let heard = self.heard.get(&node);
        node == self.node.raft.id
            || heard.is_some_and(|tick| self.ticks - tick <= self.config.election_ticks as u64)
    }

    fn step(&mut self, from: u64, message: Message) -> Result<(), MessageError> {
        let admission = self.admit(from, &message)?;
        if self.configuration.contains(from) {
            self.heard.insert(from, self.ticks);
        }
        if admission == Admission::Step {
            let mut raft = message.raft;
            raft.from = from;
            // It fails for replies of servers that the engine does not count as members any more.
            self.node.step(raft).map_err(|_| MessageError::Stranger { from })?;
        }
        Ok(())
    }

    /// The change, if it makes sense and leaves a majority that is alive.
    fn check_change(&self, change: MemberChange) -> Result<Configuration, ChangeError> {
        let after = change.apply(&self.configuration)?;
        let raft = &self.node.raft;
        let node = change.node();
        match change {
            MemberChange::Remove { .. } if node == raft.id => return Err(ChangeError::Master),
            MemberChange::Promote { .. } if !self.is_alive(node) => return Err(ChangeError::Dead { node }),
            MemberChange::Promote { .. } => {
                let matched = raft.prs().get(node).map_or(0, |progress| progress.matched);
                let lag = raft.raft_log.last_index().saturating_sub(matched);
                if lag > MAX_PROMOTION_LAG {
                    return Err(ChangeError::Behind { node, lag, limit: MAX_PROMOTION_LAG });
                }
            }
            _ => {}
        }
        let voters = after.voters().count();
        let alive = after.voters().filter(|voter| self.is_alive(*voter)).count();
        if !self.configuration.voters().eq(after.voters()) && alive <= voters / 2 {
            return Err(ChangeError::Quorum { alive, voters });
        }
        Ok(after)
    }
}

impl Engine for RaftEngine {
    fn propose(&mut self, payload: Vec<u8>) -> Result<(), ProposeError> {
        if !self.is_master() {
            return Err(ProposeError::NotMaster);
        }
        if payload.is_empty() || payload.len() > MAX_ENTRY_SIZE {
            return Err(ProposeError::Size { size: payload.len(), limit: MAX_ENTRY_SIZE });
        }
        // The engine says nothing else to a leader than that it dropped the proposal.
        self.node.propose(Vec::new(), payload).map_err(|_| ProposeError::Busy)
    }

    fn handle_tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.ticks += 1;
        let late = self.ticks.saturating_sub(self.config.snapshot_ticks);
        while let Some((to, _)) = self.sending.iter().find(|(_, since)| **since < late) {
            self.snapshot_sent(*to, false);
        }
        if self.is_master() && self.ticks.is_multiple_of(self.config.heartbeat_ticks as u64) {
            // A round that got lost is made good by the next one, also for those who wait to read.
            self.begin_round();
        }
        let may_campaign = self.may_campaign();
        let raft = &mut self.node.raft;
        // The engine would draw the timeout from the thread's random numbers, and no run would be like another.
        let role = raft.state as u64;
        let draw = [raft.id, raft.term, role, self.attempt].into_iter().fold(self.config.seed, mix);
        let base = raft.election_timeout();
        let timeout = base + usize::try_from(draw % base as u64).unwrap_or(0);
        raft.set_randomized_election_timeout(timeout);
        if raft.state != StateRole::Leader && raft.election_elapsed + 1 >= timeout {
            if !may_campaign {
                return;
            }
            self.attempt += 1;
        }
        self.node.tick();
    }

    fn handle_message(&mut self, from: u64, message: Message) -> Result<(), MessageError> {
        if message.snapshot.is_some() {
            return Err(MessageError::Malformed { from, what: "it came without the snapshot it refers to" });
        }
        self.step(from, message)
    }

    fn restore(&mut self, from: u64, message: Message) -> Result<(), MessageError> {
        if message.snapshot.is_none() {
            return Err(MessageError::Malformed { from, what: "it refers to no snapshot" });
        }
        self.step(from, message)
    }

    fn snapshot_sent(&mut self, to: u64, ok: bool) {
        if ok {
            self.node.report_snapshot(to, SnapshotStatus::Finish);
        } else {
            self.node.report_snapshot(to, SnapshotStatus::Failure);
        }
        self.sending.remove(&to);
    }

    fn snapshot_progress(&mut self, to: u64) {
        if let Some(since) = self.sending.get_mut(&to) {
            *since = self.ticks;
        }
    }

    fn change_members(&mut self, change: MemberChange) -> Result<(), ChangeError> {
        if !self.is_master() {
            return Err(ChangeError::NotMaster);
        }
        if self.node.raft.has_pending_conf() {
            return Err(ChangeError::UnderWay);
        }
        let after = self.check_change(change)?;
        self.node.propose_conf_change(change.encode(), change.to_raft(&after)).map_err(|_| ChangeError::Busy)
    }

    fn transfer_leadership(&mut self, to: u64) -> Result<(), TransferError> {
        if !self.is_master() {
            return Err(TransferError::NotMaster);
        }
        if to == self.node.raft.id {
            return Err(TransferError::Master);
        }
        if !self.configuration.voters().any(|voter| voter == to) {
            return Err(TransferError::NotVoter { node: to });
        }
        if !self.is_alive(to) {
            return Err(TransferError::Dead { node: to });
        }
        self.rounds.bar_lease();
        self.node.transfer_leader(to);
        Ok(())
    }

    fn lease_until(&self) -> Option<Instant> {
        if !self.is_master() || self.rounds.is_barred() {
            return None;
        }
        if self.configuration.is_sole_voter(self.node.raft.id) {
            return Some(Instant::from_micros(u64::MAX));
        }
        self.rounds.lease()
    }

    fn read(&mut self, now: Instant) -> Option<ReadTicket> {
        if !self.is_master() {
            return None;
        }
        self.now = self.now.max(now);
        let ticket = self.rounds.ticket();
        if self.rounds.is_due() {
            self.begin_round();
        }
        Some(ReadTicket(ticket))
    }

    fn handle_persisted(&mut self, ticket: u64) {
        while self.writes.front().is_some_and(|write| write.ticket <= ticket)
            && let Some(write) = self.writes.pop_front()
        {
            self.durable_term = write.term;
            self.node.on_persist_ready(write.ready);
            self.send(write.messages);
            self.committed.extend(write.restored.map(Step::Restored));
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(term) = self
                .master
                .take_if(|term| self.node.raft.state != StateRole::Leader || self.node.raft.term != *term)
            {
                self.rounds.clear();
                self.sending.clear();
                return Some(Output::Deposed { term });
            }
            if let Some(output) = self.queue.pop_front() {
                return Some(output);
            }
            if let Some(step) = self.committed.pop_front() {
                match step {
                    Step::Restored(point) => return Some(self.take_restored(point)),
                    Step::Entry(entry) => match self.take_committed(entry) {
                        Some(output) => return Some(output),
                        None => continue,
                    },
                }
            }
            if let Some(ticket) = self.rounds.readable(self.applied.index) {
                return Some(Output::Readable { ticket: ReadTicket(ticket) });
            }
            if self.node.has_ready() {
                self.take_ready();
            } else if self.is_master() && self.rounds.is_due() {
                self.begin_round();
            } else if self.node.raft.store().wants_snapshot() && !self.asked {
                self.asked = true;
                return Some(Output::TakeSnapshot);
            } else if std::mem::take(&mut self.campaign)
                && self.configuration.is_sole_voter(self.node.raft.id)
                && self.may_campaign()
            {
                // Fails only when this server may not be elected; then time will tell.
                let _ = self.node.campaign();
            } else {
                return None;
            }
        }
    }

    fn snapshot_point(&self) -> SnapshotPoint {
        SnapshotPoint { at: self.applied, configuration: self.configuration.clone() }
    }

    fn trim_point(&self, snapshot: u64) -> u64 {
        let (entries, bytes) = match self.configuration.members.len() {
            0..=1 => (0, 0),
            _ => (self.config.keep_entries, self.config.keep_bytes),
        };
        self.node.raft.store().trim_point(snapshot, entries, bytes)
    }

    fn compact(&mut self, snapshot: SnapshotRecord, trim_through: u64) {
        self.asked = false;
        // One from another server may have taken its place meanwhile.
        if snapshot.point.at.index >= self.node.raft.store().base().at.index {
            let through = trim_through.min(snapshot.point.at.index).min(self.applied.index);
            self.node.raft.mut_store().compact(snapshot, through);
        }
    }

    fn status(&self) -> Status {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        let last_index = raft.raft_log.last_index();
        let others =
            self.configuration.members.keys().filter(|node| role == Role::Leader && **node != raft.id);
        let members = others.map(|node| {
            let progress = raft.prs().get(*node);
            let matched = progress.map_or(0, |progress| progress.matched);
            MemberStatus {
                node: *node,
                matched,
                lag: last_index.saturating_sub(matched),
                alive: self.is_alive(*node),
                snapshot: progress.is_some_and(|progress| progress.state == ProgressState::Snapshot),
            }
        });
        Status {
            role,
            term: raft.term,
            leader: (raft.leader_id != 0).then_some(raft.leader_id),
            commit: raft.raft_log.committed,
            applied: self.applied.index,
            first_index: raft.store().first(),
            last_index,
            members: members.collect(),
            configuration: self.configuration.clone(),
        }
    }
}

fn from_raft_state(state: &RaftHardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}

/// One round of the splitmix64 generator, as a hash.
fn mix(state: u64, value: u64) -> u64 {
    let mut hash = (state ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
