//! The index: a hint that is written behind and may be lost at any time.
//!
//! ```text
//!  keep, forget ──▶ behind (a table of intents) ──▶ supervisor ──▶ store (sled, log)
//!  lookups ◀── behind, and where it has nothing ◀─────────────────── read in place
//! ```
//! The supervisor is one thread. It opens the database, carries out what waits, and makes every call
//! under a deadline; an error, a panic or a silence ends the database's use. Broken files are moved
//! aside, a fresh index is begun, and the generation goes up, whereupon `recover` tells the new
//! index everything anew. No request waits on any of this: without a database, lookups find
//! nothing and intents wait in the table, which is bounded.

mod behind;
mod compact;
mod log;
mod record;
mod store;
mod supervisor;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

use super::hand::Bell;
use super::health::State;
use crate::nix::key::ObjectKey;
use crate::object::Document;
use behind::{Behind, Waiting};
pub(super) use record::{BlobRecord, millis};
pub(super) use supervisor::Place;
use supervisor::Shared;

/// The largest document kept, in bytes. Larger ones would crowd out many.
pub const MAX_DOCUMENT: usize = 64 << 10;

/// Bytes of memory for what the database has yet to learn, of blobs and of documents.
pub const UNWRITTEN: u64 = 2 * behind::LIMIT as u64;

/// A handle to the index. Dropping it leaves the thread running; [`Index::close`] ends it.
pub(super) struct Index {
    /// Changes only when the directory is another.
    shared: Mutex<Arc<Shared>>,
    rebuilds: IntCounter,
    bell: Arc<Bell>,
}

impl Index {
    /// An index that is not yet open. `bell` rings when a new generation begins.
    pub fn new(rebuilds: IntCounter, bell: Arc<Bell>) -> Self {
        let shared = Shared::new(rebuilds.clone(), Arc::clone(&bell), 0);
        Self {
            shared: Mutex::new(Arc::new(shared)),
            rebuilds,
            bell,
        }
    }

    /// Begins to open it, on its own thread. One that was started before, for a directory that is
    /// there no longer, must have been closed. Errors: no thread could be made.
    pub fn start(&self, place: Place) -> io::Result<()> {
        let shared = {
            let mut current = self.current();
            if current.was_started() {
                let (rebuilds, bell) = (self.rebuilds.clone(), Arc::clone(&self.bell));
                *current = Arc::new(Shared::new(rebuilds, bell, current.generation()));
            }
            Arc::clone(&current)
        };
        let mut work = shared.work();
        (work.idle, work.was_started) = (false, true);
        drop(work);
        let begun = Arc::clone(&shared);
        thread::Builder::new()
            .name("index".to_owned())
            .spawn(move || {
                begun.supervise(&place);
                begun.work().idle = true;
                begun.changed.notify_all();
            })
            .map(drop)
            .inspect_err(|_| shared.work().idle = true)
    }

