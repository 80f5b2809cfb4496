//! The disk tier: NARs as plain files, byte for byte what the bucket holds, and an index of hints.
//!
//! ```text
//! lookup ──▶ blob ──▶ shelves (in memory)        what is there, checked against the file
//! reserve ─▶ budget ─▶ evict, then writer        room first, then the bytes, then their name
//! start ───▶ claim ──▶ keeper: recover           whose directory, what is in it
//!                      scrub                     whether it still is what it was
//! document, and every change to a blob ─▶ index  sled, written behind
//! ```
//! The files are the truth. The shelves are the picture of them that this process works with, and
//! the index is a copy of that picture for the next process, with the documents beside it. A sick
//! disk is a miss and a refused reservation, never an error to a client.
//!
//! Locks, in the order in which they are taken: `evicting` (one evicts at a time), `moves` (names
//! change: renames and unlinks), `books` (sizes and recency; never held over I/O).

mod audit;
mod blob;
mod budget;
mod claim;
mod content;
mod diagnose;
mod evict;
mod extents;
mod files;
mod gauges;
mod hand;
mod health;
mod index;
mod keeper;
mod layout;
mod marker;
mod notes;
mod recover;
mod scrub;
mod shelves;
mod spares;
mod survey;
mod walk;
mod writer;
mod writing;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::config;
use crate::metrics::Metrics;
use crate::nix::key::ObjectKey;
use crate::object::Document;
use budget::Books;
use claim::Claim;
use hand::{Bell, Hand};
use health::Health;
use index::{Index, Place};
use layout::Layout;
use spares::Spares;
use writing::Writing;

pub use audit::{Audit, Listed, Verdict};
pub use blob::{Blob, BlobLookup};
pub use claim::OpenError;
pub use diagnose::diagnose;
pub use health::State;
pub use index::{MAX_DOCUMENT, UNWRITTEN};
pub use notes::Note;
pub use survey::{Seen, Survey};
pub use writer::{BlobFacts, BlobWriter};

/// How long closing waits for each of the tier's threads, then for what the index is to be told, and then for
/// the index to close.
const CLOSING: Duration = Duration::from_secs(5);

/// Why a blob cannot be stored now. The gateway then streams through unstored.
#[derive(Debug, thiserror::Error)]
pub enum NoRoom {
    #[error("larger than disk.capacity or disk.max_nar allows")]
    TooLarge,
    #[error("the disk tier is full of what is being written or read")]
    Full,
    #[error("removed while it was asked for")]
    Removed,
    #[error("the disk: {0}")]
    Disk(#[source] io::Error),
}

/// A handle to the disk tier; clones share it. Except where said otherwise its methods make a few
/// system calls and may wait for the disk, so they are for blocking threads.
#[derive(Clone)]
pub struct DiskTier {
    inner: Arc<Inner>,
    /// Shared by the handles alone, so that the last of them closes the tier.
    _last: Arc<CloseOnDrop>,
}

/// What all parts of the tier share.
struct Inner {
    settings: config::Disk,
    metrics: Arc<Metrics>,
    clock: Clock,
    layout: Layout,
    health: Health,
    index: Index,
    bell: Arc<Bell>,
    books: Mutex<Books>,
    /// Sounds when `Books::phase` changes.
    progress: Condvar,
    moves: Mutex<()>,
    writing: Writing,
    evicting: Mutex<()>,
    spares: Spares,
    /// Bytes written to temporaries.
    written: AtomicU64,
    /// Whether the file system sets blocks aside when asked.
    preallocates: AtomicBool,
    serial: AtomicU64,
    /// Last, so that the directory is given back after everything else.
    claim: Mutex<Option<Claim>>,
}

impl DiskTier {
    /// Takes `disk.path` into possession and serves at once; counting the files and opening the
    /// index go on in the background.
    ///
    /// A disk that is read-only, full or failing is no error: the tier starts degraded, misses
    /// everything, and takes the directory once it can.
    pub fn open(
        settings: &config::Disk,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let bell = Arc::new(Bell::default());
        let inner = Arc::new(Inner {
            layout: Layout::new(&settings.path),
            health: Health::new(),
            index: Index::new(metrics.index_rebuilds.clone(), Arc::clone(&bell)),
            bell,
            books: Mutex::new(Books::new(settings.capacity)),
            progress: Condvar::new(),
            moves: Mutex::default(),
            writing: Writing::default(),
            evicting: Mutex::default(),
            spares: Spares::default(),
            written: AtomicU64::new(0),
            preallocates: AtomicBool::new(true),
            serial: AtomicU64::new(clock_serial(&clock)),
            claim: Mutex::default(),
            settings: settings.clone(),
            metrics,
            clock,
        });
        if let Err(refusal) = inner.claim() {
            match refusal.may_pass() {
                Some(cause) => inner.health.failed(cause),
                None => return Err(refusal),
            }
        }
        inner.show_metrics();
        let failed = |source| OpenError::Io {
            path: settings.path.clone(),
            source,
        };
        let hands = [
            keeper::spawn(&inner).map_err(failed)?,
            scrub::spawn(&inner).map_err(failed)?,
        ];
        let last = CloseOnDrop {
            inner: Arc::clone(&inner),
            hands: Mutex::new(Some(hands)),
        };
        Ok(Self {
            inner,
            _last: Arc::new(last),
        })
    }

    /// What is stored under a key; counts as a use.
    pub fn lookup(&self, key: &ObjectKey) -> BlobLookup {
        if self.inner.is_claimed() {
            self.inner.lookup(key)
        } else {
            BlobLookup::Miss
        }
    }

