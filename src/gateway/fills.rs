//! All NARs in flight: one fill a key, however many read along, and only so many at once. Those that
//! read our own disk do not wait for those that read the bucket: one that hangs would keep back what
//! lies here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;
use crate::nix::key::{NarKey, ObjectKey};

use super::fill::{Fill, Unfinished};

type Table = Arc<Mutex<HashMap<ObjectKey, Arc<Fill>>>>;

#[derive(Debug)]
pub struct Fills {
    table: Table,
    /// One for each fill that may read the bucket.
    places: Arc<Semaphore>,
    /// One for each that may read our own disk.
    disk_places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// A fill, and whether somebody else had begun it.
#[derive(Debug)]
pub struct Joined {
    pub seat: Seat,
    pub joined: bool,
}

/// A request that wants a fill's NAR, from its joining until this is dropped. A fill without any is
/// abandoned.
#[derive(Debug)]
pub struct Seat {
    fill: Arc<Fill>,
    metrics: Arc<Metrics>,
}

impl Seat {
    fn take(fill: &Arc<Fill>, metrics: &Arc<Metrics>) -> Self {
        metrics.fill_readers.inc();
        fill.take_seat();
        Self {
            fill: Arc::clone(fill),
            metrics: Arc::clone(metrics),
        }
    }

    pub fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    /// So many bytes went out unchecked.
    pub fn count_unverified(&self, bytes: u64) {
        self.metrics.unverified_bytes.inc_by(bytes);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.metrics.fill_readers.dec();
        self.fill.leave_seat();
    }
}

impl Fills {
    /// `at_once`: how many of either kind may be at work; those above wait for their turn.
    pub fn new(at_once: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            table: Table::default(),
            places: Arc::new(Semaphore::new(at_once)),
            disk_places: Arc::new(Semaphore::new(at_once)),
            metrics,
        }
    }

    /// A seat in the key's fill. If there is none, `begin` gets a new one and the guard to keep until
    /// it ended.
    ///
    /// One that has failed and is about to leave the table is none: whoever comes after a failure
    /// is owed another try.
    pub fn join(&self, key: &NarKey, begin: impl FnOnce(Arc<Fill>, InFlight)) -> Joined {
        let mut table = self.locked();
        let listed = table.get(key.object());
        if let Some(fill) = listed.filter(|fill| !fill.has_failed()) {
            return Joined {
                seat: Seat::take(fill, &self.metrics),
                joined: true,
            };
        }
        let fill = Arc::new(Fill::new(key.clone()));
        let seat = Seat::take(&fill, &self.metrics);
        table.insert(key.object().clone(), Arc::clone(&fill));
        drop(table);
        let guard = InFlight {
            table: Arc::clone(&self.table),
            unfinished: Unfinished(Arc::clone(&fill)),
        };
        begin(fill, guard);
        Joined {
            seat,
            joined: false,
        }
    }

    /// Leave to fill from the bucket, waited for in line. To be kept until the fill ended.
    pub async fn place(&self) -> OwnedSemaphorePermit {
        place_among(&self.places).await
    }

    /// The same from our own disk.
    pub async fn disk_place(&self) -> OwnedSemaphorePermit {
        place_among(&self.disk_places).await
    }

    /// The key's fill if one is under way or has just succeeded.
    pub fn find(&self, key: &NarKey) -> Option<Arc<Fill>> {
        self.locked()
            .get(key.object())
            .filter(|fill| !fill.has_failed())
            .cloned()
    }

    /// Those under way now, in no order.
    pub fn all(&self) -> Vec<Arc<Fill>> {
        self.locked().values().cloned().collect()
    }

    pub fn count(&self) -> usize {
        self.locked().len()
    }

    /// Whoever comes from now on starts anew: the key was written.
    pub fn forget(&self, key: &ObjectKey) {
        self.locked().remove(key);
    }

    /// Takes a fill out of the table so that nobody joins it any more, unless somebody has.
    pub fn abandon(&self, fill: &Arc<Fill>) -> bool {
        let mut table = self.locked();
        let is_abandoned = fill.seats() == 0;
        if is_abandoned {
            take_out(&mut table, fill);
        }
        is_abandoned
    }

