//! The blocking calls of `ncld.h`, over `cldc-udp`'s blocking client.
//!
//! C holds numbers that stand for sessions and files ([`handles`]); a panic, if there were one, becomes an error code.
#![expect(unsafe_code, reason = "functions under names of C, and the program's function for its log")]

mod errors;
mod file;
mod handles;
mod hosts;
mod read;
mod session;

use core::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use cldc_udp::{EventMask, LeaseState, OpenMode, Options, Sequencer};

use self::errors::{EINVAL, EIO, ERANGE, Failure, NO_SRV, SERVER, status};
use self::file::kind;
use self::handles::{FileHandle, SessionHandle};
use self::read::Read;
use self::session::{EventFn, Session};
use crate::pointers;

type EventCall = Option<unsafe extern "C" fn(*mut c_void, c_uint)>;

/// Longest contents, path, key, user, and text of a sequencer; and longest list of hosts.
const MAX_CONTENTS: usize = 131_072;
const MAX_PATH: usize = 256;
const MAX_KEY: usize = 127;
const MAX_USER: usize = 31;
const MAX_SEQUENCER: usize = 303;
const MAX_HOSTS: usize = 4096;

/// `struct hail_log`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct HailLog {
    func: Option<unsafe extern "C" fn(c_int, *const c_char, ...)>,
    debug: bool,
    verbose: bool,
}

/// Does what a function of C asks for; a panic is an error like others.
fn guard<T>(act: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(Err(Failure(EIO)))
}

/// As [`guard`], for functions that give a pointer and, elsewhere, what went wrong.
fn guard_pointer<T>(error: *mut c_int, act: impl FnOnce() -> Result<*mut T, Failure>) -> *mut T {
    guard(act).unwrap_or_else(|Failure(number)| {
        if let Ok(error) = pointers::out(error) {
            error.write(number);
        }
        ptr::null_mut()
    })
}

fn string<'a>(text: *const c_char, longest: usize) -> Result<&'a [u8], Failure> {
    pointers::string(text, longest).map_err(|_| Failure(EINVAL))
}

fn contents<'a>(data: *const c_void, len: c_long) -> Result<&'a [u8], Failure> {
    let len = usize::try_from(len).ok().filter(|len| (1..=MAX_CONTENTS).contains(len));
    pointers::bytes(data, len.ok_or(Failure(EINVAL))?).map_err(|_| Failure(EINVAL))
}

fn sequencer(text: *const c_char) -> Result<Sequencer, Failure> {
    Sequencer::from_bytes(string(text, MAX_SEQUENCER)?).map_err(|_| Failure(EINVAL))
}

fn millis(msec: c_uint) -> Duration {
    Duration::from_millis(msec.into())
}

/// `ncld_init`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_init() {}

/// `ncld_sess_open`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_sess_open(
    host: *const c_char,
    port: c_int,
    error: *mut c_int,
    event: EventCall,
    ev_arg: *mut c_void,
    user: *const c_char,
    key: *const c_char,
    log: *const HailLog,
) -> *mut SessionHandle {
    guard_pointer(error, || {
        let (user, key) = (string(user, MAX_USER)?, string(key, MAX_KEY)?);
        if host.is_null() {
            return Err(Failure(NO_SRV));
        }
        let servers = hosts::resolve(string(host, MAX_HOSTS)?, port)?;
        let options = Options::new(user, key).servers(servers);
        let session = Session::open(options, EventFn::new(event, ev_arg)).map_err(|error| {
            say(log, &error.to_string());
            match error {
                cldc_udp::Error::Timeout { .. } => Failure::server(cldc_udp::Code::Timeout),
                error => error.into(),
            }
        })?;
        Ok(handles::add_session(session))
    })
}

/// Tells the program's log.
fn say(log: *const HailLog, what: &str) {
    const ERROR: c_int = 3;
    let Some(HailLog { func: Some(func), .. }) = pointers::read(log) else { return };
    if let Ok(what) = CString::new(format!("cannot open a CLD session: {what}")) {
        // SAFETY: the program gave this function for this purpose; the format asks for one string.
        unsafe { func(ERROR, c"%s".as_ptr(), what.as_ptr()) }
    }
}

/// `ncld_sess_close`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_sess_close(sess: *mut SessionHandle) {
    let _ = guard(|| {
        if let Some(session) = handles::remove_session(sess) {
            session.close();
        }
        Ok(())
    });
}

/// `ncld_sess_set_deadline`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_sess_set_deadline(sess: *mut SessionHandle, msec: c_uint) -> c_int {
    status(guard(|| {
        if msec == 0 {
            return Err(Failure(EINVAL));
        }
        handles::session(sess)?.set_deadline(msec);
        Ok(())
    }))
}

/// `ncld_sess_lease`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_sess_lease(sess: *mut SessionHandle) -> c_int {
    guard(|| Ok(lease_number(handles::session(sess)?.client().lease_state()))).unwrap_or(-EINVAL)
}

/// `ncld_sess_wait_lease`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_sess_wait_lease(sess: *mut SessionHandle, from: c_int, msec: c_uint) -> c_int {
    let waited = guard(|| {
        let session = handles::session(sess)?;
        let states = [LeaseState::Safe, LeaseState::Jeopardy, LeaseState::Expired];
        let from = states.into_iter().find(|&state| lease_number(state) == from).ok_or(Failure(EINVAL))?;
        Ok(lease_number(session.client().wait_lease_change(from, millis(msec))))
    });
    waited.unwrap_or(-EINVAL)
}

