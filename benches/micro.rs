//! What do the parts of a request cost, one by one?
//!
//! `cargo bench --bench micro` measures them; `cargo test` runs each once.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use data_encoding::BASE64;
use divan::Bencher;
use ed25519_dalek::SigningKey;
use narwharf::clock::Clock;
use narwharf::config::Config;
use narwharf::metrics::Metrics;
use narwharf::nix::base32;
use narwharf::nix::hash::Sha256Hash;
use narwharf::nix::key::{Key, NarKey, ObjectKey};
use narwharf::nix::narinfo::Narinfo;
use narwharf::nix::signature::SecretKey;
use narwharf::object::Document;
use narwharf::tier::disk::DiskTier;
use narwharf::tier::memory::{Held, MemoryTier};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STORE_DIR: &str = "/nix/store";

fn main() {
    divan::main();
}

/// A narinfo that refers to so many paths, with one signature.
fn narinfo(references: usize) -> String {
    let name = |n: usize| format!("{}-package-{n}", path_hash(n));
    let listed: Vec<String> = (1..=references).map(name).collect();
    let hash = Sha256Hash::of(b"a NAR").to_nix32();
    format!(
        "StorePath: {STORE_DIR}/{}\nURL: nar/{hash}.nar.xz\nCompression: xz\nFileHash: sha256:{hash}\n\
         FileSize: 50264\nNarHash: sha256:{hash}\nNarSize: 226560\nReferences: {}\nDeriver: {}.drv\n\
         Sig: bench-1:{}\n",
        name(0),
        listed.join(" "),
        name(references + 1),
        BASE64.encode(&[7; 64]),
    )
}

fn path_hash(n: usize) -> String {
    base32::encode(&Sha256Hash::of(&n.to_le_bytes()).as_bytes()[..20])
}

fn key(n: usize) -> ObjectKey {
    ObjectKey::from_stored(&format!("{}.narinfo", path_hash(n))).expect("a narinfo's key")
}

fn document() -> Document {
    Document {
        bytes: narinfo(4).into(),
        etag: None,
        last_modified: None,
        content_type: None,
        content_encoding: None,
        validated: SystemTime::now(),
    }
}

/// What is done with a narinfo that comes from the bucket or from an uploader.
mod narinfos {
    use super::*;

    #[divan::bench(args = [0, 4, 50])]
    fn parse(bencher: Bencher, references: usize) {
        let text = narinfo(references);
        bencher.bench(|| Narinfo::parse(STORE_DIR, black_box(text.as_bytes())));
    }

    #[divan::bench(args = [0, 4, 50])]
    fn fingerprint(bencher: Bencher, references: usize) {
        let parsed = Narinfo::parse(STORE_DIR, narinfo(references).as_bytes()).expect("a narinfo");
        bencher.bench(|| black_box(&parsed).fingerprint(STORE_DIR));
    }

    /// Of a fingerprint, and its check.
    mod signature {
        use super::*;

        fn secret() -> SecretKey {
            let pair = SigningKey::from_bytes(&[23; 32]).to_keypair_bytes();
            let text = format!("bench-1:{}", BASE64.encode(&pair));
            text.parse().expect("a key pair")
        }

        #[divan::bench]
        fn sign(bencher: Bencher) {
            let secret = secret();
            bencher.bench(|| secret.sign(black_box("1;/nix/store/x;sha256:y;1;")));
        }

        #[divan::bench]
        fn verify(bencher: Bencher) {
            let (public, text) = (secret().public_key(), "1;/nix/store/x;sha256:y;1;");
            let signature = secret().sign(text);
            bencher.bench(|| public.verify(black_box(text), &signature));
        }
    }
}

/// The way from a path to a key, at the front of every request.
mod keys {
    use super::*;

    #[divan::bench]
    fn narinfo(bencher: Bencher) {
        let path = format!("/{}.narinfo", path_hash(0));
        bencher.bench(|| Key::parse(None, black_box(&path), None));
    }

