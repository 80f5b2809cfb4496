//! Uploads: visible only when whole, right and durable, and visible then at once. What is refused
//! has a chapter of its own.

use std::time::{Duration, Instant};

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{Answer, Built, KIB, MIB, Package, TestBed, get, head, put};

pub const NEW_NIX: &str = "curl/8.23.0 Nix/2.34.8";
const OLD_NIX: &str = "curl/7.88.1 Nix/2.8.0";

#[track_caller]
pub fn assert_refused(answer: &Answer, status: u16, says: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert!(answer.text().contains(says), "{:?}", answer.text());
    assert_eq!(answer.text().lines().count(), 1, "{:?}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("x-request-id").is_some());
}

/// Nothing of it: not in the bucket, not for a client, not on disk.
pub async fn assert_nothing_visible(bed: &TestBed, key: &str) {
    assert_eq!(bed.bucket.object(key), None);
    assert_eq!(bed.ask(get(key)).await.status, 404);
    bed.until("no temporary file", || bed.temporary_files().is_empty())
        .await;
    assert!(bed.bucket.open_multipart_uploads().is_empty());
}

async fn upload(bed: &TestBed, built: &Built) {
    for request in [
        put(&built.nar, &built.nar_bytes),
        put(&built.narinfo, &built.narinfo_text),
    ] {
        let answer = bed.ask(request).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
}

pub fn writes(bed: &TestBed) -> usize {
    bed.bucket.log().requests_of(Operation::PutObject)
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_bucket_as_it_came_and_visible_at_once() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").nar_bytes(2 * MIB).build();
    let nar = put(&hello.nar, &hello.nar_bytes).header("Content-Type", "application/x-nix-nar");
    let answer = bed.ask(nar).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    let narinfo =
        put(&hello.narinfo, &hello.narinfo_text).header("Content-Type", "text/x-nix-narinfo");
    assert_eq!(bed.ask(narinfo).await.status, 201);
    bed.bucket.log().reset();
    for (key, bytes, kind) in [
        (
            &hello.nar,
            hello.nar_bytes.as_slice(),
            "application/x-nix-nar",
        ),
        (
            &hello.narinfo,
            hello.narinfo_text.as_bytes(),
            "text/x-nix-narinfo",
        ),
    ] {
        assert_eq!(bed.bucket.object(key).as_deref(), Some(bytes));
        let meta = bed.bucket.object_meta(key).expect("stored");
        assert_eq!(meta.len, bytes.len() as u64);
        assert_eq!(meta.attributes.content_type.as_deref(), Some(kind));
        assert_eq!(meta.attributes.content_encoding, None);
        assert!(bed.ask(get(key)).await.is(bytes));
        assert_eq!(bed.ask(head(key)).await.status, 200);
        // Read from here, not back from the bucket.
        assert_eq!(bed.bucket.reads(key), 0);
    }
}

/// Uploaders that do not say what it is get the type that Nix gives.
#[tokio::test]
async fn a_nar_without_a_type_is_stored_as_a_nar() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
    let meta = bed.bucket.object_meta(&hello.nar).expect("stored");
    assert_eq!(
        meta.attributes.content_type.as_deref(),
        Some("application/x-nix-nar")
    );
}

/// What was uploaded outlives the gateway that took it.
#[tokio::test]
async fn an_upload_warms_the_cache_over_a_restart() {
    let mut bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    upload(&bed, &hello).await;
    bed.restart().await;
    bed.until_recovered().await;
    bed.bucket.log().reset();
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    let narinfo = bed.ask(get(&hello.narinfo)).await;
    assert!(narinfo.is(hello.narinfo_text.as_bytes()));
    assert_eq!(bed.bucket.requests(), 0);
}

/// An uploader whose first answer got lost tries again; it need not send a byte.
#[tokio::test]
async fn a_nar_that_is_there_is_acknowledged_without_its_body() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").nar_bytes(2 * MIB);
    let hello = bed.bucket.publish(hello);
    let again = put(&hello.nar, &hello.nar_bytes).expecting_continue();
    let answer = bed.ask(again).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.continued, "the body was not asked for");
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 200);
    assert_eq!(writes(&bed), 0);
    assert_eq!(
        bed.metric("narwharf_uploads_total{kind=\"nar\",outcome=\"existing\"}"),
        2
    );
}

