//! How long a hit, a known absence and a stale answer stay good: the one home of age.
//!
//! Ages are taken on the monotonic clock, so a jump of the wall clock makes nothing young or old;
//! what comes back from disk carries a wall-clock mark, and a mark from the future counts as now.

use std::time::{Duration, Instant, SystemTime};

use crate::clock::Clock;
use crate::config;
use crate::tier::memory::Held;

/// How long a request waits for the revalidation of a document that it could have stale.
pub const REVALIDATION_PATIENCE: Duration = Duration::from_secs(1);

/// How long a stale document is served without asking again, after nobody answered. Not longer
/// than the five seconds in which service has to be itself again once an origin is repaired.
const STALE_RECHECK: Duration = Duration::from_secs(5);

/// What may be done with a document of some age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Served as it is.
    Fresh { left: Duration },
    /// To be revalidated; served as it is if nobody answers.
    Stale,
    /// Served as it is, because asking has just failed.
    StaleAndAsked,
    /// Too old for any use.
    Expired,
}

/// The settings that judge age.
#[derive(Debug, Clone)]
pub struct Freshness {
    document_ttl: Duration,
    negative_ttl: Duration,
    stale_if_error: Duration,
}

impl Freshness {
    pub fn new(settings: &config::Memory) -> Self {
        Self {
            document_ttl: settings.document_ttl,
            negative_ttl: settings.negative_ttl,
            stale_if_error: settings.stale_if_error,
        }
    }

    /// What may be done with a document now.
    pub fn of(&self, held: &Held, now: Instant) -> Age {
        let age = now.saturating_duration_since(held.validated);
        if age < self.document_ttl {
            Age::Fresh {
                left: self.document_ttl - age,
            }
        } else if age >= self.document_ttl + self.stale_if_error {
            Age::Expired
        } else if held.retry_at.is_some_and(|retry_at| now < retry_at) {
            Age::StaleAndAsked
        } else {
            Age::Stale
        }
    }

    /// Whether an absence known since then still counts.
    pub fn is_absence_fresh(&self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) < self.negative_ttl
    }

    /// When to ask again after nobody answered.
    pub fn retry_at(&self, now: Instant) -> Instant {
        now + STALE_RECHECK
    }

    /// A wall-clock mark on the monotonic clock.
    ///
    /// A mark older than the machine's monotonic clock can express is clamped to its start.
    pub fn monotonic(clock: &Clock, mark: SystemTime) -> Instant {
        let (now, wall) = (clock.now(), clock.wall());
        let age = wall.duration_since(mark).unwrap_or_default();
        now.checked_sub(age)
            .unwrap_or_else(|| now.checked_sub(OLDEST).unwrap_or(now))
    }
}

/// Age given to marks that lie before the monotonic clock's start: a document from before the
/// last boot is stale at once and may still be served while no origin answers.
const OLDEST: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Document;
    use bytes::Bytes;

    const MINUTE: Duration = Duration::from_secs(60);

    fn freshness() -> Freshness {
        Freshness {
            document_ttl: 5 * MINUTE,
            negative_ttl: MINUTE / 2,
            stale_if_error: 60 * MINUTE,
        }
    }

    fn held(validated: Instant) -> Held {
        let document = Document {
            bytes: Bytes::from_static(b"x"),
            etag: None,
            last_modified: None,
            content_type: None,
            content_encoding: None,
            validated: SystemTime::UNIX_EPOCH,
        };
        Held::new(document, validated)
    }

    #[test]
    fn a_document_is_fresh_then_stale_then_expired() {
        let start = Instant::now();
        let held = held(start);
        assert_eq!(
            freshness().of(&held, start + MINUTE),
            Age::Fresh { left: 4 * MINUTE }
        );
        assert_eq!(freshness().of(&held, start + 5 * MINUTE), Age::Stale);
        assert_eq!(freshness().of(&held, start + 64 * MINUTE), Age::Stale);
        assert_eq!(freshness().of(&held, start + 65 * MINUTE), Age::Expired);
    }

    #[test]
    fn after_a_failed_revalidation_the_origin_is_left_alone_for_a_moment() {
        let start = Instant::now();
        let now = start + 10 * MINUTE;
        let mut held = held(start);
        held.retry_at = Some(freshness().retry_at(now));
        assert_eq!(freshness().of(&held, now), Age::StaleAndAsked);
        assert_eq!(freshness().of(&held, now + STALE_RECHECK), Age::Stale);
    }

    #[test]
    fn an_absence_is_believed_for_its_own_time() {
        let start = Instant::now();
        assert!(freshness().is_absence_fresh(start, start + MINUTE / 3));
        assert!(!freshness().is_absence_fresh(start, start + MINUTE / 2));
    }

    #[test]
    fn a_mark_from_the_future_counts_as_now() {
        let clock = Clock::default();
        let mark = Freshness::monotonic(&clock, clock.wall() + 60 * MINUTE);
        assert!(clock.now().saturating_duration_since(mark) < MINUTE);
    }
}
