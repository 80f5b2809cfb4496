//! The budget: what goes first, what is refused, and that the disk never holds more than allowed.

use super::*;
use proptest::prelude::*;
use std::sync::Barrier;

fn nar(n: usize) -> ObjectKey {
    key(&format!("nar/blob{n}.nar"))
}

#[test]
fn what_was_not_used_goes_first() {
    let bed = Bed::with_capacity(500 * KIB);
    let (tier, metrics) = bed.open_counting();
    (0..4).for_each(|n| drop(put(&tier, &nar(n), &vec![0; 100_000])));
    hit(&tier, &nar(0));
    put(&tier, &nar(4), &vec![0; 100_000]);
    miss(&tier, &nar(1));
    for n in [0, 2, 3, 4] {
        hit(&tier, &nar(n));
    }
    assert_eq!(metrics.disk_evictions.get(), 1);
    assert!(metrics.disk_evicted_bytes.get() >= 100_000);
}

#[test]
fn the_order_of_use_survives_a_restart() {
    let bed = Bed::with_capacity(500 * KIB);
    let tier = bed.open();
    for n in [2, 0, 3, 1] {
        put(&tier, &nar(n), &vec![0; 100_000]);
        bed.clock.advance(Duration::from_secs(1));
    }
    hit(&tier, &nar(2));
    tier.close();
    drop(tier);
    let tier = bed.open();
    put(&tier, &nar(4), &vec![0; 200_000]);
    miss(&tier, &nar(0));
    miss(&tier, &nar(3));
    hit(&tier, &nar(1));
    hit(&tier, &nar(2));
}

#[test]
fn what_can_never_fit_is_told_so_and_evicts_nothing() {
    let mut bed = Bed::with_capacity(500 * KIB);
    bed.settings.max_nar = Some(300 * KIB);
    let tier = bed.open();
    put(&tier, &nar(0), &[0; 1000]);
    for len in [301 * KIB, 600 * KIB, u64::MAX] {
        let refusal = tier.reserve(&nar(1), len).unwrap_err();
        assert!(matches!(refusal, NoRoom::TooLarge), "{len}: {refusal}");
    }
    let _first = tier.reserve(&nar(2), 300 * KIB).unwrap();
    let refusal = tier.reserve(&nar(3), 300 * KIB).unwrap_err();
    assert!(matches!(refusal, NoRoom::Full), "{refusal}");
    hit(&tier, &nar(0));
    assert_eq!(tier.state(), State::Ok, "being full is no illness");
}

#[test]
fn space_that_others_are_to_have_is_left_to_them() {
    let mut bed = Bed::new();
    put(&bed.open(), &nar(0), &[0; 1000]);
    bed.settings.min_free = 1 << 60;
    let tier = bed.open();
    let refusal = tier.reserve(&nar(1), 1).unwrap_err();
    assert!(matches!(refusal, NoRoom::Full), "{refusal}");
    assert_eq!(
        hit(&tier, &nar(0)).len,
        1000,
        "evicting could not have helped"
    );
}

#[test]
fn a_quarantined_file_goes_before_any_blob() {
    let bed = Bed::with_capacity(500 * KIB);
    let tier = bed.open();
    let rotten = put(&tier, &nar(0), &vec![0; 200_000]);
    put(&tier, &nar(1), &vec![0; 100_000]);
    tier.quarantine(&nar(0), &rotten);
    put(&tier, &nar(2), &vec![0; 200_000]);
    hit(&tier, &nar(1));
    assert_eq!(names(&bed.path("quarantine")), [""; 0]);
}

#[test]
fn room_is_made_before_a_request_has_to() {
    let bed = Bed::with_capacity(3200 * KIB);
    let (tier, metrics) = bed.open_counting();
    for n in 0..150 {
        wait_for_room(&tier);
        let _background_stands_still = locked(&tier.inner.evicting);
        let before = metrics.disk_evictions.get();
        drop(put(&tier, &nar(n), &[0; 50_000]));
        assert_eq!(metrics.disk_evictions.get(), before, "blob {n}");
    }
    assert!(metrics.disk_evictions.get() > 50);
}

/// Returns when the background has nothing more to evict.
fn wait_for_room(tier: &DiskTier) {
    let inner = &tier.inner;
    let books = locked(&inner.books);
    let (books, late) = inner
        .progress
        .wait_timeout_while(books, PATIENCE, |books| books.is_above_high_water())
        .unwrap();
    drop(books);
    assert!(!late.timed_out(), "nobody evicts");
}

