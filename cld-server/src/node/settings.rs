//! Users and limits: how what the configuration of a server says of them, and what an operator asks for, gets into the
//! replicated state. Nobody reads them from anywhere else.

use std::collections::VecDeque;

use thiserror::Error;

use super::interface::{Clock, Event};
use super::{Mastery, Node};
use crate::database::{Action, Command, Database, Effects, Limits, Setting, UserName};
use crate::keys::Keys;
use crate::replica::Engine;

/// Who says what users and limits there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authority {
    /// The configuration of the master, from its start on, and each time that it is read again: for a cell of one.
    #[default]
    Configuration,
    /// The operator, by [`Node::set`]. While the cell is new, the configuration of its first server, once: what the
    /// configurations of the servers say later changes nothing, however old they are.
    Operator,
}

/// Settings that may wait at once because an operator asks for them.
const ASKED: usize = 64;
/// The most settings in one entry: much less than fits, so that requests need not wait long.
const TOGETHER: usize = 1000;

/// Why a setting is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SetError {
    /// The master makes settings.
    #[error("this server is not the master")]
    NotMaster,
    /// [`Authority::Configuration`].
    #[error("this server follows its configuration")]
    Configured,
    /// There are too many at once.
    #[error("too many settings are under way; try again")]
    Busy,
}

/// What is on its way into the replicated state.
#[derive(Debug)]
pub(super) struct Settings {
    /// What the configuration says of users.
    keys: Keys,
    /// The configuration is to be compared with the replicated state.
    stale: bool,
    /// The configuration was read again, and the shell is to be told when it is in force.
    reloading: bool,
    /// What is to be proposed, with the ticket of whoever asked for it.
    waiting: VecDeque<(Action, Option<u64>)>,
    /// The tickets of the [`Action::Set`] that are proposed, in their order.
    proposed: VecDeque<Option<u64>>,
    ticket: u64,
}

impl Settings {
    pub(super) fn new(keys: Keys) -> Self {
        Self {
            keys,
            stale: false,
            reloading: false,
            waiting: VecDeque::new(),
            proposed: VecDeque::new(),
            ticket: 0,
        }
    }

    /// This server begins or ends to be the master. What was on its way may be made or not.
    pub(super) fn restart(&mut self) {
        self.stale = true;
        self.waiting.clear();
        self.proposed.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.proposed.is_empty()
    }
}

impl<E: Engine> Node<E> {
    /// The configuration says this now. With [`Authority::Configuration`] it is put in force; [`Event::Configured`] tells
    /// when it is.
    pub fn reconfigure(&mut self, clock: Clock, keys: Keys, limits: Limits) {
        self.config.limits = limits;
        self.settings.keys = keys;
        (self.settings.stale, self.settings.reloading) = (true, true);
        self.advance(clock);
    }

    /// Changes a user or a limit because an operator asks for it. The outcome is told by [`Event::Set`] with the ticket
    /// that this gives; [`Event::Deposed`] says that it is not known.
    ///
    /// # Errors
    /// [`SetError`]; nothing is changed then.
    pub fn set(&mut self, clock: Clock, setting: Setting) -> Result<u64, SetError> {
        if self.config.authority == Authority::Configuration {
            return Err(SetError::Configured);
        }
        if !self.serves() {
            return Err(SetError::NotMaster);
        }
        if self.settings.waiting.len() >= ASKED {
            return Err(SetError::Busy);
        }
        self.settings.ticket = self.settings.ticket.wrapping_add(1);
        let ticket = self.settings.ticket;
        self.settings.waiting.push_back((Action::Set(setting), Some(ticket)));
        self.advance(clock);
        Ok(ticket)
    }

    /// Finds what the configuration says otherwise than the replicated state, if it counts. Only when nothing of that is
    /// on its way, or it would be found again.
    pub(super) fn compare_settings(&mut self) {
        let is_master = matches!(self.mastery, Mastery::Settling { .. } | Mastery::Serving { .. });
        if !is_master || !self.settings.is_empty() || !self.commands.is_empty() {
            return;
        }
        if !std::mem::take(&mut self.settings.stale) {
            if std::mem::take(&mut self.settings.reloading) {
                self.events.push_back(Event::Configured);
            }
            return;
        }
        let counts = match self.config.authority {
            Authority::Configuration => true,
            Authority::Operator => !self.database.has_adopted(),
        };
        if counts {
            let changes = changes(&self.database, &self.settings.keys, self.config.limits.clamped());
            if !changes.is_empty() {
                tracing::info!(changes = changes.len(), "users and limits become those of the configuration");
            }
            self.settings.waiting.extend(changes.into_iter().map(|action| (action, None)));
        }
    }

    /// Moves settings to the commands that go into the next entry.
    pub(super) fn queue_settings(&mut self, clock: Clock) {
        while self.commands.len() < TOGETHER
            && let Some((action, ticket)) = self.settings.waiting.pop_front()
        {
            if let Action::Set(_) = action {
                self.settings.proposed.push_back(ticket);
            }
            let epoch = self.database.epoch();
            self.commands.push_back(Command { at: clock.wall, epoch, action });
        }
    }

    /// A command that this server has proposed in its present epoch is applied; tells what came of it if it is a setting.
    pub(super) fn was_set(&mut self, action: &Action, effects: &Effects) {
        let (Action::Set(setting), Some(result)) = (action, effects.set) else { return };
        if let Some(ticket) = self.settings.proposed.pop_front().flatten() {
            self.events.push_back(Event::Set { ticket, result });
        } else if let Err(error) = result {
            tracing::error!(?setting, %error, "the configuration cannot be put in force");
        }
    }
}

/// What makes the replicated state follow the configuration. Those who go come first, so that there is room.
fn changes(database: &Database, keys: &Keys, limits: Limits) -> Vec<Action> {
    let users = database.users();
    let mut changes = Vec::new();
    if *database.limits() != limits {
        changes.push(Action::SetLimits(limits));
    }
    let (listed, user_as_key) = match keys {
        Keys::Listed(listed) => (Some(listed), false),
        Keys::UserAsKey => (None, true),
    };
    if users.user_as_key() != user_as_key {
        changes.push(Action::Set(Setting::UserAsKey(user_as_key)));
    }
    let stays = |user: &UserName| {
        let name = str::from_utf8(user.as_bytes()).ok();
        name.zip(listed).is_some_and(|(name, listed)| listed.contains_key(name))
    };
    let gone = users.names_after(None).filter(|user| !stays(user));
    changes.extend(gone.map(|&user| Action::Set(Setting::RemoveUser { user })));
    for (name, secret) in listed.into_iter().flatten() {
        if let Some(user) = UserName::new(name.as_bytes())
            && users.secret(&user) != Some(secret)
        {
            let secret = secret.clone();
            changes.push(Action::Set(Setting::AddUser { user, secret, replace: true }));
        }
    }
    if !database.has_adopted() {
        changes.push(Action::Set(Setting::Adopted));
    }
    changes
}
