//! A session of `cldc.h`: the core's session in memory of C, with the callbacks of C.
//!
//! Each function of C checks its pointers ([`entry`]), changes the session ([`open`], [`requests`], [`datagrams`]), and
//! then lets it tell and send what follows ([`turn`]). No reference to the session lives while C's callbacks run: they
//! may come back with calls of their own.

#![expect(unsafe_code, reason = "calls functions of C")]

mod datagrams;
mod entry;
mod open;
mod reply;
mod requests;
mod turn;

#[cfg(feature = "std")]
pub(crate) use datagrams::cldc_receive_pkt;
#[cfg(feature = "std")]
pub(crate) use open::Opening;

use core::ffi::{CStr, c_void};

use cldc_core::session::{CallError, Handle, RequestId, rx_bytes, tx_bytes};
use cldc_core::time::Instant;

use crate::address::Addresses;
use crate::types::{CallOpts, DoneFn, Env, Errno, Ops};

/// How many requests may be on their way, and how many files open.
#[cfg(not(feature = "large"))]
const REQUESTS: usize = 2;
#[cfg(not(feature = "large"))]
const HANDLES: usize = 4;
#[cfg(feature = "large")]
const REQUESTS: usize = 64;
#[cfg(feature = "large")]
const HANDLES: usize = 256;

/// For small devices: the core's `SmallSession`.
#[cfg(not(feature = "large"))]
type Core = cldc_core::session::Session<{ rx_bytes(1024) }, { tx_bytes(1024, 2) }, REQUESTS, HANDLES, 0>;
/// For programs: the longest files.
#[cfg(feature = "large")]
type Core =
    cldc_core::session::Session<{ rx_bytes(131_072) }, { tx_bytes(131_072, 2) }, REQUESTS, HANDLES, 32>;

/// `CLDC_BARE_SESSION_SIZE`, which programs reserve.
#[cfg(all(not(feature = "large"), target_pointer_width = "64"))]
const _: () = assert!(size_of::<Session>() <= 6144, "raise CLDC_BARE_SESSION_SIZE in cldc.h");

/// Begins a session that lives.
const ALIVE: u32 = 0x434c_4443;

/// A request's callback, with what it is given.
#[derive(Clone, Copy, Debug)]
struct Callback {
    cb: DoneFn,
    private: *mut c_void,
}

impl Callback {
    /// What `copts` asks for; null asks for nothing.
    fn of(copts: *const CallOpts) -> Option<Self> {
        let copts = crate::pointers::read(copts)?;
        Some(Self { cb: copts.cb?, private: copts.private })
    }
}

/// A request on its way.
#[derive(Debug)]
struct Pending {
    request: RequestId,
    callback: Option<Callback>,
}

/// What stands behind a `struct cldc_fh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    Free,
    Opening(RequestId),
    Open(Handle),
}

/// `struct cldc_fh`: one place in the table of its session.
#[derive(Debug)]
pub(crate) struct File {
    session: *mut Session,
    state: FileState,
}

impl File {
    const FREE: Self = Self { session: core::ptr::null_mut(), state: FileState::Free };
}

/// Where the session is in its life, as far as C is concerned.
#[derive(Debug)]
enum Stage {
    /// It is being opened, until the time is over.
    Opening {
        callback: Option<Callback>,
        until: Instant,
    },
    Open,
    /// It is being ended.
    Ending {
        callback: Option<Callback>,
    },
    Over,
    /// It was not opened in time: the core would go on trying.
    GivenUp,
}

/// `struct cldc_session`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Session {
    /// [`ALIVE`] until it is killed.
    magic: u32,
    /// A call is running that will let the session tell and send.
    busy: bool,
    /// The library has allocated the memory, and frees it.
    #[cfg(feature = "std")]
    owned: bool,
    tell_lease: bool,
    /// The loss of the session is to be told.
    failed_untold: bool,
    ops: Ops,
    env: Env,
    private: *mut c_void,
    addresses: Addresses,
    stage: Stage,
    /// For when C's timer is set.
    armed: Option<Instant>,
    calls: heapless::Vec<Pending, REQUESTS>,
    files: [File; HANDLES],
    core: Core,
}

impl Session {
    #[inline(never)]
    fn now(&self) -> Instant {
        // SAFETY: C gave this function for this purpose, and with it what it is called with.
        let micros = self.env.now_us.map_or(0, |now_us| unsafe { now_us(self.private) });
        Instant::from_micros(micros)
    }

    fn log(&self, line: &CStr) {
        const WARNING: core::ffi::c_int = 4;
        if let Some(log) = self.env.log {
            // SAFETY: as for `now_us`; the line is static.
            unsafe { log(self.private, WARNING, line.as_ptr()) }
        }
    }

    const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over | Stage::GivenUp)
    }

    /// When something is due, if nothing happens before.
    fn next_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Over | Stage::GivenUp => None,
            Stage::Opening { until, .. } => Some(self.core.poll_timeout().map_or(until, |at| at.min(until))),
            Stage::Open | Stage::Ending { .. } => self.core.poll_timeout(),
        }
    }
}

/// Why the core has not taken a call, for C.
fn refused(error: CallError) -> Errno {
    match error {
        CallError::Ended => Errno::Pipe,
        CallError::Busy => Errno::Again,
        CallError::TooManyHandles => Errno::MFile,
        CallError::Unsupported => Errno::OpNotSupp,
        CallError::TooLarge => Errno::MsgSize,
        _ => Errno::Inval,
    }
}
