//! What a run is to be like; all of it follows from the seed.

use crate::rng::Rng;

use super::seconds;

/// How far faults go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// No more than a minority of the servers is away at a time, and nobody for long: no session may be lost.
    Bounded,
    /// Anything may happen; sessions may be lost, but no promise broken.
    Unbounded,
}

/// A run. Times are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Of everything.
    pub seed: u64,
    /// How far faults go.
    pub severity: Severity,
    /// Whether the faults stop before the end, after which everything must end well.
    pub calm_at_last: bool,
    /// Servers of the cell.
    pub servers: u64,
    /// Clients of extended sessions, and of plain ones.
    pub extended: usize,
    /// See [`Plan::extended`].
    pub plain: usize,
    /// Files in use at a time.
    pub files: usize,
    /// For how long faults happen.
    pub span: u64,
    /// The mean time between two faults.
    pub pace: u64,
    /// The mean time between two calls of a client.
    pub think: u64,
    /// The leases that clients ask for are this long or twice as long.
    pub lease: u64,
    /// Clocks are off by up to so many millionths.
    pub drift: u64,
    /// A snapshot is taken every so many entries, and so many are kept before it.
    pub snapshot: (u64, u64),
    /// How long a disk takes to make a write durable, at most.
    pub disk: u64,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let severity = if rng.below(5) < 2 { Severity::Bounded } else { Severity::Unbounded };
        let lease = match severity {
            Severity::Bounded => seconds(30),
            Severity::Unbounded => pick(&mut rng, [seconds(2), seconds(2), seconds(5), seconds(30)]),
        };
        Self {
            seed,
            severity,
            calm_at_last: rng.below(4) > 0,
            servers: pick(&mut rng, [1, 3, 3, 3, 5]),
            extended: 2 + usize::try_from(rng.below(4)).unwrap_or(0),
            plain: usize::try_from(rng.below(3)).unwrap_or(0),
            files: 1 + usize::try_from(rng.below(3)).unwrap_or(0),
            span: seconds(10 + rng.below(30)),
            pace: pick(&mut rng, [200_000, 500_000, 1_500_000]),
            think: pick(&mut rng, [20_000, 50_000, 150_000]),
            lease,
            drift: pick(&mut rng, [0, 1_000, 10_000, 10_000]),
            snapshot: pick(&mut rng, [(15, 3), (40, 10), (200, 50), (u64::MAX, 1000)]),
            disk: pick(&mut rng, [200, 2_000, 20_000]),
        }
    }

    /// The same for hasty people: less time, and fewer calls.
    #[must_use]
    pub fn shortened(self) -> Self {
        Self { span: self.span.min(seconds(12)), think: self.think.max(50_000), ..self }
    }
}

fn pick<T: Copy, const N: usize>(rng: &mut Rng, choices: [T; N]) -> T {
    let place = usize::try_from(rng.below(N as u64)).unwrap_or(0);
    #[expect(clippy::indexing_slicing, reason = "below N; no choices are a mistake of this file")]
    choices[place]
}
