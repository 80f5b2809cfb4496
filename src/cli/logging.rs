//! Sets up logging: `tracing`'s lines and those of requests, all to standard error through one thread
//! (`log`), and the level, which can change while the program runs.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use crate::log::{Access, Lines, Writer};
use crate::metrics::Metrics;

/// What the HTTP server says of its own start is told by the banner already. Comes before
/// `log.level`, so that naming the crate there brings it back.
const QUIET: &str = "actix_server=warn";

/// The way to the log. Writes what is left when it is dropped, and so has to live until the end.
#[must_use = "dropped, it ends the log"]
pub struct Logging {
    lines: Lines,
    level: reload::Handle<EnvFilter, Registry>,
    pub access: Access,
}

impl Logging {
    /// Sets up logging for the whole process.
    ///
    /// # Errors
    /// Logging was set up before.
    pub fn start(log: &Log) -> anyhow::Result<Self> {
        let lines = Lines::to(io::stderr()).context("the log's thread")?;
        let coloured = io::stderr().is_terminal();
        let (filter, level) = reload::Layer::new(filter(&log.level)?);
        let format = tracing_subscriber::fmt::layer()
            .with_writer(Told(lines.writer()))
            .with_ansi(coloured);
        let registry = tracing_subscriber::registry().with(filter);
        match log.format {
            LogFormat::Text => registry.with(format).try_init(),
            LogFormat::Json => registry.with(format.json().flatten_event(true)).try_init(),
        }
        .map_err(|error| anyhow::anyhow!("logging: {error}"))?;
        let access = Access::new(lines.writer(), log.format, coloured, log.access);
        #[cfg(feature = "otel")]
        let access = access.and_to(crate::log::Spans::from_environment()?);
        Ok(Self {
            lines,
            level,
            access,
        })
    }

    /// Lets the metrics tell how many lines were dropped.
    pub fn show(&self, metrics: &Metrics) {
        let dropped = self.lines.dropped();
        metrics.on_scrape(move |metrics| {
            let counter = &metrics.log_lines_dropped;
            counter.inc_by(dropped().saturating_sub(counter.get()));
        });
    }

    /// From now on this is the level.
    pub fn replace_level(&self, level: &str) {
        let replaced = filter(level).and_then(|filter| Ok(self.level.reload(filter)?));
        match replaced {
            Ok(()) => tracing::info!(level, "log level replaced"),
            Err(error) => tracing::error!("the log level stays as it was: {error:#}"),
        }
    }
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(format!("{QUIET},{level}")).context("log.level")
}

/// What `tracing` writes its lines into.
struct Told(Writer);

struct Line<'a> {
    writer: &'a Writer,
    urgent: bool,
}

impl<'a> MakeWriter<'a> for Told {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            writer: &self.0,
            urgent: false,
        }
    }

    /// What may be the last word of a program that dies is not left to wait.
    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Line<'a> {
        Line {
            writer: &self.0,
            urgent: *of.level() <= Level::WARN,
        }
    }
}

impl Write for Line<'_> {
    /// Is called once for each line, with the whole of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.say(line, self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
