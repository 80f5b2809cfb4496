//! A disk that falls ill and gets well again, on file systems of a test's own.
//!
//! Mounting needs root. Where it is not allowed, those tests say so and pass.

use super::*;
use std::process::Command;
use std::time::Instant;

/// From the end of the trouble to caching again.
const HEALING: Duration = Duration::from_secs(10);

/// A tmpfs below a bed's directory, or `None` with the reason told.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "narwharf-test"])
            .arg(&at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at)),
            refused => {
                eprintln!("skipped, because a tmpfs cannot be mounted here: {refused:?}");
                None
            }
        }
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.0)
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Removes the cache directory at one stroke, and does something before the tier can notice.
fn remove(bed: &Bed, and_then: impl FnOnce()) {
    let doomed = bed.outside("doomed");
    fs::rename(&bed.settings.path, &doomed).unwrap();
    and_then();
    // The index may write to it until it is closed.
    while fs::remove_dir_all(&doomed).is_err() {
        assert!(doomed.exists());
    }
}

/// Waits until a blob can be stored and hit.
#[track_caller]
fn heals(tier: &DiskTier) {
    let nar = key("nar/after.nar");
    let stored = || {
        let mut writer = tier.reserve(&nar, 100).ok()?;
        writer.write(&[7; 100]).ok()?;
        writer.publish(facts()).ok()
    };
    soon("a blob is stored", || stored().is_some());
    assert_eq!(content(&hit(tier, &nar)), [7; 100]);
    assert_eq!(tier.state(), State::Ok);
}

/// Takes all space that is left, whatever others write meanwhile.
fn fill(balloon: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(balloon).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// Gives back so many bytes of what [`fill`] took.
fn cut_off(balloon: &Path, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(balloon).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len - bytes).unwrap();
}

#[track_caller]
fn is_degraded_soon(tier: &DiskTier) {
    soon("somebody notices", || {
        matches!(tier.state(), State::Degraded(_))
    });
}

/// Waits for what the tier's own thread does by the clock and announces to nobody.
#[track_caller]
fn soon(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    let pause = hand::Bell::default();
    while !holds() {
        assert!(begun.elapsed() < HEALING, "never came: {what}");
        pause.wait(Duration::from_millis(50));
    }
}

/// Half a write would be garbage that each try adds to.
#[test]
fn documents_for_which_there_is_no_space_take_none_and_are_kept_when_there_is_some() {
    let mut bed = Bed::new();
    let Some(_mount) = Mount::tmpfs(bed.outside("disk"), "size=24m") else {
        return;
    };
    bed.settings.path = bed.outside("disk/cache");
    let tier = bed.open();
    let nth = |n: usize| key(&format!("log/{n}.drv"));
    tier.keep_document(&nth(0), &documents::document("first"));
    assert!(tier.inner.index.wait_until_told(PATIENCE));
    let log = || fs::metadata(bed.path("index/documents")).unwrap().len();
    let before = log();
    let balloon = bed.outside("disk/balloon");
    fill(&balloon);
    // Room for a part of what comes.
    cut_off(&balloon, 400 * KIB);
    for n in 1..40 {
        tier.keep_document(&nth(n), &documents::document(&"x".repeat(50_000)));
    }
    soon("the index notices", || tier.index_state() != State::Ok);
    assert_eq!(log(), before);
    fs::remove_file(&balloon).unwrap();
    soon("the index is well", || tier.index_state() == State::Ok);
    assert!(tier.inner.index.wait_until_told(PATIENCE));
    assert!(log() > before + 39 * 50_000);
    assert!((0..40).all(|n| tier.document(&nth(n)).is_some()));
}

#[test]
fn a_directory_that_is_removed_under_a_running_server_is_begun_anew() {
    let bed = Bed::new();
    let (tier, metrics) = bed.open_counting();
    let (before, kept) = (key("nar/before.nar"), key("nar/kept.nar"));
    put(&tier, &before, b"before");
    let mut writer = tier.reserve(&kept, 3).unwrap();
    let open = hit(&tier, &before);
    remove(&bed, || ());
    is_degraded_soon(&tier);
    miss(&tier, &before);
    assert_eq!(content(&open), b"before", "readers are not disturbed");
    heals(&tier);
    // A writer from before ends without harm: its bytes are gone.
    writer.write(b"abc").unwrap();
    assert!(writer.publish(facts()).is_err());
    assert_eq!(
        metrics.index_rebuilds.get(),
        0,
        "a new index, not a rebuilt one"
    );
    heals(&tier);
    assert_eq!(locked(&tier.inner.books).granted, 0);
    let books = locked(&tier.inner.books).total();
    assert!(books >= allocated_below(&bed.settings.path));
    // Blobs are stored before the new index is open; closed until then, it would never hear of them.
    tier.wait_for_index(Duration::from_secs(60));
    tier.close();
    drop(tier);
    hit(&bed.open(), &key("nar/after.nar"));
}

