//! One NAR in flight: read once from the origin, written to disk, verified, and read along by
//! everyone who asked.
//!
//! A fill is a task of its own and the request that began it is merely its first reader, so a
//! client that hangs up spoils nothing, and no client's speed touches the origin or the others.
//!
//! ```text
//! journey: ask ─▶ reserve ─▶ receive (source ─▶ channel ─▶ file) ─▶ verify ─▶ publish
//!                              └ parts: a large NAR over several connections
//! local:   a blob of which the index knows nothing, read and checked the same way
//! ```

mod journey;
mod local;
mod parts;
mod receive;

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::nix::key::NarKey;

use super::error::GatewayError;
use super::flights::NoAnswer;
use super::pass::Pass;
use super::progress::{Event, Progress};
use super::served::NarFacts;
use super::source::Version;

pub use journey::from_bucket;
pub use local::from_blob;
pub use receive::Parallel;

/// What may be read beside a fill, by all its readers together: this part of the NAR.
const BESIDE_SHARE: u64 = 4;

/// What readers share with the task that fills.
#[derive(Debug)]
pub struct Fill {
    pub key: NarKey,
    progress: watch::Sender<Progress>,
    opened: OnceLock<Opened>,
    /// When there was no room: the body on its way past the tiers.
    unstored: OnceLock<Arc<Pass>>,
    /// How many requests want it.
    seats: watch::Sender<usize>,
}

/// What is known once the origin has answered and there is a file.
#[derive(Debug)]
pub struct Opened {
    pub facts: NarFacts,
    pub file: Arc<File>,
    /// Whether there is a hash to hold the bytes to before the last of them are given out.
    pub has_hash: bool,
    /// What is being read from the bucket; `None`: it comes from our own disk.
    pub version: Option<Version>,
    pub since: Instant,
    /// Bytes that may still be read beside the fill.
    beside: AtomicU64,
}

/// What a fill turned out to be, as soon as that is known.
#[derive(Debug)]
pub enum Opening {
    Readable,
    Absent,
    /// Nothing is kept.
    Unstored(Arc<Pass>),
    Failed(Arc<GatewayError>),
}

impl Opened {
    fn now(facts: NarFacts, file: Arc<File>, has_hash: bool, version: Option<Version>) -> Self {
        Self {
            beside: AtomicU64::new(facts.len / BESIDE_SHARE),
            facts,
            file,
            has_hash,
            version,
            since: Instant::now(),
        }
    }

    /// Leave to read so many bytes beside the fill, so that however many readers are far ahead of it,
    /// they never cost the bucket another whole NAR.
    pub fn take_beside(&self, bytes: u64) -> bool {
        self.beside
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .is_ok()
    }
}

impl Fill {
    pub fn new(key: NarKey) -> Self {
        Self {
            key,
            progress: watch::Sender::new(Progress::Asking),
            opened: OnceLock::new(),
            unstored: OnceLock::new(),
            seats: watch::Sender::new(0),
        }
    }

    /// Follows the fill from where it is now.
    pub fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// What is known of the NAR; set before the first byte may be read.
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.get()
    }

    /// How many bytes from the start are in the file.
    pub fn read(&self) -> u64 {
        self.progress.borrow().written()
    }

    /// Whether it ended in a failure, which all who read along are told.
    pub fn has_failed(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Failed(_))
    }

    /// How many requests want it.
    pub fn seats(&self) -> usize {
        *self.seats.borrow()
    }

    pub fn follow_seats(&self) -> watch::Receiver<usize> {
        self.seats.subscribe()
    }

    pub fn take_seat(&self) {
        self.seats.send_if_modified(|seats| {
            *seats += 1;
            *seats == 1
        });
    }

    pub fn leave_seat(&self) {
        self.seats.send_if_modified(|seats| {
            *seats -= 1;
            *seats == 0
        });
    }

    /// Waits until the fill is open (and, where `sealed` says so of it, ended), at most `patience`.
    pub async fn opening(&self, patience: Duration, sealed: impl Fn(&Opened) -> bool) -> Opening {
        let mut progress = self.follow();
        let settled = progress.wait_for(|progress| match progress {
            Progress::Asking => false,
            Progress::Filling { .. } => self.opened().is_some_and(|opened| !sealed(opened)),
            Progress::Sealed { .. }
            | Progress::Absent
            | Progress::Unstored
            | Progress::Failed(_) => true,
        });
        let no_answer = |why| Arc::new(self.no_answer(why));
        match tokio::time::timeout(patience, settled).await {
            Err(_) => Opening::Failed(no_answer(NoAnswer::Late(patience))),
            Ok(Err(_)) => Opening::Failed(no_answer(NoAnswer::Lost)),
            Ok(Ok(settled)) => match &*settled {
                Progress::Absent => Opening::Absent,
                Progress::Failed(cause) => Opening::Failed(Arc::clone(cause)),
                Progress::Unstored => match self.unstored.get() {
                    Some(pass) => Opening::Unstored(Arc::clone(pass)),
                    None => Opening::Failed(no_answer(NoAnswer::Lost)),
                },
                Progress::Asking | Progress::Filling { .. } | Progress::Sealed { .. } => {
                    Opening::Readable
                }
            },
        }
    }

    fn open(&self, opened: Opened) {
        self.opened.set(opened).expect("a fill is opened once");
        self.note(Event::Opened);
    }

    fn pass(&self, pass: Arc<Pass>) {
        self.unstored.set(pass).expect("a fill is opened once");
        self.note(Event::NoRoom);
    }

    /// Whether its bytes go by unkept.
    pub fn is_passing(&self) -> bool {
        self.unstored.get().is_some()
    }

    fn note(&self, event: Event) {
        self.progress
            .send_modify(|progress| *progress = progress.clone().after(event));
    }

    /// The error that nobody knows, and why.
    pub fn no_answer(&self, why: NoAnswer) -> GatewayError {
        GatewayError::NoAnswer {
            key: self.key.object().clone(),
            why,
        }
    }
}

/// Fails the fill if its task ends in any way that did not end it, a panic included.
pub struct Unfinished(pub Arc<Fill>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let cause = self.0.no_answer(NoAnswer::Lost);
        self.0.note(Event::Broke(Arc::new(cause)));
    }
}
