//! A server for an example: this program again, as a process of its own, with a folder of its own.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Any user: the server takes each name as its key, which is good enough on a loopback for a few seconds.
pub(crate) const USER: &str = "example";

/// Stands first on the command line of a process that is to be the server.
const SERVE: &str = "serve-for-example";

/// How long the server may take to begin.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server; killed when this is dropped.
pub(crate) struct Cell {
    process: Child,
    /// Removed after the process has ended.
    folder: TempDir,
    address: SocketAddr,
}

/// Is the server, if the arguments say so. It ends when its standard input does: with the example, however that ends.
pub(crate) fn serve(args: &[OsString]) -> Option<ExitCode> {
    let (name, rest) = args.split_first()?;
    let (_, rest) = rest.split_first().filter(|(first, _)| *first == SERVE)?;
    thread::spawn(|| {
        // There is nothing to read; an error is an end as well.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    Some(cld_server::run([name].into_iter().chain(rest).cloned()))
}

impl Cell {
    /// Starts it on a free port of the loopback.
    pub(crate) fn start() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("cld-example-").tempdir()?;
        let port_file = folder.path().join("port");
        let process = Command::new(std::env::current_exe()?)
            .args([SERVE, "--foreground", "--stderr", "--bind", "127.0.0.1", "--config", "/dev/null"])
            .args(["--port", "auto", "--insecure-user-as-key", "--port-file"])
            .arg(&port_file)
            .arg("--data")
            .arg(folder.path().join("data"))
            .env_remove("NOTIFY_SOCKET")
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log"))?)
            .spawn()?;
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let mut cell = Self { process, folder, address };
        let begun = Instant::now();
        loop {
            let written = fs::read_to_string(&port_file).ok();
            if let Some(port) = written.and_then(|text| text.strip_suffix('\n')?.parse().ok()) {
                cell.address.set_port(port);
                return Ok(cell);
            }
            if cell.process.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(cell.folder.path().join("log")).unwrap_or_default();
                return Err(io::Error::other(format!("the server has not begun; its log:\n{log}")));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
