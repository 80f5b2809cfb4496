//! Outages: whatever ails the bucket, nobody is told that something is absent which may be there.

use std::time::{Duration, Instant};

use crate::bed::r2sim::{Fault, Rule};
use crate::bed::{Answer, Package, Settings, TestBed, get, head};

/// A bucket's silence is waited for no longer than this, so that tests can wait for it.
pub fn impatient(settings: &mut Settings) {
    settings.set("bucket.hold", "200ms");
    settings.set("bucket.first_byte_timeout", "600ms");
    settings.set("bucket.connect_timeout", "500ms");
    settings.set("bucket.idle_timeout", "500ms");
}

/// Nix takes 404, 410, 403 and 401 for "not here" and builds from source; 429 sends some versions to
/// sleep. Whatever ails the bucket is 503, soon, and nobody's business who asks for what is cached.
#[tokio::test]
async fn whatever_ails_the_bucket_is_503_and_what_is_cached_is_served_as_before() {
    let bed = TestBed::with(impatient).await;
    let cached = bed.cached(Package::named("cached")).await;
    let cases = [
        ("500", Fault::Status(500, "InternalError")),
        ("502", Fault::Status(502, "BadGateway")),
        ("503", Fault::Status(503, "SlowDown")),
        ("400", Fault::Status(400, "RequestTimeTooSkewed")),
        ("401", Fault::Status(401, "Unauthorized")),
        ("403", Fault::Status(403, "AccessDenied")),
        ("404 of the bucket", Fault::Status(404, "NoSuchBucket")),
        ("410", Fault::Status(410, "Gone")),
        ("429", Fault::Status(429, "TooManyRequests")),
        ("501", Fault::Status(501, "NotImplemented")),
        ("reset", Fault::Reset),
        ("silence", Fault::Silence),
        ("a web page", Fault::Html200),
    ];
    for (what, fault) in cases {
        let package = bed.bucket.publish(Package::named(&what.replace(' ', "-")));
        let ailing = bed.bucket.fault(Rule::any().plays(fault));
        for request in [
            get(&package.nar),
            get(&package.nar).range("bytes=5-"),
            head(&package.nar),
        ] {
            let began = Instant::now();
            let answer = bed.ask(request.clone()).await;
            assert_unknown(&format!("{what}: {request:?}"), &answer);
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{what}: {:?}",
                began.elapsed()
            );
        }
        assert!(
            bed.ask(get(&cached.nar)).await.is(&cached.nar_bytes),
            "{what}"
        );
        ailing.release();
        bed.clock.advance(Duration::from_secs(120));
        assert!(
            bed.ask(get(&package.nar)).await.is(&package.nar_bytes),
            "after {what}"
        );
    }
}

#[tokio::test]
async fn a_bucket_that_cannot_be_reached_is_503_until_it_can() {
    let bed = TestBed::with(impatient).await;
    let cached = bed.cached(Package::named("cached")).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    bed.bucket.stop_listening();
    assert_unknown("GET", &bed.ask(get(&hello.nar)).await);
    assert_unknown("HEAD", &bed.ask(head(&hello.nar)).await);
    assert!(bed.ask(get(&cached.nar)).await.is(&cached.nar_bytes));
    assert_eq!(bed.metric("narwharf_origin_up{origin=\"bucket\"}"), 0);
    bed.bucket.start_listening();
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    assert_eq!(bed.metric("narwharf_origin_up{origin=\"bucket\"}"), 1);
}

/// One hiccup is ridden out inside the request.
#[tokio::test]
async fn a_brief_failure_of_the_bucket_is_not_seen() {
    let bed = TestBed::with(|s| s.set("bucket.hold", "5s")).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let once = Rule::get(&hello.nar).times(2);
    let hiccup = bed
        .bucket
        .fault(once.plays(Fault::Status(500, "InternalError")));
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    assert_eq!(hiccup.played(), 2);
}

/// A success whose body is an error is none: the bytes are not those of the name.
#[tokio::test]
async fn an_error_in_a_success_is_not_a_nar() {
    let bed = TestBed::with(impatient).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let error = Rule::get(&hello.nar).plays(Fault::OkWithErrorBody("InternalError"));
    let odd = bed.bucket.fault(error);
    assert_unknown("GET", &bed.ask(get(&hello.nar)).await);
    odd.release();
    bed.clock.advance(Duration::from_secs(120));
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
}

/// A 404 that does not say what is missing may come from whatever stands before the bucket.
#[tokio::test]
async fn a_404_that_is_not_the_buckets_is_no_absence() {
    let bed = TestBed::with(impatient).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let proxy = Rule::get(&hello.nar).plays(Fault::Status(404, ""));
    let astray = bed.bucket.fault(proxy);
    assert_unknown("GET", &bed.ask(get(&hello.nar)).await);
    astray.release();
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
}

/// 503 as Nix is to hear it of a NAR: come back soon, believe nothing, resume later.
#[track_caller]
pub fn assert_unknown(what: &str, answer: &Answer) {
    assert_eq!(answer.status, 503, "{what}");
    for (field, value) in [
        ("retry-after", "8"),
        ("cache-control", "no-store"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(answer.header(field), Some(value), "{what}: {field}");
    }
    assert_eq!(answer.header("etag"), None, "{what}");
}
