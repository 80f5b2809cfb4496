//! Uploads and removals.

use std::io::Write;

use super::r2sim::{Fault, Operation, Rule};
use super::*;

/// A hold that has begun, for bodies that are in.
fn held(span: Duration) -> Hold {
    let hold = Hold::of(span);
    hold.begin(Instant::now());
    hold
}

fn file(bytes: &[u8]) -> Arc<std::fs::File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

#[tokio::test]
async fn a_file_arrives_as_it_is_with_what_is_known_of_it() {
    let bed = Bed::start();
    let nar = patterned(3_000_000);
    let body = StoreBody::File {
        file: file(&nar),
        start: 0,
        len: 3_000_000,
    };
    let about = StoreFacts {
        content_type: Some("application/x-nix-nar".to_owned()),
        ..StoreFacts::default()
    };
    let stored = bed
        .origin
        .store(&key(NAR), &body, &about, &held(PATIENT))
        .await
        .unwrap();
    assert!(!stored.existed);
    assert_eq!(
        bed.sim.object(NAR).unwrap(),
        nar,
        "no framing, no byte more or less"
    );
    let Lookup::Found(meta) = bed.origin.head(&key(NAR)).await else {
        panic!("it is there");
    };
    assert_eq!(meta.etag, stored.etag);
    assert_eq!(meta.content_type.as_deref(), Some("application/x-nix-nar"));
    assert_eq!(meta.content_encoding, None);
}

#[tokio::test]
async fn a_document_and_its_encoding_come_back() {
    let bed = Bed::start();
    let about = StoreFacts {
        content_type: Some("application/json".to_owned()),
        content_encoding: Some("br".to_owned()),
        create_only: false,
    };
    for text in ["one", "another"] {
        bed.origin
            .store(&key(NARINFO), &bytes(text), &about, &held(PATIENT))
            .await
            .unwrap();
        let stream = stream(bed.origin.fetch(&key(NARINFO), &Ask::document()).await);
        assert_eq!(stream.meta.content_encoding.as_deref(), Some("br"));
        assert_eq!(stream.collect(100).await.unwrap(), text);
    }
}

#[tokio::test]
async fn a_hiccup_costs_the_client_nothing() {
    for fault in [
        Fault::Status(500, "InternalError"),
        Fault::Status(429, "TooManyRequests"),
        Fault::Reset,
        Fault::ApplyThenStatus(500, "InternalError"),
        Fault::ApplyThenReset,
    ] {
        let bed = Bed::start();
        let nar = patterned(400_000);
        let body = StoreBody::File {
            file: file(&nar),
            start: 0,
            len: 400_000,
        };
        let _hiccup = bed
            .sim
            .fault(Rule::on(Operation::PutObject).times(1).plays(fault));
        let stored = bed
            .origin
            .store(&key(NAR), &body, &StoreFacts::default(), &held(PATIENT))
            .await;
        assert!(stored.is_ok(), "{stored:?}");
        assert_eq!(bed.sim.object(NAR).unwrap(), nar);
    }
}

#[tokio::test]
async fn create_only_leaves_what_is_there() {
    let bed = Bed::start();
    let about = StoreFacts {
        create_only: true,
        ..StoreFacts::default()
    };
    let first = bed
        .origin
        .store(&key(NAR), &bytes("first"), &about, &held(PATIENT))
        .await;
    assert!(!first.unwrap().existed);
    let second = bed
        .origin
        .store(&key(NAR), &bytes("second"), &about, &held(PATIENT))
        .await;
    assert!(second.unwrap().existed);
    assert_eq!(bed.sim.object(NAR).unwrap(), b"first");
}

#[tokio::test]
async fn an_upload_is_failed_only_by_the_buckets_word_or_silence() {
    let bed = Bed::with(|settings| {
        settings.first_byte_timeout = BRIEF;
        settings.idle_timeout = BRIEF;
    });
    for fault in [Fault::Status(403, "AccessDenied"), Fault::Silence] {
        let _sick = bed.sim.fault(Rule::any().plays(fault));
        let refused = bed
            .origin
            .store(
                &key(NAR),
                &bytes("x"),
                &StoreFacts::default(),
                &held(Duration::ZERO),
            )
            .await;
        assert!(refused.is_err());
        assert_eq!(bed.sim.object(NAR), None);
    }
}

/// A part of 16 MiB over a line that others use as well takes longer than any deadline, and arrives.
#[tokio::test]
async fn a_slow_line_fails_no_upload_that_moves() {
    const DEADLINE: Duration = Duration::from_millis(1500);
    let bed = Bed::with(|settings| {
        settings.first_byte_timeout = DEADLINE;
        settings.idle_timeout = DEADLINE;
    });
    bed.sim.line().set_bandwidth(Some(8 << 20));
    let (nar, begun) = (patterned(40 << 20), Instant::now());
    let body = StoreBody::Bytes(nar.clone().into());
    let stored = bed
        .origin
        .store(&key(NAR), &body, &StoreFacts::default(), &held(PATIENT))
        .await;
    assert!(stored.is_ok(), "{stored:?}");
    assert!(
        begun.elapsed() > 2 * DEADLINE,
        "no longer than is waited anyway"
    );
    assert!(bed.sim.object(NAR).unwrap() == nar);
}

#[tokio::test]
async fn a_file_shorter_than_announced_is_never_stored() {
    let bed = Bed::start();
    let body = StoreBody::File {
        file: file(&patterned(200_000)),
        start: 0,
        len: 200_001,
    };
    let failed = bed
        .origin
        .store(&key(NAR), &body, &StoreFacts::default(), &held(PATIENT))
        .await
        .unwrap_err();
    assert!(matches!(failed, OriginError::BadUpload { .. }), "{failed}");
    assert_eq!(bed.sim.object(NAR), None);
    assert!(
        bed.origin.health().last_failure.is_none(),
        "not the bucket's fault"
    );
}

#[tokio::test]
async fn what_is_removed_is_absent_and_may_be_removed_again() {
    let bed = Bed::start();
    bed.publish(NAR, 10);
    for _ in 0..2 {
        assert_eq!(bed.origin.remove(&key(NAR)).await, Ok(()));
        assert_eq!(bed.origin.head(&key(NAR)).await, Lookup::Absent);
    }
}
