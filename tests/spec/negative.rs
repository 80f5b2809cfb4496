//! Known absences: remembered briefly, from definite answers only, and never past a write.

use std::time::Duration;

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{Answer, Package, TestBed, get, head, put};

/// `memory.negative_ttl` and a little.
const TTL: Duration = Duration::from_secs(31);

#[track_caller]
fn assert_absent(answer: &Answer) {
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answer.text().lines().count(), 1);
}

fn is_negative_hit(answer: &Answer) -> bool {
    answer.header("cache-status") == Some("narwharf; hit; detail=negative")
}

/// Lets the gateway see its bucket. Before it has, it checks the 404 of a HEAD by a GET, because
/// HEAD cannot tell a missing object from a missing bucket.
async fn see_the_bucket(bed: &TestBed) {
    let seen = bed.bucket.publish(Package::named("seen"));
    assert_eq!(bed.ask(get(&seen.narinfo)).await.status, 200);
    bed.bucket.log().reset();
}

#[tokio::test]
async fn what_is_absent_is_asked_for_once() {
    let bed = TestBed::start().await;
    let absent = Package::named("absent").build();
    for (requests, key) in [&absent.narinfo, &absent.nar].into_iter().enumerate() {
        let first = bed.ask(get(key)).await;
        assert_absent(&first);
        assert!(!is_negative_hit(&first));
        for _ in 0..3 {
            let again = bed.ask(get(key)).await;
            assert_absent(&again);
            assert!(is_negative_hit(&again));
        }
        assert_eq!(bed.bucket.requests(), requests + 1, "{key}");
    }
    // Nix resumes a download only if the last answer promised ranges, whatever its status.
    let nar = bed.ask(get(&absent.nar)).await;
    assert_eq!(nar.header("accept-ranges"), Some("bytes"));
}

/// Uploaders skip what HEAD finds and upload what it does not, so HEAD of a NAR speaks for the
/// bucket while uploads are on, and may be spared otherwise.
#[tokio::test]
async fn head_of_an_absent_nar_asks_the_bucket_where_uploads_are_on() {
    let absent = Package::named("absent").build();
    for (uploads, requests) in [("true", 3), ("false", 1)] {
        let bed = TestBed::with(|s| s.set("uploads.enabled", uploads)).await;
        see_the_bucket(&bed).await;
        for _ in 0..3 {
            let answer = bed.ask(head(&absent.nar)).await;
            assert_eq!(answer.status, 404);
        }
        assert_eq!(bed.bucket.requests(), requests, "uploads.enabled={uploads}");
    }
}

/// The first thing an uploader does is to ask; its own upload must end that "no".
#[tokio::test]
async fn an_upload_ends_an_absence_before_it_is_acknowledged() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    assert_absent(&bed.ask(get(&hello.narinfo)).await);
    assert_absent(&bed.ask(get(&hello.nar)).await);
    assert_eq!(bed.ask(head(&hello.nar)).await.status, 404);
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    assert_eq!(bed.ask(head(&hello.nar)).await.status, 200);
    let narinfo = put(&hello.narinfo, &hello.narinfo_text);
    assert_eq!(bed.ask(narinfo).await.status, 201);
    let seen = bed.ask(get(&hello.narinfo)).await;
    assert!(seen.is(hello.narinfo_text.as_bytes()));
    // Neither was read back from the bucket.
    assert_eq!(bed.bucket.reads(&hello.nar), 1);
    assert_eq!(bed.bucket.reads(&hello.narinfo), 1);
}

/// The bucket says "absent", an upload overtakes the answer, and then the answer arrives.
#[tokio::test]
async fn a_lookup_that_began_before_a_write_does_not_put_the_absence_back() {
    let bed = TestBed::start().await;
    see_the_bucket(&bed).await;
    let hello = Package::named("hello").build();
    // Given lookups of the NAR and of the narinfo that the bucket has answered, but not yet sent
    let nar_held = bed.bucket.hold_first_byte(&hello.nar);
    let narinfo_held = bed.bucket.hold_first_byte(&hello.narinfo);
    let of_nar = bed.ask(get(&hello.nar));
    let of_narinfo = bed.ask(get(&hello.narinfo));
    nar_held.until_played(1).await;
    narinfo_held.until_played(1).await;
    // When both are uploaded, and then the old answers come
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
    let narinfo = put(&hello.narinfo, &hello.narinfo_text);
    assert_eq!(bed.ask(narinfo).await.status, 201);
    nar_held.release();
    narinfo_held.release();
    assert_eq!(of_nar.await.status, 404, "it asked before the write");
    assert_eq!(of_narinfo.await.status, 404, "it asked before the write");
    // Then whoever asks now sees what was written
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    let seen = bed.ask(get(&hello.narinfo)).await;
    assert!(seen.is(hello.narinfo_text.as_bytes()));
}

/// The same for an uploader's HEAD, whose answer is remembered too.
#[tokio::test]
async fn a_head_that_began_before_a_write_does_not_put_the_absence_back() {
    let bed = TestBed::start().await;
    see_the_bucket(&bed).await;
    let hello = Package::named("hello").build();
    let held = bed.bucket.fault(
        Rule::on(Operation::HeadObject)
            .key(&hello.nar)
            .times(1)
            .plays(Fault::HoldFirstByte),
    );
    let asked = bed.ask(head(&hello.nar));
    held.until_played(1).await;
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
    held.release();
    assert_eq!(asked.await.status, 404);
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    assert_eq!(bed.bucket.reads(&hello.nar), 0);
}

