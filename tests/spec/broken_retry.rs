//! A Nix before 2.33.2 cannot send a body twice. Its retry, replayed here byte for byte as it was
//! observed, ends within seconds, and ends well where the first attempt had arrived.

use std::time::{Duration, Instant};

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{Answer, Built, MIB, Package, Request, TestBed, head, put};

const OLD_NIX: &str = "curl/7.88.1 Nix/2.8.0";

/// From the 100 to the answer.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// The smallest part that S3 takes.
const PART: usize = 5 * MIB;

/// One that goes to the bucket in one request, and one that goes in parts.
const LENGTHS: [usize; 2] = [2 * MIB, 2 * PART + MIB];

async fn bed() -> TestBed {
    TestBed::with(|s| s.set("uploads.part_size", "5MiB")).await
}

fn nar(len: usize) -> Built {
    Package::named("hello").nar_bytes(len).build()
}

/// Neither in the bucket nor on the disk.
async fn assert_nothing_left(bed: &TestBed, nar: &Built) {
    assert_eq!(bed.bucket.object(&nar.nar), None);
    bed.until("no upload in parts is open", || {
        bed.bucket.open_multipart_uploads().is_empty()
    })
    .await;
    bed.at_rest().await;
    assert_eq!(bed.metric("narwharf_disk_blobs"), 0);
    assert!(!bed.blob_path(&nar.nar).exists());
    let notes = std::fs::read_dir(bed.disk_path().join("uploads"));
    assert_eq!(notes.map_or(0, |notes| notes.count()), 0);
}

fn retry(nar: &Built) -> Request {
    put(&nar.nar, &nar.nar_bytes)
        .expecting_continue()
        .header("User-Agent", OLD_NIX)
}

/// Announces the whole, sends `sent` once it is asked for, and then waits.
async fn replayed(bed: &TestBed, request: &Request, sent: &[u8]) -> Answer {
    let mut connection = bed.connect().await;
    connection.send_head(request).await;
    let head = connection.head().await;
    if head.status != 100 {
        return connection.answer_after(head, "PUT").await;
    }
    let began = Instant::now();
    connection.send(sent).await;
    let answer = connection.answer("PUT").await;
    assert!(began.elapsed() < ENDED_WITHIN, "{:?}", began.elapsed());
    assert_eq!(connection.rest().await, b"", "the connection is closed");
    answer
}

#[tokio::test]
async fn a_retry_without_a_body_or_with_its_tail_is_ended() {
    for len in LENGTHS {
        let (bed, hello) = (bed().await, nar(len));
        let tail = &hello.nar_bytes[MIB + 77..];
        for (request, sent) in [
            (retry(&hello), &[][..]),
            (retry(&hello), tail),
            (retry(&hello).without("User-Agent"), tail),
        ] {
            let answer = replayed(&bed, &request, sent).await;
            // Anything that says "come back" would only be followed by the same again.
            assert_eq!(answer.status, 400, "{}", answer.text());
            assert!(answer.text().contains("nothing was stored"));
            assert_nothing_left(&bed, &hello).await;
        }
    }
}

/// As curl 8.14 does: it notices itself that it has nothing to send, and hangs up.
#[tokio::test]
async fn a_retry_that_hangs_up_leaves_nothing() {
    for len in LENGTHS {
        let (bed, hello) = (bed().await, nar(len));
        for sent in [0, MIB, len - MIB] {
            let mut connection = bed.connect().await;
            connection.send_head(&retry(&hello)).await;
            assert_eq!(connection.head().await.status, 100);
            connection.send(&hello.nar_bytes[..sent]).await;
            connection.finish().await;
            drop(connection.rest().await);
            assert_nothing_left(&bed, &hello).await;
        }
    }
}

#[tokio::test]
async fn a_retry_of_what_had_arrived_succeeds_at_once() {
    for len in LENGTHS {
        let (bed, hello) = (bed().await, nar(len));
        assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
        let answer = replayed(&bed, &retry(&hello), &[]).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.continued);
    }
}

/// Where the bucket was too slow to say so before the body was asked for.
#[tokio::test]
async fn a_retry_of_what_had_arrived_succeeds_after_a_silence_too() {
    for len in LENGTHS {
        let bed = bed().await;
        let hello = Package::named("hello").nar_bytes(len);
        let hello = bed.bucket.publish(hello);
        let slow = Rule::on(Operation::HeadObject).nth(1);
        let slow = bed.bucket.fault(slow.plays(Fault::HoldFirstByte));
        let answer = replayed(&bed, &retry(&hello), &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(slow.played(), 1);
    }
}

/// Where another gateway took it after this one had heard that it is absent.
#[tokio::test]
async fn a_retry_of_what_arrived_elsewhere_succeeds_though_it_was_known_as_absent() {
    let bed = bed().await;
    let hello = Package::named("hello").nar_bytes(2 * MIB);
    assert_eq!(bed.ask(head(&hello.clone().build().nar)).await.status, 404);
    let hello = bed.bucket.publish(hello);
    let answer = replayed(&bed, &retry(&hello), &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
