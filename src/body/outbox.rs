//! Where an answer's body leaves its pieces, and its connection finds them.
//!
//! The HTTP codec copies what it is given. So a body that consists of pieces gives it nothing: it
//! puts a parcel here, the connection sends that behind the head, and the body comes to its end when
//! the parcel is delivered. Both live on one thread, in one task; a box belongs to one connection and
//! holds one parcel, because answers follow one another.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Buf;

use super::{BodyError, Piece, Pieces};

/// Clones are of the same box.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Rc<State>);

#[derive(Debug, Default)]
struct State {
    /// Boxed, for idle connections are many and have none.
    parcel: RefCell<Option<Box<Parcel>>>,
    /// How many bytes of the newest body the kernel has taken.
    sent: Cell<u64>,
}

/// A body of known length, and how much of it is still to be sent.
pub struct Parcel {
    pieces: Pieces,
    front: Option<Piece>,
    left: u64,
}

impl Outbox {
    /// A body is going to use it: nothing of that has been sent yet.
    pub fn begin(&self) {
        self.0.sent.set(0);
    }

    /// Leaves `len` bytes to be sent behind what the codec has been given so far.
    pub fn put(&self, pieces: Pieces, len: u64) {
        let front = None;
        let left = len;
        self.0.parcel.replace(Some(Box::new(Parcel {
            pieces,
            front,
            left,
        })));
    }

    /// Nothing is left to be sent.
    pub fn is_empty(&self) -> bool {
        self.0.parcel.borrow().is_none()
    }

    /// What is to be sent. A parcel stays here until it is delivered or withdrawn.
    pub fn parcel(&self) -> Option<RefMut<'_, Parcel>> {
        RefMut::filter_map(self.0.parcel.borrow_mut(), Option::as_deref_mut).ok()
    }

    /// Takes the parcel away: it is delivered, or nobody wants it any more.
    pub fn clear(&self) {
        self.0.parcel.take();
    }

    /// So many bytes of the parcel went out.
    pub fn note_sent(&self, bytes: u64) {
        self.0.sent.set(self.0.sent.get() + bytes);
        if let Some(mut parcel) = self.parcel() {
            parcel.advance(bytes);
        }
    }

    /// How many bytes of the newest body went out.
    pub fn sent(&self) -> u64 {
        self.0.sent.get()
    }
}

impl Parcel {
    /// What comes next, never empty; `None`: that was all.
    ///
    /// Errors: it ends before its length, or would go on beyond it. What was sent is then worth
    /// nothing, and the connection has to be cut.
    pub fn poll_front(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<&Piece>, BodyError>> {
        while self.left > 0 && self.front.as_ref().is_none_or(Piece::is_empty) {
            let next = ready!(self.pieces.as_mut().poll_next(cx)).transpose()?;
            let Some(piece) = next else {
                return Poll::Ready(Err(BodyError::Short));
            };
            if piece.len() > self.left {
                return Poll::Ready(Err(BodyError::Long));
            }
            self.front = Some(piece);
        }
        let front = self.front.as_ref().filter(|_| self.left > 0);
        Poll::Ready(Ok(front))
    }

    fn advance(&mut self, bytes: u64) {
        self.left -= bytes;
        match &mut self.front {
            Some(Piece::Bytes(front)) => front.advance(bytes as usize),
            Some(Piece::File { start, len, .. }) => {
                *start += bytes;
                *len -= bytes;
            }
            None => {}
        }
    }
}

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parcel")
            .field("front", &self.front)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures_util::StreamExt;
    use proptest::prelude::*;
    use std::task::Waker;

    fn pieces(texts: &[&'static str]) -> Pieces {
        let pieces: Vec<_> = texts
            .iter()
            .map(|text| Ok(Piece::Bytes(Bytes::from_static(text.as_bytes()))))
            .collect();
        futures_util::stream::iter(pieces).boxed()
    }

    /// What is sent of a box from which at most `most` bytes are taken at once.
    fn emptied(outbox: &Outbox, most: usize) -> Result<String, BodyError> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = String::new();
        loop {
            let next = {
                let mut parcel = outbox.parcel().expect("not yet cleared");
                let Poll::Ready(front) = parcel.poll_front(&mut cx) else {
                    panic!("all pieces are there");
                };
                match front? {
                    Some(Piece::Bytes(bytes)) => bytes.slice(..most.min(bytes.len())),
                    Some(Piece::File { .. }) => panic!("no piece is a file"),
                    None => return Ok(all),
                }
            };
            all.push_str(std::str::from_utf8(&next).unwrap());
            outbox.note_sent(next.len() as u64);
        }
    }

    proptest! {
        #[test]
        fn pieces_leave_in_order_however_few_bytes_go_at_once(most in 1usize..9) {
            let outbox = Outbox::default();
            outbox.put(pieces(&["", "one", "", "two", "three", ""]), 11);
            prop_assert_eq!(emptied(&outbox, most).unwrap(), "onetwothree");
            prop_assert_eq!(outbox.sent(), 11);
        }
    }

    #[test]
    fn too_few_and_too_many_bytes_are_errors() {
        let outbox = Outbox::default();
        outbox.put(pieces(&["one"]), 4);
        assert!(matches!(emptied(&outbox, 8), Err(BodyError::Short)));
        outbox.begin();
        outbox.put(pieces(&["one"]), 2);
        assert!(matches!(emptied(&outbox, 8), Err(BodyError::Long)));
        assert_eq!(outbox.sent(), 0);
    }

    #[test]
    fn a_parcel_withdrawn_is_gone() {
        let outbox = Outbox::default();
        outbox.put(pieces(&["one"]), 3);
        assert!(!outbox.is_empty());
        outbox.clear();
        assert!(outbox.is_empty() && outbox.parcel().is_none());
    }
}
