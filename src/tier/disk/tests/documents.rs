//! Documents in the index: kept behind, seen at once.

use super::*;
use crate::object::ETag;
use bytes::Bytes;

fn document(text: &str) -> Document {
    Document {
        bytes: Bytes::copy_from_slice(text.as_bytes()),
        etag: ETag::new("v1"),
        last_modified: Some(UNIX_EPOCH + Duration::from_secs(7)),
        content_type: Some("text/x-nix-narinfo".to_owned()),
        content_encoding: None,
        validated: whole_ms(SystemTime::now()),
    }
}

fn narinfo() -> ObjectKey {
    key("0c2gpm3ja1m7shgl5xb0n0j7hyzcpsnn.narinfo")
}

fn reopened(bed: &Bed, tier: DiskTier) -> DiskTier {
    tier.close();
    drop(tier);
    bed.open()
}

#[test]
fn a_document_is_there_at_once_and_after_a_restart() {
    let bed = Bed::new();
    let tier = bed.open();
    let kept = document("StorePath: …");
    tier.keep_document(&narinfo(), &kept);
    assert_eq!(tier.document(&narinfo()), Some(kept.clone()));
    assert_eq!(reopened(&bed, tier).document(&narinfo()), Some(kept));
}

#[test]
fn a_forgotten_document_is_gone_at_once_and_after_a_restart() {
    let bed = Bed::new();
    let mut tier = bed.open();
    for round in 0..50 {
        tier.keep_document(&narinfo(), &document(&format!("round {round}")));
        tier.forget_document(&narinfo());
        assert_eq!(tier.document(&narinfo()), None);
    }
    tier = reopened(&bed, tier);
    assert_eq!(tier.document(&narinfo()), None);
}

#[test]
fn the_last_of_many_keeps_is_what_stays() {
    let bed = Bed::new();
    let tier = bed.open();
    for round in 0..2000 {
        tier.keep_document(&narinfo(), &document(&format!("round {round}")));
    }
    let found = reopened(&bed, tier).document(&narinfo());
    assert_eq!(
        found.map(|found| found.bytes),
        Some(Bytes::from("round 1999"))
    );
}

#[test]
fn a_document_too_large_to_keep_takes_the_older_one_with_it() {
    let bed = Bed::new();
    let tier = bed.open();
    tier.keep_document(&narinfo(), &document("small"));
    tier.keep_document(&narinfo(), &document(&"x".repeat(MAX_DOCUMENT + 1)));
    assert_eq!(tier.document(&narinfo()), None);
}

#[test]
fn without_an_index_documents_live_in_memory() {
    let bed = Bed::new();
    let tier = bed.open();
    tier.close();
    tier.keep_document(&narinfo(), &document("late"));
    let found = tier.document(&narinfo());
    assert_eq!(found.map(|found| found.bytes), Some(Bytes::from("late")));
}
