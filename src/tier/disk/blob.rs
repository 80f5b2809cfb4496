//! A NAR on disk: opening it, and what becomes of a file that is not what it should be.
//!
//! A hit needs three to agree: a regular file at the key's place, an entry that vouches for its
//! content, and their lengths. The common case opens the file and takes the books' lock for a
//! moment. All other cases are settled one at a time under the lock that renames and unlinks take
//! too, where file and entry cannot change between being looked at and being acted on.

use std::fs::{self, File, Metadata};
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::files::{self, BLOCK, allocated};
use super::index::{BlobRecord, millis};
use super::layout::Place;
use super::shelves::{self, Entry, Facts};
use super::{Inner, locked};
use crate::nix::key::ObjectKey;
use crate::object::ETag;

/// A blob that is open, and stays readable whatever becomes of its name.
#[derive(Debug, Clone)]
pub struct Blob {
    /// For reading at offsets (`pread`, `sendfile`); its position belongs to nobody.
    pub file: Arc<File>,
    /// Bytes of content.
    pub len: u64,
    pub etag: Option<ETag>,
    /// The origin's, kept as the file's mtime.
    pub last_modified: Option<SystemTime>,
    /// Whether the content's hash was known and agreed when it was committed.
    pub verified: bool,
}

/// What the disk tier has under a key.
#[derive(Debug)]
pub enum BlobLookup {
    Hit(Blob),
    /// A file that nobody vouches for yet: the index was lost. Read and hash it like a fill, then
    /// call `adopt`, or `quarantine` if it is wrong.
    Unindexed(Blob),
    /// Nothing that could be opened now.
    Miss,
}

impl Blob {
    pub(super) fn new(file: File, about: &Metadata, facts: Option<Facts>) -> Self {
        let (etag, verified) = facts.map_or((None, false), |facts| (facts.etag, facts.verified));
        Self {
            file: Arc::new(file),
            len: about.len(),
            etag,
            last_modified: about.modified().ok().filter(|time| *time != UNKNOWN_TIME),
            verified,
        }
    }
}

/// The mtime of a blob whose origin gave none.
pub(super) const UNKNOWN_TIME: SystemTime = UNIX_EPOCH;

impl Inner {
    pub fn lookup(&self, key: &ObjectKey) -> BlobLookup {
        let place = self.layout.place(key);
        let Ok(found) = files::open_blob(&place) else {
            return BlobLookup::Miss;
        };
        let known = locked(&self.books).shelves.get(key).cloned();
        match (found, known) {
            (None, None) => BlobLookup::Miss,
            (
                Some((file, about)),
                Some(Entry {
                    len,
                    facts: Some(facts),
                    ..
                }),
            ) if about.len() == len => {
                self.touch(key);
                BlobLookup::Hit(Blob::new(file, &about, Some(facts)))
            }
            _ => self.settle(key, &place).unwrap_or(BlobLookup::Miss),
        }
    }

    /// Brings file and entry to agree, and answers from what is left.
    pub fn settle(&self, key: &ObjectKey, place: &Place) -> io::Result<BlobLookup> {
        let _moving = locked(&self.moves);
        let Some((file, about)) = files::open_blob(place)? else {
            self.strike(key);
            return Ok(BlobLookup::Miss);
        };
        let known = locked(&self.books).shelves.get(key).cloned();
        let facts = match &known {
            Some(Entry {
                len,
                facts: Some(facts),
                ..
            }) => Some((*len, facts.clone())),
            _ => self
                .index
                .blob(key)
                .map(|record| (record.len, record.into())),
        };
        match facts {
            Some((len, facts)) if len == about.len() => {
                self.shelve(key, place, &about, Some(facts.clone()))?;
                Ok(BlobLookup::Hit(Blob::new(file, &about, Some(facts))))
            }
            Some((len, _)) => {
                tracing::warn!(%key, expected = len, found = about.len(), "a blob's length changed; removed");
                files::unlink_blob(place)?;
                self.strike(key);
                Ok(BlobLookup::Miss)
            }
            None => {
                if known.is_none_or(|entry| entry.len != about.len()) {
                    self.shelve(key, place, &about, None)?;
                }
                Ok(BlobLookup::Unindexed(Blob::new(file, &about, None)))
            }
        }
    }

    /// Vouches for a blob that was [`BlobLookup::Unindexed`] and whose content proved right.
    pub fn adopt(&self, key: &ObjectKey, blob: &Blob) {
        let facts = Facts {
            etag: blob.etag.clone(),
            verified: true,
            digest: None,
        };
        self.learn(key, blob, facts);
        self.touch(key);
    }

