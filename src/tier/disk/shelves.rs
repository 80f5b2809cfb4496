//! What lies on disk, as memory knows it: each blob's size, facts and last use, in the order in which
//! they are to go.
//!
//! No I/O happens here. The files are the truth; this is the picture of them that a lookup checks a
//! file against and that the budget adds up. The index is a copy of it that outlives the process.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::evict::{Order, Slot};
use super::index::BlobRecord;
use crate::nix::hash::Sha256Hash;
use crate::nix::key::ObjectKey;
use crate::object::ETag;

/// Keys of vanished blobs that are not worth a sweep.
const UNSWEPT: usize = 1000;

/// What is known of a blob's content besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub etag: Option<ETag>,
    /// Whether the content's hash was known and agreed when the blob was committed.
    pub verified: bool,
    /// Of the content when it was committed or first read again; only where the name is no hash.
    pub digest: Option<Sha256Hash>,
}

impl From<BlobRecord> for Facts {
    fn from(record: BlobRecord) -> Self {
        Self {
            etag: record.etag,
            verified: record.verified,
            digest: record.digest,
        }
    }
}

/// One blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Bytes of content.
    pub len: u64,
    /// Bytes allocated on disk, with its sidecar.
    pub blocks: u64,
    /// Last use, in milliseconds of the wall clock.
    pub used: u64,
    /// `None`: a file found without an index entry, counted but not yet vouched for.
    pub facts: Option<Facts>,
}

struct Shelved {
    key: ObjectKey,
    entry: Entry,
    /// Differs from what the index was told last.
    unsaved: bool,
    /// Used or committed by this process, so its place in the order is not to be recomputed.
    placed: bool,
}

/// All blobs, by key and in the order of eviction.
pub(super) struct Shelves {
    slots: HashMap<ObjectKey, Slot>,
    order: Order<Shelved>,
    /// Names keys to the policy, which knows numbers only.
    names: RandomState,
    unsaved: Vec<ObjectKey>,
}

impl Shelves {
    /// `capacity`: allocated bytes of all that is kept, at most.
    pub fn new(capacity: u64) -> Self {
        Self {
            slots: HashMap::new(),
            order: Order::new(capacity),
            names: RandomState::new(),
            unsaved: Vec::new(),
        }
    }

    /// Blobs.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Allocated bytes of all blobs.
    pub fn bytes(&self) -> u64 {
        self.order.weight()
    }

    pub fn get(&self, key: &ObjectKey) -> Option<&Entry> {
        Some(&self.order.get(*self.slots.get(key)?).entry)
    }