    fn current(&self) -> MutexGuard<'_, Arc<Shared>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.current())
    }

    /// Goes up each time the index may have forgotten what it was told; 0: never opened.
    pub fn generation(&self) -> u64 {
        self.shared().generation()
    }

    pub fn state(&self) -> State {
        self.shared().state()
    }

    /// Waits until it is known whether the index can be opened.
    pub fn wait_while_starting(&self, patience: Duration) {
        let shared = self.shared();
        let work = shared.work();
        drop(
            shared
                .changed
                .wait_timeout_while(work, patience, |_| shared.state() == State::Starting),
        );
    }

    pub fn blob(&self, key: &ObjectKey) -> Option<BlobRecord> {
        let shared = self.shared();
        let waiting = shared.work().blobs.waiting(key);
        match waiting {
            Waiting::Keep(record) => Some(record),
            Waiting::Forget => None,
            Waiting::Nothing => shared.read(|store| store.blob(key)).flatten(),
        }
    }

    /// Whether the index will be told; when not, tell it again later.
    pub fn keep_blob(&self, key: &ObjectKey, record: BlobRecord) -> bool {
        let weight = record.etag.as_ref().map_or(0, |etag| etag.as_str().len());
        self.shared()
            .enter(|work| work.blobs.keep(key, record, weight))
    }

    pub fn forget_blob(&self, key: &ObjectKey) {
        self.shared().enter(|work| work.blobs.forget(key));
    }

    /// The next blobs in the order of their keys, and where to go on; `None` at the end, and when
    /// there is no index to ask. Entries that mean nothing are removed on the way.
    pub fn blobs_after(&self, after: &Cursor, count: usize) -> Option<(Listing, Cursor)> {
        let shared = self.shared();
        let listed = shared.read(|store| store.blobs_after(&after.0, count))?;
        let next = Cursor(listed.last()?.raw_key.clone());
        let mut unreadable = Vec::new();
        let mut records = Vec::new();
        for entry in listed {
            match entry.record {
                Some(record) => records.push(record),
                None => unreadable.push(entry.raw_key),
            }
        }
        if !unreadable.is_empty() {
            shared.read(|store| store.drop_unreadable(&unreadable))?;
        }
        Some((records, next))
    }

    pub fn document(&self, key: &ObjectKey) -> Option<Document> {
        let shared = self.shared();
        let waiting = shared.work().documents.waiting(key);
        match waiting {
            Waiting::Keep(document) => Some(document),
            Waiting::Forget => None,
            Waiting::Nothing => shared.read(|store| store.document(key)).flatten(),
        }
    }

    /// Never blocks. One that is too large is not kept, and an older one under its key forgotten.
    /// When too much waits already, the older one stays: it has grown stale and will be asked after.
    pub fn keep_document(&self, key: &ObjectKey, document: &Document) {
        self.note_document(key, document, |documents, document, weight| {
            documents.keep(key, document, weight);
        });
    }

    /// The same of one that was written anew: an older one does not stay, for it is wrong, and does not
    /// come back after a crash. Waits for the disk where the page is not in memory.
    pub fn replace_document(&self, key: &ObjectKey, document: &Document) {
        if !self.may_have_document(key) {
            return self.keep_document(key, document);
        }
        self.note_document(key, document, |documents, document, weight| {
            documents.replace(key, document, weight);
        });
    }

    /// Whether there is a document under `key`, or none can be ruled out: where there is no database to
    /// look into, what it will have is not known.
    fn may_have_document(&self, key: &ObjectKey) -> bool {
        let shared = self.shared();
        let waiting = shared.work().documents.waiting(key);
        match waiting {
            Waiting::Keep(_) => true,
            Waiting::Forget => false,
            Waiting::Nothing => shared.read(|store| store.has_document(key)) != Some(false),
        }
    }

    fn note_document(
        &self,
        key: &ObjectKey,
        document: &Document,
        note: impl FnOnce(&mut Behind<Document>, Document, usize),
    ) {
        let weight = document.bytes.len();
        self.shared().enter(|work| match weight {
            0..=MAX_DOCUMENT => note(&mut work.documents, document.clone(), weight),
            _ => work.documents.forget(key),
        });
    }

    /// Gone for [`Index::document`] once this returns. Never blocks.
    pub fn forget_document(&self, key: &ObjectKey) {
        self.shared().enter(|work| work.documents.forget(key));
    }

    /// The same of what is absent, and most likely was never there: to find the database without it
    /// costs a look and no write. Waits for the disk where the page is not in memory.
    pub fn forget_absent(&self, key: &ObjectKey) {
        if self.may_have_document(key) {
            self.forget_document(key);
        }
    }

    /// Waits until the database has been told what waits, at most `deadline`. `false`: it was not,
    /// or there is no database to tell.
    pub fn wait_until_told(&self, deadline: Duration) -> bool {
        if self.state() != State::Ok {
            return false;
        }
        let shared = self.shared();
        shared.enter(|work| work.awaited += 1);
        let (mut work, late) = shared
            .changed
            .wait_timeout_while(shared.work(), deadline, |work| {
                !work.is_done() && !work.idle
            })
            .unwrap_or_else(PoisonError::into_inner);
        work.awaited -= 1;
        drop(work);
        !late.timed_out()
    }

    /// Carries out what waits, syncs and closes; gives up after `deadline`.
    pub fn close(&self, deadline: Duration) {
        let shared = self.shared();
        let mut work = shared.work();
        work.stop = true;
        shared.changed.notify_all();
        let (work, late) = shared
            .changed
            .wait_timeout_while(work, deadline, |work| !work.idle)
            .unwrap_or_else(PoisonError::into_inner);
        drop(work);
        if late.timed_out() {
            tracing::warn!("the index did not close in time; it recovers at the next start");
        }
    }
}

/// Blobs by key.
pub(super) type Listing = Vec<(ObjectKey, BlobRecord)>;

/// How far a listing has come; the default is the beginning.
#[derive(Debug, Default)]
pub(super) struct Cursor(Vec<u8>);

#[cfg(test)]
impl Index {
    /// As if sled had panicked under a reader.
    pub fn break_now(&self) {
        let panic = || -> Option<()> {
            self.shared()
                .read(|_| Err(store::Trouble::Panicked("as told by a test".to_owned())))
        };
        assert!(panic().is_none());
    }

    /// Returns when that many databases have been opened.
    pub fn wait_for_generation(&self, generation: u64) {
        while self.generation() < generation {
            self.bell.wait(Duration::from_millis(100));
        }
    }
}

/// A database that somebody else made in `dir`.
#[cfg(test)]
pub(super) fn another_database(dir: &std::path::Path) -> impl Sized {
    let db = sled::open(dir).expect("a fresh database opens");
    db.insert("what", "something else")
        .expect("it takes writes");
    db.flush().expect("it can be synced");
    db
}
