//! What an operator asks, answered from the node: how things are, and changes of the cell, which the master alone makes.

use cldc_core::time::Instant;
use tokio::sync::oneshot;

use super::admin::{Question, Reply, refused};
use super::peers::Peers;
use super::settings::{self, Settings};
use crate::admin::{Answer, Log, Member, Report, Request, Role, Totals, name_of};
use crate::node::{Clock, Node};
use crate::peer::secret::Secret;
use crate::peer::token::Token;
use crate::replica::{ChangeError, MemberChange, Role as EngineRole, TransferError};
use crate::storage::{Configuration, Identity};

/// What is needed for answers, and the changes that are under way.
#[derive(Debug)]
pub(super) struct Questions {
    identity: Identity,
    /// None in a cell of one.
    secret: Option<Secret>,
    /// One for each connection at most, but for those that have given up.
    pending: Vec<Pending>,
    pub(super) settings: Settings,
}

#[derive(Debug)]
struct Pending {
    change: Change,
    reply: oneshot::Sender<Reply>,
}

/// What an operator waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Added(u64),
    Removed(u64),
    Handed(u64),
}

impl Questions {
    pub(super) fn new(identity: Identity, secret: Option<Secret>) -> Self {
        Self { identity, secret, pending: Vec::new(), settings: Settings::default() }
    }

    /// Answers, or has it answered later.
    pub(super) fn answer(&mut self, node: &mut Node, peers: Option<&Peers>, clock: Clock, asked: Question) {
        let Question { request, reply } = asked;
        let changed = match request {
            Request::Status => {
                let report = Box::new(self.report(node, peers, clock.now));
                return tell(reply, Reply::Answer(Answer::Status(report)));
            }
            Request::Snapshot => {
                let (point, database) = (node.snapshot_point(), Box::new(node.database().clone()));
                return tell(reply, Reply::Snapshot { cell: self.identity.cell, point, database });
            }
            Request::Users { after } => {
                return tell(reply, Reply::Answer(settings::users(node, after.as_deref())));
            }
            Request::Limits => return tell(reply, Reply::Answer(settings::limits(node))),
            Request::Set(change) => return self.settings.change(node, clock, change, reply),
            Request::AddMember { token } => self.add(node, clock, &token),
            Request::RemoveMember { member } => remove(node, clock, &member),
            Request::Transfer { member } => transfer(node, clock, &member),
        };
        match changed {
            Ok(change) => {
                self.pending.retain(|pending| !pending.reply.is_closed());
                self.pending.push(Pending { change, reply });
            }
            Err(answer) => tell(reply, Reply::Answer(answer)),
        }
    }

    fn add(&self, node: &mut Node, clock: Clock, token: &str) -> Result<Change, Answer> {
        let Some(secret) = &self.secret else {
            return Err(refuse(
                "this server is a cell of one, and was started without '--cell-secret'; only a cell that 'cld cell init' \
                 made can grow"
                    .to_owned(),
            ));
        };
        let token = Token::from_text(token, self.identity.cell, secret);
        let Token { identity, addresses } = token.map_err(|error| refuse(error.to_string()))?;
        let members = &node.members().members;
        let taken = members.iter().find(|(_, member)| member.addresses.peer == addresses.peer);
        if let Some((&other, _)) = taken.filter(|(other, _)| **other != identity.node.get()) {
            return Err(refuse(format!(
                "server {} has the address of the new one; remove it first",
                name_of(other)
            )));
        }
        let change = MemberChange::AddLearner { node: identity.node.get(), addresses };
        node.change_members(clock, change).map_err(|error| not_changed(node, error))?;
        Ok(Change::Added(identity.node.get()))
    }

    /// The members are these now.
    pub(super) fn members_changed(&mut self, members: &Configuration) {
        self.finish(|change| match change {
            Change::Added(node) if members.contains(node) => Some(format!(
                "server {} is a member, and will vote when it has caught up: 'cld member list' tells",
                name_of(node)
            )),
            Change::Removed(node) if !members.contains(node) => Some(format!(
                "server {} is no member any more; its data directory is of no use",
                name_of(node)
            )),
            _ => None,
        });
    }

    /// Another server is the master, or may be soon.
    pub(super) fn deposed(&mut self) {
        self.settings.deposed();
        self.finish(|change| match change {
            // It may have become another one: this server knows only that it is the master no more.
            Change::Handed(node) => Some(format!(
                "handed over to server {}; 'cld status' there tells whether it is the master",
                name_of(node)
            )),
            _ => None,
        });
        for Pending { reply, .. } in self.pending.drain(..) {
            let why =
                "this server is not the master any more; the change is made or not: see 'cld member list'";
            tell(reply, refused(why.to_owned()));
        }
    }

    fn finish(&mut self, outcome: impl Fn(Change) -> Option<String>) {
        for Pending { change, reply } in std::mem::take(&mut self.pending) {
            match outcome(change) {
                Some(what) => tell(reply, Reply::Answer(Answer::Done { what })),
                None => self.pending.push(Pending { change, reply }),
            }
        }
    }

