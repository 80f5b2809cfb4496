//! The thread that owns the database: opens it, writes to it, and replaces it when it is broken.
//!
//! Every call that could hang has a deadline. What the files are to blame for (an error, a panic, a
//! silence) ends with the files moved aside and a fresh database; what the disk is to blame for (no
//! space, read-only) ends with the same files opened anew a little later, because one such error
//! makes sled fail for good.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

use super::super::hand::Bell;
use super::super::health::State;
use super::behind::Behind;
use super::compact;
use super::record::BlobRecord;
use super::store::{Store, Trouble, within};
use crate::object::Document;

/// Deadline for opening. Recovery of a large log takes seconds; longer is a hang.
const OPENING: Duration = Duration::from_secs(30);
/// Deadline for one round of writes, and for closing.
const WRITING: Duration = Duration::from_secs(10);
/// From trouble to the next try.
const RETRY: Duration = Duration::from_secs(2);
/// Longest wait for something to do.
const REST: Duration = Duration::from_secs(60);
/// Intents wait so long for others to be carried out with: a round costs a thread and a look at the
/// files, half a millisecond of a core for the one narinfo of a cold request.
const GATHER: Duration = Duration::from_millis(100);
/// Intents carried out at once.
const ROUND: usize = 512;

/// Where the index lies, and its bounds.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub dir: PathBuf,
    /// Memory for pages, in bytes.
    pub cache: u64,
    /// Most bytes of its files together, a compaction's included.
    pub limit: u64,
    /// Whether an index should be there; if none is, making one is a rebuild.
    pub expected: bool,
}

/// What the handle and the supervisor's thread have in common.
pub(super) struct Shared {
    store: Mutex<Option<Arc<Store>>>,
    work: Mutex<Work>,
    pub changed: Condvar,
    state: Mutex<State>,
    generation: AtomicU64,
    rebuilds: IntCounter,
    bell: Arc<Bell>,
}

/// What waits to be done.
pub(super) struct Work {
    pub blobs: Behind<BlobRecord>,
    pub documents: Behind<Document>,
    /// Met by a reader; ends the use of the store.
    trouble: Option<Trouble>,
    pub stop: bool,
    /// How many wait until all is carried out.
    pub awaited: usize,
    /// No thread is at work: not yet started, or ended.
    pub idle: bool,
    pub was_started: bool,
}

/// Why the supervisor stopped using a store.
enum End {
    Stop,
    Trouble(Trouble),
}

impl Shared {
    /// `generation`: the last of an index before it.
    pub fn new(rebuilds: IntCounter, bell: Arc<Bell>, generation: u64) -> Self {
        Self {
            store: Mutex::default(),
            work: Mutex::new(Work {
                blobs: Behind::new(),
                documents: Behind::new(),
                trouble: None,
                stop: false,
                awaited: 0,
                idle: true,
                was_started: false,
            }),
            changed: Condvar::new(),
            state: Mutex::new(State::Starting),
            generation: AtomicU64::new(generation),
            rebuilds,
            bell,
        }
    }

