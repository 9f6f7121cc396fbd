//! The readers of file events, each with a queue of its own.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Poll, Waker};

use crate::types::FileEvent;

/// How many events wait for a reader at most; then the oldest make room.
const QUEUE: usize = 1024;

/// Names a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReaderId(u64);

#[derive(Debug, Default)]
struct Reader {
    queue: VecDeque<FileEvent>,
    waker: Option<Waker>,
}

/// All readers of a session's file events.
#[derive(Debug, Default)]
pub(super) struct Readers {
    next: u64,
    readers: BTreeMap<ReaderId, Reader>,
    ended: bool,
}

impl Readers {
    pub(super) fn add(&mut self) -> ReaderId {
        let id = ReaderId(self.next);
        self.next = self.next.wrapping_add(1);
        self.readers.insert(id, Reader::default());
        id
    }

    pub(super) fn remove(&mut self, id: ReaderId) {
        self.readers.remove(&id);
    }

    /// The next event; none after the last one of a session that has ended.
    pub(super) fn poll(&mut self, id: ReaderId, waker: &Waker) -> Poll<Option<FileEvent>> {
        let Some(reader) = self.readers.get_mut(&id) else { return Poll::Ready(None) };
        match reader.queue.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if self.ended => Poll::Ready(None),
            None => {
                reader.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// Tells all readers; gives who is to be woken.
    pub(super) fn tell(&mut self, event: &FileEvent) -> impl Iterator<Item = Waker> {
        self.readers.values_mut().filter_map(|reader| {
            if reader.queue.len() >= QUEUE {
                let missed = reader.queue.pop_front().map_or(0, |oldest| oldest.missed.saturating_add(1));
                if let Some(next) = reader.queue.front_mut() {
                    next.missed = next.missed.saturating_add(missed);
                }
            }
            reader.queue.push_back(event.clone());
            reader.waker.take()
        })
    }

    /// Nothing follows; gives who is to be woken.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Waker> {
        self.ended = true;
        self.readers.values_mut().filter_map(|reader| reader.waker.take())
    }
}
