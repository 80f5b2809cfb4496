//! Writing blobs and finding them again; all or nothing, and nothing that is not ours.

use super::*;
use std::os::unix::fs::{FileExt, symlink};

#[test]
fn a_published_blob_is_hit_now_and_after_a_restart() {
    let bed = Bed::new();
    let nar = key_of(b"hello");
    let tier = bed.open();
    miss(&tier, &nar);
    put(&tier, &nar, b"hello");
    is_as_published(&hit(&tier, &nar));
    tier.close();
    drop(tier);
    is_as_published(&hit(&bed.open(), &nar));
}

fn is_as_published(blob: &Blob) {
    assert_eq!(content(blob), b"hello");
    assert_eq!(blob.etag, facts().etag);
    assert_eq!(blob.last_modified, facts().last_modified);
    assert!(blob.verified);
}

#[test]
fn a_person_finds_the_bytes_under_the_keys_name() {
    let bed = Bed::new();
    put(&bed.open(), &key("nar/hello.nar"), b"hello");
    assert_eq!(fs::read(bed.path("nar/he/hello.nar")).unwrap(), b"hello");
}

#[test]
fn what_the_origin_did_not_say_is_not_made_up() {
    let bed = Bed::new();
    let nar = key_of(b"hello");
    let tier = bed.open();
    let mut writer = tier.reserve(&nar, 5).unwrap();
    writer.write(b"hello").unwrap();
    let nothing = BlobFacts {
        etag: None,
        last_modified: None,
        verified: false,
    };
    writer.publish(nothing).unwrap();
    let blob = hit(&tier, &nar);
    assert_eq!((blob.etag, blob.last_modified), (None, None));
    assert!(!blob.verified);
}

/// A client waits for its first byte while a file is made.
#[test]
fn a_writer_takes_the_file_that_was_made_ahead_and_leaves_one_for_the_next() {
    let bed = Bed::new();
    let tier = bed.open();
    let spares = || tier.inner.spares.count();
    let made = spares();
    if made == 0 {
        return; // A file system without unnamed files.
    }
    let first = tier.reserve(&key("nar/first.nar"), 5).unwrap();
    let mut second = tier.reserve(&key("nar/second.nar"), 6).unwrap();
    assert_eq!((spares(), names(&bed.path("tmp")).len()), (made - 1, 2));
    second.write(b"second").unwrap();
    second.publish(facts()).unwrap();
    drop(first);
    assert_eq!(spares(), made);
    for n in 0..20 {
        put(&tier, &key(&format!("nar/{n:02}.nar")), b"spared");
        let path = bed.path(&format!("nar/{n:02}/{n:02}.nar"));
        assert_eq!(fs::read(path).unwrap(), b"spared");
    }
    assert_eq!(spares(), made);
    assert_eq!(names(&bed.path("tmp")), [""; 0]);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let bed = Bed::new();
    let nar = key_of(b"hello");
    let tier = bed.open();
    let before = locked(&tier.inner.books).total();
    let mut writer = tier.reserve(&nar, 100 * KIB).unwrap();
    writer.write(b"hel").unwrap();
    assert_eq!(names(&bed.path("tmp")).len(), 1);
    drop(writer);
    assert_eq!(names(&bed.path("tmp")), [""; 0]);
    miss(&tier, &nar);
    let books = locked(&tier.inner.books);
    assert_eq!(
        (books.granted, tier.inner.written.load(Ordering::Relaxed)),
        (0, 0)
    );
    assert!(
        books.total() <= before + files::BLOCK,
        "only the new folder stays"
    );
}

#[test]
fn readers_follow_the_growing_file_and_keep_it_after_it_is_gone() {
    let bed = Bed::new();
    let nar = key_of(b"hello");
    let tier = bed.open();
    let mut writer = tier.reserve(&nar, 5).unwrap();
    let reader = writer.reader();
    let mut seen = [0; 5];
    writer.write(b"he").unwrap();
    assert_eq!(reader.read_at(&mut seen, 0).unwrap(), 2);
    writer.write(b"llo").unwrap();
    assert_eq!(writer.written(), 5);
    assert_eq!(writer.digest(), Sha256Hash::of(b"hello"));
    writer.publish(facts()).unwrap();
    assert!(tier.remove(&nar));
    assert!(!tier.remove(&nar));
    reader.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(&seen, b"hello");
}

