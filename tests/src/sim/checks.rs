//! What must hold at any time, whatever clients see.

use std::collections::BTreeMap;

use cld_server::database::Digest;
use cld_server::node::Node;

use super::plan::Plan;
use super::server::{Server, Servers};

/// States that are remembered, to compare with those of servers that lag.
const STATES: usize = 2000;
/// Jobs that wait for one disk. Beyond these, a server would ask more of its disk than it has clients.
const JOBS: usize = 5_000;
/// Datagrams and messages on their way.
const FLIGHTS: usize = 100_000;

/// What was seen of the servers.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Who served in which epoch.
    masters: BTreeMap<u64, u64>,
    /// The digest of the state after an entry of the log, and who had it first.
    states: BTreeMap<u64, (u64, Digest)>,
    /// What each server's state was last looked at.
    seen: BTreeMap<u64, u64>,
}

impl Checks {
    /// A server begins to serve.
    pub(super) fn serves(&mut self, id: u64, epoch: u64) -> Result<(), String> {
        match self.masters.insert(epoch, id) {
            None => Ok(()),
            Some(other) => Err(format!("server {id} and server {other} both serve in epoch {epoch}")),
        }
    }

    pub(super) fn epochs(&self) -> usize {
        self.masters.len()
    }

    /// Looks at all servers that are up.
    pub(super) fn sample(
        &mut self,
        servers: &Servers,
        plan: &Plan,
        flights: usize,
        now: u64,
    ) -> Result<(), String> {
        if flights > FLIGHTS {
            return Err(format!("{flights} datagrams and messages are on their way"));
        }
        for (&id, server) in servers {
            let Some(node) = server.node.as_ref() else { continue };
            self.compare(id, node)?;
            let jobs = server.jobs.len();
            if jobs > JOBS {
                return Err(format!("{jobs} jobs wait for the disk of server {id}"));
            }
            self.check_log(id, node, plan, now)?;
        }
        Ok(())
    }

    /// Equal logs give equal states.
    fn compare(&mut self, id: u64, node: &Node) -> Result<(), String> {
        let applied = node.snapshot_point().at.index;
        if self.seen.insert(id, applied) == Some(applied) {
            return Ok(());
        }
        let digest = node.database().digest();
        let &mut (first, state) = self.states.entry(applied).or_insert((id, digest));
        if state != digest {
            return Err(format!("servers {first} and {id} have different states after entry {applied}"));
        }
        if self.states.len() > STATES {
            self.states.pop_first();
        }
        Ok(())
    }

    /// The log does not grow without bounds.
    fn check_log(&self, id: u64, node: &Node, plan: &Plan, _now: u64) -> Result<(), String> {
        let (entries, keep) = plan.snapshot;
        let status = node.status().replica;
        let length = (status.last_index + 1).saturating_sub(status.first_index);
        let most = entries.saturating_mul(4).saturating_add(keep).saturating_add(2_000);
        if length > most {
            return Err(format!("the log of server {id} has {length} entries"));
        }
        Ok(())
    }

    /// Whether all servers are up and have applied the same.
    pub(super) fn agree(&self, servers: &Servers) -> bool {
        let state = |server: &Server| {
            server
                .node
                .as_ref()
                .map(|node| (node.snapshot_point().at.index, node.database().recomputed_digest()))
        };
        let first = servers.values().next().and_then(state);
        first.is_some() && servers.values().all(|server| state(server) == first)
    }
}
