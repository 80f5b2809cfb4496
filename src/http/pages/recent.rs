//! The last minute: what counters were worth each second, and so how fast they run now.
//!
//! A server that has just begun has less than a minute to tell of, and tells of that.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use crate::metrics::Metrics;
use crate::metrics::labels::{Kind, Outcome, Tier};

/// How far back ratios look, in samples of a second.
const MINUTE: usize = 60;

/// How far back rates look: short enough to be called now, long enough not to flicker.
const MOMENT: usize = 10;

/// Kinds that the tiers and the bucket answer.
const KINDS: [Kind; 3] = [Kind::Narinfo, Kind::Nar, Kind::Document];

/// What is counted, at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    requests: u64,
    bytes: u64,
    reads: [Reads; KINDS.len()],
}

/// Reads of one kind: answered in all, and without the bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    pub answered: u64,
    pub here: u64,
}

impl Reads {
    /// The share answered without the bucket; `None`: nobody has read.
    pub fn hit_ratio(self) -> Option<f64> {
        (self.answered > 0).then(|| self.here as f64 / self.answered as f64)
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            here: self.here + other.here,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            answered: self.answered - other.answered,
            here: self.here - other.here,
        }
    }
}

/// How fast things go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    pub requests_a_second: f64,
    pub bytes_a_second: f64,
    /// Over the last minute: narinfos, NARs, other documents.
    pub reads: [Reads; KINDS.len()],
}

/// The samples of the last minute.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Sample>>);

impl Recent {
    /// Takes a sample; once a second.
    pub fn tick(&self, metrics: &Metrics, now: Instant) {
        let mut samples = self.0.lock().expect("no panic while samples are held");
        if samples.len() > MINUTE {
            samples.pop_front();
        }
        samples.push_back(Sample::of(metrics, now));
    }

    /// From the samples to now.
    pub fn pace(&self, metrics: &Metrics, now: Instant) -> Pace {
        let samples = self.0.lock().expect("no panic while samples are held");
        let last = Sample::of(metrics, now);
        let from = |back: usize| {
            let at = samples.len().saturating_sub(back);
            samples.get(at).copied().unwrap_or(last)
        };
        let (moment, minute) = (from(MOMENT), from(MINUTE));
        let seconds = now
            .saturating_duration_since(moment.at)
            .as_secs_f64()
            .max(1.0);
        let mut reads = last.reads;
        for (now, then) in reads.iter_mut().zip(minute.reads) {
            *now = now.minus(then);
        }
        Pace {
            requests_a_second: (last.requests - moment.requests) as f64 / seconds,
            bytes_a_second: (last.bytes - moment.bytes) as f64 / seconds,
            reads,
        }
    }
}

impl Sample {
    fn of(metrics: &Metrics, at: Instant) -> Self {
        Self {
            at,
            requests: metrics.http_requests.sum(|_| true),
            bytes: metrics.http_response_bytes.sum(|_| true),
            reads: reads_ever(metrics),
        }
    }
}

/// Reads since the start: narinfos, NARs, other documents.
pub fn reads_ever(metrics: &Metrics) -> [Reads; KINDS.len()] {
    KINDS.map(|kind| {
        let here = metrics
            .cache_lookups
            .sum(|(of, tier, outcome)| of == kind && !is_remote(tier) && is_hit(outcome));
        let there = metrics
            .cache_lookups
            .sum(|(of, tier, _)| of == kind && is_remote(tier));
        Reads {
            answered: here + there,
            here,
        }
    })
}

fn is_remote(tier: Tier) -> bool {
    matches!(tier, Tier::Bucket | Tier::Substituter)
}

fn is_hit(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Hit | Outcome::NegativeHit | Outcome::Stale => true,
        Outcome::Miss | Outcome::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn read(metrics: &Metrics, tier: Tier, outcome: Outcome, times: u64) {
        metrics
            .cache_lookups
            .of((Kind::Narinfo, tier, outcome))
            .inc_by(times);
    }

    #[test]
    fn a_ratio_is_of_the_last_minute_and_not_of_all_time() {
        let (metrics, recent, start) = (Metrics::new(), Recent::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        read(&metrics, Tier::Bucket, Outcome::Hit, 1000);
        for n in 0..100 {
            recent.tick(&metrics, second(n));
        }
        read(&metrics, Tier::Memory, Outcome::Miss, 4);
        read(&metrics, Tier::Bucket, Outcome::Miss, 1);
        read(&metrics, Tier::Index, Outcome::Hit, 3);
        let pace = recent.pace(&metrics, second(100));
        assert_eq!(
            pace.reads[0],
            Reads {
                answered: 4,
                here: 3
            }
        );
        assert_eq!(pace.reads[0].hit_ratio(), Some(0.75));
        assert_eq!(
            reads_ever(&metrics)[0],
            Reads {
                answered: 1004,
                here: 3
            }
        );
    }

    #[test]
    fn without_reads_there_is_no_ratio() {
        let pace = Recent::default().pace(&Metrics::new(), Instant::now());
        assert_eq!(pace.reads[0].hit_ratio(), None);
        assert_eq!(pace.requests_a_second, 0.0);
    }

    #[test]
    fn what_lies_longer_back_than_a_minute_is_forgotten() {
        let (metrics, recent, start) = (Metrics::new(), Recent::default(), Instant::now());
        for n in 0..1000 {
            recent.tick(&metrics, start + Duration::from_secs(n));
        }
        assert!(recent.0.lock().unwrap().len() <= MINUTE + 1);
    }
}
