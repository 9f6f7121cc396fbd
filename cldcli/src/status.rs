//! The exit statuses, in one place: the help, the manual and the documents have this table.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Done.
    Done,
    /// No session could be opened.
    NoSession,
    /// The command line is wrong.
    Usage,
    /// The file is not of the kind that the command needs, exists already, is not empty, or is too large.
    Unfit,
    /// There is no such file.
    NotFound,
    /// The server has failed, or reached a limit.
    Unavailable,
    /// A server's answer makes no sense, or a defect.
    Defect,
    /// A file on this machine cannot be read or written.
    LocalFile,
    /// The deadline passed.
    Deadline,
    /// The session was lost.
    SessionLost,
    /// The sequencer is stale.
    Stale,
    /// The lock could not be had.
    NoLock,
    /// The lock was lost, or the lease about to end, while the command ran.
    LockLost,
    /// The command under the lock cannot be executed.
    NotExecutable,
    /// The command under the lock does not exist.
    NoCommand,
    /// A signal ended the program, or the command under the lock.
    Signal(u8),
    /// The command under the lock ended so.
    Command(u8),
}

/// All exit statuses and what they say.
pub(crate) const TABLE: &[(&str, &str)] = &[
    ("0", "done; from a script or a terminal also when single commands failed"),
    ("1", "no session could be opened"),
    ("64", "the command line is wrong"),
    ("65", "the file is of another kind, exists already, is not empty, or is too large"),
    ("66", "there is no such file, or the path is malformed"),
    ("69", "the server failed, reached a limit, or has no sequencers"),
    ("70", "an answer of the server made no sense, or the demonstration did not show what it claims"),
    ("74", "a file or stream on this machine cannot be read or written"),
    ("75", "the deadline passed (--timeout)"),
    ("76", "the session was lost"),
    ("121", "the sequencer is stale: its lock is not held any more"),
    ("122", "lock, trylock: the lock could not be had"),
    ("123", "lock, trylock: the lock was lost or its lease about to end; COMMAND has been killed"),
    ("126", "lock, trylock: COMMAND cannot be executed"),
    ("127", "lock, trylock: COMMAND does not exist"),
    ("128+N", "ended by signal N: cldcli, or COMMAND"),
];

impl Status {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NoSession => 1,
            Self::Usage => 64,
            Self::Unfit => 65,
            Self::NotFound => 66,
            Self::Unavailable => 69,
            Self::Defect => 70,
            Self::LocalFile => 74,
            Self::Deadline => 75,
            Self::SessionLost => 76,
            Self::Stale => 121,
            Self::NoLock => 122,
            Self::LockLost => 123,
            Self::NotExecutable => 126,
            Self::NoCommand => 127,
            Self::Signal(signal) => signal.saturating_add(128),
            Self::Command(status) => status,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_have_the_table() {
        let guide = include_str!("../../docs/cldcli.md");
        let manual = include_str!("../../docs/man/cldcli.1").replace("\\-", "-");
        for (number, meaning) in TABLE {
            assert!(
                guide.contains(&format!("\n| {number} | {meaning} |\n")),
                "docs/cldcli.md: {number} {meaning}"
            );
            assert!(manual.contains(&format!("\n.B {number}\n{meaning}\n")), "cldcli.1: {number} {meaning}");
        }
        // And nothing else; one line is the table's head.
        let (_, table) = guide.split_once("## Exit status").unwrap();
        assert_eq!(table.matches("\n| ").count(), TABLE.len() + 1);
    }
}
