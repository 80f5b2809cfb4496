//! What a healthy bucket answers.

use super::r2sim::{Fault, Operation, Rule};
use super::*;
use crate::object::ETag;

#[tokio::test]
async fn an_object_is_one_get_and_no_stat() {
    let bed = Bed::start();
    let nar = bed.publish(NAR, 300_000);
    let stream = stream(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    assert_eq!(stream.meta.len, 300_000);
    assert_eq!(stream.range, None);
    let known = stream.meta.clone();
    assert!(known.etag.is_some() && known.last_modified.is_some());
    assert_eq!(
        known.content_type.as_deref(),
        Some("application/octet-stream")
    );
    assert_eq!(drain(stream).await.unwrap(), nar);
    assert_eq!(bed.sim.log().requests(), 1);
    let Lookup::Found(stat) = bed.origin.head(&key(NAR)).await else {
        panic!("it is there");
    };
    assert_eq!(stat, known, "HEAD and GET tell the same");
}

#[tokio::test]
async fn an_empty_object_is_an_object() {
    let bed = Bed::start();
    bed.publish(NAR, 0);
    let stream = stream(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    assert_eq!(drain(stream).await.unwrap(), b"");
}

#[tokio::test]
async fn what_is_not_there_is_absent() {
    let bed = Bed::start();
    let document = bed.origin.fetch(&key(NARINFO), &Ask::document()).await;
    assert!(matches!(document, Lookup::Absent));
    assert_eq!(bed.origin.head(&key(NARINFO)).await, Lookup::Absent);
}

/// A 404 to a HEAD does not say what is missing, so the first one is asked about again.
#[tokio::test]
async fn a_head_of_what_is_not_there_is_believed_once_the_bucket_was_seen() {
    let bed = Bed::start();
    assert_eq!(bed.origin.head(&key(NAR)).await, Lookup::Absent);
    assert_eq!(bed.sim.log().requests_of(Operation::GetObject), 1);
    assert_eq!(bed.origin.head(&key(NAR)).await, Lookup::Absent);
    assert_eq!(bed.sim.log().requests_of(Operation::GetObject), 1);
    bed.clock.advance(Duration::from_secs(61));
    assert_eq!(bed.origin.head(&key(NAR)).await, Lookup::Absent);
    assert_eq!(bed.sim.log().requests_of(Operation::GetObject), 2);
}

#[tokio::test]
async fn a_missing_bucket_says_nothing_about_its_objects() {
    let bed = Bed::with(|settings| {
        if let BucketKind::S3 { name, .. } = &mut settings.kind {
            *name = "nowhere".to_owned();
        }
    });
    let no_bucket = OriginError::NoBucket {
        bucket: "nowhere".to_owned(),
    };
    let got = bed.origin.fetch(&key(NAR), &Ask::nar()).await;
    assert_eq!(cause(got), no_bucket);
    assert_eq!(cause(bed.origin.head(&key(NAR)).await), no_bucket);
    assert_eq!(bed.origin.probe().await, Err(no_bucket));
}

#[tokio::test]
async fn a_piece_is_a_piece_of_the_whole() {
    let bed = Bed::start();
    let nar = bed.publish(NAR, 1_000);
    for (range, due) in [
        (
            RangeRequest::Closed {
                first: 10,
                last: 19,
            },
            10..20,
        ),
        (
            RangeRequest::Closed {
                first: 990,
                last: 5_000,
            },
            990..1_000,
        ),
        (RangeRequest::From { first: 400 }, 400..1_000),
        (RangeRequest::Suffix { bytes: 7 }, 993..1_000),
    ] {
        let ask = Ask {
            range: Some(range),
            ..Ask::nar()
        };
        let stream = stream(bed.origin.fetch(&key(NAR), &ask).await);
        assert_eq!(stream.meta.len, 1_000);
        assert_eq!(drain(stream).await.unwrap(), nar[due]);
    }
    let beyond = Ask {
        range: Some(RangeRequest::From { first: 1_000 }),
        ..Ask::nar()
    };
    let got = cause(bed.origin.fetch(&key(NAR), &beyond).await);
    assert!(matches!(got, OriginError::OutOfRange { .. }), "{got}");
}

#[tokio::test]
async fn conditions_are_the_buckets_to_judge() {
    let bed = Bed::start();
    bed.publish(NARINFO, 100);
    let Lookup::Found(meta) = bed.origin.head(&key(NARINFO)).await else {
        panic!("it is there");
    };
    let unless = |etag: Option<ETag>| Ask {
        if_none_match: etag,
        ..Ask::document()
    };
    let same = bed
        .origin
        .fetch(&key(NARINFO), &unless(meta.etag.clone()))
        .await;
    assert!(matches!(same, Lookup::Found(Fetched::NotModified)));
    let other = bed
        .origin
        .fetch(&key(NARINFO), &unless(ETag::new("other")))
        .await;
    assert!(matches!(other, Lookup::Found(Fetched::Object(_))));
    let only = |etag: Option<ETag>| Ask {
        if_match: etag,
        ..Ask::document()
    };
    let same = bed.origin.fetch(&key(NARINFO), &only(meta.etag)).await;
    assert!(matches!(same, Lookup::Found(Fetched::Object(_))));
    let gone = cause(
        bed.origin
            .fetch(&key(NARINFO), &only(ETag::new("other")))
            .await,
    );
    assert!(
        matches!(gone, OriginError::PreconditionFailed { .. }),
        "{gone}"
    );
}

#[tokio::test]
async fn a_weak_or_missing_tag_is_none() {
    let bed = Bed::start();
    bed.publish(NAR, 10);
    for etag in [None, Some("W/\"abc\"")] {
        let _odd = bed.sim.fault(Rule::any().plays(Fault::Etag(etag)));
        let stream = stream(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
        assert_eq!(stream.meta.etag, None);
    }
}

#[tokio::test]
async fn keys_lie_below_the_prefix() {
    let bed = Bed::with(|settings| {
        if let BucketKind::S3 { prefix, .. } = &mut settings.kind {
            *prefix = "cache/".to_owned();
        }
    });
    let narinfo = bed.publish(&format!("cache/{NARINFO}"), 50);
    let stream = stream(bed.origin.fetch(&key(NARINFO), &Ask::document()).await);
    assert_eq!(stream.collect(1_000).await.unwrap(), narinfo);
}

#[tokio::test]
async fn a_document_too_big_for_memory_is_not_read() {
    let bed = Bed::start();
    bed.publish(NARINFO, 1_001);
    let stream = stream(bed.origin.fetch(&key(NARINFO), &Ask::document()).await);
    let refused = stream.collect(1_000).await;
    assert!(
        matches!(refused, Err(OriginError::Garbage { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_was_read_is_counted() {
    let bed = Bed::start();
    bed.publish(NAR, 1_234);
    drain(stream(bed.origin.fetch(&key(NAR), &Ask::nar()).await))
        .await
        .unwrap();
    let _ = bed.origin.fetch(&key(NARINFO), &Ask::document()).await;
    let text = bed.metrics.render();
    for line in [
        "narwharf_origin_requests_total{operation=\"get\",origin=\"bucket\",outcome=\"found\"} 1",
        "narwharf_origin_requests_total{operation=\"get\",origin=\"bucket\",outcome=\"absent\"} 1",
        "narwharf_origin_bytes_total{direction=\"in\",origin=\"bucket\"} 1234",
        "narwharf_bucket_operations_total{class=\"b\"} 2",
    ] {
        let found = text.lines().any(|it| same_sample(it, line));
        assert!(found, "{line} is missing");
    }
}

/// Whether two lines are the same sample, whatever the order of their labels.
fn same_sample(one: &str, other: &str) -> bool {
    let parts = |line: &str| {
        let mut parts: Vec<String> = line
            .split(['{', '}', ','])
            .map(|part| part.trim().to_owned())
            .collect();
        parts.sort();
        parts
    };
    parts(one) == parts(other)
}
