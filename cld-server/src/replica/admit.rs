//! Which messages of other servers reach the engine. Servers are authenticated, but one with a bug, an old disk or another
//! version must be an error here and never a panic in the engine.

use raft::StateRole;
use raft::eraftpb::{Message as RaftMessage, MessageType};
use thiserror::Error;

use super::engine::RaftEngine;
use super::members::MemberChange;
use super::message::{Message, is_configuration, is_forced, payload};
use crate::codec::CodecError;

/// Why a message was refused. It had no effect.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It is for another server.
    #[error("a message for server {to:x} came to server {here:x}; check the addresses of the members")]
    Misdirected {
        /// Whom it is for.
        to: u64,
        /// Who this is.
        here: u64,
    },
    /// The sender is not a member of the cell, as far as this server knows, and knows its master.
    #[error("server {from:x} is not a member of this cell")]
    Stranger {
        /// The sender.
        from: u64,
    },
    /// The sender was removed from the cell.
    #[error(
        "server {from:x} was removed from this cell; give it an empty data directory and let it join again"
    )]
    Removed {
        /// The sender.
        from: u64,
    },
    /// The sender thinks that this server has entries which it never had: its disk or the sender's is not what it was.
    #[error(
        "server {from:x} believes that the log here reaches {claimed}, but it ends at {last}: a disk was replaced by an old copy"
    )]
    Ahead {
        /// The sender.
        from: u64,
        /// The index that the message implies.
        claimed: u64,
        /// The last index in the log.
        last: u64,
    },
    /// It makes no sense.
    #[error("a message of server {from:x} makes no sense: {what}")]
    Malformed {
        /// The sender.
        from: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// An entry in it cannot be read.
    #[error("an entry from server {from:x} cannot be read: {source}")]
    Entry {
        /// The sender.
        from: u64,
        /// Why.
        source: CodecError,
    },
}

/// What is to be done with a message that is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The engine takes it in.
    Step,
    /// It is dropped.
    Drop,
}

impl RaftEngine {
    /// Decides about a message.
    pub(super) fn admit(&self, from: u64, message: &Message) -> Result<Admission, MessageError> {
        let m = &message.raft;
        let raft = &self.node.raft;
        if m.to != raft.id {
            return Err(MessageError::Misdirected { to: m.to, here: raft.id });
        }
        self.check_sender(from, m.msg_type)?;
        let malformed = |what| Err(MessageError::Malformed { from, what });
        if m.term == 0 {
            return malformed("it has no term");
        }
        let last = raft.raft_log.last_index();
        match m.msg_type {
            MessageType::MsgAppend => check_entries(from, m)?,
            MessageType::MsgHeartbeat if m.commit > last => {
                return Err(MessageError::Ahead { from, claimed: m.commit, last });
            }
            MessageType::MsgSnapshot => self.check_snapshot(from, message)?,
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                // Before it was started anew, this server may have promised a master not to vote for another.
                if self.ticks < self.config.election_ticks as u64 {
                    return Ok(Admission::Drop);
                }
                if is_forced(m) && m.msg_type == MessageType::MsgRequestPreVote {
                    return malformed("only votes can be forced");
                }
            }
            // Nothing that a follower waits for; but the term of a late one could make it forget its master, and
            // with it the promise not to vote for another.
            _ if is_reply(m.msg_type) && raft.state == StateRole::Follower => return Ok(Admission::Drop),
            MessageType::MsgAppendResponse
                if m.term == raft.term && raft.state == StateRole::Leader && m.index > last =>
            {
                return Err(MessageError::Ahead { from, claimed: m.index, last });
            }
            // A server asks for votes only when its whole log is durable. The engine relies on it.
            MessageType::MsgRequestVoteResponse
                if !m.reject && raft.state == StateRole::Candidate && !self.is_settled() =>
            {
                return malformed("it grants a vote that was not asked for");
            }
            MessageType::MsgTimeoutNow
                if raft.leader_id != from || raft.term != m.term || !self.may_campaign() =>
            {
                return Ok(Admission::Drop);
            }
            _ => {}
        }
        Ok(Admission::Step)
    }

    /// A server may have missed the change that made the sender a member, or even its master. So an unknown sender is
    /// heard, unless a master is in touch, who would have told; with its removal known, it never is.
    fn check_sender(&self, from: u64, msg_type: MessageType) -> Result<(), MessageError> {
        let raft = &self.node.raft;
        if self.configuration.contains(from) && from != raft.id {
            return Ok(());
        }
        if self.configuration.removed.contains(&from) {
            return Err(MessageError::Removed { from });
        }
        let in_touch = match raft.state {
            StateRole::Leader => true,
            StateRole::Follower => {
                raft.leader_id != 0
                    && raft.leader_id != from
                    && raft.election_elapsed < raft.election_timeout()
            }
            StateRole::Candidate | StateRole::PreCandidate => false,
        };
        if from == 0 || from == raft.id || in_touch || is_reply(msg_type) {
            return Err(MessageError::Stranger { from });
        }
        Ok(())
    }

    fn check_snapshot(&self, from: u64, message: &Message) -> Result<(), MessageError> {
        let malformed = |what| Err(MessageError::Malformed { from, what });
        let Some(record) = &message.snapshot else { return malformed("it refers to no snapshot") };
        let at = record.point.at;
        let log = &self.node.raft.raft_log;
        if at.index == log.committed && !log.match_term(at.index, at.term) {
            return malformed("its snapshot contradicts what is committed");
        }
        let configuration = &record.point.configuration;
        if at.index == 0 || at.term == 0 || at.term > message.raft.term {
            return malformed("its snapshot stands for nothing");
        }
        if configuration.voters().next().is_none() || !configuration.contains(self.node.raft.id) {
            return malformed("its snapshot is of a cell that this server is no member of");
        }
        Ok(())
    }

    /// Whether all of the log is durable.
    pub(super) fn is_settled(&self) -> bool {
        let log = &self.node.raft.raft_log;
        log.persisted == log.last_index() && !self.writes.iter().any(|write| write.has_log)
    }

    /// Whether the engine may begin an election now. It panics when a sole voter wins one at once whose log is not
    /// durable yet, and when a snapshot is not loaded yet.
    pub(super) fn may_campaign(&self) -> bool {
        let raft = &self.node.raft;
        let alone = raft.prs().is_singleton();
        !self.restoring && (!alone || self.is_settled())
    }
}

fn is_reply(msg_type: MessageType) -> bool {
    matches!(
        msg_type,
        MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVoteResponse
    )
}

/// The indices follow each other, as they are not sent at all. The engine takes term 0 for that of any entry that it lacks.
fn check_entries(from: u64, m: &RaftMessage) -> Result<(), MessageError> {
    if m.log_term == 0 && m.index > 0 {
        return Err(MessageError::Malformed { from, what: "the entry before its entries has no term" });
    }
    let mut term = m.log_term.max(1);
    for entry in m.entries.iter() {
        if entry.term < term || entry.term > m.term {
            return Err(MessageError::Malformed { from, what: "the terms of its entries are out of order" });
        }
        term = entry.term;
        if is_configuration(entry) {
            MemberChange::decode(payload(entry)).map_err(|source| MessageError::Entry { from, source })?;
        }
    }
    Ok(())
}
