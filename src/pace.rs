//! How slow a client may be: the one home of that policy (`reliability.md`, "Clients").
//!
//! Only time in which the other side waits for the client counts: bytes that it has yet to take, or to
//! give. An answer that we are slow to give, because the bucket is, costs no client its connection.

use std::time::Duration;

use tokio::time::Instant;

/// Of the time in which a client is waited for, it is judged by stretches of so much.
const STRETCH: Duration = Duration::from_secs(60);

/// Bytes a second that a client moves at least. A slower one needs a day for a gigabyte.
pub const LEAST_RATE: u64 = 10_000;

/// Bytes that must move in each stretch.
const LEAST: u64 = LEAST_RATE * STRETCH.as_secs();

/// Bytes that have moved within so much time at the least rate, judged by whole stretches.
pub fn moved_within(time: Duration) -> u64 {
    time.as_secs() / STRETCH.as_secs() * LEAST
}

/// How fast a client takes an answer, or gives a body. Pure: time is an argument.
#[derive(Debug, Default)]
pub struct Pace {
    /// Bytes that moved in this stretch.
    bytes: u64,
    /// How much of this stretch is over, up to the last bytes that moved.
    waited: Duration,
    /// Since when the client has been waited for.
    since: Option<Instant>,
}

impl Pace {
    /// Some bytes moved, at once or after a wait.
    pub fn moved(&mut self, bytes: u64, now: Instant) {
        self.waited += self.waiting(now);
        self.since = None;
        self.bytes += bytes;
        if self.waited >= STRETCH {
            *self = Self::default();
        }
    }

    /// The client is waited for; when this stretch will be over if it still is.
    pub fn waits(&mut self, now: Instant) -> Instant {
        let since = *self.since.get_or_insert(now);
        since + STRETCH.saturating_sub(self.waited)
    }

    /// The stretch is over and the client still waited for. `false`: it is too slow.
    pub fn go_on(&mut self, now: Instant) -> bool {
        let enough = self.bytes >= LEAST;
        *self = Self {
            since: Some(now),
            ..Self::default()
        };
        enough
    }

    /// Whether it has been waited for since the last bytes moved.
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    fn waiting(&self, now: Instant) -> Duration {
        self.since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Whether a client gets through that takes `bytes` after each wait of `wait`, for ten minutes.
    fn gets_through(bytes: u64, wait: Duration) -> bool {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::default(), start);
        while now < start + 600 * SECOND {
            let taken_at = now + wait;
            while pace.waits(now) <= taken_at {
                now = pace.waits(now);
                if !pace.go_on(now) {
                    return false;
                }
            }
            now = taken_at;
            pace.moved(bytes, now);
        }
        true
    }

    #[test]
    fn a_client_that_takes_nothing_has_a_minute() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.moved(100_000, start);
        assert_eq!(pace.waits(start), start + STRETCH);
        assert!(!pace.go_on(start + STRETCH));
    }

    #[test]
    fn the_least_rate_decides_however_it_is_spread() {
        assert!(gets_through(11_000, SECOND));
        assert!(!gets_through(9_000, SECOND));
        assert!(gets_through(300_000, 15 * SECOND));
        assert!(!gets_through(1, SECOND / 10), "a drip");
    }

    #[test]
    fn the_time_in_which_nothing_waits_is_not_the_clients() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..1_000 {
            pace.moved(10, now);
            now += 10 * SECOND;
        }
        assert_eq!(pace.waits(now), now + STRETCH);
    }

    #[test]
    fn what_moves_in_time_is_what_the_least_rate_comes_to_in_whole_stretches() {
        let taken = [0, 59, 60, 119, 120].map(|secs| moved_within(secs * SECOND));
        assert_eq!(taken, [0, 0, 600_000, 600_000, 1_200_000]);
    }

    proptest! {
        /// No client is let through at less than half the least rate, and none is cut above it twice.
        #[test]
        fn slow_ones_end_and_fast_ones_do_not(bytes in 1u64..1_000_000, millis in 1u64..50_000) {
            let rate = bytes as f64 * 1000.0 / millis as f64;
            let through = gets_through(bytes, Duration::from_millis(millis));
            if rate < 5_000.0 { prop_assert!(!through, "{rate}"); }
            if rate > 40_000.0 { prop_assert!(through, "{rate}"); }
        }
    }
}
