//! Every series narwharf exports, by its final name: the one place where a metric is named.
//!
//! Children are resolved once and found by index, so counting costs an atomic addition and no
//! hashing of label texts. Label values come from the enums in [`labels`], so a key, an address or
//! a token can never become one. Whatever routes can produce is there, at zero, from the first scrape.

pub mod labels;
mod requests;
mod scrape;
mod table;

use std::sync::atomic::AtomicI64;

use prometheus::{IntCounter, IntGauge, Registry};

use crate::lane::{LANES, Lanes};
use labels::*;
use scrape::Refreshers;
use table::{Counters, Gauges, Histograms};

pub use requests::Over;

/// Seconds from 10 µs to 100 s: an answer from memory and a NAR over a slow line both fit.
const SECONDS: &[f64] = &[
    0.00001, 0.000025, 0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0,
    25.0, 100.0,
];

/// The gateway's metrics, with a registry of their own so that two gateways in one process
/// (as in tests) do not count into each other.
pub struct Metrics {
    registry: Registry,
    refreshers: Refreshers,
    counts_requests: bool,

    pub http_requests: Counters<(Kind, Method, Status)>,
    pub http_request_seconds: Histograms<(Kind,)>,
    pub http_first_byte_seconds: Histograms<(Kind, Source)>,
    http_in_flight: IntGauge,
    in_flight: Lanes<AtomicI64>,
    pub http_response_bytes: Counters<(Kind, Source)>,

    pub cache_lookups: Counters<(Kind, Tier, Outcome)>,
    pub memory_bytes: Gauges<(MemoryCache,)>,
    pub memory_entries: Gauges<(MemoryCache,)>,

    pub disk_bytes: IntGauge,
    pub disk_capacity_bytes: IntGauge,
    pub disk_blobs: IntGauge,
    pub disk_reserved_bytes: IntGauge,
    pub disk_evictions: IntCounter,
    pub disk_evicted_bytes: IntCounter,
    pub disk_oldest_idle_seconds: IntGauge,
    pub disk_quarantined: IntCounter,
    pub disk_scrubbed_bytes: IntCounter,
    pub disk_scrubbed_blobs: IntCounter,
    pub disk_scrub_passes: IntCounter,
    pub disk_state: Gauges<(PartState,)>,
    pub index_state: Gauges<(PartState,)>,
    pub index_rebuilds: IntCounter,

    pub fills_in_flight: IntGauge,
    pub fill_readers: IntGauge,
    pub fill_joins: IntCounter,
    pub fills: Counters<(FillOutcome,)>,
    pub fill_resumes: IntCounter,
    pub unverified_bytes: IntCounter,

    pub origin_requests: Counters<(Origin, Operation, OriginOutcome)>,
    pub origin_request_seconds: Histograms<(Origin, Operation)>,
    pub origin_bytes: Counters<(Origin, Direction)>,
    pub origin_up: Gauges<(Origin,)>,
    pub bucket_operations: Counters<(PriceClass,)>,

    pub uploads: Counters<(Kind, UploadOutcome)>,
    pub upload_bytes: IntCounter,
    pub auth_failures: Counters<(AuthFailure,)>,
    pub unknown_answers: Counters<(UnknownReason,)>,
    pub log_lines_dropped: IntCounter,
}

impl Metrics {
    /// Registers everything, and counts it.
    pub fn new() -> Self {
        Self::counting(true)
    }

