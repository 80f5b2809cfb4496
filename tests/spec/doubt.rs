//! Whether the bucket has what it was sent: an answer that got lost, one that is not its own, and an
//! object that is not what its name says.

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{MIB, TestBed, put};

use super::multipart::{PART, assert_nothing_left, nar};
use super::upload::NEW_NIX;

#[tokio::test]
async fn a_completion_in_doubt_is_settled_by_looking() {
    for fault in [
        Fault::ApplyThenReset,
        Fault::ApplyThenStatus(500, "InternalError"),
    ] {
        let bed = TestBed::with(|s| {
            s.set("uploads.part_size", "5MiB");
            s.set("uploads.hold", "500ms");
        })
        .await;
        let big = nar("big", PART + MIB);
        let lost = Rule::on(Operation::CompleteMultipartUpload);
        let _lost = bed.bucket.fault(lost.plays(fault));
        let answer = bed.ask(put(&big.nar, &big.nar_bytes)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(bed.bucket.object(&big.nar).unwrap(), big.nar_bytes);
    }
}

/// A portal or a proxy that answers for the bucket acknowledges nothing, whatever its status.
#[tokio::test]
async fn a_page_in_the_buckets_place_is_no_acknowledgement() {
    let bed = TestBed::with(|s| {
        s.set("uploads.part_size", "5MiB");
        s.set("uploads.hold", "200ms");
    })
    .await;
    for (operation, len) in [
        (Operation::PutObject, MIB),
        (Operation::CreateMultipartUpload, PART + MIB),
        (Operation::UploadPart, PART + MIB),
        (Operation::CompleteMultipartUpload, PART + MIB),
    ] {
        let nar = nar(&format!("{operation:?}"), len);
        let page = Rule::on(operation).plays(Fault::Html200);
        let page = bed.bucket.fault(page);
        let request = put(&nar.nar, &nar.nar_bytes).header("User-Agent", NEW_NIX);
        let answer = bed.ask(request).await;
        assert_eq!(answer.status, 503, "{operation:?}: {}", answer.text());
        page.release();
        assert_nothing_left(&bed, &nar.nar).await;
    }
}

/// A damaged object would otherwise stand in the way of its own NAR for ever.
#[tokio::test]
async fn an_object_of_another_length_under_a_hash_is_replaced() {
    for kind in ["s3", "directory"] {
        let folder = tempfile::tempdir().unwrap();
        let bed = TestBed::with(|s| {
            s.set("uploads.part_size", "5MiB");
            if kind == "directory" {
                for key in ["endpoint", "name", "access_key_id", "secret_access_key"] {
                    s.unset(&format!("bucket.{key}"));
                }
                s.set("bucket.kind", kind);
                s.set("bucket.path", &folder.path().display().to_string());
            }
        })
        .await;
        for (name, len) in [("small", MIB), ("big", PART + MIB)] {
            let nar = nar(name, len);
            if kind == "directory" {
                std::fs::create_dir_all(folder.path().join("nar")).unwrap();
                std::fs::write(folder.path().join(&nar.nar), "damaged").unwrap();
            } else {
                let bucket = &bed.bucket;
                bucket.put_object(&nar.nar, b"damaged", "application/x-nix-nar");
            }
            let answer = bed.ask(put(&nar.nar, &nar.nar_bytes)).await;
            assert_eq!(answer.status, 201, "{kind}, {name}: {}", answer.text());
            let held = match kind {
                "s3" => bed.bucket.object(&nar.nar).unwrap().to_vec(),
                _ => std::fs::read(folder.path().join(&nar.nar)).unwrap(),
            };
            assert!(held == nar.nar_bytes, "{kind}, {name}");
        }
    }
}
