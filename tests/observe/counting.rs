//! Traffic of every kind, and then every counter against those who know: the clients, and the bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{Answer, Connection, KIB, Package, Request, TestBed, get, head, post, put};
use crate::scrape::Scrape;

/// What the clients saw: their requests by kind, method and status, and whole bodies' bytes by kind.
#[derive(Debug, Default)]
pub struct Tally {
    requests: BTreeMap<[String; 3], u64>,
    bytes: BTreeMap<&'static str, u64>,
    /// Answers that came from the tiers or the bucket, whatever they were.
    reads: BTreeMap<&'static str, u64>,
}

impl Tally {
    async fn ask(&mut self, bed: &TestBed, kind: &'static str, request: Request) -> Answer {
        let method = request.method();
        let answer = bed.ask(request).await;
        self.note(kind, method, &answer);
        answer
    }

    fn note(&mut self, kind: &'static str, method: &str, answer: &Answer) {
        let label = match method {
            "GET" | "HEAD" | "PUT" | "DELETE" => method,
            _ => "other",
        };
        let request = [kind.to_owned(), label.to_owned(), answer.status.to_string()];
        *self.requests.entry(request).or_default() += 1;
        *self.bytes.entry(kind).or_default() += answer.body.len() as u64;
        let looked_up = matches!(method, "GET" | "HEAD") && !matches!(answer.status, 401 | 405);
        if looked_up && ["narinfo", "nar", "document"].contains(&kind) {
            *self.reads.entry(kind).or_default() += 1;
        }
    }

    pub fn total(&self, holds: impl Fn(&[String; 3]) -> bool) -> u64 {
        let counted = self.requests.iter().filter(|(request, _)| holds(request));
        counted.map(|(_, times)| times).sum()
    }
}

/// Every route, every way an answer can come about, and what goes wrong on the way.
pub async fn traffic(bed: &TestBed, seen: &mut Tally) {
    let hello = bed
        .bucket
        .publish(Package::named("hello").nar_bytes(700 * KIB));
    let small = bed
        .bucket
        .publish(Package::named("small").nar_bytes(10 * KIB));
    let absent = "0000000000000000000000000000000z.narinfo".replace('z', "1");
    let absent_nar = "nar/nowhere.nar";

    for _ in 0..4 {
        seen.ask(bed, "narinfo", get(&hello.narinfo)).await;
        seen.ask(bed, "narinfo", get(&absent)).await;
        seen.ask(bed, "nar", get(absent_nar)).await;
    }
    seen.ask(bed, "narinfo", head(&small.narinfo)).await;
    let tagged = seen.ask(bed, "narinfo", get(&small.narinfo)).await;
    let tag = tagged.header("etag").expect("a tag").to_owned();
    seen.ask(
        bed,
        "narinfo",
        get(&small.narinfo).header("If-None-Match", &tag),
    )
    .await;
    seen.ask(
        bed,
        "narinfo",
        get(&small.narinfo).header("If-Match", "\"other\""),
    )
    .await;

    for answer in bed.ask_times(5, get(&hello.nar)).await {
        seen.note("nar", "GET", &answer);
    }
    seen.ask(bed, "nar", get(&hello.nar)).await;
    seen.ask(bed, "nar", get(&hello.nar).range("bytes=100-299"))
        .await;
    seen.ask(bed, "nar", get(&hello.nar).range("bytes=9000000-"))
        .await;
    seen.ask(bed, "nar", head(&hello.nar)).await;
    seen.ask(bed, "nar", head(absent_nar)).await;
    seen.ask(bed, "nar", get(&small.nar)).await;

    for (kind, path) in [
        ("info", "nix-cache-info"),
        ("other", ""),
        ("other", "health"),
        ("other", "ready"),
        ("other", "no/such/path"),
    ] {
        seen.ask(bed, kind, get(path)).await;
    }
    seen.ask(bed, "other", get("").header("Accept", "text/html"))
        .await;
    seen.ask(bed, "nar", post(&hello.nar, "x")).await;
    seen.ask(bed, "other", put("no/such/path", "x")).await;
}

