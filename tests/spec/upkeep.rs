//! What an operator does beside a running gateway, and a disk too small for what passes through.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::{Command, Output};

use crate::bed::{MIB, Package, TestBed, get};

/// Runs the program against the bed's gateway and its disk.
async fn run(bed: &TestBed, args: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("narwharf"));
    command
        .args(args)
        .env("NARWHARF_DISK__PATH", bed.disk_path())
        .env("NARWHARF_SERVER__LISTEN", bed.address().to_string())
        .current_dir(bed.disk_path().parent().unwrap());
    let ran = tokio::task::spawn_blocking(move || command.output());
    ran.await.unwrap().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[tokio::test]
async fn warm_fetches_a_closure_once_and_names_what_is_not_there() {
    let bed = TestBed::start().await;
    // Given hello, which refers to libc and to itself; and libc, which refers to nothing
    let libc = bed
        .bucket
        .publish(Package::named("libc").nar_bytes(2 * MIB));
    let base = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let own = Package::named("hello").build().store_path;
    let references = format!("{} {}", base(&libc.store_path), base(&own));
    let hello = Package::named("hello").line("References", &references);
    let hello = bed.bucket.publish(hello);
    // When hello is warmed twice
    for round in 0..2 {
        let ran = run(&bed, &["warm", &hello.store_path]).await;
        assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
        assert!(
            said(&ran).contains("2 paths, "),
            "round {round}: {}",
            said(&ran)
        );
        bed.at_rest().await;
    }
    // Then both lie on disk, and each was read from the bucket once
    for built in [&hello, &libc] {
        assert!(bed.blob_path(&built.nar).exists());
        assert_eq!(bed.bucket.reads(&built.nar), 1);
    }
    // And what the cache lacks is named
    let absent = Package::named("absent").build().store_path;
    let ran = run(&bed, &["warm", &absent, &hello.store_path]).await;
    assert_eq!(ran.status.code(), Some(1));
    assert!(said(&ran).contains(&format!("{}: not in the cache", &base(&absent)[..32])));
    assert_eq!(run(&bed, &["warm", "hello"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn verify_finds_a_flipped_bit_beside_the_running_gateway() {
    let bed = TestBed::start().await;
    let hello = bed.cached(Package::named("hello").nar_bytes(MIB)).await;
    let ran = run(&bed, &["verify"]).await;
    assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    let blob = fs::File::options()
        .write(true)
        .open(bed.blob_path(&hello.nar))
        .unwrap();
    blob.write_all_at(&[!hello.nar_bytes[77]], 77).unwrap();
    let ran = run(&bed, &["verify"]).await;
    assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
    assert!(said(&ran).contains(&format!("{}: its SHA-256 is", hello.nar)));
    assert!(
        bed.blob_path(&hello.nar).exists(),
        "looking removes nothing"
    );
}

/// Clients of NARs larger than the whole disk, on a file system that others have filled.
#[tokio::test]
async fn a_disk_that_is_too_small_is_no_clients_concern() {
    let Some(disk) = tiny::Disk::mount("16m") else {
        return;
    };
    let at = disk.path().join("cache").display().to_string();
    let bed = TestBed::with(|s| {
        s.set("disk.path", &at);
        s.set("disk.capacity", "1GiB");
    })
    .await;
    let large = bed
        .bucket
        .publish(Package::named("large").nar_bytes(40 * MIB));
    for answer in bed.ask_times(3, get(&large.nar)).await {
        assert!(answer.is(&large.nar_bytes), "{:?}", answer.head);
    }
    // What fits is kept, until somebody else takes the space
    let hello = bed.bucket.publish(Package::named("hello").nar_bytes(MIB));
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    disk.fill();
    let other = bed
        .bucket
        .publish(Package::named("other").nar_bytes(4 * MIB));
    assert!(bed.ask(get(&other.nar)).await.is(&other.nar_bytes));
    disk.free();
    let last = bed
        .bucket
        .publish(Package::named("last").nar_bytes(2 * MIB));
    // Once the gateway has found that out, what passes is kept again
    bed.until_metric("narwharf_disk_state{state=\"ok\"}", 1)
        .await;
    assert!(bed.ask(get(&last.nar)).await.is(&last.nar_bytes));
    bed.at_rest().await;
    let kept = disk.path().join("cache").join(tiny::place(&last.nar));
    assert!(kept.exists(), "caching does not resume");
}

/// A file system of a test's own. Mounting needs root; where it is not allowed, the test says so.
mod tiny {
    use std::fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    pub struct Disk(tempfile::TempDir);

    impl Disk {
        pub fn mount(size: &str) -> Option<Self> {
            let dir = tempfile::tempdir().unwrap();
            let mounted = Command::new("mount")
                .args([
                    "-t",
                    "tmpfs",
                    "-o",
                    &format!("size={size}"),
                    "narwharf-test",
                ])
                .arg(dir.path())
                .output();
            match mounted {
                Ok(output) if output.status.success() => Some(Self(dir)),
                refused => {
                    eprintln!("skipped, because a tmpfs cannot be mounted here: {refused:?}");
                    None
                }
            }
        }

        pub fn path(&self) -> &Path {
            self.0.path()
        }

        /// Takes all space that is left, whatever others write meanwhile.
        pub fn fill(&self) {
            let mut file = fs::File::create(self.path().join("balloon")).unwrap();
            while file.write_all(&[0; 4096]).is_ok() {}
        }

        pub fn free(&self) {
            fs::remove_file(self.path().join("balloon")).unwrap();
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.path()).status();
        }
    }

    /// Where a NAR's blob lies below the cache directory.
    pub fn place(nar: &str) -> PathBuf {
        let name = nar.strip_prefix("nar/").unwrap();
        Path::new("nar").join(&name[..2]).join(name)
    }
}
