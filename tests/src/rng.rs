//! Small seeded randomness for tests: the same seed gives the same run.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A SplitMix64 generator: good enough to choose faults and identifiers, and repeatable.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose whole course follows from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator that differs in every run, for identifiers that must not be reused.
    #[must_use]
    pub fn fresh() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        u64::try_from((u128::from(self.next_u64()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// True with the probability `rate` (0 never, 1 always).
    pub fn chance(&mut self, rate: f64) -> bool {
        let draw = (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        draw < rate
    }

    /// `length` random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length.next_multiple_of(8));
        while bytes.len() < length {
            bytes.extend(self.next_u64().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// The seed of a test: the environment variable `CLD_TEST_SEED` (a decimal number), which repeats a run, or a new one.
#[must_use]
pub fn seed() -> u64 {
    let given = std::env::var("CLD_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| Rng::fresh().next_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        assert_eq!(a.bytes(37), b.bytes(37));
        assert_ne!(Rng::new(8).next_u64(), Rng::new(7).next_u64());
    }

    #[test]
    fn rates_are_kept() {
        let mut rng = Rng::new(1);
        let hits = (0..10_000).filter(|_| rng.chance(0.3)).count();
        assert!((2_800..3_200).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| !rng.chance(0.0) && rng.chance(1.0)));
        assert!((0..1_000).all(|_| rng.below(3) < 3));
    }
}