pub async fn uploads(bed: &TestBed, seen: &mut Tally) {
    let new = Package::named("new").nar_bytes(300 * KIB).build();
    seen.ask(bed, "narinfo", put(&new.narinfo, &new.narinfo_text))
        .await;
    seen.ask(
        bed,
        "nar",
        put(&new.nar, &new.nar_bytes).expecting_continue(),
    )
    .await;
    seen.ask(bed, "narinfo", put(&new.narinfo, &new.narinfo_text))
        .await;
    seen.ask(bed, "narinfo", get(&new.narinfo)).await;
    seen.ask(bed, "nar", get(&new.nar)).await;
    let wrong = Package::named("wrong").nar_bytes(20 * KIB).build();
    seen.ask(bed, "nar", put(&wrong.nar, &new.nar_bytes)).await;
    let log = "log/0c2sx4hd0v9yq6gf6v0f5wx0gl3i2c8j-hello.drv";
    seen.ask(bed, "document", put(log, "it was built")).await;
    seen.ask(bed, "document", get(log)).await;
    seen.ask(bed, "info", put("nix-cache-info", "StoreDir: /nix/store\n"))
        .await;
    seen.ask(
        bed,
        "nar",
        put(&wrong.nar, &wrong.nar_bytes).without_token(),
    )
    .await;
    seen.ask(
        bed,
        "nar",
        put(&wrong.nar, &wrong.nar_bytes).token("nonsense"),
    )
    .await;
    seen.ask(
        bed,
        "nar",
        put(&wrong.nar, &wrong.nar_bytes).header("Authorization", "Digest x"),
    )
    .await;
}

pub async fn trouble(bed: &TestBed, seen: &mut Tally) {
    let sick = bed
        .bucket
        .publish(Package::named("sick").nar_bytes(10 * KIB));
    let failing = bed
        .bucket
        .fault(Rule::get(&sick.narinfo).plays(Fault::Status(500, "InternalError")));
    seen.ask(bed, "narinfo", get(&sick.narinfo)).await;
    drop(failing);
    let _refusing = bed
        .bucket
        .fault(Rule::get(&sick.nar).plays(Fault::Status(403, "AccessDenied")));
    seen.ask(bed, "nar", get(&sick.nar)).await;
}

/// R2's price classes (Cloudflare, "R2 pricing"): what writes or lists is A, what reads is B.
pub fn price_class(operation: Operation) -> &'static str {
    match operation {
        Operation::GetObject | Operation::HeadObject | Operation::HeadBucket => "b",
        Operation::DeleteObject | Operation::DeleteObjects | Operation::AbortMultipartUpload => {
            "free"
        }
        _ => "a",
    }
}

#[track_caller]
fn agree(what: &str, counted: f64, known: u64) {
    assert_eq!(counted, known as f64, "{what}: counted, and known");
}