#[test]
fn a_blob_written_out_of_order_has_the_bytes_and_the_hash_of_the_whole() {
    let bed = Bed::new();
    let whole: Vec<u8> = (0..900 * KIB).map(|at| (at * 31 % 251) as u8).collect();
    let nar = key_of(&whole);
    let tier = bed.open();
    let mut writer = tier.reserve(&nar, whole.len() as u64).unwrap();
    let piece = 100 * KIB as usize;
    for part in [3, 0, 8, 1, 2, 7, 5, 4, 6] {
        let at = part * piece;
        writer.write_at(at as u64, &whole[at..at + piece]).unwrap();
    }
    assert_eq!(writer.written(), whole.len() as u64);
    writer.hash_rest().unwrap();
    assert_eq!(writer.digest(), Sha256Hash::of(&whole));
    writer.publish(facts()).unwrap();
    assert_eq!(content(&hit(&tier, &nar)), whole);
}

#[test]
fn readers_may_have_what_lies_before_the_first_gap() {
    let bed = Bed::new();
    let tier = bed.open();
    let mut writer = tier.reserve(&key_of(b"x"), 9).unwrap();
    writer.write_at(6, b"ghi").unwrap();
    assert_eq!(writer.written(), 0);
    writer.write_at(0, b"abc").unwrap();
    assert_eq!(writer.written(), 3);
    writer.write_at(3, b"def").unwrap();
    assert_eq!(writer.written(), 9);
}

#[test]
fn a_blob_with_a_gap_or_with_bytes_written_twice_is_never_published() {
    let bed = Bed::new();
    let nar = key_of(b"abcdef");
    let tier = bed.open();
    let mut writer = tier.reserve(&nar, 6).unwrap();
    writer.write_at(3, b"def").unwrap();
    assert!(writer.write_at(4, b"x").is_err());
    assert!(writer.publish(facts()).is_err());
    miss(&tier, &nar);
    assert_eq!(names(&bed.path("tmp")), [""; 0]);
}

#[test]
fn more_than_was_reserved_is_refused_and_less_gives_the_rest_back() {
    let bed = Bed::new();
    let tier = bed.open();
    let mut writer = tier.reserve(&key_of(b"x"), 4).unwrap();
    assert!(writer.write(b"hello").is_err());
    let nar = key_of(b"hello");
    let mut writer = tier.reserve(&nar, MIB).unwrap();
    writer.write(b"hello").unwrap();
    let blob = writer.publish(facts()).unwrap();
    assert_eq!(blob.len, 5);
    assert!(blob.file.metadata().unwrap().blocks() * 512 < MIB);
    assert_eq!(content(&hit(&tier, &nar)), b"hello");
}

#[test]
fn an_empty_blob_is_a_blob() {
    let bed = Bed::new();
    let tier = bed.open();
    put(&tier, &key_of(b""), b"");
    assert_eq!(hit(&tier, &key_of(b"")).len, 0);
}

#[test]
fn a_second_blob_of_a_key_takes_the_place_of_the_first() {
    let bed = Bed::new();
    let nar = key("nar/renamed.nar");
    let tier = bed.open();
    put(&tier, &nar, &[1; 10_000]);
    let one = locked(&tier.inner.books).total();
    put(&tier, &nar, &[2; 9_000]);
    assert_eq!(content(&hit(&tier, &nar)), [2; 9_000]);
    assert_eq!(locked(&tier.inner.books).total(), one);
    assert_eq!(locked(&tier.inner.books).shelves.len(), 1);
}

