//! The link's storage on the server: it grows up to a limit, and gives its memory back when it is empty.

use std::collections::VecDeque;

use cldc_core::link::{Buffer, Queue};
use cldc_core::wire::Full;

/// A list of at most `limit` items.
#[derive(Debug)]
pub(super) struct List<T> {
    items: VecDeque<T>,
    limit: usize,
}

impl<T> List<T> {
    pub(super) const fn new(limit: usize) -> Self {
        Self { items: VecDeque::new(), limit }
    }
}

impl<T> Queue for List<T> {
    type Item = T;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn get(&self, index: usize) -> Option<&T> {
        self.items.get(index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.items.get_mut(index)
    }

    fn push(&mut self, item: T) -> Result<(), Full> {
        if self.items.len() >= self.limit {
            return Err(Full);
        }
        self.items.push_back(item);
        Ok(())
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        let item = self.items.remove(index);
        if self.items.is_empty() {
            self.items = VecDeque::new();
        }
        item
    }
}

/// At most `LIMIT` bytes.
#[derive(Debug, Default)]
pub(super) struct Bytes<const LIMIT: usize>(Vec<u8>);

impl<const LIMIT: usize> Buffer for Bytes<LIMIT> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if self.0.len().saturating_add(bytes.len()) > LIMIT {
            return Err(Full);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn clear(&mut self) {
        self.0 = Vec::new();
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}
