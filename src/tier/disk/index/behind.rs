//! What the index has yet to be told, by key: the latest intent for each, and nothing older.
//!
//! This is the queue of a write-behind index, as a table. Two intents for one key become one, a
//! forget can never be overtaken by the keep it follows, and a reader who asks here first sees every
//! change at once, though the database learns of it later. Intents stay until the database has
//! them, so a failed write loses nothing.
//!
//! It is bounded in bytes. A keep that does not fit is refused, which costs a cold entry after a
//! restart. A forget must not be lost, so when there is no room for one, all entries of the tree
//! are forgotten instead.

use std::collections::HashMap;

use crate::nix::key::ObjectKey;

/// Bytes of memory for intents of one kind: blobs, documents.
pub(super) const LIMIT: usize = 16 << 20;
/// Bytes carried out at once: what the database grows by before its size is looked at again.
const ROUND: usize = 4 << 20;
/// Places for intents that an empty table keeps.
const ROOMY: usize = 1024;
/// What an intent weighs besides its value: its key and its place in the table.
const OVERHEAD: usize = 256;

/// What is waiting for one key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waiting<V> {
    Keep(V),
    Forget,
    /// The database is up to date.
    Nothing,
}

struct Intent<V> {
    /// `None`: forget.
    value: Option<V>,
    weight: usize,
    serial: u64,
}

/// Intents to be carried out together.
pub(super) struct Round<V> {
    /// Everything in the tree goes first.
    pub clear: bool,
    /// `None`: forget.
    pub changes: Vec<(ObjectKey, Option<V>)>,
    /// Whether a crash must not bring back what this removes.
    pub urgent: bool,
    serials: Vec<u64>,
    cleared_at: Option<u64>,
}

/// The table of one tree.
pub(super) struct Behind<V> {
    intents: HashMap<ObjectKey, Intent<V>>,
    weight: usize,
    serial: u64,
    /// Set while the tree still has to be cleared.
    cleared_at: Option<u64>,
    /// A forget, or a keep in the place of one, has been entered since nothing waited.
    urgent: bool,
    limit: usize,
}

impl<V: Clone> Behind<V> {
    pub fn new() -> Self {
        Self::with_limit(LIMIT)
    }

