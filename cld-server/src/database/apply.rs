//! What commands do to sessions and locks, each request once. What they do to files is in `files`.

use super::effects::{Effects, Reply};
use super::handle::Handle;
use super::limits::LimitKind;
use super::lock::{Claim, Grant, Outcome, Owner};
use super::session::{Seen, Session};
use super::{Action, Command, Database, Settled, Write};
use cldc_core::wire::codes::{Code, EventMask, LockFlags, OpenMode};

impl Database {
    /// Carries a command out. A command that cannot be carried out changes nothing, and its effects say why.
    pub fn apply(&mut self, command: &Command) -> Effects {
        let mut effects = Effects::default();
        match &command.action {
            Action::BeginEpoch => self.begin_epoch(command),
            Action::SetLimits(limits) => self.limits = limits.clamped(),
            Action::Set(setting) => effects.set = Some(self.set(setting)),
            Action::OpenSession { sid, user, peer, xid, order, terms } => {
                let session = Session::new(*user, *peer, *xid, *order, *terms);
                effects.reply = Some(Reply::Code(self.open_session(*sid, session, &mut effects)));
            }
            Action::Request { sid, xid, order, settled, write } => {
                effects.reply = self.request(command.at, *sid, *xid, *order, settled, write, &mut effects);
            }
            Action::ExpireSession { sid } => {
                // A master that was deposed may have given the session less time than it was promised since.
                if command.epoch >= self.epoch {
                    self.end_session(*sid, &mut effects);
                }
            }
            Action::RaiseVersion { to } => self.version = self.version.max(*to),
            Action::CompareDigests => {}
        }
        effects
    }

    fn begin_epoch(&mut self, command: &Command) {
        if self.epoch == 0 {
            self.namespace.begin(command.at);
        }
        self.epoch = self.epoch.max(command.epoch);
    }

    fn open_session(&mut self, sid: u64, new: Session, effects: &mut Effects) -> Code {
        if let Some(old) = self.sessions.get(sid) {
            // The terms are the server's answer, which may differ when the same request comes again. Whether there are
            // any is the client's wish.
            let request = |session: &Session| {
                let Session { user, peer, xid, order, terms, .. } = *session;
                (user, peer, xid, order, terms.is_some())
            };
            let same = request(old) == request(&new);
            return if same { Code::Ok } else { Code::SessExists };
        }
        if self.sessions.total().sessions >= self.limits.sessions {
            return effects.refuse(LimitKind::Sessions);
        }
        if self.sessions.usage(&new.user).sessions >= self.limits.sessions_per_user {
            return effects.refuse(LimitKind::SessionsPerUser);
        }
        self.sessions.insert(sid, new);
        Code::Ok
    }

    /// Carries a request out if it was not before, and records its reply in the same step: that is what "exactly
    /// once" rests on.
    #[expect(clippy::too_many_arguments, reason = "the parts of one command, taken apart by its only caller")]
    fn request(
        &mut self,
        at: u64,
        sid: u64,
        xid: u64,
        order: u64,
        settled: &Settled,
        write: &Write,
        effects: &mut Effects,
    ) -> Option<Reply> {
        self.sessions.settle(sid, settled);
        let Some(session) = self.sessions.get(sid) else { return Some(Reply::Code(Code::SessInval)) };
        match session.seen(xid, order) {
            Seen::Executed(reply) => return Some(reply),
            Seen::Settled => return None,
            // The end of a session needs no room: nothing of it stays.
            Seen::NoRoom if *write != Write::EndSession => {
                return Some(Reply::Code(effects.refuse(LimitKind::Replies)));
            }
            Seen::NoRoom | Seen::No => {}
        }
        let reply = Reply::from(self.execute(at, sid, write, effects));
        self.sessions.record(sid, xid, order, reply);
        Some(reply)
    }

    fn execute(&mut self, at: u64, sid: u64, write: &Write, effects: &mut Effects) -> Result<Reply, Code> {
        match write {
            Write::Open { mode, events, path } => {
                return self.open(at, sid, *mode, *events, path, effects).map(Reply::Opened);
            }
            Write::Put { fh, data, fence } => {
                self.check_fence(fence.as_ref())?;
                self.put(at, Owner { sid, fh: *fh }, data, effects)?;
            }
            Write::Close { fh } => self.close(Owner { sid, fh: *fh }, effects)?,
            Write::Del { path, fence } => {
                self.check_fence(fence.as_ref())?;
                self.delete(at, path, effects)?;
            }
            Write::Lock { fh, flags, wait } => return self.lock(Owner { sid, fh: *fh }, *flags, *wait),
            Write::Unlock { fh } => self.unlock(Owner { sid, fh: *fh }, effects)?,
            Write::EndSession => self.end_session(sid, effects),
        }
        Ok(Reply::OK)
    }

    /// Ends a session: its handles and claims go at once, and whoever waited for its locks gets them.
    fn end_session(&mut self, sid: u64, effects: &mut Effects) {
        let Some(session) = self.sessions.remove(sid) else { return };
        let claims: Vec<_> = session.handles.iter().filter_map(claim_of).collect();
        self.release(&claims, effects);
        effects.ended = Some(sid);
    }

    fn lock(&mut self, owner: Owner, flags: LockFlags, wait: bool) -> Result<Reply, Code> {
        let (inode, handle) = self.handle(owner)?;
        if !handle.mode.contains(OpenMode::LOCK) {
            return Err(Code::ModeInval);
        }
        if handle.ticket.is_some() {
            return Err(Code::LockConflict);
        }
        let shared = flags.contains(LockFlags::SHARED);
        let (ticket, reply) = match self.locks.request(inode, Claim { owner, shared }, wait) {
            Outcome::Granted(ticket) => {
                let generation = self.locks.generation(inode);
                (ticket, Reply::Locked { inode, generation, shared })
            }
            Outcome::Queued(ticket) => (ticket, Reply::Code(Code::LockPending)),
            Outcome::Conflict => return Err(Code::LockConflict),
        };
        self.sessions.change_handle(owner, |handle| handle.ticket = Some(ticket));
        Ok(reply)
    }

    fn unlock(&mut self, owner: Owner, effects: &mut Effects) -> Result<(), Code> {
        let (_, handle) = self.handle(owner)?;
        if !handle.mode.contains(OpenMode::LOCK) {
            return Err(Code::ModeInval);
        }
        let claim = claim_of(handle).ok_or(Code::LockInval)?;
        self.sessions.change_handle(owner, |handle| {
            handle.ticket = None;
            // Sent again later, it would announce a lock that is no longer held.
            handle.keep_pending(|pending| pending.event != EventMask::LOCKED);
        });
        self.release(&[claim], effects);
        Ok(())
    }

    /// Takes claims (inode and ticket) out of their queues, and tells those who hold the locks now.
    pub(super) fn release(&mut self, claims: &[(u64, u64)], effects: &mut Effects) {
        for Grant { inode, owner } in self.locks.release(claims) {
            let version = self.namespace.get(inode).map_or(0, |inode| inode.version);
            self.notify(owner, EventMask::LOCKED, version, effects);
        }
    }

    /// Sends an event to a handle, and remembers it until the client has acknowledged it.
    pub(super) fn notify(&mut self, to: Owner, event: EventMask, version: u64, effects: &mut Effects) {
        let Some(pending) = self.sessions.change_handle(to, |handle| handle.note(event, version)) else {
            return;
        };
        effects.events.push(pending.notice(to));
    }
}

/// A handle's claim on its file's lock: inode and ticket.
pub(super) fn claim_of(handle: &Handle) -> Option<(u64, u64)> {
    handle.inode.zip(handle.ticket)
}
