//! Starting after a crash, on a damaged index, and in a directory with other things in it.

use super::*;
use std::os::unix::fs::symlink;

const HELLO: &str = "nar/hello.nar";
const ODD: &str = "team/nar/hello.nar?x=1";

#[test]
fn each_step_of_a_commit_that_a_crash_interrupts_leaves_all_or_nothing() {
    let bed = Bed::new();
    let tier = bed.open();
    let odd = tier.inner.layout.place(&key(ODD));
    tier.close();
    drop(tier);
    // Written in part, under its temporary name.
    fs::write(bed.path("tmp/00000000000000ff.part"), "hel").unwrap();
    // The sidecar renamed, its blob not yet.
    fs::create_dir_all(&odd.folder).unwrap();
    fs::write(odd.sidecar.as_ref().unwrap(), format!("{ODD}\n")).unwrap();
    // Renamed, and the index not yet told.
    fs::create_dir_all(bed.path("nar/he")).unwrap();
    fs::write(bed.path("nar/he/hello.nar"), "hello").unwrap();

    let tier = bed.open();
    assert_eq!(names(&bed.path("tmp")), [""; 0]);
    assert_eq!(names(&odd.folder), [""; 0]);
    miss(&tier, &key(ODD));
    assert_eq!(content(&unindexed(&tier, &key(HELLO))), b"hello");
    assert_eq!(
        locked(&tier.inner.books).shelves.len(),
        1,
        "it counts at once"
    );
}

#[test]
fn an_entry_without_a_file_is_struck() {
    let bed = Bed::new();
    let tier = bed.open();
    put(&tier, &key(HELLO), b"hello");
    tier.close();
    drop(tier);
    fs::remove_file(bed.path("nar/he/hello.nar")).unwrap();
    let tier = bed.open();
    miss(&tier, &key(HELLO));
    assert_eq!(tier.inner.index.blob(&key(HELLO)), None);
}

#[test]
fn an_unindexed_blob_is_adopted_for_good_or_quarantined() {
    let bed = Bed::new();
    bed.open();
    fs::create_dir_all(bed.path("nar/he")).unwrap();
    fs::write(bed.path("nar/he/hello.nar"), "hello").unwrap();
    fs::write(bed.path("nar/he/help.nar"), "rotten").unwrap();
    let tier = bed.open();
    tier.adopt(&key(HELLO), &unindexed(&tier, &key(HELLO)));
    assert!(hit(&tier, &key(HELLO)).verified);
    let rotten = key("nar/help.nar");
    tier.quarantine(&rotten, &unindexed(&tier, &rotten));
    miss(&tier, &rotten);
    tier.close();
    drop(tier);
    hit(&bed.open(), &key(HELLO));
}

#[test]
fn a_blob_replaced_while_it_was_being_read_is_not_adopted() {
    let bed = Bed::new();
    bed.open();
    fs::create_dir_all(bed.path("nar/he")).unwrap();
    fs::write(bed.path("nar/he/hello.nar"), "hello").unwrap();
    let tier = bed.open();
    let read = unindexed(&tier, &key(HELLO));
    fs::remove_file(bed.path("nar/he/hello.nar")).unwrap();
    fs::write(bed.path("nar/he/hello.nar"), "other").unwrap();
    tier.adopt(&key(HELLO), &read);
    unindexed(&tier, &key(HELLO));
}

#[test]
fn a_lost_index_is_counted_as_rebuilt_and_a_first_one_is_not() {
    let bed = Bed::new();
    let (tier, metrics) = bed.open_counting();
    assert_eq!(metrics.index_rebuilds.get(), 0);
    drop(tier);
    fs::remove_dir_all(bed.path("index")).unwrap();
    let (_tier, metrics) = bed.open_counting();
    assert_eq!(metrics.index_rebuilds.get(), 1);
}

#[test]
fn only_one_broken_index_is_kept() {
    let bed = Bed::new();
    for round in 1..4 {
        let (tier, metrics) = bed.open_counting();
        drop(tier);
        fs::write(bed.path("index/conf"), [0xff; 50]).unwrap();
        drop(metrics);
        bed.open();
        let broken = names(&bed.settings.path)
            .into_iter()
            .filter(|name| name.starts_with("index.broken"));
        assert_eq!(
            broken.collect::<Vec<_>>(),
            [format!("index.broken-{round}")]
        );
    }
}

#[test]
fn a_key_that_is_no_file_name_is_found_again_by_its_sidecar() {
    let bed = Bed::new();
    let tier = bed.open();
    put(&tier, &key(ODD), b"odd");
    let place = tier.inner.layout.place(&key(ODD));
    tier.close();
    drop(tier);
    fs::remove_dir_all(bed.path("index")).unwrap();
    let tier = bed.open();
    assert!(locked(&tier.inner.books).shelves.get(&key(ODD)).is_some());
    unindexed(&tier, &key(ODD));
    drop(tier);
    fs::write(place.sidecar.unwrap(), "log/another.drv\n").unwrap();
    let tier = bed.open();
    assert_eq!(
        locked(&tier.inner.books).shelves.len(),
        0,
        "nothing can ask for it"
    );
    assert!(!place.path.exists());
}

