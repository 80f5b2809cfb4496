//! Large NARs go to the bucket in parts while they arrive: whatever goes wrong on either side, the
//! client sees either its 201 or a refusal, and the bucket either the whole object or nothing.

use std::time::{Duration, Instant};

use crate::bed::r2sim::{End, Fault, Operation, Rule};
use crate::bed::{Answer, Built, Connection, MIB, Package, TestBed, get, put};

/// The smallest part that S3 takes, so that small NARs have several.
pub const PART: usize = 5 * MIB;

const NEW_NIX: &str = "curl/8.23.0 Nix/2.34.8";
const OLD_NIX: &str = "curl/7.88.1 Nix/2.8.0";

/// Uploads that came to nothing are aborted within this (`reliability.md`, "Uploads").
const ABORTED_WITHIN: Duration = Duration::from_secs(5);

async fn bed() -> TestBed {
    TestBed::with(|s| s.set("uploads.part_size", "5MiB")).await
}

pub fn nar(name: &str, len: usize) -> Built {
    Package::named(name).nar_bytes(len).build()
}

/// The head of its PUT is sent, and so many bytes of its body.
async fn begun(bed: &TestBed, nar: &Built, sent: usize) -> Connection {
    let mut connection = bed.connect().await;
    connection.send_head(&put(&nar.nar, &nar.nar_bytes)).await;
    connection.send(&nar.nar_bytes[..sent]).await;
    connection
}

fn seen(bed: &TestBed, operation: Operation) -> usize {
    bed.bucket.log().requests_of(operation)
}

pub async fn assert_nothing_left(bed: &TestBed, key: &str) {
    let since = Instant::now();
    bed.until("no multipart upload open", || {
        bed.bucket.open_multipart_uploads().is_empty()
    })
    .await;
    assert!(since.elapsed() < ABORTED_WITHIN, "{:?}", since.elapsed());
    assert_eq!(bed.bucket.object(key), None);
    bed.until("no temporary file", || bed.temporary_files().is_empty())
        .await;
    bed.until("no note", || notes(bed) == 0).await;
}

fn notes(bed: &TestBed) -> usize {
    let notes = std::fs::read_dir(bed.disk_path().join("uploads"));
    notes.map_or(0, |notes| notes.count())
}

#[tokio::test]
async fn parts_of_one_length_leave_while_the_body_still_arrives() {
    let bed = bed().await;
    let big = nar("big", 2 * PART + MIB);
    let mut connection = begun(&bed, &big, PART + MIB).await;
    bed.bucket
        .until(|entries| {
            let whole = entries.iter().filter(|entry| entry.end == End::Whole);
            whole
                .clone()
                .any(|entry| entry.asked.operation == Operation::UploadPart)
        })
        .await;
    assert_eq!(bed.bucket.object(&big.nar), None, "nothing to be seen yet");
    assert_eq!(notes(&bed), 1, "should this process die now");
    connection.send(&big.nar_bytes[PART + MIB..]).await;
    assert_eq!(connection.answer("PUT").await.status, 201);
    assert_eq!(bed.bucket.object(&big.nar).unwrap(), big.nar_bytes);
    let entries = bed.bucket.log().entries();
    let parts = entries
        .iter()
        .filter(|entry| entry.asked.operation == Operation::UploadPart);
    let mut lengths: Vec<u64> = parts.map(|part| part.received).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [MIB as u64, PART as u64, PART as u64]);
    bed.until("no note", || notes(&bed) == 0).await;
    bed.bucket.log().reset();
    assert!(bed.ask(get(&big.nar)).await.is(&big.nar_bytes));
    assert_eq!(bed.bucket.reads(&big.nar), 0, "read from the disk");
}

#[tokio::test]
async fn up_to_one_part_it_is_one_request() {
    let bed = bed().await;
    let small = nar("small", PART);
    assert_eq!(bed.ask(put(&small.nar, &small.nar_bytes)).await.status, 201);
    assert_eq!(seen(&bed, Operation::PutObject), 1);
    assert_eq!(seen(&bed, Operation::CreateMultipartUpload), 0);
}

