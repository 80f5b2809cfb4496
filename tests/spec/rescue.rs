//! Rescue: a bucket that breaks in the middle of a NAR goes unnoticed, unless what is there afterwards
//! is no longer the same NAR.

use std::time::Duration;

use crate::bed::r2sim::{Fault, FaultGuard, Rule};
use crate::bed::{Answer, Built, Dice, KIB, MIB, Package, TestBed, get};

const CLIENTS: usize = 8;

/// Not a multiple of anything.
const LEN: usize = 4 * MIB + 4321;

/// What the runs at full size read.
const LARGE: usize = 256 * MIB;

/// Past the longest rest of a bad object.
const RESTED: Duration = Duration::from_secs(61);

const STORED: &str = "narwharf_fills_total{outcome=\"stored\"}";

/// A bed whose bucket may be silent for a moment only.
async fn bed() -> TestBed {
    TestBed::with(|s| s.set("bucket.idle_timeout", "300ms")).await
}

#[track_caller]
fn assert_all_have(what: &str, answers: &[Answer], package: &Built) {
    for answer in answers {
        assert!(
            answer.is(&package.nar_bytes),
            "{what}: {} with {} bytes, cut: {}",
            answer.status,
            answer.body.len(),
            answer.cut
        );
    }
}

#[track_caller]
fn assert_none_is_whole(what: &str, answers: &[Answer]) {
    for answer in answers {
        assert!(answer.came_to_nothing(), "{what}: a whole answer");
    }
}

/// The answer to a GET that has begun before the bucket is let go: what fails after that can only be
/// cut.
async fn begun_before(bed: &TestBed, key: &str, held: FaultGuard) -> Answer {
    let mut client = bed.connect().await;
    let request = get(key);
    client.send_head(&request).await;
    let head = client.head().await;
    held.release();
    client.answer_after(head, request.method()).await
}

/// The bucket breaks a NAR off anywhere: every client has one whole answer, and nothing is read twice.
#[tokio::test]
async fn a_cut_at_any_offset_is_not_noticed() {
    broken_anywhere(Fault::CutAfter, 20, LEN).await;
}

/// The same at full size: half a minute and a few gigabytes of memory.
#[tokio::test]
#[ignore = "40 GB through loopback (make soak)"]
async fn a_cut_at_any_offset_of_a_large_nar_is_not_noticed() {
    broken_anywhere(Fault::CutAfter, 20, LARGE).await;
}

/// And with a bucket that falls silent, for as long as the gateway waits.
#[tokio::test]
#[ignore = "five minutes, 40 GB through loopback (make soak)"]
async fn a_stall_of_ten_seconds_at_any_offset_of_a_large_nar_is_not_noticed() {
    broken_anywhere(Fault::StallAfter, 20, LARGE).await;
}

async fn broken_anywhere(fault: fn(u64) -> Fault, times: usize, len: usize) {
    let bed = TestBed::with(|s| {
        s.set("disk.capacity", "1GiB");
        s.set("bucket.idle_timeout", "10s");
    })
    .await;
    let mut dice = Dice::new();
    for number in 0..times {
        let offset = 1 + dice.below(len - 1) as u64;
        let what = format!("{:?} ({dice})", fault(offset));
        let package = Package::named(&format!("broken-{number}")).nar_bytes(len);
        let package = bed.bucket.publish(package);
        let rule = Rule::get(&package.nar).times(1);
        let broken = bed.bucket.fault(rule.plays(fault(offset)));
        let answers = bed.ask_times(CLIENTS, get(&package.nar)).await;
        assert_all_have(&what, &answers, &package);
        assert_eq!(bed.bucket.reads(&package.nar), 2, "{what}");
        let sent = bed.bucket.log().bytes_out(&package.nar);
        assert!(sent as f64 <= 1.02 * len as f64, "{what}: {sent} bytes");
        drop(broken);
        bed.at_rest().await;
    }
    let times = times as u64;
    assert_eq!(bed.metric("narwharf_fill_resumes_total"), times);
    assert_eq!(bed.metric(STORED), times);
}

/// One cut after the other, as long as each brings a little more.
#[tokio::test]
async fn a_read_that_breaks_again_and_again_gets_there() {
    let bed = bed().await;
    let package = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
    let piece = 512 * KIB as u64;
    let _cuts = bed
        .bucket
        .fault(Rule::get(&package.nar).plays(Fault::CutAfter(piece)));
    let answers = bed.ask_times(CLIENTS, get(&package.nar)).await;
    assert_all_have("cut each half mebibyte", &answers, &package);
    assert_eq!(bed.bucket.reads(&package.nar), LEN.div_ceil(piece as usize));
}

