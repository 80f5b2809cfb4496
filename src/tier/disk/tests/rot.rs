//! Bits that flip while nobody looks: the scrubber finds them, and nothing else is harmed.

use super::*;
use std::os::unix::fs::FileExt;

/// Flips one bit of a file in place.
fn flip(path: &Path, bit: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    let at = bit / 8 % file.metadata().unwrap().len();
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], at).unwrap();
}

/// One pass, without its pauses.
fn scrub(tier: &DiskTier) {
    for folder in walk::folders(&tier.inner.layout).unwrap() {
        assert!(tier.inner.scrub_folder(&folder, |_| true).unwrap());
    }
}

/// A tier that found a blob without an entry, of which somebody said that it is right.
fn with_an_adopted_blob(bed: &Bed) -> (DiskTier, ObjectKey) {
    bed.open();
    fs::create_dir_all(bed.path("nar/he")).unwrap();
    fs::write(bed.path("nar/he/hello.nar"), "hello").unwrap();
    let (tier, nar) = (bed.open(), key("nar/hello.nar"));
    tier.adopt(&nar, &unindexed(&tier, &nar));
    (tier, nar)
}

fn bytes_of(n: usize) -> Vec<u8> {
    (0..500 + n * 7 % 9000).map(|at| (at * n) as u8).collect()
}

#[test]
fn a_thousand_flipped_bits_are_found_by_one_pass() {
    const SOUND: usize = 200;
    let bed = Bed::new();
    let (tier, metrics) = bed.open_counting();
    let keys: Vec<_> = (0..1000 + SOUND)
        .map(|n| {
            let bytes = bytes_of(n);
            put(&tier, &key_of(&bytes), &bytes);
            key_of(&bytes)
        })
        .collect();
    fs::write(bed.path("nar/notes"), "mine").unwrap();
    for (n, nar) in keys.iter().enumerate().skip(SOUND) {
        flip(&tier.inner.layout.place(nar).path, n as u64 * 7919);
    }
    scrub(&tier);
    keys[..SOUND].iter().for_each(|nar| drop(hit(&tier, nar)));
    keys[SOUND..].iter().for_each(|nar| miss(&tier, nar));
    assert_eq!(metrics.disk_quarantined.get(), 1000);
    assert_eq!(metrics.disk_scrubbed_blobs.get(), keys.len() as u64);
    assert_eq!(fs::read(bed.path("nar/notes")).unwrap(), b"mine");
    // The next request fills each anew.
    let bytes = bytes_of(SOUND);
    put(&tier, &keys[SOUND], &bytes);
    assert_eq!(content(&hit(&tier, &keys[SOUND])), bytes);
}

#[test]
fn a_name_that_is_no_hash_is_held_to_what_was_written_even_after_a_restart() {
    let bed = Bed::new();
    let tier = bed.open();
    let names = ["nar/hello.nar", "team/nar/hello.nar?x=1"].map(key);
    names.iter().for_each(|nar| drop(put(&tier, nar, b"hello")));
    tier.close();
    drop(tier);
    let tier = bed.open();
    scrub(&tier);
    for nar in &names {
        hit(&tier, nar);
        flip(&tier.inner.layout.place(nar).path, 3);
    }
    scrub(&tier);
    names.iter().for_each(|nar| miss(&tier, nar));
}

#[test]
fn what_a_lost_index_had_vouched_for_is_vouched_for_again_where_the_name_is_a_hash() {
    let bed = Bed::new();
    let tier = bed.open();
    let (named, odd) = (key_of(b"hello"), key("nar/hello.nar"));
    put(&tier, &named, b"hello");
    put(&tier, &odd, b"hello");
    tier.close();
    drop(tier);
    fs::remove_dir_all(bed.path("index")).unwrap();
    let tier = bed.open();
    scrub(&tier);
    assert!(hit(&tier, &named).verified);
    unindexed(&tier, &odd);
}

#[test]
fn the_first_reading_of_an_adopted_blob_is_what_later_ones_are_held_to() {
    let bed = Bed::new();
    let (tier, nar) = with_an_adopted_blob(&bed);
    scrub(&tier);
    hit(&tier, &nar);
    flip(&bed.path("nar/he/hello.nar"), 9);
    scrub(&tier);
    miss(&tier, &nar);
}

#[test]
fn being_read_by_the_scrubber_is_no_use() {
    let bed = Bed::new();
    let (tier, nar) = with_an_adopted_blob(&bed);
    put(&tier, &key_of(b"hello"), b"hello");
    let uses = || {
        let books = locked(&tier.inner.books);
        [&nar, &key_of(b"hello")].map(|key| books.shelves.get(key).unwrap().used)
    };
    let before = uses();
    bed.clock.advance(Duration::from_secs(60));
    scrub(&tier);
    assert_eq!(uses(), before);
}

#[test]
fn a_blob_of_another_length_is_dropped_unread() {
    let bed = Bed::new();
    let (tier, metrics) = bed.open_counting();
    put(&tier, &key("nar/hello.nar"), b"hello");
    fs::write(bed.path("nar/he/hello.nar"), "hell").unwrap();
    scrub(&tier);
    assert_eq!(names(&bed.path("nar/he")), [""; 0]);
    assert_eq!(metrics.disk_scrubbed_bytes.get(), 0);
}

#[test]
fn the_scrubber_goes_on_after_a_restart_where_it_was() {
    let bed = Bed::new();
    let tier = bed.open();
    put(&tier, &key("nar/aa.nar"), b"a");
    put(&tier, &key("nar/bb.nar"), b"b");
    let bell = hand::Bell::default();
    // The pass begins, then waits for the first folder's time.
    while tier.inner.scrub(&bell).unwrap() == Duration::ZERO {}
    bed.clock.advance(Duration::from_secs(4 * 24 * 3600));
    assert_eq!(tier.inner.scrub(&bell).unwrap(), Duration::ZERO);
    tier.close();
    drop(tier);
    let (tier, metrics) = bed.open_counting();
    assert!(tier.inner.scrub(&bell).unwrap() > Duration::ZERO);
    bed.clock.advance(Duration::from_secs(2 * 24 * 3600));
    while tier.inner.scrub(&bell).unwrap() == Duration::ZERO {}
    assert_eq!(metrics.disk_scrubbed_blobs.get(), 1, "bb, and aa not again");
    assert_eq!(metrics.disk_scrub_passes.get(), 1);
}
