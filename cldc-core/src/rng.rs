//! Random numbers from a seed: HMAC-SHA1 over a counter, keyed with the seed.
//!
//! A pseudo-random function in counter mode is unpredictable to whoever does not know the seed, and the digest is
//! linked anyway. The seed must differ at every boot and come from a good source.

use crate::wire::Key;

/// A generator of unpredictable numbers.
#[derive(Clone)]
pub struct Rng {
    seed: [u8; 32],
    counter: u64,
}

impl Rng {
    /// The generator of this seed.
    #[must_use]
    pub const fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        // A seed of 32 bytes is never an empty key.
        let Ok(key) = Key::new(&self.seed) else { return self.counter };
        key.derive(&self.counter.to_be_bytes())
    }
}

impl core::fmt::Debug for Rng {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rng(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_positions_give_different_numbers_and_the_same_seed_the_same() {
        let mut one = Rng::new([1; 32]);
        let mut same = Rng::new([1; 32]);
        let mut other = Rng::new([2; 32]);
        let first = one.next_u64();
        assert_eq!(first, same.next_u64());
        assert_ne!(first, other.next_u64());
        assert_ne!(first, one.next_u64());
    }
}
