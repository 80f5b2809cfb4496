//! sled, and the only file that knows it: a tree of blobs, a tree of where the documents lie in the log
//! beside it, and a wall around what sled does when its files are broken.
//!
//! Measured on 0.34.7: after a power cut `open` may return an error or panic; a truncated file
//! panics, sometimes only when the page is read; a full disk fails every later write until the
//! database is opened anew. So every call here turns a panic into a value, and whoever must not
//! wait for ever makes the call through [`within`].

use std::any::Any;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::behind::Round;
use super::log::{Log, Slot};
use super::record::{BlobRecord, DocumentRecord, decode_document, encode_document, key_of, millis};
use crate::nix::hash::Sha256Hash;
use crate::nix::key::ObjectKey;
use crate::object::Document;

/// Written data is synced at least so often.
const FLUSH_EVERY_MS: u64 = 500;
/// The file of the log, in sled's directory, so that both are moved and removed together.
const LOG: &str = "documents";
/// Bytes of documents in memory while a database is copied.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{0}")]
    Failed(#[from] sled::Error),
    #[error("sled panicked: {0}")]
    Panicked(String),
    #[error("sled was silent for {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it has grown to {size} bytes; from {trigger} on it is compacted")]
    TooLarge { size: u64, trigger: u64 },
}

impl Trouble {
    /// Whether the disk is to blame rather than what is in the index, so that the same files may do
    /// well later.
    pub fn is_of_the_disk(&self) -> bool {
        let (Self::Io(error) | Self::Failed(sled::Error::Io(error))) = self else {
            return false;
        };
        matches!(
            error.kind(),
            io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::PermissionDenied
        )
    }
}

/// The open database.
pub(super) struct Store {
    db: sled::Db,
    blobs: sled::Tree,
    /// Of the documents in the log, by their keys in [`short`].
    places: sled::Tree,
    log: Log,
}

impl Store {
    /// Opens or creates the database in `dir`, with `cache` bytes of memory for its pages.
    pub fn open(dir: &Path, cache: u64) -> Result<Self, Trouble> {
        guarded(|| {
            let db = sled::Config::new()
                .path(dir)
                .cache_capacity(cache)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .open()?;
            Ok(Self {
                blobs: db.open_tree("blobs")?,
                places: db.open_tree("places")?,
                // Not before sled has locked the directory: it has one writer.
                log: Log::open(&dir.join(LOG))?,
                db,
            })
        })
    }

    pub fn blob(&self, key: &ObjectKey) -> Result<Option<BlobRecord>, Trouble> {
        let found = guarded(|| Ok(self.blobs.get(key.as_str())?))?;
        Ok(found.and_then(|bytes| BlobRecord::decode(&bytes)))
    }

    pub fn document(&self, key: &ObjectKey) -> Result<Option<Document>, Trouble> {
        let Some(found) = self.document_record(key)? else {
            return Ok(None);
        };
        let record = self.log.read(found.slot)?;
        Ok(record.and_then(|record| decode_document(key.as_str(), found.validated, &record)))
    }

    /// Whether there is a document under `key`, readable or not.
    pub fn has_document(&self, key: &ObjectKey) -> Result<bool, Trouble> {
        guarded(|| Ok(self.places.contains_key(short(key.as_str()))?))
    }

    fn document_record(&self, key: &ObjectKey) -> Result<Option<DocumentRecord>, Trouble> {
        let found = guarded(|| Ok(self.places.get(short(key.as_str()))?))?;
        Ok(found.and_then(|bytes| DocumentRecord::decode(&bytes)))
    }

