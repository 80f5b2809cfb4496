//! What a start finds: temporaries to sweep, files to count, and an index to bring to agree.
//!
//! Serving does not wait for any of it. A lookup that comes before its file was counted settles that
//! one file by itself, and reservations wait a moment for the count. Files are believed before the
//! index: an entry without a file is struck, a file without an entry stays and is vouched for when
//! somebody has read it. Whatever is not ours by name and kind is passed over.

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use std::os::unix::fs::MetadataExt;

use super::budget::Phase;
use super::files::{self, BLOCK, allocated};
use super::index::{Cursor, millis};
use super::layout::{self, Layout, Named};
use super::shelves::Entry;
use super::walk::{self, is_regular};
use super::{Inner, locked};
use crate::nix::key::ObjectKey;

/// Records read from or told to the index at once.
const PAGE: usize = 1000;

/// Removes what unfinished writers left. Nobody else can have temporaries here: the lock is ours.
pub(super) fn sweep(layout: &Layout) -> io::Result<()> {
    for entry in fs::read_dir(layout.tmp())? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(layout::is_temporary) {
            files::unlink(&entry.path())?;
        }
    }
    Ok(())
}

impl Inner {
    /// Enters every file into the books, those changed last as the last to go.
    pub fn count(&self) {
        let mut count = Count::default();
        count.folder(self.layout.root());
        // The marker and the scrubber's file.
        count.folders += 2 * BLOCK;
        self.layout
            .folders()
            .iter()
            .for_each(|path| count.folder(path));
        self.note(count.shelves(&self.layout));
        self.note(count.quarantine(&self.layout));
        count
            .blobs
            .sort_unstable_by_key(|(_, entry)| std::cmp::Reverse(entry.used));
        let mut books = locked(&self.books);
        books.folders += count.folders;
        books.quarantined.extend(count.quarantined);
        for (key, entry) in count.blobs {
            books.shelves.put_found(key, entry);
        }
        drop(books);
        self.reach(Phase::Counted);
    }

    /// Brings a newly opened index and the books to agree, in both directions.
    pub fn reconcile(&self) {
        let mut untold: HashSet<ObjectKey> =
            locked(&self.books).shelves.vouched().into_iter().collect();
        let mut cursor = Cursor::default();
        while let Some((records, next)) = self.index.blobs_after(&cursor, PAGE) {
            cursor = next;
            for (key, record) in records {
                untold.remove(&key);
                let mut books = locked(&self.books);
                let agrees = books
                    .shelves
                    .get(&key)
                    .is_some_and(|entry| entry.len == record.len);
                if agrees {
                    books.shelves.recall(&key, record);
                } else {
                    drop(books);
                    let place = self.layout.place(&key);
                    self.note(self.settle(&key, &place).map(drop));
                }
            }
        }
        let mut books = locked(&self.books);
        untold.iter().for_each(|key| books.shelves.save_again(key));
        if books.phase < Phase::Reconciled {
            books.shelves.order_found();
        }
        drop(books);
        self.save_recency();
        self.reach(Phase::Reconciled);
    }

    /// Tells the index what it was not told yet: uses since the last time, mostly. `false`: there
    /// was no room for all, so call it again.
    pub fn save_recency(&self) -> bool {
        loop {
            let records = locked(&self.books).shelves.take_unsaved(PAGE);
            if records.is_empty() {
                return true;
            }
            let refused: Vec<_> = records
                .into_iter()
                .filter(|(key, record)| !self.index.keep_blob(key, record.clone()))
                .collect();
            if !refused.is_empty() {
                let mut books = locked(&self.books);
                for (key, _) in &refused {
                    books.shelves.save_again(key);
                }
                return false;
            }
        }
    }

    fn note(&self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            tracing::warn!(%error, "part of the disk tier could not be read");
            self.health.failed(&error);
        }
    }
}

/// What is found by walking the directory.
#[derive(Default)]
struct Count {
    blobs: Vec<(ObjectKey, Entry)>,
    /// And other things that are always there.
    folders: u64,
    quarantined: Vec<(PathBuf, u64)>,
}

impl Count {
    fn folder(&mut self, path: &Path) {
        if let Ok(about) = fs::symlink_metadata(path) {
            self.folders += allocated(&about);
        }
    }

    fn shelves(&mut self, layout: &Layout) -> io::Result<()> {
        for folder in walk::folders(layout)? {
            self.folder(&folder);
            for file in fs::read_dir(&folder)? {
                self.file(layout, &folder, &file?)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, layout: &Layout, folder: &Path, file: &DirEntry) -> io::Result<()> {
        let name = file.file_name();
        let Some(name) = name.to_str().filter(|_| is_regular(file)) else {
            return Ok(());
        };
        match layout.read_name(folder, name) {
            Named::Foreign => Ok(()),
            Named::Blob(key) => self.blob(key, file, 0),
            Named::Hashed => self.hashed_blob(layout, file),
            Named::Sidecar(stem) => {
                // The sidecar is renamed before its blob, so a crash can leave one alone.
                if files::open_regular(&folder.join(stem))?.is_none() {
                    files::unlink(&file.path())?;
                }
                Ok(())
            }
        }
    }

    /// A blob whose key stands beside it. Without a key that leads here nothing can ever ask for
    /// it, so it is removed.
    fn hashed_blob(&mut self, layout: &Layout, file: &DirEntry) -> io::Result<()> {
        let path = file.path();
        match walk::key_beside(layout, &path)? {
            Some(key) => {
                let beside = fs::symlink_metadata(path.with_extension("key"))?;
                self.blob(key, file, allocated(&beside))
            }
            None => files::unlink(&path).map(drop),
        }
    }

    fn blob(&mut self, key: ObjectKey, file: &DirEntry, beside: u64) -> io::Result<()> {
        let about = match file.metadata() {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        // A rename sets the ctime: this is when it was committed, the best guess at its last use.
        let committed = u64::try_from(about.ctime()).unwrap_or(0);
        let entry = Entry {
            len: about.len(),
            blocks: allocated(&about) + beside,
            used: millis(UNIX_EPOCH + Duration::from_secs(committed)),
            facts: None,
        };
        self.blobs.push((key, entry));
        Ok(())
    }

    fn quarantine(&mut self, layout: &Layout) -> io::Result<()> {
        for file in fs::read_dir(layout.quarantine())? {
            let file = file?;
            if is_regular(&file) && is_quarantined(&file) {
                self.quarantined
                    .push((file.path(), allocated(&file.metadata()?)));
            }
        }
        self.quarantined.sort_unstable();
        Ok(())
    }
}

/// Whether the name is one that `Inner::quarantine` gives: a serial number, a dash, the blob's name.
fn is_quarantined(file: &DirEntry) -> bool {
    file.file_name().to_str().is_some_and(|name| {
        name.split_once('-').is_some_and(|(serial, _)| {
            serial.len() == 16 && serial.bytes().all(|b| b.is_ascii_hexdigit())
        })
    })
}
