//! Where a link keeps its messages and bytes: bounded storage that the user of the link chooses.

use crate::wire::Full;

/// A list with a limit, in the order of insertion.
pub trait Queue {
    /// What it holds.
    type Item;

    /// How many items it holds.
    fn len(&self) -> usize;

    /// Whether it holds nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at a place, counted from the oldest.
    fn get(&self, index: usize) -> Option<&Self::Item>;

    /// The item at a place, to be changed.
    fn get_mut(&mut self, index: usize) -> Option<&mut Self::Item>;

    /// Adds an item at the end.
    ///
    /// # Errors
    /// [`Full`] at the limit.
    fn push(&mut self, item: Self::Item) -> Result<(), Full>;

    /// Takes out the item at a place; those after it move up.
    fn remove(&mut self, index: usize) -> Option<Self::Item>;
}

impl<T, const N: usize> Queue for heapless::Vec<T, N> {
    type Item = T;

    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn get(&self, index: usize) -> Option<&T> {
        self.as_slice().get(index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.as_mut_slice().get_mut(index)
    }

    fn push(&mut self, item: T) -> Result<(), Full> {
        Self::push(self, item).map_err(|_| Full)
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        (index < self.as_slice().len()).then(|| Self::remove(self, index))
    }
}

/// A run of bytes with a limit.
pub trait Buffer {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`Full`] at the limit; then nothing has been added.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Full>;

    /// Forgets all bytes.
    fn clear(&mut self);

    /// The bytes.
    fn bytes(&self) -> &[u8];
}

impl<const N: usize> Buffer for heapless::Vec<u8, N> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.extend_from_slice(bytes).map_err(|_| Full)
    }

    fn clear(&mut self) {
        Self::clear(self);
    }

    fn bytes(&self) -> &[u8] {
        self.as_slice()
    }
}
