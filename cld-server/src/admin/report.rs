//! How things are with a server and its cell, as `cld status` tells it.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::versions::Versions;

/// A server's id as people see it.
pub(crate) fn name_of(node: u64) -> String {
    format!("{node:016x}")
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The program's version.
    pub(crate) version: String,
    /// The cell's id.
    pub(crate) cell: String,
    /// The version of the cell, as far as this server has applied the log.
    pub(crate) cell_version: u32,
    /// This server's id.
    pub(crate) server: String,
    /// What it is.
    pub(crate) role: Role,
    /// The master's id, if it is known.
    pub(crate) master: Option<String>,
    /// How often a server has become master.
    pub(crate) epoch: u64,
    /// The term of the consensus engine.
    pub(crate) term: u64,
    /// For how many more milliseconds this server may answer reads without asking the others; none without a lease.
    pub(crate) lease_ms: Option<u64>,
    /// All members, in the order of their ids.
    pub(crate) members: Vec<Member>,
    /// What there is.
    pub(crate) totals: Totals,
    /// Places in the log.
    pub(crate) log: Log,
    /// The data directory.
    pub(crate) disk: Option<Disk>,
    /// What an operator should look at, in words.
    pub(crate) warnings: Vec<String>,
}

/// What a server is in its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// The master, which serves.
    Master,
    /// Elected, and about to serve.
    Beginning,
    /// Takes the log from the master.
    Follower,
    /// Asks to be elected.
    Candidate,
    /// Waits to be added to the cell.
    Waiting,
    /// Is no member of the cell any more.
    Removed,
    /// Its state is not that of a majority, and it is about to stop.
    Diverged,
}

impl Display for Role {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Master => "master",
            Self::Beginning => "beginning to serve",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Waiting => "waits to be added",
            Self::Removed => "removed",
            Self::Diverged => "stops, its state is wrong",
        })
    }
}

/// A member of the cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Its id.
    pub(crate) server: String,
    /// Whether it votes; a newcomer does once it has caught up.
    pub(crate) votes: bool,
    /// Where the other servers reach it.
    pub(crate) peer: Option<SocketAddr>,
    /// Where clients reach it.
    pub(crate) client: Option<SocketAddr>,
    /// Whether it is this server.
    pub(crate) here: bool,
    /// Whether there is a link to it from here.
    pub(crate) linked: Option<bool>,
    /// How many links to it there have been since the start.
    pub(crate) links: Option<u64>,
    /// Which versions of the cell it can apply, while it is linked.
    pub(crate) can_apply: Option<Versions>,
    /// What is wrong with the link.
    pub(crate) trouble: Option<String>,
    /// Whether the master has heard of it lately. Only the master knows.
    pub(crate) alive: Option<bool>,
    /// How many entries of the log it lacks. Only the master knows.
    pub(crate) lag: Option<u64>,
    /// Whether it is being sent a snapshot. Only the master knows.
    pub(crate) snapshot: Option<bool>,
}

/// What there is, as far as this server has applied the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) sessions: u64,
    pub(crate) handles: u64,
    pub(crate) inodes: u64,
    pub(crate) data: u64,
    pub(crate) claims: u64,
}

/// Places in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Log {
    /// The first entry that is kept.
    pub(crate) first: u64,
    /// The last entry.
    pub(crate) last: u64,
    /// The last one that is known to be committed.
    pub(crate) commit: u64,
    /// The last one that was applied.
    pub(crate) applied: u64,
    /// The checksum of the state as of that: the same on every server that has applied as much.
    pub(crate) digest: String,
    /// The last one behind which a majority was found to have the same state, since the start.
    pub(crate) confirmed: Option<u64>,
    /// The last snapshot taken since the start.
    pub(crate) snapshot: Option<u64>,
}

/// The data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disk {
    /// Bytes in its files.
    pub(crate) used: u64,
    /// Bytes that are free on its file system.
    pub(crate) free: u64,
}

impl Display for Report {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Totals { sessions, handles, inodes, data, claims } = &self.totals;
        let Log { first, last, commit, applied, digest, confirmed, snapshot } = &self.log;
        writeln!(out, "server    {} of cell {}, cld {}", self.server, self.cell, self.version)?;
        writeln!(out, "role      {}", self.role)?;
        writeln!(out, "master    {}", self.master.as_deref().unwrap_or("not known"))?;
        writeln!(out, "epoch     {}, term {}", self.epoch, self.term)?;
        writeln!(out, "version   {} of the cell", self.cell_version)?;
        match self.lease_ms {
            Some(left) => writeln!(out, "lease     {left} ms left")?,
            None => writeln!(out, "lease     none")?,
        }
        writeln!(out, "sessions  {sessions}, with {handles} handles; {claims} locks held or waited for")?;
        writeln!(out, "files     {inodes}, {data} bytes")?;
        writeln!(out, "log       {first} to {last}, committed {commit}, applied {applied}")?;
        match confirmed {
            Some(index) => writeln!(out, "digest    {digest}, the same on a majority at {index}")?,
            None => writeln!(out, "digest    {digest}, not compared since the start")?,
        }
        match snapshot {
            Some(index) => writeln!(out, "snapshot  at {index}")?,
            None => writeln!(out, "snapshot  none since the start")?,
        }
        if let Some(Disk { used, free }) = &self.disk {
            writeln!(out, "disk      {used} bytes used, {free} free")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning   {warning}")?;
        }
        self.members(out)
    }
}

impl Report {
    /// The members as a table.
    pub(crate) fn members(&self, out: &mut impl fmt::Write) -> fmt::Result {
        writeln!(
            out,
            "{:<16}  {:<8}  {:<21}  {:<21}  {:<8}  {:<8}  lag",
            "member", "votes", "for servers", "for clients", "link", "versions"
        )?;
        for member in &self.members {
            let address = |address: Option<SocketAddr>| address.map_or("-".to_owned(), |at| at.to_string());
            let link = match (member.here, member.linked) {
                (true, _) => "here",
                (false, Some(true)) => "up",
                (false, Some(false)) => "down",
                (false, None) => "-",
            };
            let lag = match (member.lag, member.alive, member.snapshot) {
                (Some(lag), Some(false), _) => format!("{lag}, silent"),
                (Some(lag), _, Some(true)) => format!("{lag}, is sent a snapshot"),
                (Some(lag), ..) => lag.to_string(),
                (None, ..) => "-".to_owned(),
            };
            let votes = if member.votes { "yes" } else { "not yet" };
            let (peer, client) = (address(member.peer), address(member.client));
            let can = member.can_apply.map_or("-".to_owned(), |can| can.to_string());
            writeln!(
                out,
                "{:<16}  {votes:<8}  {peer:<21}  {client:<21}  {link:<8}  {can:<8}  {lag}",
                member.server
            )?;
            if let Some(trouble) = &member.trouble {
                writeln!(out, "    {trouble}")?;
            }
        }
        Ok(())
    }
}
