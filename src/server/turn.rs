//! Whose turn it is on a connection, and what ends an answer's.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

/// Whose turn it is: the client's, to ask, or ours, to answer. Clones are of the same connection.
#[derive(Debug, Clone)]
pub struct Turn(Rc<State>);

#[derive(Debug)]
struct State {
    /// To begin with, and whenever an answer is with the codec.
    answered: Cell<bool>,
    /// The codec has handed over everything of the answers so far.
    flushed: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

/// An answer on its way. Dropped, it is over and the client's turn has come.
#[derive(Debug)]
pub struct Answering(Turn);

impl Default for Turn {
    fn default() -> Self {
        Self(Rc::new(State {
            answered: Cell::new(true),
            flushed: Cell::new(false),
            waiting: RefCell::default(),
        }))
    }
}

impl Turn {
    /// A request is shown to the codec.
    pub fn begin(&self) {
        self.0.answered.set(false);
        self.0.flushed.set(false);
    }

    /// The codec has nothing more to send of what it was given so far.
    pub fn note_flushed(&self) {
        self.0.flushed.set(self.0.answered.get());
    }

    pub fn is_answered(&self) -> bool {
        self.0.answered.get()
    }

    /// Answered, and sent.
    pub fn is_over(&self) -> bool {
        self.is_answered() && self.0.flushed.get()
    }

    /// Wakes the task when the answer is over.
    pub fn wake(&self, task: &Waker) {
        self.0.waiting.replace(Some(task.clone()));
    }

    /// To be kept until the last byte of the answer is with the codec.
    pub fn answering(&self) -> Answering {
        Answering(self.clone())
    }
}

pin_project_lite::pin_project! {
    /// A body that ends a turn: the codec drops it when it has all of it.
    pub struct Lasting<B> {
        #[pin]
        body: B,
        answering: Option<Answering>,
    }
}

impl<B> Lasting<B> {
    pub fn new(body: B, answering: Option<Answering>) -> Self {
        Self { body, answering }
    }
}

impl<B: MessageBody> MessageBody for Lasting<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.project().body.poll_next(cx)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let state = &self.0.0;
        state.answered.set(true);
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
    }
}
