//! What can be asked of a session, and what is answered.

use cldc_core::lease::LeaseState;
use cldc_core::session::{CallError, FullSession, Handle, RequestId};
use cldc_core::time::Instant;
use cldc_core::wire::{EventMask, OpenMode};

use crate::sequencer::Sequencer;
use crate::types::{Contents, LockKind};

/// A request.
#[derive(Debug)]
pub(crate) enum Call {
    Open { path: Vec<u8>, mode: OpenMode, events: EventMask },
    Close(Handle),
    Get(Handle),
    GetMeta(Handle),
    Put(Handle, Vec<u8>),
    Del(Vec<u8>),
    Lock { handle: Handle, kind: LockKind, wait: bool },
    Unlock(Handle),
    GetSequencer(Handle),
    CheckSequencer(Sequencer),
    PutFenced(Handle, Sequencer, Vec<u8>),
    DelFenced(Vec<u8>, Sequencer),
    Nop,
    End,
}

/// What came of a request, or of waiting for something.
#[derive(Debug)]
pub(crate) enum Reply {
    Done,
    Opened(Handle),
    Contents(Contents),
    Locked(Handle, Option<Sequencer>),
    Sequencer(Sequencer),
    Lease(LeaseState),
}

impl Call {
    /// What is being done, for the error that says that it has not ended in time.
    pub(super) fn doing(&self) -> &'static str {
        match self {
            Self::Open { .. } => "opening a file",
            Self::Close(_) => "closing a file",
            Self::Get(_) => "reading a file",
            Self::GetMeta(_) => "reading the metadata of a file",
            Self::Put(..) | Self::PutFenced(..) => "writing a file",
            Self::Del(_) | Self::DelFenced(..) => "removing a file",
            Self::Lock { wait: true, .. } => "waiting for a lock",
            Self::Lock { wait: false, .. } => "trying to take a lock",
            Self::Unlock(_) => "releasing a lock",
            Self::GetSequencer(_) => "asking for a sequencer",
            Self::CheckSequencer(_) => "checking a sequencer",
            Self::Nop => "asking whether the server is there",
            Self::End => "ending the session",
        }
    }

    /// Whether it gives something back: it is done even if nobody waits for it any more.
    pub(super) fn is_release(&self) -> bool {
        matches!(self, Self::Close(_) | Self::Unlock(_) | Self::End)
    }

    /// Hands the request to the session. The end of a session is not answered as a request is: it has no id.
    pub(super) fn start(
        &self,
        session: &mut FullSession,
        now: Instant,
    ) -> Result<Option<RequestId>, CallError> {
        match *self {
            Self::Open { ref path, mode, events } => session.open(now, path, mode, events),
            Self::Close(handle) => session.close(now, handle),
            Self::Get(handle) => session.get(now, handle),
            Self::GetMeta(handle) => session.get_meta(now, handle),
            Self::Put(handle, ref data) => session.put(now, handle, data),
            Self::Del(ref path) => session.del(now, path),
            Self::Lock { handle, kind, wait } => session.lock(now, handle, kind.flags(), wait),
            Self::Unlock(handle) => session.unlock(now, handle),
            Self::GetSequencer(handle) => session.get_sequencer(now, handle),
            Self::CheckSequencer(ref sequencer) => session.check_sequencer(now, &sequencer.on_wire()),
            Self::PutFenced(handle, ref sequencer, ref data) => {
                session.put_fenced(now, handle, &sequencer.on_wire(), data)
            }
            Self::DelFenced(ref path, ref sequencer) => session.del_fenced(now, path, &sequencer.on_wire()),
            Self::Nop => session.nop(now),
            Self::End => return session.end(now).map(|()| None),
        }
        .map(Some)
    }
}
