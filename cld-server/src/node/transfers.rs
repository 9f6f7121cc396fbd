//! Snapshots on their way to and from other servers: what is read from the disk, sent, received and written, in turn.
//!
//! A transfer carries the file as it is, but for the checksum at its end, which is announced with the message of the
//! consensus engine that goes with the file. The receiver writes a copy, verifies and decodes it, and only then gives
//! that message to its engine.

use std::collections::{BTreeMap, VecDeque};

use super::interface::DiskJob;
use crate::database::Database;
use crate::peer::frame::{Frame, RefuseReason, SnapshotFrame};
use crate::peer::transfer::{Incoming, Outgoing, WINDOW};
use crate::replica::Message;
use crate::storage::{SnapshotRecord, SnapshotSource};

/// The longest snapshot that is received, in bytes.
const LONGEST: u64 = 64 << 30;
/// Parts that wait for the disk. A sender that keeps to its window has no more on their way.
const WAITING: u64 = WINDOW;

/// Where the transfers put what is to be done.
pub(super) struct Out<'a> {
    pub(super) disk: &'a mut VecDeque<DiskJob>,
    pub(super) frames: &'a mut VecDeque<(u64, Frame)>,
}

impl Out<'_> {
    fn send(&mut self, to: u64, frame: SnapshotFrame) {
        self.frames.push_back((to, Frame::Snapshot(frame)));
    }
}

/// What the consensus engine must be told.
#[derive(Debug)]
pub(super) enum Told {
    /// The other server has the file, or does not get it.
    Sent { to: u64, ok: bool },
    /// The other server gets on with it.
    Progress { to: u64 },
    /// The file is here, durable and decoded.
    Received { from: u64, transfer: u64, message: Box<Message> },
}

/// All transfers: one to each server at a time, and one from another.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    /// The number of the last transfer and of the last copy.
    last: u64,
    sending: BTreeMap<u64, Sending>,
    receiving: Option<Receiving>,
    /// What was decoded and is not in force yet, and the index that it stands for.
    loaded: Option<(u64, Box<Database>)>,
}

#[derive(Debug)]
struct Sending {
    outgoing: Outgoing,
    index: u64,
    /// A part is being read.
    reading: bool,
    ended: bool,
}

#[derive(Debug)]
struct Receiving {
    from: u64,
    transfer: u64,
    copy: u64,
    message: Message,
    /// `None` once all has come.
    incoming: Option<Incoming>,
    /// What to send when the parts are written.
    acks: VecDeque<(u64, SnapshotFrame)>,
    /// How many bytes are not written yet.
    unwritten: u64,
}

impl Transfers {
    /// Begins to send a file, in the place of the one that is on its way to this server.
    pub(super) fn send(&mut self, to: u64, record: &SnapshotRecord, message: &Message, out: &mut Out<'_>) {
        self.abort(to, out);
        self.last = self.last.saturating_add(1);
        let length = SnapshotSource::length(record);
        let (outgoing, begin) = Outgoing::begin(self.last, message.encode(), length, record.checksum);
        out.send(to, begin);
        let sending = Sending { outgoing, index: record.point.at.index, reading: false, ended: false };
        self.sending.insert(to, sending);
        self.read_on(to, out);
    }

    /// This server is not the master any more: sends nothing on.
    pub(super) fn stop_sending(&mut self, out: &mut Out<'_>) {
        while let Some((&to, _)) = self.sending.first_key_value() {
            self.abort(to, out);
        }
    }

    /// The link to a server is gone, and what was on its way by it.
    pub(super) fn link_lost(&mut self, peer: u64, out: &mut Out<'_>) -> Option<Told> {
        if self.receiving.as_ref().is_some_and(|receiving| receiving.from == peer) {
            self.give_up(out);
        }
        let sending = self.sending.remove(&peer)?;
        out.disk.push_back(DiskJob::EndRead { transfer: sending.outgoing.transfer() });
        Some(Told::Sent { to: peer, ok: false })
    }

