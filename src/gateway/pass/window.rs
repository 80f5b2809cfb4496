//! What of a passing body is in memory, and whom the bucket is read for. Pure: time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::body::BodyError;

use super::super::checked::Piece;

/// Bytes that a pass keeps in memory. Passes are no more than `bucket.max_requests`.
pub const WINDOW: u64 = 4 << 20;

/// Bytes read ahead of the fastest reader.
const AHEAD: u64 = 512 << 10;

/// In this time a reader that holds up the others must take a window's worth, or it is left behind.
const PATIENCE: Duration = Duration::from_secs(1);

/// What of the body is in memory, and who reads it.
#[derive(Debug, Default)]
pub struct Window {
    pieces: VecDeque<Piece>,
    /// Where in the body the window begins and ends.
    start: u64,
    end: u64,
    /// Those that the window waits for, by their numbers.
    readers: BTreeMap<u64, Reader>,
    next_reader: u64,
    ended: Option<Result<(), BodyError>>,
}

/// Where a reader is.
#[derive(Debug, Default)]
struct Reader {
    at: u64,
    /// Where it was, and when, as it began to hold up the others.
    holds_up: Option<(u64, Instant)>,
}

/// Whether more is to be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Read,
    /// When somebody has moved, or at that time.
    Wait(Option<Instant>),
}

/// What a reader finds where it is.
#[derive(Debug)]
pub enum Found {
    Piece(Piece),
    /// The window has left it behind.
    Gone,
    /// It has had all.
    End,
}

impl Window {
    /// Nobody can begin here any more.
    pub fn is_over(&self) -> bool {
        self.start > 0 || self.ended.is_some()
    }

    /// A new reader's number; `None`: the first byte is gone, or the body has failed, and whoever comes
    /// after a failure is owed another try.
    pub fn join(&mut self) -> Option<u64> {
        if self.start > 0 || matches!(self.ended, Some(Err(_))) {
            return None;
        }
        let number = self.next_reader;
        self.next_reader += 1;
        self.readers.insert(number, Reader::default());
        Some(number)
    }

    /// The reader has had everything before `at`.
    pub fn has_read(&mut self, number: u64, at: u64) {
        if let Some(reader) = self.readers.get_mut(&number) {
            reader.at = at;
        }
    }

    pub fn leave(&mut self, number: u64) {
        self.readers.remove(&number);
    }

    /// Ends the body, unless it has ended.
    pub fn end(&mut self, how: Result<(), BodyError>) {
        self.ended.get_or_insert(how);
    }

    /// Whether a reader at byte `at` need not wait.
    pub fn has_news_for(&self, at: u64) -> bool {
        self.end > at || self.ended.is_some()
    }

    /// What there is for a reader at byte `at`, for which there is news.
    pub fn find(&self, at: u64) -> Result<Found, BodyError> {
        match (self.piece_at(at), &self.ended) {
            (Some(piece), _) => Ok(Found::Piece(piece.clone())),
            (None, _) if at < self.start => Ok(Found::Gone),
            (None, Some(Err(cause))) => Err(cause.clone()),
            (None, Some(Ok(())) | None) => Ok(Found::End),
        }
    }

    pub fn push(&mut self, piece: Piece) {
        self.end += piece.bytes.len() as u64;
        self.pieces.push_back(piece);
        let slowest = self.slowest().unwrap_or(self.end);
        while let Some(first) = self.pieces.front() {
            let until = self.start + first.bytes.len() as u64;
            let is_done_with = self.start > 0 && until <= slowest;
            if self.end - self.start <= WINDOW && !is_done_with {
                break;
            }
            self.start = until;
            self.pieces.pop_front();
        }
    }

    fn slowest(&self) -> Option<u64> {
        self.readers.values().map(|reader| reader.at).min()
    }

    fn fastest(&self) -> Option<u64> {
        self.readers.values().map(|reader| reader.at).max()
    }

    /// Whether more is to be read now. `alone`: readers that are left behind can go on alone, and are
    /// left behind here.
    pub fn next(&mut self, alone: bool, now: Instant) -> Next {
        if self.fastest().is_none_or(|at| self.end >= at + AHEAD) {
            return Next::Wait(None);
        }
        let full = self.end.saturating_sub(WINDOW - AHEAD);
        let mut wait = None;
        self.readers.retain(|_, reader| {
            if reader.at >= full {
                reader.holds_up = None;
                return true;
            }
            let (mut from, mut since) = *reader.holds_up.get_or_insert((reader.at, now));
            if alone && now >= since + PATIENCE {
                if reader.at - from < WINDOW {
                    return false;
                }
                (from, since) = (reader.at, now);
            }
            reader.holds_up = Some((from, since));
            let until = alone.then_some(since + PATIENCE);
            wait = Some(match wait {
                Some(earlier) => std::cmp::min(earlier, until),
                None => until,
            });
            true
        });
        wait.map_or(Next::Read, Next::Wait)
    }

