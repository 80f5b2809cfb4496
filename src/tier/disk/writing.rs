//! Which keys are being written, so that a removal reaches what is not a blob yet: a fill that was
//! under way when its object was removed must not bring it back.
//!
//! Looked at under `moves`, in which names change, so a blob is either there to be removed or its
//! writer hears of the removal.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::locked;
use crate::nix::key::ObjectKey;

type Table = Mutex<HashMap<ObjectKey, Arc<AtomicBool>>>;

#[derive(Debug, Default)]
pub struct Writing(Arc<Table>);

/// Held by a writer for as long as it writes.
#[derive(Debug)]
pub struct Claim {
    table: Arc<Table>,
    key: ObjectKey,
    /// Shared by all who write the key.
    removed: Arc<AtomicBool>,
}

impl Writing {
    pub fn begin(&self, key: &ObjectKey) -> Claim {
        let removed = Arc::clone(locked(&self.0).entry(key.clone()).or_default());
        Claim {
            table: Arc::clone(&self.0),
            key: key.clone(),
            removed,
        }
    }

    /// Whoever writes the key now does so in vain; whoever begins later does not.
    pub fn removed(&self, key: &ObjectKey) {
        if let Some(removed) = locked(&self.0).remove(key) {
            removed.store(true, Ordering::Relaxed);
        }
    }
}

impl Claim {
    /// Whether the key was removed since this was begun.
    pub fn is_void(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = locked(&self.table);
        // The table's own and this one: clones are made under the table's lock only.
        let is_last = |listed: &Arc<AtomicBool>| {
            Arc::ptr_eq(listed, &self.removed) && Arc::strong_count(listed) <= 2
        };
        if table.get(&self.key).is_some_and(is_last) {
            table.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_voids_those_who_write_and_not_those_who_come_after() {
        let key = ObjectKey::from_stored("nar/a.nar").unwrap();
        let other = ObjectKey::from_stored("nar/b.nar").unwrap();
        let writing = Writing::default();
        let early = [writing.begin(&key), writing.begin(&key)];
        let elsewhere = writing.begin(&other);
        writing.removed(&key);
        let late = writing.begin(&key);
        assert!(early.iter().all(Claim::is_void));
        assert!(!late.is_void() && !elsewhere.is_void());
        drop(early);
        writing.removed(&key);
        assert!(late.is_void(), "an earlier one's end does not hide it");
        drop((late, elsewhere));
        assert!(locked(&writing.0).is_empty());
    }
}
