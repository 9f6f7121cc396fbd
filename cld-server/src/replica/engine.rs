//! The engine on the `raft` crate: its settings, and its asynchronous ready cycle turned into one stream of outputs.
//!
//! The crate panics when its log is broken (an entry that conflicts with a committed one, a gap). That is right: such a
//! server must not go on, and the panic's message says why.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use raft::eraftpb::{Entry, HardState as RaftHardState};
use raft::{Config, RawNode, ReadOnlyOption, StateRole};
use thiserror::Error;

use super::logger::tracing_logger;
use super::tail::{LogTail, from_raft};
use super::{Engine, Output, ProposeError, Role, Status};
use crate::storage::{HardState, LogImage, LogPosition, LogWrite, MAX_ENTRY_SIZE, SnapshotPoint};

/// Messages to one peer that may be on their way, and the entries in one, in bytes.
const MAX_INFLIGHT_MESSAGES: usize = 64;
const MAX_MESSAGE_SIZE: u64 = 1 << 20;
/// Entries that may wait to be committed, in bytes; one is always taken.
const MAX_UNCOMMITTED_SIZE: u64 = 16 << 20;
/// Committed entries taken over in one step, in bytes; one is always taken.
const MAX_COMMITTED_STEP: u64 = 4 << 20;

/// What an engine is told at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// This server, from its identity.
    pub node: NonZeroU64,
    /// A follower that hears nothing for this many ticks, or up to twice as many, asks for votes.
    pub election_ticks: usize,
    /// A leader makes itself heard every this many ticks; fewer than the election takes.
    pub heartbeat_ticks: usize,
    /// Makes elections differ between servers and runs, and a run repeatable.
    pub seed: u64,
}

/// Why an engine could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is impossible, such as an election as short as a heartbeat.
    #[error("the replica cannot start: {0}")]
    Config(#[source] Box<raft::Error>),
}

/// [`Engine`] on the `raft` crate.
pub struct RaftEngine {
    node: RawNode<LogTail>,
    seed: u64,
    /// Elections begun by time, so that each draws another timeout.
    attempt: u64,
    /// The only voter has nobody to wait for: it becomes leader as soon as what is committed has been given out.
    campaign: bool,
    last_ticket: u64,
    /// Writes on their way, oldest first: the ticket, and the last ready that is done when it is durable.
    writes: VecDeque<(u64, u64)>,
    /// The next output, if it is a write.
    persist: Option<Output>,
    /// Committed, not yet given out.
    committed: VecDeque<Entry>,
    applied: LogPosition,
    /// The term in which this server told that it is the master.
    master: Option<u64>,
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
        let tail = LogTail::new(image);
        let applied = tail.base().at;
        let raft_config = Config {
            id: config.node.get(),
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: applied.index,
            max_size_per_msg: MAX_MESSAGE_SIZE,
            max_inflight_msgs: MAX_INFLIGHT_MESSAGES,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            batch_append: false,
            max_uncommitted_size: MAX_UNCOMMITTED_SIZE,
            max_committed_size_per_ready: MAX_COMMITTED_STEP,
            ..Config::default()
        };
        let campaign = tail.base().configuration.voters == [config.node.get()];
        let node = RawNode::new(&raft_config, tail, &tracing_logger())
            .map_err(|error| StartError::Config(Box::new(error)))?;
        Ok(Self {
            node,
            seed: config.seed,
            attempt: 0,
            campaign,
            last_ticket: 0,
            writes: VecDeque::new(),
            persist: None,
            committed: VecDeque::new(),
            applied,
            master: None,
        })
    }

    /// Takes over what the engine has ready. Its writes may finish at any later time.
    fn take_ready(&mut self) {
        let mut ready = self.node.ready();
        let number = ready.number();
        let entries = ready.take_entries();
        self.committed.extend(ready.take_committed_entries());
        let must_write = ready.must_sync();
        // The engine reads entries back from here at once, before they are durable.
        self.node.raft.mut_store().append(&entries);
        self.node.advance_append_async(ready);

        if must_write {
            self.last_ticket += 1;
            self.writes.push_back((self.last_ticket, number));
            let entries = entries.iter().map(from_raft).collect();
            // Always whole: a commit index alone is not worth a write, it goes with the next.
            let hard_state = from_raft_state(&self.node.raft.hard_state());
            self.persist =
                Some(Output::Persist { ticket: self.last_ticket, write: LogWrite { entries, hard_state } });
        } else if let Some((_, ready)) = self.writes.back_mut() {
            *ready = number;
        } else {
            self.node.on_persist_ready(number);
        }
    }

    /// Passes a committed entry on. Empty ones are the engine's own.
    fn take_committed(&mut self, entry: Entry) -> Option<Output> {
        self.applied = LogPosition { index: entry.index, term: entry.term };
        self.node.advance_apply_to(entry.index);
        if !entry.data.is_empty() {
            return Some(Output::Committed { at: self.applied, payload: entry.data.to_vec() });
        }
        let raft = &self.node.raft;
        if raft.state == StateRole::Leader && raft.term == entry.term && self.master.is_none() {
            self.master = Some(entry.term);
            return Some(Output::BecameMaster { term: entry.term });
        }
        None
    }

    fn is_leader_in(&self, term: u64) -> bool {
        self.node.raft.state == StateRole::Leader && self.node.raft.term == term
    }
}

