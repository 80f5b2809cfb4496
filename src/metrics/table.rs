//! A metric's children in a table, found by their labels' index instead of by hashing texts.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::OnceLock;

use prometheus::core::{Collector, Desc, MetricVec, MetricVecBuilder};
use prometheus::proto;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::labels::Labels;
use crate::lane;

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

/// One metric: its family, and a cell for each combination of labels `L`. What every request counts
/// is spread over all lanes, and added up by whoever reads it.
pub struct Table<L, F: Family> {
    lanes: Vec<Lane<F>>,
    labels: PhantomData<L>,
}

struct Lane<F: Family> {
    family: F,
    cells: Vec<OnceLock<F::Child>>,
}

impl<L: Labels, F: Family> Table<L, F> {
    /// `families`: one for each lane.
    fn over(registry: &Registry, families: Vec<F>, primed: impl Fn(L) -> bool) -> Self {
        register(registry, Sum(families.clone()));
        let all = L::all();
        let lane = |family| Lane {
            family,
            cells: all.iter().map(|_| OnceLock::new()).collect(),
        };
        let table = Self {
            lanes: families.into_iter().map(lane).collect(),
            labels: PhantomData,
        };
        for labels in all.into_iter().filter(|labels| primed(*labels)) {
            table.lanes[0].of(labels);
        }
        table
    }

    /// The child with these labels, made on first use; of a table that is spread, the calling
    /// thread's own.
    pub fn of(&self, labels: L) -> &F::Child {
        match &self.lanes[..] {
            [only] => only.of(labels),
            lanes => lanes[lane::own()].of(labels),
        }
    }
}

impl<F: Family> Lane<F> {
    fn of(&self, labels: impl Labels) -> &F::Child {
        self.cells[labels.index()].get_or_init(|| self.family.child(&labels.texts()))
    }
}

/// The lanes of one metric, shown as one.
struct Sum<F>(Vec<F>);

impl<F: Family> Collector for Sum<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.0[0].desc()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut families = self.0.iter().flat_map(Collector::collect);
        let mut sum = families.next().expect("a table has a lane");
        let by_labels = |metric: &proto::Metric| -> Vec<String> {
            let labels = metric.get_label().iter();
            labels.map(|label| label.value().to_owned()).collect()
        };
        let mut places: HashMap<_, _> = sum.get_metric().iter().map(by_labels).zip(0..).collect();
        for mut family in families {
            for metric in family.take_metric() {
                let into = sum.mut_metric();
                let place = *places.entry(by_labels(&metric)).or_insert(into.len());
                match into.get_mut(place) {
                    Some(into) => add(into, &metric),
                    None => into.push(metric),
                }
            }
        }
        vec![sum]
    }
}

/// Adds what another lane has counted under the same labels; a metric is of one sort, and has nothing
/// of the other.
fn add(into: &mut proto::Metric, other: &proto::Metric) {
    let mut counter = proto::Counter::default();
    counter.set_value(into.get_counter().get_value() + other.get_counter().get_value());
    into.set_counter(counter);

    let (mine, theirs) = (into.get_histogram(), other.get_histogram());
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(mine.get_sample_count() + theirs.get_sample_count());
    histogram.set_sample_sum(mine.get_sample_sum() + theirs.get_sample_sum());
    let buckets = mine.get_bucket().iter().zip(theirs.get_bucket());
    let buckets = buckets.map(|(mine, theirs)| {
        let mut bucket = mine.clone();
        bucket.set_cumulative_count(mine.cumulative_count() + theirs.cumulative_count());
        bucket
    });
    histogram.set_bucket(buckets.collect());
    into.set_histogram(histogram);
}

impl<L: Labels> Counters<L> {
    pub(super) fn new(r: &Registry, name: &str, help: &str, primed: impl Fn(L) -> bool) -> Self {
        Self::over_lanes(r, 1, name, help, primed)
    }

    /// Counters that every request counts on.
    pub(super) fn spread(r: &Registry, name: &str, help: &str, primed: impl Fn(L) -> bool) -> Self {
        Self::over_lanes(r, lane::LANES, name, help, primed)
    }

    fn over_lanes(
        r: &Registry,
        lanes: usize,
        name: &str,
        help: &str,
        primed: impl Fn(L) -> bool,
    ) -> Self {
        let counters = || IntCounterVec::new(opts(name, help), L::NAMES);
        Self::over(r, families(lanes, counters), primed)
    }

    /// The sum over all combinations that `counts`.
    pub fn sum(&self, counts: impl Fn(L) -> bool) -> u64 {
        let labels = L::all().into_iter().filter(|labels| counts(*labels));
        let cells = labels.flat_map(|labels| {
            let lanes = self.lanes.iter();
            lanes.filter_map(move |lane| lane.cells[labels.index()].get())
        });
        cells.map(IntCounter::get).sum()
    }
}

impl<L: Labels> Gauges<L> {
    pub(super) fn new(r: &Registry, name: &str, help: &str, primed: impl Fn(L) -> bool) -> Self {
        let gauges = || IntGaugeVec::new(opts(name, help), L::NAMES);
        Self::over(r, families(1, gauges), primed)
    }

    /// 1 for these labels, 0 for all others: how a state is shown.
    pub fn set_only(&self, labels: L) {
        for each in L::all() {
            self.of(each).set(i64::from(each.index() == labels.index()));
        }
    }
}

impl<L: Labels> Histograms<L> {
    /// `lanes`: one, or all where every request counts in it.
    pub(super) fn new(
        r: &Registry,
        lanes: usize,
        name: &str,
        help: &str,
        buckets: &[f64],
        primed: impl Fn(L) -> bool,
    ) -> Self {
        let opts = HistogramOpts::new(format!("{PREFIX}{name}"), help).buckets(buckets.to_vec());
        let histograms = || HistogramVec::new(opts.clone(), L::NAMES);
        Self::over(r, families(lanes, histograms), primed)
    }
}

fn families<F>(lanes: usize, family: impl Fn() -> prometheus::Result<F>) -> Vec<F> {
    let family = || family().expect("a metric's definition is constant");
    (0..lanes).map(|_| family()).collect()
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
