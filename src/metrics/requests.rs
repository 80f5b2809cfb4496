//! What each request counts, and that it costs nothing where nobody is to know
//! (`metrics.enabled = false`). What is counted elsewhere belongs to work that costs far more.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Metrics;
use super::labels::{Kind, Method, Outcome, Source, Status, Tier};

/// A request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Over {
    pub kind: Kind,
    pub method: Method,
    pub status: Status,
    pub source: Source,
    /// Bytes of the body, handed to the connection.
    pub sent: u64,
    /// From its head to the last of them.
    pub total: Duration,
}

impl Metrics {
    /// Whether requests are counted at all.
    pub fn counts_requests(&self) -> bool {
        self.counts_requests
    }

    /// Requests being answered now.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.iter().map(|lane| lane.load(Relaxed)).sum()
    }

    pub fn request_began(&self) {
        if self.counts_requests {
            self.in_flight.own().fetch_add(1, Relaxed);
        }
    }

    /// It turned out to be another's to observe.
    pub fn request_withdrawn(&self) {
        if self.counts_requests {
            self.in_flight.own().fetch_sub(1, Relaxed);
        }
    }

    /// The answer's head is made.
    pub fn request_answered(&self, kind: Kind, source: Source, after: Duration) {
        if self.counts_requests {
            let seconds = self.http_first_byte_seconds.of((kind, source));
            seconds.observe(after.as_secs_f64());
        }
    }

    pub fn request_over(&self, over: &Over) {
        if !self.counts_requests {
            return;
        }
        let Over {
            kind,
            method,
            status,
            source,
            sent,
            total,
        } = *over;
        self.http_requests.of((kind, method, status)).inc();
        let seconds = self.http_request_seconds.of((kind,));
        seconds.observe(total.as_secs_f64());
        self.http_response_bytes.of((kind, source)).inc_by(sent);
        // Last, so that whoever sees it gone finds it counted.
        self.in_flight.own().fetch_sub(1, Relaxed);
    }

    /// A tier was asked, and answered.
    pub fn looked_up(&self, kind: Kind, tier: Tier, outcome: Outcome) {
        if self.counts_requests {
            self.cache_lookups.of((kind, tier, outcome)).inc();
        }
    }
}