#[test]
fn many_writers_at_once_stay_within_capacity() {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 40;
    let bed = Bed::with_capacity(2 * MIB);
    let (tier, metrics) = bed.open_counting();
    let (done, measured) = (Barrier::new(WRITERS + 1), Barrier::new(WRITERS + 1));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (tier, done, measured) = (&tier, &done, &measured);
            scope.spawn(move || {
                let mut held = None;
                for round in 0..ROUNDS {
                    let n = (writer * 31 + round * 17) % 23;
                    let len = 1 + (writer * 7919 + round * 104_729) % 400_000;
                    if let Ok(mut begun) = tier.reserve(&nar(n), len as u64) {
                        begun.write(&vec![1; len]).unwrap();
                        match round % 3 {
                            0 => held = Some(begun),
                            1 => drop(begun),
                            _ => drop(begun.publish(facts()).unwrap()),
                        }
                    }
                    done.wait();
                    measured.wait();
                }
                drop(held);
            });
        }
        for round in 0..ROUNDS {
            done.wait();
            let _still = locked(&tier.inner.evicting);
            let on_disk = allocated_below(&bed.settings.path);
            let in_books = locked(&tier.inner.books).total();
            measured.wait();
            assert!(on_disk <= in_books, "round {round}: {on_disk} > {in_books}");
            assert!(in_books <= 2 * MIB, "round {round}: {in_books}");
        }
    });
    assert!(
        metrics.disk_evictions.get() > 0,
        "the test must fill the cache"
    );
    assert_eq!(locked(&tier.inner.books).granted, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Reserve { nar: usize, len: usize },
    Publish,
    Drop,
    Lookup { nar: usize },
    Remove { nar: usize },
    Quarantine { nar: usize },
}

/// A blob being written.
struct Begun {
    nar: usize,
    removed: bool,
    writer: BlobWriter,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..12, 0usize..300_000).prop_map(|(nar, len)| Step::Reserve { nar, len }),
        4 => Just(Step::Publish),
        1 => Just(Step::Drop),
        2 => (0usize..12).prop_map(|nar| Step::Lookup { nar }),
        1 => (0usize..12).prop_map(|nar| Step::Remove { nar }),
        1 => (0usize..12).prop_map(|nar| Step::Quarantine { nar }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever is done in whatever order, the disk holds no more than the books say and the books
    /// no more than allowed; and what the books say of blobs is what a new start counts.
    #[test]
    fn the_books_cover_the_disk(steps in prop::collection::vec(step(), 1..40)) {
        let bed = Bed::with_capacity(MIB);
        let tier = bed.open();
        let mut begun: Vec<Begun> = Vec::new();
        for step in steps {
            match step {
                Step::Reserve { nar: n, len } => if let Ok(mut writer) = tier.reserve(&nar(n), len as u64) {
                    writer.write(&vec![7; len / 2]).unwrap();
                    begun.push(Begun { nar: n, removed: false, writer });
                },
                Step::Publish => if let Some(begun) = begun.pop() {
                    prop_assert_eq!(begun.writer.publish(facts()).is_err(), begun.removed);
                },
                Step::Drop => drop(begun.pop()),
                Step::Lookup { nar: n } => drop(tier.lookup(&nar(n))),
                Step::Remove { nar: n } => {
                    tier.remove(&nar(n));
                    let same = begun.iter_mut().filter(|begun| begun.nar == n);
                    same.for_each(|begun| begun.removed = true);
                }
                Step::Quarantine { nar: n } => if let BlobLookup::Hit(blob) = tier.lookup(&nar(n)) {
                    tier.quarantine(&nar(n), &blob);
                },
            }
            let _still = locked(&tier.inner.evicting);
            let books = locked(&tier.inner.books).total();
            prop_assert!(allocated_below(&bed.settings.path) <= books);
            prop_assert!(books <= MIB);
        }
        drop(begun);
        wait_for_room(&tier);
        let (books, blobs) = totals(&tier);
        tier.close();
        drop(tier);
        let (again, same_blobs) = totals(&bed.open());
        prop_assert_eq!(blobs, same_blobs);
        prop_assert!(again <= books);
    }
}

fn totals(tier: &DiskTier) -> (u64, (u64, usize)) {
    let books = locked(&tier.inner.books);
    (books.total(), (books.shelves.bytes(), books.shelves.len()))
}
