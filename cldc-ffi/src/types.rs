//! What `cldc.h` declares: types, and the numbers of results.

use core::ffi::{c_char, c_int, c_void};

/// `enum cle_err_codes`, as it is passed: any number may come.
pub(crate) type ErrCode = c_int;

/// `enum cld_msg_op`, as it is passed.
pub(crate) type MsgOp = c_int;

/// A timer's callback.
pub(crate) type TimerFn = unsafe extern "C" fn(*mut crate::session::Session, *mut c_void) -> c_int;

/// A request's callback.
pub(crate) type DoneFn = unsafe extern "C" fn(*mut CallOpts, ErrCode) -> c_int;

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

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};
    use std::process::Command;

    use super::*;

    /// Checks, in C, that a struct of C has the size and the offsets that it has here.
    macro_rules! same {
        ($rust:ty, $c:literal { $($field:ident $($name:literal)?),* }) => {{
            let mut text = format!("SAME(sizeof({}) == {});\n", $c, size_of::<$rust>());
            $(
                let name = [stringify!($field), $($name)?].into_iter().last().unwrap_or_default();
                text += &format!("SAME(offsetof({}, {name}) == {});\n", $c, offset_of!($rust, $field));
            )*
            text
        }};
    }

    #[test]
    fn structs_are_laid_out_as_the_header_has_them() {
        let mut text = String::from("#include <cldc.h>\n#define SAME(what) _Static_assert(what, #what)\n");
        text +=
            &same!(CallOpts, "struct cldc_call_opts" { cb, private, reply "cldc_reply", check "cldc_check" });
        text += &same!(NodeMetadata, "struct cldc_node_metadata" {
            inum, vers, time_create, time_modify, flags, inode_name
        });
        text += &same!(Ops, "struct cldc_ops" { timer_ctl, pkt_send, event });
        text += &same!(Env, "struct cldc_env" { version, now_us, random, timer_us, log });
        text += &same!(Server, "struct cldc_server" { addr, addr_len });
        text += &same!(Options, "struct cldc_options" {
            version, lease_ms, drift_ppm, connect_ms, plain, tell_lease, servers, servers_len
        });
        text += &same!(Sequencer, "struct cldc_sequencer" { inode, generation, flags, path });
        text += &same!(DirentCursor, "struct cld_dirent_cur" { p, tmp_len });
        for (name, number) in [
            ("CLDC_ENV_VERSION", ENV_VERSION),
            ("CLDC_OPTIONS_VERSION", OPTIONS_VERSION),
            ("CE_LEASE_JEOPARDY", CE_LEASE_JEOPARDY),
            ("CE_LEASE_SAFE", CE_LEASE_SAFE),
            ("CLDC_EIO", Errno::Io as u32),
            ("CLDC_EAGAIN", Errno::Again as u32),
            ("CLDC_EACCES", Errno::Acces as u32),
            ("CLDC_EBUSY", Errno::Busy as u32),
            ("CLDC_EINVAL", Errno::Inval as u32),
            ("CLDC_EMFILE", Errno::MFile as u32),
            ("CLDC_EPIPE", Errno::Pipe as u32),
            ("CLDC_EBADE", Errno::BadE as u32),
            ("CLDC_EBADSLT", Errno::BadSlt as u32),
            ("CLDC_EPROTO", Errno::Proto as u32),
            ("CLDC_EMSGSIZE", Errno::MsgSize as u32),
            ("CLDC_EOPNOTSUPP", Errno::OpNotSupp as u32),
        ] {
            text += &format!("SAME({name} == {number});\n");
        }
        let folder = std::env::temp_dir().join(format!("cldc-layout-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("layout.c");
        std::fs::write(&file, text).unwrap();
        let include = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
        let output = Command::new("gcc").args(["-fsyntax-only", "-I", include]).arg(&file).output().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
