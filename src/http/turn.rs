//! Whose turn it is on a connection: the client's, to say the next request, or ours, to answer.
//!
//! The codec (actix-http 3.20, `h1/codec.rs`) judges by the newest request it has read whether an
//! answer is one to a HEAD. A GET with a pipelined HEAD behind it would be answered with a length
//! and no body, and the next answer would be taken for that body. So the connection
//! (`server/turns.rs`) hands the codec one request at a time, and this is how it learns that the
//! answer is out.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

/// Shared by a connection and the requests that came by it, all on one thread.
#[derive(Debug, Clone, Default)]
pub struct Turn(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ours: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Turn {
    /// A whole request was handed to the codec.
    pub fn begin(&self) {
        self.0.ours.set(true);
    }

    /// Whether the request that was handed over last is still being answered. If so, `waker` is
    /// woken when it is not any more.
    pub fn is_ours(&self, waker: &Waker) -> bool {
        if self.0.ours.get() {
            *self.0.waiting.borrow_mut() = Some(waker.clone());
        }
        self.0.ours.get()
    }
}

/// Held while a request is answered. Dropped, the answer has gone to the codec, or will never.
#[derive(Debug)]
pub struct Answering(Turn);

impl From<&Turn> for Answering {
    fn from(turn: &Turn) -> Self {
        Self(turn.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.ours.set(false);
        if let Some(waiting) = self.0.0.waiting.take() {
            waiting.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn it_is_ours_from_a_request_to_the_end_of_its_answer() {
        let turn = Turn::default();
        assert!(!turn.is_ours(Waker::noop()));
        turn.begin();
        let answering = Answering::from(&turn);
        assert!(turn.is_ours(Waker::noop()));
        drop(answering);
        assert!(!turn.is_ours(Waker::noop()));
    }
}
