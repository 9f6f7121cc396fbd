//! Going into the background.
//!
//! `fork` without `exec` cannot be had without unsafe code, so the program runs itself again, with the same arguments
//! and a mark in the environment. The new process starts a session of its own and becomes the server; the first one
//! waits until the server says on a pipe, which is its standard output, that it serves. Then it ends with status 0; if
//! the server ends before, with the server's status. What the server has to say meanwhile goes to standard error,
//! which both share. The working directory stays, so relative paths mean what they meant.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, Stdio};

/// The variable that marks the server's process: the number of the process that started it. A process that merely
/// inherited the variable has another parent.
const MARK: &str = "CLD_DETACHED_FROM";

const READY: &[u8] = b"ready\n";

/// Whether this process is to be the server in the background.
pub(super) fn is_child() -> bool {
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    std::env::var(MARK).ok().is_some_and(|mark| Some(mark) == parent)
}

/// Starts the server's process and waits until it serves or has failed. Returns the status to exit with.
pub(super) fn respawn() -> io::Result<ExitCode> {
    let mut server = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = Vec::new();
    if let Some(pipe) = server.stdout.take() {
        pipe.take(READY.len() as u64).read_to_end(&mut said)?;
    }
    if said == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let status = server.wait()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|&code| code != 0);
    if code.is_none() {
        return Err(io::Error::other(format!("the server's process ended before it served ({status})")));
    }
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Makes this process independent of the terminal that it was started from.
pub(super) fn leave_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Tells the process that waits in [`respawn`] that the server serves, and lets go of its output.
pub(super) fn report_ready(keep_stderr: bool) {
    // If that process is gone, nobody waits.
    let _ = io::stdout().write_all(READY).and_then(|()| io::stdout().flush());
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        // The server writes nothing there from now on; that it still could is no reason to stop.
        let _ = rustix::stdio::dup2_stdout(&null);
        if !keep_stderr {
            let _ = rustix::stdio::dup2_stderr(&null);
        }
    }
}