    fn with_limit(limit: usize) -> Self {
        Self {
            intents: HashMap::new(),
            weight: 0,
            serial: 0,
            cleared_at: None,
            urgent: false,
            limit,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.intents.is_empty() && self.cleared_at.is_none()
    }

    /// Whether so many keys wait, or so many bytes that there may soon be no room for more.
    pub fn is_round_full(&self, size: usize) -> bool {
        self.intents.len() >= size || self.weight >= ROUND.min(self.limit / 2)
    }

    /// Whether a crash must not bring back what is waiting to be removed.
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Whether a keep of `weight` bytes fits; when not, what the database has is left as it is.
    pub fn keep(&mut self, key: &ObjectKey, value: V, weight: usize) -> bool {
        let replaced = self.intents.get(key).map_or(0, |intent| intent.weight);
        if self.weight - replaced + weight + OVERHEAD > self.limit {
            return false;
        }
        self.enter(key, Some(value), weight + OVERHEAD);
        true
    }

    /// Keeps a value in the place of one that is wrong, and where it does not fit forgets that one.
    /// Either way a crash must not bring it back.
    pub fn replace(&mut self, key: &ObjectKey, value: V, weight: usize) {
        match self.keep(key, value, weight) {
            true => self.urgent = true,
            false => self.forget(key),
        }
    }

    pub fn forget(&mut self, key: &ObjectKey) {
        self.urgent = true;
        let replaced = self.intents.get(key).map_or(0, |intent| intent.weight);
        if self.weight - replaced + OVERHEAD > self.limit {
            self.intents.clear();
            self.weight = 0;
            self.serial += 1;
            self.cleared_at = Some(self.serial);
        } else {
            self.enter(key, None, OVERHEAD);
        }
    }

    pub fn waiting(&self, key: &ObjectKey) -> Waiting<V> {
        match self.intents.get(key) {
            Some(Intent {
                value: Some(value), ..
            }) => Waiting::Keep(value.clone()),
            Some(Intent { value: None, .. }) => Waiting::Forget,
            None if self.cleared_at.is_some() => Waiting::Forget,
            None => Waiting::Nothing,
        }
    }

    /// At most `size` intents to carry out now, and hardly more than [`ROUND`] bytes of them. They
    /// stay here until [`Behind::done`].
    pub fn round(&self, size: usize) -> Round<V> {
        let mut bytes = 0;
        let chosen = self.intents.iter().take(size).take_while(|(_, intent)| {
            let has_room = bytes < ROUND;
            bytes += intent.weight;
            has_room
        });
        let (changes, serials) = chosen
            .map(|(key, intent)| ((key.clone(), intent.value.clone()), intent.serial))
            .unzip();
        Round {
            clear: self.cleared_at.is_some(),
            changes,
            urgent: self.urgent,
            serials,
            cleared_at: self.cleared_at,
        }
    }

    /// The database has this round: what was not changed meanwhile need not wait any longer.
    pub fn done(&mut self, round: &Round<V>) {
        if self.cleared_at == round.cleared_at {
            self.cleared_at = None;
        }
        for ((key, _), serial) in round.changes.iter().zip(&round.serials) {
            if self
                .intents
                .get(key)
                .is_some_and(|intent| intent.serial == *serial)
                && let Some(intent) = self.intents.remove(key)
            {
                self.weight -= intent.weight;
            }
        }
        if self.is_empty() {
            self.urgent = false;
            // A table that a burst has grown makes every later round walk its empty places.
            self.intents.shrink_to(ROOMY);
        }
    }

    fn enter(&mut self, key: &ObjectKey, value: Option<V>, weight: usize) {
        self.serial += 1;
        self.weight += weight;
        let intent = Intent {
            value,
            weight,
            serial: self.serial,
        };
        if let Some(old) = self.intents.insert(key.clone(), intent) {
            self.weight -= old.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> ObjectKey {
        ObjectKey::from_stored(&format!("nar/blob{n}.nar")).unwrap()
    }

    #[test]
    fn a_forget_wins_over_an_earlier_keep_and_a_keep_over_an_earlier_forget() {
        let mut behind = Behind::new();
        behind.keep(&key(1), "old", 3);
        behind.forget(&key(1));
        assert_eq!(behind.waiting(&key(1)), Waiting::Forget);
        behind.keep(&key(1), "new", 3);
        assert_eq!(behind.waiting(&key(1)), Waiting::Keep("new"));
        let round = behind.round(10);
        assert_eq!(round.changes, [(key(1), Some("new"))]);
        assert!(round.urgent, "the old value must not come back");
    }

    #[test]
    fn a_forget_is_urgent_until_nothing_waits() {
        let mut behind = Behind::new();
        behind.forget(&key(1));
        behind.keep(&key(2), "b", 1);
        let first = behind.round(1);
        behind.done(&first);
        let second = behind.round(1);
        assert!(first.urgent && second.urgent, "either may hold the forget");
        behind.done(&second);
        behind.keep(&key(3), "c", 1);
        assert!(!behind.round(1).urgent);
    }

    #[test]
    fn an_intent_is_seen_until_the_database_has_it() {
        let mut behind = Behind::<()>::new();
        behind.forget(&key(1));
        let round = behind.round(10);
        assert_eq!(behind.waiting(&key(1)), Waiting::Forget);
        behind.done(&round);
        assert_eq!(behind.waiting(&key(1)), Waiting::Nothing);
        assert!(behind.is_empty());
    }

    #[test]
    fn an_intent_entered_while_its_elder_is_written_stays() {
        let mut behind = Behind::new();
        behind.keep(&key(1), "old", 3);
        let round = behind.round(10);
        behind.forget(&key(1));
        behind.done(&round);
        assert_eq!(behind.waiting(&key(1)), Waiting::Forget);
        assert_eq!(behind.round(10).changes, [(key(1), None)]);
    }

    #[test]
    fn without_room_keeps_are_refused_and_forgets_clear_the_tree() {
        let mut behind = Behind::with_limit(3 * OVERHEAD + 10);
        assert!(behind.keep(&key(1), "a", 1));
        assert!(behind.keep(&key(2), "b", 1));
        assert!(!behind.keep(&key(3), "large", 500));
        behind.forget(&key(4));
        behind.forget(&key(5));
        assert_eq!(behind.waiting(&key(9)), Waiting::Forget, "any key at all");
        let round = behind.round(10);
        assert!(round.clear && round.changes.is_empty());
        assert!(behind.keep(&key(6), "c", 1), "there is room again");
        behind.done(&round);
        assert_eq!(behind.waiting(&key(9)), Waiting::Nothing);
        assert_eq!(behind.waiting(&key(6)), Waiting::Keep("c"));
    }

    #[test]
    fn what_is_replaced_goes_even_when_the_new_value_does_not_fit() {
        let mut behind = Behind::with_limit(3 * OVERHEAD);
        behind.replace(&key(1), "old", 3);
        assert_eq!(behind.waiting(&key(1)), Waiting::Keep("old"));
        assert!(
            behind.is_urgent(),
            "a crash must not bring back the one before"
        );
        behind.replace(&key(1), "long", 3 * OVERHEAD);
        assert_eq!(behind.waiting(&key(1)), Waiting::Forget);
        behind.keep(&key(2), "old", 3);
        behind.keep(&key(2), "long", 3 * OVERHEAD);
        assert_eq!(behind.waiting(&key(2)), Waiting::Keep("old"));
    }

    #[test]
    fn a_second_overrun_while_the_first_is_written_clears_again() {
        let mut behind = Behind::<()>::with_limit(OVERHEAD);
        behind.forget(&key(1));
        behind.forget(&key(2));
        let round = behind.round(10);
        behind.forget(&key(3));
        behind.forget(&key(4));
        behind.done(&round);
        assert!(behind.round(10).clear);
    }

    #[test]
    fn a_round_is_bounded_in_bytes_and_never_empty() {
        let mut behind = Behind::new();
        for n in 0..10 {
            assert!(behind.keep(&key(n), n, ROUND / 3));
        }
        assert!(behind.is_round_full(usize::MAX));
        let mut rounds = 0;
        while !behind.is_empty() {
            let round = behind.round(usize::MAX);
            assert!((1..=3).contains(&round.changes.len()));
            behind.done(&round);
            rounds += 1;
        }
        assert!(rounds >= 4);
    }

    #[test]
    fn weight_returns_to_nothing() {
        let mut behind = Behind::new();
        for n in 0..100 {
            behind.keep(&key(n % 7), n, n);
            if n % 5 == 0 {
                behind.forget(&key(n % 7));
            }
        }
        while !behind.is_empty() {
            let round = behind.round(usize::MAX);
            behind.done(&round);
        }
        assert_eq!(behind.weight, 0);
    }
}
