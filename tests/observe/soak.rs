//! A mixed load with faults, and at its end three counts of it: Prometheus', the clients', the bucket's.
//!
//! Clients know how each answer came about, since `Cache-Status` tells them; so the hit ratio is
//! compared too, and not only sums.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{Answer, Built, Dice, KIB, Package, TestBed, get, head, put};
use crate::counting::price_class;
use crate::prometheus::Prometheus;

const CLIENTS: u64 = 6;
const PACKAGES: usize = 40;

/// What the issue allows the counts to differ by.
const TOLERANCE: f64 = 0.001;

/// What all clients saw.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    requests: u64,
    bytes: u64,
    /// 503.
    unanswered: u64,
    reads: u64,
    /// Reads that did not need the bucket.
    hits: u64,
    cut: u64,
}

impl Seen {
    fn note(&mut self, answer: &Answer) {
        self.requests += 1;
        self.bytes += answer.body.len() as u64;
        self.unanswered += u64::from(answer.status == 503);
        self.cut += u64::from(answer.cut);
        if let Some(how) = answer.header("cache-status") {
            self.reads += 1;
            self.hits += u64::from(how.contains("; hit") || how.contains("fwd=stale"));
        }
    }
}

/// One client: mostly narinfos and NARs, as builders ask for them, some of them new or not there.
async fn client(
    number: u64,
    bed: &TestBed,
    packages: &[Built],
    until: Instant,
    seen: &Mutex<Seen>,
) {
    let mut dice = Dice::seeded(number + 1);
    let mut round = 0;
    while Instant::now() < until {
        round += 1;
        let package = &packages[dice.below(PACKAGES).min(dice.below(PACKAGES))];
        let request = match dice.below(20) {
            0..9 => get(&package.narinfo),
            9..14 => get(&package.nar),
            14 => get(&package.nar).range("bytes=1000-50000"),
            15 => head(&package.nar),
            16..18 => get(&format!("{:0>32}.narinfo", dice.below(50))),
            18 => put(
                &format!("log/{:0>32}-{number}-{round}.drv", 0),
                "it was built",
            ),
            _ => get("nix-cache-info"),
        };
        let answer = bed.ask(request).await;
        seen.lock().unwrap().note(&answer);
    }
}

/// Asks Prometheus, and compares.
#[track_caller]
fn agree(prometheus: &Prometheus, what: &str, expression: &str, known: f64) {
    let told = prometheus.promtool(expression);
    let off = (told - known).abs() / if known > 0.0 { known } else { 1.0 };
    println!(
        "{what:<24} promtool {told:>16} known {known:>16} off by {:.4} %",
        off * 100.0
    );
    assert!(off <= TOLERANCE, "{what}: promtool {told}, known {known}");
}

async fn mixed_load(length: Duration) {
    let bed = TestBed::with(|settings| {
        settings.set("disk.capacity", "32MiB");
        settings.set("memory.document_ttl", "2s");
        settings.set("memory.negative_ttl", "2s");
        settings.set("bucket.idle_timeout", "2s");
    })
    .await;
    let prometheus = Prometheus::over(bed.address());
    let packages: Vec<Built> = (0..PACKAGES)
        .map(|n| {
            bed.bucket
                .publish(Package::named(&format!("p{n}")).nar_bytes((n + 1) * 40 * KIB))
        })
        .collect();
    let reads = Rule::on(Operation::GetObject);
    let _faults = [
        bed.bucket.fault(
            reads
                .clone()
                .chance(0.03, 1)
                .plays(Fault::Status(500, "InternalError")),
        ),
        bed.bucket.fault(
            reads
                .clone()
                .prefix("nar/")
                .chance(0.03, 2)
                .plays(Fault::CutAfter(30_000)),
        ),
        bed.bucket.fault(
            reads
                .clone()
                .chance(0.02, 3)
                .plays(Fault::DelayFirstByte(Duration::from_millis(300))),
        ),
        bed.bucket.fault(
            reads
                .prefix("00")
                .chance(0.2, 4)
                .plays(Fault::Status(503, "SlowDown")),
        ),
    ];
    let seen = Mutex::new(Seen::default());
    let until = Instant::now() + length;
    join_all((0..CLIENTS).map(|number| client(number, &bed, &packages, until, &seen))).await;
    bed.until_metric("narwharf_fills_in_flight", 0).await;
    bed.until_metric("narwharf_http_requests_in_flight", 0)
        .await;
    let seen = *seen.lock().unwrap();
    assert!(
        seen.requests > 100 && seen.hits > 20 && seen.hits < seen.reads,
        "{seen:?}"
    );
    println!("{seen:?}");

    let ours = "narwharf_http_requests_total{kind!=\"other\"}";
    prometheus.until("the last scrape", |p| {
        p.value(&format!("sum({ours})")) >= seen.requests as f64
    });
    // Everything was at rest when that scrape was made.
    let agree = |what: &str, expression: &str, known: f64| {
        agree(&prometheus, what, expression, known);
    };
    agree("requests", &format!("sum({ours})"), seen.requests as f64);
    let bytes = "sum(narwharf_http_response_bytes_total{kind!=\"other\"})";
    agree("bytes", bytes, seen.bytes as f64);
    let unanswered = "sum(narwharf_http_requests_total{kind!=\"other\",status=\"503\"})";
    agree("errors (503)", unanswered, seen.unanswered as f64);
    let hits = "sum(narwharf_cache_lookups_total{result=~\"hit|negative_hit|stale\",tier!~\"bucket|substituter\"})";
    let there = "sum(narwharf_cache_lookups_total{tier=~\"bucket|substituter\"})";
    agree("hits", hits, seen.hits as f64);
    let ratio = seen.hits as f64 / seen.reads as f64;
    agree("hit ratio", &format!("{hits} / ({hits} + {there})"), ratio);

    let log = bed.bucket.log().entries();
    agree(
        "requests to the bucket",
        "sum(narwharf_origin_requests_total)",
        log.len() as f64,
    );
    let of = |operation| {
        log.iter()
            .filter(move |entry| entry.asked.operation == operation)
    };
    let read = of(Operation::GetObject).filter(|entry| matches!(entry.status, Some(200 | 206)));
    let sent: u64 = read.map(|entry| entry.sent).sum();
    agree(
        "bytes from the bucket",
        "sum(narwharf_origin_bytes_total{direction=\"in\"})",
        sent as f64,
    );
    let failed = of(Operation::GetObject).filter(|entry| entry.status.is_some_and(|s| s >= 500));
    agree(
        "errors of the bucket",
        "sum(narwharf_origin_requests_total{outcome=~\"failed|throttled\"})",
        failed.count() as f64,
    );
    let class_a = log
        .iter()
        .filter(|entry| price_class(entry.asked.operation) == "a");
    agree(
        "class A",
        "narwharf_bucket_operations_total{class=\"a\"}",
        class_a.count() as f64,
    );
}

#[actix_web::test]
async fn after_some_seconds_of_mixed_load_all_counts_agree() {
    mixed_load(Duration::from_secs(8)).await;
}

#[ignore = "takes ten minutes"]
#[actix_web::test]
async fn after_ten_minutes_of_mixed_load_all_counts_agree() {
    mixed_load(Duration::from_secs(600)).await;
}