    /// All blobs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Entry)> {
        let slots = self.slots.iter();
        slots.map(|(key, slot)| (key, &self.order.get(*slot).entry))
    }

    /// Roughly the blob that [`Shelves::choose`] would give, for the metrics.
    pub fn peek(&self) -> Option<&Entry> {
        self.order.peek().map(|shelved| &shelved.entry)
    }

    /// The blob next to be evicted, and what that frees.
    pub fn choose(&mut self) -> Option<(ObjectKey, u64)> {
        let slot = self.order.choose()?;
        let shelved = self.order.get(slot);
        Some((shelved.key.clone(), shelved.entry.blocks))
    }

    /// Enters a blob that was just used, in place of one of the same key.
    pub fn put(&mut self, key: ObjectKey, entry: Entry) {
        if let Some(slot) = self.slots.get(&key).copied() {
            self.order.set_weight(slot, entry.blocks);
            self.order.note_use(slot);
            let shelved = self.order.get_mut(slot);
            shelved.entry = entry;
            shelved.placed = true;
            self.mark_unsaved(slot);
            return;
        }
        let (name, weight) = (self.names.hash_one(&key), entry.blocks);
        let shelved = Shelved {
            key: key.clone(),
            entry,
            unsaved: true,
            placed: true,
        };
        let slot = self.order.insert(name, weight, shelved);
        self.slots.insert(key.clone(), slot);
        self.list_unsaved(key);
    }

    /// Enters a file found at start, unless its key is here already.
    pub fn put_found(&mut self, key: ObjectKey, entry: Entry) {
        if self.slots.contains_key(&key) {
            return;
        }
        let (name, weight) = (self.names.hash_one(&key), entry.blocks);
        let shelved = Shelved {
            key: key.clone(),
            entry,
            unsaved: false,
            placed: false,
        };
        let slot = self.order.insert_found(name, weight, shelved);
        self.slots.insert(key, slot);
    }

    /// Takes over what the index remembers of a blob whose length agrees.
    pub fn recall(&mut self, key: &ObjectKey, record: BlobRecord) {
        if let Some(slot) = self.slots.get(key) {
            let shelved = self.order.get_mut(*slot);
            if !shelved.placed {
                shelved.entry.used = record.used;
            }
            shelved.entry.facts.get_or_insert_with(|| record.into());
        }
    }

    /// Enters what is known of a blob now.
    pub fn learn(&mut self, key: &ObjectKey, facts: Facts) {
        if let Some(slot) = self.slots.get(key) {
            self.order.get_mut(*slot).entry.facts = Some(facts);
        }
    }

    /// Notes a use at `now`, in milliseconds of the wall clock.
    pub fn touch(&mut self, key: &ObjectKey, now: u64) {
        if let Some(slot) = self.slots.get(key).copied() {
            self.order.note_use(slot);
            let shelved = self.order.get_mut(slot);
            shelved.entry.used = now;
            shelved.placed = true;
            self.mark_unsaved(slot);
        }
    }

    /// Has the index told of this blob again.
    pub fn save_again(&mut self, key: &ObjectKey) {
        if let Some(slot) = self.slots.get(key).copied() {
            self.mark_unsaved(slot);
        }
    }

    /// Takes a blob out that was chosen to make room.
    pub fn evict(&mut self, key: &ObjectKey) {
        if let Some(slot) = self.slots.remove(key) {
            self.order.evict(slot);
        }
    }

    /// Takes a blob out that is gone for another reason.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Entry> {
        let slot = self.slots.remove(key)?;
        Some(self.order.remove(slot).entry)
    }

    /// The next `at_most` records the index should be told of. Blobs without facts are passed over:
    /// an entry in the index is a promise that the content was checked.
    pub fn take_unsaved(&mut self, at_most: usize) -> Vec<(ObjectKey, BlobRecord)> {
        let mut records = Vec::new();
        while records.len() < at_most
            && let Some(key) = self.unsaved.pop()
        {
            let Some(slot) = self.slots.get(&key) else {
                continue;
            };
            let shelved = self.order.get_mut(*slot);
            if std::mem::take(&mut shelved.unsaved)
                && let Some(record) = record(&shelved.entry)
            {
                records.push((key, record));
            }
        }
        records
    }

    /// Keys of all blobs with facts, for an index that has to be told everything.
    pub fn vouched(&self) -> Vec<ObjectKey> {
        self.slots
            .iter()
            .filter(|(_, slot)| self.order.get(**slot).entry.facts.is_some())
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Has the blobs that nobody used since the start go in the order of their last use before it,
    /// before all others in the main queue. Takes n log n.
    pub fn order_found(&mut self) {
        let mut found: Vec<(u64, Slot)> = self
            .slots
            .values()
            .map(|slot| (self.order.get(*slot), *slot))
            .filter(|(shelved, _)| !shelved.placed)
            .map(|(shelved, slot)| (shelved.entry.used, slot))
            .collect();
        found.sort_unstable_by_key(|(used, _)| std::cmp::Reverse(*used));
        for (_, slot) in found {
            self.order.retire(slot);
        }
    }

    fn mark_unsaved(&mut self, slot: Slot) {
        let shelved = self.order.get_mut(slot);
        if !std::mem::replace(&mut shelved.unsaved, true) {
            let key = shelved.key.clone();
            self.list_unsaved(key);
        }
    }

    /// Blobs that come and go leave their keys in the list. It is swept when those could be half.
    fn list_unsaved(&mut self, key: ObjectKey) {
        self.unsaved.push(key);
        if self.unsaved.len() > 2 * self.slots.len() + UNSWEPT {
            let slots = self.slots.values().map(|slot| self.order.get(*slot));
            self.unsaved = slots
                .filter(|shelved| shelved.unsaved)
                .map(|shelved| shelved.key.clone())
                .collect();
        }
    }
}

