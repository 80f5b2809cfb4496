//! How long things took, counted in buckets: recording costs an addition, and a quantile is right to
//! within one part in 512: a millisecond on the way to a bucket 20 ms away has to be seen.

use std::time::Duration;

/// Buckets for each power of two.
const FINE: u32 = 512;
const FINE_BITS: u32 = FINE.ilog2();

#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; ((u64::BITS - FINE_BITS) * FINE) as usize + FINE as usize],
            total: 0,
        }
    }
}

impl Histogram {
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    /// In seconds; `None`: nothing was recorded.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        Some(middle(at) / 1e9)
    }
}

fn bucket(nanos: u64) -> usize {
    let power = (u64::BITS - nanos.leading_zeros()).saturating_sub(FINE_BITS + 1);
    (power * FINE) as usize + (nanos >> power) as usize
}

/// Nanoseconds in the middle of a bucket.
fn middle(bucket: usize) -> f64 {
    let fine = FINE as usize;
    let power = (bucket / fine).saturating_sub(1);
    let mantissa = bucket - power * fine;
    (mantissa as f64 + 0.5) * 2f64.powi(power as i32)
}
