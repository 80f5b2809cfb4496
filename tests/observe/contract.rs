//! The names that dashboards and alerts rely on: every series with its type and labels, and nothing else.

use std::collections::BTreeMap;

use narwharf::metrics::Metrics;

use crate::scrape::{Family, Scrape};

/// Name (without the prefix), type, labels.
pub const CONTRACT: &[(&str, &str, &[&str])] = &[
    ("auth_failures_total", "counter", &["reason"]),
    ("bucket_operations_total", "counter", &["class"]),
    ("build_info", "gauge", &["version"]),
    (
        "cache_lookups_total",
        "counter",
        &["kind", "result", "tier"],
    ),
    ("disk_blobs", "gauge", &[]),
    ("disk_bytes", "gauge", &[]),
    ("disk_capacity_bytes", "gauge", &[]),
    ("disk_evicted_bytes_total", "counter", &[]),
    ("disk_evictions_total", "counter", &[]),
    ("disk_oldest_idle_seconds", "gauge", &[]),
    ("disk_quarantined_total", "counter", &[]),
    ("disk_reserved_bytes", "gauge", &[]),
    ("disk_scrub_passes_total", "counter", &[]),
    ("disk_scrubbed_blobs_total", "counter", &[]),
    ("disk_scrubbed_bytes_total", "counter", &[]),
    ("disk_state", "gauge", &["state"]),
    ("fill_joins_total", "counter", &[]),
    ("fill_readers", "gauge", &[]),
    ("fill_resumes_total", "counter", &[]),
    ("fills_in_flight", "gauge", &[]),
    ("fills_total", "counter", &["outcome"]),
    ("http_first_byte_seconds", "histogram", &["kind", "source"]),
    ("http_request_duration_seconds", "histogram", &["kind"]),
    ("http_requests_in_flight", "gauge", &[]),
    (
        "http_requests_total",
        "counter",
        &["kind", "method", "status"],
    ),
    ("http_response_bytes_total", "counter", &["kind", "source"]),
    ("index_rebuilds_total", "counter", &[]),
    ("index_state", "gauge", &["state"]),
    ("log_lines_dropped_total", "counter", &[]),
    ("memory_bytes", "gauge", &["cache"]),
    ("memory_entries", "gauge", &["cache"]),
    ("origin_bytes_total", "counter", &["direction", "origin"]),
    (
        "origin_request_duration_seconds",
        "histogram",
        &["operation", "origin"],
    ),
    (
        "origin_requests_total",
        "counter",
        &["operation", "origin", "outcome"],
    ),
    ("origin_up", "gauge", &["origin"]),
    ("unknown_answers_total", "counter", &["reason"]),
    ("unverified_bytes_total", "counter", &[]),
    ("upload_bytes_total", "counter", &[]),
    ("uploads_total", "counter", &["kind", "outcome"]),
];

fn first_scrape() -> Scrape {
    Scrape::parse(&Metrics::new().render())
}

fn ours(scrape: Scrape) -> BTreeMap<String, Family> {
    let families = scrape.families.into_iter();
    let ours = families
        .filter_map(|(name, family)| Some((name.strip_prefix("narwharf_")?.to_owned(), family)));
    ours.collect()
}

/// The labels of all series, `le` apart; the same for each, or the family is not in order.
fn labels(family: &Family) -> Vec<&str> {
    let named = family.series.iter().map(|series| {
        let names = series.labels.keys().map(String::as_str);
        names.filter(|name| *name != "le").collect::<Vec<_>>()
    });
    let mut named: Vec<_> = named.collect();
    named.dedup();
    assert_eq!(named.len(), 1, "series of one family with other labels");
    named.remove(0)
}

#[test]
fn names_types_and_labels_are_the_contracts_and_there_is_nothing_else() {
    let families = ours(first_scrape());
    let there: Vec<_> = families
        .iter()
        .map(|(name, family)| (name.as_str(), family.kind.as_str(), labels(family)))
        .collect();
    let wanted: Vec<_> = CONTRACT
        .iter()
        .map(|(name, kind, labels)| (*name, *kind, labels.to_vec()))
        .collect();
    assert_eq!(there, wanted);
}

#[test]
fn every_metric_says_what_it_counts_and_its_name_says_the_unit() {
    for (name, family) in ours(first_scrape()) {
        assert!(family.help.len() > 15, "{name}: {:?}", family.help);
        let ends = |ending: &str| name.ends_with(ending);
        match family.kind.as_str() {
            "counter" => assert!(ends("_total"), "{name}"),
            "histogram" => assert!(ends("_seconds"), "{name}"),
            _ => assert!(
                !ends("_total") && !ends("_count") && !ends("_sum"),
                "{name}"
            ),
        }
    }
}

#[test]
fn histograms_reach_from_ten_microseconds_to_a_hundred_seconds() {
    for (name, family) in ours(first_scrape()) {
        let bounds: Vec<f64> = family
            .series
            .iter()
            .filter_map(|series| series.labels.get("le")?.parse().ok())
            .collect();
        if family.kind == "histogram" {
            let (least, largest) = (bounds[0], bounds.iter().filter(|bound| bound.is_finite()));
            assert!(least <= 10e-6, "{name} begins at {least}");
            assert!(largest.fold(0.0, |a: f64, b| a.max(*b)) >= 100.0, "{name}");
        }
    }
}

#[test]
fn the_process_tells_of_itself() {
    let scrape = first_scrape();
    for (name, kind) in [
        ("process_cpu_seconds_total", "counter"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_open_fds", "gauge"),
        ("process_max_fds", "gauge"),
        ("process_start_time_seconds", "gauge"),
    ] {
        assert_eq!(scrape.families[name].kind, kind, "{name}");
    }
}
