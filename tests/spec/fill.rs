//! Fills: one read of the bucket for all who ask, and never a whole answer with wrong bytes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{Answer, Built, KIB, MIB, Package, TestBed, get};
use crate::outage::assert_unknown;

/// Past whatever is remembered of a bad object or a failing bucket.
const LONG_AFTER: Duration = Duration::from_secs(120);

/// A popular package lands on a cold edge: everyone is served, the bucket is read once.
#[tokio::test]
async fn clients_of_a_cold_nar_share_one_fill() {
    // Given a NAR that only the bucket has, and a bucket that holds back its first byte
    let bed = TestBed::start().await;
    let hello = bed
        .bucket
        .publish(Package::named("hello").nar_bytes(3 * MIB));
    let held = bed.bucket.hold_first_byte(&hello.nar);
    // When fifty clients ask, and then the byte comes
    let asked = bed.ask_times(50, get(&hello.nar));
    bed.until_metric("narwharf_fill_readers", 50).await;
    held.release();
    // Then all hold the same bytes, for one read of the bucket
    assert!(asked.await.iter().all(|answer| answer.is(&hello.nar_bytes)));
    assert_eq!(bed.bucket.reads(&hello.nar), 1);
    assert_eq!(bed.bucket.requests(), 1, "no HEAD, no probe");
    assert_eq!(bed.metric("narwharf_fill_joins_total"), 49);
}

/// A large NAR over a slow line: the client has it as it comes.
#[tokio::test]
async fn the_first_byte_arrives_before_the_bucket_has_sent_half() {
    let bed = TestBed::start().await;
    let hello = bed
        .bucket
        .publish(Package::named("hello").nar_bytes(8 * MIB));
    let quarter = 2 * MIB;
    let held = bed
        .bucket
        .fault(Rule::get(&hello.nar).plays(Fault::HoldAfter(quarter as u64)));
    // When the bucket pauses after a quarter, the client has nearly that much
    let mut client = bed.connect().await;
    client.send_head(&get(&hello.nar)).await;
    let head = client.head().await;
    assert_eq!(head.length(), Some(8 * MIB));
    let nearly = quarter - 128 * KIB;
    assert!(client.bytes(nearly).await == hello.nar_bytes[..nearly]);
    assert_eq!(bed.bucket.log().bytes_out(&hello.nar), quarter as u64);
    // and the rest once it goes on
    held.release();
    assert!(client.bytes(8 * MIB - nearly).await == hello.nar_bytes[nearly..]);
}

/// A release day: fifty builders, one large NAR that nobody here has yet, a bucket that pauses.
#[tokio::test]
async fn fifty_builders_get_a_large_nar_for_one_read() {
    fifty_builders_get(8 * MIB).await;
}

#[tokio::test]
#[ignore = "3 GiB through loopback: for a machine with time (make soak)"]
async fn fifty_builders_get_a_very_large_nar_for_one_read() {
    fifty_builders_get(64 * MIB).await;
}

async fn fifty_builders_get(len: usize) {
    let bed = TestBed::start().await;
    let large = bed.bucket.publish(Package::named("large").nar_bytes(len));
    let held = bed
        .bucket
        .fault(Rule::get(&large.nar).plays(Fault::HoldAfter(len as u64 / 2 - 1)));
    let begun = AtomicUsize::new(0);
    let builder = async || {
        let mut client = bed.connect().await;
        client.send_head(&get(&large.nar)).await;
        assert_eq!(client.head().await.length(), Some(len));
        assert!(client.brings(&large.nar_bytes[..1]).await);
        begun.fetch_add(1, Ordering::Relaxed);
        assert!(client.brings(&large.nar_bytes[1..]).await);
    };
    let go_on = async {
        // Everybody has a first byte, and the bucket has not sent half
        bed.until("fifty first bytes", || begun.load(Ordering::Relaxed) == 50)
            .await;
        assert!(bed.bucket.log().bytes_out(&large.nar) < len as u64 / 2);
        held.release();
    };
    // In this order: fifty builders at once leave nothing of a poll to whoever comes after them.
    join(go_on, join_all((0..50).map(|_| builder()))).await;
    assert_eq!(bed.bucket.reads(&large.nar), 1);
    assert_eq!(bed.bucket.log().bytes_out(&large.nar), len as u64);
}

