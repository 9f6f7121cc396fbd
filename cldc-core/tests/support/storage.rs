//! Storage for a link that grows up to a limit: what a server has.

use cldc_core::link::{Buffer, Queue};
use cldc_core::wire::Full;
use cldc_core::wire::limits::MAX_MESSAGE;

/// A list of at most `LIMIT` items.
#[derive(Debug)]
pub(crate) struct List<T, const LIMIT: usize>(pub(crate) Vec<T>);

impl<T, const LIMIT: usize> Default for List<T, LIMIT> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const LIMIT: usize> Queue for List<T, LIMIT> {
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
        if self.0.len() >= LIMIT {
            return Err(Full);
        }
        self.0.push(item);
        Ok(())
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        (index < self.0.len()).then(|| self.0.remove(index))
    }
}

/// A message's bytes, of the longest message at most.
#[derive(Debug, Default)]
pub(crate) struct Bytes(Vec<u8>);

impl Buffer for Bytes {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if self.0.len() + bytes.len() > MAX_MESSAGE {
            return Err(Full);
        }
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
