//! Passes: NARs that cannot be kept go by once for all who come in time.

use std::time::Duration;

use crate::bed::r2sim::{Fault, Rule};
use crate::bed::{Built, MIB, Package, TestBed, get};

/// More than a pass keeps in memory, and more than sockets take unread.
const LEN: usize = 32 * MIB + 99;

const READERS: &str = "narwharf_fill_readers";
const ABANDONED: &str = "narwharf_fills_total{outcome=\"abandoned\"}";

async fn bed() -> TestBed {
    TestBed::with(|s| s.set("disk.max_nar", "1MiB")).await
}

fn giant(bed: &TestBed) -> Built {
    bed.bucket.publish(Package::named("giant").nar_bytes(LEN))
}

/// Whoever asks while the first byte is at hand joins.
#[tokio::test]
async fn those_who_come_in_time_cost_one_read() {
    let bed = bed().await;
    // What fits into the window, so that nobody can be left behind on a busy machine.
    let giant = bed
        .bucket
        .publish(Package::named("giant").nar_bytes(3 * MIB));
    let rule = Rule::get(&giant.nar).plays(Fault::HoldAfter(MIB as u64));
    let held = bed.bucket.fault(rule);
    let asked = bed.ask_times(20, get(&giant.nar));
    bed.until_metric(READERS, 20).await;
    held.release();
    for answer in asked.await {
        assert!(answer.is(&giant.nar_bytes));
        assert_eq!(answer.header("cache-status"), Some("narwharf; fwd=bypass"));
    }
    assert_eq!(bed.bucket.reads(&giant.nar), 1);
    assert_eq!(bed.bucket.log().bytes_out(&giant.nar), 3 * MIB as u64);
    bed.at_rest().await;
    assert_eq!(bed.metric("narwharf_disk_blobs"), 0);
}

/// Whoever comes when the beginning is gone has another read, which others may join.
#[tokio::test]
async fn latecomers_share_another_read() {
    let bed = bed().await;
    let giant = giant(&bed);
    let mut first = bed.connect().await;
    first.send_head(&get(&giant.nar)).await;
    assert_eq!(first.head().await.status, 200);
    assert!(first.bytes(LEN / 2).await == giant.nar_bytes[..LEN / 2]);
    let rule = Rule::get(&giant.nar).plays(Fault::HoldAfter(MIB as u64));
    let held = bed.bucket.fault(rule);
    let late = bed.ask_times(5, get(&giant.nar));
    bed.until_metric(READERS, 6).await;
    held.until_played(1).await;
    assert_eq!(bed.bucket.reads(&giant.nar), 2);
    held.release();
    for answer in late.await {
        assert!(answer.is(&giant.nar_bytes));
    }
    assert!(first.bytes(LEN - LEN / 2).await == giant.nar_bytes[LEN / 2..]);
}

/// One that takes nothing is left behind, and reads on for itself.
#[tokio::test]
async fn a_slow_client_holds_up_nobody_and_gets_every_byte() {
    let bed = bed().await;
    let giant = giant(&bed);
    let rule = Rule::get(&giant.nar).plays(Fault::HoldAfter(MIB as u64));
    let held = bed.bucket.fault(rule);
    let mut slow = bed.connect().await;
    slow.send_head(&get(&giant.nar)).await;
    let fast = bed.ask(get(&giant.nar));
    bed.until_metric(READERS, 2).await;
    held.release();
    assert!(fast.await.is(&giant.nar_bytes));
    assert_eq!(slow.head().await.status, 200);
    assert!(slow.bytes(LEN).await == giant.nar_bytes);
    assert_eq!(bed.bucket.reads(&giant.nar), 2);
    let sent = bed.bucket.log().bytes_out(&giant.nar);
    assert!(
        sent < 2 * LEN as u64,
        "{sent} bytes: the slow one began anew"
    );
}

/// What is wrong is wrong for all: those who read together, and the one left behind.
#[tokio::test]
async fn wrong_bytes_are_cut_for_everyone() {
    let bed = bed().await;
    for offset in [0, LEN as u64 - 1] {
        let name = format!("wrong-{offset}");
        let giant = bed.bucket.publish(Package::named(&name).nar_bytes(LEN));
        let wrong = bed
            .bucket
            .fault(Rule::get(&giant.nar).plays(Fault::Flip { offset }));
        let mut slow = bed.connect().await;
        slow.send_head(&get(&giant.nar)).await;
        assert_eq!(slow.head().await.status, 200);
        let answers = bed.ask_times(3, get(&giant.nar)).await;
        assert!(answers.iter().all(|answer| answer.cut), "{name}");
        assert!(slow.rest().await.len() < LEN, "{name}");
        drop(wrong);
        bed.clock.advance(Duration::from_secs(61));
        assert!(
            bed.ask(get(&giant.nar)).await.is(&giant.nar_bytes),
            "{name}"
        );
    }
}

/// The last client leaves: the bucket is left alone, whatever is set for fills that are kept.
#[tokio::test]
async fn a_pass_that_nobody_wants_ends() {
    let bed = TestBed::with(|s| {
        s.set("disk.max_nar", "1MiB");
        s.set("disk.abandoned_fills", "always");
    })
    .await;
    let giant = giant(&bed);
    let mut client = bed.connect().await;
    client.send_head(&get(&giant.nar)).await;
    assert_eq!(client.head().await.status, 200);
    drop(client);
    bed.until_metric(ABANDONED, 1).await;
    bed.at_rest().await;
    assert!(bed.bucket.log().bytes_out(&giant.nar) < LEN as u64);
}
