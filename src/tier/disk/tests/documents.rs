//! Documents in the index: kept behind, seen at once.

use super::*;
use crate::object::ETag;
use bytes::Bytes;

pub fn document(text: &str) -> Document {
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

/// A forget is synced at once, so thousands of them for what never was would keep the disk busy.
#[test]
fn what_was_never_there_is_forgotten_without_a_write() {
    let bed = Bed::new();
    let tier = bed.open();
    tier.wait_for_index(Duration::from_secs(60));
    tier.forget_absent(&narinfo());
    assert!(tier.inner.index.wait_until_told(Duration::ZERO));
    tier.keep_document(&narinfo(), &document("StorePath: …"));
    assert!(tier.inner.index.wait_until_told(Duration::from_secs(60)));
    tier.forget_absent(&narinfo());
    assert_eq!(tier.document(&narinfo()), None);
    assert_eq!(reopened(&bed, tier).document(&narinfo()), None);
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

/// sled's files never shrink, so an index that has grown too large is copied.
#[test]
fn an_index_that_grew_too_large_keeps_all_blobs_and_the_documents_checked_last() {
    const DOCUMENTS: u64 = 2_500;
    let mut bed = Bed::new();
    bed.settings.index_size = 64 * MIB;
    let (tier, metrics) = bed.open_counting();
    let blob = key("nar/hello.nar");
    put(&tier, &blob, b"hello");
    let nth = |n: u64| key(&format!("log/{n}.drv"));
    let size = || -> u64 {
        let files = std::fs::read_dir(bed.path("index")).unwrap().flatten();
        files.map(|file| file.metadata().unwrap().len()).sum()
    };
    for n in 0..DOCUMENTS {
        let mut checked = document(&"x".repeat(20_000));
        checked.validated = UNIX_EPOCH + Duration::from_secs(n);
        tier.keep_document(&nth(n), &checked);
        if n % 100 == 99 {
            assert!(tier.inner.index.wait_until_told(PATIENCE));
        }
    }
    tier.inner.index.wait_for_generation(2);
    assert!(size() <= bed.settings.index_size, "{} bytes", size());
    assert!(tier.document(&nth(DOCUMENTS - 1)).is_some());
    assert_eq!(tier.document(&nth(0)), None);
    assert_eq!(metrics.index_rebuilds.get(), 0);
    let tier = reopened(&bed, tier);
    hit(&tier, &blob);
    assert!(tier.document(&nth(DOCUMENTS - 1)).is_some());
    assert!(
        names(&bed.settings.path)
            .iter()
            .all(|name| !name.starts_with("index."))
    );
}
