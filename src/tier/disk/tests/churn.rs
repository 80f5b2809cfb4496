//! Many times the capacity pushed through, and many blobs found at a start.

use super::*;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

const WRITERS: u64 = 4;

/// Writers that never rest, until so many bytes have gone through and so much time has passed. What
/// lies on disk is added up every few milliseconds.
fn churn(capacity: u64, bytes: u64, at_least: Duration) {
    let mut bed = Bed::with_capacity(capacity);
    bed.settings.index_size = 64 * MIB;
    let (tier, metrics) = bed.open_counting();
    let (written, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    let mut samples = 0;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (tier, written, is_over) = (&tier, &written, &is_over);
            scope.spawn(move || {
                let mut seed = writer + 1;
                while !is_over.load(Ordering::Relaxed) {
                    write_one(tier, &mut seed, capacity, written);
                }
            });
        }
        let pause = hand::Bell::default();
        while written.load(Ordering::Relaxed) < bytes || begun.elapsed() < at_least {
            {
                // Without these a file could be met twice, or one that goes and one that comes.
                let _still = locked(&tier.inner.evicting);
                let _named = locked(&tier.inner.moves);
                let on_disk = allocated_below(&bed.settings.path);
                assert!(on_disk <= capacity, "sample {samples}: {on_disk} bytes");
            }
            samples += 1;
            pause.wait(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(samples > 10 && metrics.disk_evictions.get() > 100);
    assert_eq!(tier.state(), State::Ok);
    assert_eq!(locked(&tier.inner.books).granted, 0);
}

/// Writes a blob, or half of one; now and then asks for others.
fn write_one(tier: &DiskTier, seed: &mut u64, capacity: u64, written: &AtomicU64) {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    let random = *seed >> 33;
    let len = 1 + random % (capacity / 24);
    let nar = key(&format!("nar/{:x}.nar", random % 4096 + 4096));
    let _ = tier.lookup(&key(&format!("nar/{:x}.nar", random / 7 % 4096 + 4096)));
    let Ok(mut writer) = tier.reserve(&nar, len) else {
        return;
    };
    let chunk = vec![random as u8; len as usize / 2 + 1];
    writer.write(&chunk[..len as usize / 2]).unwrap();
    if random.is_multiple_of(16) {
        return;
    }
    writer.write(&chunk[..(len - len / 2) as usize]).unwrap();
    writer.publish(facts()).unwrap();
    written.fetch_add(len, Ordering::Relaxed);
}

#[test]
fn two_minutes_of_churn_never_take_more_than_the_capacity() {
    churn(16 * MIB, 160 * MIB, Duration::from_secs(2 * 60));
}

#[test]
#[ignore = "half an hour of writing (make soak)"]
fn half_an_hour_of_churn_never_takes_more_than_the_capacity() {
    churn(256 * MIB, 2560 * MIB, Duration::from_secs(30 * 60));
}

/// Opens a cache of so many blobs that no index knows, and asks for one at once.
fn start_with(blobs: usize) {
    let bed = Bed::with_capacity(1 << 40);
    drop(bed.open());
    for n in 0..blobs {
        let name = format!("{:02x}{n}.nar", n % 256);
        let folder = bed.path("nar").join(&name[..2]);
        if n < 256 {
            fs::create_dir(&folder).unwrap();
        }
        fs::write(folder.join(name), "x").unwrap();
    }
    let begun = Instant::now();
    let tier = DiskTier::open(&bed.settings, Arc::new(Metrics::new()), bed.clock.clone()).unwrap();
    unindexed(&tier, &key("nar/07263.nar"));
    let served = begun.elapsed();
    assert!(served < Duration::from_secs(2), "{served:?}");
    assert!(tier.wait_until_recovered(PATIENCE));
    assert_eq!(locked(&tier.inner.books).shelves.len(), blobs);
    eprintln!(
        "{blobs} blobs: served after {served:?}, counted after {:?}",
        begun.elapsed()
    );
}

#[test]
fn a_start_with_ten_thousand_unknown_blobs_serves_at_once() {
    start_with(10_000);
}

#[test]
#[ignore = "makes 100,000 files (make soak)"]
fn a_start_with_a_hundred_thousand_unknown_blobs_serves_at_once() {
    start_with(100_000);
}
