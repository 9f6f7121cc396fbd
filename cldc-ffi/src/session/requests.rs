//! The requests of C.
#![expect(unsafe_code, reason = "functions under names of C, and pointers to places in a session's table")]

use core::ffi::{c_char, c_int, c_void};
use core::ptr;

use cldc_core::session::{CallError, Handle, LockState, RequestId};
use cldc_core::time::Instant;
use cldc_core::wire::extended::Sequencer as CoreSequencer;
use cldc_core::wire::limits::{MAX_PATH, MAX_PAYLOAD};
use cldc_core::wire::{EventMask, LockFlags, OpenMode};

use super::{Callback, File, FileState, Pending, Session, Stage, entry, turn};
use crate::pointers;
use crate::types::{self, CallOpts, Errno, Sequencer};

/// `cldc_nop`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_nop(session: *mut Session, copts: *const CallOpts) -> c_int {
    types::result(entry::session(session).and_then(|session| session.ask(Ask::Nop, copts)))
}

/// `cldc_end_sess`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_end_sess(session: *mut Session, copts: *const CallOpts) -> c_int {
    types::result(entry::session(session).and_then(|session| session.end(copts)))
}

/// `cldc_del`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_del(
    session: *mut Session,
    copts: *const CallOpts,
    pathname: *const c_char,
) -> c_int {
    let asked = entry::session(session)
        .and_then(|session| session.ask(Ask::Del(pointers::string(pathname, MAX_PATH)?, None), copts));
    types::result(asked)
}

/// `cldc_del_fenced`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_del_fenced(
    session: *mut Session,
    copts: *const CallOpts,
    sequencer: *const Sequencer,
    pathname: *const c_char,
) -> c_int {
    let asked = entry::session(session).and_then(|session| {
        let path = pointers::string(pathname, MAX_PATH)?;
        session.ask(Ask::Del(path, Some(on_wire(sequencer)?)), copts)
    });
    types::result(asked)
}

/// `cldc_check_sequencer`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_check_sequencer(
    session: *mut Session,
    copts: *const CallOpts,
    sequencer: *const Sequencer,
) -> c_int {
    let asked = entry::session(session)
        .and_then(|session| session.ask(Ask::CheckSequencer(on_wire(sequencer)?), copts));
    types::result(asked)
}

/// `cldc_open`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_open(
    session: *mut Session,
    copts: *const CallOpts,
    pathname: *const c_char,
    open_mode: u32,
    events: u32,
    out: *mut *mut File,
) -> c_int {
    let opened = entry::session(session).and_then(|session| {
        let out = pointers::out(out)?;
        let path = pointers::string(pathname, MAX_PATH)?;
        let free = session.files.iter_mut().find(|file| file.state == FileState::Free);
        let file = ptr::from_mut(free.ok_or(Errno::MFile)?);
        // Hail's servers tell of a deletion whatever the mask is; ours go by it in extended sessions.
        let events = EventMask(events) | EventMask::DELETED;
        session.ask(Ask::Open(path, OpenMode(open_mode), events, file), copts)?;
        out.write(file);
        Ok(())
    });
    types::result(opened)
}

/// `cldc_close`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_close(fh: *mut File, copts: *const CallOpts) -> c_int {
    ask_file(fh, copts, AskFile::Close)
}

/// `cldc_lock`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_lock(
    fh: *mut File,
    copts: *const CallOpts,
    lock_flags: u32,
    wait_for_lock: bool,
) -> c_int {
    ask_file(fh, copts, AskFile::Lock(LockFlags(lock_flags), wait_for_lock))
}

/// `cldc_unlock`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_unlock(fh: *mut File, copts: *const CallOpts) -> c_int {
    ask_file(fh, copts, AskFile::Unlock)
}

/// `cldc_lock_safe_us`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_lock_safe_us(fh: *const File) -> u64 {
    let Ok((session, handle)) = entry::open_file(fh) else { return 0 };
    if session.core.lock_state(handle) == LockState::Held { session.safe_us() } else { 0 }
}

/// `cldc_put`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_put(
    fh: *mut File,
    copts: *const CallOpts,
    data: *const c_void,
    len: usize,
) -> c_int {
    match contents(data, len) {
        Ok(data) => ask_file(fh, copts, AskFile::Put(data, None)),
        Err(errno) => -(errno as c_int),
    }
}

/// `cldc_put_fenced`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_put_fenced(
    fh: *mut File,
    copts: *const CallOpts,
    sequencer: *const Sequencer,
    data: *const c_void,
    len: usize,
) -> c_int {
    match (contents(data, len), on_wire(sequencer)) {
        (Ok(data), Ok(sequencer)) => ask_file(fh, copts, AskFile::Put(data, Some(sequencer))),
        (Err(errno), _) | (_, Err(errno)) => -(errno as c_int),
    }
}

