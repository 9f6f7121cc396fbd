//! The cursor over a directory's contents.
//!
//! `p` is where the present entry begins, `tmp_len` how many bytes are left from there. Before the first name, and
//! after the last, the cursor has no name: an entry that is not whole is the end.
#![expect(unsafe_code, reason = "functions under names of C, and pointers of C to cursors")]

use core::ffi::{c_char, c_int, c_void};
use core::ptr;

use cldc_core::wire::dirent::{Names, entry_len};

use crate::pointers;
use crate::types::{DirentCursor, Errno};

/// "There is none", in Hail's library.
const NONE: c_int = -2;

/// `cldc_dirent_count`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_dirent_count(data: *const c_void, len: usize) -> c_int {
    let Ok(data) = pointers::bytes(data, len) else { return NONE };
    let mut count: c_int = 0;
    for name in Names::new(data) {
        if name.is_err() {
            return NONE;
        }
        count = count.saturating_add(1);
    }
    count
}

/// `cldc_dirent_cur_init`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_dirent_cur_init(dc: *mut DirentCursor, buf: *const c_void, len: usize) {
    let len = if buf.is_null() { 0 } else { len };
    set(dc, DirentCursor { p: buf, tmp_len: len });
}

/// `cldc_dirent_cur_fini`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_dirent_cur_fini(dc: *mut DirentCursor) {
    set(dc, DirentCursor { p: ptr::null(), tmp_len: 0 });
}

/// `cldc_dirent_first`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_dirent_first(dc: *mut DirentCursor) -> c_int {
    if name(dc).is_some() { 0 } else { NONE }
}

/// `cldc_dirent_next`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_dirent_next(dc: *mut DirentCursor) -> c_int {
    let (Some(cursor), Some(name)) = (pointers::read(dc), name(dc)) else { return NONE };
    let entry = entry_len(name.len()).min(cursor.tmp_len);
    let p = cursor.p.cast::<u8>().wrapping_add(entry).cast();
    set(dc, DirentCursor { p, tmp_len: cursor.tmp_len.saturating_sub(entry) });
    cldc_dirent_first(dc)
}

/// `cldc_dirent_name_copy`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_dirent_name_copy(
    dc: *const DirentCursor,
    buf: *mut c_char,
    len: usize,
) -> c_int {
    match copy(dc, buf, len) {
        Ok(len) => c_int::try_from(len).unwrap_or(c_int::MAX),
        Err(errno) => -(errno as c_int),
    }
}

fn copy(dc: *const DirentCursor, buf: *mut c_char, len: usize) -> Result<usize, Errno> {
    let name = name(dc).ok_or(Errno::Inval)?;
    let room = pointers::bytes_mut(buf, len)?.get_mut(..=name.len()).ok_or(Errno::MsgSize)?;
    for (to, &from) in room.iter_mut().zip(name.iter().chain(&[0])) {
        *to = from;
    }
    Ok(name.len())
}

/// `cldc_dirent_name`.
#[cfg(feature = "std")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_dirent_name(dc: *mut DirentCursor) -> *mut c_char {
    unsafe extern "C" {
        fn malloc(size: usize) -> *mut c_char;
    }
    let Some(name) = name(dc) else { return ptr::null_mut() };
    let len = name.len().saturating_add(1);
    // SAFETY: malloc of the C library takes any size; the caller frees what it gives with free.
    let copied = unsafe { malloc(len) };
    // Without memory there is nothing to copy to, and the result is null already.
    let _ = copy(dc, copied, len);
    copied
}

/// The present name.
fn name<'a>(dc: *const DirentCursor) -> Option<&'a [u8]> {
    let cursor = pointers::read(dc)?;
    Names::new(pointers::bytes(cursor.p, cursor.tmp_len).ok()?).next()?.ok()
}

fn set(dc: *mut DirentCursor, cursor: DirentCursor) {
    if let Ok(dc) = pointers::out(dc) {
        dc.write(cursor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_walks_over_the_names_and_stops_at_the_last() {
        let data = *b"\x01\0a\0\0\0\0\0\x07\0bcdefgh\0\0\0\0\0\0\0";
        let mut cursor = DirentCursor { p: ptr::null(), tmp_len: 9 };
        cldc_dirent_cur_init(&raw mut cursor, data.as_ptr().cast(), data.len());
        assert_eq!(cldc_dirent_count(data.as_ptr().cast(), data.len()), 2);
        let mut name: [c_char; 8] = [9; 8];
        assert_eq!(cldc_dirent_first(&raw mut cursor), 0);
        assert_eq!(cldc_dirent_name_copy(&raw const cursor, name.as_mut_ptr(), 8), 1);
        assert_eq!(name[..2], [b'a' as c_char, 0]);
        assert_eq!(cldc_dirent_next(&raw mut cursor), 0);
        assert_eq!(cldc_dirent_name_copy(&raw const cursor, name.as_mut_ptr(), 7), -90);
        assert_eq!(cldc_dirent_name_copy(&raw const cursor, name.as_mut_ptr(), 8), 7);
        assert_eq!(cldc_dirent_next(&raw mut cursor), NONE);
        assert_eq!(cldc_dirent_next(&raw mut cursor), NONE);
        assert_eq!(cldc_dirent_name_copy(&raw const cursor, name.as_mut_ptr(), 8), -22);
    }

    #[test]
    fn what_is_no_directory_is_said_to_be_none() {
        let cut = [5, 0, b'a'];
        assert_eq!(cldc_dirent_count(cut.as_ptr().cast(), 3), NONE);
        assert_eq!(cldc_dirent_count(ptr::null(), 3), NONE);
        assert_eq!(cldc_dirent_count(ptr::null(), 0), 0);
        assert_eq!(cldc_dirent_first(ptr::null_mut()), NONE);
        let mut cursor = DirentCursor { p: ptr::null(), tmp_len: 0 };
        cldc_dirent_cur_init(&raw mut cursor, ptr::null(), 3);
        assert_eq!(cldc_dirent_first(&raw mut cursor), NONE);
    }
}
