//! Reading what C's pointers point to. Whoever calls these has been promised by the header that the pointer is null or
//! good for the length that goes with it.
#![expect(unsafe_code, reason = "the pointers of C are checked here")]

use core::ffi::{c_char, c_void};

use crate::types::Errno;

/// A copy of what is there.
pub(crate) fn read<T: Copy>(pointer: *const T) -> Option<T> {
    // SAFETY: the header asks for null or a struct of this type, aligned and initialised.
    (!pointer.is_null()).then(|| unsafe { pointer.read() })
}

/// Where a result goes.
///
/// # Errors
/// [`Errno::Inval`] for null.
pub(crate) fn out<'a, T>(pointer: *mut T) -> Result<&'a mut core::mem::MaybeUninit<T>, Errno> {
    // SAFETY: the header asks for null or room for a T, which nobody else looks at during the call.
    unsafe { pointer.cast::<core::mem::MaybeUninit<T>>().as_mut() }.ok_or(Errno::Inval)
}

/// The bytes of a buffer. Null is good for no bytes.
///
/// # Errors
/// [`Errno::Inval`] for null with a length, and for a length that no buffer has.
pub(crate) fn bytes<'a>(pointer: *const c_void, len: usize) -> Result<&'a [u8], Errno> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || isize::try_from(len).is_err() {
        return Err(Errno::Inval);
    }
    // SAFETY: not null, and the header asks for so many bytes that stay as they are during the call.
    Ok(unsafe { core::slice::from_raw_parts(pointer.cast(), len) })
}

/// Room for so many bytes.
///
/// # Errors
/// As for [`bytes`].
pub(crate) fn bytes_mut<'a>(pointer: *mut c_char, len: usize) -> Result<&'a mut [u8], Errno> {
    if pointer.is_null() || isize::try_from(len).is_err() {
        return Err(Errno::Inval);
    }
    // SAFETY: not null, and the header asks for room for so many bytes that nobody else looks at during the call.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer.cast(), len) })
}

/// A string of at most `longest` bytes, without its NUL. No byte after the NUL is looked at.
///
/// # Errors
/// [`Errno::Inval`] for null, and for a longer one.
pub(crate) fn string<'a>(pointer: *const c_char, longest: usize) -> Result<&'a [u8], Errno> {
    if pointer.is_null() {
        return Err(Errno::Inval);
    }
    let mut len = 0;
    // SAFETY: the header asks for a string that ends with a NUL, and no byte before this one was it.
    while unsafe { pointer.add(len).read() } != 0 {
        if len == longest {
            return Err(Errno::Inval);
        }
        len += 1;
    }
    // SAFETY: these bytes have just been read.
    Ok(unsafe { core::slice::from_raw_parts(pointer.cast(), len) })
}
