//! What the bucket is forgiven once an upload's body is in: reads that the upload needs are tried
//! as long as its writes (`uploads.hold`), and a bucket that is slow has not failed.

use std::time::Duration;

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{MIB, Package, TestBed, put};

const PART: usize = 5 * MIB;

/// More tries than `bucket.hold` of the bed (300 ms) has room for: pauses double from 100 ms.
const FAILURES: u64 = 5;

fn failing(operation: Operation, key: &str) -> Rule {
    let failing = Rule::on(operation).key(key).times(FAILURES);
    failing.plays(Fault::Status(503, "ServiceUnavailable"))
}

#[tokio::test]
async fn a_narinfo_waits_for_the_buckets_word_on_its_nar() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    bed.bucket
        .put_object(&hello.nar, &hello.nar_bytes, "application/x-nix-nar");
    let failing = bed.bucket.fault(failing(Operation::HeadObject, &hello.nar));
    let answer = bed.ask(put(&hello.narinfo, &hello.narinfo_text)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(failing.played(), FAILURES);
}

#[tokio::test]
async fn a_narinfo_waits_for_the_signatures_it_is_merged_with() {
    let bed = TestBed::with(|s| s.set("uploads.merge_signatures", "true")).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let failing = bed
        .bucket
        .fault(failing(Operation::GetObject, &hello.narinfo));
    let answer = bed.ask(put(&hello.narinfo, &hello.narinfo_text)).await;
    assert!(
        matches!(answer.status, 200 | 201),
        "{}: {}",
        answer.status,
        answer.text()
    );
    assert_eq!(failing.played(), FAILURES);
}

#[tokio::test]
async fn a_nar_waits_for_what_it_is_compared_with() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello")
        .nar_bytes(2 * MIB)
        .nar_key("nar/hello.nar");
    let hello = bed.bucket.publish(hello);
    let failing = bed.bucket.fault(failing(Operation::GetObject, &hello.nar));
    // And the body breaks off half-way, too.
    let broken = Rule::get(&hello.nar).times(1);
    let broken = bed.bucket.fault(broken.plays(Fault::CutAfter(MIB as u64)));
    let answer = bed.ask(put(&hello.nar, &hello.nar_bytes)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((failing.played(), broken.played()), (FAILURES, 1));
}

/// The body of a large NAR is in long before a slow bucket has its parts; a hiccup after that is
/// still only a hiccup.
#[tokio::test]
async fn a_hiccup_after_a_long_way_into_the_bucket_is_forgiven() {
    let bed = TestBed::with(|s| s.set("uploads.part_size", "5MiB")).await;
    let big = Package::named("big").nar_bytes(3 * PART).build();
    let slow = Rule::on(Operation::UploadPart).plays(Fault::HoldFirstByte);
    let slow = bed.bucket.fault(slow);
    let hiccup = Rule::on(Operation::CompleteMultipartUpload).nth(1);
    let hiccup = bed
        .bucket
        .fault(hiccup.plays(Fault::Status(503, "ServiceUnavailable")));
    let mut connection = bed.connect().await;
    connection.send_head(&put(&big.nar, &big.nar_bytes)).await;
    connection.send(&big.nar_bytes).await;
    bed.until_metric("narwharf_upload_bytes_total", big.nar_bytes.len() as u64)
        .await;
    slow.until_played(3).await;
    bed.clock.advance(Duration::from_secs(600));
    slow.release();
    let answer = connection.answer("PUT").await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(hiccup.played(), 1);
}