    pub fn work(&self) -> MutexGuard<'_, Work> {
        locked(&self.work)
    }

    pub fn was_started(&self) -> bool {
        self.work().was_started
    }

    /// Enters what is to be carried out, and wakes the supervisor if that is news to it.
    pub fn enter<T>(&self, enter: impl FnOnce(&mut Work) -> T) -> T {
        let mut work = self.work();
        let (was_done, was_due) = (work.is_done(), work.is_due());
        let entered = enter(&mut work);
        let is_news = was_done || (work.is_due() && !was_due);
        drop(work);
        if is_news {
            self.changed.notify_all();
        }
        entered
    }

    /// Goes up each time the database may have forgotten what it was told.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn state(&self) -> State {
        locked(&self.state).clone()
    }

    fn set_state(&self, state: State) {
        *locked(&self.state) = state;
        // Under the lock of those who wait, or one that has just looked would miss it.
        let _work = self.work();
        self.changed.notify_all();
    }

    /// Reads in place. `None`: no store, or it broke just now, which the supervisor learns.
    pub fn read<T>(&self, read: impl FnOnce(&Store) -> Result<T, Trouble>) -> Option<T> {
        let store = locked(&self.store).clone()?;
        match read(&store) {
            Ok(value) => Some(value),
            Err(trouble) => {
                let mut current = locked(&self.store);
                if current
                    .as_ref()
                    .is_some_and(|current| Arc::ptr_eq(current, &store))
                {
                    *current = None;
                    drop(current);
                    self.work().trouble = Some(trouble);
                    self.changed.notify_all();
                }
                None
            }
        }
    }

    /// The life of the index, from opening to closing, over any number of broken databases.
    pub fn supervise(&self, place: &Place) {
        let mut expected = place.expected;
        let mut distrusted = None;
        let mut trigger = compact::trigger(place.limit);
        compact::sweep(&place.dir);
        while !self.work().stop {
            match self.open(place, expected, distrusted.take()) {
                Ok(store) => {
                    expected = true;
                    let store = Arc::new(store);
                    *locked(&self.store) = Some(Arc::clone(&store));
                    self.set_state(State::Ok);
                    self.begin_generation();
                    let end = self.serve(&store, trigger);
                    let compacted = match &end {
                        End::Trouble(Trouble::TooLarge { .. }) => compact(&store, place),
                        _ => false,
                    };
                    *locked(&self.store) = None;
                    let closed = within(WRITING, move || close(store));
                    match end {
                        // What was closed meanwhile may lie at another's path.
                        End::Trouble(_) if compacted && closed.is_ok() && !self.work().stop => {
                            match compact::put_in_place(&place.dir) {
                                Ok(()) => {
                                    trigger = compact::next_trigger(place);
                                    continue;
                                }
                                Err(error) => distrusted = Some(error.into()),
                            }
                        }
                        End::Stop => {
                            if let Err(trouble) = closed {
                                tracing::warn!(%trouble, "the index did not close well");
                            }
                            return;
                        }
                        End::Trouble(trouble) => {
                            tracing::error!(%trouble, "the index failed");
                            self.set_state(State::Degraded(trouble.to_string()));
                            distrusted = (!trouble.is_of_the_disk()).then_some(trouble);
                        }
                    }
                }
                Err(trouble) => {
                    tracing::error!(%trouble, "no index could be opened; trying again");
                    self.set_state(State::Degraded(trouble.to_string()));
                }
            }
            let work = self.work();
            let _ = self
                .changed
                .wait_timeout_while(work, RETRY, |work| !work.stop);
        }
    }

    /// What is there, or a fresh one if that is broken or `distrusted`.
    fn open(
        &self,
        place: &Place,
        expected: bool,
        distrusted: Option<Trouble>,
    ) -> Result<Store, Trouble> {
        let opening = |place: &Place| {
            let place = place.clone();
            within(OPENING, move || Store::open(&place.dir, place.cache))
        };
        // sled makes the folders above its own, too; but a cache that was removed is for `claim` to
        // make anew, or to wait for.
        if !place.dir.parent().is_some_and(Path::is_dir) {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        }
        let is_there = fs::symlink_metadata(&place.dir).is_ok();
        let trouble = match distrusted {
            Some(trouble) => trouble,
            // sled would follow it to files that are not ours.
            None if fs::symlink_metadata(&place.dir).is_ok_and(|about| about.is_symlink()) => {
                io::Error::from(io::ErrorKind::NotADirectory).into()
            }
            None => match opening(place) {
                Ok(store) => {
                    if expected && !is_there {
                        self.rebuilds.inc();
                    }
                    return Ok(store);
                }
                Err(trouble) => trouble,
            },
        };
        if trouble.is_of_the_disk() {
            return Err(trouble);
        }
        let aside = set_aside(&place.dir)?;
        tracing::warn!(%trouble, aside = %aside.display(), "the index is begun anew");
        if matches!(trouble, Trouble::TooLarge { .. }) {
            fs::remove_dir_all(&aside)?;
        }
        self.rebuilds.inc();
        opening(place)
    }

    /// Carries out what waits until told to stop or something breaks.
    fn serve(&self, store: &Arc<Store>, trigger: u64) -> End {
        loop {
            let wait = |work, longest, idle: fn(&mut Work) -> bool| {
                let waited = self.changed.wait_timeout_while(work, longest, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
            let work = wait(self.work(), REST, |work| !work.is_due() && work.is_done());
            let work = wait(work, GATHER, |work| !work.is_due() && !work.is_done());
            match self.step(work, store, trigger) {
                Ok(true) => {}
                Ok(false) => return End::Stop,
                Err(trouble) => return End::Trouble(trouble),
            }
        }
    }

    /// One round of writes. `false`: all is done and it is time to stop.
    fn step(
        &self,
        mut work: MutexGuard<'_, Work>,
        store: &Arc<Store>,
        trigger: u64,
    ) -> Result<bool, Trouble> {
        if let Some(trouble) = work.trouble.take() {
            return Err(trouble);
        }
        if work.is_done() {
            return Ok(!work.stop);
        }
        let blobs = work.blobs.round(ROUND);
        let documents = work.documents.round(ROUND);
        drop(work);
        let store = Arc::clone(store);
        let (blobs, documents, size) = within(WRITING, move || {
            store.apply(&blobs, &documents)?;
            let size = store.size()?;
            drop(store);
            Ok((blobs, documents, size))
        })?;
        let mut work = self.work();
        work.blobs.done(&blobs);
        work.documents.done(&documents);
        drop(work);
        self.changed.notify_all();
        if blobs.clear {
            self.begin_generation();
        }
        if size > trigger {
            return Err(Trouble::TooLarge { size, trigger });
        }
        Ok(true)
    }

    fn begin_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.bell.ring();
    }
}

