//! Whether a read of the bucket that broke goes on, and when: the one home of that policy.
//!
//! A transfer of gigabytes over a long line meets resets, stalls and restarts of the far side as a
//! matter of course, and whoever reads along should notice none of it. So a read is taken up again
//! from the byte it had reached, as often as it gets on. What ends it is three tries in a row that
//! bring nothing, spread over about `bucket.hold`, or an answer that no other try will change. Pure:
//! time and causes are arguments, so that tests walk it on a virtual clock.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::origin::OriginError;

/// Tries in a row that may bring nothing (`design.md` §8).
const TRIES: usize = 3;

/// Bytes that count as getting on. One byte a try would be a request for each byte of a NAR.
const PROGRESS: u64 = 64 * 1024;

/// The first pause is this part of `bucket.hold`, and each further one four times as long. Jitter
/// makes them up to twice that, so the third try begins after 0.7 to 1.3 holds.
const FIRST_PAUSE: u32 = 32;

/// The first pause even when nothing is held, so that three tries are not one moment's.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// A bucket that throttles is left alone at least so long, as by the origin's own retries.
const THROTTLED: Duration = Duration::from_secs(1);

/// How long the tries that were never made (no slot, no retry left) are put off in all.
const PUT_OFF: Duration = Duration::from_secs(60);

/// Between two attempts to get a slot or a retry.
const CROWDED: Duration = Duration::from_millis(500);

/// What became of one read so far.
#[derive(Debug)]
pub struct Rescue {
    pauses: ExponentialBuilder,
    left: ExponentialBackoff,
    /// Bytes since the last break.
    gained: u64,
    /// Since when nothing was even tried.
    put_off: Option<Instant>,
}

/// What to do about a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask for the rest, after a pause.
    Again { after: Duration },
    /// No other try would bring more.
    GiveUp,
}

impl Rescue {
    /// `hold`: how long an outage the tries should span.
    pub fn new(hold: Duration) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay((hold / FIRST_PAUSE).max(SHORTEST_PAUSE))
            .with_max_delay(hold.max(SHORTEST_PAUSE))
            .with_factor(4.0)
            .with_max_times(TRIES)
            .with_jitter();
        Self {
            left: pauses.build(),
            pauses,
            gained: 0,
            put_off: None,
        }
    }

    /// Bytes came.
    pub fn received(&mut self, bytes: u64) {
        self.gained += bytes;
    }

    /// The read broke, or a try to take it up again failed.
    pub fn broke(&mut self, cause: &OriginError, now: Instant) -> Next {
        if self.gained >= PROGRESS {
            self.left = self.pauses.build();
            self.put_off = None;
        }
        self.gained = 0;
        if was_not_tried(cause) {
            let since = *self.put_off.get_or_insert(now);
            return match now.saturating_duration_since(since) < PUT_OFF {
                true => Next::Again { after: CROWDED },
                false => Next::GiveUp,
            };
        }
        self.put_off = None;
        if !cause.is_transient() && !matches!(cause, OriginError::BreakerOpen { .. }) {
            return Next::GiveUp;
        }
        let least = match cause {
            OriginError::Throttled { retry_after, .. } => {
                retry_after.unwrap_or_default().max(THROTTLED)
            }
            _ => Duration::ZERO,
        };
        match self.left.next() {
            Some(_) if least > PUT_OFF => Next::GiveUp,
            Some(pause) => Next::Again {
                after: pause.max(least),
            },
            None => Next::GiveUp,
        }
    }
}

/// Nobody was asked: that says nothing about whether the read can go on.
fn was_not_tried(cause: &OriginError) -> bool {
    matches!(
        cause,
        OriginError::Busy { .. } | OriginError::NoRetryLeft { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOLD: Duration = Duration::from_secs(5);

    fn broken() -> OriginError {
        OriginError::Broken {
            key: "nar/x.nar".into(),
            received: 1,
            expected: 2,
            cause: "reset".into(),
        }
    }

    fn busy() -> OriginError {
        OriginError::Busy {
            key: "nar/x.nar".into(),
            after: HOLD,
        }
    }

    /// How many tries are made, and how long they span, when nothing ever comes.
    fn tries_in_vain(cause: &OriginError) -> (usize, Duration) {
        let start = Instant::now();
        let (mut rescue, mut now, mut tries) = (Rescue::new(HOLD), start, 0);
        while let Next::Again { after } = rescue.broke(cause, now) {
            now += after;
            tries += 1;
        }
        (tries, now - start)
    }

    #[test]
    fn three_tries_span_an_outage_as_long_as_the_hold() {
        for _ in 0..100 {
            let (tries, span) = tries_in_vain(&broken());
            assert_eq!(tries, 3);
            assert!(span > HOLD / 2 && span < 2 * HOLD, "{span:?}");
        }
    }

    #[test]
    fn a_read_that_gets_on_is_taken_up_as_often_as_it_breaks() {
        let (mut rescue, now) = (Rescue::new(HOLD), Instant::now());
        for _ in 0..1_000 {
            rescue.received(PROGRESS);
            assert!(matches!(rescue.broke(&broken(), now), Next::Again { .. }));
        }
    }

    #[test]
    fn a_byte_at_a_time_is_not_getting_on() {
        let (mut rescue, now) = (Rescue::new(HOLD), Instant::now());
        let mut tries = 0;
        while let Next::Again { .. } = rescue.broke(&broken(), now) {
            rescue.received(1);
            tries += 1;
        }
        assert_eq!(tries, TRIES);
    }

    #[test]
    fn what_another_try_will_not_change_is_given_up_at_once() {
        let key = || "nar/x.nar".to_owned();
        for cause in [
            OriginError::PreconditionFailed { key: key() },
            OriginError::OutOfRange { key: key() },
            OriginError::Refused {
                key: key(),
                status: 403,
                code: "AccessDenied".into(),
            },
        ] {
            let mut rescue = Rescue::new(HOLD);
            rescue.received(PROGRESS);
            assert_eq!(rescue.broke(&cause, Instant::now()), Next::GiveUp);
        }
    }

    #[test]
    fn a_throttling_bucket_is_left_alone_for_as_long_as_it_says() {
        let throttled = |seconds| OriginError::Throttled {
            key: "nar/x.nar".into(),
            status: 429,
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let now = Instant::now();
        let Next::Again { after } = Rescue::new(HOLD).broke(&throttled(7), now) else {
            panic!("seven seconds are worth waiting");
        };
        assert!(after >= Duration::from_secs(7));
        assert_eq!(Rescue::new(HOLD).broke(&throttled(3600), now), Next::GiveUp);
    }

    #[test]
    fn a_full_house_costs_no_try_and_is_not_waited_for_without_end() {
        let (tries, span) = tries_in_vain(&busy());
        assert!(tries > TRIES);
        assert!(span <= PUT_OFF + CROWDED, "{span:?}");
    }

    proptest! {
        /// Whatever comes between, no more tries than three follow one another in vain.
        #[test]
        fn never_more_than_three_in_vain(steps in proptest::collection::vec((0u64..100_000, any::<bool>()), 1..60)) {
            let (mut rescue, mut now, mut in_vain) = (Rescue::new(HOLD), Instant::now(), 0);
            for (bytes, crowded) in steps {
                rescue.received(bytes);
                if bytes >= PROGRESS { in_vain = 0; }
                let cause = if crowded { busy() } else { broken() };
                match rescue.broke(&cause, now) {
                    Next::GiveUp => break,
                    Next::Again { after } => {
                        now += after;
                        in_vain += usize::from(!crowded);
                        prop_assert!(in_vain <= TRIES);
                    }
                }
            }
        }
    }
}
