//! What the system gives that a program need not: a clock, randomness, memory, room on the stack.
#![expect(unsafe_code, reason = "functions that C could have given, and memory that C is given")]

use core::ffi::{c_char, c_int, c_void};
use std::alloc::{Layout, alloc, dealloc};
use std::thread;

use cldc_udp::clock;

use crate::session::{Opening, Session};
use crate::types::{self, CallOpts, ENV_VERSION, Env, Errno, Ops};

/// The surroundings of a session whose program gives none.
pub(crate) const ENV: Env =
    Env { version: ENV_VERSION, now_us: Some(now_us), random: Some(random), timer_us: None, log: None };

/// Stack for the making of a large session: a debug build moves it a few times.
const MAKING: usize = 16 << 20;

unsafe extern "C" fn now_us(_: *mut c_void) -> u64 {
    clock::now().as_micros()
}

unsafe extern "C" fn random(_: *mut c_void, buf: *mut c_void, len: usize) -> c_int {
    let (Ok(buf), Ok(seed)) = (crate::pointers::bytes_mut(buf.cast(), len), clock::seed()) else { return -1 };
    let Some(room) = buf.get_mut(..seed.len()) else { return -1 };
    room.copy_from_slice(&seed);
    0
}

/// `cldc_new_sess`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_new_sess(
    ops: *const Ops,
    copts: *const CallOpts,
    addr: *const c_void,
    addr_len: usize,
    user: *const c_char,
    secret_key: *const c_char,
    private: *mut c_void,
    out: *mut *mut Session,
) -> c_int {
    let opening = Opening {
        env: std::ptr::null(),
        options: std::ptr::null(),
        ops,
        copts,
        addr,
        addr_len,
        user,
        key: secret_key,
        private,
        owned: true,
    };
    // SAFETY: a session has a size.
    let place = unsafe { alloc(Layout::new::<Session>()) }.cast::<Session>();
    if place.is_null() {
        return -(Errno::NoMem as c_int);
    }
    let begun = opening.begin(place, out);
    if begun.is_err() {
        free(place);
    }
    types::result(begun)
}

/// Gives back the memory of a session that `cldc_new_sess` has made.
pub(crate) fn free(session: *mut Session) {
    // SAFETY: it was allocated with this layout, and nobody uses it any more. Nothing in it needs to be dropped.
    unsafe { dealloc(session.cast(), Layout::new::<Session>()) }
}

/// Something that C's pointers go into, to be done by one thread for another that waits for it.
struct Borrowed<T>(T);

// SAFETY: the thread that lends it does nothing until it has it back.
unsafe impl<T> Send for Borrowed<T> {}

impl<T> Borrowed<T> {
    fn into_inner(self) -> T {
        self.0
    }
}

/// Does something on a stack that is large enough for it.
///
/// # Errors
/// [`Errno::Again`] if the system has no thread for it.
pub(crate) fn with_stack(act: impl FnOnce()) -> Result<(), Errno> {
    let act = Borrowed(act);
    thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(MAKING);
        let thread = builder.spawn_scoped(scope, move || (act.into_inner())()).map_err(|_| Errno::Again)?;
        thread.join().map_err(|_| Errno::Io)
    })
}
