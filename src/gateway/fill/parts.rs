//! How a large NAR is divided among several requests.
//!
//! Parts are small against the whole and taken in the order of their bytes, so that readers, who
//! have them in that order, are never far behind what is fetched; and large enough that a round trip
//! for each costs little. A part that cannot be begun is given back and is then the next to be taken.

use std::collections::BTreeSet;

use crate::range::{ByteRange, RangeRequest};

/// A part is not made smaller than this for the sake of order: over 40 ms and 25 MB/s the round trip
/// is then a ninth of its time.
const SMALL: u64 = 8 << 20;

/// Nor larger than this for the sake of fewer requests.
const LARGE: u64 = 64 << 20;

/// Parts for each connection, where sizes allow: the last ones end at about the same time.
const TURNS: u64 = 8;

/// What is still to be fetched of a NAR.
#[derive(Debug)]
pub struct Parts {
    len: u64,
    size: u64,
    next: u64,
    /// Where parts begin that were taken and given back.
    returned: BTreeSet<u64>,
}

impl Parts {
    /// All of it as one.
    pub fn one(len: u64) -> Self {
        Self::sized(len, len.max(1))
    }

    /// For so many connections at once.
    pub fn among(len: u64, connections: u64) -> Self {
        let few = len.div_ceil(connections.max(1)).min(SMALL);
        let many = len / (connections.max(1) * TURNS);
        Self::sized(len, many.clamp(few, LARGE.max(few)).max(1))
    }

    fn sized(len: u64, size: u64) -> Self {
        Self {
            len,
            size,
            next: 0,
            returned: BTreeSet::new(),
        }
    }

    /// The first part that nobody has taken; `None`: there is none just now.
    pub fn take(&mut self) -> Option<ByteRange> {
        let first = self.returned.pop_first().or_else(|| {
            let first = self.next;
            self.next = first.saturating_add(self.size).min(self.len);
            (first < self.len).then_some(first)
        })?;
        let last = first + (self.size - 1).min(self.len - 1 - first);
        RangeRequest::Closed { first, last }.within(self.len).ok()
    }

    /// Nothing of this part was fetched; somebody else is to take it.
    pub fn give_back(&mut self, part: ByteRange) {
        self.returned.insert(part.start());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn sizes(mut parts: Parts) -> Vec<u64> {
        std::iter::from_fn(|| parts.take().map(ByteRange::size)).collect()
    }

    #[test]
    fn one_part_is_the_whole_and_an_empty_nar_has_none() {
        assert_eq!(sizes(Parts::one(7)), [7]);
        assert_eq!(sizes(Parts::one(0)), [0; 0]);
        assert_eq!(sizes(Parts::among(0, 4)), [0; 0]);
    }

    #[test]
    fn parts_are_many_but_neither_tiny_nor_huge() {
        assert_eq!(sizes(Parts::among(1024 * MIB, 4)), [32 * MIB; 32]);
        assert_eq!(sizes(Parts::among(257 * MIB, 4)).len(), 32);
        assert_eq!(sizes(Parts::among(16 * MIB, 4)), [4 * MIB; 4]);
        assert!(
            sizes(Parts::among(50_000 * MIB, 4))
                .iter()
                .all(|size| *size <= LARGE)
        );
    }

    #[test]
    fn a_part_given_back_is_the_next() {
        let mut parts = Parts::among(64 * MIB, 4);
        let first = parts.take().unwrap();
        let second = parts.take().unwrap();
        parts.give_back(second);
        parts.give_back(first);
        assert_eq!(parts.take(), Some(first));
        assert_eq!(parts.take(), Some(second));
    }

    proptest! {
        /// Whoever takes what, and gives back what: in the end each byte was fetched once.
        #[test]
        fn each_byte_is_fetched_once(len in 0u64..2_000 * MIB, connections in 1u64..33, whims in proptest::collection::vec(0u8..4, 0..60)) {
            let mut parts = Parts::among(len, connections);
            let mut fetched = Vec::new();
            let mut whims = whims.into_iter();
            while let Some(part) = parts.take() {
                match whims.next() {
                    Some(0) => parts.give_back(part),
                    _ => fetched.push((part.start(), part.end())),
                }
            }
            fetched.sort_unstable();
            let mut at = 0;
            for (start, end) in fetched {
                prop_assert_eq!(start, at);
                at = end;
            }
            prop_assert_eq!(at, len);
        }
    }
}
