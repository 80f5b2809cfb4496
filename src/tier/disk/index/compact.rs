//! Making the index small again: neither sled's file nor the log ever shrinks, so what is worth keeping
//! is copied to a fresh one.
//!
//! All blobs are kept, and of the documents those that were checked with the origin last. The copy is
//! made beside the old index, which is still read meanwhile, and takes its place by two renames; a
//! crash in between costs the index, which is a hint.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::record::DocumentRecord;
use super::store::{Store, Trouble};
use super::supervisor::Place;

/// Deadline for the copy. Half a gigabyte takes some ten seconds.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);
/// Bytes that sled takes for the place of a document: 170 in a database of a million, and room for what
/// it writes anew.
const ENTRY: u64 = 256;

/// The size at which a compaction begins: the old index and the new one stay within the limit together.
pub(super) fn trigger(limit: u64) -> u64 {
    limit / 4 * 3
}

/// The size at which to compact again. Where the blobs' entries alone are more than half of what is
/// allowed, compacting at every write would gain nothing; then the limit gives way, with a warning.
pub(super) fn next_trigger(place: &Place) -> u64 {
    let (wanted, least) = (trigger(place.limit), 2 * size_of(&place.dir));
    if least > wanted {
        tracing::warn!(
            bytes = least,
            "disk.index_size is too small for so many blobs; the index grows beyond it"
        );
    }
    wanted.max(least)
}

fn size_of(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = files.filter_map(|file| file.metadata().ok());
    sizes.map(|about| about.len()).sum()
}

/// Bytes that the documents which a compaction keeps take in the new index. With the blobs, and with what
/// the old one grew by beyond the trigger, that stays within the quarter of the limit that is left.
fn kept(limit: u64) -> u64 {
    limit / 6
}

/// Fills a fresh database beside the old one. Returns how many documents were kept.
pub(super) fn copy(old: &Store, place: &Place) -> Result<usize, Trouble> {
    let dir = beside(&place.dir, "new");
    if fs::symlink_metadata(&dir).is_ok() {
        fs::remove_dir_all(&dir)?;
    }
    let documents = checked_last(old, kept(place.limit))?;
    let new = Store::open(&dir, place.cache)?;
    new.copy_blobs(old)?;
    let count = new.copy_documents(old, &documents)?;
    new.close()?;
    Ok(count)
}

/// Gives the copy the place of the old database, which must be closed.
pub(super) fn put_in_place(dir: &Path) -> io::Result<()> {
    let old = beside(dir, "old");
    fs::rename(dir, &old)?;
    fs::rename(beside(dir, "new"), dir)?;
    fs::remove_dir_all(old)
}

/// Removes what an interrupted compaction left.
pub(super) fn sweep(dir: &Path) {
    for suffix in ["new", "old"] {
        let left = beside(dir, suffix);
        if fs::symlink_metadata(&left).is_ok_and(|about| about.is_dir())
            && let Err(error) = fs::remove_dir_all(&left)
        {
            tracing::warn!(path = %left.display(), %error, "what a compaction left stays there");
        }
    }
}

/// The documents that were checked last and take up `budget` bytes, in the order in which they lie in the
/// log, so that they are read from a disk that turns as fast as it can.
fn checked_last(store: &Store, budget: u64) -> Result<Vec<DocumentRecord>, Trouble> {
    let mut documents = Vec::new();
    store.each_document(|document| documents.push(document))?;
    documents.sort_unstable_by_key(|document| Reverse(document.validated));
    let mut bytes = 0;
    let fitting = documents.iter().take_while(|document| {
        bytes += u64::from(document.slot.len) + ENTRY;
        bytes <= budget
    });
    documents.truncate(fitting.count());
    documents.sort_unstable_by_key(|document| document.slot.at);
    Ok(documents)
}

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    dir.with_extension(suffix)
}
