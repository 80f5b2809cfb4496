//! How a NAR is cut into parts. R2 wants all parts but the last to have one length and takes at
//! most 10,000 of them, so the length is fixed before the first is sent (Cloudflare R2 docs,
//! "Multipart upload"; S3 API, "Amazon S3 multipart upload limits").

/// The most parts one upload may have.
const MAX_PARTS: u64 = 10_000;

/// Parts that are longer than `uploads.part_size` are whole multiples of this.
const MIB: u64 = 1 << 20;

/// The parts of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    len: u64,
    part: u64,
}

impl Plan {
    /// For an object of `len` bytes, with parts of `part_size` unless they would be too many.
    pub fn of(len: u64, part_size: u64) -> Self {
        let least = len.div_ceil(MAX_PARTS).next_multiple_of(MIB);
        let part = if part_size * MAX_PARTS < len {
            least
        } else {
            part_size
        };
        Self { len, part }
    }

    /// Whether one request does it.
    pub fn is_whole(&self) -> bool {
        self.len <= self.part
    }

    pub fn count(&self) -> u32 {
        u32::try_from(self.len.div_ceil(self.part)).expect("at most ten thousand")
    }

    /// In bytes, of any part but the last.
    pub fn part_len(&self) -> u64 {
        self.part
    }

    /// Where a part begins and how long it is; `None`: there is no such part.
    pub fn part(&self, index: u32) -> Option<(u64, u64)> {
        let start = u64::from(index) * self.part;
        (start < self.len).then(|| (start, self.part.min(self.len - start)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 16 * MIB;

    #[test]
    fn up_to_the_part_size_it_is_one_request() {
        assert!(Plan::of(0, SIZE).is_whole());
        assert!(Plan::of(SIZE, SIZE).is_whole());
        let two = Plan::of(SIZE + 1, SIZE);
        assert_eq!((two.count(), two.part(1)), (2, Some((SIZE, 1))));
        assert_eq!(two.part(2), None);
    }

    #[test]
    fn a_giant_has_longer_parts_of_whole_mebibytes() {
        let giant = Plan::of(SIZE * MAX_PARTS + 1, SIZE);
        assert_eq!(giant.part_len(), 17 * MIB);
        assert!(giant.count() <= MAX_PARTS as u32);
        assert_eq!(Plan::of(SIZE * MAX_PARTS, SIZE).part_len(), SIZE);
    }

    proptest! {
        #[test]
        fn parts_cover_the_object_once_and_are_of_one_length(
            len in 1u64..(1 << 44), size in (5 * MIB)..(1 << 32)
        ) {
            let plan = Plan::of(len, size);
            prop_assert!(plan.count() as u64 <= MAX_PARTS && plan.part_len() >= size);
            let mut end = 0;
            for index in 0..plan.count() {
                let (start, part) = plan.part(index).unwrap();
                prop_assert_eq!(start, end);
                prop_assert!(part == plan.part_len() || index + 1 == plan.count());
                end = start + part;
            }
            prop_assert_eq!(end, len);
            prop_assert_eq!(plan.part(plan.count()), None);
        }
    }
}
