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

#[test]
fn a_document_that_was_only_checked_again_is_not_written_again() {
    let bed = Bed::new();
    let tier = bed.open();
    let mut checked = document("StorePath: …");
    for second in 0..20 {
        checked.validated = UNIX_EPOCH + Duration::from_secs(second);
        tier.keep_document(&narinfo(), &checked);
        assert!(tier.inner.index.wait_until_told(PATIENCE));
    }
    let once = log_len(&bed);
    assert!((1..300).contains(&once), "{once} bytes");
    let tier = reopened(&bed, tier);
    assert_eq!(tier.document(&narinfo()), Some(checked));
    tier.keep_document(&narinfo(), &document("StorePath: ………"));
    assert!(tier.inner.index.wait_until_told(PATIENCE));
    assert!(log_len(&bed) > once, "a new text is written");
}

/// A crash may leave places of documents that never came to lie there, and others in their stead.
#[test]
fn documents_whose_bytes_are_lost_are_not_there_and_can_be_kept_anew() {
    let bed = Bed::new();
    let tier = bed.open();
    let nth = |n: usize| key(&format!("log/{n}.drv"));
    for n in 0..10 {
        tier.keep_document(&nth(n), &document("of equal length"));
    }
    tier.close();
    drop(tier);
    let log = bed.path("index/documents");
    let mut bytes = std::fs::read(&log).unwrap();
    let record = bytes.len() / 10;
    bytes.truncate(5 * record + 1);
    bytes.rotate_left(record);
    std::fs::write(&log, bytes).unwrap();
    let tier = bed.open();
    for n in 0..10 {
        assert_eq!(tier.document(&nth(n)), None, "{n}");
        tier.keep_document(&nth(n), &document("anew"));
    }
    let tier = reopened(&bed, tier);
    for n in 0..10 {
        let found = tier.document(&nth(n)).expect("it was kept anew");
        assert_eq!(found.bytes, "anew");
    }
    assert_eq!(tier.index_state(), State::Ok);
}

/// sled's files and the log never shrink, so an index that has grown too large is copied.
#[test]
fn an_index_that_grew_too_large_keeps_all_blobs_and_the_documents_checked_last() {
    const BATCH: u64 = 100;
    let mut bed = Bed::new();
    bed.settings.index_size = 64 * MIB;
    let (tier, metrics) = bed.open_counting();
    let blob = key("nar/hello.nar");
    put(&tier, &blob, b"hello");
    let nth = |n: u64| key(&format!("log/{n}.drv"));
    let mut kept = 0;
    while tier.inner.index.generation() < 2 {
        for n in kept..kept + BATCH {
            let mut checked = document(&"x".repeat(20_000));
            checked.validated = UNIX_EPOCH + Duration::from_secs(n);
            tier.keep_document(&nth(n), &checked);
        }
        assert!(tier.inner.index.wait_until_told(PATIENCE));
        kept += BATCH;
    }
    // Of the last batch some may have been told to the new database; those before it were copied.
    let copied = kept - BATCH - 1;
    let size = index_len(&bed);
    assert!(size <= bed.settings.index_size, "{size} bytes");
    assert!(tier.document(&nth(copied)).is_some());
    assert_eq!(tier.document(&nth(0)), None);
    assert_eq!(metrics.index_rebuilds.get(), 0);
    let tier = reopened(&bed, tier);
    hit(&tier, &blob);
    assert!(tier.document(&nth(copied)).is_some());
    assert!(
        names(&bed.settings.path)
            .iter()
            .all(|name| !name.starts_with("index."))
    );
}

#[test]
fn an_index_full_of_what_was_replaced_loses_nothing_by_being_made_small() {
    const DOCUMENTS: usize = 150;
    let mut bed = Bed::new();
    bed.settings.index_size = 32 * MIB;
    let tier = bed.open();
    let nth = |n: usize| key(&format!("log/{n}.drv"));
    let mut steady = document("never replaced");
    steady.validated += Duration::from_secs(3600);
    tier.keep_document(&narinfo(), &steady);
    let mut round = 0;
    while tier.inner.index.generation() < 3 {
        round += 1;
        for n in 0..DOCUMENTS {
            let text = format!("round {round} {}", "x".repeat(20_000));
            tier.replace_document(&nth(n), &document(&text));
        }
        assert!(tier.inner.index.wait_until_told(PATIENCE));
    }
    let text = format!("round {round} ");
    for n in 0..DOCUMENTS {
        let found = tier.document(&nth(n)).expect("all are there");
        assert!(found.bytes.starts_with(text.as_bytes()));
    }
    let size = index_len(&bed);
    assert!(size <= bed.settings.index_size, "{size} bytes");
    assert_eq!(tier.document(&narinfo()), Some(steady));
}

fn log_len(bed: &Bed) -> u64 {
    let log = std::fs::metadata(bed.path("index/documents"));
    log.expect("there is a log").len()
}

/// Bytes of all of its files.
fn index_len(bed: &Bed) -> u64 {
    let files = std::fs::read_dir(bed.path("index")).unwrap().flatten();
    files.map(|file| file.metadata().unwrap().len()).sum()
}