/// What else may break a read half-way: silence, an early end, errors to the first tries.
#[tokio::test]
async fn stalls_and_failures_are_not_noticed() {
    let bed = bed().await;
    let half = LEN as u64 / 2;
    let cases: [(&str, Fault, Option<Fault>); 5] = [
        ("stall", Fault::StallAfter(half), None),
        ("stall at the first byte", Fault::StallAfter(1), None),
        (
            "stall before the last",
            Fault::StallAfter(LEN as u64 - 1),
            None,
        ),
        (
            "cut, then 500",
            Fault::CutAfter(half),
            Some(Fault::Status(500, "InternalError")),
        ),
        ("cut, then reset", Fault::CutAfter(half), Some(Fault::Reset)),
    ];
    for (what, first, again) in cases {
        let package = bed.bucket.publish(Package::named(what).nar_bytes(LEN));
        let rule = Rule::get(&package.nar);
        let _first = bed.bucket.fault(rule.clone().ranged(false).plays(first));
        let _again = again.map(|fault| bed.bucket.fault(rule.ranged(true).times(2).plays(fault)));
        let answers = bed.ask_times(CLIENTS, get(&package.nar)).await;
        assert_all_have(what, &answers, &package);
        bed.at_rest().await;
    }
}

/// Three tries that bring nothing are enough: everyone is cut short, and nothing is kept.
#[tokio::test]
async fn a_bucket_that_is_gone_for_good_is_tried_three_times() {
    let bed = bed().await;
    let package = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
    let rule = Rule::get(&package.nar);
    let cut = bed.bucket.fault(
        rule.clone()
            .ranged(false)
            .plays(Fault::CutAfter(MIB as u64)),
    );
    let gone = bed.bucket.fault(rule.ranged(true).plays(Fault::Reset));
    let answers = bed.ask_times(CLIENTS, get(&package.nar)).await;
    assert_none_is_whole("gone", &answers);
    assert_eq!(bed.bucket.reads(&package.nar), 1 + 3);
    bed.at_rest().await;
    assert_eq!(bed.metric("narwharf_disk_blobs"), 0);
    assert_eq!(bed.metric("narwharf_fills_total{outcome=\"broken\"}"), 1);
    // A failing bucket is not a bad object: it is asked again at once.
    drop((cut, gone));
    assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
}

/// The object is replaced while it is read: half of the one and half of the other is nobody's NAR.
#[tokio::test]
async fn an_object_replaced_half_way_is_never_spliced() {
    replaced_half_way(5, LEN).await;
}

/// The same at full size.
#[tokio::test]
#[ignore = "40 GB through loopback (make soak)"]
async fn a_large_object_replaced_half_way_is_never_spliced() {
    replaced_half_way(20, LARGE).await;
}

async fn replaced_half_way(times: usize, len: usize) {
    let bed = TestBed::with(|s| s.set("disk.capacity", "1GiB")).await;
    let mut dice = Dice::new();
    for number in 0..times as u64 {
        let offset = 1 + dice.below(len - 1) as u64;
        let what = format!("replaced after {offset} bytes ({dice})");
        // A name that is no hash, so that nothing but the bucket's tag tells the two apart
        let old = Package::named(&format!("replaced-{number}"));
        let old = bed.bucket.publish(old.nar_bytes(len).named_as_nix_serve());
        let new = vec![7; len];
        let rule = Rule::get(&old.nar).nth(1);
        let stalled = bed.bucket.fault(rule.plays(Fault::StallAfter(offset)));
        let asked = bed.ask_times(CLIENTS, get(&old.nar));
        bed.until("all that comes before it", || {
            bed.bucket.log().bytes_out(&old.nar) == offset
        })
        .await;
        bed.bucket
            .put_object(&old.nar, &new, "application/x-nix-nar");
        // The connection breaks, and the rest is asked for
        stalled.release();
        let answers = asked.await;
        assert_none_is_whole(&what, &answers);
        for answer in &answers {
            assert!(old.nar_bytes.starts_with(&answer.body), "{what}: spliced");
        }
        bed.at_rest().await;
        assert_eq!(bed.metric(STORED), number, "{what}");
        // The new version is another object, and served at once
        assert!(bed.ask(get(&old.nar)).await.is(&new), "{what}");
        bed.at_rest().await;
    }
}

