//! All NARs in flight: one fill a key, however many read along.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::nix::key::{NarKey, ObjectKey};

use super::fill::{Fill, Unfinished};

#[derive(Debug, Default)]
pub struct Fills {
    table: Arc<Mutex<HashMap<ObjectKey, Arc<Fill>>>>,
}

/// A fill, and whether somebody else had begun it.
#[derive(Debug)]
pub struct Joined {
    pub fill: Arc<Fill>,
    pub joined: bool,
}

impl Fills {
    /// The key's fill. If there is none, `begin` gets a new one and the guard to keep until it ended.
    ///
    /// One that has failed and is about to leave the table is none: whoever comes after a failure
    /// is owed another try.
    pub fn join(&self, key: &NarKey, begin: impl FnOnce(Arc<Fill>, InFlight)) -> Joined {
        let mut table = self.table.lock().expect("no panic under the table's lock");
        let listed = table.get(key.object());
        if let Some(fill) = listed.filter(|fill| !fill.has_failed()) {
            return Joined {
                fill: Arc::clone(fill),
                joined: true,
            };
        }
        let fill = Arc::new(Fill::new(key.clone()));
        table.insert(key.object().clone(), Arc::clone(&fill));
        drop(table);
        let guard = InFlight {
            fills: Arc::clone(&self.table),
            unfinished: Unfinished(Arc::clone(&fill)),
        };
        begin(Arc::clone(&fill), guard);
        Joined {
            fill,
            joined: false,
        }
    }

    /// The key's fill if one is under way or has just succeeded.
    pub fn find(&self, key: &NarKey) -> Option<Arc<Fill>> {
        self.table
            .lock()
            .expect("no panic under the table's lock")
            .get(key.object())
            .filter(|fill| !fill.has_failed())
            .cloned()
    }

    /// Those under way now, in no order.
    pub fn all(&self) -> Vec<Arc<Fill>> {
        self.table
            .lock()
            .expect("no panic under the table's lock")
            .values()
            .cloned()
            .collect()
    }

    pub fn count(&self) -> usize {
        self.table
            .lock()
            .expect("no panic under the table's lock")
            .len()
    }

    /// Whoever comes from now on starts anew: the key was written.
    pub fn forget(&self, key: &ObjectKey) {
        self.table
            .lock()
            .expect("no panic under the table's lock")
            .remove(key);
    }
}

/// Held by a fill's task; dropped, the fill has ended one way or the other and leaves the table.
pub struct InFlight {
    fills: Arc<Mutex<HashMap<ObjectKey, Arc<Fill>>>>,
    unfinished: Unfinished,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let fill = &self.unfinished.0;
        let mut table = self.fills.lock().expect("no panic under the table's lock");
        if table
            .get(fill.key.object())
            .is_some_and(|listed| Arc::ptr_eq(listed, fill))
        {
            table.remove(fill.key.object());
        }
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

    #[test]
    fn a_second_request_joins_the_first_ones_fill() {
        let fills = Fills::default();
        let mut guards = Vec::new();
        let first = fills.join(&key(), |_, guard| guards.push(guard));
        let second = fills.join(&key(), |_, _| unreachable!("one fill a key"));
        assert!(!first.joined && second.joined);
        assert!(Arc::ptr_eq(&first.fill, &second.fill));
    }

    #[test]
    fn a_fill_whose_task_dies_fails_its_readers_and_leaves_the_table() {
        let fills = Fills::default();
        let mut guards = Vec::new();
        let joined = fills.join(&key(), |_, guard| guards.push(guard));
        let progress = joined.fill.follow();
        drop(guards);
        assert!(matches!(*progress.borrow(), Progress::Failed(_)));
        assert_eq!(fills.count(), 0);
    }

    #[test]
    fn whoever_comes_after_a_failure_is_not_told_of_it_but_tries_anew() {
        let fills = Fills::default();
        let mut guards = Vec::new();
        let failed = fills.join(&key(), |_, guard| guards.push(guard));
        drop(Unfinished(Arc::clone(&failed.fill)));
        let next = fills.join(&key(), |_, guard| guards.push(guard));
        assert!(!next.joined);
        // The failed one's guard goes late, and takes only its own.
        drop(guards.remove(0));
        assert_eq!(fills.count(), 1);
    }

    #[test]
    fn a_forgotten_fill_does_not_take_its_successor_with_it() {
        let fills = Fills::default();
        let mut guards = Vec::new();
        fills.join(&key(), |_, guard| guards.push(guard));
        fills.forget(key().object());
        let mut later = Vec::new();
        fills.join(&key(), |_, guard| later.push(guard));
        drop(guards);
        assert_eq!(fills.count(), 1);
    }
}
