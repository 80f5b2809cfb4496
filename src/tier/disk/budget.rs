//! The promise `blobs + temporaries + reservations ≤ capacity`, in allocated bytes.
//!
//! A writer pays before its first byte, with a [`Grant`] for all it may come to allocate; blobs are
//! evicted until the grant fits. Bytes stay counted until the file that holds them is unlinked, so
//! the sum on disk is never above the sum in the books. Until the files found at start are counted
//! nobody knows what is left, and grants wait.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::StatVfs;

use super::files::{self, BLOCK};
use super::shelves::{Entry, Shelves};
use super::{Inner, NoRoom, locked};
use crate::nix::key::ObjectKey;

/// How long a grant waits for the files found at start to be counted.
const COUNTING: Duration = Duration::from_secs(2);
/// A file system keeps one block of extents for at least so many bytes of a large file (ext4: at
/// most 340 extents in a block, and a file in pieces of 1 MiB would be badly fragmented).
const EXTENTS: u64 = 256 << 20;
/// The high and the low water mark, in 32nds of the capacity: above the one eviction begins in the
/// background, at the other it ends. What is between the high one and the top is what requests may
/// take meanwhile without evicting themselves.
const HIGH_WATER: u64 = 31;
const LOW_WATER: u64 = 30;

/// How far the start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The files are not counted, so nothing can be reserved.
    Counting,
    /// All files are counted; the index may still know more of them.
    Counted,
    /// Files and index agree.
    Reconciled,
}

/// All that takes space, in allocated bytes.
pub(super) struct Books {
    pub shelves: Shelves,
    pub phase: Phase,
    /// Temporaries, and what their writers may yet allocate.
    pub granted: u64,
    /// Folders and small files that are never given back.
    pub folders: u64,
    /// Quarantined files, oldest first.
    pub quarantined: VecDeque<(PathBuf, u64)>,
    capacity: u64,
}

impl Books {
    pub fn new(capacity: u64) -> Self {
        Self {
            shelves: Shelves::new(capacity),
            phase: Phase::Counting,
            granted: 0,
            folders: 0,
            quarantined: VecDeque::new(),
            capacity,
        }
    }

    /// Forgets a directory that is there no longer. Its writers still give back what they were granted.
    pub fn begin_anew(&mut self) {
        *self = Self {
            granted: self.granted,
            ..Self::new(self.capacity)
        };
    }

    /// Everything on disk and everything promised.
    pub fn total(&self) -> u64 {
        self.fixed() + self.evictable()
    }

    /// What eviction could free.
    fn evictable(&self) -> u64 {
        let quarantined = self.quarantined.iter().map(|(_, bytes)| bytes);
        self.shelves.bytes() + quarantined.sum::<u64>()
    }

    fn fits(&self, need: u64) -> bool {
        self.total().saturating_add(need) <= self.capacity
    }

    /// Whether evicting all that can be evicted would make `need` fit.
    fn could_fit(&self, need: u64) -> bool {
        self.fixed().saturating_add(need) <= self.capacity
    }

    pub fn is_above_high_water(&self) -> bool {
        self.total() > share(self.capacity, HIGH_WATER)
    }

    pub fn is_above_low_water(&self) -> bool {
        self.total() > share(self.capacity, LOW_WATER)
    }

    fn fixed(&self) -> u64 {
        self.granted + self.folders
    }
}

fn share(capacity: u64, in_32: u64) -> u64 {
    capacity - capacity / 32 * (32 - in_32)
}

/// Bytes a writer may allocate. They return when this is dropped, or become a blob.
pub(super) struct Grant {
    tier: Arc<Inner>,
    bytes: u64,
}

impl Grant {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Pays for `bytes` in all, evicting if need be.
    pub fn raise_to(&mut self, bytes: u64) -> Result<(), NoRoom> {
        if bytes > self.bytes {
            let mut more = self.tier.grant(bytes - self.bytes)?;
            self.bytes += std::mem::take(&mut more.bytes);
        }
        Ok(())
    }

    /// Moves `bytes` of it to the folders' account.
    pub fn spend_on_folder(&mut self, bytes: u64) {
        let mut books = locked(&self.tier.books);
        books.folders += bytes;
        let spent = bytes.min(self.bytes);
        books.granted -= spent;
        self.bytes -= spent;
    }

    /// Turns it into a blob, in one step, so that the sum never counts both or neither.
    pub fn become_blob(mut self, key: ObjectKey, entry: Entry) {
        let mut books = locked(&self.tier.books);
        books.granted -= std::mem::take(&mut self.bytes);
        books.shelves.put(key, entry);
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.bytes > 0 {
            locked(&self.tier.books).granted -= self.bytes;
        }
    }
}

/// What a file of `len` bytes may come to allocate: its blocks, and blocks that say where those are.
pub(super) fn cost(len: u64) -> u64 {
    let blocks = len.div_ceil(BLOCK).saturating_mul(BLOCK);
    blocks.saturating_add((1 + len / EXTENTS) * BLOCK)
}

impl Inner {
    /// Promises `need` bytes, evicting for them where the background has not kept up. Blocks.
    pub fn grant(self: &Arc<Self>, need: u64) -> Result<Grant, NoRoom> {
        if let Some(grant) = self.try_grant(need)? {
            return Ok(grant);
        }
        // One evicts at a time: two at once would each free what one of them needs.
        let _alone = locked(&self.evicting);
        loop {
            if let Some(grant) = self.try_grant(need)? {
                return Ok(grant);
            }
            if self.evict_one().map_err(NoRoom::Disk)?.is_none() {
                return Err(NoRoom::Full);
            }
        }
    }

