//! How a request gets its bytes: from a finished file, along a growing one, or past the tiers.
//!
//! All three are [`Pieces`], so `http/` need not know which it was. A reader that ends early ends
//! with an error; the connection is then cut, because a body that ends cleanly is believed.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{mpsc, watch};

use crate::asker::on_behalf;
use crate::body::{BodyError, Piece, Pieces};
use crate::range::ByteRange;

use super::Gateway;
use super::checked::{Check, Checked};
use super::fills::Seat;
use super::progress::Progress;
use super::source::Source;

/// Most bytes of a growing file in one piece: a reader that is far behind then still sees within
/// a piece's time that the fill has failed. What is sealed cannot fail any more.
const LONGEST_PIECE: u64 = 1 << 20;

/// Chunks between the origin and a client that is passed through; each is at most 64 KiB or so.
const PASSED_IN_FLIGHT: usize = 8;

/// Reads `range` of the fill's NAR as it grows. The fill must be open.
pub fn along(seat: Seat, range: ByteRange) -> Pieces {
    let reader = Along {
        progress: seat.fill().follow(),
        range,
        at: range.start(),
        seat,
    };
    Box::pin(stream::try_unfold(reader, Along::next))
}

struct Along {
    progress: watch::Receiver<Progress>,
    range: ByteRange,
    at: u64,
    seat: Seat,
}

impl Along {
    async fn next(mut self) -> Result<Option<(Piece, Self)>, BodyError> {
        if self.at == self.range.end() {
            return Ok(None);
        }
        let opened = self
            .seat
            .fill()
            .opened()
            .ok_or_else(|| BodyError::Source("the fill is not open".into()))?;
        let (len, file) = (opened.facts.len, Arc::clone(&opened.file));
        let has_hash = opened.has_hash;
        let at = self.at;
        let enough = |progress: &Progress| progress.readable(len) > at || progress.has_ended();
        let (readable, sealed) = match self.progress.wait_for(enough).await.as_deref() {
            Ok(Progress::Failed(cause)) => return Err(BodyError::Source(cause.to_string())),
            Ok(progress) => (
                progress.readable(len),
                matches!(progress, Progress::Sealed { .. }),
            ),
            Err(_) => return Err(BodyError::Source("the fill ended without an answer".into())),
        };
        if readable <= at {
            return Err(BodyError::Short);
        }
        let longest = if sealed { u64::MAX } else { LONGEST_PIECE };
        let piece_len = (readable.min(self.range.end()) - at).min(longest);
        self.at += piece_len;
        // A reader that gets to the end has everything verified by then, if there is a hash at all;
        // a range that ends before the withheld part can be complete without.
        if self.at == self.range.end() && !(sealed && has_hash) {
            self.seat.count_unverified(self.range.size());
        }
        Ok(Some((
            Piece::File {
                file,
                start: at,
                len: piece_len,
            },
            self,
        )))
    }
}

/// The bytes of a source, past the tiers, for one client, with nothing kept.
///
/// A task of the origins' runtime reads it, so that the connection stays with the runtime that
/// opened it. With a `check`, the last chunk is held back until the hash of all agrees.
pub fn passed(gateway: &Arc<Gateway>, source: Box<Source>, check: Option<Check>) -> Pieces {
    let (chunks, arriving) = mpsc::channel(PASSED_IN_FLIGHT);
    let left = source.left();
    let pump = pump(Arc::clone(gateway), Checked::new(source, check), chunks);
    gateway.engine.spawn(on_behalf(pump));
    Box::pin(stream::try_unfold(
        (arriving, left),
        |(mut arriving, left)| async move {
            match arriving.recv().await {
                Some(Ok(chunk)) => {
                    let chunk: Bytes = chunk;
                    let left = left.saturating_sub(chunk.len() as u64);
                    Ok(Some((Piece::Bytes(chunk), (arriving, left))))
                }
                Some(Err(cause)) => Err(cause),
                None if left == 0 => Ok(None),
                None => Err(BodyError::Short),
            }
        },
    ))
}

async fn pump(
    gateway: Arc<Gateway>,
    mut body: Checked,
    chunks: mpsc::Sender<Result<Bytes, BodyError>>,
) {
    loop {
        let chunk = match body.next(&gateway).await {
            Ok(Some(piece)) => Ok(piece.bytes),
            Ok(None) => return,
            Err(cause) => {
                tracing::warn!(%cause, "a passed body was cut short");
                Err(BodyError::Source(cause.to_string()))
            }
        };
        let is_last = chunk.is_err();
        if chunks.send(chunk).await.is_err() || is_last {
            return; // The client has left, or has been told.
        }
    }
}
