//! Numbers by chance that can be had again: a failed test names the seed.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Unless it is seeded, begins anew in each run; `NARWHARF_TEST_SEED` makes it begin where a failed one did.
pub struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    pub fn new() -> Self {
        let said = std::env::var("NARWHARF_TEST_SEED").ok();
        let seed = said.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.expect("a clock after 1970").as_nanos() as u64
        });
        Self::seeded(seed)
    }

    /// The same at every run.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// From 0 to one less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        // Knuth's linear congruential generator (MMIX); its upper bits are spread well enough.
        self.state = self
            .state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.state >> 33) as usize % bound
    }
}

impl fmt::Display for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NARWHARF_TEST_SEED={}", self.seed)
    }
}
