//! The handles that C holds: numbers, never used twice, that look like pointers. Whatever C hands in is looked up, so
//! that a handle that is closed, or never was one, is found out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::errors::{EINVAL, Failure};
use super::file::File;
use super::session::Session;

/// `struct ncld_sess`; there is none.
#[derive(Debug)]
pub(crate) enum SessionHandle {}

/// `struct ncld_fh`; there is none.
#[derive(Debug)]
pub(crate) enum FileHandle {}

/// The first handle: no valid pointer of a program is that small.
const FIRST: usize = 16;

static HANDLES: Mutex<Handles> =
    Mutex::new(Handles { next: FIRST, sessions: BTreeMap::new(), files: BTreeMap::new() });

#[derive(Debug)]
struct Handles {
    next: usize,
    sessions: BTreeMap<usize, Arc<Session>>,
    files: BTreeMap<usize, Arc<File>>,
}

impl Handles {
    fn issue(&mut self) -> usize {
        let handle = self.next;
        // Steps of eight, as pointers are; at a million a second they last for some ten thousand years.
        self.next = self.next.wrapping_add(8);
        handle
    }
}

fn handles() -> MutexGuard<'static, Handles> {
    // What is inside is whole between any two statements.
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn add_session(session: Arc<Session>) -> *mut SessionHandle {
    let mut handles = handles();
    let handle = handles.issue();
    handles.sessions.insert(handle, session);
    std::ptr::without_provenance_mut(handle)
}

pub(super) fn add_file(file: Arc<File>) -> *mut FileHandle {
    let mut handles = handles();
    let handle = handles.issue();
    handles.files.insert(handle, file);
    std::ptr::without_provenance_mut(handle)
}

/// The session behind a handle.
///
/// # Errors
/// `EINVAL`.
pub(super) fn session(handle: *mut SessionHandle) -> Result<Arc<Session>, Failure> {
    handles().sessions.get(&handle.addr()).cloned().ok_or(Failure(EINVAL))
}

/// The file behind a handle.
///
/// # Errors
/// `EINVAL`.
pub(super) fn file(handle: *mut FileHandle) -> Result<Arc<File>, Failure> {
    handles().files.get(&handle.addr()).cloned().ok_or(Failure(EINVAL))
}

/// The handle is no handle any more.
pub(super) fn remove_file(handle: *mut FileHandle) -> Option<Arc<File>> {
    handles().files.remove(&handle.addr())
}

/// The handle, and those of the session's files, are no handles any more.
pub(super) fn remove_session(handle: *mut SessionHandle) -> Option<Arc<Session>> {
    let mut handles = handles();
    let session = handles.sessions.remove(&handle.addr())?;
    handles.files.retain(|_, file| !file.is_of(&session));
    Some(session)
}
