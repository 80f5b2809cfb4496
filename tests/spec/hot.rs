//! Small NARs that are asked for again and again: they leave from memory, and nobody can tell but by
//! `Cache-Status`.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::bed::{Answer, Built, KIB, MIB, Package, Request, TestBed, get, head};

const ENTRIES: &str = "narwharf_memory_entries{cache=\"nars\"}";
const BYTES: &str = "narwharf_memory_bytes{cache=\"nars\"}";
const QUARANTINED: &str = "narwharf_disk_quarantined_total";

const FROM_DISK: Option<&str> = Some("narwharf; hit; detail=disk");
const FROM_MEMORY: Option<&str> = Some("narwharf; hit; detail=memory");

fn how(answer: &Answer) -> Option<&str> {
    answer.header("cache-status")
}

/// A package on disk, of which one hit is noted, and then a second one.
async fn hot(bed: &TestBed, package: Package) -> Built {
    let package = bed.cached(package).await;
    for _ in 0..2 {
        let answer = bed.ask(get(&package.nar)).await;
        assert!(answer.is(&package.nar_bytes));
        assert_eq!(how(&answer), FROM_DISK);
    }
    package
}

#[tokio::test]
async fn the_third_hit_is_from_memory() {
    let bed = TestBed::start().await;
    // Of the largest that come in, and of hardly a byte
    for (nth, len) in [MIB, 1].into_iter().enumerate() {
        let hello = hot(&bed, Package::named("hello").nar_bytes(len)).await;
        bed.until_metric(ENTRIES, nth as u64 + 1).await;
        for _ in 0..3 {
            let answer = bed.ask(get(&hello.nar)).await;
            assert!(answer.is(&hello.nar_bytes));
            assert_eq!(how(&answer), FROM_MEMORY);
        }
    }
    let hits = "narwharf_cache_lookups_total{kind=\"nar\",result=\"hit\",tier=\"memory\"}";
    assert_eq!(bed.metric(hits), 6);
    let bytes = "narwharf_http_response_bytes_total{kind=\"nar\",source=\"memory\"}";
    bed.until_metric(bytes, 3 * (MIB as u64 + 1)).await;
}

/// All that an answer says, but for how it came, which it was, and when.
fn told(answer: &Answer) -> Vec<(String, &str)> {
    let fields = answer.head.fields();
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value));
    let own = ["cache-status", "x-request-id", "date"];
    fields.filter(|(name, _)| !own.contains(&&**name)).collect()
}

/// The body; of a refusal without the request's id.
fn body(answer: &Answer) -> Vec<u8> {
    match answer.header("x-request-id") {
        Some(id) if answer.status >= 400 => answer.text().replace(id, "").into_bytes(),
        _ => answer.body.clone(),
    }
}

#[tokio::test]
async fn what_is_said_from_memory_is_what_is_said_from_disk() {
    type Ask = fn(Request, &str) -> Request;
    let asks: [(u16, Ask); 14] = [
        (200, |nar, _| nar),
        (206, |nar, _| nar.range("bytes=0-0")),
        (206, |nar, _| nar.range("bytes=1-")),
        (206, |nar, _| nar.range("bytes=1000-70000")),
        (206, |nar, _| nar.range("bytes=99999-999999")),
        (206, |nar, _| nar.range("bytes=-1")),
        (200, |nar, _| nar.range("bytes=0-1,5-6")),
        (416, |nar, _| nar.range("bytes=102400-")),
        (206, |nar, tag| {
            nar.range("bytes=5-9").header("If-Range", tag)
        }),
        (200, |nar, _| {
            nar.range("bytes=5-9").header("If-Range", "\"other\"")
        }),
        (304, |nar, tag| nar.header("If-None-Match", tag)),
        (200, |nar, _| nar.header("If-None-Match", "\"other\"")),
        (200, |nar, tag| nar.header("If-Match", tag)),
        (412, |nar, _| nar.header("If-Match", "\"other\"")),
    ];
    let bed = TestBed::with(|s| s.set("uploads.enabled", "false")).await;
    for (nth, (status, ask)) in asks.into_iter().enumerate() {
        let package = bed.cached(Package::named(&format!("p-{nth}"))).await;
        let tag = format!("\"{}\"", &package.nar["nar/".len()..][..52]);
        let requests = [
            ask(get(&package.nar), &tag),
            ask(head(&package.nar), &tag),
            head(&package.nar),
        ];
        let [got, headed, bare] = &requests;
        let from_disk = [
            bed.ask(got.clone()),
            bed.ask(headed.clone()),
            bed.ask(bare.clone()),
        ];
        let mut answers = Vec::new();
        for asked in from_disk {
            answers.push(asked.await);
        }
        assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
        bed.until_metric(ENTRIES, nth as u64 + 1).await;
        assert_eq!(answers[0].status, status, "{got:?}");
        for (request, from_disk) in requests.iter().zip(&answers) {
            let from_memory = bed.ask(request.clone()).await;
            assert_eq!(how(from_disk), FROM_DISK, "{request:?}");
            assert_eq!(how(&from_memory), FROM_MEMORY, "{request:?}");
            assert_eq!(from_memory.status, from_disk.status, "{request:?}");
            assert_eq!(told(&from_memory), told(from_disk), "{request:?}");
            assert!(!from_memory.cut, "{request:?}");
            assert!(body(&from_memory) == body(from_disk), "{request:?}");
        }
    }
}

