//! Large NARs: several reads of the bucket at once, one NAR for those who ask.

use std::time::{Duration, Instant};

use crate::bed::r2sim::{Entry, Fault, Rule};
use crate::bed::{Answer, MIB, Package, TestBed, get};

/// Four parts, the last a little shorter than the others.
const LEN: usize = 8 * MIB + 77;

/// Where the first part ends.
const PART: usize = LEN.div_ceil(4);

async fn bed() -> TestBed {
    TestBed::with(|s| {
        s.set("bucket.parallel_above", "2MiB");
        s.set("bucket.idle_timeout", "300ms");
    })
    .await
}

fn ranged(entries: &[Entry]) -> usize {
    entries
        .iter()
        .filter(|entry| entry.asked.range.is_some())
        .count()
}

#[track_caller]
fn assert_cut(answers: &[Answer]) {
    assert!(answers.iter().all(|answer| answer.cut));
}

/// Above the border the parts are read side by side, and put together in order.
#[tokio::test]
async fn a_large_nar_is_read_in_parts_at_once() {
    let bed = bed().await;
    let package = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
    bed.bucket.line().set_bandwidth(Some(8 * MIB as u64));
    let rule = Rule::get(&package.nar).ranged(true);
    let held = bed.bucket.fault(rule.plays(Fault::HoldFirstByte));
    let asked = bed.ask_times(8, get(&package.nar));
    // Three more connections than the one that told the length
    held.until_played(3).await;
    held.release();
    for answer in asked.await {
        assert!(answer.is(&package.nar_bytes));
    }
    assert_eq!(bed.bucket.reads(&package.nar), 4);
    let sent = bed.bucket.log().bytes_out(&package.nar);
    assert!(sent as f64 <= 1.1 * LEN as f64, "{sent} bytes");
    bed.at_rest().await;
    assert!(std::fs::read(bed.blob_path(&package.nar)).expect("a blob") == package.nar_bytes);
}

/// At the border it is one request for the whole, as for everything smaller.
#[tokio::test]
async fn at_the_border_it_is_exactly_one_unranged_get() {
    let bed = bed().await;
    let package = bed.bucket.publish(Package::named("a").nar_bytes(2 * MIB));
    assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
    assert_eq!(bed.bucket.reads(&package.nar), 1);
    assert_eq!(ranged(&bed.bucket.log().entries()), 0);
    let package = bed
        .bucket
        .publish(Package::named("b").nar_bytes(2 * MIB + 1));
    assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
    assert!(ranged(&bed.bucket.log().entries()) > 0);
}

/// Later parts may be there long before: a reader has the bytes in order.
#[tokio::test]
async fn readers_see_the_bytes_in_order() {
    let bed = bed().await;
    let package = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
    // The second part comes late
    let rule = Rule::get(&package.nar).ranged(true);
    let late = bed.bucket.fault(rule.nth(1).plays(Fault::HoldFirstByte));
    let mut client = bed.connect().await;
    client.send_head(&get(&package.nar)).await;
    assert_eq!(client.head().await.status, 200);
    assert!(client.bytes(PART).await == package.nar_bytes[..PART]);
    bed.bucket
        .until(|entries| {
            let sent: u64 = entries.iter().map(|entry| entry.sent).sum();
            sent >= (LEN - PART) as u64
        })
        .await;
    late.release();
    assert!(client.bytes(LEN - PART).await == package.nar_bytes[PART..]);
}

/// Each part is rescued by itself.
#[tokio::test]
async fn a_part_that_breaks_is_taken_up_again() {
    let bed = bed().await;
    for (name, fault) in [
        ("cut", Fault::CutAfter(100_000)),
        ("stalled", Fault::StallAfter(100_000)),
        ("refused", Fault::Status(500, "InternalError")),
    ] {
        let package = bed.bucket.publish(Package::named(name).nar_bytes(LEN));
        let rule = Rule::get(&package.nar).ranged(true);
        let _broken = bed.bucket.fault(rule.times(3).plays(fault));
        assert!(
            bed.ask(get(&package.nar)).await.is(&package.nar_bytes),
            "{name}"
        );
        bed.at_rest().await;
    }
}

/// One wrong byte in any part: the whole is wrong.
#[tokio::test]
async fn the_whole_is_verified_as_one() {
    let bed = bed().await;
    for offset in [0, PART, 3 * PART - 1, LEN - 1] {
        let package = Package::named(&format!("flip-{offset}")).nar_bytes(LEN);
        let package = bed.bucket.publish(package);
        let offset = offset as u64;
        let rule = Rule::get(&package.nar);
        let _wrong = bed.bucket.fault(rule.plays(Fault::Flip { offset }));
        assert_cut(&bed.ask_times(3, get(&package.nar)).await);
        bed.at_rest().await;
    }
    assert_eq!(bed.metric("narwharf_disk_blobs"), 0);
}

