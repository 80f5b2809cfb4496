//! The index: a hint that is written behind and may be lost at any time.
//!
//! ```text
//!  keep, forget ──▶ behind (a table of intents) ──▶ supervisor ──▶ store (sled)
//!  lookups ◀── behind, and where it has nothing ◀─────────────────── read in place
//! ```
//! The supervisor is one thread. It opens the database, carries out what waits, and makes every call
//! under a deadline; an error, a panic or a silence ends the database's use. Broken files are moved
//! aside, a fresh index is begun, and the generation goes up, whereupon `recover` tells the new
//! index everything anew. No request waits on any of this: without a database, lookups find
//! nothing and intents wait in the table, which is bounded.

mod behind;
mod record;
mod store;
mod supervisor;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

use super::hand::Bell;
use super::health::State;
use crate::nix::key::ObjectKey;
use crate::object::Document;
use behind::Waiting;
pub(super) use record::{BlobRecord, millis};
pub(super) use supervisor::Place;
use supervisor::Shared;

/// The largest document kept, in bytes. Larger ones are not worth their place among sled's pages.
pub const MAX_DOCUMENT: usize = 64 << 10;

/// A handle to the index. Dropping it leaves the thread running; [`Index::close`] ends it.
pub(super) struct Index {
    shared: Arc<Shared>,
}

impl Index {
    /// An index that is not yet open. `bell` rings when a new generation begins.
    pub fn new(rebuilds: IntCounter, bell: Arc<Bell>) -> Self {
        Self {
            shared: Arc::new(Shared::new(rebuilds, bell)),
        }
    }

    /// Begins to open it, on its own thread. Errors: no thread could be made.
    pub fn start(&self, place: Place) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.work().idle = false;
        thread::Builder::new()
            .name("index".to_owned())
            .spawn(move || {
                shared.supervise(&place);
                shared.work().idle = true;
                shared.changed.notify_all();
            })
            .map(drop)
            .inspect_err(|_| self.shared.work().idle = true)
    }

    /// Goes up each time the index may have forgotten what it was told; 0: never opened.
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Waits until it is known whether the index can be opened.
    pub fn wait_while_starting(&self, patience: Duration) {
        let work = self.shared.work();
        drop(
            self.shared
                .changed
                .wait_timeout_while(work, patience, |_| self.state() == State::Starting),
        );
    }

    pub fn blob(&self, key: &ObjectKey) -> Option<BlobRecord> {
        let waiting = self.shared.work().blobs.waiting(key);
        match waiting {
            Waiting::Keep(record) => Some(record),
            Waiting::Forget => None,
            Waiting::Nothing => self.shared.read(|store| store.blob(key)).flatten(),
        }
    }

    /// Whether the index will be told; when not, tell it again later.
    pub fn keep_blob(&self, key: &ObjectKey, record: BlobRecord) -> bool {
        let weight = record.etag.as_ref().map_or(0, |etag| etag.as_str().len());
        let taken = self.shared.work().blobs.keep(key, record, weight);
        self.shared.changed.notify_all();
        taken
    }

    pub fn forget_blob(&self, key: &ObjectKey) {
        self.shared.work().blobs.forget(key);
        self.shared.changed.notify_all();
    }

    /// The next blobs in the order of their keys, and where to go on; `None` at the end, and when
    /// there is no index to ask. Entries that mean nothing are removed on the way.
    pub fn blobs_after(&self, after: &Cursor, count: usize) -> Option<(Listing, Cursor)> {
        let listed = self
            .shared
            .read(|store| store.blobs_after(&after.0, count))?;
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
            self.shared
                .read(|store| store.drop_unreadable(&unreadable))?;
        }
        Some((records, next))
    }

    pub fn document(&self, key: &ObjectKey) -> Option<Document> {
        let waiting = self.shared.work().documents.waiting(key);
        match waiting {
            Waiting::Keep(document) => Some(document),
            Waiting::Forget => None,
            Waiting::Nothing => {
                let bytes = self.shared.read(|store| store.document(key)).flatten()?;
                record::decode_document(&bytes)
            }
        }
    }

    /// Never blocks. One that is too large is not kept, and an older one under its key forgotten.
    /// When too much waits already, the older one stays: it has grown stale and will be asked after.
    pub fn keep_document(&self, key: &ObjectKey, document: &Document) {
        let mut work = self.shared.work();
        let weight = document.bytes.len();
        if weight > MAX_DOCUMENT {
            work.documents.forget(key);
        } else {
            work.documents.keep(key, document.clone(), weight);
        }
        drop(work);
        self.shared.changed.notify_all();
    }

    /// Gone for [`Index::document`] once this returns.
    pub fn forget_document(&self, key: &ObjectKey) {
        self.shared.work().documents.forget(key);
        self.shared.changed.notify_all();
    }

    /// Waits until the database has been told what waits, at most `deadline`. `false`: it was not,
    /// or there is no database to tell.
    pub fn wait_until_told(&self, deadline: Duration) -> bool {
        if self.state() != State::Ok {
            return false;
        }
        let (work, late) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.work(), deadline, |work| {
                !work.is_done() && !work.idle
            })
            .unwrap_or_else(PoisonError::into_inner);
        drop(work);
        !late.timed_out()
    }

    /// Carries out what waits, syncs and closes; gives up after `deadline`.
    pub fn close(&self, deadline: Duration) {
        let mut work = self.shared.work();
        work.stop = true;
        self.shared.changed.notify_all();
        let (work, late) = self
            .shared
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
            self.shared
                .read(|_| Err(store::Trouble::Panicked("as told by a test".to_owned())))
        };
        assert!(panic().is_none());
    }

    /// Returns when that many databases have been opened.
    pub fn wait_for_generation(&self, generation: u64) {
        while self.generation() < generation {
            self.shared.bell.wait(Duration::from_millis(100));
        }
    }
}
