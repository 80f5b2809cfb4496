//! The scrubber: re-reads every blob within a week, so that bits that flip while nobody looks are
//! found before a client is served them for the second time.
//!
//! It goes folder by folder. Each has its time within the pass, and inside a folder reading is
//! bounded, so the disk's load is low and steady. How far it has come is kept in a small file, and a
//! restart goes on from there. What no longer matches is set aside, and the next request for it
//! fills it anew. A blob that nobody vouched for since the index was lost, and that is sound, is
//! vouched for again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::blob::{Blob, BlobLookup};
use super::budget::Phase;
use super::hand::{Bell, Hand};
use super::shelves::{Entry, Facts};
use super::{Inner, content, files, locked, walk};
use crate::nix::key::ObjectKey;

/// How long one pass over the tier takes. A blob that came just after its folder was read is read in
/// the next pass: together with the time for that, within a week.
const PASS: Duration = Duration::from_secs(6 * 24 * 3600);
/// Least bound on reading, in bytes a second. The bound is this, or twice what the pass needs on
/// average, so that a pass interrupted by a night's shutdown catches up.
const LEAST_RATE: u64 = 1 << 20;
/// Longest pause before the clock is looked at again, which may have been set.
const PAUSE: Duration = Duration::from_secs(60);
const MAX_CURSOR: u64 = 256;

/// How far the pass has come.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    /// When the pass began, in milliseconds of the wall clock.
    began: u64,
    /// The folder that was read last, relative to the tier's; empty at the beginning.
    after: PathBuf,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Read(PathBuf),
    Wait(Duration),
    /// All folders were read and the pass is over.
    Begin,
}

/// Starts the thread. It holds the tier only while it works.
pub(super) fn spawn(tier: &Arc<Inner>) -> io::Result<Hand> {
    let tier = Arc::downgrade(tier);
    Hand::spawn("scrub", Arc::default(), move |bell| run(&tier, bell))
}

fn run(tier: &Weak<Inner>, bell: &Bell) {
    loop {
        let pause = match tier.upgrade() {
            Some(tier) => tier.scrub(bell).unwrap_or_else(|error| {
                tracing::warn!(%error, "the scrubber could not go on; trying again");
                PAUSE
            }),
            None => return,
        };
        if !bell.wait(pause) {
            return;
        }
    }
}

impl Inner {
    /// One step: a folder at most. How long to wait before the next.
    pub fn scrub(&self, bell: &Bell) -> io::Result<Duration> {
        let is_ready = self.is_claimed()
            && !self.health.is_degraded()
            && locked(&self.books).phase == Phase::Reconciled;
        if !is_ready {
            return Ok(PAUSE);
        }
        let now = self.now_ms();
        let Some(cursor) = self.cursor()?.filter(|cursor| cursor.began <= now) else {
            self.begin_pass(now)?;
            return Ok(Duration::ZERO);
        };
        match next(&cursor, &self.scrub_folders()?, now) {
            Next::Wait(pause) => return Ok(pause.min(PAUSE)),
            Next::Begin => {
                self.metrics.disk_scrub_passes.inc();
                self.begin_pass(now)?;
            }
            Next::Read(folder) => {
                let rate = LEAST_RATE.max(2 * locked(&self.books).total() / PASS.as_secs());
                let pace =
                    |bytes: u64| bell.wait(Duration::from_secs_f64(bytes as f64 / rate as f64));
                if self.scrub_folder(&self.layout.root().join(&folder), pace)? {
                    self.keep_cursor(&Cursor {
                        after: folder,
                        ..cursor
                    })?;
                }
            }
        }
        Ok(Duration::ZERO)
    }

    fn scrub_folders(&self) -> io::Result<Vec<PathBuf>> {
        let folders = walk::folders(&self.layout)?.into_iter();
        let relative = folders.filter_map(|folder| {
            let relative = folder.strip_prefix(self.layout.root()).ok();
            relative.map(Path::to_owned)
        });
        Ok(relative.collect())
    }

