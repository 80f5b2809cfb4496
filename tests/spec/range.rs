//! Ranges: the right bytes from a blob, from a running fill and from the bucket.
//!
//! Nix resumes a NAR that was cut with `Range: bytes=N-` and splices what it gets, so a piece must be
//! exactly the bytes that the whole has there.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::bed::r2sim::{Fault, Rule};
use crate::bed::{Answer, Built, KIB, MIB, Package, TestBed, get, head};

/// Where the bytes of an answer come from.
#[derive(Debug, Clone, Copy)]
enum State {
    /// The bucket alone has it, so the request begins a fill.
    Cold,
    /// It lies on disk.
    Blob,
    /// It is larger than what may be stored.
    Passed,
}

const STATES: [State; 3] = [State::Cold, State::Blob, State::Passed];

/// One byte longer than a mebibyte, so that no boundary falls together with another.
const LEN: usize = MIB + 1;

impl State {
    /// A NAR in this state, whatever was asked of an earlier one.
    async fn package(self, bed: &TestBed, name: &str) -> Built {
        let package = Package::named(&format!("{self:?}-{name}")).nar_bytes(LEN);
        match self {
            Self::Blob => bed.cached(package).await,
            Self::Cold | Self::Passed => bed.bucket.publish(package),
        }
    }

    async fn bed(self) -> TestBed {
        TestBed::with(|s| {
            if matches!(self, Self::Passed) {
                s.set("disk.max_nar", "1MiB");
            }
        })
        .await
    }
}

#[tokio::test]
async fn a_range_is_answered_with_exactly_its_bytes() {
    let cases = [
        ("bytes=0-0", 0..1),
        ("bytes=0-", 0..LEN),
        ("bytes=1-", 1..LEN),
        ("bytes=100-199", 100..200),
        ("bytes=65535-65536", 65535..65537),
        ("bytes=524288-", 524288..LEN),
        ("bytes=1048576-", 1048576..LEN),
        ("bytes=1048576-1048576", 1048576..LEN),
        ("bytes=1000000-99999999", 1000000..LEN),
        ("bytes=0-18446744073709551615", 0..LEN),
        ("bytes=0-99999999999999999999999", 0..LEN),
        ("bytes=-1", LEN - 1..LEN),
        ("bytes=-70000", LEN - 70000..LEN),
        ("bytes=-99999999999999999999999", 0..LEN),
        ("Bytes=5-9", 5..10),
    ];
    for state in STATES {
        let bed = state.bed().await;
        for (range, bytes) in cases.clone() {
            let package = state.package(&bed, range).await;
            let answer = bed.ask(get(&package.nar).range(range)).await;
            let what = format!("{state:?} {range}");
            assert_eq!((answer.status, answer.cut), (206, false), "{what}");
            let content_range = format!("bytes {}-{}/{LEN}", bytes.start, bytes.end - 1);
            assert_eq!(
                answer.header("content-range"),
                Some(content_range.as_str()),
                "{what}"
            );
            assert!(answer.body == package.nar_bytes[bytes], "{what}");
            assert_eq!(answer.header("accept-ranges"), Some("bytes"), "{what}");
            assert_eq!(answer.header("content-encoding"), None, "{what}");
            assert!(answer.header("etag").is_some(), "{what}");
        }
    }
}

#[tokio::test]
async fn what_asks_for_no_one_range_gets_the_whole() {
    let cases = [
        "bytes=0-1,5-9",
        "bytes=5-2",
        "bytes=",
        "bytes=-",
        "bytes",
        "bytes=a-b",
        "bytes=1-2-3",
        "bytes=+1-2",
        "bytes=0x1-2",
        "chunks=0-5",
        "0-5",
        "bytes 0-5",
    ];
    for state in STATES {
        let bed = state.bed().await;
        let package = state.package(&bed, "whole").await;
        for range in cases {
            let answer = bed.ask(get(&package.nar).range(range)).await;
            assert!(answer.is(&package.nar_bytes), "{state:?} {range}");
            assert_eq!(answer.header("content-range"), None, "{state:?} {range}");
        }
        let twice = get(&package.nar)
            .also("Range", "bytes=0-0")
            .also("Range", "bytes=5-5");
        assert!(bed.ask(twice).await.is(&package.nar_bytes), "{state:?}");
    }
}