    /// Takes a fill out of the table: whoever comes from now on begins anew.
    pub fn close(&self, fill: &Arc<Fill>) {
        take_out(&mut self.locked(), fill);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<ObjectKey, Arc<Fill>>> {
        self.table.lock().expect("no panic under the table's lock")
    }
}

async fn place_among(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(places)
        .acquire_owned()
        .await
        .expect("the places are never closed")
}

/// Not a later fill of the same key.
fn take_out(table: &mut HashMap<ObjectKey, Arc<Fill>>, fill: &Arc<Fill>) {
    let key = fill.key.object();
    if table
        .get(key)
        .is_some_and(|listed| Arc::ptr_eq(listed, fill))
    {
        table.remove(key);
    }
}

/// Held by a fill's task; dropped, the fill has ended one way or the other and leaves the table.
pub struct InFlight {
    table: Table,
    unfinished: Unfinished,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut table = self.table.lock().expect("no panic under the table's lock");
        take_out(&mut table, &self.unfinished.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::progress::Progress;
    use crate::nix::key::Key;

    fn key() -> NarKey {
        match Key::parse(None, "nar/a.nar", None) {
            Some(Key::Nar(key)) => key,
            other => panic!("{other:?}"),
        }
    }

    fn fills() -> Fills {
        Fills::new(2, Arc::default())
    }

    #[test]
    fn a_second_request_joins_the_first_ones_fill() {
        let fills = fills();
        let mut guards = Vec::new();
        let first = fills.join(&key(), |_, guard| guards.push(guard));
        let second = fills.join(&key(), |_, _| unreachable!("one fill a key"));
        assert!(!first.joined && second.joined);
        assert!(Arc::ptr_eq(first.seat.fill(), second.seat.fill()));
    }

    #[test]
    fn a_fill_whose_task_dies_fails_its_readers_and_leaves_the_table() {
        let fills = fills();
        let mut guards = Vec::new();
        let joined = fills.join(&key(), |_, guard| guards.push(guard));
        let progress = joined.seat.fill().follow();
        drop(guards);
        assert!(matches!(*progress.borrow(), Progress::Failed(_)));
        assert_eq!(fills.count(), 0);
    }

    #[test]
    fn whoever_comes_after_a_failure_is_not_told_of_it_but_tries_anew() {
        let fills = fills();
        let mut guards = Vec::new();
        let failed = fills.join(&key(), |_, guard| guards.push(guard));
        drop(Unfinished(Arc::clone(failed.seat.fill())));
        let next = fills.join(&key(), |_, guard| guards.push(guard));
        assert!(!next.joined);
        // The failed one's guard goes late, and takes only its own.
        drop(guards.remove(0));
        assert_eq!(fills.count(), 1);
    }

    #[test]
    fn a_forgotten_fill_does_not_take_its_successor_with_it() {
        let fills = fills();
        let mut guards = Vec::new();
        fills.join(&key(), |_, guard| guards.push(guard));
        fills.forget(key().object());
        let mut later = Vec::new();
        fills.join(&key(), |_, guard| later.push(guard));
        drop(guards);
        assert_eq!(fills.count(), 1);
    }

    #[test]
    fn only_a_fill_that_nobody_wants_can_be_abandoned() {
        let fills = fills();
        let mut guards = Vec::new();
        let first = fills.join(&key(), |_, guard| guards.push(guard));
        let fill = Arc::clone(first.seat.fill());
        let second = fills.join(&key(), |_, _| unreachable!("one fill a key"));
        drop(first);
        assert!(!fills.abandon(&fill));
        drop(second);
        assert!(fills.abandon(&fill));
        let next = fills.join(&key(), |_, guard| guards.push(guard));
        assert!(!next.joined, "whoever comes later begins anew");
    }

    #[tokio::test]
    async fn more_fills_than_places_wait_for_their_turn() {
        let fills = fills();
        let first = fills.place().await;
        let _second = fills.place().await;
        let mut third = Box::pin(fills.place());
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        drop(first);
        drop(third.await);
    }
}
