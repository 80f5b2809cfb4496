//! The memory tier: documents, keys known to be absent, and small NARs, each in a space of its own.
//!
//! Of their own, because neither a flood of random hashes nor NARs, each as large as a thousand of
//! them, must push out one narinfo. moka bounds the bytes and chooses the victims; how old an entry
//! may be is judged by `gateway/freshness.rs`, which is why nothing here expires by itself.

mod nars;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::quality::RandomState;
use moka::sync::Cache;

use crate::metrics::Metrics;
use crate::metrics::labels::MemoryCache;
use crate::nix::hash::Sha256Hash;
use crate::nix::key::ObjectKey;
use crate::object::{self, Document, ETag};

use nars::Nars;
pub use nars::{AT_MOST as NARS_AT_MOST, HeldNar, Room as NarRoom};

/// What an entry costs beside its bytes and its key: moka's node, the `Arc`s, the header fields.
/// Added up from the types' sizes, not measured; it errs on the large side.
const ENTRY_OVERHEAD: usize = 400;

/// A document in memory, with what is worth preparing once.
#[derive(Debug, Clone)]
pub struct Held {
    pub document: Document,
    /// The tag shown to clients: from the SHA-256 of the bytes, alike whichever origin sent them.
    pub tag: ETag,
    /// `Last-Modified` as clients are told it.
    pub last_modified: Option<Bytes>,
    /// When an origin last said that this is the current version.
    pub validated: Instant,
    /// After a revalidation that nobody answered: not to be tried again before this.
    pub retry_at: Option<Instant>,
}

impl Held {
    /// Hashes the bytes. `validated`: the document's wall-clock mark, on the monotonic clock.
    pub fn new(document: Document, validated: Instant) -> Self {
        let tag =
            ETag::new(&Sha256Hash::of(&document.bytes).to_nix32()).expect("nix32 is visible ASCII");
        let last_modified = document.last_modified.and_then(object::http_date);
        Self {
            document,
            tag,
            last_modified,
            validated,
            retry_at: None,
        }
    }
}

/// Of caches that each request asks. Clients choose the keys, so it is seeded and mixes well; the
/// standard library's costs five times as much.
type Hasher = RandomState;

/// Bounded by bytes, shared by all workers, never blocking for longer than a shard's lock.
#[derive(Debug)]
pub struct MemoryTier {
    documents: Cache<ObjectKey, Arc<Held>, Hasher>,
    absent: Cache<ObjectKey, Instant, Hasher>,
    nars: Nars,
}

impl MemoryTier {
    /// `documents`, `negative` and `nars` in bytes.
    pub fn new(documents: u64, negative: u64, nars: u64) -> Self {
        Self {
            documents: Cache::builder()
                .max_capacity(documents)
                .weigher(|key: &ObjectKey, held: &Arc<Held>| weight(key, held.document.bytes.len()))
                .build_with_hasher(Hasher::default()),
            absent: Cache::builder()
                .max_capacity(negative)
                .weigher(|key: &ObjectKey, _: &Instant| weight(key, 0))
                .build_with_hasher(Hasher::default()),
            nars: Nars::new(nars),
        }
    }

    pub fn document(&self, key: &ObjectKey) -> Option<Arc<Held>> {
        self.documents.get(key)
    }

    /// Since when the key is known to be absent.
    pub fn absent_since(&self, key: &ObjectKey) -> Option<Instant> {
        self.absent.get(key)
    }

    pub fn nar(&self, key: &ObjectKey) -> Option<Arc<HeldNar>> {
        self.nars.get(key)
    }

    /// Whether the space for NARs is large enough for one of `len` bytes.
    pub fn could_hold_nar(&self, key: &ObjectKey, len: usize) -> bool {
        self.nars.could_hold(key, len)
    }

    /// Memory for a NAR of `len` bytes; `None`: clients are still being sent too many that were
    /// pushed out.
    pub fn room_for_nar(&self, key: &ObjectKey, len: usize) -> Option<NarRoom> {
        self.nars.room(key, len)
    }

    /// [`MemoryTier::tidy_nars`] is to be called soon after, since these are large.
    pub fn keep_nar(&self, key: &ObjectKey, held: Arc<HeldNar>) {
        self.nars.keep(key, held);
    }

    /// A document is there, so the key is not absent.
    pub fn keep(&self, key: &ObjectKey, held: Arc<Held>) {
        self.documents.insert(key.clone(), held);
        self.absent.invalidate(key);
    }

    /// The key is absent, so there is no document.
    pub fn keep_absent(&self, key: &ObjectKey, since: Instant) {
        self.absent.insert(key.clone(), since);
        self.documents.invalidate(key);
    }