fn lease_number(state: LeaseState) -> c_int {
    match state {
        LeaseState::Safe => 0,
        LeaseState::Jeopardy => 1,
        LeaseState::Expired => 2,
    }
}

/// `ncld_open`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_open(
    sess: *mut SessionHandle,
    fname: *const c_char,
    mode: c_uint,
    error: *mut c_int,
    events: c_uint,
    event: EventCall,
    ev_arg: *mut c_void,
) -> *mut FileHandle {
    guard_pointer(error, || {
        let session = handles::session(sess)?;
        let path = string(fname, MAX_PATH)?;
        let event = EventFn::new(event, ev_arg);
        // Hail's servers tell of a deletion whatever the mask is; ours go by it in extended sessions.
        let events = EventMask(events) | EventMask::DELETED;
        let file = session.open_file(path, OpenMode(mode), events, event)?;
        Ok(handles::add_file(file))
    })
}

/// `ncld_close`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_close(fh: *mut FileHandle) {
    let _ = guard(|| {
        if let Some(file) = handles::remove_file(fh) {
            file.close();
        }
        Ok(())
    });
}

/// `ncld_del`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_del(sess: *mut SessionHandle, fname: *const c_char) -> c_int {
    status(guard(|| Ok(handles::session(sess)?.client().remove(string(fname, MAX_PATH)?)?)))
}

/// `ncld_del_fenced`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_del_fenced(
    sess: *mut SessionHandle,
    text: *const c_char,
    fname: *const c_char,
) -> c_int {
    status(guard(|| {
        let client = handles::session(sess)?.client();
        Ok(client.remove_fenced(string(fname, MAX_PATH)?, &sequencer(text)?)?)
    }))
}

/// `ncld_check_sequencer`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_check_sequencer(sess: *mut SessionHandle, text: *const c_char) -> c_int {
    status(guard(|| {
        let client = handles::session(sess)?.client();
        let stands = client.check_sequencer(&sequencer(text)?)?;
        if stands { Ok(()) } else { Err(Failure::server(cldc_udp::Code::Stale)) }
    }))
}

/// `ncld_get`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_get(fh: *mut FileHandle, error: *mut c_int) -> *mut Read {
    guard_pointer(error, || {
        let found = handles::file(fh)?.open().read()?;
        Ok(read::give(&found.metadata, found.path, Some(found.data)))
    })
}

/// `ncld_get_meta`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_get_meta(fh: *mut FileHandle, error: *mut c_int) -> *mut Read {
    guard_pointer(error, || {
        let file = handles::file(fh)?;
        Ok(read::give(&file.open().metadata()?, file.path().to_vec(), None))
    })
}

/// `ncld_read_free`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_read_free(rp: *mut Read) {
    let _ = guard(|| {
        read::take(rp);
        Ok(())
    });
}

/// `ncld_write`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_write(fh: *mut FileHandle, data: *const c_void, len: c_long) -> c_int {
    status(guard(|| Ok(handles::file(fh)?.open().write(contents(data, len)?)?)))
}

/// `ncld_write_fenced`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_write_fenced(
    fh: *mut FileHandle,
    text: *const c_char,
    data: *const c_void,
    len: c_long,
) -> c_int {
    status(guard(|| Ok(handles::file(fh)?.open().write_fenced(&sequencer(text)?, contents(data, len)?)?)))
}

/// `ncld_trylock`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_trylock(fh: *mut FileHandle) -> c_int {
    status(guard(|| {
        let is_held = handles::file(fh)?.try_lock()?;
        if is_held { Ok(()) } else { Err(Failure::server(cldc_udp::Code::LockConflict)) }
    }))
}

/// `ncld_qlock`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_qlock(fh: *mut FileHandle) -> c_int {
    match guard(|| handles::file(fh)?.queue_lock()) {
        Ok(is_held) => c_int::from(!is_held),
        Err(failure) => status(Err(failure)),
    }
}

/// `ncld_lock_wait`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_lock_wait(fh: *mut FileHandle, msec: c_uint) -> c_int {
    status(guard(|| handles::file(fh)?.wait_lock(millis(msec))))
}

/// `ncld_lock`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_lock(fh: *mut FileHandle, flags: c_uint, msec: c_uint) -> c_int {
    status(guard(|| handles::file(fh)?.lock(kind(flags)?, millis(msec))))
}

/// `ncld_unlock`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_unlock(fh: *mut FileHandle) -> c_int {
    status(guard(|| handles::file(fh)?.unlock()))
}

/// `ncld_lock_safe_ms`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_lock_safe_ms(fh: *mut FileHandle) -> c_ulong {
    let safe = guard(|| Ok(handles::file(fh)?.safe_for())).unwrap_or_default();
    c_ulong::try_from(safe.as_millis()).unwrap_or(c_ulong::MAX)
}

/// `ncld_sequencer`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ncld_sequencer(fh: *mut FileHandle, buf: *mut c_char, len: usize) -> c_int {
    status(guard(|| {
        let text = handles::file(fh)?.sequencer()?;
        let buf = pointers::bytes_mut(buf, len).map_err(|_| Failure(EINVAL))?;
        let room = buf.get_mut(..=text.len()).ok_or(Failure(ERANGE))?;
        for (to, &from) in room.iter_mut().zip(text.iter().chain(&[0])) {
            *to = from;
        }
        Ok(())
    }))
}

const _: () = assert!(SERVER == 1100, "ncld.h says so");
