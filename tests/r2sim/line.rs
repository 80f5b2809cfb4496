//! The slow and metered line to the bucket: a round trip for each request, a bandwidth for each
//! connection and one for all of them together, both ways. All may be changed while requests run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

/// How much lateness a connection may make up for. Timers wake up to a millisecond late, and
/// without this every late wake-up would lower the bandwidth for good.
const SLACK: Duration = Duration::from_millis(20);

/// How long one piece may take, so that a changed bandwidth is soon felt.
const PIECES_A_SECOND: u64 = 50;

const LARGEST_PIECE: u64 = 64 * 1024;

/// What the line is like just now; as made, it costs nothing.
#[derive(Default)]
pub struct Line {
    round_trip_micros: AtomicU64,
    /// Bytes a second; 0 = without bound.
    bandwidth: AtomicU64,
    /// The same for all connections together.
    shared: AtomicU64,
    /// How busy it is with all of them.
    pace: Pace,
}

impl Line {
    /// Added once to each request, before it is looked at.
    pub fn set_round_trip(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.round_trip_micros.store(micros, Ordering::Relaxed);
    }

    /// Bytes a second for each connection, bodies only; `None` = as fast as it goes.
    pub fn set_bandwidth(&self, bytes_a_second: Option<u64>) {
        self.bandwidth
            .store(bytes_a_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// Bytes a second for all connections together, bodies only; `None` = as fast as it goes.
    pub fn set_shared_bandwidth(&self, bytes_a_second: Option<u64>) {
        self.shared
            .store(bytes_a_second.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) async fn round_trip(&self) {
        let micros = self.round_trip_micros.load(Ordering::Relaxed);
        if micros > 0 {
            sleep(Duration::from_micros(micros)).await;
        }
    }

    /// The most bytes to carry at once; `None` = no bound.
    pub(super) fn piece(&self) -> Option<usize> {
        let rates = [&self.bandwidth, &self.shared].map(|rate| rate.load(Ordering::Relaxed));
        let slowest = rates.into_iter().filter(|rate| *rate > 0).min()?;
        Some((slowest / PIECES_A_SECOND).clamp(1, LARGEST_PIECE) as usize)
    }
}

/// How busy a line is with what it carries.
#[derive(Default)]
pub(super) struct Pace {
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// Returns once this connection, and the line that it shares with others, has carried `bytes` more.
    pub async fn carry(&self, line: &Line, bytes: usize) {
        let own = self.done_at(bytes, line.bandwidth.load(Ordering::Relaxed));
        let shared = line
            .pace
            .done_at(bytes, line.shared.load(Ordering::Relaxed));
        if let Some(done) = own.max(shared) {
            sleep_until(done).await;
        }
    }

    /// When so many bytes more are carried at so many a second; `None`: at once.
    fn done_at(&self, bytes: usize, rate: u64) -> Option<Instant> {
        if rate == 0 {
            return None;
        }
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        let start = free_at.map_or(now, |free| free.max(earliest));
        Some(*free_at.insert(start + takes))
    }
}
