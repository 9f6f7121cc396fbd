//! The storage of the peer's link: growing vectors.

use cldc_core::link::{Buffer, Early, Outgoing, Queue, Receiver, Sender};
use cldc_core::wire::Full;

pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T> Queue for List<T> {
    type Item = T;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.0.get_mut(index)
    }

    fn push(&mut self, item: T) -> Result<(), Full> {
        self.0.push(item);
        Ok(())
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        (index < self.0.len()).then(|| self.0.remove(index))
    }
}

#[derive(Default)]
pub(crate) struct Bytes(Vec<u8>);

impl Buffer for Bytes {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

pub(crate) type PeerSender = Sender<List<Outgoing<Vec<u8>>>>;
pub(crate) type PeerReceiver = Receiver<Bytes, List<Early<Bytes>>>;

pub(crate) fn receiver(next: u64) -> PeerReceiver {
    Receiver::new(next, Bytes::default(), List(Vec::new()))
}
