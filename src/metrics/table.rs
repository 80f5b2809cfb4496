//! A metric's children in a table, found by their labels' index instead of by hashing texts.

use std::marker::PhantomData;
use std::sync::OnceLock;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::labels::Labels;

/// All names begin so.
const PREFIX: &str = "narwharf_";

/// Counters by labels.
pub type Counters<L> = Table<L, IntCounterVec>;
/// Gauges by labels.
pub type Gauges<L> = Table<L, IntGaugeVec>;
/// Histograms by labels.
pub type Histograms<L> = Table<L, HistogramVec>;

/// Metrics that differ in their labels only; prometheus' own, of each sort.
pub trait Family: Collector + Clone + 'static {
    type Child;
    fn child(&self, labels: &[&str]) -> Self::Child;
}

impl<B: MetricVecBuilder + 'static> Family for MetricVec<B> {
    type Child = B::M;

    fn child(&self, labels: &[&str]) -> B::M {
        self.with_label_values(labels)
    }
}

/// One metric: its family, and a cell for each combination of labels `L`.
pub struct Table<L, F: Family> {
    family: F,
    cells: Vec<OnceLock<F::Child>>,
    labels: PhantomData<L>,
}

impl<L: Labels, F: Family> Table<L, F> {
    fn over(
        registry: &Registry,
        family: prometheus::Result<F>,
        primed: impl Fn(L) -> bool,
    ) -> Self {
        let family = family.expect("a metric's definition is constant");
        register(registry, family.clone());
        let all = L::all();
        let table = Self {
            family,
            cells: all.iter().map(|_| OnceLock::new()).collect(),
            labels: PhantomData,
        };
        for labels in all.into_iter().filter(|labels| primed(*labels)) {
            table.of(labels);
        }
        table
    }

    /// The child with these labels, made on first use.
    pub fn of(&self, labels: L) -> &F::Child {
        self.cells[labels.index()].get_or_init(|| self.family.child(&labels.texts()))
    }
}

impl<L: Labels> Counters<L> {
    pub(super) fn new(r: &Registry, name: &str, help: &str, primed: impl Fn(L) -> bool) -> Self {
        Self::over(r, IntCounterVec::new(opts(name, help), L::NAMES), primed)
    }

    /// The sum over all combinations that `counts`.
    pub fn sum(&self, counts: impl Fn(L) -> bool) -> u64 {
        let labels = L::all().into_iter().filter(|labels| counts(*labels));
        let cells = labels.filter_map(|labels| self.cells[labels.index()].get());
        cells.map(IntCounter::get).sum()
    }
}

impl<L: Labels> Gauges<L> {
    pub(super) fn new(r: &Registry, name: &str, help: &str, primed: impl Fn(L) -> bool) -> Self {
        Self::over(r, IntGaugeVec::new(opts(name, help), L::NAMES), primed)
    }

    /// 1 for these labels, 0 for all others: how a state is shown.
    pub fn set_only(&self, labels: L) {
        for each in L::all() {
            self.of(each).set(i64::from(each.index() == labels.index()));
        }
    }
}

impl<L: Labels> Histograms<L> {
    pub(super) fn new(
        r: &Registry,
        name: &str,
        help: &str,
        buckets: &[f64],
        primed: impl Fn(L) -> bool,
    ) -> Self {
        let opts = HistogramOpts::new(format!("{PREFIX}{name}"), help).buckets(buckets.to_vec());
        Self::over(r, HistogramVec::new(opts, L::NAMES), primed)
    }
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let counter =
        IntCounter::with_opts(opts(name, help)).expect("a metric's definition is constant");
    register(registry, counter.clone());
    counter
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge = IntGauge::with_opts(opts(name, help)).expect("a metric's definition is constant");
    register(registry, gauge.clone());
    gauge
}

pub(super) fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry
        .register(Box::new(collector))
        .expect("no two metrics share a name");
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("{PREFIX}{name}"), help)
}
