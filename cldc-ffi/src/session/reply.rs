//! What a request has brought, for as long as its callback runs.
#![expect(unsafe_code, reason = "functions under names of C, and the way back from C's options to the reply")]

use core::ffi::{c_char, c_int};
use core::ptr;

use cldc_core::session::Outcome;
use cldc_core::wire::extended::Sequencer as CoreSequencer;

use crate::pointers;
use crate::types::{self, CallOpts, Errno, NodeMetadata, Sequencer};

/// Marks options that a callback is given.
const MARK: usize = 0x636c_6463;

/// What a request has brought. The contents stay with the core, which keeps them until the next event is asked for.
pub(super) struct Reply {
    data: *mut c_char,
    len: usize,
    /// Without the name.
    metadata: NodeMetadata,
    /// Inode, generation and flags.
    sequencer: Option<(u64, u64, u32)>,
    /// The path of the file, with a NUL.
    path: [c_char; 257],
}

impl Reply {
    pub(super) const fn empty() -> Self {
        let metadata = NodeMetadata {
            inum: 0,
            vers: 0,
            time_create: 0,
            time_modify: 0,
            flags: 0,
            inode_name: ptr::null(),
        };
        Self { data: ptr::null_mut(), len: 0, metadata, sequencer: None, path: [0; 257] }
    }

    pub(super) fn fill(&mut self, outcome: &Outcome<'_>) {
        match *outcome {
            Outcome::Contents { ref metadata, path, data } => {
                self.data = data.as_ptr().cast_mut().cast();
                self.len = data.len();
                self.metadata = NodeMetadata {
                    inum: metadata.inode.cast_signed(),
                    vers: metadata.version.cast_signed(),
                    time_create: metadata.created.cast_signed(),
                    time_modify: metadata.modified.cast_signed(),
                    flags: metadata.flags.0.cast_signed(),
                    inode_name: ptr::null(),
                };
                self.set_path(path);
            }
            Outcome::Sequencer(ref sequencer) | Outcome::Locked { sequencer: Some(ref sequencer) } => {
                let CoreSequencer { inode, generation, mode, path } = *sequencer;
                self.sequencer = Some((inode, generation, mode.0));
                self.set_path(path);
            }
            _ => {}
        }
    }

    /// The last byte stays a NUL.
    fn set_path(&mut self, path: &[u8]) {
        for (to, &from) in self.path.iter_mut().take(256).zip(path) {
            *to = from.cast_signed() as c_char;
        }
    }

    /// What `cldc_check` is in options of a callback that lie here.
    pub(super) fn check(copts: *const CallOpts) -> usize {
        copts.addr() ^ MARK
    }

    /// The reply of the request whose callback runs with these options.
    fn of<'a>(copts: *const CallOpts) -> Option<&'a Self> {
        let found = pointers::read(copts)?;
        // SAFETY: options that lie here and carry this mark are those that `turn` gives to a callback, which runs now.
        (found.check == Self::check(copts)).then(|| unsafe { found.reply.cast::<Self>().as_ref() })?
    }
}

/// `cldc_copts_get_data`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_copts_get_data(
    copts: *const CallOpts,
    data: *mut *mut c_char,
    len: *mut usize,
) {
    let found = Reply::of(copts).map_or((ptr::null_mut(), 0), |reply| (reply.data, reply.len));
    if let Ok(data) = pointers::out(data) {
        data.write(found.0);
    }
    if let Ok(len) = pointers::out(len) {
        len.write(found.1);
    }
}

/// `cldc_copts_get_metadata`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_copts_get_metadata(copts: *const CallOpts, md: *mut NodeMetadata) {
    let none = const { Reply::empty().metadata };
    let found = Reply::of(copts).filter(|reply| !reply.data.is_null()).map_or(
        NodeMetadata { inode_name: c"".as_ptr(), ..none },
        |reply| NodeMetadata { inode_name: reply.path.as_ptr(), ..reply.metadata },
    );
    if let Ok(md) = pointers::out(md) {
        md.write(found);
    }
}

/// `cldc_copts_get_sequencer`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cldc_copts_get_sequencer(copts: *const CallOpts, out: *mut Sequencer) -> c_int {
    let copied = pointers::out(out).and_then(|out| {
        let reply = Reply::of(copts).ok_or(Errno::Inval)?;
        let (inode, generation, flags) = reply.sequencer.ok_or(Errno::Inval)?;
        out.write(Sequencer { inode, generation, flags, path: reply.path });
        Ok(())
    });
    types::result(copied)
}
