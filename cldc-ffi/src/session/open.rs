//! How a session begins in memory of C, and how it is forgotten.
#![expect(unsafe_code, reason = "functions under names of C; the session is written to memory of C")]

use core::ffi::{c_char, c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;

use cldc_core::session::{Checked, Config, MAX_SERVERS};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::limits::{MAX_KEY, MAX_USER};

use super::{ALIVE, Callback, Core, File, HANDLES, Session, Stage, entry, turn};
use crate::address::{Addresses, understood};
use crate::pointers;
use crate::types::{self, CallOpts, ENV_VERSION, Env, Errno, OPTIONS_VERSION, Ops, Options};

/// What holds where C gives no options, or zero: Hail's library gives up after two minutes.
const CONNECT_MS: u32 = 120_000;

/// `cldc_init`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_init() {}

/// `cldc_session_size`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_session_size() -> usize {
    size_of::<Session>()
}

/// What C says of a session to be opened.
#[derive(Clone, Copy)]
pub(crate) struct Opening {
    pub(crate) env: *const Env,
    pub(crate) options: *const Options,
    pub(crate) ops: *const Ops,
    pub(crate) copts: *const CallOpts,
    pub(crate) addr: *const c_void,
    pub(crate) addr_len: usize,
    pub(crate) user: *const c_char,
    pub(crate) key: *const c_char,
    pub(crate) private: *mut c_void,
    #[cfg(feature = "std")]
    pub(crate) owned: bool,
}

/// `cldc_session_init`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_session_init(
    mem: *mut c_void,
    mem_len: usize,
    env: *const Env,
    options: *const Options,
    ops: *const Ops,
    copts: *const CallOpts,
    addr: *const c_void,
    addr_len: usize,
    user: *const c_char,
    key: *const c_char,
    private: *mut c_void,
    out: *mut *mut Session,
) -> c_int {
    let opening = Opening {
        env,
        options,
        ops,
        copts,
        addr,
        addr_len,
        user,
        key,
        private,
        #[cfg(feature = "std")]
        owned: false,
    };
    if mem_len < size_of::<Session>() {
        return -(Errno::Inval as c_int);
    }
    types::result(opening.begin(mem.cast(), out))
}

impl Opening {
    /// Opens a session in this memory, which is large enough.
    pub(crate) fn begin(&self, place: *mut Session, out: *mut *mut Session) -> Result<(), Errno> {
        let out = pointers::out(out)?;
        if place.is_null() || !place.is_aligned() {
            return Err(Errno::Inval);
        }
        #[cfg(feature = "std")]
        crate::registry::check_free(place.addr(), size_of::<Session>())?;
        self.write(place)?;
        #[cfg(feature = "std")]
        crate::registry::add(place.addr(), size_of::<Session>());
        for number in 0..HANDLES {
            // SAFETY: `write` has put a session there; nobody else knows it yet.
            if let Some(file) = unsafe { &mut *place }.files.get_mut(number) {
                file.session = place;
            }
        }
        out.write(place);
        turn::run(place, false);
        Ok(())
    }

