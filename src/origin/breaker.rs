//! Stops asking a bucket that has done nothing but fail, so that its clients hear "not now" at
//! once instead of after a deadline each.
//!
//! ```text
//! Closed { failing since? } ──nothing but failure for 30 s──▶ Open { one request a second }
//!         ◀──────────────────any success────────────────────┘
//! ```
//! A success is any sensible answer, a refusal included: what the breaker spares is waiting, and
//! whoever refuses at once makes nobody wait. The requests let through while it is open are real
//! ones; nothing is asked for the breaker's sake.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long nothing but failure opens it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Fewer failures than this are no pattern, however far apart they lie.
const PATTERN: u32 = 5;
/// Between two requests while it is open.
const PROBE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failing: Option<Failing> },
    Open { since: Instant, next_try: Instant },
}

/// A run of failures without a success between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failing {
    since: Instant,
    times: u32,
}

/// Pure: what an outcome at `now` makes of a state.
fn after(state: State, now: Instant, success: bool) -> State {
    match (state, success) {
        (_, true) => State::Closed { failing: None },
        (State::Closed { failing: None }, false) => State::Closed {
            failing: Some(Failing {
                since: now,
                times: 1,
            }),
        },
        (State::Closed { failing: Some(run) }, false) => {
            let times = run.times.saturating_add(1);
            if times >= PATTERN && now.saturating_duration_since(run.since) >= PATIENCE {
                State::Open {
                    since: run.since,
                    next_try: now + PROBE_EVERY,
                }
            } else {
                State::Closed {
                    failing: Some(Failing { times, ..run }),
                }
            }
        }
        (open @ State::Open { .. }, false) => open,
    }
}

/// The breaker of one bucket. All methods are a few instructions under a lock.
#[derive(Debug)]
pub struct Breaker(Mutex<State>);

impl Breaker {
    pub fn new() -> Self {
        Self(Mutex::new(State::Closed { failing: None }))
    }

    /// May a request go out now? Errors: for how long there has been nothing but failure.
    pub fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.lock();
        match &mut *state {
            State::Closed { .. } => Ok(()),
            State::Open { next_try, .. } if now >= *next_try => {
                *next_try = now + PROBE_EVERY;
                Ok(())
            }
            State::Open { since, .. } => Err(now.saturating_duration_since(*since)),
        }
    }

    /// Tells how a request ended. Returns whether the breaker opened or closed by it.
    pub fn record(&self, now: Instant, success: bool) -> Option<Turn> {
        let mut state = self.lock();
        let was_open = matches!(*state, State::Open { .. });
        *state = after(*state, now, success);
        match (was_open, matches!(*state, State::Open { .. })) {
            (false, true) => Some(Turn::Opened),
            (true, false) => Some(Turn::Closed),
            _ => None,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(*self.lock(), State::Open { .. })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("no panic while the breaker's state is held")
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

/// A change of the breaker's state, worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Opened,
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn opened(start: Instant) -> Breaker {
        let breaker = Breaker::new();
        for second in 0..=30 {
            breaker.record(at(start, second), false);
        }
        assert!(breaker.is_open());
        breaker
    }

    #[test]
    fn it_opens_after_thirty_seconds_of_nothing_but_failure_and_not_before() {
        let (breaker, start) = (Breaker::new(), Instant::now());
        for second in 0..30 {
            assert_eq!(breaker.record(at(start, second), false), None);
        }
        assert_eq!(breaker.admit(at(start, 29)), Ok(()));
        assert_eq!(breaker.record(at(start, 30), false), Some(Turn::Opened));
        assert_eq!(breaker.admit(at(start, 30)), Err(Duration::from_secs(30)));
    }

    #[test]
    fn one_success_among_the_failures_begins_the_count_anew() {
        let (breaker, start) = (Breaker::new(), Instant::now());
        for second in 0..60 {
            breaker.record(at(start, second), second == 20 || second == 45);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_few_failures_far_apart_are_no_pattern() {
        let (breaker, start) = (Breaker::new(), Instant::now());
        for hour in 0..u64::from(PATTERN) - 1 {
            breaker.record(at(start, hour * 3600), false);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn while_open_one_request_a_second_goes_through() {
        let start = Instant::now();
        let breaker = opened(start);
        let through = (0..5_000)
            .filter(|ms| {
                breaker
                    .admit(at(start, 30) + Duration::from_millis(*ms))
                    .is_ok()
            })
            .count();
        assert_eq!(through, 4, "at 31, 32, 33 and 34 s");
    }

    #[test]
    fn any_success_closes_it() {
        let start = Instant::now();
        let breaker = opened(start);
        assert_eq!(breaker.record(at(start, 31), true), Some(Turn::Closed));
        assert_eq!(breaker.admit(at(start, 31)), Ok(()));
    }
}
