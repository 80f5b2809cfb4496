//! Age: a document is fresh for a time, then revalidated by its tag, and served stale when nobody
//! answers, up to a limit. Told of narinfos, which are most of what is asked for.

use std::time::{Duration, Instant};

use crate::bed::r2sim::{Fault, Rule};
use crate::bed::{Answer, Package, TestBed, get};

use super::narinfo::assert_unknown;

const SECOND: Duration = Duration::from_secs(1);

/// `memory.document_ttl` and a little.
pub const TTL: Duration = Duration::from_secs(301);

/// `Cache-Status`: how an answer came.
pub fn how(answer: &Answer) -> &str {
    answer.header("cache-status").expect("Cache-Status")
}

/// What others may keep is what is left of our own time, not a fresh start.
#[tokio::test]
async fn the_freshness_told_to_others_runs_down() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let age_left = async || {
        let answer = bed.ask(get(&hello.narinfo)).await;
        let value = answer.header("cache-control").expect("Cache-Control");
        let seconds = value.strip_prefix("public, max-age=").expect("an age");
        seconds.parse::<u64>().expect("seconds")
    };
    assert!((295..=300).contains(&age_left().await));
    bed.clock.advance(100 * SECOND);
    assert!((195..=200).contains(&age_left().await));
}

/// An unchanged narinfo costs the bucket a 304, and the client, who asked no condition, gets it whole.
#[tokio::test]
async fn past_its_time_a_narinfo_is_revalidated_by_its_tag() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let first = bed.ask(get(&hello.narinfo)).await;
    bed.clock.advance(TTL);
    let again = bed.ask(get(&hello.narinfo)).await;
    assert!(again.is(hello.narinfo_text.as_bytes()));
    assert_eq!(again.header("etag"), first.header("etag"));
    let statuses: Vec<_> = bed
        .bucket
        .log()
        .entries()
        .iter()
        .map(|entry| entry.status)
        .collect();
    assert_eq!(statuses, [Some(200), Some(304)]);
    // And it is fresh again.
    let third = bed.ask(get(&hello.narinfo)).await;
    assert_eq!(how(&third), "narwharf; hit; detail=memory");
}

/// Revalidation also works from what a restart left, where only the index knows the tag.
#[tokio::test]
async fn after_a_restart_a_narinfo_is_still_revalidated_by_its_tag() {
    let mut bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    bed.ask(get(&hello.narinfo)).await;
    bed.restart().await;
    bed.until_recovered().await;
    bed.clock.advance(TTL);
    assert!(
        bed.ask(get(&hello.narinfo))
            .await
            .is(hello.narinfo_text.as_bytes())
    );
    let last = bed.bucket.log().entries().pop().expect("an entry");
    assert_eq!(last.status, Some(304));
}

#[tokio::test]
async fn a_narinfo_replaced_in_the_bucket_is_seen_after_its_time() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let first = bed.ask(get(&hello.narinfo)).await;
    let other = bed
        .bucket
        .publish(Package::named("hello").line("Deriver", "unknown-deriver"));
    assert_eq!(other.narinfo, hello.narinfo);
    assert!(
        bed.ask(get(&hello.narinfo))
            .await
            .is(hello.narinfo_text.as_bytes())
    );
    bed.clock.advance(TTL);
    let second = bed.ask(get(&hello.narinfo)).await;
    assert!(second.is(other.narinfo_text.as_bytes()));
    assert_ne!(second.header("etag"), first.header("etag"));
}

#[tokio::test]
async fn a_narinfo_removed_from_the_bucket_is_absent_after_its_time() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    bed.ask(get(&hello.narinfo)).await;
    bed.bucket.remove(&hello.narinfo);
    bed.clock.advance(TTL);
    assert_eq!(bed.ask(get(&hello.narinfo)).await.status, 404);
    assert_eq!(bed.ask(get(&hello.narinfo)).await.status, 404);
}

/// A bucket that fails, refuses or is silent costs a held narinfo at most a second, once.
#[tokio::test]
async fn when_nobody_answers_the_stale_narinfo_is_served_at_once() {
    for fault in [
        Fault::Status(500, "InternalError"),
        Fault::Status(403, "AccessDenied"),
        Fault::Status(429, "TooManyRequests"),
        Fault::Reset,
        Fault::Silence,
        Fault::Html200,
        Fault::CutAfter(10),
    ] {
        let bed = TestBed::start().await;
        let hello = bed.bucket.publish(Package::named("hello"));
        bed.ask(get(&hello.narinfo)).await;
        bed.clock.advance(TTL);
        // A 304 has no body to spoil, so the bucket's object is another one now.
        bed.bucket
            .publish(Package::named("hello").line("Deriver", "unknown-deriver"));
        let broken = bed
            .bucket
            .fault(Rule::get(&hello.narinfo).plays(fault.clone()));
        let began = Instant::now();
        let stale = bed.ask(get(&hello.narinfo)).await;
        let took = began.elapsed();
        assert!(stale.is(hello.narinfo_text.as_bytes()), "{fault:?}");
        assert_eq!(how(&stale), "narwharf; fwd=stale", "{fault:?}");
        assert_eq!(
            stale.header("cache-control"),
            Some("public, max-age=0"),
            "{fault:?}"
        );
        assert!(took < 3 * SECOND, "{fault:?}: {took:?}");
        assert_eq!(
            broken.played(),
            1,
            "{fault:?}: asked once, not again and again"
        );
    }
}

/// Having just heard nothing, the gateway does not ask for each client anew; when the bucket is
/// back it is asked again within seconds.
#[tokio::test]
async fn after_a_failed_revalidation_the_bucket_is_left_alone_for_a_moment() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    bed.ask(get(&hello.narinfo)).await;
    bed.clock.advance(TTL);
    let broken = bed
        .bucket
        .fault(Rule::get(&hello.narinfo).plays(Fault::Status(500, "InternalError")));
    for _ in 0..20 {
        assert_eq!(
            how(&bed.ask(get(&hello.narinfo)).await),
            "narwharf; fwd=stale"
        );
    }
    assert_eq!(broken.played(), 1);
    broken.release();
    bed.clock.advance(6 * SECOND);
    let answer = bed.ask(get(&hello.narinfo)).await;
    assert_ne!(how(&answer), "narwharf; fwd=stale");
    assert!(answer.is(hello.narinfo_text.as_bytes()));
}

#[tokio::test]
async fn a_narinfo_is_served_stale_only_up_to_its_limit() {
    let bed = TestBed::with(|s| s.set("memory.stale_if_error", "10m")).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    bed.ask(get(&hello.narinfo)).await;
    let _broken = bed
        .bucket
        .fault(Rule::get(&hello.narinfo).plays(Fault::Status(500, "InternalError")));
    bed.clock.advance(TTL + 500 * SECOND);
    assert_eq!(
        how(&bed.ask(get(&hello.narinfo)).await),
        "narwharf; fwd=stale"
    );
    bed.clock.advance(100 * SECOND);
    assert_unknown(&bed.ask(get(&hello.narinfo)).await, "past the limit");
}
