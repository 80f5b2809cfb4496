//! Making the index small again: sled's file never shrinks, so what is worth keeping is copied to a
//! fresh one.
//!
//! All blobs are kept, and of the documents those that were checked with the origin last. The copy is
//! made beside the old index, which is still read meanwhile, and takes its place by two renames; a
//! crash in between costs the index, which is a hint.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::record::decode_document;
use super::store::{Store, Trouble};
use super::supervisor::Place;

/// Deadline for the copy. Half a gigabyte takes some ten seconds.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

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

/// Bytes of documents that a compaction keeps. sled takes about twice that on disk (measured), so the
/// new index begins at a quarter of the limit.
fn kept(limit: u64) -> u64 {
    limit / 8
}

/// Fills a fresh database beside the old one. Returns how many documents were kept.
pub(super) fn copy(old: &Store, place: &Place) -> Result<usize, Trouble> {
    let dir = beside(&place.dir, "new");
    if fs::symlink_metadata(&dir).is_ok() {
        fs::remove_dir_all(&dir)?;
    }
    let oldest = oldest_kept(old, kept(place.limit))?;
    let new = Store::open(&dir, place.cache)?;
    new.copy_blobs(old)?;
    let mut count = 0;
    old.each_document(|key, stored| {
        if checked(stored).is_some_and(|time| time >= oldest) {
            new.put_document(key, stored)?;
            count += 1;
        }
        Ok(())
    })?;
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

/// The time of the last check at or after which documents of `budget` bytes were checked.
fn oldest_kept(store: &Store, budget: u64) -> Result<SystemTime, Trouble> {
    let mut ages = Vec::new();
    store.each_document(|key, stored| {
        if let Some(time) = checked(stored) {
            ages.push((time, (key.len() + stored.len()) as u64));
        }
        Ok(())
    })?;
    ages.sort_unstable_by_key(|(time, _)| std::cmp::Reverse(*time));
    let mut left = budget;
    let mut oldest = SystemTime::UNIX_EPOCH;
    for (time, bytes) in ages {
        match left.checked_sub(bytes) {
            Some(rest) => (left, oldest) = (rest, time),
            None => return Ok(oldest.max(time + Duration::from_millis(1))),
        }
    }
    Ok(SystemTime::UNIX_EPOCH)
}

fn checked(stored: &[u8]) -> Option<SystemTime> {
    decode_document(stored).map(|document| document.validated)
}

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    dir.with_extension(suffix)
}
