//! What a message to a client carries: small answers as bytes, file contents shared with the database.

use std::ops::Range;
use std::sync::Arc;

use cldc_core::wire::extended::{self, EventDetail};
use cldc_core::wire::limits::PIECE;
use cldc_core::wire::xdr::pad;
use cldc_core::wire::{Answer, Code, Full, LockFlags, Metadata, Op, Writer};

use crate::database::{Meta, Reply, Sequencer, Write};

/// The longest answer without a file's contents or a list of handles: a GET reply with the longest path.
const LONGEST_HEAD: usize = 12 + 36 + 4 + 256 + 4;

/// The body of a message, ready to be cut into pieces. A file's contents are not copied before that.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    head: Box<[u8]>,
    /// Follows the head, padded with zeros up to a multiple of four.
    data: Option<Arc<[u8]>>,
}

impl Content {
    /// The body of an answer.
    pub(super) fn of(answer: &Answer<'_>) -> Result<Self, Full> {
        Self::with(answer, |_| Ok(()))
    }

    /// The body of an answer of an extended session, with what follows the plain part.
    pub(super) fn with(
        answer: &Answer<'_>,
        rest: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>,
    ) -> Result<Self, Full> {
        let mut buffer = [0; LONGEST_HEAD];
        Self::written(&mut buffer, answer, rest)
    }

    /// The same, for a body of at most `len` bytes.
    pub(super) fn long(
        len: usize,
        answer: &Answer<'_>,
        rest: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>,
    ) -> Result<Self, Full> {
        Self::written(&mut vec![0; len], answer, rest)
    }

    fn written(
        buffer: &mut [u8],
        answer: &Answer<'_>,
        rest: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>,
    ) -> Result<Self, Full> {
        let mut out = Writer::new(buffer);
        answer.emit(&mut out)?;
        rest(&mut out)?;
        Ok(Self { head: out.written().into(), data: None })
    }

    /// The body of the answer to a command of an extended session.
    pub(super) fn of_reply(answer: &Answer<'_>, sequencer: Option<&Sequencer>) -> Result<Self, Full> {
        Self::with(answer, |out| sequencer.map_or(Ok(()), |sequencer| to_wire(sequencer).emit(out)))
    }

    /// The body of an event of an extended session.
    pub(super) fn of_event(
        answer: &Answer<'_>,
        (serial, version): (u64, u64),
        granted: Option<&Sequencer>,
    ) -> Result<Self, Full> {
        let sequencer = granted.map(to_wire);
        Self::with(answer, |out| EventDetail { serial, version, sequencer }.emit(out))
    }

    /// The body of the answer to GET.
    pub(super) fn of_file(xid: u64, meta: &Meta, data: Arc<[u8]>) -> Result<Self, Full> {
        let len = u32::try_from(data.len()).map_err(|_| Full)?;
        let mut content = Self::of(&contents(xid, meta))?;
        // The contents are the last item: a length, which is zero so far, and the bytes.
        *content.head.last_chunk_mut().ok_or(Full)? = len.to_be_bytes();
        content.data = Some(data);
        Ok(content)
    }

    fn data(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        let data = self.data().len();
        self.head.len().saturating_add(data).saturating_add(pad(data))
    }

    /// Writes a piece of the body into `out`, and gives it.
    pub(super) fn piece<'o>(&self, range: &Range<usize>, out: &'o mut [u8; PIECE]) -> Result<&'o [u8], Full> {
        let padding = [0; 3].get(..pad(self.data().len())).unwrap_or_default();
        let mut writer = Writer::new(out);
        let mut before = 0usize;
        for part in [&self.head, self.data(), padding] {
            let within = |at: usize| at.saturating_sub(before).min(part.len());
            writer.raw(part.get(within(range.start)..within(range.end)).unwrap_or_default())?;
            before = before.saturating_add(part.len());
        }
        let len = writer.len();
        out.get(..len).ok_or(Full)
    }
}

/// The answer to GET_META, and the beginning of the answer to GET.
pub(super) fn contents(xid: u64, meta: &Meta) -> Answer<'_> {
    let metadata = Metadata {
        inode: meta.inode,
        version: meta.version,
        created: meta.created,
        modified: meta.modified,
        flags: meta.flags,
    };
    Answer::Contents { xid, metadata, path: &meta.path, data: &[] }
}

/// The answer that tells the result of a command.
pub(super) const fn result(op: Op, xid: u64, reply: Reply) -> Answer<'static> {
    match reply {
        Reply::Opened(fh) => Answer::Opened { xid, fh },
        Reply::Locked { .. } => success(op, xid),
        Reply::Code(code) => Answer::Done { op, xid, code },
    }
}

/// A sequencer as clients see it.
fn to_wire(sequencer: &Sequencer) -> extended::Sequencer<'_> {
    let Sequencer { inode, generation, shared, ref path } = *sequencer;
    let mode = if shared { LockFlags::SHARED } else { LockFlags::NONE };
    extended::Sequencer { inode, generation, mode, path }
}

/// A client's sequencer; nothing if its mode is that of no lock.
pub(super) fn from_wire(sequencer: &extended::Sequencer<'_>) -> Option<Sequencer> {
    let extended::Sequencer { inode, generation, mode, path } = *sequencer;
    let shared = match mode {
        LockFlags::NONE => false,
        LockFlags::SHARED => true,
        _ => return None,
    };
    Some(Sequencer { inode, generation, shared, path: path.into() })
}

/// The answer that tells nothing but success.
pub(super) const fn success(op: Op, xid: u64) -> Answer<'static> {
    Answer::Done { op, xid, code: Code::Ok }
}

/// The operation by which a command is answered.
pub(super) const fn op_of(write: &Write) -> Op {
    match write {
        Write::Open { .. } => Op::Open,
        Write::Put { fence: None, .. } => Op::Put,
        Write::Put { fence: Some(_), .. } => Op::PutFenced,
        Write::Close { .. } => Op::Close,
        Write::Del { fence: None, .. } => Op::Del,
        Write::Del { fence: Some(_), .. } => Op::DelFenced,
        Write::Lock { wait: true, .. } => Op::Lock,
        Write::Lock { wait: false, .. } => Op::TryLock,
        Write::Unlock { .. } => Op::Unlock,
        Write::EndSession => Op::EndSess,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cldc_core::wire::InodeFlags;

    #[test]
    fn a_file_is_cut_as_if_it_were_one_run_of_bytes() {
        for len in [0, 1, 3, 700, 715, 716, 1024, 2048, 131_072] {
            let data: Arc<[u8]> = (0..len).map(|at: u32| at.to_le_bytes()[0] ^ 0x5a).collect();
            let meta = Meta {
                inode: 51,
                version: 2,
                created: 3,
                modified: 4,
                flags: InodeFlags::NONE,
                path: Arc::from(*b"/some/file"),
            };
            let content = Content::of_file(7, &meta, data.clone()).unwrap();
            let Answer::Contents { metadata, path, .. } = contents(7, &meta) else { panic!("no contents") };
            let whole = Answer::Contents { xid: 7, metadata, path, data: &data };
            let mut buffer = vec![0; 140_000];
            let mut out = Writer::new(&mut buffer);
            whole.emit(&mut out).unwrap();
            assert_eq!(content.len(), out.len());
            let mut cut = Vec::new();
            let mut piece = [0; PIECE];
            for start in (0..content.len()).step_by(PIECE) {
                let range = start..content.len().min(start + PIECE);
                cut.extend_from_slice(content.piece(&range, &mut piece).unwrap());
            }
            assert_eq!(cut, out.written());
        }
    }
}