    /// Forgets whatever is known of the key.
    pub fn forget(&self, key: &ObjectKey) {
        self.documents.invalidate(key);
        self.absent.invalidate(key);
        self.nars.forget(key);
    }

    /// Lets moka do its pending work; to be called about once a second.
    pub fn tidy(&self) {
        self.documents.run_pending_tasks();
        self.absent.run_pending_tasks();
        self.tidy_nars();
    }

    /// The same of NARs alone: what has to go for a new one goes now.
    pub fn tidy_nars(&self) {
        self.nars.tidy();
    }

    /// Shows sizes and counts.
    pub fn show(&self, metrics: &Metrics) {
        let (nars_bytes, nars) = self.nars.size();
        let gauges = [
            (
                MemoryCache::Documents,
                self.documents.weighted_size(),
                self.documents.entry_count(),
            ),
            (
                MemoryCache::Negative,
                self.absent.weighted_size(),
                self.absent.entry_count(),
            ),
            (MemoryCache::Nars, nars_bytes, nars),
        ];
        for (cache, bytes, entries) in gauges {
            metrics.memory_bytes.of((cache,)).set(bytes as i64);
            metrics.memory_entries.of((cache,)).set(entries as i64);
        }
    }
}

/// Small facts about keys, bounded by their number: what was learnt on the way and can be learnt
/// again, so that losing one costs a question and never an answer.
pub struct Notes<V>(Cache<ObjectKey, V, Hasher>);

impl<V: Clone + Send + Sync + 'static> Notes<V> {
    /// At most `entries` of them, each for at most `ttl` (`None`: until pushed out).
    pub fn new(entries: u64, ttl: Option<Duration>) -> Self {
        let builder = Cache::builder().max_capacity(entries);
        let builder = match ttl {
            Some(ttl) => builder.time_to_live(ttl),
            None => builder,
        };
        Self(builder.build_with_hasher(Hasher::default()))
    }

    pub fn put(&self, key: &ObjectKey, fact: V) {
        self.0.insert(key.clone(), fact);
    }

    pub fn get(&self, key: &ObjectKey) -> Option<V> {
        self.0.get(key)
    }

    pub fn forget(&self, key: &ObjectKey) {
        self.0.invalidate(key);
    }
}

impl<V> std::fmt::Debug for Notes<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notes")
    }
}

fn weight(key: &ObjectKey, bytes: usize) -> u32 {
    u32::try_from(key.as_str().len() + bytes + ENTRY_OVERHEAD).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::SystemTime;

    fn key(n: u32) -> ObjectKey {
        ObjectKey::from_stored(&format!("{n:032}.narinfo")).unwrap()
    }

    fn held(len: usize) -> Arc<Held> {
        let document = Document {
            bytes: Bytes::from(vec![b'x'; len]),
            etag: None,
            last_modified: None,
            content_type: None,
            content_encoding: None,
            validated: SystemTime::UNIX_EPOCH,
        };
        Arc::new(Held::new(document, Instant::now()))
    }

    #[test]
    fn a_key_is_either_there_or_absent() {
        let memory = MemoryTier::new(1 << 20, 1 << 20, 0);
        memory.keep_absent(&key(1), Instant::now());
        memory.keep(&key(1), held(10));
        assert!(memory.document(&key(1)).is_some());
        assert!(memory.absent_since(&key(1)).is_none());
        memory.keep_absent(&key(1), Instant::now());
        assert!(memory.document(&key(1)).is_none());
        assert!(memory.absent_since(&key(1)).is_some());
        memory.forget(&key(1));
        assert!(memory.absent_since(&key(1)).is_none());
    }

    #[test]
    fn documents_stay_within_their_bytes_and_a_flood_of_absences_costs_no_document() {
        let memory = MemoryTier::new(100_000, 20_000, 0);
        memory.keep(&key(0), held(1_000));
        for n in 1..2_000 {
            memory.keep_absent(&key(n), Instant::now());
        }
        memory.tidy();
        assert!(memory.document(&key(0)).is_some());
        for n in 2_000..4_000 {
            memory.keep(&key(n), held(1_000));
        }
        memory.tidy();
        let metrics = Metrics::new();
        memory.show(&metrics);
        assert!(metrics.memory_bytes.of((MemoryCache::Documents,)).get() <= 100_000);
        assert!(metrics.memory_bytes.of((MemoryCache::Negative,)).get() <= 20_000);
        assert!(metrics.memory_entries.of((MemoryCache::Documents,)).get() > 10);
    }

    #[test]
    fn the_tag_depends_on_the_bytes_alone() {
        assert_eq!(held(5).tag, held(5).tag);
        assert_ne!(held(5).tag, held(6).tag);
    }
}
