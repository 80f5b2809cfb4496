//! When a request that failed is made again: how long after, until when, and how often over all.
//!
//! Retries are for the hiccup, not for the outage. Three bounds hold them: each request's own
//! `hold`, after which no new try starts; a budget over all requests, so that a bucket in trouble
//! hears at most a fifth more than its clients ask; and the breaker in front of it all. Every
//! decision is a function of its arguments, so that tests need neither sockets nor sleeps.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::error::OriginError;
use super::hold::Hold;

/// The first pause; jitter makes it up to twice that.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Pauses double up to this, before jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A bucket that throttles is left alone at least so long: R2 takes one write a second per key
/// (R2 documentation, "Limits").
const THROTTLED_PAUSE: Duration = Duration::from_secs(1);

/// How long one request may go on trying.
#[derive(Debug, Clone, Copy)]
pub enum Patience<'a> {
    /// A single try.
    One,
    /// No new try starts after this; one under way may end.
    Hold(Duration),
    /// For an upload, whose hold may begin later than its tries, and which outlasts an open breaker:
    /// giving up would cost the client all it has sent.
    Upload(&'a Hold),
}

/// The tries of one request.
#[derive(Debug)]
pub struct Tries<'a> {
    began: Instant,
    patience: Patience<'a>,
    pauses: ExponentialBackoff,
}

impl<'a> Tries<'a> {
    pub fn begin(now: Instant, patience: Patience<'a>) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_factor(2.0)
            .without_max_times()
            .with_jitter()
            .build();
        Self {
            began: now,
            patience,
            pauses,
        }
    }

    /// How long to wait before the next try, after `cause` at `now`; `None`: give up, and at once
    /// rather than after a pause that would lead nowhere.
    pub fn pause_after(&mut self, cause: &OriginError, now: Instant) -> Option<Duration> {
        let outlasts_breaker = matches!(self.patience, Patience::Upload(_));
        let own = self.pauses.next()?;
        let pause = match cause {
            OriginError::Throttled { retry_after, .. } => {
                let asked = retry_after.unwrap_or_default();
                let asked = match self.patience {
                    // An hour would be slept through with all that the upload holds, whatever became
                    // of its body and its client meanwhile.
                    Patience::Upload(hold) => asked.min(hold.longest_pause()),
                    Patience::One | Patience::Hold(_) => asked,
                };
                // The jitter stays on top, or all who were throttled together come back together.
                own + asked.max(THROTTLED_PAUSE)
            }
            OriginError::BreakerOpen { .. } if outlasts_breaker => LONGEST_PAUSE,
            cause if cause.is_transient() => own,
            _ => return None,
        };
        let allowed = match self.patience {
            Patience::One => false,
            Patience::Hold(hold) => now + pause < self.began + hold,
            Patience::Upload(hold) => hold.allows(now, now + pause),
        };
        allowed.then_some(pause)
    }
}

/// Over how many seconds requests and retries are compared.
const WINDOW: Duration = Duration::from_secs(10);
/// One retry for so many requests within the window.
const REQUESTS_PER_RETRY: u64 = 5;
/// Retries granted in any one second whatever the traffic, so that a quiet gateway may retry.
const ALWAYS: u64 = 20;

/// How many retries all requests together may make: 20 % of the last ten seconds' requests, and
/// never fewer than 20 a second.
#[derive(Debug, Default)]
pub struct RetryBudget(Mutex<VecDeque<Second>>);

/// What was asked for within one second.
#[derive(Debug)]
struct Second {
    began: Instant,
    requests: u64,
    retries: u64,
}

impl RetryBudget {
    /// Counts a request's first try.
    pub fn request(&self, now: Instant) {
        let mut seconds = self.lock();
        current(&mut seconds, now).requests += 1;
    }

