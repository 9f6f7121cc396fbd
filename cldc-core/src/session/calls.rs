//! What an application may ask of a session, and how a request is put on its way.

use super::config::tx_bytes;
use super::event::{CallError, Handle, RequestId};
use super::{InFlight, Phase, Session};
use crate::time::Instant;
use crate::wire::extended::{Features, Sequencer};
use crate::wire::limits::{MAX_PATH, MAX_PAYLOAD};
use crate::wire::{EventMask, LockFlags, Op, OpenMode, Request};

impl<const RX: usize, const TX: usize, const REQUESTS: usize, const HANDLES: usize, const EARLY: usize>
    Session<RX, TX, REQUESTS, HANDLES, EARLY>
{
    /// Opens a file or directory, or creates it: [`Outcome::Opened`](super::Outcome::Opened).
    ///
    /// # Errors
    /// See [`CallError`]; so for all calls below.
    pub fn open(
        &mut self,
        now: Instant,
        path: &[u8],
        mode: OpenMode,
        events: EventMask,
    ) -> Result<RequestId, CallError> {
        check_path(path)?;
        let opening = self.sender.iter().filter(|message| message.op == Op::Open).count();
        if self.handles.len().saturating_add(opening) >= HANDLES {
            return Err(CallError::TooManyHandles);
        }
        self.call(now, &Request::Open { mode, events, path }, None)
    }

    /// Closes a handle, which releases its lock: [`Outcome::Done`](super::Outcome::Done).
    pub fn close(&mut self, now: Instant, handle: Handle) -> Result<RequestId, CallError> {
        self.handle_call(now, handle, &Request::Close { fh: handle.0 })
    }

    /// Reads a file: [`Outcome::Contents`](super::Outcome::Contents).
    pub fn get(&mut self, now: Instant, handle: Handle) -> Result<RequestId, CallError> {
        self.handle_call(now, handle, &Request::Get { fh: handle.0 })
    }

    /// Reads the metadata of a file: [`Outcome::Contents`](super::Outcome::Contents) without data.
    pub fn get_meta(&mut self, now: Instant, handle: Handle) -> Result<RequestId, CallError> {
        self.handle_call(now, handle, &Request::GetMeta { fh: handle.0 })
    }

    /// Replaces the contents of a file, 131072 bytes at most: [`Outcome::Done`](super::Outcome::Done).
    pub fn put(&mut self, now: Instant, handle: Handle, data: &[u8]) -> Result<RequestId, CallError> {
        if data.len() > MAX_PAYLOAD || tx_bytes(data.len(), 1) > TX {
            return Err(CallError::TooLarge);
        }
        self.handle_call(now, handle, &Request::Put { fh: handle.0, data })
    }

    /// As [`put`](Self::put), but nothing is changed and the answer is [`Code::Stale`](crate::wire::Code::Stale)
    /// unless the lock of the sequencer is still held. For sessions that have fencing; so for the calls with or for a
    /// sequencer below.
    pub fn put_fenced(
        &mut self,
        now: Instant,
        handle: Handle,
        sequencer: &Sequencer<'_>,
        data: &[u8],
    ) -> Result<RequestId, CallError> {
        self.check_fencing(sequencer)?;
        if data.len() > MAX_PAYLOAD {
            return Err(CallError::TooLarge);
        }
        self.handle_call(now, handle, &Request::PutFenced { sequencer: *sequencer, fh: handle.0, data })
    }

    /// Deletes a file or an empty directory: [`Outcome::Done`](super::Outcome::Done).
    pub fn del(&mut self, now: Instant, path: &[u8]) -> Result<RequestId, CallError> {
        check_path(path)?;
        self.call(now, &Request::Del { path }, None)
    }

    /// As [`del`](Self::del), unless the sequencer is stale.
    pub fn del_fenced(
        &mut self,
        now: Instant,
        path: &[u8],
        sequencer: &Sequencer<'_>,
    ) -> Result<RequestId, CallError> {
        self.check_fencing(sequencer)?;
        check_path(path)?;
        self.call(now, &Request::DelFenced { sequencer: *sequencer, path }, None)
    }

    /// Takes a lock: [`Outcome::Locked`](super::Outcome::Locked). If it is held by others: with `wait`
    /// [`Outcome::LockPending`](super::Outcome::LockPending), and [`EventMask::LOCKED`] for the handle once it is
    /// granted; without, [`Code::LockConflict`](crate::wire::Code::LockConflict).
    pub fn lock(
        &mut self,
        now: Instant,
        handle: Handle,
        flags: LockFlags,
        wait: bool,
    ) -> Result<RequestId, CallError> {
        self.handle_call(now, handle, &Request::Lock { fh: handle.0, flags, wait })
    }

    /// Releases a lock, or leaves its queue: [`Outcome::Done`](super::Outcome::Done).
    pub fn unlock(&mut self, now: Instant, handle: Handle) -> Result<RequestId, CallError> {
        self.handle_call(now, handle, &Request::Unlock { fh: handle.0 })
    }

    /// Asks for the sequencer of a lock that is held: [`Outcome::Sequencer`](super::Outcome::Sequencer).
    pub fn get_sequencer(&mut self, now: Instant, handle: Handle) -> Result<RequestId, CallError> {
        self.check_features()?;
        self.handle_call(now, handle, &Request::GetSequencer { fh: handle.0 })
    }

    /// Asks whether a sequencer, of whatever session, stands: [`Outcome::Done`](super::Outcome::Done) if so,
    /// [`Code::Stale`](crate::wire::Code::Stale) if not.
    pub fn check_sequencer(
        &mut self,
        now: Instant,
        sequencer: &Sequencer<'_>,
    ) -> Result<RequestId, CallError> {
        self.check_fencing(sequencer)?;
        self.call(now, &Request::CheckSequencer { sequencer: *sequencer }, None)
    }

    /// Asks for nothing, and so finds out whether the server is there: [`Outcome::Done`](super::Outcome::Done).
    pub fn nop(&mut self, now: Instant) -> Result<RequestId, CallError> {
        self.call(now, &Request::Nop, None)
    }

    /// Ends the session, which releases all it holds: [`Event::Ended`](super::Event::Ended) follows the answers to
    /// what is in flight.
    pub fn end(&mut self, now: Instant) -> Result<(), CallError> {
        self.request(now, &Request::EndSess, None, None)?;
        self.phase = Phase::Ending;
        Ok(())
    }

    /// Nobody waits for this call any more: its answer will not be told. It may still be executed; a handle that it
    /// opens is closed again.
    pub fn abandon(&mut self, request: RequestId) {
        let index = self.sender.iter().position(|message| message.body.call == Some(request));
        if let Some(message) = index.and_then(|index| self.sender.get_mut(index)) {
            message.body.call = None;
        }
        self.forget_ready(request);
    }

    fn handle_call(
        &mut self,
        now: Instant,
        handle: Handle,
        request: &Request<'_>,
    ) -> Result<RequestId, CallError> {
        if !self.handles.is_open(handle) {
            return Err(CallError::UnknownHandle);
        }
        self.call(now, request, Some(handle))
    }

    fn call(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        handle: Option<Handle>,
    ) -> Result<RequestId, CallError> {
        let id = RequestId(self.next_call);
        self.request(now, request, Some(id), handle)?;
        self.next_call = self.next_call.wrapping_add(1);
        Ok(id)
    }

    fn request(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        call: Option<RequestId>,
        handle: Option<Handle>,
    ) -> Result<(), CallError> {
        match self.phase {
            Phase::Connecting { .. } => return Err(CallError::NotConnected),
            Phase::Ending | Phase::Ended(_) => return Err(CallError::Ended),
            Phase::Open => {}
        }
        self.now = now;
        self.enqueue(request, call, handle)
    }

    /// Puts a request behind the others.
    pub(super) fn enqueue(
        &mut self,
        request: &Request<'_>,
        call: Option<RequestId>,
        handle: Option<Handle>,
    ) -> Result<(), CallError> {
        if self.is_full() {
            return Err(CallError::Busy);
        }
        let body = match self.bodies.write(request) {
            Ok(body) => body,
            Err(_) => {
                self.compact_bodies();
                // What does not fit although nothing else is there never will.
                let is_alone = self.sender.is_empty();
                let why = if is_alone { CallError::TooLarge } else { CallError::Busy };
                self.bodies.write(request).map_err(|_| why)?
            }
        };
        if self.extended.as_ref().is_some_and(|extended| body.len() > extended.max_message) {
            self.bodies.give_back(&body);
            return Err(CallError::TooLarge);
        }
        let xid = match (&mut self.extended, request) {
            (Some(extended), _) => extended.next_xid(),
            // From here the xids of an extended session count up, and never come to their end.
            (None, Request::NewSess { .. }) => self.rng.next_u64() >> 1,
            (None, _) => self.rng.next_u64(),
        };
        let (op, len) = (request.op(), body.len());
        self.sender.push(op, xid, len, InFlight { call, handle, body }).map_err(|_| CallError::Busy)?;
        Ok(())
    }

    /// Whether no more requests may be on their way.
    pub(super) fn is_full(&self) -> bool {
        let limit = self.extended.as_ref().map_or(REQUESTS, |extended| extended.requests.min(REQUESTS));
        self.sender.len() >= limit
    }

    fn compact_bodies(&mut self) {
        self.bodies.forget();
        for index in 0..self.sender.len() {
            if let Some(message) = self.sender.get_mut(index) {
                self.bodies.keep(&mut message.body.body);
            }
        }
    }

    fn check_features(&self) -> Result<(), CallError> {
        let lacks = matches!(self.phase, Phase::Open) && !self.features().contains(Features::FENCING);
        if lacks { Err(CallError::Unsupported) } else { Ok(()) }
    }

    fn check_fencing(&self, sequencer: &Sequencer<'_>) -> Result<(), CallError> {
        if sequencer.path.len() > MAX_PATH {
            return Err(CallError::Path);
        }
        self.check_features()
    }
}

fn check_path(path: &[u8]) -> Result<(), CallError> {
    if path.first() == Some(&b'/') && path.len() <= MAX_PATH { Ok(()) } else { Err(CallError::Path) }
}
