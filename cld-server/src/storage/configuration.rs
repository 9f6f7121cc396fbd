//! The members of a cell: who they are, whether they vote, and where they are reached. Replicated with the log and kept
//! with every snapshot, never read from a server's own settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::codec::{CodecError, Reader, Writer};

/// The most members, voting or not, that a cell may have.
pub const MAX_MEMBERS: usize = 32;

/// The most removed members that are remembered; the oldest are forgotten.
pub const MAX_REMOVED: usize = 64;

/// The members of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// Each member, by its number. At most [`MAX_MEMBERS`].
    pub members: BTreeMap<u64, Member>,
    /// Who was removed, oldest first. A removed number never comes back, as every fresh disk has a new one. At most
    /// [`MAX_REMOVED`].
    pub removed: Vec<u64>,
}

/// One member of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Member {
    /// Whether it votes. One that does not only receives the log.
    pub votes: bool,
    /// Where it is reached.
    pub addresses: Addresses,
}

/// Where a member is reached; the server of a cell of one may not have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// By the other members.
    pub peer: Option<SocketAddr>,
    /// By clients.
    pub client: Option<SocketAddr>,
}

impl Configuration {
    /// Voting members of which no address is known.
    #[must_use]
    pub fn of_voters(nodes: impl IntoIterator<Item = u64>) -> Self {
        let voter = Member { votes: true, addresses: Addresses::default() };
        let members = nodes.into_iter().map(|node| (node, voter)).collect();
        Self { members, removed: Vec::new() }
    }

    /// One voting member that is reached there.
    #[must_use]
    pub fn of_one(node: u64, addresses: Addresses) -> Self {
        let members = BTreeMap::from([(node, Member { votes: true, addresses })]);
        Self { members, removed: Vec::new() }
    }

    /// The members that vote, in ascending order.
    pub fn voters(&self) -> impl Iterator<Item = u64> {
        self.members.iter().filter(|(_, member)| member.votes).map(|(node, _)| *node)
    }

    /// The members that only receive the log, in ascending order.
    pub fn learners(&self) -> impl Iterator<Item = u64> {
        self.members.iter().filter(|(_, member)| !member.votes).map(|(node, _)| *node)
    }

    /// Whether this is a member, voting or not.
    #[must_use]
    pub fn contains(&self, node: u64) -> bool {
        self.members.contains_key(&node)
    }

    /// Whether this is the one and only voter.
    #[must_use]
    pub fn is_sole_voter(&self, node: u64) -> bool {
        self.voters().eq([node])
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.count(self.members.len());
        for (node, member) in &self.members {
            out.u64(*node);
            out.bool(member.votes);
            member.addresses.write(out);
        }
        out.count(self.removed.len());
        self.removed.iter().for_each(|node| out.u64(*node));
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut configuration = Self::default();
        for _ in 0..input.count(MAX_MEMBERS, 11)? {
            let node = input.u64()?;
            let member = Member { votes: input.bool()?, addresses: Addresses::read(input)? };
            if node == 0 || configuration.members.insert(node, member).is_some() {
                return Err(CodecError::Invalid { what: "member of a configuration", value: node });
            }
        }
        for _ in 0..input.count(MAX_REMOVED, 8)? {
            configuration.removed.push(input.u64()?);
        }
        Ok(configuration)
    }
}

impl Addresses {
    pub(crate) fn write(&self, out: &mut Writer) {
        for address in [self.peer, self.client] {
            out.bool(address.is_some());
            if let Some(address) = address {
                out.socket_addr(address);
            }
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut address = || Ok(if input.bool()? { Some(input.socket_addr()?) } else { None });
        Ok(Self { peer: address()?, client: address()? })
    }
}
