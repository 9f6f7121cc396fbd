//! Why a command failed: in words, as Hail's number, as an exit status.

use std::io;

use cldc_udp::{CallError, Code, Error};
use serde::Serialize;
use thiserror::Error;

use crate::status::Status;

/// Hail's number for a host that has no address.
const NO_HOST: i32 = 1023;
/// What Hail's `cldcli` adds to a server's code.
const SERVER: i32 = 1100;
/// Numbers of the system that Hail's client library gives, the same on all systems that matter here.
const EIO: i32 = 5;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;

/// Why a command failed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// It is no command, or lacks an argument.
    #[error("{0}")]
    Usage(String),
    /// It makes no sense now.
    #[error("{0}")]
    Refused(String),
    /// The client library, or the server, says so.
    #[error("{doing}: {}", words(.error))]
    Call { doing: String, error: Error },
    /// A file of this machine.
    #[error("{doing}: {error}")]
    Local { doing: String, error: io::Error },
    /// Standard output.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// There is no session to work in.
    #[error("cannot open CLD session: {0}")]
    NoSession(#[from] NoSession),
    /// The lock could not be had.
    #[error("cannot have the lock of {path}: {}", words(.error))]
    NoLock { path: String, error: Error },
    /// The lock is not certain any more.
    #[error("the lock of {0} is lost, or its lease about to end: the command has been killed")]
    LockLost(String),
    /// The command under the lock did not start.
    #[error("cannot run {command}: {error}")]
    Spawn { command: String, error: io::Error },
    /// The demonstration did not show what it claims.
    #[cfg(feature = "demo")]
    #[error("demo: {0}")]
    Demo(String),
}

/// Why there is no session.
#[derive(Debug, Error)]
pub(crate) enum NoSession {
    #[error(
        "no server is named. Give one with -h HOST:PORT, or several in CLD_SERVERS, such as \
         CLD_SERVERS=cld1.example.com:8081,cld2.example.com:8081. Looking servers up in DNS (SRV records) is not \
         built in yet"
    )]
    NoServer,
    #[error("CLD_SERVERS: '{host}': {problem}")]
    Servers { host: String, problem: String },
    #[error("{NO_HOST}: {host}: {problem}")]
    Host { host: String, problem: String },
    #[error("key file {file}: {problem}")]
    KeyFile { file: String, problem: String },
    #[error("{}", words(.0))]
    Connect(#[from] Error),
}

impl Failure {
    pub(crate) fn call(doing: impl Into<String>) -> impl FnOnce(Error) -> Self {
        let doing = doing.into();
        |error| Self::Call { doing, error }
    }

    pub(crate) fn local(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |error| Self::Local { doing, error }
    }

    /// Whether the reader of standard output has gone away: no reason to say anything.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit status of a program that ends for this reason.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Usage(_) | Self::Refused(_) => Status::Usage,
            Self::Call { error, .. } => status(error),
            Self::Output(_) if self.is_broken_pipe() => Status::Signal(signal_hook::consts::SIGPIPE as u8),
            Self::Local { .. } | Self::Output(_) => Status::LocalFile,
            Self::NoSession(_) => Status::NoSession,
            Self::NoLock { .. } => Status::NoLock,
            Self::LockLost(_) => Status::LockLost,
            Self::Spawn { error, .. } if error.kind() == io::ErrorKind::NotFound => Status::NoCommand,
            Self::Spawn { .. } => Status::NotExecutable,
            #[cfg(feature = "demo")]
            Self::Demo(_) => Status::Defect,
        }
    }

    /// As it is shown to a person. Hail's messages for a line that is no command have no name before them.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Usage(text) => text.clone(),
            other => format!("cldcli: {other}"),
        }
    }

    /// As it is shown to a program.
    pub(crate) fn json(&self) -> String {
        let error = match self {
            Self::Call { error, .. }
            | Self::NoLock { error, .. }
            | Self::NoSession(NoSession::Connect(error)) => Some(error),
            _ => None,
        };
        let code = error.and_then(code);
        let details = Details {
            message: self.to_string(),
            code: code.map(Code::to_wire),
            name: code.map(Code::name),
            number: error.map(number),
            status: self.status().number(),
        };
        serde_json::to_string(&Report { error: details }).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Report<'a> {
    error: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<i32>,
    status: u8,
}

/// The code that stands for an error, if there is one.
fn code(error: &Error) -> Option<Code> {
    match error {
        Error::Server(code) => Some(*code),
        Error::Timeout { .. } | Error::SessionLost => Some(Code::Timeout),
        Error::Unsupported => Some(Code::Unsupported),
        _ => None,
    }
}

/// The number that Hail's `cldcli` shows: 1100 and the code, or a number of the system below 1000.
fn number(error: &Error) -> i32 {
    match error {
        Error::Io(error) => error.raw_os_error().unwrap_or(EIO),
        Error::Closed | Error::Call(CallError::Busy | CallError::TooManyHandles) => EBUSY,
        Error::Call(_) | Error::Config(_) => EINVAL,
        other => code(other).map_or(EIO, |code| SERVER.saturating_add(code.to_wire())),
    }
}