    /// Enters what is known of a blob now, unless another has taken its place. This is no use of it.
    pub fn learn(&self, key: &ObjectKey, blob: &Blob, facts: Facts) {
        let place = self.layout.place(key);
        let _moving = locked(&self.moves);
        match self.same_file(&place, blob) {
            Ok(Some(_)) => {
                let mut books = locked(&self.books);
                books.shelves.learn(key, facts);
                let record = books.shelves.get(key).and_then(shelves::record);
                drop(books);
                if let Some(record) = record {
                    self.tell_index(key, record);
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%key, %error, "what is known of a blob could not be entered")
            }
        }
    }

    /// Sets a blob aside whose bytes proved wrong, unless another has taken its place since.
    pub fn quarantine(&self, key: &ObjectKey, blob: &Blob) {
        let place = self.layout.place(key);
        let _moving = locked(&self.moves);
        let set_aside = || -> io::Result<()> {
            let Some(about) = self.same_file(&place, blob)? else {
                return Ok(());
            };
            let to = files::set_aside(&self.layout, &place, self.serial())?;
            self.strike(key);
            locked(&self.books)
                .quarantined
                .push_back((to, allocated(&about)));
            self.metrics.disk_quarantined.inc();
            tracing::error!(%key, "a blob's bytes were wrong; it lies in quarantine/ now");
            Ok(())
        };
        if let Err(error) = set_aside() {
            tracing::error!(%key, %error, "a blob with wrong bytes could not be set aside");
            self.health.failed(&error);
        }
    }

    /// Removes whatever blob the key has or is about to have. `false`: none, or it could not be
    /// removed.
    pub fn remove(&self, key: &ObjectKey) -> bool {
        let _moving = locked(&self.moves);
        self.writing.removed(key);
        match files::unlink_blob(&self.layout.place(key)) {
            Ok(was_there) => {
                self.strike(key);
                was_there
            }
            Err(error) => {
                tracing::error!(%key, %error, "a blob could not be removed");
                self.health.failed(&error);
                false
            }
        }
    }

    /// Enters a file into the books, and tells the index if somebody vouches for it.
    fn shelve(
        &self,
        key: &ObjectKey,
        place: &Place,
        about: &Metadata,
        facts: Option<Facts>,
    ) -> io::Result<()> {
        let entry = Entry {
            len: about.len(),
            blocks: allocated(about) + sidecar_bytes(place)?,
            used: self.now_ms(),
            facts,
        };
        let record = shelves::record(&entry);
        locked(&self.books).shelves.put(key.clone(), entry);
        if let Some(record) = record {
            self.tell_index(key, record);
        }
        Ok(())
    }

    /// Tells the index of a blob, unless it has gone again meanwhile.
    pub fn tell_index_of(&self, key: &ObjectKey) {
        let _moving = locked(&self.moves);
        let record = locked(&self.books)
            .shelves
            .get(key)
            .and_then(shelves::record);
        if let Some(record) = record {
            self.tell_index(key, record);
        }
    }

    /// The index may have no room to be told; the next batch of recency tells it again.
    fn tell_index(&self, key: &ObjectKey, record: BlobRecord) {
        if !self.index.keep_blob(key, record) {
            locked(&self.books).shelves.save_again(key);
        }
    }

    /// Takes a key that has no file off the books and out of the index.
    pub fn strike(&self, key: &ObjectKey) {
        locked(&self.books).shelves.remove(key);
        self.index.forget_blob(key);
    }

    /// Notes a use of a blob, if there is one.
    pub fn touch(&self, key: &ObjectKey) {
        let now = self.now_ms();
        locked(&self.books).shelves.touch(key, now);
    }

    pub fn now_ms(&self) -> u64 {
        millis(self.clock.wall())
    }

    /// What the file at `place` is like, if it is the very file that `blob` has open.
    fn same_file(&self, place: &Place, blob: &Blob) -> io::Result<Option<Metadata>> {
        let held = blob.file.metadata()?;
        let there = files::open_blob(place)?;
        Ok(there
            .map(|(_, about)| about)
            .filter(|about| files::is_same(about, &held) && about.len() == blob.len))
    }
}

/// What a blob's sidecar allocates, counted with it.
fn sidecar_bytes(place: &Place) -> io::Result<u64> {
    let Some(path) = &place.sidecar else {
        return Ok(0);
    };
    match fs::symlink_metadata(path) {
        Ok(about) => Ok(allocated(&about)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BLOCK),
        Err(error) => Err(error),
    }
}
