//! Uploads in parts, against r2sim.

use super::r2sim::{Fault, MIN_PART, Operation, Rule};
use super::*;

const PART: usize = MIN_PART as usize;

/// A hold that has begun, for bodies that are in.
fn held() -> Hold {
    let hold = Hold::of(PATIENT);
    hold.begin(Instant::now());
    hold
}

fn parts_of(nar: &[u8]) -> Vec<Part> {
    let cut = nar.chunks(PART).enumerate();
    cut.map(|(at, bytes)| Part {
        index: at as u32,
        start: (at * PART) as u64,
        body: StoreBody::Bytes(Bytes::copy_from_slice(bytes)),
    })
    .collect()
}

async fn begin(bed: &Bed) -> PartsUpload {
    let about = StoreFacts {
        content_type: Some("application/x-nix-nar".to_owned()),
        ..StoreFacts::default()
    };
    let upload = bed.origin.begin_parts(&key(NAR), &about, &held()).await;
    upload.unwrap()
}

async fn until_none_is_open(bed: &Bed) {
    until_open(bed, 0).await;
}

async fn until_open(bed: &Bed, count: usize) {
    let deadline = Instant::now() + PATIENT;
    while bed.sim.open_multipart_uploads().len() != count {
        assert!(Instant::now() < deadline, "an upload stays open");
        tokio::task::yield_now().await;
    }
}

async fn send_all(upload: &PartsUpload, nar: &[u8]) -> Vec<PartTag> {
    let mut tags = Vec::new();
    for part in parts_of(nar).iter().rev() {
        tags.insert(0, upload.send(part, &held()).await.unwrap());
    }
    tags
}

#[tokio::test]
async fn parts_in_any_order_make_the_object_when_they_are_completed() {
    let bed = Bed::start();
    let nar = patterned(2 * PART + 123);
    let upload = begin(&bed).await;
    let tags = send_all(&upload, &nar).await;
    assert_eq!(bed.sim.object(NAR), None, "nothing is visible before");
    let stored = upload.complete(&tags, &held()).await.unwrap();
    assert_eq!(bed.sim.object(NAR).unwrap(), nar);
    let meta = bed.sim.object_meta(NAR).unwrap();
    assert_eq!(stored.etag.unwrap().as_str(), meta.etag);
    drop(upload);
    assert_eq!(
        bed.sim.log().requests_of(Operation::AbortMultipartUpload),
        0
    );
}

/// The bucket has begun two then, and one of them nobody knows.
#[tokio::test]
async fn an_upload_whose_beginning_got_lost_is_aborted_after_all() {
    for completes in [true, false] {
        let bed = Bed::start();
        let nar = patterned(PART + 1);
        // Another gateway's, of the same NAR at the same time.
        let other = begin(&bed).await;
        other.send(&parts_of(&nar)[0], &held()).await.unwrap();
        let lost = Rule::on(Operation::CreateMultipartUpload).nth(1);
        let lost = bed.sim.fault(lost.plays(Fault::ApplyThenReset));
        let upload = begin(&bed).await;
        assert_eq!(lost.played(), 1);
        assert_eq!(bed.sim.open_multipart_uploads().len(), 3);
        if completes {
            let tags = send_all(&upload, &nar).await;
            upload.complete(&tags, &held()).await.unwrap();
        }
        drop(upload);
        until_open(&bed, 1).await;
        let left = bed.sim.open_multipart_uploads();
        assert_eq!(other.note().unwrap(), format!("{NAR}\n{}", left[0].id));
        drop(other);
        until_open(&bed, 0).await;
    }
}

