//! The servers that a program names: `host`, `host:port`, `[address]:port`, and several of them with commas between.

use core::ffi::c_int;
use std::net::{Ipv6Addr, SocketAddr};

use super::errors::{EINVAL, Failure, NO_HOST};

/// How many addresses a session takes.
const MAX_SERVERS: usize = 8;

/// The addresses of these hosts.
///
/// # Errors
/// `EINVAL` for what is no list of hosts or no port, and what stands for an unknown host if none is known.
pub(super) fn resolve(hosts: &[u8], port: c_int) -> Result<Vec<SocketAddr>, Failure> {
    let hosts = std::str::from_utf8(hosts).map_err(|_| Failure(EINVAL))?;
    let port = u16::try_from(port).map_err(|_| Failure(EINVAL))?;
    let mut servers = Vec::new();
    for host in hosts.split(',').map(|host| with_port(host.trim(), port)) {
        if host.ends_with(":0") {
            return Err(Failure(EINVAL));
        }
        servers.extend(cldc_udp::resolve(&host).unwrap_or_default());
    }
    servers.truncate(MAX_SERVERS);
    if servers.is_empty() { Err(Failure(NO_HOST)) } else { Ok(servers) }
}

/// As the system's resolver takes it.
fn with_port(host: &str, port: u16) -> String {
    if host.parse::<Ipv6Addr>().is_ok() {
        return format!("[{host}]:{port}");
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(hosts: &str, port: c_int) -> Result<Vec<String>, Failure> {
        resolve(hosts.as_bytes(), port).map(|servers| servers.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_host_may_have_a_port_of_its_own() {
        let all = resolved("127.0.0.1,127.0.0.2:5, [::1]:6,::1", 7).unwrap();
        assert_eq!(all, ["127.0.0.1:7", "127.0.0.2:5", "[::1]:6", "[::1]:7"]);
    }

    #[test]
    fn what_names_no_server_is_refused() {
        for (hosts, port) in [("127.0.0.1", 0), ("127.0.0.1", -1), ("127.0.0.1", 65_536), ("127.0.0.1:0", 7)]
        {
            assert_eq!(resolved(hosts, port), Err(Failure(EINVAL)), "{hosts} {port}");
        }
        assert_eq!(resolved("", 7), Err(Failure(NO_HOST)));
        assert_eq!(resolve(b"\xff", 7), Err(Failure(EINVAL)));
    }
}
