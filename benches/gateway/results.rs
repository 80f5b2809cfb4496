//! What was measured, round by round, and what is told of it: medians, and how far rounds lay apart.

use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::load::Measured;
use crate::servers::Who;

/// A number that one round gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    CpuPerRequest,
    CpuPerGb,
    RequestsPerSecond,
    Throughput,
    FirstByte,
    FirstByteP99,
    Whole,
    WholeP99,
    Seconds,
    Cpu,
    Memory,
    ClientShare,
}

impl Figure {
    /// As tables and plots name it, with its unit.
    pub fn title(self) -> &'static str {
        match self {
            Self::CpuPerRequest => "CPU µs/request",
            Self::CpuPerGb => "CPU ms/GB",
            Self::RequestsPerSecond => "requests/s",
            Self::Throughput => "MB/s",
            Self::FirstByte => "first byte ms",
            Self::FirstByteP99 => "first byte p99 ms",
            Self::Whole => "whole ms",
            Self::WholeP99 => "p99 ms",
            Self::Seconds => "seconds",
            Self::Cpu => "CPU s",
            Self::Memory => "RSS MiB",
            Self::ClientShare => "client busy %",
        }
    }

    /// Whether less is better.
    pub fn is_cost(self) -> bool {
        !matches!(self, Self::RequestsPerSecond | Self::Throughput)
    }
}

/// The rounds of one figure.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    pub rounds: Vec<f64>,
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Spread", 2)?;
        out.serialize_field("median", &self.median())?;
        out.serialize_field("rounds", &self.rounds)?;
        out.end()
    }
}

impl Spread {
    pub fn median(&self) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[odd / 2],
            even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
        }
    }

    pub fn least(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.rounds
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max)
    }
}

/// All rounds of one case, for each server.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// The plot that it is in, and what its place there is called.
    pub group: &'static str,
    /// A row of plots; cases of a row stand side by side.
    pub row: String,
    pub label: String,
    /// What to tell of it, in this order.
    pub figures: Vec<Figure>,
    pub of: BTreeMap<Who, BTreeMap<Figure, Spread>>,
}

impl Case {
    pub fn new(
        group: &'static str,
        row: impl Into<String>,
        label: impl Into<String>,
        figures: &[Figure],
    ) -> Self {
        Self {
            group,
            row: row.into(),
            label: label.into(),
            figures: figures.to_vec(),
            of: BTreeMap::new(),
        }
    }

    /// Enters what a round gave.
    pub fn enter(&mut self, who: Who, figure: Figure, value: f64) {
        let figures = self.of.entry(who).or_default();
        figures.entry(figure).or_default().rounds.push(value);
    }

    /// Enters everything that a stretch of load tells.
    pub fn enter_load(&mut self, who: Who, measured: &Measured) {
        let Measured {
            seconds,
            requests,
            bytes,
            ..
        } = *measured;
        let gigabytes = bytes as f64 / 1e9;
        let has_cpu = who != Who::Origin;
        let all = [
            (
                Figure::CpuPerRequest,
                (has_cpu && requests > 0).then(|| measured.server_cpu * 1e6 / requests as f64),
            ),
            (
                Figure::CpuPerGb,
                (has_cpu && bytes > 0).then(|| measured.server_cpu * 1e3 / gigabytes),
            ),
            (Figure::Cpu, has_cpu.then_some(measured.server_cpu)),
            (Figure::RequestsPerSecond, Some(requests as f64 / seconds)),
            (Figure::Throughput, Some(gigabytes * 1e3 / seconds)),
            (Figure::FirstByte, measured.first_byte.map(|s| s * 1e3)),
            (
                Figure::FirstByteP99,
                measured.first_byte_p99.map(|s| s * 1e3),
            ),
            (Figure::Whole, measured.whole.map(|s| s * 1e3)),
            (Figure::WholeP99, measured.whole_p99.map(|s| s * 1e3)),
            (Figure::Seconds, Some(seconds)),
            (
                Figure::ClientShare,
                Some(measured.client_cpu / seconds * 100.0),
            ),
        ];
        for (figure, value) in all {
            if let Some(value) = value {
                self.enter(who, figure, value);
            }
        }
    }

    pub fn median(&self, who: Who, figure: Figure) -> Option<f64> {
        Some(self.of.get(&who)?.get(&figure)?.median())
    }

    /// narwharf's median as a share of another's.
    pub fn ratio(&self, to: Who, figure: Figure) -> Option<f64> {
        Some(self.median(Who::Narwharf, figure)? / self.median(to, figure)?)
    }
}
