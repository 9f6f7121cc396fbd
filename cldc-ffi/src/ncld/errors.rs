//! What went wrong, as the numbers of `ncld.h`.

use core::ffi::c_int;

use cldc_udp::{CallError, Error};

pub(super) const EIO: c_int = 5;
pub(super) const EAGAIN: c_int = 11;
pub(super) const EBUSY: c_int = 16;
pub(super) const EINVAL: c_int = 22;
pub(super) const EMFILE: c_int = 24;
pub(super) const ERANGE: c_int = 34;
pub(super) const EPROTO: c_int = 71;
pub(super) const EOPNOTSUPP: c_int = 95;
pub(super) const ETIMEDOUT: c_int = 110;
/// DNS has no server.
pub(super) const NO_SRV: c_int = 1001;
/// No socket, or no such host.
pub(super) const NO_HOST: c_int = 1023;
/// The server's code is added to this.
pub(super) const SERVER: c_int = 1100;

/// Why a call failed. [`EBUSY`] gets its sign where the call gives an `int`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure(pub(super) c_int);

impl Failure {
    pub(super) const fn server(code: cldc_udp::Code) -> Self {
        Self(SERVER.saturating_add(code.to_wire()))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(code) => Self::server(code),
            Error::Timeout { .. } => Self(ETIMEDOUT),
            Error::SessionLost | Error::Closed => Self(EBUSY),
            Error::Io(_) => Self(NO_HOST),
            Error::Unsupported => Self(EOPNOTSUPP),
            Error::BadAnswer => Self(EPROTO),
            Error::Call(CallError::TooManyHandles) => Self(EMFILE),
            Error::Call(CallError::Busy) => Self(EAGAIN),
            Error::Call(_) | Error::Config(_) => Self(EINVAL),
            _ => Self(EIO),
        }
    }
}

/// The result of a call that gives an `int`.
pub(super) fn status(result: Result<(), Failure>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(Failure(EBUSY)) => -EBUSY,
        Err(Failure(number)) => number,
    }
}
