//! Who belongs to the cell: changes that an operator asks for, newcomers that may vote, and handing the mastership over.

use cldc_core::time::Instant;

use super::interface::{Clock, Event};
use super::{ELECTION_TICKS, Node};
use crate::replica::{ChangeError, Engine, MemberChange, TransferError};
use crate::storage::Configuration;

/// A newcomer votes once it lacks no more entries than this.
const CAUGHT_UP: u64 = 100;

/// How the end of the server stands with its mastership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// It does not end.
    No,
    /// It takes no more requests, and answers those it has.
    Closing,
    /// Another server was asked to become the master; until when to wait for that.
    Handing { until: Instant },
    /// Nobody else can be the master, or nobody was in time.
    Done,
}

impl<E: Engine> Node<E> {
    /// The members of the cell, as of the last entry applied here. [`Event::MembersChanged`] tells of a change.
    #[must_use]
    pub const fn members(&self) -> &Configuration {
        &self.members
    }

    /// Asks for a change of the members; only the master can. [`Event::MembersChanged`] follows when it is made; after
    /// [`Event::Deposed`] nobody knows. A newcomer is promoted by itself when it has caught up.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn change_members(&mut self, clock: Clock, change: MemberChange) -> Result<(), ChangeError> {
        let result =
            if self.serves() { self.engine.change_members(change) } else { Err(ChangeError::NotMaster) };
        self.advance(clock);
        result
    }

    /// Asks another voter to become the master.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn transfer(&mut self, clock: Clock, to: u64) -> Result<(), TransferError> {
        let result = self.engine.transfer_leadership(to);
        self.advance(clock);
        result
    }

    /// What has happened that the shell may want to know. To be called until it gives nothing.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes note of who the members are.
    pub(super) fn members_changed(&mut self, configuration: Configuration) {
        self.members = configuration.clone();
        self.comparisons.members_changed(&configuration);
        let clients: Vec<_> =
            self.members.members.values().filter_map(|member| member.addresses.client).collect();
        // Those of the settings stay if the cell knows none.
        if !clients.is_empty() {
            self.endpoint.set_servers(clients);
        }
        self.events.push_back(Event::MembersChanged(configuration));
    }

    /// Lets a newcomer vote that has caught up; one change is under way at a time.
    pub(super) fn promote(&mut self) {
        if !self.serves() || self.members.learners().next().is_none() {
            return;
        }
        for member in self.engine.status().members {
            let has_come = member.alive && !member.snapshot && member.matched > 0 && member.lag <= CAUGHT_UP;
            let learns = self.members.members.get(&member.node).is_some_and(|found| !found.votes);
            if learns && has_come && self.can_apply(member.node) {
                match self.engine.change_members(MemberChange::Promote { node: member.node }) {
                    Ok(()) => tracing::info!(node = format_args!("{:x}", member.node), "a newcomer may vote"),
                    Err(error) => tracing::debug!(%error, "a newcomer does not vote yet"),
                }
            }
        }
    }

    /// When all is answered at the end, hands the mastership over, so that the others need not miss this server first.
    /// Gives whether one was asked.
    pub(super) fn say_farewell(&mut self, clock: Clock) -> bool {
        match self.farewell {
            Farewell::Closing if self.is_quiet() => {
                let patience = self.config.timing.tick.times(ELECTION_TICKS as u64);
                self.farewell = match self.successor() {
                    Some(to) if self.engine.transfer_leadership(to).is_ok() => {
                        Farewell::Handing { until: clock.now + patience }
                    }
                    _ => Farewell::Done,
                };
                return self.farewell != Farewell::Done;
            }
            Farewell::Handing { until } if !self.serves() || clock.now >= until => {
                self.farewell = Farewell::Done;
            }
            _ => {}
        }
        false
    }

    /// The voter that is alive and has most of the log.
    pub(super) fn successor(&self) -> Option<u64> {
        if !self.serves() {
            return None;
        }
        let members = self.engine.status().members.into_iter();
        let voters =
            members.filter(|member| self.members.members.get(&member.node).is_some_and(|found| found.votes));
        voters.filter(|member| member.alive).max_by_key(|member| member.matched).map(|member| member.node)
    }
}
