//! Time as a value that can be handed in, so that age is judged the same way in a test and in
//! service, and a test can let an hour pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Both clocks of the machine, and however far a test has moved them.
///
/// Cheap to clone; clones share the same offset.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    ahead_ms: Arc<AtomicU64>,
}

impl Clock {
    /// The monotonic clock: for ages and deadlines within this process.
    pub fn now(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    /// The wall clock: for what must keep its meaning over a restart.
    pub fn wall(&self) -> SystemTime {
        SystemTime::now() + self.ahead()
    }

    /// Lets time pass, for every holder of this clock.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }

    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }
}