impl Engine for RaftEngine {
    fn propose(&mut self, payload: Vec<u8>) -> Result<(), ProposeError> {
        if !self.master.is_some_and(|term| self.is_leader_in(term)) {
            return Err(ProposeError::NotMaster);
        }
        if payload.is_empty() || payload.len() > MAX_ENTRY_SIZE {
            return Err(ProposeError::Size { size: payload.len(), limit: MAX_ENTRY_SIZE });
        }
        // The engine says nothing else to a leader than that it dropped the proposal.
        self.node.propose(Vec::new(), payload).map_err(|_| ProposeError::Busy)
    }

    fn handle_tick(&mut self) {
        let raft = &mut self.node.raft;
        // The engine would draw the timeout from the thread's random numbers, and no run would be like another.
        let role = raft.state as u64;
        let draw = [raft.id, raft.term, role, self.attempt].into_iter().fold(self.seed, mix);
        let base = raft.election_timeout();
        let timeout = base + usize::try_from(draw % base as u64).unwrap_or(0);
        raft.set_randomized_election_timeout(timeout);
        if raft.state != StateRole::Leader && raft.election_elapsed + 1 >= timeout {
            self.attempt += 1;
        }
        self.node.tick();
    }

    fn handle_persisted(&mut self, ticket: u64) {
        while let Some((written, ready)) = self.writes.front().copied()
            && written <= ticket
        {
            self.writes.pop_front();
            self.node.on_persist_ready(ready);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(term) = self
                .master
                .take_if(|term| self.node.raft.state != StateRole::Leader || self.node.raft.term != *term)
            {
                return Some(Output::Deposed { term });
            }
            if let Some(persist) = self.persist.take() {
                return Some(persist);
            }
            if let Some(entry) = self.committed.pop_front() {
                match self.take_committed(entry) {
                    Some(output) => return Some(output),
                    None => continue,
                }
            }
            if self.node.has_ready() {
                self.take_ready();
            } else if std::mem::take(&mut self.campaign) {
                // Fails only when this server may not be elected; then time will tell.
                let _ = self.node.campaign();
            } else {
                return None;
            }
        }
    }

    fn snapshot_point(&self) -> SnapshotPoint {
        // No entry changes the members.
        SnapshotPoint { at: self.applied, configuration: self.node.raft.store().base().configuration.clone() }
    }

    fn compact(&mut self, snapshot: SnapshotPoint, trim_through: u64) {
        let through = trim_through.min(snapshot.at.index).min(self.applied.index);
        self.node.raft.mut_store().compact(snapshot, through);
    }

    fn status(&self) -> Status {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        Status {
            role,
            term: raft.term,
            leader: (raft.leader_id != 0).then_some(raft.leader_id),
            commit: raft.raft_log.committed,
            applied: self.applied.index,
            first_index: raft.store().first(),
            last_index: raft.raft_log.last_index(),
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
