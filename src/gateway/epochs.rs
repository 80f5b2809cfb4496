//! Keeps a lookup that began before a write from putting its old answer back after it.
//!
//! A lookup notes the key's epoch before it asks anybody, and its answer is kept only if the epoch
//! is still the same; a write moves the epoch on in the same step in which it changes the tiers.
//! Keys share a fixed number of epochs by hash, so the table is bounded: two keys that meet in one
//! cost each other a cached answer now and then, never a wrong one.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard};

use crate::nix::key::ObjectKey;

const STRIPES: usize = 1024;

/// A point in the history of a key's writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

#[derive(Debug)]
pub struct Epochs {
    hasher: RandomState,
    stripes: Box<[Mutex<u64>]>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            stripes: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
        }
    }
}

impl Epochs {
    /// To be called before anybody is asked about the key.
    pub fn now(&self, key: &ObjectKey) -> Epoch {
        Epoch(*self.stripe(key))
    }

    /// Runs `keep` unless the key was written since `seen`. It must be short and not block.
    pub fn unless_written<T>(
        &self,
        key: &ObjectKey,
        seen: Epoch,
        keep: impl FnOnce() -> T,
    ) -> Option<T> {
        let epoch = self.stripe(key);
        (*epoch == seen.0).then(keep)
    }

    /// The key was written: runs `change`, after which no older answer can be kept.
    pub fn written<T>(&self, key: &ObjectKey, change: impl FnOnce() -> T) -> T {
        let mut epoch = self.stripe(key);
        *epoch += 1;
        change()
    }

    fn stripe(&self, key: &ObjectKey) -> MutexGuard<'_, u64> {
        let at = self.hasher.hash_one(key) as usize % STRIPES;
        self.stripes[at]
            .lock()
            .expect("closures under an epoch do not panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ObjectKey {
        ObjectKey::from_stored("00000000000000000000000000000000.narinfo").unwrap()
    }

    #[test]
    fn an_answer_from_before_a_write_is_not_kept() {
        let epochs = Epochs::default();
        let seen = epochs.now(&key());
        epochs.written(&key(), || ());
        assert_eq!(epochs.unless_written(&key(), seen, || "kept"), None);
    }

    #[test]
    fn an_answer_with_no_write_since_is_kept() {
        let epochs = Epochs::default();
        epochs.written(&key(), || ());
        let seen = epochs.now(&key());
        assert_eq!(epochs.unless_written(&key(), seen, || "kept"), Some("kept"));
    }
}