    /// The piece that begins at byte `at`, which a piece does as long as the window has it.
    fn piece_at(&self, at: u64) -> Option<&Piece> {
        let mut start = self.start;
        for piece in &self.pieces {
            if start >= at {
                return (start == at).then_some(piece);
            }
            start += piece.bytes.len() as u64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn piece(len: u64) -> Piece {
        Piece {
            bytes: Bytes::from(vec![0; len as usize]),
            check: None,
        }
    }

    /// A window of which `end` bytes have come, and readers where they are.
    fn window(end: u64, readers: &[u64]) -> Window {
        let reader = |(number, at): (usize, &u64)| {
            let at = *at;
            (number as u64, Reader { at, holds_up: None })
        };
        Window {
            end,
            readers: readers.iter().enumerate().map(reader).collect(),
            ..Window::default()
        }
    }

    #[test]
    fn nothing_is_read_for_nobody_nor_far_ahead_of_everybody() {
        let now = Instant::now();
        assert_eq!(window(0, &[]).next(true, now), Next::Wait(None));
        assert_eq!(window(0, &[0]).next(true, now), Next::Read);
        assert_eq!(window(MIB, &[0]).next(true, now), Next::Wait(None));
        assert_eq!(window(MIB, &[0, MIB]).next(true, now), Next::Read);
    }

    /// It is still found by its key for a moment, and gave its failure to whoever came then.
    #[test]
    fn nobody_joins_a_body_that_has_failed() {
        let mut window = Window::default();
        window.push(piece(1));
        assert!(window.join().is_some());
        window.end(Err(BodyError::Short));
        assert!(window.join().is_none());
    }

    #[test]
    fn a_reader_that_stands_still_is_left_behind_after_a_second() {
        let now = Instant::now();
        let mut window = window(4 * MIB, &[0, 4 * MIB]);
        assert_eq!(window.next(true, now), Next::Wait(Some(now + PATIENCE)));
        assert_eq!(window.next(true, now + PATIENCE), Next::Read);
        assert_eq!(window.readers.len(), 1);
    }

    #[test]
    fn a_reader_that_gets_on_is_waited_for() {
        let mut now = Instant::now();
        let mut window = window(4 * MIB, &[0, 4 * MIB]);
        for _ in 0..100 {
            assert_eq!(window.next(true, now), Next::Wait(Some(now + PATIENCE)));
            now += PATIENCE;
            window.end += 4 * MIB;
            for reader in window.readers.values_mut() {
                reader.at += 4 * MIB;
            }
        }
    }

    #[test]
    fn who_could_not_go_on_alone_is_waited_for_without_end() {
        let now = Instant::now();
        let mut window = window(4 * MIB, &[0, 4 * MIB]);
        assert_eq!(window.next(false, now), Next::Wait(None));
        assert_eq!(window.next(false, now + 100 * PATIENCE), Next::Wait(None));
    }

    proptest! {
        /// Whoever reads and whoever does not: a window is bounded, and has no gap.
        #[test]
        fn a_window_is_bounded_and_whole(
            sizes in proptest::collection::vec(1u64..3_000_000, 1..40),
            slow in 0usize..40,
        ) {
            let mut window = Window::default();
            let mut ends = vec![0];
            for (number, size) in sizes.into_iter().enumerate() {
                let at = ends[slow.min(number)];
                window.readers.insert(0, Reader { at, holds_up: None });
                window.push(piece(size));
                ends.push(window.end);
                prop_assert!(window.end - window.start <= WINDOW);
                let held: u64 = window.pieces.iter().map(|piece| piece.bytes.len() as u64).sum();
                prop_assert_eq!(held, window.end - window.start);
                for at in &ends {
                    let is_there = (window.start..window.end).contains(at);
                    prop_assert_eq!(window.piece_at(*at).is_some(), is_there, "{}", at);
                }
            }
        }
    }

    #[test]
    fn what_nobody_needs_any_more_leaves_once_nobody_can_begin() {
        let mut window = Window::default();
        for _ in 0..5 {
            window.push(piece(MIB));
        }
        assert!(window.is_over());
        let at = window.end;
        window.readers.insert(0, Reader { at, holds_up: None });
        window.push(piece(1));
        assert_eq!(window.end - window.start, 1);
    }
}