/// A name that is no hash may come to mean other bytes; what is large gains nothing.
#[tokio::test]
async fn what_is_large_or_may_change_stays_on_disk() {
    let bed = TestBed::start().await;
    let others = [
        Package::named("large").nar_bytes(MIB + 1),
        Package::named("as-nix-serve").named_as_nix_serve(),
        Package::named("as-harmonia").named_as_harmonia(),
        Package::named("as-it-likes").nar_key("nar/hello.nar"),
    ];
    for package in others {
        let package = hot(&bed, package).await;
        let decoy = Package::named(&format!("after {}", package.nar)).nar_bytes(KIB);
        let before = bed.metric(ENTRIES);
        hot(&bed, decoy).await;
        bed.until_metric(ENTRIES, before + 1).await;
        let answer = bed.ask(get(&package.nar)).await;
        assert!(answer.is(&package.nar_bytes));
        assert_eq!(how(&answer), FROM_DISK, "{}", package.nar);
    }
    assert_eq!(bed.metric(ENTRIES), 4, "the decoys");
}

/// A hit on disk is believed; what is to be served for long is read again first.
#[tokio::test]
async fn a_flipped_bit_is_found_on_the_way_into_memory() {
    let bed = TestBed::start().await;
    let hello = bed.cached(Package::named("hello")).await;
    let blob = fs::File::options()
        .write(true)
        .open(bed.blob_path(&hello.nar))
        .unwrap();
    blob.write_all_at(&[!hello.nar_bytes[77]], 77).unwrap();
    for _ in 0..2 {
        assert_eq!(how(&bed.ask(get(&hello.nar)).await), FROM_DISK);
    }
    bed.until_metric(QUARANTINED, 1).await;
    assert_eq!(bed.metric(ENTRIES), 0);
    // and it is fetched anew
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    assert_eq!(bed.bucket.reads(&hello.nar), 2);
}

#[tokio::test]
async fn memory_for_nars_is_bounded() {
    let most = 256 * KIB as u64;
    let bed = TestBed::with(|s| s.set("memory.nars", "256KiB")).await;
    for n in 0..12 {
        let package = Package::named(&format!("p-{n}")).nar_bytes(60 * KIB);
        let package = hot(&bed, package).await;
        for _ in 0..3 {
            assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
            assert!(bed.metric(BYTES) <= most);
        }
    }
    bed.until_metric(ENTRIES, 4).await;
    assert!(bed.metric(BYTES) <= most);
    // and what is larger than all of it is not even tried
    let large = hot(&bed, Package::named("large").nar_bytes(300 * KIB)).await;
    assert_eq!(how(&bed.ask(get(&large.nar)).await), FROM_DISK);
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let bed = TestBed::with(|s| s.set("memory.nars", "0")).await;
    let packages = [
        bed.cached(Package::named("hello")).await,
        bed.cached(Package::named("empty").nar_bytes(0)).await,
    ];
    for package in packages {
        for _ in 0..20 {
            let answer = bed.ask(get(&package.nar)).await;
            assert!(answer.is(&package.nar_bytes));
            assert_eq!(how(&answer), FROM_DISK);
        }
    }
    assert_eq!(bed.metric(BYTES), 0);
}

/// Or the disk would evict what is asked for the most, and a restart would find it gone.
#[tokio::test]
async fn what_is_served_from_memory_is_not_idle_on_disk() {
    let bed = TestBed::with(|s| s.set("disk.capacity", "2MiB")).await;
    // Others that have earned their place on the disk by a hit each
    let pass_by = async |n: usize| {
        let other = Package::named(&format!("p-{n}")).nar_bytes(400 * KIB);
        let other = bed.cached(other).await;
        assert_eq!(how(&bed.ask(get(&other.nar)).await), FROM_DISK);
    };
    for n in 0..10 {
        pass_by(n).await;
    }
    let hello = hot(&bed, Package::named("hello")).await;
    bed.until_metric(ENTRIES, 1).await;
    for n in 10..60 {
        bed.clock.advance(Duration::from_secs(2));
        assert_eq!(how(&bed.ask(get(&hello.nar)).await), FROM_MEMORY);
        pass_by(n).await;
    }
    assert!(bed.metric("narwharf_disk_evictions_total") > 50);
    assert!(bed.blob_path(&hello.nar).exists());
}
