//! Bodies cut at random offsets, several at once: nothing becomes visible, what was begun in the
//! bucket is aborted within seconds, and everything that was taken is given back.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{Built, Dice, MIB, Package, Settings, TestBed, get, put};

use super::upload::writes;

/// The smallest part that S3 takes.
const PART: usize = 5 * MIB;

/// Cut at the same moment.
const AT_ONCE: usize = 10;

/// From the cut to an empty bucket and an empty disk (`reliability.md`, "Uploads").
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// How much of what is asked of a bucket in trouble fails, for each kind of trouble.
const TROUBLE: f64 = 0.2;

const CUT: &str = "narwharf_uploads_total{kind=\"nar\",outcome=\"cut\"}";

/// Its body is asked for, sent up to the offset, and then the client is gone.
async fn cut(bed: &TestBed, key: &str, nar: &Built, offset: usize) {
    let mut connection = bed.connect().await;
    let request = put(key, &nar.nar_bytes).expecting_continue();
    connection.send_head(&request).await;
    assert_eq!(connection.head().await.status, 100);
    connection.send(&nar.nar_bytes[..offset]).await;
}

fn is_empty(bed: &TestBed) -> bool {
    let noted = std::fs::read_dir(bed.disk_path().join("uploads"));
    bed.bucket.open_multipart_uploads().is_empty()
        && bed.temporary_files().is_empty()
        && noted.map_or(0, |notes| notes.count()) == 0
        && bed.metric("narwharf_disk_reserved_bytes") == 0
        && bed.metric("narwharf_http_requests_in_flight") == 0
}

/// Each under a key of its own, since uploads of one key wait for each other.
async fn cuts(times: usize, adjust: impl FnOnce(&mut Settings), troubles: &[(Operation, Fault)]) {
    let bed = TestBed::with(|s| {
        s.set("cache.namespaces", "*");
        s.set("uploads.part_size", "5MiB");
        adjust(s);
    })
    .await;
    let big = Package::named("big").nar_bytes(2 * PART + MIB).build();
    let (mut dice, mut longest) = (Dice::new(), Duration::ZERO);
    println!("{dice}");
    let played: Vec<_> = troubles
        .iter()
        .map(|(operation, fault)| {
            let seed = dice.below(1 << 30) as u64;
            let rule = Rule::on(*operation).chance(TROUBLE, seed);
            bed.bucket.fault(rule.plays(fault.clone()))
        })
        .collect();
    for wave in 0..times / AT_ONCE {
        let keys: Vec<String> = (0..AT_ONCE)
            .map(|at| format!("ns{wave}-{at}/{}", big.nar))
            .collect();
        let offsets: Vec<usize> = keys
            .iter()
            .map(|_| dice.below(big.nar_bytes.len()))
            .collect();
        join_all(
            keys.iter()
                .zip(&offsets)
                .map(|(key, at)| cut(&bed, key, &big, *at)),
        )
        .await;
        let since = Instant::now();
        bed.until("all are cut, and nothing is left", || {
            bed.metric(CUT) == ((wave + 1) * AT_ONCE) as u64 && is_empty(&bed)
        })
        .await;
        longest = longest.max(since.elapsed());
        assert!(longest < ENDED_WITHIN, "{longest:?} after {offsets:?}");
        assert_eq!(bed.ask(get(&keys[0])).await.status, 404);
    }
    let begun = bed
        .bucket
        .log()
        .requests_of(Operation::CreateMultipartUpload);
    // How many of those that were cut late had come so far is a matter of the machine.
    assert!(begun > 0, "no upload had parts");
    let completed = Operation::CompleteMultipartUpload;
    assert_eq!(bed.bucket.log().requests_of(completed) + writes(&bed), 0);
    assert_eq!(bed.bucket.keys(), Vec::<String>::new());
    assert_eq!(bed.metric("narwharf_disk_blobs"), 0);
    let played: Vec<u64> = played.iter().map(|trouble| trouble.played()).collect();
    assert!(troubles.is_empty() || played.iter().any(|times| *times > 0));
    println!("troubles met: {played:?}");
    println!(
        "{times} cuts, {begun} of them with parts in the bucket; the slowest was over after {longest:?}"
    );
}

#[tokio::test]
async fn bodies_cut_anywhere_leave_nothing_in_the_bucket_or_on_disk() {
    cuts(50, |_| {}, &[]).await;
}

#[tokio::test]
async fn bodies_cut_anywhere_on_their_way_through_memory_leave_nothing() {
    cuts(50, |s| s.set("disk.max_nar", "100KiB"), &[]).await;
}

/// A part whose upload is being tried again when its client goes, a beginning, an abort.
fn troubles() -> Vec<(Operation, Fault)> {
    vec![
        (
            Operation::CreateMultipartUpload,
            Fault::Status(503, "ServiceUnavailable"),
        ),
        (Operation::UploadPart, Fault::Status(500, "InternalError")),
        (Operation::UploadPart, Fault::Reset),
        (Operation::UploadPart, Fault::ApplyThenReset),
        (
            Operation::AbortMultipartUpload,
            Fault::Status(500, "InternalError"),
        ),
    ]
}

#[tokio::test]
async fn bodies_cut_anywhere_while_the_bucket_is_in_trouble_leave_nothing() {
    cuts(50, |_| {}, &troubles()).await;
}

#[tokio::test]
async fn bodies_cut_on_their_way_through_memory_while_the_bucket_is_in_trouble_leave_nothing() {
    cuts(50, |s| s.set("disk.max_nar", "100KiB"), &troubles()).await;
}

#[ignore = "sends 6 GiB"]
#[tokio::test]
async fn a_thousand_bodies_cut_anywhere_while_the_bucket_is_in_trouble_leave_nothing() {
    cuts(1000, |_| {}, &troubles()).await;
}

#[ignore = "sends 6 GiB"]
#[tokio::test]
async fn a_thousand_bodies_cut_anywhere_leave_nothing() {
    cuts(1000, |_| {}, &[]).await;
}
