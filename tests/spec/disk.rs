//! The disk tier: its bounds, its neighbours, and what became of its files.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::bed::r2sim::{Fault, Rule};
use crate::bed::{self, Built, KIB, MIB, Package, TestBed, get};

#[tokio::test]
async fn a_blob_lies_under_its_key_byte_for_byte() {
    let bed = TestBed::start().await;
    let hello = bed.cached(Package::named("hello").nar_bytes(3 * MIB)).await;
    let blob = bed.blob_path(&hello.nar);
    assert!(fs::read(&blob).expect("a plain file") == hello.nar_bytes);
    // and nobody else on the machine can get at it
    let about = fs::metadata(bed.disk_path()).expect("a folder");
    assert_eq!(about.mode() & 0o077, 0);
    assert_eq!(bed.metric("narwharf_disk_blobs"), 1);
    assert!(bed.metric("narwharf_disk_bytes") >= 3 * MIB as u64);
}

/// More NARs than fit, one after the other and at once: the oldest go, and the limit holds.
#[tokio::test]
async fn the_capacity_is_held_by_evicting_what_was_used_least_recently() {
    let capacity = 2 * MIB;
    let bed = TestBed::with(|s| {
        s.set("disk.capacity", &capacity.to_string());
        s.set("memory.nars", "0");
    })
    .await;
    let package = |n: usize| Package::named(&format!("p-{n}")).nar_bytes(400 * KIB);
    // Given a favourite that is asked for between all others
    let favourite = bed.cached(package(0)).await;
    for n in 1..10 {
        bed.cached(package(n)).await;
        assert!(bed.ask(get(&favourite.nar)).await.is(&favourite.nar_bytes));
        assert!(allocated_below(&bed.disk_path()) <= capacity as u64, "{n}");
    }
    assert_eq!(bed.bucket.reads(&favourite.nar), 1, "it was never evicted");
    assert!(bed.metric("narwharf_disk_evictions_total") >= 5);
    assert!(bed.metric("narwharf_disk_evicted_bytes_total") >= 5 * 400 * KIB as u64);
    // When many come at once
    let rush: Vec<Built> = (10..22).map(|n| bed.bucket.publish(package(n))).collect();
    let asked: Vec<_> = rush.iter().map(|built| bed.ask(get(&built.nar))).collect();
    for (asked, built) in asked.into_iter().zip(&rush) {
        assert!(asked.await.is(&built.nar_bytes));
        assert!(allocated_below(&bed.disk_path()) <= capacity as u64);
    }
    bed.at_rest().await;
    assert!(bed.metric("narwharf_disk_bytes") <= capacity as u64);
    assert_eq!(bed.metric("narwharf_disk_capacity_bytes"), capacity as u64);
}

/// Eviction takes the name, not the bytes from under a reader.
#[tokio::test]
async fn a_blob_evicted_while_it_is_read_is_read_to_its_end() {
    let bed = TestBed::with(|s| s.set("disk.capacity", "32MiB")).await;
    let old = bed.cached(Package::named("old").nar_bytes(24 * MIB)).await;
    let mut reader = bed.connect().await;
    reader.send_head(&get(&old.nar)).await;
    assert_eq!(reader.head().await.status, 200);
    let new = Package::named("new").nar_bytes(24 * MIB);
    let new = bed.bucket.publish(new);
    assert!(bed.ask(get(&new.nar)).await.is(&new.nar_bytes));
    assert!(!bed.blob_path(&old.nar).exists());
    assert!(reader.bytes(24 * MIB).await == old.nar_bytes);
}