/// Servers that misunderstand the request for the rest.
#[tokio::test]
async fn a_rest_that_is_not_the_rest_ends_the_fill() {
    let bed = bed().await;
    let other = bed
        .bucket
        .publish(Package::named("other").nar_bytes(LEN))
        .nar;
    let cases = [
        ("ignored range", Fault::IgnoreRange),
        (
            "shifted range",
            Fault::ShiftRange {
                by: 3,
                admitted: true,
            },
        ),
        (
            "shifted in secret",
            Fault::ShiftRange {
                by: 3,
                admitted: false,
            },
        ),
        ("another tag", Fault::Etag(Some("\"another\""))),
        ("no tag", Fault::Etag(None)),
        ("another object", Fault::WrongObject(other)),
        ("a web page", Fault::Html200),
        ("404", Fault::Status(404, "NoSuchKey")),
        ("412", Fault::Status(412, "PreconditionFailed")),
    ];
    for (kept, (what, wrong)) in cases.into_iter().enumerate() {
        let package = bed.bucket.publish(Package::named(what).nar_bytes(LEN));
        let rule = Rule::get(&package.nar);
        let cut = bed.bucket.fault(
            rule.clone()
                .ranged(false)
                .plays(Fault::CutAfter(MIB as u64)),
        );
        let wrong = bed.bucket.fault(rule.ranged(true).plays(wrong));
        let answers = bed.ask_times(CLIENTS, get(&package.nar)).await;
        assert_none_is_whole(what, &answers);
        assert_eq!(bed.bucket.reads(&package.nar), 2, "{what}: not argued with");
        bed.at_rest().await;
        assert_eq!(bed.metric("narwharf_disk_blobs"), kept as u64, "{what}");
        drop((cut, wrong));
        // Whatever the answer was, it says nothing about absence.
        let answer = bed.ask(get(&package.nar)).await;
        assert_eq!(answer.status, 503, "{what}: it rests");
        bed.clock.advance(RESTED);
        assert!(
            bed.ask(get(&package.nar)).await.is(&package.nar_bytes),
            "{what}"
        );
        bed.at_rest().await;
    }
}

/// Wrong bytes are not downloaded over and over by clients who try again.
#[tokio::test]
async fn a_bad_object_rests_and_is_read_no_more_than_once_meanwhile() {
    let bed = TestBed::start().await;
    let package = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
    let wrong = || {
        let rule = Rule::get(&package.nar).plays(Fault::Flip { offset: 9 });
        bed.bucket.fault(rule.plays(Fault::HoldAfter(MIB as u64)))
    };
    assert!(begun_before(&bed, &package.nar, wrong()).await.cut);
    bed.at_rest().await;
    for rest in [1, 2, 4, 8] {
        for _ in 0..3 {
            let sent = bed.bucket.log().bytes_out(&package.nar);
            let answer = bed.ask(get(&package.nar)).await;
            assert_eq!(answer.status, 503, "within {rest} s");
            assert_eq!(bed.bucket.log().bytes_out(&package.nar), sent, "no bytes");
            bed.at_rest().await;
        }
        bed.clock.advance(Duration::from_secs(rest));
        let answer = begun_before(&bed, &package.nar, wrong()).await;
        assert!(answer.cut, "after {rest} s it is read");
        bed.at_rest().await;
    }
    // Another version is read at once, and clears what was remembered.
    bed.bucket.remove(&package.nar);
    let again = &package.nar_bytes;
    bed.bucket
        .put_object(&package.nar, again, "application/x-nix-nar");
    bed.clock.advance(Duration::from_secs(16));
    assert!(bed.ask(get(&package.nar)).await.is(again));
}

/// Without a tag, a read is taken up only if date and length agree and a hash will tell in the end.
#[tokio::test]
async fn without_a_tag_only_a_nar_with_a_hash_is_taken_up() {
    let bed = TestBed::start().await;
    let named = Package::named("a").nar_bytes(LEN);
    let unknown = Package::named("b").nar_bytes(LEN).named_as_nix_serve();
    for (package, whole) in [(named, true), (unknown, false)] {
        let package = bed.bucket.publish(package);
        let rule = || Rule::get(&package.nar).plays(Fault::Etag(None));
        // Closed when it is let go.
        let stopped = Fault::StallAfter(MIB as u64);
        let stopped = bed.bucket.fault(rule().ranged(false).plays(stopped));
        let _rest = bed.bucket.fault(rule());
        let answer = begun_before(&bed, &package.nar, stopped).await;
        assert_eq!(answer.is(&package.nar_bytes), whole);
        assert_eq!(answer.cut, !whole);
        bed.at_rest().await;
    }
}

/// What is too large to be kept is rescued the same way.
#[tokio::test]
async fn a_nar_that_is_passed_through_is_rescued_too() {
    let bed = TestBed::with(|s| {
        s.set("bucket.idle_timeout", "300ms");
        s.set("disk.max_nar", "1MiB");
    })
    .await;
    let package = bed.bucket.publish(Package::named("a").nar_bytes(LEN));
    let rule = Rule::get(&package.nar).times(1);
    let _cut = bed.bucket.fault(rule.plays(Fault::CutAfter(MIB as u64)));
    assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
    assert_eq!(bed.bucket.reads(&package.nar), 2);
}