/// One in five of all part uploads and completions fails, and for certain each NAR's second part and
/// its first beginning, each NAR with a kind of fault of its own.
#[tokio::test]
async fn a_bucket_in_trouble_is_not_noticed_by_the_client() {
    let bed = TestBed::with(|s| {
        s.set("uploads.part_size", "5MiB");
        s.set("bucket.idle_timeout", "400ms");
        s.set("bucket.first_byte_timeout", "900ms");
    })
    .await;
    let faults = [
        Fault::Status(500, "InternalError"),
        Fault::Status(503, "ServiceUnavailable"),
        Fault::Reset,
        Fault::Silence,
        Fault::OkWithErrorBody("InternalError"),
        Fault::ApplyThenReset,
        Fault::ApplyThenStatus(500, "InternalError"),
    ];
    let mut under_way = Vec::new();
    for (at, fault) in faults.into_iter().enumerate() {
        let big = nar(&format!("big-{at}"), PART + MIB);
        let second = Rule::on(Operation::UploadPart).nth(2);
        let [parts, ends] = [Operation::UploadPart, Operation::CompleteMultipartUpload]
            .map(|operation| Rule::on(operation).chance(0.2, at as u64));
        let begin = Rule::on(Operation::CreateMultipartUpload).nth(1);
        let troubles = [second, parts, ends, begin]
            .map(|rule| bed.bucket.fault(rule.key(&big.nar).plays(fault.clone())));
        let asking = bed.ask(put(&big.nar, &big.nar_bytes).header("User-Agent", NEW_NIX));
        under_way.push((big, fault, troubles, asking));
    }
    for (big, fault, troubles, asking) in under_way {
        let answer = asking.await;
        assert_eq!(answer.status, 201, "{fault:?}: {}", answer.text());
        assert_eq!(bed.bucket.object(&big.nar).unwrap(), big.nar_bytes);
        assert!(troubles[0].played() > 0, "{fault:?}");
    }
    bed.until("no multipart upload open", || {
        bed.bucket.open_multipart_uploads().is_empty()
    })
    .await;
}

/// The parts wait in the spooled file for as long as the body takes, and for `uploads.hold` after.
#[tokio::test]
async fn a_bucket_that_comes_back_in_time_gets_what_it_missed() {
    let bed = TestBed::with(|s| {
        s.set("uploads.part_size", "5MiB");
        s.set("uploads.hold", "10s");
    })
    .await;
    let big = nar("big", 2 * PART + MIB);
    let down = bed
        .bucket
        .fault(Rule::any().plays(Fault::Status(503, "ServiceUnavailable")));
    let asking = bed.ask(put(&big.nar, &big.nar_bytes));
    bed.until_metric("narwharf_upload_bytes_total", big.nar_bytes.len() as u64)
        .await;
    down.until_played(3).await;
    down.release();
    assert_eq!(asking.await.status, 201);
    assert_eq!(bed.bucket.object(&big.nar).unwrap(), big.nar_bytes);
}

#[tokio::test]
async fn a_bucket_that_stays_away_is_told_so_that_the_client_can_use_it() {
    for (agent, status) in [(NEW_NIX, 503), (OLD_NIX, 422)] {
        let bed = TestBed::with(|s| {
            s.set("uploads.part_size", "5MiB");
            s.set("uploads.hold", "300ms");
        })
        .await;
        let big = nar("big", PART + MIB);
        let sick = Rule::on(Operation::CompleteMultipartUpload);
        let _sick = bed
            .bucket
            .fault(sick.plays(Fault::Status(500, "InternalError")));
        let request = put(&big.nar, &big.nar_bytes).header("User-Agent", agent);
        let answer = bed.ask(request).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_nothing_left(&bed, &big.nar).await;
    }
}

/// Waiting for the rest of the body would only cost its sender time.
#[tokio::test]
async fn a_refusal_of_the_bucket_is_told_before_the_body_ends() {
    let bed = bed().await;
    let big = nar("big", 3 * PART);
    let refused = Rule::on(Operation::UploadPart);
    let _refused = bed
        .bucket
        .fault(refused.plays(Fault::Status(403, "AccessDenied")));
    let mut connection = begun(&bed, &big, PART + MIB).await;
    let answer = connection.answer("PUT").await;
    assert_eq!(answer.status, 422, "an unknown client cannot come back");
    assert_nothing_left(&bed, &big.nar).await;
}

#[tokio::test]
async fn a_body_that_breaks_off_anywhere_leaves_nothing() {
    let bed = bed().await;
    let big = nar("big", 2 * PART + MIB);
    let len = big.nar_bytes.len();
    let mut begun_before = 0;
    for sent in [
        0,
        1,
        PART - 1,
        PART,
        PART + 1,
        2 * PART,
        2 * PART + 77,
        len - 1,
    ] {
        let connection = begun(&bed, &big, sent).await;
        if sent >= PART {
            bed.until("the upload is begun", || {
                seen(&bed, Operation::CreateMultipartUpload) > begun_before
            })
            .await;
            begun_before += 1;
        }
        drop(connection);
        assert_nothing_left(&bed, &big.nar).await;
    }
    assert_eq!(seen(&bed, Operation::CompleteMultipartUpload), 0);
    let outcomes = ["failed", "refused", "created"];
    for outcome in outcomes {
        let series = format!("narwharf_uploads_total{{kind=\"nar\",outcome=\"{outcome}\"}}");
        assert_eq!(bed.metric(&series), 0, "{outcome}");
    }
    assert_eq!(bed.ask(get(&big.nar)).await.status, 404);
}

