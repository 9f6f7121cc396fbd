//! Handles: what a session has open, and the events that its client has not acknowledged.

use super::digest::{Digest, Item};
use super::effects::Notice;
use super::lock::Owner;
use crate::codec::Writer;
use cldc_core::wire::codes::{EventMask, OpenMode};

/// An event that the client has not acknowledged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// What happened: one bit.
    pub event: EventMask,
    /// The version of the file when it happened.
    pub version: u64,
    /// The number of this event among those of the handle, from 1.
    pub serial: u64,
}

impl Pending {
    /// This event as one for a handle.
    #[must_use]
    pub const fn notice(&self, to: Owner) -> Notice {
        let Self { event, version, serial } = *self;
        Notice { sid: to.sid, fh: to.fh, events: event, version, serial }
    }
}

/// An open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// Its number in the session.
    pub fh: u64,
    /// The file; `None` once that is deleted. Such a handle is of no use any more, and stays only until the client
    /// has acknowledged that it was told.
    pub inode: Option<u64>,
    /// The ticket of its claim on the file's lock, held or waiting.
    pub ticket: Option<u64>,
    /// What it was opened for, unknown bits included.
    pub mode: OpenMode,
    /// What it wants to hear of.
    pub events: EventMask,
    /// Events that the client has not acknowledged yet, which a new master sends again: the last one of each kind, in
    /// the order of their serial numbers.
    pub pending: Vec<Pending>,
    /// The number of events so far.
    pub serial: u64,
}

impl Handle {
    /// What the client has not acknowledged to have been told of.
    #[must_use]
    pub fn unsettled(&self) -> EventMask {
        self.pending.iter().fold(EventMask::NONE, |all, pending| all.with(pending.event))
    }

    /// The events that the client of session `sid` has not acknowledged, as they were first told.
    pub fn notices(&self, sid: u64) -> impl Iterator<Item = Notice> {
        let owner = Owner { sid, fh: self.fh };
        self.pending.iter().map(move |pending| pending.notice(owner))
    }

    /// What it has beside its file: the beginning of its encoding.
    pub(super) fn encode(&self, out: &mut Writer) {
        out.u64(self.fh);
        out.u32(self.mode.0);
        out.u32(self.events.0);
        out.u64(self.serial);
        out.count(self.pending.len());
        for pending in &self.pending {
            out.u32(pending.event.0);
            out.u64(pending.version);
            out.u64(pending.serial);
        }
    }

    /// Its part of the digest.
    pub(super) fn item(&self, sid: u64) -> Digest {
        Digest::of(Item::Handle, |out| {
            out.u64(sid);
            self.encode(out);
            // No file and no claim has the number 0.
            out.u64(self.inode.unwrap_or(0));
            out.u64(self.ticket.unwrap_or(0));
        })
    }

    /// Notes an event. It supersedes an earlier one of its kind.
    pub(super) fn note(&mut self, event: EventMask, version: u64) -> Pending {
        self.serial = self.serial.saturating_add(1);
        let pending = Pending { event, version, serial: self.serial };
        self.pending.retain(|earlier| earlier.event != event);
        // There are few kinds of events, and many handles.
        self.pending.reserve_exact(1);
        self.pending.push(pending);
        pending
    }

    /// Forgets the pending events that are not to be kept.
    pub(super) fn keep_pending(&mut self, keep: impl Fn(&Pending) -> bool) {
        self.pending.retain(keep);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
    }
}