/// The number and what it means.
fn words(error: &Error) -> String {
    let number = number(error);
    match error {
        Error::Server(code) => match advice(*code) {
            Some(advice) => format!("{number}: {code}: {advice}"),
            None => format!("{number}: {code}"),
        },
        other => match code(other) {
            Some(code) => format!("{number}: {other} ({})", code.name()),
            None => format!("{number}: {other}"),
        },
    }
}

/// What a code means in practice, where its words do not say it.
fn advice(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::NameInval => "no such file, or a path that cannot be",
        Code::InodeInval | Code::FhInval => "the file has been deleted meanwhile",
        Code::ModeInval => "a directory where a file is needed, or a file where a directory is needed",
        Code::DbErr => "the server's log says why; Hail's server says so of a missing parent directory too",
        Code::Stale => "its lock has been released or has gone to another holder, and nothing was changed",
        Code::TooLarge => "a file holds 131072 bytes at most",
        _ => return None,
    })
}

fn status(error: &Error) -> Status {
    match error {
        Error::Server(code) => server_status(*code),
        Error::Timeout { .. } => Status::Deadline,
        Error::SessionLost | Error::Closed => Status::SessionLost,
        Error::Call(CallError::Path) => Status::NotFound,
        Error::Call(CallError::TooLarge) => Status::Unfit,
        Error::Call(_) | Error::Io(_) => Status::Unavailable,
        Error::Unsupported => Status::Unavailable,
        Error::Config(_) => Status::Usage,
        _ => Status::Defect,
    }
}

fn server_status(code: Code) -> Status {
    match code {
        Code::NameInval | Code::InodeInval | Code::FhInval => Status::NotFound,
        Code::ModeInval | Code::InodeExists | Code::DirNotEmpty | Code::TooLarge => Status::Unfit,
        Code::LockConflict | Code::LockPending | Code::LockInval => Status::NoLock,
        Code::Stale => Status::Stale,
        Code::DbErr | Code::Oom | Code::InternalErr | Code::Limit | Code::Unsupported => Status::Unavailable,
        Code::SessInval | Code::SigInval | Code::Timeout => Status::SessionLost,
        _ => Status::Defect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: Code) -> Failure {
        Failure::call("cannot open path `/x'")(Error::Server(code))
    }

    #[test]
    fn a_message_has_hails_number_the_words_and_the_name_of_the_code() {
        assert_eq!(
            refused(Code::NameInval).line(),
            "cldcli: cannot open path `/x': 1106: Invalid file name (NAME_INVAL): no such file, or a path that \
             cannot be"
        );
        let late = Failure::call("rm(x) failed")(Error::Timeout { doing: "removing a file" });
        assert_eq!(
            late.line(),
            "cldcli: rm(x) failed: 1117: the deadline passed while removing a file (TIMEOUT)"
        );
        let early = Failure::call("rm(x) failed")(Error::Call(CallError::Path));
        assert!(early.line().starts_with("cldcli: rm(x) failed: 22: "), "{}", early.line());
    }

    #[test]
    fn every_code_has_an_exit_status_that_is_in_the_table() {
        for &code in Code::ALL {
            let number = refused(code).status().number().to_string();
            assert!(crate::status::TABLE.iter().any(|(listed, _)| *listed == number), "{code}: {number}");
        }
        assert_eq!(refused(Code::NameInval).status(), Status::NotFound);
        assert_eq!(refused(Code::DirNotEmpty).status(), Status::Unfit);
        assert_eq!(refused(Code::Limit).status(), Status::Unavailable);
        assert_eq!(refused(Code::Stale).status(), Status::Stale);
        let plain = Failure::call("put")(Error::Unsupported);
        assert_eq!(plain.status(), Status::Unavailable);
        assert!(plain.line().contains("1168: not supported by this server"), "{}", plain.line());
    }

    #[test]
    fn json_tells_code_name_number_and_status() {
        let value: serde_json::Value = serde_json::from_str(&refused(Code::DirNotEmpty).json()).unwrap();
        let error = &value["error"];
        assert_eq!((error["code"].as_i64(), error["number"].as_i64()), (Some(15), Some(1115)));
        assert_eq!((error["name"].as_str(), error["status"].as_i64()), (Some("DIR_NOTEMPTY"), Some(65)));
        let usage = Failure::Usage("INVALID COMMAND: x".into()).json();
        assert_eq!(usage, r#"{"error":{"message":"INVALID COMMAND: x","status":64}}"#);
    }

    #[test]
    fn a_reader_that_went_away_is_a_quiet_end() {
        let gone = Failure::Output(io::ErrorKind::BrokenPipe.into());
        assert!(gone.is_broken_pipe());
        assert_eq!(gone.status().number(), 141);
        assert!(!Failure::Output(io::ErrorKind::StorageFull.into()).is_broken_pipe());
    }
}
