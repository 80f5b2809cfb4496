//! Bounds: what is given up when nobody wants it, and what waits its turn.

use futures_util::future::join_all;

use crate::bed::{MIB, Package, TestBed, get};

const LEN: usize = 4 * MIB;
const ABANDONED: &str = "narwharf_fills_total{outcome=\"abandoned\"}";
const STORED: &str = "narwharf_fills_total{outcome=\"stored\"}";

async fn bed(abandoned_fills: &str) -> TestBed {
    TestBed::with(|s| s.set("disk.abandoned_fills", abandoned_fills)).await
}

/// The only client leaves: the fill ends, and its space is free again.
#[tokio::test]
async fn a_fill_that_nobody_wants_is_given_up() {
    let bed = bed("never").await;
    for (name, sent) in [("a", 0), ("b", 1), ("c", LEN / 2), ("d", LEN - LEN / 100)] {
        let package = bed.bucket.publish(Package::named(name).nar_bytes(LEN));
        let held = bed.bucket.hold_after(&package.nar, sent);
        let mut client = bed.connect().await;
        client.send_head(&get(&package.nar)).await;
        held.until_played(1).await;
        let before = bed.metric(ABANDONED);
        drop(client);
        bed.until_metric(ABANDONED, before + 1).await;
        bed.at_rest().await;
        drop(held);
        // Whoever comes next has all of it, from a new read.
        assert!(
            bed.ask(get(&package.nar)).await.is(&package.nar_bytes),
            "{name}"
        );
        assert_eq!(bed.bucket.reads(&package.nar), 2, "{name}");
    }
}

/// A client that comes back at once finds its fill where it was.
#[tokio::test]
async fn a_client_that_comes_back_finds_its_fill() {
    let bed = bed("never").await;
    let package = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
    let held = bed.bucket.hold_after(&package.nar, MIB);
    let mut client = bed.connect().await;
    client.send_head(&get(&package.nar)).await;
    assert_eq!(client.bytes(MIB / 2).await.len(), MIB / 2);
    drop(client);
    bed.until_metric("narwharf_fill_readers", 0).await;
    let again = bed.ask(get(&package.nar).range("bytes=400000-"));
    bed.until_metric("narwharf_fill_readers", 1).await;
    held.release();
    assert!(again.await.body == package.nar_bytes[400_000..]);
    assert_eq!(bed.bucket.reads(&package.nar), 1);
}

/// Over a line slow enough that the client is long forgotten when the NAR is there.
#[tokio::test]
async fn a_fill_may_be_read_to_its_end_all_the_same() {
    let bed = bed("always").await;
    let package = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
    bed.bucket.line().set_bandwidth(Some(2 * MIB as u64));
    let mut client = bed.connect().await;
    client.send_head(&get(&package.nar)).await;
    assert_eq!(client.head().await.status, 200);
    drop(client);
    bed.until_metric(STORED, 1).await;
    bed.at_rest().await;
    assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
    assert_eq!(bed.bucket.reads(&package.nar), 1);
}

/// Asked for a byte again and again, a giant is fetched whole before it has cost twice its size.
#[tokio::test]
async fn what_is_left_again_and_again_is_fetched_in_the_end() {
    let bed = TestBed::start().await;
    let package = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
    bed.bucket.line().set_bandwidth(Some(2 * MIB as u64));
    while bed.metric(STORED) == 0 {
        let answer = bed.ask(get(&package.nar).range("bytes=0-0")).await;
        assert_eq!(answer.body, package.nar_bytes[..1]);
        bed.at_rest().await;
    }
    let sent = bed.bucket.log().bytes_out(&package.nar);
    assert!(sent <= 2 * LEN as u64, "{sent} bytes");
}

/// A farm's worth of clients for one cold NAR; the one that began it is gone somewhere on the way.
#[tokio::test]
async fn five_hundred_clients_cost_one_read() {
    five_hundred_clients_read(MIB).await;
}

#[tokio::test]
#[ignore = "four times 100 GB through loopback (make soak)"]
async fn five_hundred_clients_of_a_large_nar_cost_one_read() {
    five_hundred_clients_read(200 * MIB).await;
}

async fn five_hundred_clients_read(len: usize) {
    let bed = TestBed::with(|s| s.set("disk.capacity", "1GiB")).await;
    for sent in [0, len / 100, len / 2, len - len / 100] {
        let name = format!("gone-{sent}");
        let package = bed.bucket.publish(Package::named(&name).nar_bytes(len));
        let held = bed.bucket.hold_after(&package.nar, sent);
        let mut first = bed.connect().await;
        first.send_head(&get(&package.nar)).await;
        held.until_played(1).await;
        // All have asked before one reads: what lies ready for them keeps a test busy for longer
        // than the gateway waits for a connection's first head.
        let asks = async || {
            let mut client = bed.connect().await;
            client.send_head(&get(&package.nar)).await;
            client
        };
        let others = join_all((0..500).map(|_| asks())).await;
        bed.until_metric("narwharf_fill_readers", 501).await;
        drop(first);
        bed.until_metric("narwharf_fill_readers", 500).await;
        held.release();
        let reads = others.into_iter().map(async |mut client| {
            client.head().await.status == 200 && client.brings(&package.nar_bytes).await
        });
        let right = join_all(reads).await;
        assert!(right.iter().all(|right| *right), "{name}");
        assert_eq!(bed.bucket.reads(&package.nar), 1, "{name}");
        let sent = bed.bucket.log().bytes_out(&package.nar);
        assert_eq!(sent, len as u64, "{name}");
    }
}

/// More fills than the bucket may be asked for at once wait their turn, and hear so in time.
#[tokio::test]
async fn a_fill_too_many_is_told_to_come_back() {
    let bed = TestBed::with(|s| s.set("bucket.max_requests", "1")).await;
    let one = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
    let two = bed.bucket.publish(Package::named("b").nar_bytes(LEN));
    let held = bed.bucket.hold_after(&one.nar, MIB);
    let first = bed.ask(get(&one.nar));
    held.until_played(1).await;
    let answer = bed.ask(get(&two.nar)).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("8"));
    assert_eq!(bed.bucket.reads(&two.nar), 0);
    held.release();
    assert!(first.await.is(&one.nar_bytes));
    assert!(bed.ask(get(&two.nar)).await.is(&two.nar_bytes));
}