/// While all room is promised to others, a NAR is passed through rather than refused.
#[tokio::test]
async fn a_nar_for_which_there_is_no_room_is_passed() {
    let bed = TestBed::with(|s| s.set("disk.capacity", "4MiB")).await;
    let first = bed.bucket.publish(Package::named("a").nar_bytes(3 * MIB));
    let held = bed
        .bucket
        .fault(Rule::get(&first.nar).plays(Fault::HoldAfter(MIB as u64)));
    let filling = bed.ask(get(&first.nar));
    held.until_played(1).await;
    bed.until_metric("narwharf_fills_in_flight", 1).await;
    bed.until("room promised", || !bed.temporary_files().is_empty())
        .await;
    let second = bed.bucket.publish(Package::named("b").nar_bytes(3 * MIB));
    let answer = bed.ask(get(&second.nar)).await;
    assert!(answer.is(&second.nar_bytes));
    assert_eq!(answer.header("cache-status"), Some("narwharf; fwd=bypass"));
    held.release();
    assert!(filling.await.is(&first.nar_bytes));
    bed.at_rest().await;
    assert!(bed.blob_path(&first.nar).exists());
    assert!(!bed.blob_path(&second.nar).exists());
    // Counted once its task has ended, of which nobody has to wait for any more.
    bed.until_metric("narwharf_fills_total{outcome=\"passed\"}", 1)
        .await;
}

/// Somebody cut, lengthened, emptied, removed or replaced a blob's file: it is fetched anew at once.
#[tokio::test]
async fn a_file_that_is_not_what_it_was_is_fetched_anew() {
    type Harm = fn(&Path);
    let cases: [(&str, Harm); 6] = [
        ("cut", |blob| write_at(blob, 1000, b"")),
        ("emptied", |blob| write_at(blob, 0, b"")),
        ("lengthened", |blob| {
            write_at(blob, 300 * KIB as u64, b"more")
        }),
        ("removed", |blob| fs::remove_file(blob).unwrap()),
        ("made a folder", |blob| {
            fs::remove_file(blob).unwrap();
            fs::create_dir(blob).unwrap();
        }),
        ("made a link", |blob| {
            let elsewhere = blob.with_extension("elsewhere");
            fs::rename(blob, &elsewhere).unwrap();
            symlink(elsewhere, blob).unwrap();
        }),
    ];
    let bed = TestBed::start().await;
    for (what, harm) in cases {
        let package = Package::named(&what.replace(' ', "-")).nar_bytes(300 * KIB);
        let package = bed.cached(package).await;
        harm(&bed.blob_path(&package.nar));
        let answer = bed.ask(get(&package.nar)).await;
        assert!(answer.is(&package.nar_bytes), "{what}");
        bed.at_rest().await;
        assert_eq!(bed.bucket.reads(&package.nar), 2, "{what}");
    }
}

/// What lies in the directory and is not ours by name and kind is neither served nor removed.
#[tokio::test]
async fn foreign_files_are_left_alone() {
    let mut bed = TestBed::with(|s| s.set("disk.capacity", "1MiB")).await;
    let theirs = [
        "README",
        "nar/notes.txt",
        "nar/zz/x.nar",
        "nar/he/Hello World.nar",
        "tmp/notes.txt",
        "quarantine/notes.txt",
        "lost+found/inode",
    ];
    let all_there = |disk: &Path| {
        theirs
            .iter()
            .all(|file| fs::read(disk.join(file)).is_ok_and(|text| text == b"theirs"))
    };
    bed.restart_after(|disk| {
        for file in theirs {
            let path = disk.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "theirs").unwrap();
        }
    })
    .await;
    assert_eq!(bed.ask(get("nar/x.nar")).await.status, 404);
    // through evictions, and through another start
    for n in 0..6 {
        let package = Package::named(&format!("p-{n}")).nar_bytes(400 * KIB);
        bed.cached(package).await;
    }
    assert!(all_there(&bed.disk_path()));
    bed.restart_after(|disk| fs::remove_dir_all(disk.join("index")).unwrap())
        .await;
    assert!(all_there(&bed.disk_path()));
}

#[tokio::test]
async fn a_second_gateway_on_the_same_directory_does_not_start() {
    let bed = TestBed::start().await;
    let hello = bed.cached(Package::named("hello")).await;
    let refused = bed::start(bed.config()).await.expect_err("it is taken");
    let text = refused.to_string();
    assert!(text.contains("in use by another narwharf"), "{text}");
    assert!(text.contains(bed.disk_path().to_str().unwrap()), "{text}");
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
}

