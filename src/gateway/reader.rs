//! How a request gets its bytes: from a finished file, along a growing one, or past the tiers.
//!
//! All three are [`Pieces`], so `http/` need not know which it was. A reader that ends early ends
//! with an error; the connection is then cut, because a body that ends cleanly is believed.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::asker::on_behalf;
use crate::body::{BodyError, Piece, Pieces};
use crate::metrics::Metrics;
use crate::nix::hash::Sha256Hash;
use crate::origin::ObjectStream;
use crate::range::ByteRange;

use super::fill::Fill;
use super::progress::Progress;

/// Most bytes of a growing file in one piece: a reader that is far behind then still sees within
/// a piece's time that the fill has failed.
const LONGEST_PIECE: u64 = 1 << 20;

/// Chunks between the origin and a client that is passed through; each is at most 64 KiB or so.
const PASSED_IN_FLIGHT: usize = 8;

/// A request counted among the fills' readers, from its joining until this is dropped.
#[derive(Debug)]
pub struct Seat(Arc<Metrics>);

impl Seat {
    pub fn taken(metrics: Arc<Metrics>) -> Self {
        metrics.fill_readers.inc();
        Self(metrics)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fill_readers.dec();
    }
}

/// Reads `range` of the fill's NAR as it grows. The fill must be open.
pub fn along(fill: Arc<Fill>, range: ByteRange, seat: Seat) -> Pieces {
    let progress = fill.follow();
    let reader = Along {
        fill,
        progress,
        range,
        at: range.start(),
        seat,
    };
    Box::pin(stream::try_unfold(reader, Along::next))
}

struct Along {
    fill: Arc<Fill>,
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
            .fill
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
        let piece_len = (readable.min(self.range.end()) - at).min(LONGEST_PIECE);
        self.at += piece_len;
        // A reader that gets to the end has everything verified by then, if there is a hash at all;
        // a range that ends before the withheld part can be complete without.
        if self.at == self.range.end() && !(sealed && has_hash) {
            self.seat.0.unverified_bytes.inc_by(self.range.size());
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

/// The body of an open read, past the tiers, with nothing kept.
///
/// A task of the origins' runtime reads it, so that the connection stays with the runtime that
/// opened it. With `expected`, the last chunk is held back until the hash of all agrees.
pub fn passed(engine: &Handle, stream: ObjectStream, expected: Option<Sha256Hash>) -> Pieces {
    let (chunks, arriving) = mpsc::channel(PASSED_IN_FLIGHT);
    let left = stream.expected();
    engine.spawn(on_behalf(pump(stream, expected, chunks)));
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
    mut stream: ObjectStream,
    expected: Option<Sha256Hash>,
    chunks: mpsc::Sender<Result<Bytes, BodyError>>,
) {
    let mut hasher = Sha256::new();
    let mut held: Option<Bytes> = None;
    let last = loop {
        match stream.chunk().await {
            Ok(Some(chunk)) => {
                if expected.is_some() {
                    hasher.update(&chunk);
                }
                if let Some(ready) = held.replace(chunk)
                    && chunks.send(Ok(ready)).await.is_err()
                {
                    return; // The client has left.
                }
            }
            Ok(None) => break agree(expected, hasher),
            Err(cause) => break Err(BodyError::Source(cause.to_string())),
        }
    };
    let end = match (last, held) {
        (Ok(()), Some(held)) => Ok(held),
        (Ok(()), None) => return,
        (Err(cause), _) => {
            tracing::warn!(%cause, "a passed body was cut short");
            Err(cause)
        }
    };
    // A client that has left needs neither the last chunk nor the cause.
    let _ = chunks.send(end).await;
}

fn agree(expected: Option<Sha256Hash>, hasher: Sha256) -> Result<(), BodyError> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let got = Sha256Hash::from_bytes(hasher.finalize().into());
    if got == expected {
        return Ok(());
    }
    Err(BodyError::Source(format!(
        "SHA-256 is {got} instead of {expected}"
    )))
}