    #[divan::bench]
    fn nar(bencher: Bencher) {
        let path = format!("/nar/{}.nar.xz", Sha256Hash::of(b"a NAR").to_nix32());
        bencher.bench(|| Key::parse(None, black_box(&path), None));
    }

    #[divan::bench]
    fn nar_from_url(bencher: Bencher) {
        let url = format!("nar/{}.nar.xz", Sha256Hash::of(b"a NAR").to_nix32());
        bencher.bench(|| NarKey::from_url(None, black_box(&url)));
    }

    #[divan::bench]
    fn refused(bencher: Bencher) {
        bencher.bench(|| Key::parse(None, black_box("/nar/../../etc/passwd"), None));
    }
}

/// From one thread, and from two that want the same.
mod memory {
    use super::*;

    const KEPT: usize = 10_000;

    fn tier() -> MemoryTier {
        let tier = MemoryTier::new(64 << 20, 16 << 20, 0);
        let held = Arc::new(Held::new(document(), Instant::now()));
        for n in 0..KEPT {
            tier.keep(&key(n), Arc::clone(&held));
            tier.keep_absent(&key(KEPT + n), Instant::now());
        }
        tier.tidy();
        tier
    }

    #[divan::bench(threads = [1, 2])]
    fn hit(bencher: Bencher) {
        let (tier, key) = (tier(), key(17));
        bencher.bench(|| tier.document(black_box(&key)));
    }

    #[divan::bench(threads = [1, 2])]
    fn miss(bencher: Bencher) {
        let (tier, key) = (tier(), key(3 * KEPT));
        bencher.bench(|| tier.document(black_box(&key)));
    }

    #[divan::bench(threads = [1, 2])]
    fn known_absence(bencher: Bencher) {
        let (tier, key) = (tier(), key(KEPT + 17));
        bencher.bench(|| tier.absent_since(black_box(&key)));
    }

    #[divan::bench]
    fn keep(bencher: Bencher) {
        let tier = tier();
        let held = Arc::new(Held::new(document(), Instant::now()));
        let mut n = 0;
        bencher
            .with_inputs(|| {
                n += 1;
                key(n)
            })
            .bench_local_values(|key| tier.keep(&key, Arc::clone(&held)));
    }
}

/// Through the disk tier, as a request meets it; what is kept is written by another thread.
mod index {
    use super::*;

    const KEPT: usize = 10_000;
    const PATIENCE: Duration = Duration::from_secs(30);

    struct Index {
        tier: DiskTier,
        // Last, for the tier lies in it.
        _folder: tempfile::TempDir,
    }

    fn index() -> Index {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("disk").display().to_string();
        let variables = [("NARWHARF_DISK__PATH".to_owned(), path)];
        let config = Config::load(&[], variables.into_iter()).expect("settings in order");
        let tier = DiskTier::open(&config.disk, Arc::new(Metrics::new()), Clock::default());
        let tier = tier.expect("a disk tier");
        tier.wait_for_index(PATIENCE);
        Index {
            tier,
            _folder: folder,
        }
    }

    /// With narinfos that were there when it was opened, so that lookups reach the database.
    fn filled() -> Index {
        let index = index();
        for n in 0..KEPT {
            index.tier.keep_document(&key(n), &document());
        }
        // The last is written with all before it.
        std::thread::sleep(Duration::from_secs(1));
        index
    }

    #[divan::bench]
    fn lookup(bencher: Bencher) {
        let index = filled();
        let mut n = 0;
        bencher
            .with_inputs(|| {
                n = (n + 7919) % KEPT;
                key(n)
            })
            .bench_local_values(|key| index.tier.document(&key));
    }

    #[divan::bench]
    fn lookup_of_nothing(bencher: Bencher) {
        let (index, key) = (filled(), key(KEPT + 1));
        bencher.bench(|| index.tier.document(black_box(&key)));
    }

    #[divan::bench]
    fn keep(bencher: Bencher) {
        let (index, document) = (index(), document());
        let mut n = 0;
        bencher
            .with_inputs(|| {
                n += 1;
                key(n % KEPT)
            })
            .bench_local_values(|key| index.tier.keep_document(&key, &document));
    }
}