    fn write(&self, place: *mut Session) -> Result<(), Errno> {
        let ops = pointers::read(self.ops).filter(|ops| ops.pkt_send.is_some()).ok_or(Errno::Inval)?;
        let env = self.env()?;
        let options = self.options()?;
        let (addresses, first) = Addresses::new(pointers::bytes(self.addr, self.addr_len)?)?;
        let mut servers = heapless::Vec::<_, MAX_SERVERS>::new();
        // There is room for the first.
        let _ = servers.push(first);
        let others = options.map_or(0, |options| options.servers_len);
        if others >= MAX_SERVERS {
            return Err(Errno::Inval);
        }
        for place in 0..others {
            let server = options.map(|options| options.servers.wrapping_add(place));
            let server = server.and_then(pointers::read).ok_or(Errno::Inval)?;
            let server = understood(pointers::bytes(server.addr, server.addr_len)?).ok_or(Errno::Inval)?;
            servers.push(server).map_err(|_| Errno::Inval)?;
        }

        let mut seed = [0; 32];
        let (Some(random), Some(now_us)) = (env.random, env.now_us) else { return Err(Errno::Inval) };
        // SAFETY: the functions are C's own, for this purpose; the buffer is as long as is said.
        let (filled, now) =
            unsafe { (random(self.private, seed.as_mut_ptr().cast(), seed.len()), now_us(self.private)) };
        if filled < 0 {
            return Err(Errno::Io);
        }
        let now = Instant::from_micros(now);
        let user = pointers::string(self.user, MAX_USER)?;
        let mut config = Config::new(user, pointers::string(self.key, MAX_KEY)?, &servers, seed);
        let mut connect_ms = CONNECT_MS;
        if let Some(options) = options {
            if options.lease_ms != 0 {
                config.lease = Duration::from_millis(options.lease_ms.into());
            }
            if options.drift_ppm != 0 {
                config.drift_ppm = options.drift_ppm;
            }
            if options.connect_ms != 0 {
                connect_ms = options.connect_ms;
            }
            config.extended = !options.plain;
        }
        let stage = Stage::Opening {
            callback: Callback::of(self.copts),
            until: now + Duration::from_millis(connect_ms.into()),
        };
        let tell_lease = options.is_some_and(|options| options.tell_lease);
        let checked = Checked::new(&config).map_err(|_| Errno::Inval)?;
        // SAFETY: `begin` has checked the pointer, and its callers the size. Field by field, because the stack may be
        // smaller than a session.
        unsafe {
            let core = &mut *(&raw mut (*place).core).cast::<MaybeUninit<Core>>();
            with_stack(|| {
                Core::start_in(core, &checked, now);
            })?;
            (&raw mut (*place).files).write([const { File::FREE }; HANDLES]);
            (&raw mut (*place).calls).write(heapless::Vec::new());
            (&raw mut (*place).armed).write(None);
            (&raw mut (*place).stage).write(stage);
            (&raw mut (*place).addresses).write(addresses);
            (&raw mut (*place).private).write(self.private);
            (&raw mut (*place).env).write(env);
            (&raw mut (*place).ops).write(ops);
            (&raw mut (*place).failed_untold).write(false);
            (&raw mut (*place).tell_lease).write(tell_lease);
            (&raw mut (*place).busy).write(false);
            #[cfg(feature = "std")]
            (&raw mut (*place).owned).write(self.owned);
            (&raw mut (*place).magic).write(ALIVE);
        }
        Ok(())
    }

    fn env(&self) -> Result<Env, Errno> {
        // SAFETY: the header asks for null or a struct that begins with its version.
        let version = unsafe { self.env.cast::<u32>().as_ref() };
        match version {
            Some(&ENV_VERSION) => pointers::read(self.env).ok_or(Errno::Inval),
            #[cfg(feature = "std")]
            None => Ok(crate::hosted::ENV),
            _ => Err(Errno::Inval),
        }
    }

    fn options(&self) -> Result<Option<Options>, Errno> {
        // SAFETY: the header asks for null or a struct that begins with its version.
        let version = unsafe { self.options.cast::<u32>().as_ref() };
        match version {
            Some(&OPTIONS_VERSION) => Ok(pointers::read(self.options)),
            Some(_) => Err(Errno::Inval),
            None => Ok(None),
        }
    }
}

/// A large session is moved on the stack a few times while it is made.
#[cfg(feature = "std")]
fn with_stack(make: impl FnOnce()) -> Result<(), Errno> {
    crate::hosted::with_stack(make)
}

#[cfg(not(feature = "std"))]
fn with_stack(make: impl FnOnce()) -> Result<(), Errno> {
    make();
    Ok(())
}

/// `cldc_kill_sess`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_kill_sess(pointer: *mut Session) {
    let Ok(session) = entry::session(pointer) else { return };
    session.magic = 0;
    if !session.busy {
        finish_kill(ptr::from_mut(session));
    }
}

/// Gives back what a session that is not alive any more still has. Nobody uses it from now on.
pub(super) fn finish_kill(session: *mut Session) {
    // SAFETY: its memory is good until this returns, and no reference to it lives.
    let (armed, _owned) = unsafe {
        (
            (*session).armed.is_some(),
            #[cfg(feature = "std")]
            (*session).owned,
            #[cfg(not(feature = "std"))]
            false,
        )
    };
    if armed {
        turn::ask_timer(session, false, 0);
    }
    #[cfg(feature = "std")]
    {
        crate::registry::remove(session.addr());
        if _owned {
            crate::hosted::free(session);
        }
    }
}
