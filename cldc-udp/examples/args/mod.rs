//! The command line that the examples share.

use std::env;

use cldc_udp::{Options, resolve};

/// Reads `--server HOST:PORT` (may be repeated), `--user NAME` and `--key SECRET`, or else `CLD_SERVER`, `CLD_USER` and
/// `CLD_KEY` from the environment; gives the options and what else stands on the command line.
pub(crate) fn parse() -> Result<(Options, Vec<String>), String> {
    let (mut servers, mut user, mut key, mut rest) = (Vec::new(), None, None, Vec::new());
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--server" => servers.push(value()?),
            "--user" => user = Some(value()?),
            "--key" => key = Some(value()?),
            _ => rest.push(arg),
        }
    }
    servers.extend(env::var("CLD_SERVER").ok().filter(|_| servers.is_empty()));
    let user = user.or_else(|| env::var("CLD_USER").ok()).ok_or("who? give --user or CLD_USER")?;
    let key = key.or_else(|| env::var("CLD_KEY").ok()).ok_or("which key? give --key or CLD_KEY")?;
    let mut options = Options::new(user, key);
    for server in servers {
        options = options.servers(resolve(&server).map_err(|error| format!("{server}: {error}"))?);
    }
    Ok((options, rest))
}
