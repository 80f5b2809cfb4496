//! A NAR that cannot be kept, read once for all who come while its beginning is still at hand
//! (`design.md` §10.12).
//!
//! Its bytes slide through a window in memory, no faster than the slowest reader takes them: that one is
//! hardly slower than the others, or it is left behind and reads on for itself, checking from where it
//! was. Who comes when the first byte is gone begins another pass.

mod window;

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::body::{self, BodyError, Pieces};
use crate::nix::hash::Sha256Hash;
use crate::object::ObjectMeta;
use crate::range::{ByteRange, RangeRequest};

use super::Gateway;
use super::checked::{Check, Checked};
use super::fills::Seat;
use super::reader;
use super::source::{Source, Version};

pub use window::WINDOW;
use window::{Found, Next, Window};

/// One body on its way past the tiers.
#[derive(Debug)]
pub struct Pass {
    pub meta: ObjectMeta,
    pub version: Version,
    /// What the whole is held to.
    pub expected: Option<Sha256Hash>,
    window: watch::Sender<Window>,
    /// A reader came, got on or left.
    moved: Notify,
}

impl Pass {
    pub fn new(meta: ObjectMeta, expected: Option<Sha256Hash>) -> Self {
        Self {
            version: Version::of(&meta),
            meta,
            expected,
            window: watch::Sender::default(),
            moved: Notify::new(),
        }
    }

    /// Reads the body for whoever has come; to the end, or until this is dropped.
    pub async fn pump(&self, gateway: &Gateway, source: Box<Source>) {
        let _unended = Unended(self);
        let mut body = Checked::new(source, self.expected.map(Check::whole));
        let mut given = 0;
        let ended = loop {
            // Who has all bytes leaves, and does not wait for their end.
            if given < self.meta.len {
                self.until_wanted().await;
            }
            match body.next(gateway).await {
                Ok(Some(piece)) => {
                    given += piece.bytes.len() as u64;
                    self.window.send_modify(|window| window.push(piece));
                }
                Ok(None) => break Ok(()),
                Err(cause) => {
                    tracing::warn!(%cause, "a passed body was cut short");
                    break Err(BodyError::Source(cause.to_string()));
                }
            }
        };
        self.window.send_modify(|window| window.end(ended));
    }

    /// Waits until nobody can begin with its first byte any more.
    pub async fn until_over(&self) {
        let mut news = self.window.subscribe();
        let over = news.wait_for(Window::is_over).await;
        over.map(drop).expect("the sender is ours");
    }

    async fn until_wanted(&self) {
        let alone = self.version.etag.is_some();
        loop {
            let moved = self.moved.notified();
            let mut next = Next::Read;
            self.quietly(|window| next = window.next(alone, Instant::now()));
            match next {
                Next::Read => return,
                Next::Wait(None) => moved.await,
                Next::Wait(Some(until)) => drop(timeout_at(until, moved).await),
            }
        }
    }

    /// Changes what no reader waits for.
    fn quietly(&self, change: impl FnOnce(&mut Window)) {
        self.window.send_if_modified(|window| {
            change(window);
            false
        });
    }

    /// The body from its first byte; `None`: that is not to be had here any more.
    pub fn read(self: &Arc<Self>, gateway: &Arc<Gateway>, seat: Seat) -> Option<Pieces> {
        let mut number = None;
        self.quietly(|window| number = window.join());
        let reader = Along {
            gateway: Arc::clone(gateway),
            news: self.window.subscribe(),
            at: 0,
            check: self.expected.map(Check::whole),
            number: number?,
            pass: Arc::clone(self),
            seat,
        };
        self.moved.notify_one();
        let steps = stream::try_unfold(Some(reader), |reader| async move {
            match reader {
                Some(reader) => reader.step().await,
                None => Ok(None),
            }
        });
        Some(Box::pin(steps.flat_map(|step| match step {
            Ok(pieces) => pieces,
            Err(cause) => Box::pin(stream::iter([Err(cause)])),
        })))
    }
}

/// One reader, from where it is.
struct Along {
    gateway: Arc<Gateway>,
    pass: Arc<Pass>,
    news: watch::Receiver<Window>,
    number: u64,
    at: u64,
    check: Option<Check>,
    seat: Seat,
}

impl Along {
    /// The next piece and the reader after it, or all that is left.
    async fn step(mut self) -> Result<Option<(Pieces, Option<Self>)>, BodyError> {
        let at = self.at;
        let found = {
            let news = self.news.wait_for(|window| window.has_news_for(at)).await;
            news.expect("the pass is held").find(at)?
        };
        let piece = match found {
            Found::Piece(piece) => piece,
            Found::Gone => return Ok(self.alone().map(|rest| (rest, None))),
            Found::End => return Ok(None),
        };
        self.check = piece.check;
        self.at += piece.bytes.len() as u64;
        let (number, at) = (self.number, self.at);
        self.pass.quietly(|window| window.has_read(number, at));
        self.pass.moved.notify_one();
        let one = stream::iter([Ok(body::Piece::Bytes(piece.bytes))]);
        Ok(Some((Box::pin(one), Some(self))))
    }

    /// The rest, from the bucket.
    fn alone(self) -> Option<Pieces> {
        let rest = self.rest()?;
        let key = self.seat.fill().key.object();
        tracing::info!(%key, at = self.at, "slower than the others: reads on for itself");
        let source = Source::of(&self.gateway, key, &self.pass.version, rest);
        let source = Box::new(source);
        Some(reader::passed(&self.gateway, source, self.check.clone()))
    }

    fn rest(&self) -> Option<ByteRange> {
        let rest = RangeRequest::From { first: self.at };
        rest.within(self.pass.meta.len).ok()
    }
}

impl Drop for Along {
    fn drop(&mut self) {
        self.pass.quietly(|window| window.leave(self.number));
        self.pass.moved.notify_one();
    }
}

/// Dropped, the pass has ended one way or the other.
struct Unended<'a>(&'a Pass);

impl Drop for Unended<'_> {
    fn drop(&mut self) {
        let lost = BodyError::Source("the pass was given up".into());
        self.0.window.send_modify(|window| window.end(Err(lost)));
    }
}
