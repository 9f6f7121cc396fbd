//! Changes of a cell's members: what they are, how the log holds them, and which of them make sense.

use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};
use thiserror::Error;

use crate::codec::{CodecError, Reader, Writer};
use crate::storage::{Addresses, Configuration, MAX_MEMBERS, MAX_REMOVED, Member};

const VERSION: u8 = 1;

/// One change of a cell's members. Only one is under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberChange {
    /// A new server receives the log from now on, and does not vote.
    AddLearner {
        /// Its number, from its disk.
        node: u64,
        /// Where it is reached.
        addresses: Addresses,
    },
    /// A server that receives the log, and has nearly all of it, votes from now on.
    Promote {
        /// Its number.
        node: u64,
    },
    /// A server is no member any more, and never will be again.
    Remove {
        /// Its number.
        node: u64,
    },
    /// A member is reached elsewhere from now on.
    SetAddresses {
        /// Its number.
        node: u64,
        /// Where it is reached.
        addresses: Addresses,
    },
}

/// Why a change of the members is refused. It had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// This server is not the master.
    #[error("this server is not the master; ask the master")]
    NotMaster,
    /// The last change, or the log as the master found it, is not applied yet.
    #[error("another change is under way; try again when it is done")]
    UnderWay,
    /// Too much waits to be committed, or the mastership is being handed over.
    #[error("the log takes nothing just now; try again")]
    Busy,
    /// There is no such member.
    #[error("server {node:x} is not a member of the cell")]
    Unknown {
        /// The server.
        node: u64,
    },
    /// It is a member already.
    #[error("server {node:x} is a member already")]
    Member {
        /// The server.
        node: u64,
    },
    /// It votes already.
    #[error("server {node:x} votes already")]
    Voter {
        /// The server.
        node: u64,
    },
    /// It was removed once.
    #[error(
        "server {node:x} was removed from this cell; give it an empty data directory, and it has a new number"
    )]
    Removed {
        /// The server.
        node: u64,
    },
    /// No server has the number 0.
    #[error("0 is not the number of a server")]
    Zero,
    /// The cell has as many members as it may have.
    #[error("the cell has {MAX_MEMBERS} members and may not have more; remove one first")]
    TooMany,
    /// The master does not remove itself.
    #[error("the master cannot remove itself; hand the mastership to another server first")]
    Master,
    /// It was not heard of for an election timeout.
    #[error("server {node:x} does not answer; start it first")]
    Dead {
        /// The server.
        node: u64,
    },
    /// It does not vote before it has nearly the whole log.
    #[error(
        "server {node:x} is {lag} entries behind, and may vote from {limit} on; wait until it has caught up"
    )]
    Behind {
        /// The server.
        node: u64,
        /// How many entries it lacks.
        lag: u64,
        /// How many it may lack.
        limit: u64,
    },
    /// The servers that are alive would be no majority.
    #[error(
        "only {alive} of the {voters} voting servers that there would be are alive, too few for a majority; start the others first"
    )]
    Quorum {
        /// How many of the voters after the change were heard of lately.
        alive: usize,
        /// How many voters there would be.
        voters: usize,
    },
}

impl MemberChange {
    /// The server that it is about.
    #[must_use]
    pub const fn node(&self) -> u64 {
        match self {
            Self::AddLearner { node, .. }
            | Self::Promote { node }
            | Self::Remove { node }
            | Self::SetAddresses { node, .. } => *node,
        }
    }

    /// The change as the payload of an entry.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, addresses) = match self {
            Self::AddLearner { addresses, .. } => (1, Some(addresses)),
            Self::Promote { .. } => (2, None),
            Self::Remove { .. } => (3, None),
            Self::SetAddresses { addresses, .. } => (4, Some(addresses)),
        };
        let mut out = Writer::new();
        out.u8(VERSION);
        out.u8(kind);
        out.u64(self.node());
        addresses.into_iter().for_each(|addresses| addresses.write(&mut out));
        out.into_vec()
    }

    /// # Errors
    /// See [`CodecError`].
    pub(super) fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        let mut input = Reader::new(payload);
        let version = input.u8()?;
        if version != VERSION {
            let what = "change of the members";
            return Err(CodecError::Version { what, found: version, known: VERSION });
        }
        let (kind, node) = (input.u8()?, input.u64()?);
        let change = match kind {
            1 => Self::AddLearner { node, addresses: Addresses::read(&mut input)? },
            2 => Self::Promote { node },
            3 => Self::Remove { node },
            4 => Self::SetAddresses { node, addresses: Addresses::read(&mut input)? },
            other => {
                return Err(CodecError::Invalid { what: "change of the members", value: other.into() });
            }
        };
        input.finish()?;
        Ok(change)
    }

    /// The configuration after this change, if it makes sense. The same on every server.
    pub(super) fn apply(&self, configuration: &Configuration) -> Result<Configuration, ChangeError> {
        let mut after = configuration.clone();
        let node = self.node();
        let is_full = after.members.len() >= MAX_MEMBERS;
        match (self, after.members.get_mut(&node)) {
            _ if node == 0 => return Err(ChangeError::Zero),
            (Self::AddLearner { .. }, Some(_)) => return Err(ChangeError::Member { node }),
            (Self::AddLearner { .. }, None) if after.removed.contains(&node) => {
                return Err(ChangeError::Removed { node });
            }
            (Self::AddLearner { .. }, None) if is_full => return Err(ChangeError::TooMany),
            (Self::AddLearner { addresses, .. }, None) => {
                after.members.insert(node, Member { votes: false, addresses: *addresses });
            }
            (_, None) => return Err(ChangeError::Unknown { node }),
            (Self::Promote { .. }, Some(member)) if member.votes => return Err(ChangeError::Voter { node }),
            (Self::Promote { .. }, Some(member)) => member.votes = true,
            (Self::SetAddresses { addresses, .. }, Some(member)) => member.addresses = *addresses,
            (Self::Remove { .. }, Some(_)) => {
                if configuration.is_sole_voter(node) {
                    return Err(ChangeError::Quorum { alive: 0, voters: 0 });
                }
                after.members.remove(&node);
                after.removed.push(node);
                let surplus = after.removed.len().saturating_sub(MAX_REMOVED);
                after.removed.drain(..surplus);
            }
        }
        Ok(after)
    }

    /// The engine's form of the change that leads to this configuration.
    pub(super) fn to_raft(self, after: &Configuration) -> ConfChangeV2 {
        let mut single = ConfChangeSingle { node_id: self.node(), ..ConfChangeSingle::default() };
        single.set_change_type(match after.members.get(&self.node()) {
            None => ConfChangeType::RemoveNode,
            Some(member) if member.votes => ConfChangeType::AddNode,
            Some(_) => ConfChangeType::AddLearnerNode,
        });
        let mut change = ConfChangeV2::default();
        change.set_changes(vec![single].into());
        change
    }
}
