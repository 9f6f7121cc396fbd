//! Which sessions have something to do: at a time, with a packet to send, with a command for the log. A session that
//! has nothing to do costs nothing.

use std::collections::{BTreeSet, VecDeque};

use cldc_core::time::Instant;

use super::limits::Shares;
use super::session::{Filed, Session};
use crate::database::Database;

/// The indexes of all sessions.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    deadlines: BTreeSet<(Instant, u64)>,
    ready: VecDeque<u64>,
    acting: VecDeque<u64>,
    /// With requests that wait for the newest state.
    reading: VecDeque<u64>,
}

impl Schedule {
    /// Takes note of what a session has to do now. `wake`: it may have packets to send.
    pub(super) fn file(
        &mut self,
        session: &mut Session,
        users: &mut Shares,
        database: &Database,
        wake: bool,
    ) {
        let sid = session.sid;
        let before = session.filed;
        let deadline = session.deadline();
        if deadline != before.deadline {
            if let Some(at) = before.deadline {
                self.deadlines.remove(&(at, sid));
            }
            self.deadlines.extend(deadline.map(|at| (at, sid)));
        }
        let ready = before.ready || (wake && session.speaks());
        if ready && !before.ready {
            self.ready.push_back(sid);
        }
        let acting = before.acting || session.acts(database);
        if acting && !before.acting {
            self.acting.push_back(sid);
        }
        let reading = before.reading || session.jobs.waits_to_read();
        if reading && !before.reading {
            self.reading.push_back(sid);
        }
        let usage = session.usage();
        users.change(session.user, before.usage, usage);
        session.filed = Filed { deadline, ready, acting, reading, usage };
    }

    /// Forgets a session.
    pub(super) fn forget(&mut self, session: &Session, users: &mut Shares) {
        if let Some(at) = session.filed.deadline {
            self.deadlines.remove(&(at, session.sid));
        }
        if session.filed.ready {
            self.ready.retain(|&sid| sid != session.sid);
        }
        if session.filed.acting {
            self.acting.retain(|&sid| sid != session.sid);
        }
        if session.filed.reading {
            self.reading.retain(|&sid| sid != session.sid);
        }
        users.change(session.user, session.filed.usage, super::limits::Usage::default());
    }

    /// The sessions whose time has come.
    pub(super) fn due(&self, now: Instant) -> Vec<u64> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|&(_, sid)| sid).collect()
    }

    /// When the next session's time comes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// The session that may have packets to send.
    pub(super) fn next_ready(&self) -> Option<u64> {
        self.ready.front().copied()
    }

    /// That session has no more packets to send now.
    pub(super) fn pop_ready(&mut self) {
        self.ready.pop_front();
    }

    /// Takes out the session that has a command for the log.
    pub(super) fn pop_acting(&mut self) -> Option<u64> {
        self.acting.pop_front()
    }

    /// Whether sessions have requests that wait for the newest state.
    pub(super) fn has_readers(&self) -> bool {
        !self.reading.is_empty()
    }

    /// Takes these sessions out.
    pub(super) fn take_readers(&mut self) -> VecDeque<u64> {
        std::mem::take(&mut self.reading)
    }

    /// Whether no session has a command for the log.
    pub(super) fn nobody_acts(&self) -> bool {
        self.acting.is_empty()
    }
}