/// The client that began a fill hangs up, whenever it likes: the others do not notice.
#[tokio::test]
async fn the_first_client_leaving_disturbs_nobody() {
    let bed = TestBed::start().await;
    for (name, sent) in [("a", 0), ("b", 1), ("c", MIB), ("d", 2 * MIB - 100)] {
        let package = bed.bucket.publish(Package::named(name).nar_bytes(2 * MIB));
        let held = bed.bucket.hold_after(&package.nar, sent);
        // Given one client that began the fill and three that joined it
        let mut first = bed.connect().await;
        first.send_head(&get(&package.nar)).await;
        held.until_played(1).await;
        let others = bed.ask_times(3, get(&package.nar));
        bed.until_metric("narwharf_fill_readers", 4).await;
        // When the first hangs up after so many bytes
        drop(first);
        held.release();
        // Then the others have all of it, for one read
        let others = others.await;
        assert!(
            others.iter().all(|answer| answer.is(&package.nar_bytes)),
            "after {sent} bytes"
        );
        assert_eq!(bed.bucket.reads(&package.nar), 1, "after {sent} bytes");
        bed.at_rest().await;
    }
}

/// A reader that does not read holds up nobody else.
#[tokio::test]
async fn a_client_that_stops_reading_does_not_slow_the_fill() {
    let bed = TestBed::start().await;
    let big = bed
        .bucket
        .publish(Package::named("big").nar_bytes(24 * MIB));
    let mut idler = bed.connect().await;
    idler.send_head(&get(&big.nar)).await;
    assert_eq!(idler.head().await.status, 200);
    // More than the sockets between can hold, so the idler is still in the middle of it
    assert!(bed.ask(get(&big.nar)).await.is(&big.nar_bytes));
    assert!(idler.bytes(24 * MIB).await == big.nar_bytes);
    assert_eq!(bed.bucket.reads(&big.nar), 1);
}

/// One flipped bit anywhere: every reader is cut short, nothing is kept, and the next one who asks
/// when the bucket is right again has the right bytes.
#[tokio::test]
async fn wrong_bytes_reach_nobody_whole_and_are_not_kept() {
    let bed = TestBed::start().await;
    let places = [("first", 0), ("middle", MIB), ("last", 2 * MIB - 1)];
    for (kept, (name, offset)) in places.into_iter().enumerate() {
        let package = bed.bucket.publish(Package::named(name).nar_bytes(2 * MIB));
        let offset = offset as u64;
        let wrong = bed
            .bucket
            .fault(Rule::get(&package.nar).plays(Fault::Flip { offset }));
        let answers = bed.ask_times(5, get(&package.nar)).await;
        assert!(
            answers.iter().all(Answer::came_to_nothing),
            "{name}: the end is withheld until the hash is known"
        );
        assert_kept(&bed, kept).await;
        wrong.release();
        bed.clock.advance(LONG_AFTER);
        assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
        assert_kept(&bed, kept + 1).await;
    }
    assert!(bed.metric("narwharf_fills_total{outcome=\"corrupt\"}") >= 3);
}

/// What the bucket does wrong in the middle of a body never becomes a whole wrong answer.
#[tokio::test]
async fn a_bucket_that_breaks_half_way_never_ends_an_answer_cleanly_with_other_bytes() {
    let bed = TestBed::with(|s| s.set("bucket.idle_timeout", "300ms")).await;
    let other = bed
        .bucket
        .publish(Package::named("other").nar_bytes(3 * MIB))
        .nar;
    let half = MIB as u64;
    let cases: [(&str, &[Fault]); 10] = [
        ("cut", &[Fault::CutAfter(half)]),
        ("cut before its first byte", &[Fault::CutAfter(0)]),
        ("stalled", &[Fault::StallAfter(half)]),
        ("shorter, and said so", &[Fault::TruncateAfter(half)]),
        ("longer than said", &[Fault::Extend(b"more than there is")]),
        ("without a length", &[Fault::Chunked]),
        (
            "without a length, cut",
            &[Fault::Chunked, Fault::CutAfter(half)],
        ),
        ("a web page", &[Fault::Html200]),
        ("another object", &[Fault::WrongObject(other)]),
        ("reset", &[Fault::Reset]),
    ];
    for (number, (what, faults)) in cases.into_iter().enumerate() {
        let package = Package::named(&format!("case-{number}")).nar_bytes(2 * MIB);
        let package = bed.bucket.publish(package);
        let rule = faults.iter().fold(Rule::get(&package.nar), |rule, fault| {
            rule.plays(fault.clone())
        });
        let broken = bed.bucket.fault(rule);
        for answer in bed.ask_times(3, get(&package.nar)).await {
            assert_right_or_not_whole(what, &answer, &package);
        }
        broken.release();
        bed.clock.advance(LONG_AFTER);
        let answer = bed.ask(get(&package.nar)).await;
        assert!(answer.is(&package.nar_bytes), "after: {what}");
        bed.at_rest().await;
    }
}

