//! What waits to be sent to one server: a lane for each kind of frame, each with a limit in bytes.
//!
//! Lanes are served in the order in which they are declared, but each has a share: when it has sent that much while others wait,
//! they have their turn. So messages go before a snapshot, and the snapshot goes on under a flood of messages.

use std::collections::VecDeque;

use super::frame::{Frame, MAX_CHUNK, SnapshotFrame};
use super::transfer::WINDOW;

/// What a frame costs beside its bytes.
const OVERHEAD: usize = 64;

/// The most bytes of messages that wait for one server.
pub(super) const MESSAGES: usize = 8 << 20;

/// The most bytes of relayed datagrams that wait for one server.
const RELAYS: usize = 1 << 20;

/// The most bytes of snapshot chunks that wait: the window of one transfer, and a little.
const CHUNKS: usize = WINDOW as usize + 2 * MAX_CHUNK;

/// The most bytes of answers about snapshots that wait.
const ANSWERS: usize = 64 << 10;

/// Frames for one server.
#[derive(Debug)]
pub(super) struct Outbox {
    lanes: [Lane; 4],
}

#[derive(Debug)]
struct Lane {
    frames: VecDeque<Vec<u8>>,
    /// With what the frames cost beside their bytes.
    size: usize,
    limit: usize,
    when_full: WhenFull,
    /// How much it may send in its turn, at least one frame.
    share: usize,
    /// What is left of that.
    credit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenFull {
    /// The oldest gives way: the sender's protocol copes with losses, and the newest is worth most.
    DropOldest,
    /// The new one is refused.
    Refuse,
}

/// The lane is full, and its frames may not be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Outbox {
    pub(super) fn new() -> Self {
        let lane = |limit, when_full, share| Lane {
            frames: VecDeque::new(),
            size: 0,
            limit,
            when_full,
            share,
            credit: share,
        };
        Self {
            lanes: [
                lane(ANSWERS, WhenFull::Refuse, 16 << 10),
                lane(MESSAGES, WhenFull::DropOldest, 256 << 10),
                lane(RELAYS, WhenFull::DropOldest, 64 << 10),
                lane(CHUNKS, WhenFull::Refuse, MAX_CHUNK),
            ],
        }
    }

    /// Adds a frame, and returns how many older ones were dropped for it.
    pub(super) fn push(&mut self, frame: &Frame) -> Result<u64, Full> {
        let [answers, messages, relays, chunks] = &mut self.lanes;
        let lane = match frame {
            Frame::Message(_) | Frame::Digest(_) => messages,
            Frame::Relay(_) => relays,
            Frame::Snapshot(
                SnapshotFrame::Ack { .. } | SnapshotFrame::Accepted { .. } | SnapshotFrame::Refused { .. },
            ) => answers,
            // In one lane, for they must come in order.
            Frame::Snapshot(
                SnapshotFrame::Begin { .. }
                | SnapshotFrame::Chunk { .. }
                | SnapshotFrame::End { .. }
                | SnapshotFrame::Abort { .. },
            ) => chunks,
        };
        lane.push(frame.encode())
    }

    /// The frame to send next.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        if !self.lanes.iter().any(|lane| lane.credit > 0 && !lane.frames.is_empty()) {
            for lane in &mut self.lanes {
                lane.credit = lane.share;
            }
        }
        self.lanes.iter_mut().find(|lane| lane.credit > 0 && !lane.frames.is_empty())?.pop()
    }

    /// Drops all frames, and returns how many there were.
    pub(super) fn clear(&mut self) -> u64 {
        let dropped = self.lanes.iter().map(|lane| lane.frames.len() as u64).sum();
        *self = Self::new();
        dropped
    }

    /// What waits, in bytes.
    pub(super) fn size(&self) -> usize {
        self.lanes.iter().map(|lane| lane.size).sum()
    }
}

impl Lane {
    fn push(&mut self, frame: Vec<u8>) -> Result<u64, Full> {
        let size = frame.len() + OVERHEAD;
        let mut dropped = 0;
        while self.size + size > self.limit {
            if self.when_full == WhenFull::Refuse || self.take().is_none() {
                return Err(Full);
            }
            dropped += 1;
        }
        self.size += size;
        self.frames.push_back(frame);
        Ok(dropped)
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let frame = self.take()?;
        self.credit = self.credit.saturating_sub(frame.len() + OVERHEAD);
        Some(frame)
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let frame = self.frames.pop_front()?;
        self.size -= frame.len() + OVERHEAD;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(byte: u8, length: usize) -> Frame {
        Frame::Message(vec![byte; length])
    }

    fn chunk(offset: u64) -> Frame {
        Frame::Snapshot(SnapshotFrame::Chunk { transfer: 1, offset, bytes: vec![0; MAX_CHUNK] })
    }

    fn popped(outbox: &mut Outbox) -> Vec<Frame> {
        std::iter::from_fn(|| outbox.pop()).map(|bytes| Frame::decode(&bytes).unwrap()).collect()
    }

    #[test]
    fn messages_overtake_a_snapshot_and_the_snapshot_goes_on() {
        let mut outbox = Outbox::new();
        outbox.push(&chunk(0)).unwrap();
        outbox.push(&chunk(1)).unwrap();
        for _ in 0..100 {
            outbox.push(&message(1, 8 << 10)).unwrap();
        }
        let frames = popped(&mut outbox);
        let places: Vec<_> =
            (0..100).filter(|&place: &usize| !matches!(frames[place], Frame::Message(_))).collect();
        assert_eq!(places, [32, 65], "a chunk after each 256 KiB of messages");
        assert!(frames[32] == chunk(0) && frames[65] == chunk(1));
        assert_eq!(frames.len(), 102);
        assert_eq!(outbox.size(), 0);
    }

    #[test]
    fn a_full_lane_of_messages_drops_the_oldest_and_nothing_else() {
        let mut outbox = Outbox::new();
        outbox.push(&chunk(0)).unwrap();
        let mut dropped = 0;
        for byte in 0..20 {
            dropped += outbox.push(&message(byte, 1 << 20)).unwrap();
            assert!(outbox.size() <= MESSAGES + CHUNKS);
        }
        let frames = popped(&mut outbox);
        assert_eq!(frames.len() as u64, 21 - dropped);
        let bytes = frames.iter().filter_map(|frame| match frame {
            Frame::Message(bytes) => bytes.first().copied(),
            _ => None,
        });
        assert_eq!(bytes.collect::<Vec<_>>(), (13..20).collect::<Vec<_>>());
    }

    #[test]
    fn many_empty_frames_are_bounded_too() {
        let mut outbox = Outbox::new();
        let dropped: u64 = (0..200_000).map(|_| outbox.push(&message(0, 0)).unwrap()).sum();
        assert_eq!(popped(&mut outbox).len(), MESSAGES / (OVERHEAD + 2));
        assert!(dropped > 0);
    }

    #[test]
    fn chunks_beyond_the_window_are_refused_and_never_dropped() {
        let mut outbox = Outbox::new();
        let taken = (0..100).take_while(|&offset| outbox.push(&chunk(offset)).is_ok()).count();
        assert!(taken as u64 >= WINDOW / MAX_CHUNK as u64 && taken < 100, "{taken}");
        let expected: Vec<_> = (0..taken as u64).map(chunk).collect();
        assert!(popped(&mut outbox) == expected);
    }
}
