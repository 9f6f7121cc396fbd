//! From the pointers that C hands in to the session and the file that they stand for.
#![expect(unsafe_code, reason = "the pointers of C to sessions and files are checked here")]

use super::{ALIVE, File, FileState, HANDLES, Session};
use crate::types::Errno;

/// The session behind a pointer, if it lives. What is given is good until C's code runs.
///
/// # Errors
/// [`Errno::Inval`].
pub(super) fn session<'a>(pointer: *const Session) -> Result<&'a mut Session, Errno> {
    let pointer = pointer.cast_mut();
    if pointer.is_null() || !pointer.is_aligned() || !is_known(pointer) {
        return Err(Errno::Inval);
    }
    // SAFETY: it is aligned, and the header asks for memory that holds a session or held one; with `std` the registry
    // knows it. Only one thread is here, and no reference outlives a call of C's code.
    let session = unsafe { &mut *pointer };
    if session.magic == ALIVE { Ok(session) } else { Err(Errno::Inval) }
}

/// The session of a handle, and the handle's place in its table.
///
/// # Errors
/// [`Errno::Inval`].
pub(super) fn file<'a>(pointer: *const File) -> Result<(&'a mut Session, usize), Errno> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(Errno::Inval);
    }
    let owner = owner(pointer)?;
    let session = session(owner)?;
    let offset = pointer.addr().wrapping_sub(session.files.as_ptr().addr());
    let place = offset.checked_div(size_of::<File>()).ok_or(Errno::Inval)?;
    if offset.checked_rem(size_of::<File>()) != Some(0) || place >= HANDLES {
        return Err(Errno::Inval);
    }
    Ok((session, place))
}

/// As [`file`], if it is open: with the core's name for it.
///
/// # Errors
/// [`Errno::Inval`].
pub(super) fn open_file<'a>(
    pointer: *const File,
) -> Result<(&'a mut Session, cldc_core::session::Handle), Errno> {
    let (session, place) = file(pointer)?;
    match session.files.get(place).map(|file| file.state) {
        Some(FileState::Open(handle)) => Ok((session, handle)),
        _ => Err(Errno::Inval),
    }
}

#[cfg(feature = "std")]
fn is_known(pointer: *mut Session) -> bool {
    crate::registry::around(pointer.addr()) == Some(pointer.addr())
}

/// Nobody keeps a list.
#[cfg(not(feature = "std"))]
const fn is_known(_: *mut Session) -> bool {
    true
}

#[cfg(feature = "std")]
fn owner(file: *const File) -> Result<*mut Session, Errno> {
    crate::registry::around(file.addr()).ok_or(Errno::Inval)?;
    read_owner(file)
}

#[cfg(not(feature = "std"))]
fn owner(file: *const File) -> Result<*mut Session, Errno> {
    read_owner(file)
}

fn read_owner(file: *const File) -> Result<*mut Session, Errno> {
    // SAFETY: aligned, and within a session's memory: the registry says so, or the header asks for it. The bytes of a
    // pointer may have any value; whether it is one of a session is checked by whoever is given it.
    Ok(unsafe { (&raw const (*file).session).read() })
}