/// Nothing counted twice, nothing forgotten, and no series that the first scrape did not have.
#[actix_web::test]
async fn every_counter_agrees_with_the_clients_and_the_bucket() {
    let bed = TestBed::start().await;
    let first = Scrape::parse(&bed.metrics());
    let mut seen = Tally::default();

    traffic(&bed, &mut seen).await;
    uploads(&bed, &mut seen).await;
    trouble(&bed, &mut seen).await;
    bed.until_metric("narwharf_http_requests_in_flight", 0)
        .await;
    bed.until_metric("narwharf_fills_in_flight", 0).await;
    let scrape = Scrape::parse(&bed.metrics());

    // The clients' count.
    for ([kind, method, status], times) in &seen.requests {
        let labels = [("kind", &**kind), ("method", method), ("status", status)];
        agree(
            &format!("{labels:?}"),
            scrape.sum("narwharf_http_requests_total", &labels),
            *times,
        );
    }
    let all = seen.total(|_| true);
    agree(
        "requests",
        scrape.sum("narwharf_http_requests_total", &[]),
        all,
    );
    for name in [
        "narwharf_http_request_duration_seconds_count",
        "narwharf_http_first_byte_seconds_count",
    ] {
        agree(name, scrape.sum(name, &[]), all);
    }
    for (kind, bytes) in &seen.bytes {
        let counted = scrape.sum("narwharf_http_response_bytes_total", &[("kind", kind)]);
        agree(&format!("bytes of {kind}"), counted, *bytes);
    }
    for (kind, reads) in &seen.reads {
        let at = |tier, result| {
            let labels = [("kind", *kind), ("tier", tier), ("result", result)];
            scrape.sum("narwharf_cache_lookups_total", &labels)
        };
        let answered = match *kind {
            "nar" => {
                let memory = at("memory", "hit") + at("memory", "negative_hit");
                memory + at("disk", "hit") + at("disk", "unknown")
            }
            _ => {
                let memory =
                    at("memory", "hit") + at("memory", "negative_hit") + at("memory", "stale");
                memory + at("index", "hit") + at("index", "stale")
            }
        };
        let bucket = at("bucket", "hit") + at("bucket", "miss") + at("bucket", "unknown");
        agree(
            &format!("answers to reads of {kind}"),
            answered + bucket,
            *reads,
        );
    }
    let refused = |reason| scrape.sum("narwharf_auth_failures_total", &[("reason", reason)]);
    assert_eq!(
        [refused("missing"), refused("unknown"), refused("malformed")],
        [1.0, 1.0, 1.0]
    );
    agree(
        "refusals",
        scrape.sum("narwharf_auth_failures_total", &[]),
        3,
    );
    agree(
        "503s",
        scrape.sum("narwharf_unknown_answers_total", &[]),
        seen.total(|[_, _, status]| status == "503"),
    );

    // The bucket's count.
    let log = bed.bucket.log().entries();
    let requests = |holds: &dyn Fn(Operation) -> bool| {
        log.iter()
            .filter(|entry| holds(entry.asked.operation))
            .count() as u64
    };
    for (operation, s3) in [
        ("get", Operation::GetObject),
        ("head", Operation::HeadObject),
        ("put", Operation::PutObject),
    ] {
        let labels = [("origin", "bucket"), ("operation", operation)];
        let known = requests(&|asked| asked == s3);
        agree(
            operation,
            scrape.sum("narwharf_origin_requests_total", &labels),
            known,
        );
        agree(
            operation,
            scrape.sum("narwharf_origin_request_duration_seconds_count", &labels),
            known,
        );
    }
    agree(
        "requests to the bucket",
        scrape.sum("narwharf_origin_requests_total", &[]),
        log.len() as u64,
    );
    for class in ["a", "b"] {
        let known = requests(&|asked| price_class(asked) == class);
        agree(
            class,
            scrape.sum("narwharf_bucket_operations_total", &[("class", class)]),
            known,
        );
    }
    let read = log
        .iter()
        .filter(|entry| entry.status.is_some_and(|status| status < 300));
    let (sent, received) = read.fold((0, 0), |(sent, received), entry| {
        match entry.asked.operation {
            Operation::GetObject => (sent + entry.sent, received),
            Operation::PutObject => (sent, received + entry.received),
            _ => (sent, received),
        }
    });
    agree(
        "bytes in",
        scrape.sum("narwharf_origin_bytes_total", &[("direction", "in")]),
        sent,
    );
    agree(
        "bytes out",
        scrape.sum("narwharf_origin_bytes_total", &[("direction", "out")]),
        received,
    );

    // What the test itself arranged.
    let fills = |outcome| scrape.sum("narwharf_fills_total", &[("outcome", outcome)]);
    assert_eq!(
        [
            fills("stored"),
            fills("absent"),
            fills("broken"),
            fills("corrupt")
        ],
        [2.0, 1.0, 1.0, 0.0]
    );
    agree("blobs", scrape.sum("narwharf_disk_blobs", &[]), 3);
    let uploaded = |kind, outcome| {
        scrape.sum(
            "narwharf_uploads_total",
            &[("kind", kind), ("outcome", outcome)],
        )
    };
    assert_eq!(
        [uploaded("nar", "created"), uploaded("nar", "refused")],
        [1.0, 1.0]
    );
    assert_eq!(
        [
            uploaded("narinfo", "created"),
            uploaded("narinfo", "refused")
        ],
        [1.0, 1.0]
    );
    agree("documents uploaded", uploaded("document", "created"), 1);

    let late: Vec<_> = scrape.names().difference(&first.names()).cloned().collect();
    assert!(late.is_empty(), "not there at the first scrape: {late:#?}");
}

/// A request that is under way when the server is told to leave is answered, and counted.
#[actix_web::test]
async fn nothing_is_lost_at_shutdown() {
    let bed = TestBed::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = bed.config();
    config.disk.path = folder.path().join("disk");
    let server = crate::bed::start(config).await.unwrap();
    let (metrics, address) = (Arc::clone(&server.metrics), server.started.addresses[0]);
    let late = bed.bucket.publish(Package::named("late"));
    let held = bed.bucket.hold_first_byte(&late.narinfo);
    let key = late.narinfo.clone();

    let asking = tokio::task::spawn_local(async move {
        Connection::open(address)
            .await
            .ask(&get(&late.narinfo))
            .await
    });
    bed.bucket
        .until(|entries| entries.iter().any(|entry| entry.asked.key == key))
        .await;
    let stopping = tokio::task::spawn_blocking(move || server.stop());
    drop(held);
    assert_eq!(asking.await.unwrap().status, 200);
    stopping.await.unwrap();
    let scrape = Scrape::parse(&metrics.render());
    let asked = [("kind", "narinfo"), ("status", "200")];
    agree(
        "requests",
        scrape.sum("narwharf_http_requests_total", &asked),
        1,
    );
    agree(
        "in flight",
        scrape.sum("narwharf_http_requests_in_flight", &[]),
        0,
    );
}
