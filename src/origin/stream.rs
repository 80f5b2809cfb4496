//! The body of an answer, handed on piece by piece and held to the length it announced.
//!
//! A body that ends early or goes on too long is an error and never an end, and each piece has a
//! deadline of its own, because an HTTP client's timeouts end with the head.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::bucket::Body;
use super::bucket::wait::within;
use super::error::{OriginError, Wait};
use super::limit::Slot;
use crate::metrics::Metrics;
use crate::metrics::labels::{Direction, Origin};
use crate::object::ObjectMeta;
use crate::range::ByteRange;

/// An object on its way. Dropping it ends the transfer and frees its slot.
pub struct ObjectStream {
    /// Of the whole object, even when a piece of it is on its way.
    pub meta: ObjectMeta,
    /// The piece that is on its way; `None`: all of it.
    pub range: Option<ByteRange>,
    key: String,
    received: u64,
    idle: Duration,
    metrics: Arc<Metrics>,
    /// `None` once the body has ended or broken.
    open: Option<(Body, Slot)>,
}

impl ObjectStream {
    pub(super) fn new(
        opened: super::bucket::Opened,
        key: &str,
        idle: Duration,
        metrics: Arc<Metrics>,
        slot: Slot,
    ) -> Self {
        Self {
            meta: opened.meta,
            range: opened.range,
            key: key.to_owned(),
            received: 0,
            idle,
            metrics,
            open: Some((opened.body, slot)),
        }
    }

    /// How many bytes this stream yields when nothing breaks.
    pub fn expected(&self) -> u64 {
        self.range.map_or(self.meta.len, ByteRange::size)
    }

    /// Whether its last byte is the one before `end` of the object.
    pub fn reaches(&self, end: u64) -> bool {
        self.range.map_or(self.meta.len, ByteRange::end) == end
    }

    /// The next piece, never empty; `None` after exactly the announced bytes.
    ///
    /// Errors: silence for `bucket.idle_timeout`, a cut, too short or too long a body. After an
    /// error there is nothing more to come. May be dropped half-way, at the cost of the stream.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, OriginError> {
        let left = self.expected() - self.received;
        let Some((body, _)) = &mut self.open else {
            return match left {
                0 => Ok(None),
                _ => Err(self.broken("it had already broken")),
            };
        };
        let next = within(self.idle, Wait::NextByte, &self.key, body.next(left)).await;
        let piece = match next {
            Ok(Ok(Some(piece))) if piece.len() as u64 <= left => piece,
            Ok(Ok(None)) if left == 0 => {
                self.open = None;
                return Ok(None);
            }
            failed => {
                self.open = None;
                return Err(match failed {
                    Err(timeout) => timeout,
                    Ok(Err(cause)) => self.broken(&cause),
                    Ok(Ok(None)) => self.broken("it ended early"),
                    Ok(Ok(Some(_))) => self.broken("it is longer than announced"),
                });
            }
        };
        self.received += piece.len() as u64;
        self.metrics
            .origin_bytes
            .of((Origin::Bucket, Direction::In))
            .inc_by(piece.len() as u64);
        Ok(Some(piece))
    }

    /// The whole rest in memory, for small objects.
    ///
    /// Errors: those of [`ObjectStream::chunk`], and [`OriginError::Garbage`] for more than
    /// `at_most` bytes, of which none is read.
    pub async fn collect(mut self, at_most: u64) -> Result<Bytes, OriginError> {
        let expected = self.expected();
        if expected > at_most {
            return Err(OriginError::Garbage {
                key: self.key.clone(),
                why: format!("it has {expected} bytes where at most {at_most} are expected"),
            });
        }
        let Some(first) = self.chunk().await? else {
            return Ok(Bytes::new());
        };
        if first.len() as u64 == expected {
            return Ok(first);
        }
        let mut all = Vec::with_capacity(expected as usize);
        all.extend_from_slice(&first);
        while let Some(piece) = self.chunk().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }

    fn broken(&self, cause: &str) -> OriginError {
        OriginError::Broken {
            key: self.key.clone(),
            received: self.received,
            expected: self.expected(),
            cause: cause.to_owned(),
        }
    }
}

impl std::fmt::Debug for ObjectStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectStream")
            .field("key", &self.key)
            .field("meta", &self.meta)
            .field("range", &self.range)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}
