//! The blobs that an operator asks about: the largest, and those that nobody has used for longest.
//!
//! Looks at every blob while it holds the books, so this is for a person's question and not for each
//! second.

use std::cmp::Reverse;

use super::shelves::{Entry, Shelves};
use super::{DiskTier, locked};
use crate::nix::key::ObjectKey;

/// One blob as a person reads of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub key: String,
    /// Bytes of content.
    pub len: u64,
    /// Since its last use.
    pub idle_seconds: u64,
}

/// See the module's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Largest first.
    pub largest: Vec<Seen>,
    /// Longest unused first.
    pub oldest: Vec<Seen>,
}

impl DiskTier {
    /// At most `each` blobs of either kind. Blocks, and takes time in proportion to their number.
    pub fn survey(&self, each: usize) -> Survey {
        let now = self.inner.now_ms();
        survey(&locked(&self.inner.books).shelves, each, now)
    }
}

fn survey(shelves: &Shelves, each: usize, now: u64) -> Survey {
    let idle = |entry: &Entry| now.saturating_sub(entry.used);
    Survey {
        largest: first(shelves, each, now, |entry| entry.len),
        oldest: first(shelves, each, now, idle),
    }
}

/// The `each` blobs that rank highest, the highest first.
fn first(shelves: &Shelves, each: usize, now: u64, rank: impl Fn(&Entry) -> u64) -> Vec<Seen> {
    let by = |(_, entry): &(&ObjectKey, &Entry)| Reverse(rank(entry));
    let mut blobs: Vec<_> = shelves.iter().collect();
    if each < blobs.len() {
        blobs.select_nth_unstable_by_key(each, by);
        blobs.truncate(each);
    }
    blobs.sort_by_key(by);
    let seen = blobs.iter().map(|(key, entry)| Seen {
        key: key.as_str().to_owned(),
        len: entry.len,
        idle_seconds: now.saturating_sub(entry.used) / 1000,
    });
    seen.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_and_the_longest_unused_come_first() {
        let mut shelves = Shelves::new(1 << 20);
        for (name, len, used) in [("a", 10, 9_000), ("b", 30, 7_000), ("c", 20, 2_000)] {
            let key = ObjectKey::from_stored(&format!("nar/{name}.nar")).unwrap();
            let entry = Entry {
                len,
                blocks: 4096,
                used,
                facts: None,
            };
            shelves.put(key, entry);
        }
        let found = survey(&shelves, 2, 10_000);
        let keys = |seen: &[Seen]| seen.iter().map(|seen| seen.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&found.largest), ["nar/b.nar", "nar/c.nar"]);
        assert_eq!(keys(&found.oldest), ["nar/c.nar", "nar/b.nar"]);
        assert_eq!(found.oldest[0].idle_seconds, 8);
    }
}
