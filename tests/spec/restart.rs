//! Restarts: what was cached is served again, whatever became of the index.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::bed::r2sim::{Fault, Rule};
use crate::bed::{Built, KIB, MIB, Package, TestBed, get};

/// A bed with packages whose narinfos and NARs have all been asked for.
async fn warm(count: usize) -> (TestBed, Vec<Built>) {
    let bed = TestBed::start().await;
    let mut packages = Vec::new();
    for n in 0..count {
        let package = Package::named(&format!("p-{n}")).nar_bytes((1 + n * 77) * KIB);
        let package = bed.cached(package).await;
        assert_has_narinfo(&bed, &package).await;
        packages.push(package);
    }
    bed.bucket.log().reset();
    (bed, packages)
}

async fn assert_has_narinfo(bed: &TestBed, package: &Built) {
    let answer = bed.ask(get(&package.narinfo)).await;
    assert!(answer.is(package.narinfo_text.as_bytes()), "{answer:?}");
}

async fn assert_has_nar(bed: &TestBed, package: &Built) {
    let answer = bed.ask(get(&package.nar)).await;
    assert!(answer.is(&package.nar_bytes), "{:?}", answer.head);
}

#[tokio::test]
async fn a_restart_starts_warm() {
    let (mut bed, packages) = warm(8).await;
    for _ in 0..2 {
        bed.restart().await;
        for package in &packages {
            assert_has_narinfo(&bed, package).await;
            assert_has_nar(&bed, package).await;
        }
    }
    assert_eq!(bed.bucket.requests(), 0);
    assert_eq!(bed.metric("narwharf_index_rebuilds_total"), 0);
    assert_eq!(bed.metric("narwharf_disk_blobs"), 8);
}

/// A document keeps its age: past its time it is revalidated, a restart or not.
#[tokio::test]
async fn a_restart_makes_nothing_younger() {
    let (mut bed, packages) = warm(1).await;
    bed.restart().await;
    bed.clock.advance(Duration::from_secs(301));
    assert_has_narinfo(&bed, &packages[0]).await;
    assert_eq!(bed.bucket.requests(), 1);
}

/// What is cached is served with the bucket away, right from the start.
#[tokio::test]
async fn a_restart_without_the_bucket_serves_what_is_cached() {
    let (mut bed, packages) = warm(3).await;
    bed.bucket.stop_listening();
    bed.restart().await;
    for package in &packages {
        assert_has_narinfo(&bed, package).await;
        assert_has_nar(&bed, package).await;
    }
    assert_eq!(bed.ask(get("/health")).await.status, 200);
}

/// The index is disposable: whatever became of it, the NARs are there and service goes on.
#[tokio::test]
async fn no_nar_is_lost_with_the_index() {
    type Harm = fn(&Path);
    let cases: [(&str, Harm); 6] = [
        ("deleted", |index| fs::remove_dir_all(index).unwrap()),
        ("emptied", |index| {
            fs::remove_dir_all(index).unwrap();
            fs::create_dir(index).unwrap();
        }),
        ("garbage", |index| each_file(index, |_| vec![0xa5; 5000])),
        ("cut short", |index| {
            each_file(index, |bytes| bytes[..bytes.len() / 2].to_vec());
        }),
        ("zeros", |index| {
            each_file(index, |bytes| vec![0; bytes.len()])
        }),
        ("a file", |index| {
            fs::remove_dir_all(index).unwrap();
            fs::write(index, "not a folder").unwrap();
        }),
    ];
    for (what, harm) in cases {
        let (mut bed, packages) = warm(4).await;
        bed.restart_after(|disk| harm(&disk.join("index"))).await;
        for package in &packages {
            assert_has_nar(&bed, package).await;
            assert_has_narinfo(&bed, package).await;
        }
        for package in &packages {
            assert_eq!(bed.bucket.reads(&package.nar), 0, "{what}");
        }
        // and it is made anew, so that the next start is warm again
        bed.until_recovered().await;
        bed.at_rest().await;
        bed.restart().await;
        bed.bucket.log().reset();
        for package in &packages {
            assert_has_nar(&bed, package).await;
            assert_has_narinfo(&bed, package).await;
        }
        assert_eq!(bed.bucket.requests(), 0, "{what}");
    }
}

#[tokio::test]
async fn unfinished_files_are_swept() {
    let mut bed = TestBed::start().await;
    let left = bed.disk_path().join("tmp/00000000000004d2.part");
    bed.restart_after(|_| fs::write(&left, vec![7; MIB]).unwrap())
        .await;
    assert!(!left.exists());
    assert_eq!(bed.metric("narwharf_disk_bytes"), 0);
}

/// Stopped in the middle of a fill: the client is cut, and the next start has no trace of it.
#[tokio::test]
async fn a_fill_that_a_stop_interrupts_leaves_nothing() {
    let mut bed = TestBed::with(|s| s.set("server.drain", "1s")).await;
    let hello = bed
        .bucket
        .publish(Package::named("hello").nar_bytes(3 * MIB));
    let held = bed
        .bucket
        .fault(Rule::get(&hello.nar).plays(Fault::HoldAfter(MIB as u64)));
    let asked = bed.ask(get(&hello.nar));
    held.until_played(1).await;
    bed.until("a file", || !bed.temporary_files().is_empty())
        .await;
    bed.restart().await;
    assert!(asked.await.cut);
    held.release();
    bed.at_rest().await;
    assert_eq!(bed.metric("narwharf_disk_blobs"), 0);
    assert_has_nar(&bed, &hello).await;
}

fn each_file(folder: &Path, change: impl Fn(Vec<u8>) -> Vec<u8> + Copy) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, change);
        } else {
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, change(bytes)).unwrap();
        }
    }
}
