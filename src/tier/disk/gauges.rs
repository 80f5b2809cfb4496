//! What a scrape is told of the tier.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Inner, locked};
use crate::metrics::Metrics;

impl Inner {
    pub fn show_metrics(self: &Arc<Self>) {
        let inner = Arc::downgrade(self);
        self.metrics
            .disk_capacity_bytes
            .set(as_gauge(self.settings.capacity));
        self.metrics.on_scrape(move |metrics| {
            if let Some(inner) = inner.upgrade() {
                inner.refresh(metrics);
            }
        });
    }

    fn refresh(&self, metrics: &Metrics) {
        let now = self.now_ms();
        let written = self.written.load(Ordering::Relaxed);
        let books = locked(&self.books);
        let idle = books
            .shelves
            .peek()
            .map_or(0, |entry| now.saturating_sub(entry.used) / 1000);
        metrics
            .disk_bytes
            .set(as_gauge(books.shelves.bytes() + written));
        metrics.disk_blobs.set(as_gauge(books.shelves.len() as u64));
        metrics
            .disk_reserved_bytes
            .set(as_gauge(books.granted.saturating_sub(written)));
        drop(books);
        metrics.disk_oldest_idle_seconds.set(as_gauge(idle));
        metrics.disk_state.set_only((self.health.state().label(),));
        metrics.index_state.set_only((self.index.state().label(),));
    }
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