/// This tier deletes files, so it takes no directory that somebody else uses.
#[tokio::test]
async fn a_directory_with_other_files_is_refused() {
    let bed = TestBed::start().await;
    let home = bed.disk_path().with_file_name("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("thesis.tex"), "years of work").unwrap();
    let mut config = bed.config();
    config.disk.path.clone_from(&home);
    let refused = bed::start(config).await.expect_err("it is not ours");
    assert!(refused.to_string().contains("thesis.tex"), "{refused}");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
}

/// The index was lost: a blob is read, hashed and served, and from then on it is known again.
#[tokio::test]
async fn a_blob_without_an_index_entry_is_checked_and_taken_in() {
    let mut bed = TestBed::start().await;
    let packages = [
        bed.cached(Package::named("small").nar_bytes(10 * KIB))
            .await,
        bed.cached(Package::named("large").nar_bytes(3 * MIB)).await,
        bed.cached(Package::named("empty").nar_bytes(0)).await,
    ];
    bed.restart_after(|disk| fs::remove_dir_all(disk.join("index")).unwrap())
        .await;
    bed.bucket.log().reset();
    for package in &packages {
        assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
        bed.at_rest().await;
        let again = bed.ask(get(&package.nar)).await;
        assert!(again.is(&package.nar_bytes));
        assert_eq!(
            again.header("cache-status"),
            Some("narwharf; hit; detail=disk")
        );
    }
    assert_eq!(bed.bucket.requests(), 0);
}

/// And it is served while the bucket hangs, however many wait for that.
#[tokio::test]
async fn a_bucket_that_hangs_keeps_back_nothing_that_lies_on_disk() {
    let mut bed = TestBed::with(|s| s.set("bucket.max_requests", "1")).await;
    let here = bed.cached(Package::named("here").nar_bytes(3 * MIB)).await;
    bed.restart_after(|disk| fs::remove_dir_all(disk.join("index")).unwrap())
        .await;
    let there = bed.bucket.publish(Package::named("there").nar_bytes(MIB));
    let held = bed.bucket.hold_first_byte(&there.nar);
    let waiting = bed.ask(get(&there.nar));
    held.until_played(1).await;
    assert!(bed.ask(get(&here.nar)).await.is(&here.nar_bytes));
    held.release();
    assert!(waiting.await.is(&there.nar_bytes));
}

/// And if its bytes are wrong, nobody gets them whole; it is set aside and fetched anew.
#[tokio::test]
async fn a_flipped_bit_in_a_blob_without_an_index_entry_is_found() {
    let mut bed = TestBed::start().await;
    for (name, len) in [("small", 10 * KIB), ("large", 3 * MIB)] {
        let package = bed.cached(Package::named(name).nar_bytes(len)).await;
        let blob = bed.blob_path(&package.nar);
        bed.restart_after(|disk| {
            fs::remove_dir_all(disk.join("index")).unwrap();
            let mut bytes = fs::read(&blob).unwrap();
            bytes[len / 2] ^= 1;
            fs::write(&blob, bytes).unwrap();
        })
        .await;
        let first = bed.ask(get(&package.nar)).await;
        let right = first.is(&package.nar_bytes);
        assert!(
            right || first.cut || first.status == 503,
            "{name}: {first:?}"
        );
        bed.at_rest().await;
        assert_eq!(bed.metric("narwharf_disk_quarantined_total"), 1, "{name}");
        assert!(
            bed.ask(get(&package.nar)).await.is(&package.nar_bytes),
            "{name}"
        );
        bed.at_rest().await;
        assert!(fs::read(&blob).unwrap() == package.nar_bytes, "{name}");
    }
    let set_aside = fs::read_dir(bed.disk_path().join("quarantine")).unwrap();
    assert_eq!(set_aside.count(), 2);
}

/// Allocated bytes of all files, the index not counted: it has a bound of its own.
fn allocated_below(folder: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A file may go while it is being looked at.
        let Ok(about) = entry.metadata() else {
            continue;
        };
        if about.is_file() {
            sum += about.blocks() * 512;
        } else if about.is_dir() && entry.file_name() != "index" {
            sum += allocated_below(&entry.path());
        }
    }
    sum
}

/// Shortens a file to `at`, and goes on with `bytes` there.
fn write_at(file: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(file).unwrap();
    file.set_len(at).unwrap();
    file.write_all_at(bytes, at).unwrap();
}
