//! Bodies that go past the HTTP codec: it writes their heads, and their connection sends the rest.
//!
//! To the codec such a body is a stream of unknown length of which no byte ever comes, behind a head
//! that says `Content-Length` by itself (`ResponseBuilder::no_chunking`). That the bytes are as many
//! as the head says is the parcel's care.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::body::{Outbox, Pieces};

/// The way of one answer past the codec.
#[derive(Debug, Clone)]
pub struct Past(Outbox);

impl Past {
    /// By the outbox of the request's connection.
    pub fn by(outbox: &Outbox) -> Self {
        outbox.begin();
        Self(outbox.clone())
    }

    /// Bytes that went out so far.
    pub fn sent(&self) -> u64 {
        self.0.sent()
    }

    /// A body of `len` bytes.
    pub fn body(&self, pieces: Pieces, len: u64) -> PastBody {
        PastBody {
            outbox: self.0.clone(),
            place: Place::Here { pieces, len },
        }
    }
}

/// A body that is put into the outbox when its head is written, and ends when the outbox is empty.
/// Dropped before, it takes back what is left.
pub struct PastBody {
    outbox: Outbox,
    place: Place,
}

enum Place {
    Here { pieces: Pieces, len: u64 },
    InOutbox,
    Delivered,
}

impl MessageBody for PastBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    /// Wakes nobody: the connection does when the parcel is delivered, and is polled by the same task.
    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        match std::mem::replace(&mut self.place, Place::InOutbox) {
            Place::Here { pieces, len } => {
                self.outbox.put(pieces, len);
                Poll::Pending
            }
            Place::InOutbox if !self.outbox.is_empty() => Poll::Pending,
            Place::InOutbox | Place::Delivered => {
                self.place = Place::Delivered;
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for PastBody {
    fn drop(&mut self) {
        if let Place::InOutbox = self.place {
            self.outbox.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Piece;
    use futures_util::StreamExt;
    use std::task::Waker;

    fn hello() -> Pieces {
        let piece = Piece::Bytes(Bytes::from_static(b"hello"));
        futures_util::stream::iter([Ok(piece)]).boxed()
    }

    #[test]
    fn a_body_ends_when_it_is_delivered_and_gives_the_codec_nothing() {
        let outbox = Outbox::default();
        let mut body = Past::by(&outbox).body(hello(), 5);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(outbox.is_empty(), "its head is not written yet");
        assert!(Pin::new(&mut body).poll_next(&mut cx).is_pending());
        assert!(!outbox.is_empty());
        assert!(Pin::new(&mut body).poll_next(&mut cx).is_pending());
        outbox.clear();
        for _ in 0..2 {
            assert!(matches!(
                Pin::new(&mut body).poll_next(&mut cx),
                Poll::Ready(None)
            ));
        }
    }

    #[test]
    fn a_body_given_up_leaves_nothing_to_send() {
        let outbox = Outbox::default();
        let mut body = Past::by(&outbox).body(hello(), 5);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut body).poll_next(&mut cx).is_pending());
        drop(body);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_body_that_is_never_sent_touches_no_other() {
        let outbox = Outbox::default();
        let unsent = Past::by(&outbox).body(hello(), 5);
        outbox.put(hello(), 5);
        drop(unsent);
        assert!(!outbox.is_empty());
    }
}