/// Whoever asks after the acknowledgement must not be seated in a lookup from before it.
#[tokio::test]
async fn nobody_joins_a_lookup_from_before_a_write() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    let log = format!("log/{}-hello.drv", &hello.narinfo[..32]);
    let held = bed
        .bucket
        .fault(Rule::get(&log).times(1).plays(Fault::HoldFirstByte));
    let early = bed.ask(get(&log));
    held.until_played(1).await;
    // Too large to be kept in memory, so the next request has to ask the bucket.
    let text = vec![b'x'; 100_000];
    assert_eq!(bed.ask(put(&log, &text)).await.status, 201);
    assert!(bed.ask(get(&log)).await.is(&text));
    held.release();
    assert_eq!(early.await.status, 404);
    assert!(bed.ask(get(&log)).await.is(&text));
}

#[tokio::test]
async fn an_absence_is_believed_for_its_time_and_no_longer() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello");
    let keys = hello.clone().build();
    assert_absent(&bed.ask(get(&keys.narinfo)).await);
    assert_absent(&bed.ask(get(&keys.nar)).await);
    bed.bucket.publish(hello);
    assert!(is_negative_hit(&bed.ask(get(&keys.narinfo)).await));
    assert!(is_negative_hit(&bed.ask(get(&keys.nar)).await));
    bed.clock.advance(TTL);
    assert!(
        bed.ask(get(&keys.narinfo))
            .await
            .is(keys.narinfo_text.as_bytes())
    );
    assert!(bed.ask(get(&keys.nar)).await.is(&keys.nar_bytes));
}

/// An absence is a guess about the future, so it ends with the process that made it.
#[tokio::test]
async fn an_absence_is_not_kept_over_a_restart() {
    let mut bed = TestBed::start().await;
    let hello = Package::named("hello");
    let keys = hello.clone().build();
    assert_absent(&bed.ask(get(&keys.narinfo)).await);
    bed.bucket.publish(hello);
    bed.restart().await;
    assert_eq!(bed.ask(get(&keys.narinfo)).await.status, 200);
}

/// A flood of random hashes has a space of its own and pushes out no narinfo.
#[tokio::test]
async fn absences_are_bounded_in_a_space_of_their_own() {
    let bed = TestBed::with(|s| s.set("memory.negative", "64KiB")).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    bed.ask(get(&hello.narinfo)).await;
    let mut connection = bed.connect().await;
    for n in 0..500 {
        let answer = connection.ask(&get(&format!("{n:032}.narinfo"))).await;
        assert_absent(&answer);
    }
    bed.until("the negative entries within their bytes", || {
        bed.metric("narwharf_memory_bytes{cache=\"negative\"}") <= 64 << 10
    })
    .await;
    assert!(bed.metric("narwharf_memory_entries{cache=\"negative\"}") > 0);
    let still = bed.ask(get(&hello.narinfo)).await;
    assert_eq!(
        still.header("cache-status"),
        Some("narwharf; hit; detail=memory")
    );
}

/// Whatever else goes wrong, nobody has said "no": 503 now, and asked anew the next time.
#[tokio::test]
async fn only_a_definite_answer_makes_an_absence() {
    let bed = TestBed::with(|s| s.set("bucket.first_byte_timeout", "2400ms")).await;
    for (at, fault) in [
        Fault::Status(500, "InternalError"),
        Fault::Status(503, "SlowDown"),
        Fault::Status(429, "TooManyRequests"),
        Fault::Status(403, "AccessDenied"),
        Fault::Status(401, "Unauthorized"),
        Fault::Status(404, "NoSuchBucket"),
        Fault::Status(410, "Gone"),
        Fault::Reset,
        Fault::Silence,
        Fault::Html200,
    ]
    .into_iter()
    .enumerate()
    {
        let hello = bed.bucket.publish(Package::named(&format!("hello-{at}")));
        for (key, bytes) in [
            (&hello.narinfo, hello.narinfo_text.as_bytes()),
            (&hello.nar, hello.nar_bytes.as_slice()),
        ] {
            let broken = bed.bucket.fault(Rule::any().key(key).plays(fault.clone()));
            let answer = bed.ask(get(key)).await;
            assert_eq!(answer.status, 503, "{fault:?}: {key}: {}", answer.text());
            assert_eq!(answer.header("retry-after"), Some("8"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            let headed = bed.ask(head(key)).await;
            assert_eq!(headed.status, 503, "{fault:?}: HEAD {key}");
            broken.release();
            assert!(bed.ask(get(key)).await.is(bytes), "{fault:?}: {key}");
        }
    }
}

/// A key that may read but not list is told 403 for what is absent: nobody can tell, so nobody does.
#[tokio::test]
async fn a_bucket_that_cannot_tell_absent_from_forbidden_is_not_believed() {
    let bed = TestBed::start().await;
    let absent = Package::named("absent").build();
    let _blind = bed.bucket.fault(
        Rule::any()
            .absent()
            .plays(Fault::Status(403, "AccessDenied")),
    );
    for key in [&absent.narinfo, &absent.nar] {
        assert_eq!(bed.ask(get(key)).await.status, 503, "{key}");
        assert_eq!(bed.ask(head(key)).await.status, 503, "{key}");
    }
}