    /// Registers everything; counts what each request costs to count only where `requests`. A name
    /// used twice is a defect of this file, so it panics.
    pub fn counting(requests: bool) -> Self {
        let registry = Registry::new();
        let build = prometheus::GaugeVec::new(
            prometheus::Opts::new("narwharf_build_info", "Always 1; the version is the label"),
            &["version"],
        )
        .expect("a metric's definition is constant");
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        table::register(&registry, build);
        let process = prometheus::process_collector::ProcessCollector::for_self();
        table::register(&registry, process);

        let r = &registry;
        let metrics = Self {
            http_requests: Counters::spread(
                r,
                "http_requests_total",
                "Requests that are over; status other: the client left before there was an answer",
                labels::can_be_answered,
            ),
            http_request_seconds: Histograms::new(
                r,
                LANES,
                "http_request_duration_seconds",
                "From the request's head to the last byte handed to the connection",
                SECONDS,
                |_| true,
            ),
            http_first_byte_seconds: Histograms::new(
                r,
                LANES,
                "http_first_byte_seconds",
                "From the request's head to the answer's head",
                SECONDS,
                labels::can_serve,
            ),
            http_in_flight: table::gauge(
                r,
                "http_requests_in_flight",
                "Requests being answered now",
            ),
            http_response_bytes: Counters::spread(
                r,
                "http_response_bytes_total",
                "Body bytes handed to clients, by where they came from",
                labels::can_serve,
            ),
            cache_lookups: Counters::spread(
                r,
                "cache_lookups_total",
                "Reads, counted at each tier they passed (miss) and at the one that answered them",
                labels::can_look_up,
            ),
            memory_bytes: Gauges::new(r, "memory_bytes", "Bytes held by a memory cache", |_| true),
            memory_entries: Gauges::new(r, "memory_entries", "Entries in a memory cache", |_| true),
            disk_bytes: table::gauge(r, "disk_bytes", "Allocated bytes of blobs and temporaries"),
            disk_capacity_bytes: table::gauge(
                r,
                "disk_capacity_bytes",
                "Most bytes the disk tier may take (disk.capacity)",
            ),
            disk_blobs: table::gauge(r, "disk_blobs", "Blobs in the disk tier"),
            disk_reserved_bytes: table::gauge(
                r,
                "disk_reserved_bytes",
                "Bytes promised to writers and not yet written",
            ),
            disk_evictions: table::counter(r, "disk_evictions_total", "Blobs evicted to make room"),
            disk_evicted_bytes: table::counter(
                r,
                "disk_evicted_bytes_total",
                "Bytes evicted to make room",
            ),
            disk_oldest_idle_seconds: table::gauge(
                r,
                "disk_oldest_idle_seconds",
                "Seconds since the blob next in line for eviction was last used",
            ),
            disk_quarantined: table::counter(
                r,
                "disk_quarantined_total",
                "Blobs set aside because their bytes were wrong",
            ),
            disk_scrubbed_bytes: table::counter(
                r,
                "disk_scrubbed_bytes_total",
                "Bytes of blobs re-read by the scrubber",
            ),
            disk_scrubbed_blobs: table::counter(
                r,
                "disk_scrubbed_blobs_total",
                "Blobs re-read by the scrubber",
            ),
            disk_scrub_passes: table::counter(
                r,
                "disk_scrub_passes_total",
                "Times the scrubber has read the whole tier",
            ),
            disk_state: Gauges::new(
                r,
                "disk_state",
                "1 for the state the disk tier is in",
                |_| true,
            ),
            index_state: Gauges::new(r, "index_state", "1 for the state the index is in", |_| {
                true
            }),
            index_rebuilds: table::counter(
                r,
                "index_rebuilds_total",
                "Times the index was made anew from the files",
            ),
            fills_in_flight: table::gauge(
                r,
                "fills_in_flight",
                "NARs on their way from an origin to the disk",
            ),
            fill_readers: table::gauge(
                r,
                "fill_readers",
                "Requests waiting for a fill or reading along in it",
            ),
            fill_joins: table::counter(
                r,
                "fill_joins_total",
                "Requests that found a fill of their NAR under way",
            ),
            fills: Counters::new(r, "fills_total", "Fills ended, by how", |_| true),
            fill_resumes: table::counter(
                r,
                "fill_resumes_total",
                "Broken origin reads continued inside a fill",
            ),
            unverified_bytes: table::counter(
                r,
                "unverified_bytes_total",
                "Body bytes sent without their hash having been checked (ranges of a fill, names without a known hash)",
            ),
            origin_requests: Counters::new(
                r,
                "origin_requests_total",
                "Requests to an origin, each try counted",
                labels::can_be_asked,
            ),
            origin_request_seconds: Histograms::new(
                r,
                1,
                "origin_request_duration_seconds",
                "From asking an origin to its answer's head",
                SECONDS,
                |(origin, _)| origin == Origin::Bucket,
            ),
            origin_bytes: Counters::new(
                r,
                "origin_bytes_total",
                "Body bytes exchanged with an origin",
                |(origin, _)| origin == Origin::Bucket,
            ),
            origin_up: Gauges::new(
                r,
                "origin_up",
                "1 while the origin answers, 0 since it last failed to",
                |(origin,)| origin == Origin::Bucket,
            ),
            bucket_operations: Counters::new(
                r,
                "bucket_operations_total",
                "Requests to the bucket by R2's price classes (a: writes and lists, b: reads), each try counted",
                |_| true,
            ),
            uploads: Counters::new(r, "uploads_total", "Uploads ended, by how", |(kind, _)| {
                !matches!(kind, Kind::Info | Kind::Other)
            }),
            upload_bytes: table::counter(r, "upload_bytes_total", "Body bytes received in uploads"),
            auth_failures: Counters::new(
                r,
                "auth_failures_total",
                "Credentials refused, by why",
                |_| true,
            ),
            unknown_answers: Counters::new(
                r,
                "unknown_answers_total",
                "Requests that nobody could answer for now (503, or 422 to uploaders that cannot come back), by why",
                |_| true,
            ),
            log_lines_dropped: table::counter(
                r,
                "log_lines_dropped_total",
                "Log lines dropped because the log's reader was too slow",
            ),
            in_flight: Lanes::default(),
            refreshers: Refreshers::default(),
            counts_requests: requests,
            registry,
        };
        metrics.disk_state.set_only((PartState::Starting,));
        metrics.index_state.set_only((PartState::Starting,));
        metrics.origin_up.of((Origin::Bucket,)).set(1);
        metrics
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn everything_is_there_at_the_first_scrape() {
        let text = Metrics::new().render();
        for line in [
            "narwharf_http_requests_total{kind=\"narinfo\",method=\"GET\",status=\"404\"} 0",
            "narwharf_cache_lookups_total{kind=\"narinfo\",result=\"negative_hit\",tier=\"memory\"} 0",
            "narwharf_fills_total{outcome=\"stored\"} 0",
            "narwharf_origin_up{origin=\"bucket\"} 1",
            "narwharf_disk_state{state=\"starting\"} 1",
            "narwharf_build_info{version=",
            "process_resident_memory_bytes",
        ] {
            assert!(text.contains(line), "{line} is missing");
        }
    }

    #[test]
    fn combinations_no_route_produces_are_not_primed_but_can_be_counted() {
        let metrics = Metrics::new();
        let odd = (Kind::Info, Method::Put, Status::of(206));
        assert!(
            !metrics
                .render()
                .contains("kind=\"info\",method=\"PUT\",status=\"206\"")
        );
        metrics.http_requests.of(odd).inc();
        assert!(
            metrics
                .render()
                .contains("kind=\"info\",method=\"PUT\",status=\"206\"} 1")
        );
    }

    #[test]
    fn what_nobody_is_to_know_is_not_counted() {
        for (counting, times) in [(true, 1), (false, 0)] {
            let metrics = Metrics::counting(counting);
            metrics.request_began();
            metrics.looked_up(Kind::Narinfo, Tier::Memory, Outcome::Hit);
            metrics.request_answered(Kind::Narinfo, Source::Memory, Duration::ZERO);
            metrics.request_over(&Over {
                kind: Kind::Narinfo,
                method: Method::Get,
                status: Status::of(200),
                source: Source::Memory,
                sent: 1,
                total: Duration::ZERO,
            });
            let text = metrics.render();
            for series in [
                "narwharf_http_requests_total{kind=\"narinfo\",method=\"GET\",status=\"200\"}",
                "narwharf_http_request_duration_seconds_count{kind=\"narinfo\"}",
                "narwharf_http_first_byte_seconds_count{kind=\"narinfo\",source=\"memory\"}",
                "narwharf_http_response_bytes_total{kind=\"narinfo\",source=\"memory\"}",
                "narwharf_cache_lookups_total{kind=\"narinfo\",result=\"hit\",tier=\"memory\"}",
            ] {
                assert!(
                    text.contains(&format!("{series} {times}\n")),
                    "{series}\n{text}"
                );
            }
            assert!(text.contains("narwharf_http_requests_in_flight 0\n"));
        }
    }

    #[test]
    fn a_state_excludes_the_others() {
        let metrics = Metrics::new();
        metrics.disk_state.set_only((PartState::Degraded,));
        let text = metrics.render();
        assert!(text.contains("narwharf_disk_state{state=\"degraded\"} 1"));
        assert!(text.contains("narwharf_disk_state{state=\"starting\"} 0"));
    }
}
