//! What `ncld_get` gives: a struct of C, and the memory that it points to.
#![expect(unsafe_code, reason = "C is given the struct, and gives it back")]

use core::ffi::{c_int, c_long, c_void};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::{Mutex, PoisonError};

use cldc_udp::Metadata;

use crate::types::NodeMetadata;

/// `struct ncld_read`, and what stands behind it.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Read {
    ptr: *const c_void,
    length: c_long,
    meta: NodeMetadata,
    /// `ptr` and `meta.inode_name` point into these.
    data: Vec<u8>,
    name: CString,
}

/// Those that C has.
static GIVEN: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// Makes one for C. A name ends at its first NUL.
pub(super) fn give(metadata: &Metadata, path: Vec<u8>, data: Option<Vec<u8>>) -> *mut Read {
    let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
    let name = CString::new(path).unwrap_or_default();
    let ptr = data.as_ref().map_or(core::ptr::null(), |data| data.as_ptr().cast());
    let data = data.unwrap_or_default();
    let meta = NodeMetadata {
        inum: metadata.inode.cast_signed(),
        vers: metadata.version.cast_signed(),
        time_create: metadata.created.cast_signed(),
        time_modify: metadata.modified.cast_signed(),
        flags: c_int::try_from(metadata.flags.0).unwrap_or_default(),
        inode_name: name.as_ptr(),
    };
    let length = c_long::try_from(data.len()).unwrap_or(c_long::MAX);
    let given = Box::into_raw(Box::new(Read { ptr, length, meta, data, name }));
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(given.addr());
    given
}

/// Takes one back. What was not given, or was taken back, is left alone.
pub(super) fn take(given: *mut Read) {
    if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&given.addr()) {
        // SAFETY: `give` made it of a box, and nobody has taken it back before.
        drop(unsafe { Box::from_raw(given) });
    }
}
