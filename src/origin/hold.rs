//! For how long an upload's requests are tried again.
//!
//! A client that has sent its body waits for the bucket, and may not be able to send it again, so
//! giving up is dear. It is done when the bucket has done nothing but fail for a while during which
//! the body stood still. As long as the body arrives there is no hurry: its own deadlines end it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The patience of one upload. Clones are the same.
#[derive(Debug, Clone)]
pub struct Hold {
    span: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    body: Body,
    /// Since when all requests of this upload failed; `None`: the last one did not.
    failing: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Body {
    Arrives,
    /// Since then it stands still: it is in, or waits for the bucket.
    Waits(Instant),
    /// It will never be in.
    Lost,
}

impl Hold {
    /// Of `span`, for a body that arrives.
    pub fn of(span: Duration) -> Self {
        let state = State {
            body: Body::Arrives,
            failing: None,
        };
        Self {
            span,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The body waits for the bucket, or is in. The first word counts.
    pub fn begin(&self, now: Instant) {
        let mut state = self.state();
        if let Body::Arrives = state.body {
            state.body = Body::Waits(now);
        }
    }

    /// The body goes on arriving.
    pub fn suspend(&self) {
        let mut state = self.state();
        if let Body::Waits(_) = state.body {
            state.body = Body::Arrives;
        }
    }

    /// The body will never be in: nothing is tried again.
    pub fn give_up(&self) {
        self.state().body = Body::Lost;
    }

    /// The longest pause that is worth making: after a longer one it could not be tried again once the
    /// body is in.
    pub(super) fn longest_pause(&self) -> Duration {
        self.span
    }

    /// A request was answered.
    pub(super) fn succeeded(&self) {
        self.state().failing = None;
    }

    /// A request failed at `now`. Whether it may be made again at `next_try`.
    pub(super) fn allows(&self, now: Instant, next_try: Instant) -> bool {
        let mut state = self.state();
        let failing = *state.failing.get_or_insert(now);
        match state.body {
            Body::Arrives => true,
            Body::Waits(since) => next_try < since.max(failing) + self.span,
            Body::Lost => false,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(20);
    const HOUR: Duration = Duration::from_secs(3600);

    fn second(seconds: u32) -> Duration {
        Duration::from_secs(1) * seconds
    }

    #[test]
    fn there_is_no_end_while_the_body_arrives_and_one_when_it_is_in() {
        let (hold, start) = (Hold::of(SPAN), Instant::now());
        let later = start + HOUR;
        assert!(hold.allows(start, later));
        hold.begin(later);
        hold.begin(later + HOUR);
        assert!(hold.allows(later, later + second(19)));
        assert!(!hold.allows(later, later + second(20)));
    }

    #[test]
    fn a_body_that_waits_for_the_bucket_waits_no_longer_than_the_span() {
        let (hold, start) = (Hold::of(SPAN), Instant::now());
        hold.begin(start);
        assert!(hold.allows(start, start + second(19)));
        assert!(!hold.allows(start, start + second(20)));
        hold.suspend();
        assert!(hold.allows(start, start + HOUR), "it moves again");
    }

    #[test]
    fn a_bucket_that_was_slow_has_the_whole_span_from_its_first_failure_on() {
        let (hold, start) = (Hold::of(SPAN), Instant::now());
        hold.begin(start);
        let failed = start + HOUR;
        assert!(hold.allows(failed, failed + second(19)));
        assert!(!hold.allows(failed + second(10), failed + second(20)));
        hold.succeeded();
        let again = failed + HOUR;
        assert!(hold.allows(again, again + second(19)));
    }

    #[test]
    fn for_a_body_that_is_lost_nothing_is_tried_again() {
        let (hold, now) = (Hold::of(SPAN), Instant::now());
        hold.begin(now);
        hold.give_up();
        hold.suspend();
        assert!(!hold.allows(now, now));
    }
}