    fn report(&self, node: &Node, peers: Option<&Peers>, now: Instant) -> Report {
        let status = node.status();
        let me = self.identity.node.get();
        let members = node.members();
        let role = match status.replica.role {
            _ if status.diverged => Role::Diverged,
            _ if status.serves => Role::Master,
            _ if members.removed.contains(&me) => Role::Removed,
            _ if !members.contains(me) => Role::Waiting,
            EngineRole::Leader => Role::Beginning,
            EngineRole::Candidate => Role::Candidate,
            EngineRole::Follower => Role::Follower,
        };
        let links = peers.map(Peers::status).unwrap_or_default();
        let member = |(&id, member): (&u64, &crate::storage::Member)| {
            let link = links.iter().find(|link| link.peer == id);
            let diverged = status.others_diverged.contains(&id).then(|| {
                "its state is wrong; remove it, and add it again with an empty data directory".to_owned()
            });
            let known = status.replica.members.iter().find(|known| known.node == id);
            Member {
                server: name_of(id),
                votes: member.votes,
                peer: member.addresses.peer,
                client: member.addresses.client,
                here: id == me,
                linked: link.map(|link| link.version.is_some()),
                links: link.map(|link| link.links),
                can_apply: if id == me { Some(node.offer().can) } else { status.versions.get(&id).copied() },
                trouble: diverged.or_else(|| link.and_then(|link| link.trouble.clone())),
                alive: known.map(|known| known.alive),
                lag: known.map(|known| known.lag),
                snapshot: known.map(|known| known.snapshot),
            }
        };
        let lease = status.lease_until.filter(|until| *until > now);
        let replica = &status.replica;
        let totals = status.totals;
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cell: format!("{:032x}", self.identity.cell),
            cell_version: status.version,
            server: name_of(me),
            role,
            master: replica.leader.map(name_of),
            epoch: status.epoch,
            term: replica.term,
            lease_ms: lease.map(|until| until.since(now).as_micros() / 1_000),
            members: members.members.iter().map(member).collect(),
            totals: Totals {
                sessions: totals.sessions,
                handles: totals.handles,
                inodes: totals.inodes,
                data: totals.data,
                claims: totals.claims,
            },
            log: Log {
                first: replica.first_index,
                last: replica.last_index,
                commit: replica.commit,
                applied: replica.applied,
                digest: status.digest.to_string(),
                confirmed: status.confirmed,
                snapshot: status.snapshot,
            },
            disk: None,
            warnings: Vec::new(),
        };
        report.warnings = report.find_warnings();
        report
    }
}

fn remove(node: &mut Node, clock: Clock, member: &str) -> Result<Change, Answer> {
    let id = resolve(node, member)?;
    let removed = node.change_members(clock, MemberChange::Remove { node: id });
    removed.map_err(|error| not_changed(node, error))?;
    Ok(Change::Removed(id))
}

fn transfer(node: &mut Node, clock: Clock, member: &str) -> Result<Change, Answer> {
    let id = resolve(node, member)?;
    match node.transfer(clock, id) {
        Ok(()) => Ok(Change::Handed(id)),
        Err(TransferError::NotMaster) => Err(not_master(node)),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// The member of this id or address.
fn resolve(node: &Node, name: &str) -> Result<u64, Answer> {
    let is_it = |(&id, member): (&u64, &crate::storage::Member)| {
        let addresses = [member.addresses.peer, member.addresses.client];
        name_of(id) == name || addresses.iter().flatten().any(|address| address.to_string() == name)
    };
    let mut found = node.members().members.iter().filter(|member| is_it(*member));
    match (found.next(), found.next()) {
        (Some((&id, _)), None) => Ok(id),
        (Some(_), Some(_)) => Err(refuse(format!("'{name}' is the address of two members; give an id"))),
        (None, _) => {
            let member = |(id, member): (&u64, &crate::storage::Member)| match member.addresses.peer {
                Some(address) => format!("{} at {address}", name_of(*id)),
                None => name_of(*id),
            };
            let members: Vec<_> = node.members().members.iter().map(member).collect();
            let members = members.join(", ");
            Err(refuse(format!("'{name}' is no member's id or address; the members are {members}")))
        }
    }
}

fn not_changed(node: &Node, error: ChangeError) -> Answer {
    match error {
        ChangeError::NotMaster => not_master(node),
        ChangeError::UnderWay | ChangeError::Busy => Answer::Refused { why: error.to_string(), again: true },
        error => refuse(error.to_string()),
    }
}

/// Where to ask instead.
pub(super) fn not_master(node: &Node) -> Answer {
    let master = node.status().replica.leader.and_then(|id| Some((id, node.members().members.get(&id)?)));
    let Some((id, member)) = master else {
        let why = "no master is known now; try again in a moment, and see 'cld status'";
        return Answer::Refused { why: why.to_owned(), again: true };
    };
    let place = member.addresses.peer.map_or_else(String::new, |address| format!(" at {address}"));
    refuse(format!(
        "this server is not the master: run the command on the master, server {}{place}",
        name_of(id)
    ))
}

pub(super) const fn refuse(why: String) -> Answer {
    Answer::Refused { why, again: false }
}

/// Whoever asked may be gone.
pub(super) fn tell(reply: oneshot::Sender<Reply>, answer: Reply) {
    let _ = reply.send(answer);
}
