//! Ranges of a NAR that is still on its way: from what is there, a moment later, or straight from the
//! bucket.

use crate::bed::r2sim::{Fault, FaultGuard, Rule};
use crate::bed::{Built, Connection, Dice, MIB, Package, TestBed, get};

const LEN: usize = 8 * MIB + 77;

/// A fill that stands still after a mebibyte, for the client that began it.
struct Held {
    bed: TestBed,
    package: Built,
    bucket: Option<FaultGuard>,
    client: Connection,
}

impl Held {
    async fn after_a_mebibyte() -> Self {
        let bed = TestBed::start().await;
        let package = bed.bucket.publish(Package::named("big").nar_bytes(LEN));
        let rule = Rule::get(&package.nar).ranged(false);
        let bucket = bed.bucket.fault(rule.plays(Fault::HoldAfter(MIB as u64)));
        let mut client = bed.connect().await;
        client.send_head(&get(&package.nar)).await;
        assert_eq!(client.head().await.status, 200);
        assert_eq!(client.bytes(MIB / 2).await.len(), MIB / 2);
        Self {
            bed,
            package,
            bucket: Some(bucket),
            client,
        }
    }

    /// The bucket goes on, and the client has the rest.
    async fn go_on(&mut self) {
        self.bucket = None;
        let rest = self.client.bytes(LEN - MIB / 2).await;
        assert!(rest == self.package.nar_bytes[MIB / 2..]);
    }
}

fn piece(package: &Built, first: usize, last: usize) -> (String, Vec<u8>) {
    (
        format!("bytes={first}-{last}"),
        package.nar_bytes[first..=last].to_vec(),
    )
}

/// Whoever wants the end of a giant need not wait for all of it.
#[tokio::test]
async fn far_ahead_of_a_fill_a_range_comes_from_the_bucket() {
    let mut held = Held::after_a_mebibyte().await;
    let Held { bed, package, .. } = &held;
    let (range, bytes) = piece(package, 7 * MIB, 7 * MIB + 999);
    let answer = bed.ask(get(&package.nar).range(&range)).await;
    assert_eq!((answer.status, answer.cut), (206, false));
    assert!(answer.body == bytes);
    assert_eq!(bed.bucket.reads(&package.nar), 2);
    assert_eq!(bed.metric("narwharf_unverified_bytes_total"), 1000);
    // The fill has not noticed.
    held.go_on().await;
}

/// A little ahead, waiting is cheaper than asking.
#[tokio::test]
async fn slightly_ahead_of_a_fill_a_range_waits() {
    let mut held = Held::after_a_mebibyte().await;
    let Held { bed, package, .. } = &held;
    let (range, bytes) = piece(package, MIB + MIB / 2, 2 * MIB);
    let asked = bed.ask(get(&package.nar).range(&range));
    bed.until_metric("narwharf_fill_readers", 2).await;
    held.go_on().await;
    assert!(asked.await.body == bytes);
    assert_eq!(held.bed.bucket.reads(&held.package.nar), 1);
}

/// Clients that were cut in the middle come back for the rest: it is read once, for all of them.
#[tokio::test]
async fn downloads_taken_up_again_join_the_fill() {
    let mut held = Held::after_a_mebibyte().await;
    let Held { bed, package, .. } = &held;
    let from = 3 * MIB;
    let rest = package.nar_bytes[from..].to_vec();
    let request = get(&package.nar).range(&format!("bytes={from}-"));
    let asked = bed.ask_times(8, request);
    bed.until_metric("narwharf_fill_readers", 9).await;
    held.go_on().await;
    for answer in asked.await {
        assert!(answer.status == 206 && answer.body == rest);
    }
    assert_eq!(held.bed.bucket.reads(&held.package.nar), 1);
}

/// A thousand pieces from anywhere, while the NAR arrives over a slow line.
#[tokio::test]
async fn a_thousand_ranges_during_a_fill_are_exact() {
    let mut dice = Dice::new();
    let bed = TestBed::start().await;
    let package = bed.bucket.publish(Package::named("big").nar_bytes(LEN));
    bed.bucket.line().set_bandwidth(Some(4 * MIB as u64));
    let fill = bed.ask(get(&package.nar));
    bed.until_metric("narwharf_fill_readers", 1).await;
    for round in 0..20 {
        let pieces: Vec<_> = (0..50)
            .map(|_| {
                let first = dice.below(LEN);
                let last = (first + dice.below(20_000)).min(LEN - 1);
                let (range, bytes) = piece(&package, first, last);
                (bed.ask(get(&package.nar).range(&range)), range, bytes)
            })
            .collect();
        for (asked, range, bytes) in pieces {
            let answer = asked.await;
            assert!(
                answer.status == 206 && answer.body == bytes,
                "{range} in round {round}, {dice}: {}",
                answer.status
            );
        }
    }
    assert!(fill.await.is(&package.nar_bytes));
    let sent = bed.bucket.log().bytes_out(&package.nar);
    assert!(sent as f64 <= 1.26 * LEN as f64, "{sent} bytes for {LEN}");
}
