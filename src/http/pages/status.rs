//! What the server knows of itself, as one JSON value: the live half of the front page,
//! `narwharf stats`, and whoever asks `/` with `Accept: application/json`.
//!
//! It has no route of its own: `/` answers each client in the form it reads (cache info to Nix, a
//! page to a browser, this to a program), so no name is taken from the cache's. It may be read by
//! whoever may read `/metrics` on the same listener, and by an admin's token anywhere.

use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::{Readiness, Survey, UnderWay};
use crate::metrics::Metrics;
use crate::metrics::labels::{
    Direction, Label, MemoryCache, Origin, PriceClass, Source, UploadOutcome,
};

use super::recent::{Pace, Reads, reads_ever};

/// Fills that are named; the rest are counted.
const NAMED_FILLS: usize = 20;

/// Characters of a NAR's name that are shown: enough to tell two apart, too few to ask for one.
const NAME_SHOWN: usize = 12;

/// What the settings say about the tiers, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Capacities {
    pub documents: u64,
    pub negative: u64,
    pub nars: u64,
}

/// Everything that is looked at for one status.
pub struct Seen<'a> {
    pub metrics: &'a Metrics,
    pub readiness: &'a Readiness,
    pub under_way: &'a [UnderWay],
    pub pace: Pace,
    pub uptime: Duration,
    pub capacities: Capacities,
}

/// Counters are since the start. Bytes and seconds are whole numbers, ratios run from 0 to 1, and
/// null is what nothing is known of: traffic, for one, where `metrics.enabled = false`.
pub fn status(name: &str, seen: &Seen<'_>) -> Value {
    let metrics = seen.metrics;
    metrics.refresh();
    let sent = |source| metrics.http_response_bytes.sum(|(_, from)| from == source);
    let sent_from: serde_json::Map<String, Value> = Source::ALL
        .iter()
        .map(|source| (source.as_str().to_owned(), sent(*source).into()))
        .collect();
    let received = metrics
        .origin_bytes
        .of((Origin::Bucket, Direction::In))
        .get();
    let counted = |value: Value| Some(value).filter(|_| metrics.counts_requests());
    let operations = |class| metrics.bucket_operations.of((class,)).get();
    json!({
        "name": name,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": seen.uptime.as_secs(),
        "requests": {
            "total": counted(metrics.http_requests.sum(|_| true).into()),
            "a_second": counted(seen.pace.requests_a_second.into()),
            "in_flight": counted(metrics.in_flight().into()),
            "unanswered": metrics.unknown_answers.sum(|_| true),
        },
        "bytes": {
            "sent": counted(metrics.http_response_bytes.sum(|_| true).into()),
            "a_second": counted(seen.pace.bytes_a_second.into()),
            "from": counted(sent_from.into()),
        },
        "hit_ratio": {
            "last_minute": hit_ratios(seen.pace.reads),
            "ever": hit_ratios(reads_ever(metrics)),
        },
        "memory": {
            "documents": memory(metrics, MemoryCache::Documents, seen.capacities.documents),
            "absences": memory(metrics, MemoryCache::Negative, seen.capacities.negative),
            "nars": memory(metrics, MemoryCache::Nars, seen.capacities.nars),
        },
        "disk": disk(metrics, seen.readiness),
        "index": {
            "state": seen.readiness.index.to_string(),
            "rebuilds": metrics.index_rebuilds.get(),
        },
        "bucket": {
            "state": bucket_state(seen.readiness),
            "last_failure": seen.readiness.bucket.last_failure.as_ref().map(|(_, cause)| cause.to_string()),
            "requests": metrics.origin_requests.sum(|_| true),
            "operations": { "a": operations(PriceClass::A), "b": operations(PriceClass::B) },
            "bytes": {
                "in": received,
                "out": metrics.origin_bytes.of((Origin::Bucket, Direction::Out)).get(),
            },
        },
        "fills": {
            "in_flight": seen.under_way.len(),
            "readers": metrics.fill_readers.get(),
            "joins": metrics.fill_joins.get(),
            "list": seen.under_way.iter().take(NAMED_FILLS).map(fill).collect::<Vec<_>>(),
        },
        "uploads": uploads(metrics),
        "log_lines_dropped": metrics.log_lines_dropped.get(),
    })
}

