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
    pub fn join(&self, key: &NarKey, begin: impl FnOnce(Arc<Fill>, InFlight)) -> Joined {
        let mut table = self.table.lock().expect("no panic under the table's lock");
        if let Some(fill) = table.get(key.object()) {
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

    /// The key's fill if one is under way.
    pub fn find(&self, key: &NarKey) -> Option<Arc<Fill>> {
        self.table
            .lock()
            .expect("no panic under the table's lock")
            .get(key.object())
            .cloned()
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