#[test]
fn a_blob_of_another_length_is_a_miss_and_gone() {
    let bed = Bed::new();
    let nar = key("nar/hello.nar");
    let tier = bed.open();
    for damage in [&b"hell"[..], b"hello!", b""] {
        put(&tier, &nar, b"hello");
        fs::write(bed.path("nar/he/hello.nar"), damage).unwrap();
        miss(&tier, &nar);
        assert_eq!(names(&bed.path("nar/he")), [""; 0]);
        assert_eq!(locked(&tier.inner.books).shelves.len(), 0);
    }
    put(&tier, &nar, b"hello");
    fs::remove_file(bed.path("nar/he/hello.nar")).unwrap();
    miss(&tier, &nar);
    assert_eq!(locked(&tier.inner.books).shelves.bytes(), 0);
}

#[test]
fn what_is_not_ours_at_a_blobs_place_is_ignored_and_untouched() {
    let bed = Bed::new();
    let tier = bed.open();
    let secret = bed.outside("secret");
    fs::write(&secret, "secret").unwrap();
    fs::create_dir(bed.path("nar/li")).unwrap();
    symlink(&secret, bed.path("nar/li/link.nar")).unwrap();
    fs::create_dir_all(bed.path("nar/fo/folder.nar")).unwrap();
    symlink(bed.outside(""), bed.path("nar/se")).unwrap();
    fs::rename(&secret, bed.outside("secret.nar")).unwrap();
    for text in ["nar/link.nar", "nar/folder.nar", "nar/secret.nar"] {
        let nar = key(text);
        miss(&tier, &nar);
        assert!(!tier.remove(&nar), "{text}");
        let stored = tier.reserve(&nar, 1).map_err(drop).and_then(|mut writer| {
            writer.write(b"x").map_err(drop)?;
            writer.publish(facts()).map(drop).map_err(drop)
        });
        assert!(stored.is_err(), "{text} must not be replaced");
        tier.inner.health.worked();
    }
    assert!(bed.path("nar/li/link.nar").is_symlink());
    assert!(bed.path("nar/fo/folder.nar").is_dir());
    assert_eq!(fs::read(bed.outside("secret.nar")).unwrap(), b"secret");
    assert_eq!(names(&bed.path("tmp")), [""; 0]);
}

#[test]
fn quarantine_sets_the_wrong_bytes_aside_and_nothing_else() {
    let bed = Bed::new();
    let nar = key("nar/hello.nar");
    let (tier, metrics) = bed.open_counting();
    let rotten = put(&tier, &nar, b"hellO");
    put(&tier, &nar, b"hello");
    tier.quarantine(&nar, &rotten);
    assert_eq!(content(&hit(&tier, &nar)), b"hello", "the newer one stays");
    let rotten = hit(&tier, &nar);
    tier.quarantine(&nar, &rotten);
    miss(&tier, &nar);
    assert_eq!(metrics.disk_quarantined.get(), 1);
    let [name] = &names(&bed.path("quarantine"))[..] else {
        panic!("one file");
    };
    assert!(name.ends_with("-hello.nar"));
    assert!(locked(&tier.inner.books).total() >= allocated_below(&bed.settings.path));
}

#[test]
fn the_metrics_tell_what_is_there() {
    let bed = Bed::new();
    let (tier, metrics) = bed.open_counting();
    put(&tier, &key_of(b"hello"), b"hello");
    bed.clock.advance(Duration::from_secs(7));
    let mut writer = tier.reserve(&key_of(b"x"), MIB).unwrap();
    writer.write(&[0; 5000]).unwrap();
    let text = metrics.render();
    for line in [
        "narwharf_disk_blobs 1",
        "narwharf_disk_bytes 9096",
        "narwharf_disk_oldest_idle_seconds 7",
        "narwharf_disk_capacity_bytes 67108864",
        "narwharf_disk_state{state=\"ok\"} 1",
        "narwharf_index_state{state=\"ok\"} 1",
        "narwharf_index_rebuilds_total 0",
    ] {
        assert!(text.contains(line), "{line} is missing");
    }
    assert!(metrics.disk_reserved_bytes.get() >= (MIB - 5000) as i64);
}
