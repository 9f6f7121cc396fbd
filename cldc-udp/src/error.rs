//! Why a call failed.

use std::io;

use cldc_core::session::{CallError, ConfigError};
use cldc_core::wire::Code;

/// Why a call failed, in words that a person can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused the request.
    #[error("the server refused: {0}")]
    Server(Code),
    /// The call's deadline passed. A request that had been sent may still be executed.
    #[error("the deadline passed while {doing}")]
    Timeout {
        /// What was being done, as in "opening a file".
        doing: &'static str,
    },
    /// The server gave the session up, or was silent for the lease and its grace period. Files and locks of the
    /// session are gone; whether a request without an answer has been executed is not known.
    #[error("the session is lost: the server has given it up, or was silent for too long")]
    SessionLost,
    /// The client has been closed, or what ran it has ended (for an async client, its tokio runtime).
    #[error("the client is closed")]
    Closed,
    /// A socket or a thread cannot be had.
    #[error("cannot use the network: {0}")]
    Io(#[from] io::Error),
    /// The options cannot be used.
    #[error("bad options: {0}")]
    Config(#[from] ConfigError),
    /// The server, or the session as it was agreed with it, has no sequencers.
    #[error(
        "not supported by this server: it knows no sequencers (Hail's servers do not, nor do plain sessions)"
    )]
    Unsupported,
    /// The request cannot be sent as it is, or a limit of the session is reached.
    #[error("cannot be asked: {0}")]
    Call(CallError),
    /// The answer does not fit the request, or a directory's list does not decode: a defect of the server.
    #[error("the server's answer makes no sense")]
    BadAnswer,
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Ended => Self::Closed,
            CallError::Unsupported => Self::Unsupported,
            other => Self::Call(other),
        }
    }
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;
