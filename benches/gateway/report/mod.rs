//! The results, for a terminal, for programs and for `docs/`.

mod document;
mod json;
mod plot;
pub mod table;

use std::fs;
use std::thread::available_parallelism;

use serde::Serialize;

use crate::bench::Options;

pub use document::write as write_document;
pub use json::write as write_json;

/// Where a run took place, as far as it explains figures.
#[derive(Serialize)]
pub struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    narwharf: &'static str,
}

impl Machine {
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        Self {
            cores: available_parallelism().map_or(1, usize::from),
            processor: model
                .map_or("unknown", |rest| rest.trim_matches([' ', '\t', ':']))
                .to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            narwharf: env!("CARGO_PKG_VERSION"),
        }
    }

    /// A line for people.
    pub fn line(&self, options: &Options) -> String {
        let Self {
            cores,
            processor,
            kernel,
            ..
        } = self;
        let distance = options.distance;
        let bandwidth = distance.bandwidth.map_or("unlimited".to_owned(), |rate| {
            format!("{} MB/s", rate / 1_000_000)
        });
        format!(
            "{cores} cores of {processor}, Linux {kernel}; {} rounds, {:?} each; the bucket {:?} away, {bandwidth} a connection.",
            options.rounds, options.window.length, distance.round_trip
        )
    }
}
