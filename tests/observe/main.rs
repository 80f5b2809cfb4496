//! What an operator sees: metrics, dashboard, rules, the front page, `narwharf stats`.
//!
//! Judged from outside: by the bucket's log and the clients' counts, by a real Prometheus and its
//! promtool, by a real Chromium. `tests/prepare` installs those.

#[path = "../bed/mod.rs"]
mod bed;
mod chromium;
mod contract;
mod counting;
mod expressions;
mod log;
#[cfg(feature = "otel")]
mod otel;
mod page;
mod prometheus;
mod rules;
mod scrape;
mod soak;
mod stats;
