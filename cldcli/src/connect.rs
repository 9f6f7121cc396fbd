//! Opening the session that the options ask for.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cldc_core::session::MAX_SERVERS;
use cldc_udp::blocking::Client;
use cldc_udp::resolve;

use crate::args::{HostPort, Options};
use crate::failure::{Failure, NoSession};
use crate::key_file;
use crate::notes::Notes;

/// The servers, if no option names one.
const SERVERS: &str = "CLD_SERVERS";

/// Opens the session, by the deadline of the options.
pub(crate) fn connect(options: &Options, notes: Notes) -> Result<Client, Failure> {
    let begun = Instant::now();
    let key = match &options.key_file {
        Some(file) => key_file::read(file)?,
        None => options.user.clone().into_bytes(),
    };
    let servers = servers(&hosts(options)?, options.deadline())?;
    notes.tell(1, format_args!("servers: {servers:?}"));
    let left = options.deadline().saturating_sub(begun.elapsed());
    let mut how = cldc_udp::Options::new(options.user.as_str(), key).servers(servers).timeout(left);
    if let Some(lease) = options.lease {
        how = how.lease(lease);
    }
    let client = Client::connect(how).map_err(NoSession::Connect)?;
    if let Some(server) = client.server() {
        let lease = client.terms().lease.as_secs_f64();
        let kind = client.epoch().map_or("plain".into(), |epoch| format!("epoch {epoch}"));
        notes.tell(1, format_args!("session {:016X} with {server}, {kind}, lease {lease} s", client.sid()));
    }
    Ok(client.with_timeout(options.deadline()))
}

fn hosts(options: &Options) -> Result<Vec<HostPort>, NoSession> {
    if !options.hosts.is_empty() {
        return Ok(options.hosts.clone());
    }
    let list = env::var(SERVERS).unwrap_or_default();
    let hosts: Result<Vec<HostPort>, _> = list
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .map(|host| host.parse().map_err(|problem| NoSession::Servers { host: host.into(), problem }))
        .collect();
    hosts.and_then(|hosts| if hosts.is_empty() { Err(NoSession::NoServer) } else { Ok(hosts) })
}

/// The addresses of the hosts. A host that has none does not matter if another one has.
fn servers(hosts: &[HostPort], deadline: Duration) -> Result<Vec<SocketAddr>, NoSession> {
    let begun = Instant::now();
    let (tell, told) = mpsc::channel();
    let mut found: Vec<io::Result<Vec<SocketAddr>>> = hosts
        .iter()
        .map(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from the resolver")))
        .collect();
    for (index, HostPort(host)) in hosts.iter().cloned().enumerate() {
        let tell = tell.clone();
        // The system's resolver knows no deadline: one that is late is left behind.
        let look_up = move || drop(tell.send((index, resolve(&host))));
        thread::Builder::new().name("resolver".into()).spawn(look_up).map_err(cldc_udp::Error::Io)?;
    }
    drop(tell);
    while let Ok((index, addresses)) = told.recv_timeout(deadline.saturating_sub(begun.elapsed())) {
        if let Some(slot) = found.get_mut(index) {
            *slot = addresses;
        }
    }
    let (addresses, mut errors) = (found.iter().flatten(), hosts.iter().zip(&found));
    let chosen = choose(&addresses.map(Vec::as_slice).collect::<Vec<_>>());
    match errors.find_map(|(HostPort(host), found)| Some((host, found.as_ref().err()?))) {
        Some((host, error)) if chosen.is_empty() => {
            Err(NoSession::Host { host: host.clone(), problem: error.to_string() })
        }
        _ => Ok(chosen),
    }
}

/// As many addresses as a session takes: the first of each host, then the second ones, and so on.
fn choose(hosts: &[&[SocketAddr]]) -> Vec<SocketAddr> {
    let most = hosts.iter().map(|addresses| addresses.len()).max().unwrap_or(0);
    let mut chosen = Vec::new();
    for address in (0..most).flat_map(|rank| hosts.iter().filter_map(move |addresses| addresses.get(rank))) {
        if !chosen.contains(address) && chosen.len() < MAX_SERVERS {
            chosen.push(*address);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|&port| ([127, 0, 0, 1], port).into()).collect()
    }

    #[test]
    fn every_host_has_its_turn_before_any_has_a_second_one() {
        let hosts = [addresses(&[1, 2, 3]), addresses(&[4]), addresses(&[1, 5, 6, 7, 8, 9])];
        let chosen = choose(&hosts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert_eq!(chosen, addresses(&[1, 4, 2, 5, 3, 6, 7, 8]));
        assert_eq!(choose(&[]), []);
    }

    #[test]
    fn a_host_without_an_address_matters_only_if_there_is_no_other() {
        let host = |text: &str| HostPort(text.into());
        let deadline = Duration::from_secs(10);
        let good = host("127.0.0.1:1");
        // Refused by the parser of addresses before anybody is asked.
        let bad = host("a b:1");
        assert_eq!(servers(&[bad.clone(), good], deadline).unwrap(), addresses(&[1]));
        let error = servers(&[bad], deadline).unwrap_err().to_string();
        assert!(error.starts_with("1023: a b:1: "), "{error}");
    }
}