    /// Notes a use of what is stored under a key, by somebody who did not look it up. Touches no file.
    pub fn note_use(&self, key: &ObjectKey) {
        self.inner.touch(key);
    }

    /// Vouches for an unindexed blob whose content proved right, with `blob.etag` as its tag.
    pub fn adopt(&self, key: &ObjectKey, blob: &Blob) {
        self.inner.adopt(key, blob);
    }

    /// Sets a blob aside whose bytes proved wrong. Another that has taken its place stays.
    pub fn quarantine(&self, key: &ObjectKey, blob: &Blob) {
        self.inner.quarantine(key, blob);
    }

    /// Removes a key's blob, and lets none become one that is being written now. `false`: there was
    /// none, or (logged) it could not be removed.
    pub fn remove(&self, key: &ObjectKey) -> bool {
        self.inner.is_claimed() && self.inner.remove(key)
    }

    /// Room for a blob of at most `len` bytes, evicting what is needed, and the file to write it to.
    pub fn reserve(&self, key: &ObjectKey, len: u64) -> Result<BlobWriter, NoRoom> {
        self.inner.reserve(key, len)
    }

    /// The document kept under a key, however old. Waits for the disk only where what the index has of
    /// it is in nobody's memory, sled's or the kernel's.
    pub fn document(&self, key: &ObjectKey) -> Option<Document> {
        self.inner.index.document(key)
    }

    /// Keeps a document for later starts. Never blocks; one over [`MAX_DOCUMENT`] is not kept.
    pub fn keep_document(&self, key: &ObjectKey, document: &Document) {
        self.inner.index.keep_document(key, document);
    }

    /// The same of one that has been written anew: the one before is gone even if this is not kept. Waits
    /// for the disk as [`DiskTier::document`] does.
    pub fn replace_document(&self, key: &ObjectKey, document: &Document) {
        self.inner.index.replace_document(key, document);
    }

    /// Gone for [`DiskTier::document`] once this returns. Never blocks.
    pub fn forget_document(&self, key: &ObjectKey) {
        self.inner.index.forget_document(key);
    }

    /// The same of what an origin does not have. Costs no write where nothing was kept; waits for the
    /// disk as [`DiskTier::document`] does.
    pub fn forget_absent(&self, key: &ObjectKey) {
        self.inner.index.forget_absent(key);
    }

    /// Whether blobs can be stored. Never blocks.
    pub fn state(&self) -> State {
        self.inner.health.state()
    }

    /// Whether the index is open. Never blocks.
    pub fn index_state(&self) -> State {
        self.inner.index.state()
    }

    /// Waits until the index is open, or failed to; at most `patience`. Before that a lookup finds
    /// no document, and takes a blob for one that the index has lost.
    pub fn wait_for_index(&self, patience: Duration) {
        if self.inner.is_claimed() {
            self.inner.index.wait_while_starting(patience);
        }
    }

    /// Saves recency and closes the index, within 20 s. Blobs can still be read and written after,
    /// unknown to the index. The directory is given back with the last handle, writer included.
    pub fn close(&self) {
        self._last.close();
    }
}

impl Inner {
    fn is_claimed(&self) -> bool {
        locked(&self.claim).is_some()
    }

    fn holds_claim(&self) -> io::Result<bool> {
        locked(&self.claim).as_ref().map_or(Ok(false), Claim::holds)
    }

    /// Takes what is at the path in the place of what was claimed before and is there no longer.
    fn claim_again(&self) -> Result<(), OpenError> {
        // First, for it must not meet the new directory.
        self.index.close(CLOSING);
        {
            let _alone = locked(&self.evicting);
            let _moving = locked(&self.moves);
            locked(&self.claim).take();
            locked(&self.books).begin_anew();
            self.spares.clear();
        }
        tracing::warn!(path = %self.settings.path.display(), "the cache directory is begun anew");
        self.claim()
    }

    /// Takes the directory and begins to use it.
    fn claim(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io {
            path: self.settings.path.clone(),
            source,
        };
        let claim = Claim::take(&self.layout)?;
        recover::sweep(&self.layout).map_err(failed)?;
        let place = Place {
            dir: self.layout.index(),
            cache: self.settings.index_cache,
            limit: self.settings.index_size,
            expected: claim.was_ours,
        };
        self.index.start(place).map_err(failed)?;
        self.spares.restock(&self.layout.tmp());
        *locked(&self.claim) = Some(claim);
        self.health.worked();
        self.bell.ring();
        Ok(())
    }

    /// A number no temporary of this or an earlier process had.
    fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }
}

/// Closes the tier when its last handle goes, though writers may hold the rest of it longer.
struct CloseOnDrop {
    inner: Arc<Inner>,
    hands: Mutex<Option<[Hand; 2]>>,
}

impl CloseOnDrop {
    fn close(&self) {
        let Some(hands) = locked(&self.hands).take() else {
            return;
        };
        hands.iter().for_each(Hand::stop);
        hands.iter().for_each(|hand| hand.wait(CLOSING));
        let begun = Instant::now();
        while !self.inner.save_recency() {
            let left = CLOSING.saturating_sub(begun.elapsed());
            if !self.inner.index.wait_until_told(left) {
                break;
            }
        }
        self.inner.index.close(CLOSING);
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.close();
    }
}

/// Where serial numbers begin: later than all of an earlier process, as clocks go, so that names in
/// quarantine sort by age.
fn clock_serial(clock: &Clock) -> u64 {
    index::millis(clock.wall()) << 20
}

/// Locks a mutex. A panic elsewhere while it was held leaves nothing half-changed that matters: the
/// books are counts, corrected as files are met.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for DiskTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskTier")
            .field("path", &self.inner.settings.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
