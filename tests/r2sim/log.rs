//! Every request this server has seen, and a way to wait for the next one.
//!
//! Tests judge the gateway by what reached the bucket ("one read, whatever the number of clients"),
//! so a request is entered the moment it arrives and its entry grows while its bodies run.
//! `until` replaces sleeping: it looks again whenever an entry changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::operation::{Asked, Operation};

/// Waiting longer than this for something to be logged is a failed test.
const PATIENCE: Duration = Duration::from_secs(30);

/// One request.
#[derive(Debug, Clone)]
pub struct Entry {
    pub asked: Asked,
    /// When its head had been read.
    pub at: Instant,
    /// `None` until there is an answer, and for ever if the connection was broken before one.
    pub status: Option<u16>,
    /// Bytes of the answer's body handed to the connection.
    pub sent: u64,
    /// Bytes of the request's body taken from the connection.
    pub received: u64,
    pub end: End,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Running,
    /// The answer was handed over as it was meant to be.
    Whole,
    /// Either side broke the exchange off.
    Broken,
}

#[derive(Default)]
pub struct Log {
    entries: Mutex<Vec<Arc<Mutex<Entry>>>>,
    changed: Notify,
}

impl Log {
    /// A copy of all entries, in order of arrival.
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.entries)
            .iter()
            .map(|entry| lock(entry).clone())
            .collect()
    }

    pub fn requests(&self) -> usize {
        lock(&self.entries).len()
    }

    pub fn requests_of(&self, operation: Operation) -> usize {
        self.count(|entry| entry.asked.operation == operation)
    }

    /// How many GETs asked for this object, answered or not.
    pub fn reads(&self, key: &str) -> usize {
        self.count(|entry| entry.asked.operation == Operation::GetObject && entry.asked.key == key)
    }

    /// Body bytes of this object handed to clients, over all GETs.
    pub fn bytes_out(&self, key: &str) -> u64 {
        self.entries()
            .iter()
            .filter(|entry| entry.asked.operation == Operation::GetObject && entry.asked.key == key)
            .map(|entry| entry.sent)
            .sum()
    }

    /// Forgets what was seen. Requests still running no longer count either.
    pub fn reset(&self) {
        lock(&self.entries).clear();
        self.changed.notify_waiters();
    }

    /// Waits until `enough` holds of the entries.
    ///
    /// Panics after 30 s, showing the log: a test that waits for what never comes should say so.
    pub async fn until(&self, enough: impl Fn(&[Entry]) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if enough(&self.entries()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!(
                "not seen within {PATIENCE:?}; the log: {:#?}",
                self.entries()
            );
        }
    }

    fn count(&self, counts: impl Fn(&Entry) -> bool) -> usize {
        lock(&self.entries)
            .iter()
            .filter(|entry| counts(&lock(entry)))
            .count()
    }

    pub(super) fn begin(self: &Arc<Self>, asked: Asked) -> Record {
        let entry = Arc::new(Mutex::new(Entry {
            asked,
            at: Instant::now(),
            status: None,
            sent: 0,
            received: 0,
            end: End::Running,
        }));
        lock(&self.entries).push(entry.clone());
        self.changed.notify_waiters();
        Record(Arc::new(Ending {
            log: self.clone(),
            entry,
        }))
    }
}

/// The pen that writes one entry, shared by the bodies of request and answer.
#[derive(Clone)]
pub(super) struct Record(Arc<Ending>);

/// Dropped with the entry still running, it was broken off.
struct Ending {
    log: Arc<Log>,
    entry: Arc<Mutex<Entry>>,
}

impl Record {
    pub fn status(&self, status: u16) {
        self.0.write(|entry| entry.status = Some(status));
    }

    pub fn sent(&self, bytes: usize) {
        self.0.write(|entry| entry.sent += bytes as u64);
    }

    pub fn received(&self, bytes: usize) {
        self.0.write(|entry| entry.received += bytes as u64);
    }

    pub fn whole(&self) {
        self.0.write(|entry| entry.end = End::Whole);
    }
}

impl Ending {
    fn write(&self, change: impl FnOnce(&mut Entry)) {
        change(&mut lock(&self.entry));
        self.log.changed.notify_waiters();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.write(|entry| {
            if entry.end == End::Running {
                entry.end = End::Broken;
            }
        });
    }
}

/// A test that panicked while holding the lock has failed already; the entries are still true.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
