//! A cell of real servers on loopback, made by the commands that an operator runs.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;

use serde_json::Value;

use super::problem;
use super::stage::{Stage, await_that};
use crate::failure::Failure;

/// A server of the cell.
pub(super) struct Server {
    /// Its name on the stage.
    pub(super) name: String,
    /// Where clients reach it.
    pub(super) client: SocketAddr,
    /// Where the other servers do.
    peer: SocketAddr,
}

/// Who serves the cell.
pub(super) struct Master<'a> {
    pub(super) server: &'a Server,
    /// How often a server of the cell had become master then.
    pub(super) epoch: u64,
    /// How many locks are held or waited for.
    pub(super) claims: u64,
}

/// The servers, of which any may be killed and started again.
pub(super) struct Cell<'a> {
    stage: &'a Stage,
    secret: PathBuf,
    pub(super) servers: Vec<Server>,
}

impl<'a> Cell<'a> {
    /// Finds addresses for so many servers; makes and starts none.
    pub(super) fn plan(stage: &'a Stage, servers: usize) -> Result<Self, Failure> {
        let servers = free_addresses(servers).map_err(problem("finding free ports"))?;
        Ok(Self { stage, secret: stage.folder().join("secret"), servers })
    }

    /// Makes the server, starts it, and waits until it votes: the first makes the cell, the others are added to it.
    /// Gives its process id.
    pub(super) fn join(&self, server: &Server) -> Result<u32, Failure> {
        let action = if self.secret.exists() { "prepare" } else { "init" };
        let (peer, client) = (server.peer.to_string(), server.client.to_string());
        let token = self.stage.ask(
            &server.name,
            &[
                "cell".as_ref(),
                action.as_ref(),
                "--peer".as_ref(),
                peer.as_ref(),
                "--client".as_ref(),
                client.as_ref(),
                "--cell-secret".as_ref(),
                self.secret.as_ref(),
            ],
        )?;
        let pid = self.start(server)?;
        if action == "prepare" {
            let master = self.master()?.server;
            self.stage.ask(&master.name, &["member".as_ref(), "add".as_ref(), token.as_ref()])?;
        }
        await_that(&format!("{} votes", server.name), || Ok(self.votes(server).then_some(())))?;
        Ok(pid)
    }

    /// Starts a server that has been made; gives its process id.
    pub(super) fn start(&self, server: &Server) -> Result<u32, Failure> {
        let peer = server.peer.to_string();
        let options: [&OsStr; 4] =
            ["--peer".as_ref(), peer.as_ref(), "--cell-secret".as_ref(), self.secret.as_ref()];
        self.stage.start(&server.name, Some(server.client.port()), &options).map(|(pid, _)| pid)
    }

    /// The server that says that it is the master, once one does. Each is asked, as by `cld status`.
    pub(super) fn master(&self) -> Result<Master<'_>, Failure> {
        await_that("a server is the master", || Ok(self.find_master().map(|(master, _)| master)))
    }

    fn find_master(&self) -> Option<(Master<'_>, Value)> {
        let masters = self.servers.iter().filter_map(|server| {
            // One that does not run says nothing.
            let said = self.stage.ask(&server.name, &["status".as_ref(), "--json".as_ref()]).ok()?;
            let status: Value = serde_json::from_str(&said).ok()?;
            (status.get("role")? == "master").then_some(())?;
            let epoch = status.get("epoch")?.as_u64()?;
            let claims = status.get("totals")?.get("claims")?.as_u64()?;
            Some((Master { server, epoch, claims }, status))
        });
        masters.max_by_key(|(master, _)| master.epoch)
    }

    fn votes(&self, server: &Server) -> bool {
        let client = server.client.to_string();
        self.find_master().is_some_and(|(_, status)| {
            let members = status.get("members").and_then(Value::as_array);
            members.into_iter().flatten().any(|member| {
                member.get("client").and_then(Value::as_str) == Some(&client)
                    && member.get("votes").and_then(Value::as_bool) == Some(true)
            })
        })
    }
}

/// Addresses that nobody has at the moment. All are held until the last is found, so no two are the same.
fn free_addresses(servers: usize) -> io::Result<Vec<Server>> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let held: Vec<_> = (0..servers)
        .map(|_| Ok((UdpSocket::bind(any)?, TcpListener::bind(any)?)))
        .collect::<io::Result<_>>()?;
    let server = |(place, (client, peer)): (usize, &(UdpSocket, TcpListener))| {
        let name = format!("server{}", place + 1);
        Ok(Server { name, client: client.local_addr()?, peer: peer.local_addr()? })
    };
    held.iter().enumerate().map(server).collect()
}
