//! NARs that the disk has no room for go to the bucket through memory: a few parts of each at once,
//! however fast the client is, and for no longer than bucket and client both go on.

use std::time::{Duration, Instant};

use crate::bed::r2sim::{Entry, Fault, Operation, Rule};
use crate::bed::{Built, MIB, Package, Settings, TestBed, put};

/// The smallest part that S3 takes.
const PART: usize = 5 * MIB;

/// Parts of one NAR in memory: two being sent, one that waits, one that is being filled.
const IN_MEMORY: usize = 4;

/// Where bytes are beside the parts: in the lines of chunks on their way to them.
const ON_THE_WAY: usize = MIB;

/// From a client's end to the end of its upload (`reliability.md`, "Uploads").
const ENDED_WITHIN: Duration = Duration::from_secs(5);

const NEW_NIX: &str = "curl/8.23.0 Nix/2.34.8";

/// A gateway whose disk takes no NAR.
async fn bed(adjust: impl FnOnce(&mut Settings)) -> TestBed {
    TestBed::with(|s| {
        s.set("uploads.part_size", "5MiB");
        s.set("disk.max_nar", "100KiB");
        adjust(s);
    })
    .await
}

fn nar(parts: usize) -> Built {
    Package::named("big").nar_bytes(parts * PART).build()
}

fn failing(operation: Operation) -> Rule {
    Rule::on(operation).plays(Fault::Status(503, "ServiceUnavailable"))
}

/// More than fits into memory waits for a bucket that does nothing but fail: not for ever, or a few
/// such uploads would take all the memory there is for bodies.
#[tokio::test]
async fn a_bucket_that_only_fails_ends_an_upload_whose_body_has_to_wait_for_it() {
    let bed = bed(|s| s.set("uploads.hold", "500ms")).await;
    let big = nar(IN_MEMORY + 2);
    for operation in [Operation::UploadPart, Operation::CreateMultipartUpload] {
        let failing = bed.bucket.fault(failing(operation));
        let request = put(&big.nar, &big.nar_bytes).header("User-Agent", NEW_NIX);
        let answer = bed.ask(request.clone()).await;
        assert_eq!(answer.status, 503, "{operation:?}: {}", answer.text());
        assert_eq!(bed.bucket.object(&big.nar), None);
        failing.release();
    }
    assert_eq!(bed.ask(put(&big.nar, &big.nar_bytes)).await.status, 201);
    assert_eq!(bed.bucket.object(&big.nar).unwrap(), big.nar_bytes);
}

/// It would be slept through, with all that the upload holds, whatever became of body and client.
#[tokio::test]
async fn a_bucket_that_wants_to_be_left_alone_for_an_hour_is_asked_again_within_the_hold() {
    let big = nar(2);
    for seconds in ["3600", "18446744073709551615"] {
        let bed = bed(|s| s.set("uploads.hold", "1s")).await;
        let throttled = Rule::on(Operation::UploadPart)
            .times(1)
            .plays(Fault::Status(429, "TooManyRequests"))
            .plays(Fault::Header("retry-after", seconds));
        let _throttled = bed.bucket.fault(throttled);
        let mut connection = bed.connect().await;
        connection.send_head(&put(&big.nar, &big.nar_bytes)).await;
        connection.send(&big.nar_bytes[..PART + 10_000]).await;
        bed.bucket
            .until(|entries| {
                let is_taken = |entry: &Entry| entry.received > 0 && entry.status == Some(200);
                entries.iter().any(is_taken)
            })
            .await;
        connection.send(&big.nar_bytes[PART + 10_000..]).await;
        assert_eq!(connection.answer("PUT").await.status, 201, "{seconds}");
    }
}

#[tokio::test]
async fn a_client_that_goes_while_its_body_waits_for_the_bucket_ends_its_upload() {
    let bed = bed(|s| s.set("uploads.hold", "10m")).await;
    let big = nar(IN_MEMORY + 2);
    let _failing = bed.bucket.fault(failing(Operation::UploadPart));
    let mut connection = bed.connect().await;
    connection
        .send_head(&put(&big.nar, &big.nar_bytes).header("User-Agent", NEW_NIX))
        .await;
    connection
        .send(&big.nar_bytes[..IN_MEMORY * PART + 10_000])
        .await;
    bed.until("all its memory is taken", || {
        bed.metric("narwharf_upload_bytes_total") >= (IN_MEMORY * PART) as u64
    })
    .await;
    drop(connection);
    let since = Instant::now();
    bed.until_metric("narwharf_uploads_total{kind=\"nar\",outcome=\"cut\"}", 1)
        .await;
    assert!(since.elapsed() < ENDED_WITHIN, "{:?}", since.elapsed());
}

/// The bucket's pace is the client's, too.
#[tokio::test]
async fn what_waits_in_memory_is_a_few_parts_however_fast_the_client_is() {
    let bed = bed(|_| {}).await;
    let big = nar(12);
    let slow = Fault::DelayFirstByte(Duration::from_millis(30));
    let _slow = bed
        .bucket
        .fault(Rule::on(Operation::UploadPart).plays(slow));
    let asking = bed.ask(put(&big.nar, &big.nar_bytes));
    bed.until("the last part is sent", || {
        let came = bed.metric("narwharf_upload_bytes_total") as usize;
        let sent = bed.metric("narwharf_origin_bytes_total{direction=\"out\",origin=\"bucket\"}");
        let waits = came - (sent as usize).min(came);
        assert!(waits <= IN_MEMORY * PART + ON_THE_WAY, "{waits} bytes");
        sent as usize == big.nar_bytes.len()
    })
    .await;
    assert_eq!(asking.await.status, 201);
    assert_eq!(bed.bucket.object(&big.nar).unwrap(), big.nar_bytes);
}
