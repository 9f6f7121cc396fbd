//! What `cldc.h` declares: types, and the numbers of results.

use core::ffi::{c_char, c_int, c_void};

/// A timer's callback.
pub(crate) type TimerFn = unsafe extern "C" fn(*mut crate::session::Session, *mut c_void) -> c_int;

/// A request's callback. The code is an `enum cle_err_codes`.
pub(crate) type DoneFn = unsafe extern "C" fn(*mut CallOpts, c_int) -> c_int;

/// `struct cldc_call_opts`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallOpts {
    pub(crate) cb: Option<DoneFn>,
    pub(crate) private: *mut c_void,
    pub(crate) reply: *const c_void,
    pub(crate) check: usize,
}

/// `struct cldc_node_metadata`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeMetadata {
    pub(crate) inum: i64,
    pub(crate) vers: i64,
    pub(crate) time_create: i64,
    pub(crate) time_modify: i64,
    pub(crate) flags: c_int,
    pub(crate) inode_name: *const c_char,
}

/// `struct cldc_ops`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ops {
    pub(crate) timer_ctl:
        Option<unsafe extern "C" fn(*mut c_void, bool, Option<TimerFn>, *mut c_void, i64) -> bool>,
    pub(crate) pkt_send:
        Option<unsafe extern "C" fn(*mut c_void, *const c_void, usize, *const c_void, usize) -> c_int>,
    pub(crate) event: Option<
        unsafe extern "C" fn(*mut c_void, *mut crate::session::Session, *mut crate::session::File, u32),
    >,
}

/// `CLDC_ENV_VERSION`.
pub(crate) const ENV_VERSION: u32 = 1;

/// `struct cldc_env`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Env {
    pub(crate) version: u32,
    pub(crate) now_us: Option<unsafe extern "C" fn(*mut c_void) -> u64>,
    pub(crate) random: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> c_int>,
    pub(crate) timer_us:
        Option<unsafe extern "C" fn(*mut c_void, bool, Option<TimerFn>, *mut c_void, u64) -> bool>,
    pub(crate) log: Option<unsafe extern "C" fn(*mut c_void, c_int, *const c_char)>,
}

/// `struct cldc_server`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) addr: *const c_void,
    pub(crate) addr_len: usize,
}

/// `CLDC_OPTIONS_VERSION`.
pub(crate) const OPTIONS_VERSION: u32 = 1;

/// `struct cldc_options`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) version: u32,
    pub(crate) lease_ms: u32,
    pub(crate) drift_ppm: u32,
    pub(crate) connect_ms: u32,
    pub(crate) plain: bool,
    pub(crate) tell_lease: bool,
    pub(crate) servers: *const Server,
    pub(crate) servers_len: usize,
}

/// `struct cldc_sequencer`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequencer {
    pub(crate) inode: u64,
    pub(crate) generation: u64,
    pub(crate) flags: u32,
    pub(crate) path: [c_char; 257],
}

/// `struct cld_dirent_cur`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirentCursor {
    pub(crate) p: *const c_void,
    pub(crate) tmp_len: usize,
}

/// `CE_LEASE_JEOPARDY`.
pub(crate) const CE_LEASE_JEOPARDY: u32 = 0x100;
/// `CE_LEASE_SAFE`.
pub(crate) const CE_LEASE_SAFE: u32 = 0x200;

/// Why a call failed on this side: `enum cldc_errno`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Errno {
    Io = 5,
    Again = 11,
    #[cfg(feature = "std")]
    NoMem = 12,
    Acces = 13,
    Busy = 16,
    Inval = 22,
    MFile = 24,
    Pipe = 32,
    BadE = 52,
    BadSlt = 57,
    Proto = 71,
    MsgSize = 90,
    OpNotSupp = 95,
}

/// The result of a call for C: 0, or a negative number.
pub(crate) fn result(result: Result<(), Errno>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(errno) => -(errno as c_int),
    }
}