/// In one word, as `/ready` says it.
pub fn bucket_state(readiness: &Readiness) -> &'static str {
    if readiness.bucket.is_up() {
        "ok"
    } else if readiness.bucket.breaker_open {
        "not asked"
    } else {
        "failing"
    }
}

/// The blobs that an operator asks about; for admins, since it names keys whole.
pub fn blobs(survey: &Survey) -> Value {
    let list = |blobs: &[crate::gateway::SeenBlob]| {
        let blobs = blobs.iter().map(
            |blob| json!({ "key": blob.key, "bytes": blob.len, "idle_seconds": blob.idle_seconds }),
        );
        blobs.collect::<Vec<_>>()
    };
    json!({ "largest": list(&survey.largest), "oldest": list(&survey.oldest) })
}

fn hit_ratios([narinfo, nar, document]: [Reads; 3]) -> Value {
    let all = [nar, document].into_iter().fold(narinfo, Reads::plus);
    json!({
        "all": all.hit_ratio(),
        "narinfo": narinfo.hit_ratio(),
        "nar": nar.hit_ratio(),
        "document": document.hit_ratio(),
    })
}

fn memory(metrics: &Metrics, cache: MemoryCache, capacity: u64) -> Value {
    let bytes = metrics.memory_bytes.of((cache,)).get();
    json!({
        "bytes": bytes,
        "capacity": capacity,
        "full": filled(bytes, capacity as i64),
        "entries": metrics.memory_entries.of((cache,)).get(),
    })
}

fn disk(metrics: &Metrics, readiness: &Readiness) -> Value {
    let (bytes, capacity) = (metrics.disk_bytes.get(), metrics.disk_capacity_bytes.get());
    json!({
        "state": readiness.disk.to_string(),
        "bytes": bytes,
        "reserved": metrics.disk_reserved_bytes.get(),
        "capacity": capacity,
        "full": filled(bytes, capacity),
        "blobs": metrics.disk_blobs.get(),
        "oldest_idle_seconds": metrics.disk_oldest_idle_seconds.get(),
        "evictions": metrics.disk_evictions.get(),
        "quarantined": metrics.disk_quarantined.get(),
    })
}

fn uploads(metrics: &Metrics) -> Value {
    let mut outcomes: serde_json::Map<String, Value> = UploadOutcome::ALL
        .iter()
        .map(|outcome| {
            let times = metrics
                .uploads
                .sum(|(_, ended)| ended.index() == outcome.index());
            (outcome.as_str().to_owned(), times.into())
        })
        .collect();
    outcomes.insert("bytes".to_owned(), metrics.upload_bytes.get().into());
    outcomes.into()
}

fn fill(fill: &UnderWay) -> Value {
    let file = fill.key.rsplit('/').next().unwrap_or(&fill.key);
    json!({
        "name": file.chars().take(NAME_SHOWN).collect::<String>(),
        "bytes": fill.written,
        "of": fill.len,
        "full": fill.len.map(|len| filled(fill.written as i64, len as i64)),
    })
}

fn filled(bytes: i64, capacity: i64) -> f64 {
    if capacity <= 0 {
        return 0.0;
    }
    (bytes as f64 / capacity as f64).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_is_named_so_that_nobody_can_ask_for_it() {
        let under_way = UnderWay {
            key: "team/nar/0sc3rk37jlqskzhmcq2jzi8ddbdcpc7y0glwl805f9jl0qlyp058.nar.xz".into(),
            len: Some(400),
            written: 100,
        };
        let shown = fill(&under_way);
        assert_eq!(shown["name"], "0sc3rk37jlqs");
        assert_eq!(shown["full"], 0.25);
        let unknown = UnderWay {
            len: None,
            ..under_way
        };
        assert_eq!(fill(&unknown)["full"], Value::Null);
    }
}