    /// Takes in a frame. What this server has applied needs no snapshot.
    pub(super) fn handle(
        &mut self,
        from: u64,
        frame: SnapshotFrame,
        applied: u64,
        out: &mut Out<'_>,
    ) -> Option<Told> {
        let transfer = frame.transfer();
        match frame {
            SnapshotFrame::Begin { point, length, checksum, .. } => {
                let begun = self.begin(from, (transfer, length, checksum), &point, applied, out);
                if let Err(reason) = begun {
                    out.send(from, SnapshotFrame::Refused { transfer, reason });
                }
            }
            SnapshotFrame::Chunk { offset, bytes, .. } => self.chunk(from, transfer, offset, bytes, out),
            SnapshotFrame::End { .. } => self.end(from, transfer, out),
            SnapshotFrame::Abort { .. } => {
                if self.receives(from, transfer).is_some() {
                    self.give_up(out);
                }
            }
            SnapshotFrame::Ack { received, .. } => {
                self.sends(from, transfer)?.outgoing.handle_ack(received);
                self.read_on(from, out);
                return Some(Told::Progress { to: from });
            }
            SnapshotFrame::Accepted { .. } | SnapshotFrame::Refused { .. } => {
                let ended = self.sends(from, transfer)?.ended;
                let ok = ended && matches!(frame, SnapshotFrame::Accepted { .. });
                if let SnapshotFrame::Refused { reason, .. } = frame {
                    tracing::info!(peer = format_args!("{from:x}"), %reason, "a server does not take a snapshot");
                }
                self.sending.remove(&from);
                out.disk.push_back(DiskJob::EndRead { transfer });
                return Some(Told::Sent { to: from, ok });
            }
        }
        None
    }

    /// Lets the sender of a file that is being taken in know that this goes on: very many files take longer than it waits
    /// for a word. To be called in intervals.
    pub(super) fn remind(&self, out: &mut Out<'_>) {
        if let Some(receiving) = self.receiving.as_ref().filter(|receiving| receiving.incoming.is_none()) {
            let transfer = receiving.transfer;
            out.send(receiving.from, SnapshotFrame::Ack { transfer, received: 0 });
        }
    }

    /// A part of a file was read.
    pub(super) fn was_read(
        &mut self,
        transfer: u64,
        bytes: Result<Vec<u8>, String>,
        out: &mut Out<'_>,
    ) -> Option<Told> {
        let found = self.sending.iter_mut().find(|(_, sending)| sending.outgoing.transfer() == transfer);
        let (&to, sending) = found?;
        sending.reading = false;
        match bytes {
            Ok(bytes) if !bytes.is_empty() => {
                out.send(to, sending.outgoing.chunk(bytes));
                self.read_on(to, out);
                None
            }
            failed => {
                let why = failed.err().unwrap_or_else(|| "it is too short".to_owned());
                tracing::warn!(why, "a snapshot cannot be sent");
                self.abort(to, out);
                Some(Told::Sent { to, ok: false })
            }
        }
    }

    /// A part of a copy was written.
    pub(super) fn was_written(&mut self, copy: u64, result: Result<(), String>, out: &mut Out<'_>) {
        let Some(receiving) = self.receiving.as_mut().filter(|receiving| receiving.copy == copy) else {
            return;
        };
        match result {
            Ok(()) => {
                let Some((length, ack)) = receiving.acks.pop_front() else { return };
                receiving.unwritten = receiving.unwritten.saturating_sub(length);
                out.send(receiving.from, ack);
            }
            Err(why) => {
                tracing::warn!(why, "a snapshot cannot be stored");
                self.refuse(RefuseReason::Storage, out);
            }
        }
    }

    /// A copy is complete, or is not what it must be.
    pub(super) fn was_copied(
        &mut self,
        copy: u64,
        database: Result<Box<Database>, String>,
        out: &mut Out<'_>,
    ) -> Option<Told> {
        self.receiving.as_ref().filter(|receiving| receiving.copy == copy)?;
        match database {
            Ok(database) => {
                let Receiving { from, transfer, message, .. } = self.receiving.take()?;
                let index = message.snapshot()?.point.at.index;
                self.loaded = Some((index, database));
                Some(Told::Received { from, transfer, message: Box::new(message) })
            }
            Err(why) => {
                tracing::warn!(why, "a snapshot came damaged, or cannot be stored");
                self.refuse(RefuseReason::Damaged, out);
                None
            }
        }
    }

    /// The state of a received snapshot, which comes into force.
    pub(super) fn take_loaded(&mut self, index: u64) -> Option<Box<Database>> {
        self.loaded.take().filter(|(loaded, _)| *loaded == index).map(|(_, database)| database)
    }

    /// The engine had no need of what was received.
    pub(super) fn drop_loaded(&mut self) {
        self.loaded = None;
    }

