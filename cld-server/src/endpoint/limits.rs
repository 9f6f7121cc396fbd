//! What a session and a user may take of the endpoint's memory, what they do take, and what was refused.

use std::collections::BTreeMap;

use cldc_core::time::{Duration, Instant};

use crate::database::{LimitKind, UserName};

/// The endpoint's limits. At a limit requests are not taken, so that the client sends them again, and events of a
/// handle are merged into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages to one session that are not acknowledged, and its requests that are not answered, together. An extended
    /// session may have as many more as its table of replies has places, as its client has so many on their way.
    pub messages_per_session: usize,
    /// Packets of the messages to one session that are not acknowledged. One message may go beyond it.
    pub packets_per_session: usize,
    /// The same for all sessions of a user.
    pub packets_per_user: usize,
    /// Packets of one session that came before their turn, and are held.
    pub held_per_session: usize,
    /// Sessions of one user that hold packets or put together a message of several, at a time.
    pub streams_per_user: usize,
    /// Sessions of one user that are being opened, or whose client has not acknowledged the NEW_SESS reply.
    pub unproved_per_user: usize,
    /// The same for all users together.
    pub unproved: usize,
    /// Results outside the streams (SESS_INVAL, SESS_EXISTS) in a second.
    pub refusals_per_second: u32,
    /// Challenges, hints and NOT_MASTER in a second. After a restart all clients need one, and strangers with recordings must not
    /// keep them from it for long; they are shorter than what they answer.
    pub challenges_per_second: u32,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            messages_per_session: 96,
            packets_per_session: 512,
            packets_per_user: 65_536,
            held_per_session: 160,
            streams_per_user: 64,
            unproved_per_user: 64,
            unproved: 8192,
            refusals_per_second: 100,
            challenges_per_second: 2000,
        }
    }
}

/// What one user's sessions take, or one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Packets to be acknowledged.
    pub(super) packets: usize,
    /// Sessions that hold or assemble.
    pub(super) streams: usize,
    /// Sessions that are not proved.
    pub(super) unproved: usize,
}

impl Usage {
    const fn change(&mut self, from: Self, to: Self) {
        self.packets = self.packets.saturating_add(to.packets).saturating_sub(from.packets);
        self.streams = self.streams.saturating_add(to.streams).saturating_sub(from.streams);
        self.unproved = self.unproved.saturating_add(to.unproved).saturating_sub(from.unproved);
    }
}

/// What each user's sessions take.
#[derive(Debug, Default)]
pub(super) struct Shares {
    users: BTreeMap<UserName, Usage>,
    total: Usage,
}

impl Shares {
    pub(super) fn of(&self, user: &UserName) -> Usage {
        self.users.get(user).copied().unwrap_or_default()
    }

    pub(super) const fn total(&self) -> Usage {
        self.total
    }

    /// A session of this user takes so much now, instead of what it took before.
    pub(super) fn change(&mut self, user: UserName, from: Usage, to: Usage) {
        if from == to {
            return;
        }
        self.total.change(from, to);
        let usage = self.users.entry(user).or_default();
        usage.change(from, to);
        if *usage == Usage::default() {
            self.users.remove(&user);
        }
    }
}

/// Why something was not taken or not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refused {
    MessagesPerSession,
    PacketsPerSession,
    PacketsPerUser,
    StreamsPerUser,
    UnprovedPerUser,
    Unproved,
    RefusalsPerSecond,
    ChallengesPerSecond,
    Replicated(LimitKind),
}

impl Refused {
    const fn name(self) -> &'static str {
        match self {
            Self::MessagesPerSession => "messages_per_session",
            Self::PacketsPerSession => "packets_per_session",
            Self::PacketsPerUser => "packets_per_user",
            Self::StreamsPerUser => "streams_per_user",
            Self::UnprovedPerUser => "unproved_per_user",
            Self::Unproved => "unproved",
            Self::RefusalsPerSecond => "refusals_per_second",
            Self::ChallengesPerSecond => "challenges_per_second",
            Self::Replicated(kind) => kind.name(),
        }
    }
}

/// What the endpoint has counted since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams that are no packets.
    pub malformed: u64,
    /// Packets of an unknown user, or with a wrong HMAC.
    pub forged: u64,
    /// Packets sent.
    pub sent: u64,
    /// Requests and pieces of requests that came again.
    pub duplicates: u64,
    /// Requests taken.
    pub requests: u64,
    /// Packets of sessions that were not proved yet, or called after a restart.
    pub not_proved: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Sessions whose lease ran out.
    pub expired: u64,
    /// Results sent outside the streams.
    pub refusals: u64,
    /// Sessions resumed.
    pub resumed: u64,
    /// Challenges to clients that want to resume, and hints that they should.
    pub challenges: u64,
    /// Packets answered by NOT_MASTER.
    pub redirects: u64,
    /// Requests to keep a session alive, outside its stream.
    pub keepalives: u64,
    /// Packets of extended sessions that acknowledge another stream than the present one, or none.
    pub foreign: u64,
    /// How often each limit was reached, by its name.
    pub limits: BTreeMap<&'static str, u64>,
    /// When each limit may be logged again.
    quiet_until: BTreeMap<&'static str, Instant>,
}

/// How often one limit is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(10);

impl Counters {
    /// Counts that a limit was reached, and logs it, but not too often.
    pub(super) fn limit(&mut self, now: Instant, refused: Refused, user: &UserName) {
        let name = refused.name();
        let count = self.limits.entry(name).or_default();
        *count = count.saturating_add(1);
        if self.quiet_until.get(name).is_none_or(|&until| now >= until) {
            self.quiet_until.insert(name, now + LOG_EVERY);
            tracing::warn!(limit = name, %user, times = *count, "a limit is reached");
        }
    }
}
