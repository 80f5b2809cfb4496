//! The disk tier's own thread: what is done beside serving, and in which order.
//!
//! Claim the directory where that failed at start, count the files, agree with each new generation
//! of the index, evict before requests have to, save recency now and then, and try a sick disk again.

use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::budget::{Phase, cost};
use super::files::{self, BLOCK};
use super::hand::{Bell, Hand};
use super::{Inner, NoRoom, locked};

/// Longest pause between two looks at what is to be done.
const PULSE: Duration = Duration::from_secs(1);
/// How often uses are written to the index: a crash forgets no more of them.
const SAVE_RECENCY: Duration = Duration::from_secs(30);
/// How often a disk that is out of use is tried.
const PROBE: Duration = Duration::from_secs(5);

/// How often `disk.min_free` is looked after. Not more often: an evicted blob that is still being
/// read frees nothing yet, and would be taken for one that was not evicted.
const KEEP_FREE: Duration = Duration::from_secs(30);

/// Starts the thread. It holds the tier only while it works.
pub(super) fn spawn(tier: &Arc<Inner>) -> io::Result<Hand> {
    let bell = Arc::clone(&tier.bell);
    let tier = Arc::downgrade(tier);
    Hand::spawn("disk", bell, move |bell| run(&tier, bell))
}

fn run(tier: &Weak<Inner>, bell: &Bell) {
    let mut duties = Duties {
        generation: 0,
        saved: Instant::now(),
        probed: Instant::now(),
        kept_free: Instant::now(),
    };
    while let Some(tier) = tier.upgrade() {
        duties.attend(&tier);
        drop(tier);
        if !bell.wait(PULSE) {
            return;
        }
    }
}

/// When each thing was done last.
struct Duties {
    /// Of the index, when it was last agreed with.
    generation: u64,
    saved: Instant,
    probed: Instant,
    kept_free: Instant,
}

impl Duties {
    fn attend(&mut self, tier: &Arc<Inner>) {
        if tier.is_claimed() {
            self.look_for_it(tier);
            self.recover(tier);
            self.make_room(tier);
            if self.saved.elapsed() >= SAVE_RECENCY && tier.save_recency() {
                self.saved = Instant::now();
            }
        }
        let is_out_of_use = tier.health.is_degraded() || !tier.is_claimed();
        if is_out_of_use && self.probed.elapsed() >= PROBE {
            self.probed = Instant::now();
            match try_again(tier) {
                Ok(()) => tier.health.worked(),
                Err(error) => tier.health.failed(&error),
            }
        }
    }

    /// Notices a directory that was removed or moved before anybody writes to it.
    fn look_for_it(&self, tier: &Inner) {
        match tier.holds_claim() {
            Ok(true) => {}
            Ok(false) => tier.health.failed(&gone()),
            Err(error) => tier.health.failed(&error),
        }
    }

    /// Trouble on the way is noted where it is met, and met again by whoever needs the room.
    fn make_room(&mut self, tier: &Inner) {
        let _ = tier.keep_low_water();
        if self.kept_free.elapsed() >= KEEP_FREE {
            self.kept_free = Instant::now();
            let _ = tier.keep_free_ahead();
        }
    }

    fn recover(&mut self, tier: &Inner) {
        let phase = locked(&tier.books).phase;
        if phase == Phase::Counting {
            tier.count();
        }
        let generation = tier.index.generation();
        if generation != self.generation {
            self.generation = generation;
            tier.reconcile();
        }
    }
}

/// Whether the disk takes writes again. Claims the directory where that failed at start, and anew
/// where it was removed since.
pub(super) fn try_again(tier: &Arc<Inner>) -> io::Result<()> {
    if !tier.is_claimed() {
        return tier.claim().map_err(io::Error::other);
    }
    if !tier.holds_claim()? {
        let may_claim = match &*locked(&tier.claim) {
            Some(claim) => claim.may_be_succeeded(&tier.layout)?,
            None => true,
        };
        return match may_claim {
            true => tier.claim_again().map_err(io::Error::other),
            false => Err(gone()),
        };
    }
    for folder in tier.layout.folders() {
        files::ensure_folder(&folder)?;
    }
    probe(tier)
}

fn gone() -> io::Error {
    io::Error::other("the directory is gone, or another has taken its place")
}

/// Writes, syncs and removes a block, paid for like any other.
fn probe(tier: &Arc<Inner>) -> io::Result<()> {
    let _grant = match tier.grant(cost(BLOCK)) {
        Ok(grant) => grant,
        // No room in the books says nothing against the disk.
        Err(NoRoom::Full | NoRoom::TooLarge | NoRoom::Removed) => return Ok(()),
        Err(NoRoom::Disk(error)) => return Err(error),
    };
    let path = tier.layout.temporary(tier.serial());
    let tried = files::create(&path).and_then(|mut file| {
        file.write_all(&[0; BLOCK as usize])?;
        file.sync_all()
    });
    match fs::remove_file(&path) {
        Err(error) if tried.is_ok() => Err(error),
        _ => tried,
    }
}