    fn sends(&mut self, to: u64, transfer: u64) -> Option<&mut Sending> {
        self.sending.get_mut(&to).filter(|sending| sending.outgoing.transfer() == transfer)
    }

    fn receives(&mut self, from: u64, transfer: u64) -> Option<&mut Receiving> {
        self.receiving.as_mut().filter(|found| (found.from, found.transfer) == (from, transfer))
    }

    /// Has the next part read, one at a time, or ends.
    fn read_on(&mut self, to: u64, out: &mut Out<'_>) {
        let Some(sending) = self.sending.get_mut(&to) else { return };
        if sending.reading {
            return;
        }
        let transfer = sending.outgoing.transfer();
        if let Some(part) = sending.outgoing.next_part() {
            sending.reading = true;
            let (index, offset, length) = (sending.index, part.offset, part.length);
            out.disk.push_back(DiskJob::ReadSnapshot { transfer, index, offset, length });
        } else if sending.outgoing.is_sent() && !sending.ended {
            sending.ended = true;
            out.send(to, SnapshotFrame::End { transfer });
        }
    }

    fn abort(&mut self, to: u64, out: &mut Out<'_>) {
        let Some(sending) = self.sending.remove(&to) else { return };
        let transfer = sending.outgoing.transfer();
        out.disk.push_back(DiskJob::EndRead { transfer });
        out.send(to, SnapshotFrame::Abort { transfer });
    }

    fn begin(
        &mut self,
        from: u64,
        (transfer, length, checksum): (u64, u64, u32),
        point: &[u8],
        applied: u64,
        out: &mut Out<'_>,
    ) -> Result<(), RefuseReason> {
        let message = Message::decode(point).map_err(|_| RefuseReason::Damaged)?;
        let record = message.snapshot().ok_or(RefuseReason::Damaged)?.clone();
        if (SnapshotSource::length(&record), record.checksum) != (length, checksum) {
            return Err(RefuseReason::Damaged);
        }
        if record.point.at.index <= applied {
            return Err(RefuseReason::NotNeeded);
        }
        if self.loaded.is_some() {
            return Err(RefuseReason::Busy);
        }
        let incoming = Incoming::begin(transfer, length, checksum, LONGEST)?;
        // A master that begins one knows better than the one before.
        self.give_up(out);
        self.last = self.last.saturating_add(1);
        let copy = self.last;
        out.disk.push_back(DiskJob::BeginCopy { copy, record });
        let (incoming, acks) = (Some(incoming), VecDeque::new());
        self.receiving = Some(Receiving { from, transfer, copy, message, incoming, acks, unwritten: 0 });
        Ok(())
    }

    fn chunk(&mut self, from: u64, transfer: u64, offset: u64, bytes: Vec<u8>, out: &mut Out<'_>) {
        let Some(receiving) = self.receives(from, transfer) else { return };
        let length = bytes.len() as u64;
        let unwritten = receiving.unwritten.saturating_add(length);
        let taken = receiving.incoming.as_mut().filter(|_| unwritten <= WAITING);
        match taken.map(|incoming| incoming.handle_chunk(offset, &bytes)) {
            Some(Ok(ack)) => {
                receiving.unwritten = unwritten;
                receiving.acks.push_back((length, ack));
                out.disk.push_back(DiskJob::WriteCopy { copy: receiving.copy, bytes });
            }
            Some(Err(reason)) => self.refuse(reason, out),
            None => self.refuse(RefuseReason::Damaged, out),
        }
    }

    fn end(&mut self, from: u64, transfer: u64, out: &mut Out<'_>) {
        let Some(receiving) = self.receives(from, transfer) else { return };
        match receiving.incoming.take().map(Incoming::finish) {
            Some(Ok(())) => out.disk.push_back(DiskJob::FinishCopy { copy: receiving.copy }),
            _ => self.refuse(RefuseReason::Damaged, out),
        }
    }

    fn refuse(&mut self, reason: RefuseReason, out: &mut Out<'_>) {
        if let Some(receiving) = &self.receiving {
            let transfer = receiving.transfer;
            out.send(receiving.from, SnapshotFrame::Refused { transfer, reason });
        }
        self.give_up(out);
    }

    fn give_up(&mut self, out: &mut Out<'_>) {
        if let Some(receiving) = self.receiving.take() {
            out.disk.push_back(DiskJob::DropCopy { copy: receiving.copy });
        }
    }
}