impl Work {
    /// Nothing waits.
    pub fn is_done(&self) -> bool {
        self.blobs.is_empty() && self.documents.is_empty()
    }

    /// There is something to do that does not wait for others.
    fn is_due(&self) -> bool {
        self.stop
            || self.trouble.is_some()
            || (self.awaited > 0 && !self.is_done())
            || self.documents.is_urgent()
            || self.blobs.is_round_full(ROUND)
            || self.documents.is_round_full(ROUND)
    }
}

/// Copies what is worth keeping to a fresh database, while the old one is still read. `false`: it
/// could not be done, and the index is begun anew without documents.
fn compact(store: &Arc<Store>, place: &Place) -> bool {
    let (store, place) = (Arc::clone(store), place.clone());
    let copied = within(compact::DEADLINE, move || compact::copy(&store, &place));
    match copied {
        Ok(kept) => {
            tracing::info!(
                documents = kept,
                "the index was compacted; older documents were let go"
            );
            true
        }
        Err(trouble) => {
            tracing::warn!(%trouble, "the index could not be compacted");
            false
        }
    }
}

/// Closes a store once its last reader has let go. A reader that never does keeps it open.
fn close(mut store: Arc<Store>) -> Result<(), Trouble> {
    const PATIENCE: u32 = 500;
    for _ in 0..PATIENCE {
        match Arc::try_unwrap(store) {
            Ok(store) => return store.close(),
            Err(shared) => store = shared,
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(Trouble::Silent(Duration::from_millis(10) * PATIENCE))
}

/// Moves a broken index out of the way, in place of one moved there before.
fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let parent = dir.parent().unwrap_or(Path::new("."));
    let mut next = 1;
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix("index.broken-")?.parse::<u32>().ok());
        if let Some(number) = number
            && entry.file_type()?.is_dir()
        {
            next = next.max(number.saturating_add(1));
            fs::remove_dir_all(entry.path())?;
        }
    }
    let aside = parent.join(format!("index.broken-{next}"));
    fs::rename(dir, &aside)?;
    Ok(aside)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