#[tokio::test]
async fn a_hiccup_at_any_step_costs_the_client_nothing() {
    for operation in [
        Operation::CreateMultipartUpload,
        Operation::UploadPart,
        Operation::CompleteMultipartUpload,
    ] {
        for fault in [
            Fault::Status(500, "InternalError"),
            Fault::Status(503, "SlowDown"),
            Fault::OkWithErrorBody("InternalError"),
            Fault::Reset,
        ] {
            let bed = Bed::start();
            let nar = patterned(PART + 1);
            let hiccup = bed
                .sim
                .fault(Rule::on(operation).times(1).plays(fault.clone()));
            let upload = begin(&bed).await;
            let tags = send_all(&upload, &nar).await;
            let stored = upload.complete(&tags, &held()).await;
            assert!(stored.is_ok(), "{operation:?} {fault:?}: {stored:?}");
            assert_eq!(hiccup.played(), 1, "{operation:?} {fault:?}");
            assert_eq!(bed.sim.object(NAR).unwrap(), nar);
            assert!(bed.sim.open_multipart_uploads().is_empty());
        }
    }
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_is_told_from_one_that_failed() {
    let bed = Bed::start();
    let nar = patterned(PART + 1);
    let upload = begin(&bed).await;
    let tags = send_all(&upload, &nar).await;
    let lost = Rule::on(Operation::CompleteMultipartUpload).times(1);
    let _lost = bed.sim.fault(lost.plays(Fault::ApplyThenReset));
    let again = upload.complete(&tags, &held()).await.unwrap_err();
    assert!(matches!(again, OriginError::NoUpload { .. }), "{again}");
    assert_eq!(
        bed.sim.object(NAR).unwrap(),
        nar,
        "the first try had done it"
    );
}

#[tokio::test]
async fn an_upload_that_is_dropped_is_aborted() {
    let bed = Bed::start();
    let upload = begin(&bed).await;
    send_all(&upload, &patterned(PART + 1)).await;
    assert_eq!(bed.sim.open_multipart_uploads().len(), 1);
    drop(upload);
    until_none_is_open(&bed).await;
    assert_eq!(bed.sim.object(NAR), None);
}

#[tokio::test]
async fn an_abort_outlasts_a_hiccup() {
    let bed = Bed::start();
    let sick = Rule::on(Operation::AbortMultipartUpload).times(2);
    let sick = bed
        .sim
        .fault(sick.plays(Fault::Status(500, "InternalError")));
    drop(begin(&bed).await);
    sick.until_played(2).await;
    until_none_is_open(&bed).await;
}

#[tokio::test]
async fn what_a_dead_process_left_is_swept_once_it_is_old() {
    let bed = Bed::start();
    let other = Bed::start();
    std::mem::forget(begin(&bed).await);
    std::mem::forget(begin(&other).await);
    let day = Duration::from_secs(24 * 3600);
    let sweep = |bed: &Bed| {
        let origin = bed.origin.clone();
        async move { origin.sweep_uploads(|key| key == NAR, day).await }
    };
    assert_eq!(sweep(&bed).await, Ok(0), "somebody may be at it");
    bed.clock.advance(day + Duration::from_secs(60));
    assert_eq!(sweep(&bed).await, Ok(1));
    assert!(bed.sim.open_multipart_uploads().is_empty());
    other.clock.advance(day + Duration::from_secs(60));
    let nothing_is_ours = other.origin.sweep_uploads(|_| false, day).await;
    assert_eq!(nothing_is_ours, Ok(0));
    assert_eq!(other.sim.open_multipart_uploads().len(), 1);
}

#[tokio::test]
async fn a_directory_takes_parts_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings_for("http://127.0.0.1:1");
    settings.kind = BucketKind::Directory {
        path: folder.path().to_owned(),
    };
    let origin = Origin::open(&settings, Arc::new(Metrics::new()), Clock::default()).unwrap();
    let about = StoreFacts {
        create_only: true,
        ..StoreFacts::default()
    };
    let nar = patterned(2 * PART + 5);
    for existed in [false, true] {
        let upload = origin
            .begin_parts(&key(NAR), &about, &held())
            .await
            .unwrap();
        let tags = send_all(&upload, &nar).await;
        let stored = upload.complete(&tags, &held()).await.unwrap();
        assert_eq!(stored.existed, existed);
        assert_eq!(std::fs::read(folder.path().join(NAR)).unwrap(), nar);
    }
    drop(
        origin
            .begin_parts(&key(NAR), &about, &held())
            .await
            .unwrap(),
    );
    let temporaries = folder.path().join(".narwharf-tmp");
    let deadline = Instant::now() + PATIENT;
    while std::fs::read_dir(&temporaries).unwrap().count() > 0 {
        assert!(
            Instant::now() < deadline,
            "an aborted upload leaves nothing"
        );
        tokio::task::yield_now().await;
    }
}
