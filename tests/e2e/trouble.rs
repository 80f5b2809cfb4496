//! A bucket in trouble under a real push: one in five of all part uploads and completions fails, and
//! the client notices nothing.

use narwharf::nix::hash::Sha256Hash;

use crate::bucket::Bucket;
use crate::closure::Closure;
use crate::gateway::Gateway;
use crate::r2sim::{Fault, FaultGuard, Operation, R2Sim, Rule};
use crate::world::World;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The smallest part that S3 takes: longer NARs go there in parts.
const PART: usize = 5 * MIB;

/// Of the requests that may fail, those that do.
const SHARE: f64 = 0.2;

/// One that has something of nearly every fault within the first ten requests.
const SEED: u64 = 12_080;

/// What fails may fail in any of these ways.
fn faults() -> [Fault; 4] {
    [
        Fault::Status(500, "InternalError"),
        Fault::Status(503, "ServiceUnavailable"),
        Fault::Reset,
        Fault::Silence,
    ]
}

/// The operations that fail.
const FAILING: [Operation; 2] = [Operation::UploadPart, Operation::CompleteMultipartUpload];

/// One in `every` has two or three parts; the rest are as small as most of nixpkgs.
fn closure(count: usize, every: usize) -> Closure {
    Closure::flat(count - 1, "cargo", |index| match index % every {
        0 => PART + 64 * KIB + index * 37 % 60 * 64 * KIB,
        _ => index * 997 % 40_000,
    })
}

/// Rules by which each fault gets its part of the share, whichever comes first.
fn trouble(sim: &R2Sim) -> Vec<FaultGuard> {
    let each = SHARE / faults().len() as f64;
    let mut rules = Vec::new();
    for (seed, operation) in FAILING.into_iter().enumerate() {
        for (at, fault) in faults().into_iter().enumerate() {
            // Of what the rules before it have left.
            let chance = each / (1.0 - each * at as f64);
            let rule = Rule::on(operation).chance(chance, SEED + (10 * seed + at) as u64);
            rules.push(sim.fault(rule.plays(fault)));
        }
    }
    rules
}

/// What became of the requests that may fail.
#[derive(Debug, Default)]
struct Count {
    asked: usize,
    failed: u64,
}

/// Pushes `closure` as its maker, and takes it from the bucket again as somebody else.
fn push(closure: Closure, compression: &str) -> Count {
    let world = World::with(closure);
    let bucket = Bucket::R2(Box::new(R2Sim::start()));
    let Bucket::R2(sim) = &bucket else {
        unreachable!()
    };
    let settings = [
        ("UPLOADS__PART_SIZE", "5MiB".to_owned()),
        ("BUCKET__IDLE_TIMEOUT", "1s".to_owned()),
        ("BUCKET__FIRST_BYTE_TIMEOUT", "3s".to_owned()),
    ];
    let gateway = Gateway::start_with(&world.at("gateway"), &bucket, &settings);
    let rules = trouble(sim);
    // Exits with 0 and without a word: Nix warns of each retry.
    world.upload(&gateway, compression);
    let played: Vec<u64> = rules.iter().map(FaultGuard::played).collect();
    let count = Count {
        asked: FAILING.iter().map(|it| sim.log().requests_of(*it)).sum(),
        failed: played.iter().sum(),
    };
    drop(rules);

    // Each object was sent once and was new.
    let objects = sim.keys().len();
    assert_eq!(objects, 2 * world.closure.paths().count());
    let answers = gateway.answers_to("PUT");
    assert_eq!(answers, [("201".to_owned(), objects as u64)].into());
    let left = sim.open_multipart_uploads();
    assert!(left.is_empty(), "{left:?}");
    assert!(gateway.terminate().success());
    assert_whole(&world, &bucket);
    println!("{compression}: {objects} objects; {count:?}, by operation and fault {played:?}");
    count
}

/// Each NAR in the bucket has the bytes that the client named it by, and all of it together, read by a
/// gateway that has never seen it, is what the maker has.
fn assert_whole(world: &World, bucket: &Bucket) {
    for (key, bytes) in bucket.objects() {
        if let Some(name) = key.strip_prefix("nar/") {
            let hash = Sha256Hash::of(&bytes).to_nix32();
            assert!(name.starts_with(&hash), "{key}: other bytes");
        }
    }
    let fresh = Gateway::start(&world.at("fresh"), bucket);
    let copier = world.machine("copier");
    copier.run(&["nix", "copy", "--from", &fresh.url(), world.closure.top()]);
    world.assert_copied_to(&copier);
}

#[test]
fn a_bucket_in_trouble_is_not_noticed_by_who_pushes_xz() {
    // Few, since Nix takes its time to compress.
    let count = push(closure(6, 4), "xz");
    assert!(count.failed > 0, "{count:?}");
}

#[test]
fn a_bucket_in_trouble_is_not_noticed_by_who_pushes_zstd() {
    let count = push(closure(12, 4), "zstd");
    assert!(count.failed > 0, "{count:?}");
}

#[test]
fn a_bucket_in_trouble_is_not_noticed_by_who_pushes_uncompressed() {
    let count = push(closure(12, 4), "none");
    assert!(count.failed > 0, "{count:?}");
}

#[ignore = "pushes a gigabyte"]
#[test]
fn three_hundred_paths_are_pushed_into_a_bucket_in_trouble() {
    let mut all = Count::default();
    for (compression, every) in [("zstd", 5), ("none", 5), ("xz", 20)] {
        let count = push(closure(300, every), compression);
        all.asked += count.asked;
        all.failed += count.failed;
    }
    let share = all.failed as f64 / all.asked as f64;
    println!("{share:.3} of {} failed", all.asked);
    assert!((0.15..0.25).contains(&share), "{all:?}");
}