/// A NAR that is withheld whole anyway is judged before its answer begins: a status, not a cut.
#[tokio::test]
async fn a_small_nar_that_fails_is_a_status() {
    let bed = TestBed::with(|s| s.set("bucket.idle_timeout", "300ms")).await;
    let cases = [
        ("wrong", Fault::Flip { offset: 9_999 }),
        ("stalled", Fault::StallAfter(5_000)),
        ("cut", Fault::CutAfter(5_000)),
        ("shorter", Fault::TruncateAfter(5_000)),
    ];
    for (what, fault) in cases {
        let package = bed.bucket.publish(Package::named(what).nar_bytes(10_000));
        let rule = Rule::on(Operation::GetObject).key(&package.nar);
        // A broken read that is resumed meets the same trouble again.
        let broken = bed.bucket.fault(rule.plays(fault));
        let answer = bed.ask(get(&package.nar)).await;
        if answer.status == 200 {
            assert_right_or_not_whole(what, &answer, &package);
            assert!(!answer.cut, "{what}");
        } else {
            assert_unknown(what, &answer);
        }
        broken.release();
        bed.clock.advance(LONG_AFTER);
        let answer = bed.ask(get(&package.nar)).await;
        assert!(answer.is(&package.nar_bytes), "after {what}: {answer:?}");
    }
}

/// nix-serve and harmonia name NARs after the store path: what counts is the narinfo's hash.
#[tokio::test]
async fn a_nar_whose_name_is_no_hash_is_held_to_its_narinfo() {
    let bed = TestBed::start().await;
    let named = |name| Package::named(name).nar_bytes(MIB);
    let packages = [
        (
            "FileHash",
            named("a").named_as_nix_serve().compression("xz"),
        ),
        (
            "NarHash",
            named("b").named_as_nix_serve().without_line("FileHash"),
        ),
        (
            "FileHash, by query",
            named("c").named_as_harmonia().compression("zstd"),
        ),
        (
            "NarHash, by query",
            named("d").named_as_harmonia().without_line("FileHash"),
        ),
    ];
    for (kept, (what, package)) in packages.into_iter().enumerate() {
        let package = bed.bucket.publish(package);
        let narinfo = bed.ask(get(&package.narinfo)).await;
        assert!(narinfo.is(package.narinfo_text.as_bytes()), "{what}");
        let wrong = bed
            .bucket
            .fault(Rule::get(&package.nar).plays(Fault::Flip { offset: 77 }));
        let answer = bed.ask(get(&package.nar)).await;
        assert!(answer.came_to_nothing(), "{what}: {answer:?}");
        assert_kept(&bed, kept).await;
        wrong.release();
        bed.clock.advance(LONG_AFTER);
        assert!(
            bed.ask(get(&package.nar)).await.is(&package.nar_bytes),
            "{what}"
        );
        assert_kept(&bed, kept + 1).await;
    }
    assert_eq!(bed.metric("narwharf_unverified_bytes_total"), 0);
}

/// Whose hash nobody knows is served all the same, but counted, and never called immutable.
#[tokio::test]
async fn a_nar_whose_hash_nobody_knows_is_counted_as_unverified() {
    for max_nar in ["1GiB", "64KiB"] {
        let bed = TestBed::with(|s| s.set("disk.max_nar", max_nar)).await;
        let package = Package::named("hello").nar_bytes(MIB).named_as_nix_serve();
        let package = bed.bucket.publish(package);
        let answer = bed.ask(get(&package.nar)).await;
        assert!(answer.is(&package.nar_bytes));
        let policy = answer.header("cache-control").expect("a policy");
        assert!(!policy.contains("immutable"), "{policy}");
        let unverified = bed.metric("narwharf_unverified_bytes_total");
        assert_eq!(unverified, MIB as u64, "disk.max_nar = {max_nar}");
    }
}

fn assert_right_or_not_whole(what: &str, answer: &Answer, package: &Built) {
    match answer.status {
        0 | 200 if answer.cut => {}
        200 => assert!(answer.body == package.nar_bytes, "{what}: whole but wrong"),
        _ => assert_unknown(what, answer),
    }
}

async fn assert_kept(bed: &TestBed, blobs: usize) {
    bed.at_rest().await;
    assert_eq!(bed.metric("narwharf_disk_blobs"), blobs as u64);
}
