//! A syslog client in the form of RFC 3164: facility LOCAL3, as Hail's `cld`. The reader of the socket adds the time.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Where the system's log takes messages.
pub(super) const SOCKET: &str = "/dev/log";

const LOCAL3: u8 = 19;
const ERROR: u8 = 3;
const WARNING: u8 = 4;
const INFO: u8 = 6;
const DEBUG: u8 = 7;

/// The way to the system's log. A line is lost if the log is restarting or does not keep up: the server never waits.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Syslog {
    /// `None` if nobody listens there.
    pub(super) fn open(path: impl Into<PathBuf>) -> Option<Self> {
        let path = path.into();
        let probe = UnixDatagram::unbound().ok()?;
        probe.connect(&path).ok()?;
        // Not connected: each message finds the log again, so it may be restarted.
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self { socket, path })
    }
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { log: self, severity: INFO }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        let severity = match *metadata.level() {
            Level::ERROR => ERROR,
            Level::WARN => WARNING,
            Level::INFO => INFO,
            _ => DEBUG,
        };
        Line { log: self, severity }
    }
}

/// Sends what is written at once as one message.
#[derive(Debug)]
pub(super) struct Line<'a> {
    log: &'a Syslog,
    severity: u8,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut message =
            format!("<{}>cld[{}]: ", LOCAL3 * 8 + self.severity, std::process::id()).into_bytes();
        message.extend_from_slice(line.trim_ascii_end());
        // Lost if it cannot be sent; there is no other place to say so.
        let _ = self.log.socket.send_to(&message, &self.log.path);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_one_message_of_its_severity() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        assert!(Syslog::open(&path).is_none(), "nobody listens yet");
        let reader = UnixDatagram::bind(&path).unwrap();
        let log = tracing_subscriber::fmt()
            .without_time()
            .with_level(false)
            .with_target(false)
            .with_writer(Syslog::open(&path).unwrap())
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::warn!("disk {}", 1);
            tracing::info!("up");
        });
        for (priority, text) in [(19 * 8 + 4, "disk 1"), (19 * 8 + 6, "up")] {
            let mut buffer = [0; 256];
            let length = reader.recv(&mut buffer).unwrap();
            let message = str::from_utf8(&buffer[..length]).unwrap();
            assert_eq!(message, format!("<{priority}>cld[{}]: {text}", std::process::id()));
        }
    }
}