#[test]
fn what_is_not_ours_is_neither_counted_nor_touched() {
    let bed = Bed::new();
    drop(bed.open());
    let foreign = [
        "notes.txt",
        "tmp/notes.part",
        "nar/readme",
        "nar/he/notes.txt",
        "nar/xy/hello.nar",
        "nar/long/hello.nar",
        "quarantine/notes.txt",
        "lost+found/x",
    ];
    for path in foreign.map(|path| bed.path(path)) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "mine").unwrap();
    }
    symlink(bed.path("notes.txt"), bed.path("nar/he/hello.nar")).unwrap();
    symlink(bed.path("nar/he"), bed.path("nar/ab")).unwrap();
    let tier = bed.open();
    assert_eq!(locked(&tier.inner.books).shelves.len(), 0);
    tier.inner.evict_bytes(u64::MAX).unwrap();
    for path in foreign {
        assert_eq!(fs::read(bed.path(path)).unwrap(), b"mine", "{path}");
    }
    assert!(bed.path("nar/he/hello.nar").is_symlink());
}

#[test]
fn a_second_tier_on_the_same_directory_is_refused_and_takes_no_temporaries() {
    let bed = Bed::new();
    let tier = bed.open();
    let _writer = tier.reserve(&key(HELLO), 5).unwrap();
    let second = DiskTier::open(&bed.settings, Arc::new(Metrics::new()), bed.clock.clone());
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    assert_eq!(names(&bed.path("tmp")).len(), 1);
}

#[test]
fn a_quarantined_file_still_counts_after_a_restart() {
    let bed = Bed::new();
    let tier = bed.open();
    let rotten = put(&tier, &key(HELLO), &[0; 100_000]);
    tier.quarantine(&key(HELLO), &rotten);
    drop(tier);
    let tier = bed.open();
    assert_eq!(locked(&tier.inner.books).quarantined.len(), 1);
    assert!(locked(&tier.inner.books).total() >= allocated_below(&bed.settings.path));
}

#[test]
fn a_sick_disk_is_a_refused_reservation_until_it_is_well() {
    let bed = Bed::new();
    let tier = bed.open();
    put(&tier, &key(HELLO), b"hello");
    fs::remove_dir(bed.path("tmp")).unwrap();
    let refusal = tier.reserve(&key(ODD), 5).unwrap_err();
    assert!(matches!(refusal, NoRoom::Disk(_)), "{refusal}");
    assert!(matches!(tier.state(), State::Degraded(_)));
    hit(&tier, &key(HELLO));
    keeper::try_again(&tier.inner).unwrap();
    tier.inner.health.worked();
    put(&tier, &key(ODD), b"odd");
}

#[test]
fn a_directory_that_was_moved_away_is_not_made_anew_underneath() {
    let bed = Bed::new();
    let tier = bed.open();
    fs::rename(&bed.settings.path, bed.outside("moved")).unwrap();
    assert!(matches!(tier.reserve(&key(HELLO), 5), Err(NoRoom::Disk(_))));
    assert!(keeper::try_again(&tier.inner).is_err());
    assert!(!bed.settings.path.exists());
    fs::rename(bed.outside("moved"), &bed.settings.path).unwrap();
    keeper::try_again(&tier.inner).unwrap();
}

#[test]
fn an_index_that_breaks_while_serving_is_replaced_and_told_everything() {
    let bed = Bed::new();
    let (tier, metrics) = bed.open_counting();
    put(&tier, &key(HELLO), b"hello");
    let unchecked = key("nar/unchecked.nar");
    fs::create_dir(bed.path("nar/un")).unwrap();
    fs::write(bed.path("nar/un/unchecked.nar"), "x").unwrap();
    unindexed(&tier, &unchecked);

    tier.inner.index.break_now();
    assert_eq!(hit(&tier, &key(HELLO)).len, 5, "service goes on");
    tier.inner.index.wait_for_generation(2);
    tier.inner.reconcile();
    assert_eq!(metrics.index_rebuilds.get(), 1);
    assert_eq!(tier.index_state(), State::Ok);
    tier.close();
    drop(tier);
    let tier = bed.open();
    hit(&tier, &key(HELLO));
    unindexed(&tier, &unchecked);
}

/// A burst of uses while the index is slow or away.
#[test]
fn what_the_index_has_no_room_to_be_told_is_told_later() {
    const BLOBS: usize = 70_000;
    let bed = Bed::new();
    let tier = bed.open();
    tier.close();
    let entry = shelves::Entry {
        len: 1,
        blocks: 0,
        used: 1,
        facts: Some(shelves::Facts {
            etag: None,
            verified: true,
            digest: None,
        }),
    };
    let keys: Vec<_> = (0..BLOBS).map(|n| key(&format!("nar/{n}.nar"))).collect();
    for nar in &keys {
        let mut books = locked(&tier.inner.books);
        books.shelves.put(nar.clone(), entry.clone());
    }
    assert!(!tier.inner.save_recency());
    let waits = |nar: &&ObjectKey| tier.inner.index.blob(nar).is_some();
    let told = keys.iter().filter(waits).count();
    let left = locked(&tier.inner.books).shelves.take_unsaved(BLOBS);
    assert!(told > 0 && !left.is_empty());
    assert_eq!(told + left.len(), BLOBS);
}