    /// At most `count` blobs whose keys come after `after`. What cannot be read is `Err` with its
    /// raw key, so that the caller can have it forgotten and go on behind it.
    pub fn blobs_after(&self, after: &[u8], count: usize) -> Result<Vec<Listed>, Trouble> {
        guarded(|| {
            let range = (Bound::Excluded(after), Bound::Unbounded);
            let mut listed = Vec::new();
            for item in self.blobs.range::<&[u8], _>(range).take(count) {
                let (key, value) = item?;
                let record = read_key(&key).zip(BlobRecord::decode(&value));
                listed.push(Listed {
                    raw_key: key.to_vec(),
                    record,
                });
            }
            Ok(listed)
        })
    }

    /// Removes entries whose keys or values mean nothing to this version.
    pub fn drop_unreadable(&self, raw_keys: &[Vec<u8>]) -> Result<(), Trouble> {
        guarded(|| {
            let mut batch = sled::Batch::default();
            raw_keys.iter().for_each(|key| batch.remove(key.as_slice()));
            Ok(self.blobs.apply_batch(batch)?)
        })
    }

    /// Carries out what has been waiting, and syncs when a crash must not undo it.
    pub fn apply(
        &self,
        blobs: &Round<BlobRecord>,
        documents: &Round<Document>,
    ) -> Result<(), Trouble> {
        guarded(|| {
            let in_full = |key: &ObjectKey| sled::IVec::from(key.as_str());
            let encoded = |_: &ObjectKey, record: &BlobRecord| Ok(record.encode());
            carry_out(&self.blobs, blobs, batch(blobs, in_full, encoded)?)?;
            let mut appending = self.log.append();
            let shortened = |key: &ObjectKey| sled::IVec::from(&short(key.as_str()));
            let changes = batch(documents, shortened, |key, document| {
                let record = encode_document(key.as_str(), document);
                let slot = match self.slot_of(key, &record)? {
                    Some(slot) => slot,
                    None => appending.push(&record),
                };
                let validated = millis(document.validated);
                Ok(DocumentRecord { validated, slot }.encode())
            })?;
            // Before sled learns the places: a crash in between must not cost the documents before.
            appending.write()?;
            carry_out(&self.places, documents, changes)?;
            if documents.urgent {
                self.db.flush()?;
            }
            Ok(())
        })
    }

    /// Where the log has this very record already, because only the time of its last check is new.
    fn slot_of(&self, key: &ObjectKey, record: &[u8]) -> Result<Option<Slot>, Trouble> {
        let Some(DocumentRecord { slot, .. }) = self.document_record(key)? else {
            return Ok(None);
        };
        Ok(self.log.holds(slot, record)?.then_some(slot))
    }

    /// Calls `visit` with the place of each document.
    pub fn each_document(&self, mut visit: impl FnMut(DocumentRecord)) -> Result<(), Trouble> {
        guarded(|| {
            for item in self.places.iter().values() {
                DocumentRecord::decode(&item?).map(&mut visit);
            }
            Ok(())
        })
    }

    /// Takes over all blobs of another database.
    pub fn copy_blobs(&self, from: &Self) -> Result<(), Trouble> {
        guarded(|| {
            for item in &from.blobs {
                let (key, value) = item?;
                self.blobs.insert(key, value)?;
            }
            Ok(())
        })
    }

    /// Takes over documents of another database, as far as its log has them whole, and brings them to
    /// the disk. Returns how many.
    pub fn copy_documents(&self, from: &Self, found: &[DocumentRecord]) -> Result<usize, Trouble> {
        guarded(|| {
            let (mut found, mut count) = (found.iter(), 0);
            while found.len() > 0 {
                let mut places = sled::Batch::default();
                let mut appending = self.log.append();
                while appending.len() < COPIED_AT_ONCE
                    && let Some(&DocumentRecord { validated, slot }) = found.next()
                {
                    let record = from.log.read(slot)?.unwrap_or_default();
                    if let Some(key) = key_of(&record) {
                        let slot = appending.push(&record);
                        let place = DocumentRecord { validated, slot };
                        places.insert(&short(key), place.encode());
                        count += 1;
                    }
                }
                appending.write()?;
                self.places.apply_batch(places)?;
            }
            self.log.sync()?;
            Ok(count)
        })
    }

