//! Log lines go to standard error, through a thread of their own.
//!
//! Whoever reads them (journald, a pipe, a terminal that was paused) may stop reading; then lines
//! are dropped, and no request waits for the log.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};
use crate::metrics::Metrics;

/// Lines that wait for a slow reader; some 200 bytes each.
const QUEUE: usize = 16 * 1024;

/// What the HTTP server says of its own start is told by the banner already. Comes before
/// `log.level`, so that naming the crate there brings it back.
const QUIET: &str = "actix_server=warn";

/// The way to the log. Writes what is left when it is dropped, and so has to live until the end.
#[must_use = "dropped, it ends the log"]
pub struct Lines {
    _guard: WorkerGuard,
    dropped: ErrorCounter,
}

impl Lines {
    /// Lets the metrics tell how many lines were dropped.
    pub fn show(&self, metrics: &Metrics) {
        let dropped = self.dropped.clone();
        metrics.on_scrape(move |metrics| {
            let counter = &metrics.log_lines_dropped;
            let new = (dropped.dropped_lines() as u64).saturating_sub(counter.get());
            counter.inc_by(new);
        });
    }
}

/// Sets up logging for the whole process.
///
/// # Errors
/// Logging was set up before.
pub fn start(log: &Log) -> anyhow::Result<Lines> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", log.level)).context("log.level")?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .thread_name("log")
        .finish(io::stderr());
    let dropped = writer.error_counter();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("logging: {error}"))?;
    Ok(Lines {
        _guard: guard,
        dropped,
    })
}
