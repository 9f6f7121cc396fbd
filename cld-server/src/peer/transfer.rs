//! A snapshot on its way from one server to another, as two state machines.
//!
//! The sender begins, sends chunks in order, and ends. Not more than [`WINDOW`] bytes are on their way: the receiver
//! acknowledges what it has dealt with (stored, say), and that lets more come. So a slow disk at the receiver slows the
//! sender, and messages that are sent meanwhile wait behind few chunks.

use super::frame::{MAX_CHUNK, RefuseReason, SnapshotFrame};

/// The most bytes of a snapshot that are sent and not acknowledged.
pub const WINDOW: u64 = 8 * MAX_CHUNK as u64;

/// The sender's side of one transfer.
#[derive(Debug, Clone)]
pub struct Outgoing {
    transfer: u64,
    length: u64,
    sent: u64,
    acknowledged: u64,
}

/// A part of the snapshot to read and send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub offset: u64,
    /// Its length, at most [`MAX_CHUNK`].
    pub length: usize,
}

impl Outgoing {
    /// A transfer with a number that this server has not used for this peer, and the frame that begins it.
    #[must_use]
    pub const fn begin(transfer: u64, point: Vec<u8>, length: u64, checksum: u32) -> (Self, SnapshotFrame) {
        let outgoing = Self { transfer, length, sent: 0, acknowledged: 0 };
        (outgoing, SnapshotFrame::Begin { transfer, point, length, checksum })
    }

    /// The transfer's number.
    #[must_use]
    pub const fn transfer(&self) -> u64 {
        self.transfer
    }

    /// The part to send next, by [`Self::chunk`]; nothing while the window is full or when all is sent.
    #[must_use]
    pub fn next_part(&self) -> Option<Part> {
        let window = WINDOW.saturating_sub(self.sent - self.acknowledged);
        let length = window.min(self.length - self.sent).min(MAX_CHUNK as u64);
        let length = usize::try_from(length).ok().filter(|&length| length > 0)?;
        Some(Part { offset: self.sent, length })
    }

    /// The frame for the part that [`Self::next_part`] asked for. Of bytes beyond its length none is sent; if there are fewer,
    /// it asks for the others later.
    #[must_use]
    pub fn chunk(&mut self, mut bytes: Vec<u8>) -> SnapshotFrame {
        let offset = self.sent;
        bytes.truncate(self.next_part().map_or(0, |part| part.length));
        self.sent += bytes.len() as u64;
        SnapshotFrame::Chunk { transfer: self.transfer, offset, bytes }
    }

    /// The receiver has dealt with so many bytes. What was not sent cannot be acknowledged, and does nothing.
    pub const fn handle_ack(&mut self, received: u64) {
        if received > self.acknowledged && received <= self.sent {
            self.acknowledged = received;
        }
    }

    /// Whether all was sent, so that [`SnapshotFrame::End`] may follow.
    #[must_use]
    pub const fn is_sent(&self) -> bool {
        self.sent == self.length
    }

    /// How much the receiver has dealt with, in bytes.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}

/// The receiver's side of one transfer.
#[derive(Debug, Clone)]
pub struct Incoming {
    transfer: u64,
    length: u64,
    checksum: u32,
    received: u64,
    computed: u32,
}

impl Incoming {
    /// A transfer that begins with what [`SnapshotFrame::Begin`] says.
    ///
    /// # Errors
    /// [`RefuseReason::TooLong`] above `limit` bytes.
    pub const fn begin(transfer: u64, length: u64, checksum: u32, limit: u64) -> Result<Self, RefuseReason> {
        if length > limit {
            return Err(RefuseReason::TooLong);
        }
        Ok(Self { transfer, length, checksum, received: 0, computed: 0 })
    }

    /// The transfer's number.
    #[must_use]
    pub const fn transfer(&self) -> u64 {
        self.transfer
    }

    /// Checks a chunk, which may then be stored behind the others. When that is done, send the frame that this returns.
    ///
    /// # Errors
    /// [`RefuseReason::Damaged`] if it is not the next part: give the transfer up.
    pub fn handle_chunk(&mut self, offset: u64, bytes: &[u8]) -> Result<SnapshotFrame, RefuseReason> {
        let length = bytes.len() as u64;
        if offset != self.received || length == 0 || length > self.length - self.received {
            return Err(RefuseReason::Damaged);
        }
        self.received += length;
        self.computed = crc32c::crc32c_append(self.computed, bytes);
        Ok(SnapshotFrame::Ack { transfer: self.transfer, received: self.received })
    }

    /// The sender says that this was all.
    ///
    /// # Errors
    /// [`RefuseReason::Damaged`] if it is not all, or not what was announced.
    pub const fn finish(self) -> Result<(), RefuseReason> {
        if self.received == self.length && self.computed == self.checksum {
            Ok(())
        } else {
            Err(RefuseReason::Damaged)
        }
    }
}