/// Another gateway may have taken it since this one was told that it is absent.
#[tokio::test]
async fn a_nar_that_came_by_another_way_is_acknowledged_without_its_body() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").nar_bytes(2 * MIB);
    assert_eq!(bed.ask(head(&hello.clone().build().nar)).await.status, 404);
    let hello = bed.bucket.publish(hello);
    bed.clock.advance(Duration::from_secs(5));
    let answer = bed
        .ask(put(&hello.nar, &hello.nar_bytes).expecting_continue())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.continued, "the body was not asked for");
}

/// libcurl waits a second for the 100; more would cost each upload that second.
#[tokio::test]
async fn an_admitted_body_is_asked_for_promptly() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").nar_bytes(2 * MIB).build();
    assert_eq!(bed.ask(head(&hello.nar)).await.status, 404);
    let request = put(&hello.nar, &hello.nar_bytes).expecting_continue();
    let mut connection = bed.connect().await;
    let began = Instant::now();
    connection.send_head(&request).await;
    assert_eq!(connection.head().await.status, 100);
    let took = began.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
    connection.send(&hello.nar_bytes).await;
    let answer = connection.answer("PUT").await;
    assert_eq!(answer.status, 201);
    assert!(!answer.continued, "told once");
    // And the connection goes on.
    assert!(connection.ask(&get(&hello.nar)).await.is(&hello.nar_bytes));
}

/// A bucket that says nothing must not keep an uploader waiting whose body can be held here.
#[tokio::test]
async fn a_silent_bucket_does_not_hold_up_the_body() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").nar_bytes(2 * MIB).build();
    let silent = bed
        .bucket
        .fault(Rule::on(Operation::HeadObject).plays(Fault::Silence));
    let mut connection = bed.connect().await;
    let request = put(&hello.nar, &hello.nar_bytes).expecting_continue();
    let began = Instant::now();
    connection.send_head(&request).await;
    assert_eq!(connection.head().await.status, 100);
    assert!(began.elapsed() < Duration::from_secs(3));
    connection.send(&hello.nar_bytes).await;
    assert_eq!(connection.answer("PUT").await.status, 201);
    drop(silent);
}

/// What ends too early is nothing, wherever it ends.
#[tokio::test]
async fn a_body_cut_short_leaves_nothing_behind() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").nar_bytes(300 * KIB).build();
    let text = hello.narinfo_text.as_bytes();
    for (key, bytes) in [
        (&hello.nar, hello.nar_bytes.as_slice()),
        (&hello.narinfo, text),
    ] {
        for sent in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            // Hung up on.
            let mut connection = bed.connect().await;
            connection.send_head(&put(key, bytes)).await;
            connection.send(&bytes[..sent]).await;
            drop(connection);
            // Half closed: the answer can still be read.
            let mut connection = bed.connect().await;
            connection.send_head(&put(key, bytes)).await;
            connection.send(&bytes[..sent]).await;
            connection.finish().await;
            if let Some(head) = connection.head_or_end().await {
                assert_eq!(head.status, 400);
            }
        }
        bed.until_metric("narwharf_http_requests_in_flight", 0)
            .await;
        assert_nothing_visible(&bed, key).await;
    }
    assert_eq!(writes(&bed), 0);
}

/// A client that falls silent is told so in good time and loses the connection.
#[tokio::test]
async fn an_idle_body_is_given_up() {
    let bed = TestBed::with(|s| s.set("uploads.body_idle_timeout", "300ms")).await;
    let hello = Package::named("hello").build();
    let text = hello.narinfo_text.as_bytes();
    for (key, bytes) in [
        (&hello.nar, hello.nar_bytes.as_slice()),
        (&hello.narinfo, text),
    ] {
        let mut connection = bed.connect().await;
        connection.send_head(&put(key, bytes)).await;
        connection.send(&bytes[..bytes.len() / 2]).await;
        let began = Instant::now();
        let answer = connection.answer("PUT").await;
        assert_refused(&answer, 400, "nothing was stored");
        assert!(began.elapsed() < Duration::from_secs(3));
        assert!(connection.rest().await.is_empty(), "then the end");
        assert_nothing_visible(&bed, key).await;
    }
}

/// A document may be replaced, as a whole, and everyone sees the new one at once.
#[tokio::test]
async fn a_second_narinfo_replaces_the_first() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    upload(&bed, &hello).await;
    let second = Package::named("hello").line("Deriver", "unknown-deriver");
    let second = second.build();
    let answer = bed.ask(put(&second.narinfo, &second.narinfo_text)).await;
    assert!(matches!(answer.status, 200 | 201));
    let seen = bed.ask(get(&hello.narinfo)).await;
    assert!(seen.is(second.narinfo_text.as_bytes()));
    assert_eq!(
        bed.bucket.object(&hello.narinfo).as_deref(),
        Some(second.narinfo_text.as_bytes())
    );
}