#[tokio::test]
async fn bytes_that_are_not_the_names_are_never_completed() {
    let bed = bed().await;
    let big = nar("big", 2 * PART + MIB);
    let mut wrong = big.nar_bytes.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let answer = bed.ask(put(&big.nar, &wrong)).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(seen(&bed, Operation::CompleteMultipartUpload), 0);
    assert_nothing_left(&bed, &big.nar).await;
}

/// The bucket's line is not the client's: parts wait in the file, not at the bucket's door.
#[tokio::test]
async fn at_most_four_parts_are_sent_at_once() {
    let bed = bed().await;
    let big = nar("big", 6 * PART);
    let held = bed
        .bucket
        .fault(Rule::on(Operation::UploadPart).plays(Fault::HoldFirstByte));
    let asking = bed.ask(put(&big.nar, &big.nar_bytes));
    held.until_played(4).await;
    bed.until_metric("narwharf_upload_bytes_total", big.nar_bytes.len() as u64)
        .await;
    assert_eq!(held.played(), 4);
    held.release();
    assert_eq!(asking.await.status, 201);
    assert_eq!(bed.bucket.object(&big.nar).unwrap(), big.nar_bytes);
}

/// The disk tier is a cache: what it has no room for can be pushed all the same.
#[tokio::test]
async fn without_room_on_disk_an_upload_goes_through_memory() {
    let bed = TestBed::with(|s| {
        s.set("uploads.part_size", "5MiB");
        s.set("disk.max_nar", "100KiB");
    })
    .await;
    let assert_taken = |answer: &Answer| assert_eq!(answer.status, 201, "{}", answer.text());
    for len in [MIB, 3 * PART, 3 * PART + 77] {
        let nar = nar(&format!("of-{len}"), len);
        let mut wrong = nar.nar_bytes.clone();
        wrong[len / 2] ^= 1;
        assert_eq!(bed.ask(put(&nar.nar, &wrong)).await.status, 400);
        assert_nothing_left(&bed, &nar.nar).await;
        drop(begun(&bed, &nar, len - 1).await);
        assert_nothing_left(&bed, &nar.nar).await;
        let hiccup = Rule::on(Operation::UploadPart).nth(2);
        let _hiccup = bed.bucket.fault(hiccup.plays(Fault::Reset));
        assert_taken(&bed.ask(put(&nar.nar, &nar.nar_bytes)).await);
        assert_eq!(bed.bucket.object(&nar.nar).unwrap(), nar.nar_bytes);
        assert!(bed.ask(get(&nar.nar)).await.is(&nar.nar_bytes));
    }
}

/// A name that is no hash is never written over, not by a completion either.
#[tokio::test]
async fn a_large_nar_under_a_taken_name_is_compared() {
    let bed = bed().await;
    let first = Package::named("first")
        .nar_bytes(PART + MIB)
        .nar_key("nar/x.nar")
        .build();
    let other = Package::named("other")
        .nar_bytes(PART + MIB)
        .nar_key("nar/x.nar")
        .build();
    assert_eq!(bed.ask(put(&first.nar, &first.nar_bytes)).await.status, 201);
    assert_eq!(bed.ask(put(&first.nar, &first.nar_bytes)).await.status, 200);
    let answer = bed.ask(put(&other.nar, &other.nar_bytes)).await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert_eq!(bed.bucket.object("nar/x.nar").unwrap(), first.nar_bytes);
    assert!(bed.bucket.open_multipart_uploads().is_empty());
}

/// What a process leaves in the bucket when it ends in the midst of an upload.
#[tokio::test]
async fn the_next_start_aborts_what_the_last_process_had_begun() {
    let mut bed = TestBed::with(|s| {
        s.set("uploads.part_size", "5MiB");
        s.set("server.drain", "1s");
    })
    .await;
    let big = nar("big", 2 * PART);
    let lost = Rule::on(Operation::AbortMultipartUpload);
    let lost = bed.bucket.fault(lost.plays(Fault::Silence));
    let connection = begun(&bed, &big, PART + MIB).await;
    bed.until("a part is sent", || seen(&bed, Operation::UploadPart) > 0)
        .await;
    bed.restart().await;
    drop(connection);
    lost.release();
    assert_nothing_left(&bed, &big.nar).await;
    assert_eq!(bed.ask(put(&big.nar, &big.nar_bytes)).await.status, 201);
}
