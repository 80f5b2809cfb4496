//! The disk tier as a whole, on a real file system: what a caller sees, and what lies on disk after.

mod churn;
mod commit;
mod damage;
mod documents;
mod recovery;
mod room;
mod rot;
mod sick;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::budget::Phase;
use super::*;
use crate::nix::hash::Sha256Hash;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
/// Longer than any step of a test takes; reached only by one that fails.
const PATIENCE: Duration = Duration::from_secs(30);

impl DiskTier {
    /// Waits until the files found at start and the index agree. `false`: not within `patience`.
    pub fn wait_until_recovered(&self, patience: Duration) -> bool {
        let books = locked(&self.inner.books);
        let (books, _) = self
            .inner
            .progress
            .wait_timeout_while(books, patience, |books| books.phase < Phase::Reconciled)
            .unwrap_or_else(PoisonError::into_inner);
        books.phase == Phase::Reconciled
    }
}

/// A cache directory that outlives the tiers opened on it.
pub struct Bed {
    dir: tempfile::TempDir,
    pub settings: config::Disk,
    pub clock: Clock,
}

impl Bed {
    pub fn new() -> Self {
        Self::with_capacity(64 * MIB)
    }

    pub fn with_capacity(capacity: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = config::Disk {
            path: dir.path().join("cache"),
            capacity,
            min_free: 0,
            max_nar: None,
            index_size: 64 * MIB,
            index_cache: MIB,
            abandoned_fills: crate::config::AbandonedFills::Always,
        };
        Self {
            dir,
            settings,
            clock: Clock::default(),
        }
    }

    /// A tier whose files are counted and agree with the index.
    pub fn open(&self) -> DiskTier {
        self.open_counting().0
    }

    pub fn open_counting(&self) -> (DiskTier, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        let tier =
            DiskTier::open(&self.settings, Arc::clone(&metrics), self.clock.clone()).unwrap();
        assert!(tier.wait_until_recovered(PATIENCE));
        (tier, metrics)
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.settings.path.join(below)
    }

    pub fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

pub fn key(text: &str) -> ObjectKey {
    ObjectKey::from_stored(text).unwrap_or_else(|| panic!("{text} is a key"))
}

/// The key of a NAR named by its content, as Nix names them.
pub fn key_of(content: &[u8]) -> ObjectKey {
    key(&format!(
        "nar/{}.nar.xz",
        Sha256Hash::of(content).to_nix32()
    ))
}

pub fn facts() -> BlobFacts {
    BlobFacts {
        etag: crate::object::ETag::new("abc-2"),
        last_modified: Some(UNIX_EPOCH + Duration::from_secs(1_600_000_000)),
        verified: true,
    }
}

pub fn put(tier: &DiskTier, key: &ObjectKey, content: &[u8]) -> Blob {
    let mut writer = tier.reserve(key, content.len() as u64).unwrap();
    writer.write(content).unwrap();
    writer.publish(facts()).unwrap()
}

pub fn content(blob: &Blob) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; blob.len as usize];
    blob.file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[track_caller]
pub fn hit(tier: &DiskTier, key: &ObjectKey) -> Blob {
    match tier.lookup(key) {
        BlobLookup::Hit(blob) => blob,
        other => panic!("{key}: {other:?}"),
    }
}

#[track_caller]
pub fn unindexed(tier: &DiskTier, key: &ObjectKey) -> Blob {
    match tier.lookup(key) {
        BlobLookup::Unindexed(blob) => blob,
        other => panic!("{key}: {other:?}"),
    }
}

#[track_caller]
pub fn miss(tier: &DiskTier, key: &ObjectKey) {
    let found = tier.lookup(key);
    assert!(matches!(found, BlobLookup::Miss), "{key}: {found:?}");
}

/// Allocated bytes of everything below the cache directory except the index.
pub fn allocated_below(root: &Path) -> u64 {
    let own = fs::symlink_metadata(root).unwrap().blocks() * 512;
    let entries = fs::read_dir(root).unwrap().flatten();
    entries.fold(own, |sum, entry| {
        let about = match entry.metadata() {
            Ok(about) => about,
            // A temporary file may go at any time, and takes up nothing then.
            Err(gone) if gone.kind() == ErrorKind::NotFound => return sum,
            Err(cause) => panic!("{}: {cause}", entry.path().display()),
        };
        let name = entry.file_name();
        let is_index = name.to_string_lossy().starts_with("index");
        sum + match about.is_dir() {
            _ if is_index => 0,
            true => allocated_below(&entry.path()),
            false => about.blocks() * 512,
        }
    })
}

/// Copies a folder with all in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let beside = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &beside),
            false => drop(fs::copy(entry.path(), beside).unwrap()),
        }
    }
}

/// Names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub fn whole_ms(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(index::millis(time))
}