    /// Bytes of its files.
    pub fn size(&self) -> Result<u64, Trouble> {
        guarded(|| Ok(self.db.size_on_disk()? + self.log.len()))
    }

    /// Syncs and closes. The files may be opened again once this has returned.
    pub fn close(self) -> Result<(), Trouble> {
        guarded(|| {
            self.db.flush()?;
            drop(self);
            Ok(())
        })
    }
}

/// An entry met while listing.
pub(super) struct Listed {
    pub raw_key: Vec<u8>,
    /// `None`: of another version, or no key of ours.
    pub record: Option<(ObjectKey, BlobRecord)>,
}

fn carry_out<V>(
    tree: &sled::Tree,
    round: &Round<V>,
    batch: sled::Batch,
) -> Result<(), sled::Error> {
    if round.clear {
        tree.clear()?;
    }
    match round.changes.is_empty() {
        true => Ok(()),
        false => tree.apply_batch(batch),
    }
}

fn batch<V>(
    round: &Round<V>,
    name: impl Fn(&ObjectKey) -> sled::IVec,
    mut encode: impl FnMut(&ObjectKey, &V) -> Result<Vec<u8>, Trouble>,
) -> Result<sled::Batch, Trouble> {
    let mut batch = sled::Batch::default();
    for (key, value) in &round.changes {
        match value {
            Some(value) => batch.insert(name(key), encode(key, value)?),
            None => batch.remove(name(key)),
        }
    }
    Ok(batch)
}

/// What a document's place is kept under: eight bytes for forty, so that the places of a million
/// documents lie in 64 MiB of sled's memory. The record in the log has the key in full; of two keys
/// that are the same in short, the one kept last is there.
fn short(key: &str) -> [u8; 8] {
    let digest = Sha256Hash::of(key.as_bytes());
    *digest.as_bytes().first_chunk().expect("it has 32 bytes")
}

fn read_key(raw: &[u8]) -> Option<ObjectKey> {
    ObjectKey::from_stored(std::str::from_utf8(raw).ok()?)
}

/// A panic inside sled as a value. What sled leaves behind then is never used again: its owner
/// drops it and opens another.
fn guarded<T>(call: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(Trouble::Panicked(said(panic))))
}

fn said(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map_or_else(|| "no message".to_owned(), |text| (*text).to_owned()),
    }
}

/// Makes a call on a thread of its own and waits for it no longer than `deadline`. A call that is
/// late is left to itself; its result is dropped on its own thread if it ever comes.
pub(super) fn within<T: Send + 'static>(
    deadline: Duration,
    call: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let (answer, answered) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("index-call".to_owned())
        .spawn(move || {
            // Nobody listens any more when the call was late, and then nobody is to be told.
            let _ = answer.send(guarded(call));
        })?;
    answered
        .recv_timeout(deadline)
        .unwrap_or(Err(Trouble::Silent(deadline)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_answer() {
        let trouble = guarded::<()>(|| panic!("page {} is odd", 7)).unwrap_err();
        assert_eq!(trouble.to_string(), "sled panicked: page 7 is odd");
    }

    #[test]
    fn a_call_that_hangs_is_left_alone() {
        let (hold, held) = mpsc::channel::<()>();
        let late = within(Duration::from_millis(1), move || {
            let _ = held.recv();
            Ok(())
        });
        assert!(matches!(late, Err(Trouble::Silent(_))));
        drop(hold);
    }

    #[test]
    fn a_full_disk_is_not_the_fault_of_the_index() {
        let full = sled::Error::Io(io::ErrorKind::StorageFull.into());
        let short = sled::Error::Io(io::ErrorKind::UnexpectedEof.into());
        assert!(Trouble::Failed(full).is_of_the_disk());
        assert!(!Trouble::Failed(short).is_of_the_disk());
    }
}