/// What the index is told of a blob; `None` while nobody vouches for its content.
pub(super) fn record(entry: &Entry) -> Option<BlobRecord> {
    let facts = entry.facts.as_ref()?;
    Some(BlobRecord {
        len: entry.len,
        used: entry.used,
        etag: facts.etag.clone(),
        verified: facts.verified,
        digest: facts.digest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> ObjectKey {
        ObjectKey::from_stored(&format!("nar/blob{n}.nar")).unwrap()
    }

    fn entry(used: u64) -> Entry {
        Entry {
            len: 10,
            blocks: 4096,
            used,
            facts: Some(Facts {
                etag: None,
                verified: true,
                digest: None,
            }),
        }
    }

    fn drained(mut shelves: Shelves) -> Vec<ObjectKey> {
        std::iter::from_fn(|| {
            let (key, _) = shelves.choose()?;
            shelves.evict(&key);
            Some(key)
        })
        .collect()
    }

    #[test]
    fn a_use_saves_a_blob_from_being_next() {
        let mut shelves = Shelves::new(u64::MAX);
        (1..=3).for_each(|n| shelves.put(key(n), entry(u64::from(n))));
        shelves.touch(&key(1), 9);
        assert_eq!(drained(shelves), [key(2), key(3), key(1)]);
    }

    #[test]
    fn what_was_found_goes_in_the_order_of_its_uses_and_what_was_used_since_last() {
        let mut shelves = Shelves::new(u64::MAX);
        for (n, used) in [(1, 30), (2, 10), (3, 20), (4, 5)] {
            shelves.put_found(key(n), entry(used));
        }
        shelves.touch(&key(4), 40);
        shelves.order_found();
        assert_eq!(drained(shelves), [key(2), key(3), key(1), key(4)]);
    }

    #[test]
    fn bytes_are_the_sum_of_what_is_there() {
        let mut shelves = Shelves::new(u64::MAX);
        shelves.put(key(1), entry(1));
        shelves.put(key(1), entry(2));
        shelves.put_found(key(1), entry(3));
        shelves.put_found(key(2), entry(4));
        assert_eq!((shelves.bytes(), shelves.len()), (8192, 2));
        shelves.remove(&key(1));
        shelves.remove(&key(1));
        assert_eq!((shelves.bytes(), shelves.len()), (4096, 1));
    }

    #[test]
    fn blobs_that_come_and_go_leave_no_trail() {
        let mut shelves = Shelves::new(u64::MAX);
        for n in 0..10_000 {
            shelves.put(key(n), entry(1));
            shelves.remove(&key(n));
        }
        shelves.put(key(1), entry(1));
        assert!(shelves.unsaved.len() <= UNSWEPT + 2);
        assert_eq!(shelves.take_unsaved(usize::MAX).len(), 1);
    }

    #[test]
    fn the_index_is_told_once_of_many_uses_and_never_of_an_unchecked_blob() {
        let mut shelves = Shelves::new(u64::MAX);
        shelves.put(key(1), entry(1));
        shelves.put(
            key(2),
            Entry {
                facts: None,
                ..entry(1)
            },
        );
        (2..9).for_each(|now| shelves.touch(&key(1), now));
        let told = shelves.take_unsaved(10);
        assert_eq!(told.len(), 1);
        assert_eq!((&told[0].0, told[0].1.used), (&key(1), 8));
        assert!(shelves.take_unsaved(10).is_empty());
    }
}
