//! Where an engine stands, for operators.

use crate::storage::Configuration;

/// What a server is in its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes the log from a master, if there is one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Chosen by the others. It is the master once it has committed an entry: see
    /// [`Output::BecameMaster`](super::Output::BecameMaster).
    Leader,
}

/// Where the engine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What this server is.
    pub role: Role,
    /// The newest term seen.
    pub term: u64,
    /// The leader in that term, if known.
    pub leader: Option<u64>,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last index given out by [`Engine::poll_output`](super::Engine::poll_output).
    pub applied: u64,
    /// The first index kept in the log.
    pub first_index: u64,
    /// The last index in the log, written or not; one less than the first if the log is empty.
    pub last_index: u64,
    /// The members as of the last entry given out.
    pub configuration: Configuration,
    /// How far the other members are, in ascending order. Known to the leader only.
    pub members: Vec<MemberStatus>,
}

/// How far another member is, as the leader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberStatus {
    /// The member.
    pub node: u64,
    /// The last index that is known to be on its disk.
    pub matched: u64,
    /// How many entries it lacks.
    pub lag: u64,
    /// Whether it was heard of within an election timeout.
    pub alive: bool,
    /// Whether it waits for a snapshot.
    pub snapshot: bool,
}