    /// Takes one retry from the budget; `false` when it is spent.
    pub fn take_retry(&self, now: Instant) -> bool {
        let mut seconds = self.lock();
        current(&mut seconds, now);
        let requests: u64 = seconds.iter().map(|second| second.requests).sum();
        let retries: u64 = seconds.iter().map(|second| second.retries).sum();
        let this = current(&mut seconds, now);
        let granted = this.retries < ALWAYS || retries < requests / REQUESTS_PER_RETRY;
        this.retries += u64::from(granted);
        granted
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Second>> {
        self.0.lock().expect("no panic while the budget is held")
    }
}

/// The second that `now` lies in, with all that fell out of the window dropped.
fn current(seconds: &mut VecDeque<Second>, now: Instant) -> &mut Second {
    seconds.retain(|second| now.saturating_duration_since(second.began) < WINDOW);
    let begins_anew = seconds
        .back()
        .is_none_or(|last| now.saturating_duration_since(last.began) >= Duration::from_secs(1));
    if begins_anew {
        seconds.push_back(Second {
            began: now,
            requests: 0,
            retries: 0,
        });
    }
    seconds
        .back_mut()
        .expect("one was there or has just been pushed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn server_error() -> OriginError {
        OriginError::Server {
            key: "nar/x.nar".into(),
            status: 500,
            code: "InternalError".into(),
        }
    }

    fn throttled(retry_after: Option<Duration>) -> OriginError {
        OriginError::Throttled {
            key: "nar/x.nar".into(),
            status: 429,
            retry_after,
        }
    }

    #[test]
    fn no_try_starts_after_the_hold() {
        let (start, hold) = (Instant::now(), Duration::from_secs(5));
        let mut tries = Tries::begin(start, Patience::Hold(hold));
        let mut now = start;
        let mut made = 0;
        while let Some(pause) = tries.pause_after(&server_error(), now) {
            now += pause;
            made += 1;
            assert!(now < start + hold);
        }
        assert!(
            (4..=12).contains(&made),
            "{made} retries within five seconds"
        );
    }

    /// As they did while the jitter came from the same seed each time.
    #[test]
    fn requests_that_fail_together_do_not_come_back_together() {
        let now = Instant::now();
        let pauses: HashSet<_> = (0..10)
            .map(|_| {
                let patience = Patience::Hold(Duration::from_secs(5));
                Tries::begin(now, patience).pause_after(&server_error(), now)
            })
            .collect();
        assert!(pauses.len() > 1, "{pauses:?}");
    }

    #[test]
    fn a_single_try_is_never_repeated() {
        let mut tries = Tries::begin(Instant::now(), Patience::One);
        assert_eq!(tries.pause_after(&server_error(), Instant::now()), None);
    }

    #[test]
    fn what_will_not_change_is_not_tried_again() {
        let refused = OriginError::Refused {
            key: "k".into(),
            status: 403,
            code: "AccessDenied".into(),
        };
        let now = Instant::now();
        let mut tries = Tries::begin(now, Patience::Hold(Duration::from_secs(5)));
        assert_eq!(tries.pause_after(&refused, now), None);
    }

    #[test]
    fn a_throttling_bucket_gets_at_least_a_second() {
        let now = Instant::now();
        let mut tries = Tries::begin(now, Patience::Hold(Duration::from_secs(5)));
        let pause = tries.pause_after(&throttled(None), now).unwrap();
        assert!(pause >= Duration::from_secs(1), "{pause:?}");
    }

    #[test]
    fn a_retry_after_beyond_the_hold_ends_the_tries_at_once() {
        let now = Instant::now();
        let mut tries = Tries::begin(now, Patience::Hold(Duration::from_secs(5)));
        let asked = throttled(Some(Duration::from_secs(60)));
        assert_eq!(tries.pause_after(&asked, now), None);
    }

    #[test]
    fn an_upload_is_not_put_off_for_longer_than_its_hold() {
        let (now, span) = (Instant::now(), Duration::from_secs(20));
        let asked = throttled(Some(Duration::from_secs(3600)));
        let hold = Hold::of(span);
        let mut tries = Tries::begin(now, Patience::Upload(&hold));
        let pause = tries.pause_after(&asked, now).expect("its body arrives");
        assert!((span..span * 2).contains(&pause), "{pause:?}");
        hold.begin(now);
        let mut tries = Tries::begin(now, Patience::Upload(&hold));
        assert_eq!(tries.pause_after(&asked, now), None, "it is in");
    }

    #[test]
    fn an_open_breaker_ends_a_read_and_only_slows_an_upload() {
        let now = Instant::now();
        let open = OriginError::BreakerOpen {
            key: "nar/x.nar".into(),
            failing: Duration::from_secs(40),
        };
        let long = Duration::from_secs(60);
        let mut read = Tries::begin(now, Patience::Hold(long));
        assert_eq!(read.pause_after(&open, now), None);
        let hold = Hold::of(long);
        let mut upload = Tries::begin(now, Patience::Upload(&hold));
        assert_eq!(upload.pause_after(&open, now), Some(LONGEST_PAUSE));
    }

    #[test]
    fn a_quiet_gateway_may_retry_twenty_times_a_second() {
        let (budget, start) = (RetryBudget::default(), Instant::now());
        budget.request(start);
        let granted = |now| (0..100).filter(|_| budget.take_retry(now)).count();
        assert_eq!(granted(start), 20);
        assert_eq!(granted(start + Duration::from_secs(1)), 20);
    }

    #[test]
    fn a_busy_gateway_may_add_a_fifth() {
        let (budget, start) = (RetryBudget::default(), Instant::now());
        for _ in 0..1_000 {
            budget.request(start);
        }
        let granted = (0..1_000).filter(|_| budget.take_retry(start)).count();
        assert_eq!(granted, 200);
    }

    #[test]
    fn requests_older_than_ten_seconds_earn_nothing() {
        let (budget, start) = (RetryBudget::default(), Instant::now());
        for _ in 0..1_000 {
            budget.request(start);
        }
        let later = start + Duration::from_secs(11);
        let granted = (0..1_000).filter(|_| budget.take_retry(later)).count();
        assert_eq!(granted, 20);
    }

    proptest! {
        /// Whatever the traffic, no second sees more than its floor plus a fifth of the requests.
        #[test]
        fn the_budget_is_never_exceeded(steps in proptest::collection::vec((0u64..400, 0u32..60, 0u32..60), 1..60)) {
            let (budget, mut now) = (RetryBudget::default(), Instant::now());
            let (mut requests, mut retries) = (0u64, 0u64);
            let began = now;
            for (ms, asks, again) in steps {
                now += Duration::from_millis(ms);
                for _ in 0..asks { budget.request(now); requests += 1; }
                for _ in 0..again { retries += u64::from(budget.take_retry(now)); }
            }
            let seconds = now.duration_since(began).as_secs() + 1;
            prop_assert!(retries <= requests / REQUESTS_PER_RETRY + ALWAYS * seconds);
        }
    }
}