/// Parts of two versions are never put together.
#[tokio::test]
async fn an_object_replaced_between_two_parts_is_never_spliced() {
    let bed = bed().await;
    let package = Package::named("a").nar_bytes(LEN).named_as_nix_serve();
    let package = bed.bucket.publish(package);
    let rule = Rule::get(&package.nar);
    // The bucket pauses in the first part, and the others are asked for after the replacement
    let first = rule.clone().ranged(false).times(1);
    let first = bed.bucket.fault(first.plays(Fault::HoldAfter(MIB as u64)));
    let others = bed.bucket.fault(rule.ranged(true).plays(Fault::Reset));
    let asked = bed.ask_times(3, get(&package.nar));
    bed.until_metric("narwharf_fill_readers", 3).await;
    others.until_played(3).await;
    let new = vec![7; LEN];
    bed.bucket
        .put_object(&package.nar, &new, "application/x-nix-nar");
    drop((first, others));
    assert_cut(&asked.await);
    bed.at_rest().await;
    assert_eq!(bed.metric("narwharf_disk_blobs"), 0);
}

/// Where the bucket takes no more requests, the first connection does it all.
#[tokio::test]
async fn without_a_free_slot_the_parts_come_one_by_one() {
    let bed = TestBed::with(|s| {
        s.set("bucket.parallel_above", "2MiB");
        s.set("bucket.max_requests", "2");
    })
    .await;
    let package = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
    bed.bucket.line().set_bandwidth(Some(2 * MIB as u64));
    assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
    assert_eq!(bed.bucket.reads(&package.nar), 4);
}

/// The last part may be with somebody who waits for a slot in vain while the first connection ends.
#[tokio::test]
async fn a_part_that_is_given_back_last_is_fetched_still() {
    let bed = TestBed::with(|s| {
        s.set("bucket.parallel_above", "2MiB");
        // Two of them for NARs
        s.set("bucket.max_requests", "3");
        s.set("bucket.hold", "2s");
    })
    .await;
    let large = bed.bucket.publish(Package::named("large").nar_bytes(LEN));
    let others = ["first", "second", "third"].map(|name| bed.bucket.publish(Package::named(name)));
    let hold = |nar: &str| bed.bucket.hold_first_byte(nar);
    let (held, first, second) = (hold(&large.nar), hold(&others[0].nar), hold(&others[1].nar));
    let asked = bed.ask(get(&large.nar));
    held.until_played(1).await;
    let of_first = bed.ask(get(&others[0].nar));
    first.until_played(1).await;
    let of_second = bed.ask(get(&others[1].nar));
    bed.until_metric("narwharf_fills_in_flight", 3).await;
    held.release();
    // It stood in line before the other parts, and has the slot of the first one
    second.until_played(1).await;
    // Who came after the parts gives up after them
    let _ = bed.ask(get(&others[2].nar)).await;
    drop((first, second));
    assert!(asked.await.is(&large.nar_bytes));
    assert!(of_first.await.is(&others[0].nar_bytes));
    assert!(of_second.await.is(&others[1].nar_bytes));
}

/// What it is for: over a long line, four connections carry nearly four times as much as one.
#[tokio::test]
#[ignore = "a measurement of a minute (make soak)"]
async fn how_much_faster_parts_are_over_a_long_line() {
    const LEN: usize = 1024 * MIB;
    let mut took = Vec::new();
    for parts in ["1", "4"] {
        let bed = TestBed::with(|s| {
            s.set("bucket.parallel_above", "64MiB");
            s.set("bucket.parallel_parts", parts);
            s.set("disk.capacity", "2GiB");
        })
        .await;
        let package = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
        bed.bucket.line().set_round_trip(Duration::from_millis(40));
        bed.bucket.line().set_bandwidth(Some(25_000_000));
        let began = Instant::now();
        assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
        took.push(began.elapsed());
        let sent = bed.bucket.log().bytes_out(&package.nar);
        println!(
            "{parts} connections: {:.1} s, {} requests, {:.3} times its bytes",
            began.elapsed().as_secs_f64(),
            bed.bucket.reads(&package.nar),
            sent as f64 / LEN as f64
        );
    }
    let ratio = took[0].as_secs_f64() / took[1].as_secs_f64();
    println!("40 ms, 25 MB/s a connection, {LEN} bytes: {ratio:.2} times as fast in parts");
}
