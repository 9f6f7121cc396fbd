//! A network of hosts, one for each server, on which any host's packets to any other can be made to vanish.
//!
//! Each host is a network namespace of Linux. A router between them, where the test itself runs, forwards packets, or drops
//! those of the pairs that were cut. Nobody needs to be root where users may make namespaces.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;

use crate::server::Options;
use crate::tools;

/// Set in the process that runs within a network of its own.
const WITHIN: &str = "CLD_TEST_WITHIN_NETWORK";

/// How unshare is told to make one.
const WITHIN_OWN: [&str; 5] = ["--user", "--map-root-user", "--net", "--mount", "--"];

/// The hosts. The test reaches all of them, and they reach the test, whatever is cut.
#[derive(Debug)]
pub struct Network {
    hosts: usize,
    /// From which host nothing reaches which other.
    cuts: RefCell<BTreeSet<(usize, usize)>>,
}

impl Network {
    /// Runs the test of this name, of the program that calls this, in another process that has a network with so many hosts.
    /// Where the machine lets nobody make networks it is left out, but for CI.
    ///
    /// # Panics
    /// When the test fails.
    pub fn run(test: &str, hosts: usize, body: impl FnOnce(&Self)) {
        if std::env::var_os(WITHIN).is_some() {
            return body(&Self::make(hosts));
        }
        if !tools::runs("unshare", &[&WITHIN_OWN[..], &["ip", "link", "set", "lo", "up"]].concat()) {
            return;
        }
        let program = std::env::current_exe().expect("the test program has a path");
        let output = Command::new("unshare")
            .args(WITHIN_OWN)
            .arg(program)
            .args(["--exact", test, "--nocapture"])
            .env(WITHIN, "1")
            .output()
            .expect("run unshare of util-linux");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{test} in a network of its own: {said}"
        );
    }

    fn make(hosts: usize) -> Self {
        // The names of namespaces are files there.
        run("mount", "-t tmpfs none /run");
        ip("link set lo up");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("let this namespace be a router");
        for host in 0..hosts {
            let (address, gateway) = (Self::address(host), Ipv4Addr::new(10, 77, octet(host), 1));
            ip(&format!("netns add host{host}"));
            ip(&format!("link add to-host{host} type veth peer name eth netns host{host}"));
            ip(&format!("addr add {gateway}/24 dev to-host{host}"));
            ip(&format!("link set to-host{host} up"));
            ip(&format!("-n host{host} link set lo up"));
            ip(&format!("-n host{host} addr add {address}/24 dev eth"));
            ip(&format!("-n host{host} link set eth up"));
            ip(&format!("-n host{host} route add default via {gateway}"));
        }
        Self { hosts, cuts: RefCell::default() }
    }

    /// How a server is started on a host.
    #[must_use]
    pub fn server(&self, host: usize) -> Options {
        Options::new().launcher(["ip", "netns", "exec", &format!("host{host}")]).host(Self::address(host))
    }

    /// One server for each host.
    #[must_use]
    pub fn servers(&self) -> Vec<Options> {
        (0..self.hosts).map(|host| self.server(host)).collect()
    }

    fn address(host: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, octet(host), 2)
    }

    /// Nothing that one host sends reaches the other any more, until [`Network::heal`].
    pub fn cut(&self, from: usize, to: usize) {
        if self.cuts.borrow_mut().insert((from, to)) {
            rule("add", from, to);
        }
    }

    /// Hosts of different groups do not reach each other any more, until [`Network::heal`].
    pub fn split(&self, groups: &[&[usize]]) {
        for (at, group) in groups.iter().enumerate() {
            let others = groups.iter().enumerate().filter(|(other, _)| *other != at);
            for &to in others.flat_map(|(_, hosts)| *hosts) {
                group.iter().for_each(|&from| self.cut(from, to));
            }
        }
    }

    /// Everything arrives again.
    pub fn heal(&self) {
        for (from, to) in std::mem::take(&mut *self.cuts.borrow_mut()) {
            rule("del", from, to);
        }
    }
}

fn octet(host: usize) -> u8 {
    u8::try_from(host + 1).expect("a network of at most 254 hosts")
}

fn rule(action: &str, from: usize, to: usize) {
    let (from, to) = (Network::address(from), Network::address(to));
    ip(&format!("rule {action} from {from} to {to} blackhole"));
}

fn ip(arguments: &str) {
    run("ip", arguments);
}

fn run(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("run {program} (of iproute2 or util-linux): {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {error}");
}
