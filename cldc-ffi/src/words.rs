//! Codes and operations in words, and the session's id as a number.
#![expect(unsafe_code, reason = "functions under names of C, and a pointer of C to eight bytes")]

use core::ffi::{CStr, c_char, c_ulonglong};

use cldc_core::wire::{Code, Op};

use crate::pointers;
use crate::types::{ErrCode, MsgOp};

/// `cld_errstr`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cld_errstr(code: ErrCode) -> *const c_char {
    code_words(Code::from_wire(code)).as_ptr()
}

/// `cld_opstr`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cld_opstr(op: MsgOp) -> *const c_char {
    op_words(Op::from_wire(op)).as_ptr()
}

/// `cld_sid2llu`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cld_sid2llu(sid: *const u8) -> c_ulonglong {
    let bytes = pointers::bytes(sid.cast(), 8).ok().and_then(|bytes| bytes.first_chunk::<8>());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// As [`Code::describe`], with a NUL.
pub(crate) const fn code_words(code: Code) -> &'static CStr {
    match code {
        Code::Ok => c"Success",
        Code::SessExists => c"Session exists",
        Code::SessInval => c"Invalid session",
        Code::DbErr => c"Database error",
        Code::BadPkt => c"Invalid/corrupted packet",
        Code::InodeInval => c"Invalid inode number",
        Code::NameInval => c"Invalid file name",
        Code::Oom => c"Server out of memory",
        Code::FhInval => c"Invalid file handle",
        Code::DataInval => c"Invalid data packet",
        Code::LockInval => c"Invalid lock",
        Code::LockConflict => c"Conflicting lock held",
        Code::LockPending => c"Lock waiting to be acquired",
        Code::ModeInval => c"Operation incompatible with file mode",
        Code::InodeExists => c"File exists",
        Code::DirNotEmpty => c"Directory not empty",
        Code::InternalErr => c"Internal error",
        Code::Timeout => c"Session timed out",
        Code::SigInval => c"Bad HMAC signature",
        Code::TooLarge => c"Too large for the receiver",
        Code::Limit => c"Limit of the server reached",
        Code::Stale => c"Stale sequencer",
        Code::Challenge => c"Proof of presence wanted",
        Code::Unsupported => c"Operation not supported by the server",
        _ => c"(unknown)",
    }
}

/// The name as the protocol writes it.
const fn op_words(op: Op) -> &'static CStr {
    match op {
        Op::Nop => c"NOP",
        Op::NewSess => c"NEW_SESS",
        Op::Open => c"OPEN",
        Op::GetMeta => c"GET_META",
        Op::Get => c"GET",
        Op::Put => c"PUT",
        Op::Close => c"CLOSE",
        Op::Del => c"DEL",
        Op::Lock => c"LOCK",
        Op::Unlock => c"UNLOCK",
        Op::TryLock => c"TRYLOCK",
        Op::Ack => c"ACK",
        Op::EndSess => c"END_SESS",
        Op::Ping => c"PING",
        Op::NotMaster => c"NOT_MASTER",
        Op::Event => c"EVENT",
        Op::AckFrag => c"ACK_FRAG",
        Op::Resume => c"RESUME",
        Op::GetSequencer => c"GET_SEQUENCER",
        Op::CheckSequencer => c"CHECK_SEQUENCER",
        Op::PutFenced => c"PUT_FENCED",
        Op::DelFenced => c"DEL_FENCED",
        _ => c"(unknown)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_core() {
        for &code in Code::ALL.iter().chain(&[Code::Unknown(1000)]) {
            assert_eq!(code_words(code).to_str().unwrap(), code.describe());
        }
        for &op in Op::ALL {
            assert_eq!(op_words(op).to_str().unwrap(), op.name());
        }
        assert_eq!(op_words(Op::Unknown(5)), c"(unknown)");
    }

    #[test]
    fn the_session_id_is_read_with_its_lowest_byte_first() {
        assert_eq!(cld_sid2llu([1, 2, 0, 0, 0, 0, 0, 0x80].as_ptr()), 0x8000_0000_0000_0201);
        assert_eq!(cld_sid2llu(core::ptr::null()), 0);
    }
}