    /// `None`: something has to go first.
    fn try_grant(self: &Arc<Self>, need: u64) -> Result<Option<Grant>, NoRoom> {
        let mut books = self.counted_books()?;
        if !books.could_fit(need) {
            return Err(NoRoom::Full);
        }
        if !books.fits(need) {
            return Ok(None);
        }
        books.granted += need;
        if books.is_above_high_water() {
            self.bell.ring();
        }
        drop(books);
        Ok(Some(Grant {
            tier: Arc::clone(self),
            bytes: need,
        }))
    }

    /// Leaves `disk.min_free` to others, and room for `need` bytes of ours besides. Evicts nothing
    /// when all of it would not be enough. Else it evicts what is missing once and looks again:
    /// unlinked files that are still being read free nothing yet, so that going on until the space
    /// shows would empty the cache.
    pub fn keep_free(&self, need: u64) -> Result<(), NoRoom> {
        let short = self.short_of_free(need).map_err(NoRoom::Disk)?;
        if short == 0 {
            return Ok(());
        }
        if short > locked(&self.books).evictable() {
            return Err(NoRoom::Full);
        }
        self.evict_bytes(short).map_err(NoRoom::Disk)?;
        match self.short_of_free(need).map_err(NoRoom::Disk)? {
            0 => Ok(()),
            _ => Err(NoRoom::Full),
        }
    }

    /// Evicts until `bytes` have been unlinked or nothing is left.
    pub fn evict_bytes(&self, bytes: u64) -> io::Result<()> {
        let _alone = locked(&self.evicting);
        let mut freed = 0;
        while freed < bytes
            && let Some(evicted) = self.evict_one()?
        {
            freed += evicted;
        }
        Ok(())
    }

    /// Evicts down to the low water mark, if the high one is passed. Stands back for whoever needs
    /// room at once.
    pub fn keep_low_water(&self) -> io::Result<()> {
        if !locked(&self.books).is_above_high_water() {
            return Ok(());
        }
        loop {
            let _alone = locked(&self.evicting);
            if !locked(&self.books).is_above_low_water() || self.evict_one()?.is_none() {
                self.progress.notify_all();
                return Ok(());
            }
        }
    }

    /// Evicts what is missing of `disk.min_free` and of as much room for requests as there is below
    /// the top of the capacity, so that requests find it.
    pub fn keep_free_ahead(&self) -> Result<(), NoRoom> {
        self.keep_free(self.settings.capacity / 32)
    }

    fn short_of_free(&self, need: u64) -> io::Result<u64> {
        let about: StatVfs = rustix::fs::statvfs(self.layout.root())?;
        let available = about.f_bavail.saturating_mul(about.f_frsize);
        let promised = if self.preallocates.load(Ordering::Relaxed) {
            0
        } else {
            let granted = locked(&self.books).granted;
            granted.saturating_sub(self.written.load(Ordering::Relaxed))
        };
        let wanted = self
            .settings
            .min_free
            .saturating_add(need)
            .saturating_add(promised);
        Ok(wanted.saturating_sub(available))
    }

    /// Removes what is next to go: a quarantined file, else the blob the policy
    /// chooses. Its allocated bytes; `None`: there is nothing left.
    fn evict_one(&self) -> io::Result<Option<u64>> {
        let _moving = locked(&self.moves);
        let mut books = locked(&self.books);
        if let Some((path, bytes)) = books.quarantined.pop_front() {
            drop(books);
            let removed = files::unlink(&path);
            if removed.is_err() {
                locked(&self.books).quarantined.push_back((path, bytes));
            }
            return removed.map(|_| Some(bytes));
        }
        let Some((key, bytes)) = books.shelves.choose() else {
            return Ok(None);
        };
        drop(books);
        files::unlink_blob(&self.layout.place(&key)).inspect_err(|error| {
            self.health.failed(error);
        })?;
        locked(&self.books).shelves.evict(&key);
        self.index.forget_blob(&key);
        self.metrics.disk_evictions.inc();
        self.metrics.disk_evicted_bytes.inc_by(bytes);
        tracing::debug!(%key, bytes, "evicted");
        Ok(Some(bytes))
    }

    /// The books, once the files found at start are in them. Errors: that takes too long.
    fn counted_books(&self) -> Result<MutexGuard<'_, Books>, NoRoom> {
        let (books, _) = self
            .progress
            .wait_timeout_while(locked(&self.books), COUNTING, |books| {
                books.phase < Phase::Counted
            })
            .unwrap_or_else(PoisonError::into_inner);
        if books.phase < Phase::Counted {
            return Err(NoRoom::Full);
        }
        Ok(books)
    }

    /// Enters how far the start has come.
    pub fn reach(&self, phase: Phase) {
        locked(&self.books).phase = phase;
        self.progress.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_covers_the_blocks_and_their_extents() {
        assert_eq!(cost(0), BLOCK);
        assert_eq!(cost(1), 2 * BLOCK);
        assert_eq!(cost(BLOCK), 2 * BLOCK);
        assert_eq!(cost(EXTENTS), EXTENTS + 2 * BLOCK);
        assert_eq!(cost(u64::MAX), u64::MAX);
    }

    #[test]
    fn the_water_marks_lie_below_the_top() {
        assert_eq!(
            (share(3200, HIGH_WATER), share(3200, LOW_WATER)),
            (3100, 3000)
        );
        assert_eq!(share(u64::MAX, HIGH_WATER), u64::MAX - u64::MAX / 32);
        assert_eq!(share(7, LOW_WATER), 7);
    }

    #[test]
    fn what_can_never_fit_evicts_nothing() {
        let mut books = Books::new(100);
        books.granted = 40;
        books.folders = 20;
        assert!(books.could_fit(40) && !books.could_fit(41));
        assert!(!books.could_fit(u64::MAX) && !books.fits(u64::MAX));
    }
}
