//! Byte ranges: what a client may ask for, and the piece that certainly exists.
//!
//! RFC 9110 §14. One range is served; several, a malformed one or another unit are ignored and the
//! whole is sent, which the RFC allows and which every client of a NAR understands.

use std::ops::Range;

/// A piece of an object that certainly exists: `start < end <= len`. In bytes; `end` is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    pub fn start(self) -> u64 {
        self.start
    }

    /// One past the last byte.
    pub fn end(self) -> u64 {
        self.end
    }

    /// Bytes in it, never 0. Not called `len` because it has no `is_empty`.
    pub fn size(self) -> u64 {
        self.end - self.start
    }

    /// The value of `Content-Range` for this piece of an object of `len` bytes.
    pub fn content_range(self, len: u64) -> String {
        format!("bytes {}-{}/{len}", self.start, self.end - 1)
    }
}

impl From<ByteRange> for Range<u64> {
    fn from(range: ByteRange) -> Self {
        range.start..range.end
    }
}

/// One range as asked for, before the object's length is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeRequest {
    /// `bytes=a-b`, with `b` inclusive as written.
    Closed { first: u64, last: u64 },
    /// `bytes=a-`
    From { first: u64 },
    /// `bytes=-n`: the last `n` bytes.
    Suffix { bytes: u64 },
}

/// None of the bytes asked for lie within the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("none of the bytes asked for lie within the {len} bytes of the object")]
pub struct Unsatisfiable {
    pub len: u64,
}

impl RangeRequest {
    /// Everything there is.
    pub const ALL: Self = Self::From { first: 0 };

    /// Reads the value of a `Range` header. `None`: there is nothing to honour, send the whole.
    ///
    /// Numbers beyond 2^64 mean "further than anything": a first position so large can never be
    /// met, a last position or a suffix so large is the end.
    pub fn parse(value: &str) -> Option<Self> {
        let (unit, set) = value.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
            return None;
        }
        let (first, last) = set.trim().split_once('-')?;
        match (position(first)?, position(last)?) {
            (Some(first), Some(last)) if first <= last => Some(Self::Closed { first, last }),
            (Some(first), None) => Some(Self::From { first }),
            (None, Some(bytes)) => Some(Self::Suffix { bytes }),
            _ => None,
        }
    }

    /// The one door to a [`ByteRange`], so disk and origin never meet an empty or overlong read.
    ///
    /// Errors: none of the bytes asked for lie within `len` (RFC 9110 §14.1.2).
    pub fn within(self, len: u64) -> Result<ByteRange, Unsatisfiable> {
        let (start, end) = match self {
            Self::Closed { first, last } => (first, last.saturating_add(1).min(len)),
            Self::From { first } => (first, len),
            Self::Suffix { bytes } => (len.saturating_sub(bytes), len),
        };
        if start < end {
            Ok(ByteRange { start, end })
        } else {
            Err(Unsatisfiable { len })
        }
    }
}

/// Digits or nothing: `Some(None)` for nothing, `None` for what is neither.
fn position(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_forms_are_read() {
        assert_eq!(
            RangeRequest::parse("bytes=0-4"),
            Some(RangeRequest::Closed { first: 0, last: 4 })
        );
        assert_eq!(
            RangeRequest::parse("Bytes=7-"),
            Some(RangeRequest::From { first: 7 })
        );
        assert_eq!(
            RangeRequest::parse("bytes=-3"),
            Some(RangeRequest::Suffix { bytes: 3 })
        );
    }

    #[test]
    fn what_is_malformed_several_or_of_another_unit_is_ignored() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=1-2,4-5",
            "items=0-1",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes 0-1",
            "bytes=0x1-2",
            "bytes=1 - 2",
            "bytes=\u{0661}-",
        ] {
            assert_eq!(RangeRequest::parse(text), None, "{text}");
        }
    }

    #[test]
    fn good_but_unmet_ranges_are_unsatisfiable() {
        for (text, len) in [
            ("bytes=5-", 5),
            ("bytes=5-9", 5),
            ("bytes=-0", 5),
            ("bytes=0-0", 0),
            ("bytes=-1", 0),
        ] {
            let asked = RangeRequest::parse(text).unwrap();
            assert_eq!(
                asked.within(len),
                Err(Unsatisfiable { len }),
                "{text} of {len}"
            );
        }
    }

    #[test]
    fn numbers_beyond_64_bits_mean_further_than_anything() {
        let huge = "99999999999999999999999";
        let end = RangeRequest::parse(&format!("bytes=2-{huge}")).unwrap();
        assert_eq!(end.within(5).unwrap().content_range(5), "bytes 2-4/5");
        let suffix = RangeRequest::parse(&format!("bytes=-{huge}")).unwrap();
        assert_eq!(suffix.within(5).unwrap().content_range(5), "bytes 0-4/5");
        assert!(
            RangeRequest::parse(&format!("bytes={huge}-"))
                .unwrap()
                .within(u64::MAX)
                .is_err()
        );
    }

    proptest! {
        /// Against the plainest model there is: number the bytes and pick those asked for.
        #[test]
        fn a_range_picks_the_bytes_a_plain_reading_picks(first in 0u64..40, last in 0u64..40, len in 0u64..40) {
            let plain: Vec<u64> = (0..len).filter(|at| (first..=last).contains(at)).collect();
            if let Some(asked) = RangeRequest::parse(&format!("bytes={first}-{last}")) {
                let got: Vec<u64> = asked.within(len).map(|r| Range::from(r).collect()).unwrap_or_default();
                prop_assert_eq!(got, plain);
            } else {
                prop_assert!(first > last);
            }
        }

        #[test]
        fn a_suffix_is_the_tail(bytes in 0u64..40, len in 0u64..40) {
            let tail: Vec<u64> = (0..len).rev().take(bytes as usize).collect::<Vec<_>>().into_iter().rev().collect();
            let got: Vec<u64> = RangeRequest::Suffix { bytes }.within(len).map(|r| Range::from(r).collect()).unwrap_or_default();
            prop_assert_eq!(got, tail);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*", len in any::<u64>()) {
            if let Some(asked) = RangeRequest::parse(&text) {
                let _ = asked.within(len);
            }
        }
    }
}