#[tokio::test]
async fn a_range_beyond_the_end_is_416_with_the_length() {
    let cases = [
        "bytes=1048577-",
        "bytes=1048577-1048578",
        "bytes=99999999999999999999999-",
        "bytes=-0",
    ];
    for state in STATES {
        let bed = state.bed().await;
        for range in cases {
            let package = state.package(&bed, range).await;
            let answer = bed.ask(get(&package.nar).range(range)).await;
            let what = format!("{state:?} {range}");
            assert_eq!(answer.status, 416, "{what}");
            let length = format!("bytes */{LEN}");
            assert_eq!(
                answer.header("content-range"),
                Some(length.as_str()),
                "{what}"
            );
            assert_eq!(answer.header("accept-ranges"), Some("bytes"), "{what}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        }
    }
}

/// Of an empty NAR no range can be had, and the whole of it is nothing.
#[tokio::test]
async fn an_empty_nar_has_no_ranges() {
    let bed = TestBed::start().await;
    let empty = bed.bucket.publish(Package::named("empty").nar_bytes(0));
    for _ in ["cold", "on disk"] {
        for range in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            let answer = bed.ask(get(&empty.nar).range(range)).await;
            assert_eq!(answer.status, 416, "{range}");
            assert_eq!(answer.header("content-range"), Some("bytes */0"));
        }
        bed.at_rest().await;
    }
    assert!(bed.ask(get(&empty.nar).range("bytes=5-2")).await.is(b""));
}

/// If-Range: the piece if it is still this very version, else the whole. A date is no version.
#[tokio::test]
async fn if_range_gives_a_piece_of_the_same_version_only() {
    for state in STATES {
        let bed = state.bed().await;
        let package = state.package(&bed, "if-range").await;
        let piece = get(&package.nar).range("bytes=5-9");
        let tag = bed.ask(head(&package.nar)).await;
        let tag = tag.header("etag").expect("a tag").to_owned();
        let answer = bed.ask(piece.clone().header("If-Range", &tag)).await;
        assert_eq!(answer.status, 206, "{state:?}");
        assert!(answer.body == package.nar_bytes[5..10], "{state:?}");
        let weak = format!("W/{tag}");
        for other in [
            "\"other\"",
            &weak,
            "Sun, 22 Nov 2026 08:49:37 GMT",
            "nonsense",
        ] {
            let answer = bed.ask(piece.clone().header("If-Range", other)).await;
            assert!(answer.is(&package.nar_bytes), "{state:?} {other}");
        }
    }
}

/// A client that was cut in the middle comes back for the rest, and the two parts are the whole.
#[tokio::test]
async fn a_download_that_was_cut_is_resumed_exactly() {
    let bed = TestBed::start().await;
    let hello = bed
        .bucket
        .publish(Package::named("hello").nar_bytes(3 * MIB));
    let wrong = Rule::get(&hello.nar).plays(Fault::Flip {
        offset: 3 * MIB as u64 - 1,
    });
    let wrong = bed.bucket.fault(wrong);
    let first = bed.ask(get(&hello.nar)).await;
    assert!(first.came_to_nothing());
    let got = if first.status == 200 {
        first.body
    } else {
        Vec::new()
    };
    wrong.release();
    bed.clock.advance(std::time::Duration::from_secs(120));
    let rest = format!("bytes={}-", got.len());
    let second = bed.ask(get(&hello.nar).range(&rest)).await;
    assert_eq!((second.status, second.cut), (206, false));
    assert!([got, second.body].concat() == hello.nar_bytes);
}

/// A range of what a running fill has written is there at once; the rest comes when it comes.
#[tokio::test]
async fn ranges_are_served_while_the_nar_is_still_on_its_way() {
    let bed = TestBed::start().await;
    let len = 4 * MIB;
    let hello = bed.bucket.publish(Package::named("hello").nar_bytes(len));
    let half = len / 2;
    let whole = Rule::get(&hello.nar).ranged(false);
    let held = bed.bucket.fault(whole.plays(Fault::HoldAfter(half as u64)));
    // Given a fill that stands still half-way
    let all = bed.ask(get(&hello.nar));
    bed.bucket
        .until(|log| log.iter().any(|entry| entry.sent >= half as u64))
        .await;
    // Then what is written can be had
    for (first, last) in [(0, 0), (0, MIB), (70_000, 900_000), (MIB, half - 128 * KIB)] {
        let range = format!("bytes={first}-{last}");
        let answer = bed.ask(get(&hello.nar).range(&range)).await;
        assert_eq!((answer.status, answer.cut), (206, false), "{range}");
        assert!(answer.body == hello.nar_bytes[first..=last], "{range}");
    }
    // as it can be when it lies ahead, once the fill goes on
    let far = bed.ask(get(&hello.nar).range("bytes=-1000"));
    let across = bed.ask(get(&hello.nar).range("bytes=2000000-3000000"));
    held.release();
    assert!(far.await.body == hello.nar_bytes[len - 1000..]);
    assert!(across.await.body == hello.nar_bytes[2_000_000..=3_000_000]);
    assert!(all.await.is(&hello.nar_bytes));
    // and what was given out unverified is counted
    assert!(bed.metric("narwharf_unverified_bytes_total") > 0);
}

/// Nobody may make the gateway read a giant many times over by asking for its first byte.
#[tokio::test]
async fn one_byte_of_a_cold_giant_costs_at_most_one_fill() {
    let bed = TestBed::start().await;
    let giant = bed
        .bucket
        .publish(Package::named("giant").nar_bytes(4 * MIB));
    let answers = bed.ask_times(20, get(&giant.nar).range("bytes=0-0")).await;
    let first = |answer: &Answer| answer.status == 206 && answer.body == giant.nar_bytes[..1];
    assert!(answers.iter().all(first));
    bed.at_rest().await;
    assert!(bed.bucket.log().bytes_out(&giant.nar) <= 4 * MIB as u64 + 20);
}

/// HEAD with a Range speaks of the piece, and sends nothing.
#[tokio::test]
async fn head_of_a_range_has_the_head_of_the_piece() {
    let bed = TestBed::start().await;
    let hello = bed.cached(Package::named("hello")).await;
    let mut client = bed.connect().await;
    let answer = client.ask(&head(&hello.nar).range("bytes=10-19")).await;
    // RFC 9110 §14.2: Range is defined for GET alone; the whole's head is right as well.
    match answer.status {
        206 => assert_eq!(answer.head.length(), Some(10)),
        status => assert_eq!((status, answer.head.length()), (200, Some(100 * KIB))),
    }
    assert!(client.ask(&get(&hello.nar)).await.is(&hello.nar_bytes));
}

/// Any range of any NAR, in every state, is what slicing the bytes gives.
#[test]
fn any_range_is_the_slice_of_the_bytes() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let bed = runtime.block_on(TestBed::with(|s| s.set("disk.max_nar", "200KiB")));
    let lens = [0, 1, 2, 65535, 65536, 65537, 150_000, 204_800, 300_000];
    let packages = lens.map(|len| {
        let package = Package::named(&format!("of-{len}")).nar_bytes(len);
        bed.bucket.publish(package)
    });
    let position = || 0u64..310_000;
    let range = prop_oneof![
        (position(), position()).prop_map(|(a, b)| format!("bytes={}-{}", a.min(b), a.max(b))),
        position().prop_map(|first| format!("bytes={first}-")),
        position().prop_map(|count| format!("bytes=-{count}")),
    ];
    let mut runner = TestRunner::new(Config::with_cases(300));
    let outcome = runner.run(&((0..lens.len()), range), |(which, range)| {
        let package = &packages[which];
        let answer = runtime.block_on(async { bed.ask(get(&package.nar).range(&range)).await });
        prop_assert!(!answer.cut);
        match slice(&range, package.nar_bytes.len()) {
            Some(bytes) => {
                prop_assert_eq!(answer.status, 206);
                prop_assert!(answer.body == package.nar_bytes[bytes]);
            }
            None => prop_assert_eq!(answer.status, 416),
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
}

/// The model: RFC 9110 §14.1.2, for one well-formed range.
fn slice(range: &str, len: usize) -> Option<std::ops::Range<usize>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.parse::<usize>().ok();
    let bytes = match (number(first), number(last)) {
        (Some(first), Some(last)) => first..len.min(last + 1),
        (Some(first), None) => first..len,
        (None, last) => len.saturating_sub(last?)..len,
    };
    (bytes.start < bytes.end).then_some(bytes)
}