    /// Reads every blob in a folder. `pace` waits for so many bytes; when it says `false`, so does
    /// this.
    pub fn scrub_folder(
        &self,
        folder: &Path,
        mut pace: impl FnMut(u64) -> bool,
    ) -> io::Result<bool> {
        for key in walk::blobs_in(&self.layout, folder)? {
            if !self.scrub_blob(&key, &mut pace)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn scrub_blob(&self, key: &ObjectKey, pace: &mut impl FnMut(u64) -> bool) -> io::Result<bool> {
        let place = self.layout.place(key);
        let Some((file, about)) = files::open_blob(&place)? else {
            return Ok(true);
        };
        let known = locked(&self.books).shelves.get(key).cloned();
        let facts = match known {
            Some(Entry { len, facts, .. }) if len == about.len() => facts,
            // Of another length than it was, or not in the books: that is settled without reading.
            _ => match self.settle(key, &place)? {
                BlobLookup::Miss => return Ok(true),
                BlobLookup::Hit(_) | BlobLookup::Unindexed(_) => None,
            },
        };
        let found = content::digest(&file, |bytes| {
            self.metrics.disk_scrubbed_bytes.inc_by(bytes);
            pace(bytes)
        });
        let blob = Blob::new(file, &about, facts.clone());
        let expected =
            content::promised_hash(key).or_else(|| facts.as_ref().and_then(|facts| facts.digest));
        match (found, expected) {
            (Ok(None), _) => return Ok(false),
            (Err(error), _) => {
                tracing::error!(%key, %error, "a blob cannot be read");
                self.quarantine(key, &blob);
            }
            (Ok(Some(found)), Some(expected)) if found != expected => {
                tracing::error!(%key, %found, %expected, "a blob has rotted");
                self.quarantine(key, &blob);
            }
            (Ok(Some(_)), Some(_)) if facts.is_none() => self.adopt(key, &blob),
            (Ok(Some(_)), Some(_)) => {}
            // The first reading of a blob whose hash nobody knows is what later ones are held to.
            (Ok(Some(found)), None) => {
                if let Some(facts) = facts {
                    let facts = Facts {
                        digest: Some(found),
                        ..facts
                    };
                    self.learn(key, &blob, facts);
                }
            }
        }
        self.metrics.disk_scrubbed_blobs.inc();
        Ok(true)
    }

    fn begin_pass(&self, now: u64) -> io::Result<()> {
        self.keep_cursor(&Cursor {
            began: now,
            after: PathBuf::new(),
        })
    }

    fn cursor(&self) -> io::Result<Option<Cursor>> {
        let text = files::read_small(&self.layout.scrubbed(), MAX_CURSOR)?;
        Ok(text.as_deref().and_then(Cursor::parse))
    }

    /// A crash while it is written costs a pass begun anew.
    fn keep_cursor(&self, cursor: &Cursor) -> io::Result<()> {
        fs::write(self.layout.scrubbed(), cursor.text())
    }
}

impl Cursor {
    fn text(&self) -> String {
        format!("{} {}\n", self.began, self.after.display())
    }

    fn parse(text: &str) -> Option<Self> {
        let (began, after) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Self {
            began: began.parse().ok()?,
            after: PathBuf::from(after),
        })
    }
}

/// Each folder has an equal share of the pass, and is read at the end of it: so a new cache is left
/// alone at first, and folders that come late have their turn.
fn next(cursor: &Cursor, folders: &[PathBuf], now: u64) -> Next {
    let done = folders.partition_point(|folder| *folder <= cursor.after);
    let due = |nth: usize| {
        let share = nth as f64 / folders.len().max(1) as f64;
        cursor
            .began
            .saturating_add((PASS.as_millis() as f64 * share) as u64)
    };
    let (at, then) = match folders.get(done) {
        Some(folder) => (due(done + 1), Next::Read(folder.clone())),
        None => (
            cursor.began.saturating_add(PASS.as_millis() as u64),
            Next::Begin,
        ),
    };
    match at.checked_sub(now) {
        None | Some(0) => then,
        Some(left) => Next::Wait(Duration::from_millis(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn a_pass_reads_each_folder_once_at_its_time() {
        let folders = folders(&["doc/aa", "nar/bb", "nar/cc"]);
        let third = PASS.as_millis() as u64 / 3;
        let mut cursor = Cursor {
            began: 1000,
            after: PathBuf::new(),
        };
        assert_eq!(
            next(&cursor, &folders, 1000),
            Next::Wait(Duration::from_millis(third))
        );
        for (nth, folder) in (1..).zip(&folders) {
            let now = 1000 + nth * third;
            assert_eq!(next(&cursor, &folders, now), Next::Read(folder.clone()));
            cursor.after = folder.clone();
        }
        assert_eq!(next(&cursor, &folders, 1000 + 3 * third), Next::Begin);
    }

    #[test]
    fn an_empty_tier_waits_out_the_pass() {
        let cursor = Cursor {
            began: 0,
            after: PathBuf::new(),
        };
        assert_eq!(next(&cursor, &[], 0), Next::Wait(PASS));
        assert_eq!(next(&cursor, &[], PASS.as_millis() as u64), Next::Begin);
    }

    #[test]
    fn after_a_long_absence_what_is_overdue_is_read_at_once() {
        let folders = folders(&["nar/aa", "nar/bb"]);
        let cursor = Cursor {
            began: 0,
            after: PathBuf::from("nar/aa"),
        };
        assert_eq!(
            next(&cursor, &folders, u64::MAX),
            Next::Read(PathBuf::from("nar/bb"))
        );
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        for after in ["", "nar/1w"] {
            let cursor = Cursor {
                began: 7,
                after: PathBuf::from(after),
            };
            assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        }
        for text in ["", "7", "x nar/1w\n", "7 nar/1"] {
            assert_eq!(Cursor::parse(text), None, "{text:?}");
        }
    }
}
