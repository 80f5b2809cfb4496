//! A range that the fill has not come to yet: wait for it, or read it beside the fill.
//!
//! Most such ranges are downloads taken up again, just behind or just ahead of a running fill, and
//! waiting costs nothing. But whoever wants the last bytes of a giant need not wait for minutes: a
//! piece far ahead comes straight from the bucket, as long as it is smaller than what it would have
//! to wait for, and all that is read beside one fill stays a fraction of the NAR.

use std::sync::Arc;
use std::time::Duration;

use crate::body::Pieces;
use crate::origin::Tries;
use crate::range::ByteRange;

use super::Gateway;
use super::error::GatewayError;
use super::fills::Seat;
use super::flights::NoAnswer;
use super::progress::{Progress, WITHHELD};
use super::reader;
use super::source::Source;

/// Bytes ahead that are always waited for: less than a request's round trip is worth.
const NEAR: u64 = 1 << 20;

/// A wait that is estimated to be longer is not begun, or is given up.
const LONG: Duration = Duration::from_secs(5);

/// The fill's speed in bytes a second, while it is too young to be measured.
const ASSUMED: u64 = 16 << 20;
const YOUNG: Duration = Duration::from_secs(1);

/// How often a waiting reader estimates anew.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Longest wait of all. Nix gives up on a download without a byte after 300 s
/// (`stalled-download-timeout`, `nix-protocol.md` §4.7).
const LONGEST: Duration = Duration::from_secs(240);

/// Where a fill is when somebody wants a range of its NAR.
#[derive(Debug, Clone, Copy)]
struct Position {
    len: u64,
    written: u64,
    elapsed: Duration,
}

impl Position {
    /// How many bytes the fill has yet to write before the first byte of `range` may be read. The
    /// withheld end is readable only when all is there.
    fn missing(&self, range: ByteRange) -> u64 {
        let withheld = range.start() >= self.len.saturating_sub(WITHHELD);
        let needed = if withheld { self.len } else { range.start() };
        needed.saturating_sub(self.written)
    }

    /// Whether the range is worth a request of its own.
    fn is_far_from(&self, range: ByteRange) -> bool {
        let missing = self.missing(range);
        if missing <= NEAR || range.size() > missing {
            return false;
        }
        let speed = if self.elapsed < YOUNG {
            ASSUMED as f64
        } else {
            self.written as f64 / self.elapsed.as_secs_f64()
        };
        missing as f64 > speed * LONG.as_secs_f64()
    }
}

impl Gateway {
    /// A piece of a NAR whose fill is open, as soon as its first byte is to be had.
    pub(super) async fn piece_of_fill(
        self: &Arc<Self>,
        seat: Seat,
        range: ByteRange,
    ) -> Result<Pieces, GatewayError> {
        let waiting = self.near_or_beside(&seat, range);
        let beside = match tokio::time::timeout(LONGEST, waiting).await {
            Ok(found) => found?,
            Err(_) => return Err(seat.fill().no_answer(NoAnswer::Late(LONGEST))),
        };
        Ok(match beside {
            Some(pieces) => pieces,
            None => reader::along(seat, range),
        })
    }

    /// Waits until the fill has come to the range; or pieces from beside it.
    async fn near_or_beside(
        self: &Arc<Self>,
        seat: &Seat,
        range: ByteRange,
    ) -> Result<Option<Pieces>, GatewayError> {
        let mut progress = seat.fill().follow();
        let Some(opened) = seat.fill().opened() else {
            return Err(seat.fill().no_answer(NoAnswer::Lost));
        };
        let len = opened.facts.len;
        let is_near =
            |progress: &Progress| progress.readable(len) > range.start() || progress.has_ended();
        loop {
            let now = progress.borrow_and_update().clone();
            if let Progress::Failed(cause) = now {
                return Err((*cause).clone());
            }
            if is_near(&now) {
                return Ok(None);
            }
            let position = Position {
                len,
                written: now.written(),
                elapsed: opened.since.elapsed(),
            };
            if let Some(version) = &opened.version
                && version.etag.is_some()
                && position.is_far_from(range)
                && opened.take_beside(range.size())
            {
                let source = Source::of(self, seat.fill().key.object(), version, range);
                match self.begun(source).await {
                    Ok(source) => {
                        self.metrics.unverified_bytes.inc_by(range.size());
                        return Ok(Some(reader::passed(self, source, None)));
                    }
                    // The fill may well get there all the same.
                    Err(cause) => tracing::info!(%cause, "no range beside its fill"),
                }
            }
            // Lost or late, the next look tells.
            let _ = tokio::time::timeout(LOOK_AGAIN, progress.wait_for(is_near)).await;
        }
    }

    /// The source once the bucket has answered, with retries.
    pub(super) async fn begun(
        self: &Arc<Self>,
        mut source: Source,
    ) -> Result<Box<Source>, GatewayError> {
        let key = source.key().clone();
        let beginning = async move {
            let begun = source.begin(Tries::WithinHold).await;
            begun.map(|()| Box::new(source))
        };
        self.await_engine(&key, beginning).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::RangeRequest;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn range(start: u64, size: u64, len: u64) -> ByteRange {
        let last = start + size - 1;
        let asked = RangeRequest::Closed { first: start, last };
        asked.within(len).unwrap()
    }

    fn at(written: u64, len: u64, seconds: u64) -> Position {
        Position {
            len,
            written,
            elapsed: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn what_the_fill_will_reach_in_a_moment_is_waited_for() {
        let len = 1000 * MIB;
        assert!(!at(10 * MIB, len, 1).is_far_from(range(30 * MIB, 1, len)));
        assert!(!at(0, len, 0).is_far_from(range(60 * MIB, 1, len)));
        assert!(!at(0, len, 9).is_far_from(range(0, 1, len)));
    }

    #[test]
    fn a_small_piece_far_ahead_is_read_beside() {
        let len = 1000 * MIB;
        assert!(at(10 * MIB, len, 1).is_far_from(range(90 * MIB, 1, len)));
        assert!(at(0, len, 0).is_far_from(range(900 * MIB, 1, len)));
    }

    #[test]
    fn a_fill_that_stands_still_is_not_waited_for() {
        let len = 8 * MIB;
        assert!(at(MIB, len, 9).is_far_from(range(5 * MIB, 1000, len)));
    }

    #[test]
    fn the_withheld_end_is_as_far_as_the_end_of_the_whole() {
        let len = 500 * MIB;
        assert_eq!(at(0, len, 1).missing(range(len - 1, 1, len)), len);
        assert_eq!(at(0, len, 1).missing(range(MIB, 1, len)), MIB);
    }

    proptest! {
        /// A download taken up again is never read twice: its rest is larger than the way to it, or it
        /// is waited for.
        #[test]
        fn reading_beside_never_costs_more_than_waiting(start in 0u64..1000, size in 1u64..1000, written in 0u64..1000, seconds in 0u64..100) {
            let len = 2000 * MIB;
            let (start, written, size) = (start * MIB, written * MIB, size * MIB);
            let position = at(written, len, seconds);
            let range = range(start, size, len);
            if position.is_far_from(range) {
                prop_assert!(range.size() <= position.missing(range));
                prop_assert!(start > written);
            }
        }
    }
}