/// `cldc_get`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_get(fh: *mut File, copts: *const CallOpts, metadata_only: bool) -> c_int {
    ask_file(fh, copts, if metadata_only { AskFile::GetMeta } else { AskFile::Get })
}

/// `cldc_get_sequencer`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_get_sequencer(fh: *mut File, copts: *const CallOpts) -> c_int {
    ask_file(fh, copts, AskFile::GetSequencer)
}

/// What a file may be given: not nothing, as in Hail's library.
fn contents<'a>(data: *const c_void, len: usize) -> Result<&'a [u8], Errno> {
    if len == 0 || len > MAX_PAYLOAD {
        return Err(Errno::Inval);
    }
    pointers::bytes(data, len)
}

fn on_wire<'a>(sequencer: *const Sequencer) -> Result<CoreSequencer<'a>, Errno> {
    // SAFETY: the header asks for null or a struct of this type, which stays as it is during the call.
    let sequencer = unsafe { sequencer.as_ref() }.ok_or(Errno::Inval)?;
    let path = pointers::string(sequencer.path.as_ptr(), MAX_PATH)?;
    let (inode, generation, mode) = (sequencer.inode, sequencer.generation, LockFlags(sequencer.flags));
    Ok(CoreSequencer { inode, generation, mode, path })
}

/// A request.
enum Ask<'a> {
    Nop,
    Del(&'a [u8], Option<CoreSequencer<'a>>),
    CheckSequencer(CoreSequencer<'a>),
    /// With the place in the table for it.
    Open(&'a [u8], OpenMode, EventMask, *mut File),
    File(Handle, AskFile<'a>),
}

/// A request about an open file.
enum AskFile<'a> {
    Close,
    Lock(LockFlags, bool),
    Unlock,
    Put(&'a [u8], Option<CoreSequencer<'a>>),
    Get,
    GetMeta,
    GetSequencer,
}

/// One copy of this is enough: the library shall be small.
#[inline(never)]
fn ask_file(fh: *mut File, copts: *const CallOpts, ask: AskFile<'_>) -> c_int {
    types::result(
        entry::open_file(fh).and_then(|(session, handle)| session.ask(Ask::File(handle, ask), copts)),
    )
}

impl Session {
    /// Makes a request, and sends it.
    #[inline(never)]
    fn ask(&mut self, ask: Ask<'_>, copts: *const CallOpts) -> Result<(), Errno> {
        if self.is_over() {
            return Err(Errno::Pipe);
        }
        let now = self.now();
        let request = self.submit(now, &ask).map_err(super::refused)?;
        // There is room: the core holds no more of them.
        let _ = self.calls.push(Pending { request, callback: Callback::of(copts) });
        let (place, next) = match ask {
            Ask::Open(.., place) => (place, FileState::Opening(request)),
            Ask::File(handle, AskFile::Close) => (self.find(handle), FileState::Free),
            _ => (ptr::null_mut(), FileState::Free),
        };
        // SAFETY: null, or a place in this session's table, to which no reference lives.
        if let Some(file) = unsafe { place.as_mut() } {
            file.state = next;
        }
        turn::run(ptr::from_mut(self), false);
        Ok(())
    }

    /// The place of an open file in the table; null if it has none.
    pub(super) fn find(&mut self, handle: Handle) -> *mut File {
        let file = self.files.iter_mut().find(|file| file.state == FileState::Open(handle));
        file.map_or(ptr::null_mut(), ptr::from_mut)
    }

    fn submit(&mut self, now: Instant, ask: &Ask<'_>) -> Result<RequestId, CallError> {
        let core = &mut self.core;
        match *ask {
            Ask::Nop => core.nop(now),
            Ask::Del(path, None) => core.del(now, path),
            Ask::Del(path, Some(ref sequencer)) => core.del_fenced(now, path, sequencer),
            Ask::CheckSequencer(ref sequencer) => core.check_sequencer(now, sequencer),
            Ask::Open(path, mode, events, _) => core.open(now, path, mode, events),
            Ask::File(handle, ref ask) => match *ask {
                AskFile::Close => core.close(now, handle),
                AskFile::Lock(flags, wait) => core.lock(now, handle, flags, wait),
                AskFile::Unlock => core.unlock(now, handle),
                AskFile::Put(data, None) => core.put(now, handle, data),
                AskFile::Put(data, Some(ref sequencer)) => core.put_fenced(now, handle, sequencer, data),
                AskFile::Get => core.get(now, handle),
                AskFile::GetMeta => core.get_meta(now, handle),
                AskFile::GetSequencer => core.get_sequencer(now, handle),
            },
        }
    }

    fn end(&mut self, copts: *const CallOpts) -> Result<(), Errno> {
        if self.is_over() {
            return Err(Errno::Pipe);
        }
        let now = self.now();
        self.core.end(now).map_err(super::refused)?;
        self.stage = Stage::Ending { callback: Callback::of(copts) };
        turn::run(ptr::from_mut(self), false);
        Ok(())
    }
}
