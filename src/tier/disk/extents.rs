//! Which bytes of a file are written, when they do not come in order.

use std::collections::BTreeMap;

/// Stretches of written bytes. Those that touch are one, so there are about as many as there are
/// writers.
#[derive(Debug, Default)]
pub(super) struct Extents {
    /// End by start, both in bytes; the end is exclusive.
    stretches: BTreeMap<u64, u64>,
    total: u64,
}

impl Extents {
    /// Enters `len` bytes from `start`. `false`: some of them were written before, and nothing is
    /// entered.
    #[must_use]
    pub fn add(&mut self, start: u64, len: u64) -> bool {
        if len == 0 {
            return true;
        }
        let end = start + len;
        let before = self.stretches.range(..=start).next_back();
        let before = before.map(|(start, end)| (*start, *end));
        let after = self.stretches.range(start..).next();
        let after = after.map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, till)| till > start) || after.is_some_and(|(from, _)| from < end)
        {
            return false;
        }
        let (mut from, mut till) = (start, end);
        if let Some((first, _)) = before.filter(|(_, till)| *till == start) {
            from = first;
        }
        if let Some((next, last)) = after.filter(|(from, _)| *from == end) {
            self.stretches.remove(&next);
            till = last;
        }
        self.stretches.insert(from, till);
        self.total += len;
        true
    }

    /// How many bytes are written from the start without a gap.
    pub fn contiguous(&self) -> u64 {
        self.stretches.get(&0).copied().unwrap_or(0)
    }

    /// How many bytes are written at all.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_in_order_are_one_stretch() {
        let mut extents = Extents::default();
        for start in [0, 10, 20] {
            assert!(extents.add(start, 10));
        }
        assert_eq!((extents.contiguous(), extents.stretches.len()), (30, 1));
    }

    #[test]
    fn what_fills_a_gap_joins_both_sides() {
        let mut extents = Extents::default();
        assert!(extents.add(20, 10));
        assert_eq!(extents.contiguous(), 0);
        assert!(extents.add(0, 10));
        assert_eq!(extents.contiguous(), 10);
        assert!(extents.add(10, 10));
        assert_eq!((extents.contiguous(), extents.total()), (30, 30));
    }

    proptest! {
        /// Against the plainest model there is: a list of bytes, written or not.
        #[test]
        fn it_agrees_with_a_list_of_bytes(pieces in proptest::collection::vec((0u64..60, 0u64..12), 0..40)) {
            let mut extents = Extents::default();
            let mut bytes = [false; 80];
            for (start, len) in pieces {
                let piece = start as usize..(start + len) as usize;
                let is_new = bytes[piece.clone()].iter().all(|written| !written);
                prop_assert_eq!(extents.add(start, len), is_new);
                if is_new {
                    bytes[piece].fill(true);
                }
                prop_assert_eq!(extents.contiguous(), bytes.iter().take_while(|written| **written).count() as u64);
                prop_assert_eq!(extents.total(), bytes.iter().filter(|written| **written).count() as u64);
            }
        }
    }
}