#[test]
fn what_is_put_in_the_place_of_a_removed_cache_and_is_not_ours_is_left_alone() {
    let bed = Bed::new();
    let tier = bed.open();
    remove(&bed, || {
        fs::create_dir(&bed.settings.path).unwrap();
        fs::write(bed.path("thesis.tex"), "years of work").unwrap();
    });
    assert!(keeper::try_again(&tier.inner).is_err());
    assert_eq!(names(&bed.settings.path), ["thesis.tex"]);
    fs::remove_file(bed.path("thesis.tex")).unwrap();
    heals(&tier);
}

#[test]
fn a_cache_that_was_moved_away_goes_on_when_it_returns() {
    let bed = Bed::new();
    let tier = bed.open();
    put(&tier, &key("nar/before.nar"), b"before");
    fs::rename(&bed.settings.path, bed.outside("moved")).unwrap();
    is_degraded_soon(&tier);
    fs::rename(bed.outside("moved"), &bed.settings.path).unwrap();
    heals(&tier);
    hit(&tier, &key("nar/before.nar"));
}

#[test]
fn a_disk_that_others_have_filled_is_used_again_when_they_make_room() {
    let bed = Bed::new();
    let Some(_mount) = Mount::tmpfs(bed.settings.path.clone(), "size=16m") else {
        return;
    };
    let tier = bed.open();
    put(&tier, &key("nar/before.nar"), b"before");
    let balloon = bed.path("lost+found");
    fill(&balloon);
    // What was evicted to help is not enough; documents break the index.
    for n in 0..2000u32 {
        let document = Document {
            bytes: vec![n as u8; 8000].into(),
            etag: None,
            last_modified: None,
            content_type: None,
            content_encoding: None,
            validated: UNIX_EPOCH,
        };
        tier.keep_document(&key(&format!("log/{n}.drv")), &document);
    }
    assert!(tier.reserve(&key("nar/large.nar"), MIB).is_err());
    assert!(!matches!(
        tier.lookup(&key("nar/large.nar")),
        BlobLookup::Hit(_)
    ));
    fs::remove_file(&balloon).unwrap();
    heals(&tier);
    soon("the index is back", || tier.index_state() == State::Ok);
}

#[test]
fn a_start_on_a_read_only_disk_caches_once_it_takes_writes() {
    let bed = Bed::new();
    let Some(mount) = Mount::tmpfs(bed.settings.path.clone(), "size=16m") else {
        return;
    };
    mount.remount("ro");
    let tier = DiskTier::open(&bed.settings, Arc::default(), bed.clock.clone()).unwrap();
    assert!(matches!(tier.state(), State::Degraded(_)));
    miss(&tier, &key("nar/hello.nar"));
    assert!(matches!(
        tier.reserve(&key("nar/hello.nar"), 5),
        Err(NoRoom::Disk(_))
    ));
    mount.remount("rw");
    heals(&tier);
}

/// As on ZFS or NFS, where what is granted is only a promise until it is written.
#[test]
fn where_no_blocks_are_set_aside_a_blob_needs_its_room_once() {
    let bed = Bed::new();
    let Some(_mount) = Mount::tmpfs(bed.settings.path.clone(), "size=16m") else {
        return;
    };
    let tier = bed.open();
    tier.inner.preallocates.store(false, Ordering::Relaxed);
    let first = tier.reserve(&key("nar/first.nar"), 9 * MIB).unwrap();
    let refusal = tier.reserve(&key("nar/second.nar"), 9 * MIB).unwrap_err();
    assert!(matches!(refusal, NoRoom::Full), "{refusal}");
    drop(first);
    tier.reserve(&key("nar/second.nar"), 9 * MIB).unwrap();
}

#[test]
fn a_larger_object_than_the_disk_has_room_for_is_refused_and_the_disk_stays_well() {
    let mut bed = Bed::new();
    bed.settings.capacity = 1 << 30;
    let Some(_mount) = Mount::tmpfs(bed.settings.path.clone(), "size=8m") else {
        return;
    };
    let tier = bed.open();
    put(&tier, &key("nar/small.nar"), b"small");
    let refusal = tier.reserve(&key("nar/large.nar"), 100 * MIB).unwrap_err();
    assert!(matches!(refusal, NoRoom::Full), "{refusal}");
    assert_eq!(tier.state(), State::Ok);
    hit(&tier, &key("nar/small.nar"));
}