/// The body is here, so a bucket that stumbles is this gateway's business and not the client's.
#[tokio::test]
async fn a_bucket_that_fails_for_a_moment_is_not_seen_by_the_client() {
    for fault in [
        Fault::Status(500, "InternalError"),
        Fault::Status(503, "SlowDown"),
        Fault::Reset,
        Fault::ApplyThenReset,
        Fault::ApplyThenStatus(500, "InternalError"),
    ] {
        let bed = TestBed::start().await;
        let hello = Package::named("hello").build();
        let stumbling = bed
            .bucket
            .fault(Rule::on(Operation::PutObject).times(2).plays(fault.clone()));
        let answer = bed.ask(put(&hello.nar, &hello.nar_bytes)).await;
        assert!(
            matches!(answer.status, 200 | 201),
            "{fault:?}: {}",
            answer.text()
        );
        assert!(stumbling.played() >= 1);
        assert_eq!(bed.bucket.object(&hello.nar), Some(hello.nar_bytes.clone()));
        let answer = bed.ask(put(&hello.narinfo, &hello.narinfo_text)).await;
        assert!(
            matches!(answer.status, 200 | 201),
            "{fault:?}: {}",
            answer.text()
        );
        assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    }
}

/// Who can send the body again is told to come back; who cannot is told to stop.
#[tokio::test]
async fn a_bucket_that_fails_for_good_is_told_as_the_client_can_use_it() {
    let bed = TestBed::with(|s| s.set("uploads.hold", "300ms")).await;
    let hello = Package::named("hello").build();
    let log = format!("log/{}-x.drv", &hello.narinfo[..32]);
    let secret = &bed.bucket.credentials().secret_access_key;
    for fault in [
        Fault::Status(500, "InternalError"),
        Fault::Status(403, "AccessDenied"),
        Fault::Reset,
    ] {
        let broken = bed
            .bucket
            .fault(Rule::on(Operation::PutObject).plays(fault.clone()));
        for (agent, status) in [
            (Some(NEW_NIX), 503),
            (Some(OLD_NIX), 422),
            (None, 422),
            (Some("curl/8.5.0"), 503),
        ] {
            for (key, bytes) in [(&hello.nar, hello.nar_bytes.as_slice()), (&log, b"log")] {
                let mut request = put(key, bytes);
                if let Some(agent) = agent {
                    request = request.header("User-Agent", agent);
                }
                let answer = bed.ask(request).await;
                assert_refused(&answer, status, "bucket");
                assert_eq!(
                    answer.header("retry-after"),
                    (status == 503).then_some("8"),
                    "{fault:?} {agent:?}"
                );
                // What the bucket said in detail is for the operator.
                let text = answer.text();
                assert!(
                    !text.contains("AccessDenied") && !text.contains("127.0.0.1"),
                    "{text}"
                );
                assert!(!text.contains(secret));
            }
        }
        broken.release();
        assert_nothing_visible(&bed, &hello.nar).await;
        bed.clock.advance(Duration::from_secs(31));
    }
}

/// Two uploaders of one path are everyday life; whichever narinfo wins is one of theirs, whole.
#[tokio::test]
async fn parallel_uploads_of_one_path_all_succeed() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    for request in [
        put(&hello.nar, &hello.nar_bytes),
        put(&hello.narinfo, &hello.narinfo_text),
    ] {
        for answer in bed.ask_times(12, request).await {
            assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
        }
    }
    assert_eq!(bed.bucket.object(&hello.nar), Some(hello.nar_bytes.clone()));
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    let seen = bed.ask(get(&hello.narinfo)).await;
    assert!(seen.is(hello.narinfo_text.as_bytes()));
}

/// An empty NAR is odd and still an object.
#[tokio::test]
async fn a_body_of_no_bytes_is_a_body() {
    let bed = TestBed::start().await;
    let empty = Package::named("empty").nar_bytes(0).build();
    assert_eq!(bed.ask(put(&empty.nar, b"")).await.status, 201);
    assert_eq!(bed.bucket.object(&empty.nar), Some(Vec::new()));
    assert!(bed.ask(get(&empty.nar)).await.is(b""));
}
