//! An upload's journey: admitted before its body, spooled, checked, durable in the bucket, visible.
//!
//! ```text
//! admit ─▶ body ─▶ nar ──────▶ sending ─▶ bucket   parts leave while the body still arrives
//!            └───▶ document ─▶ narinfo             parsed, trusted, its NAR there, signed, merged
//! ```
//! `turns` lets one upload of a key go on at a time, `leftovers` aborts what an earlier process left
//! in the bucket. The order is the promise: bucket durable → blob in the disk tier → known absences dropped → the
//! uploader is told. A body that is short, idle or wrong becomes visible nowhere. The task that does
//! this belongs to the engine and reads the body through a channel, so a client that goes away
//! merely ends the channel, and a bucket that fails is retried from the spooled bytes.

mod admit;
mod arriving;
mod audit;
mod body;
mod document;
mod leftovers;
mod nar;
mod narinfo;
mod plan;
mod room;
mod sending;
mod there;
mod turns;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Gateway;
use super::document::kind_of;
use super::error::UploadError;
use crate::asker::on_behalf;
use crate::metrics::labels::{Kind, UploadOutcome};
use crate::nix::key::Key;

pub use admit::{Admitted, Leave, UploadHead};
pub use leftovers::SWEEP_EVERY;
pub use room::MEMORY;

pub(super) use room::Room;

use body::{Body, CHUNKS_IN_FLIGHT, Piece, Sender};

/// How an upload ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    Created,
    Existing,
}

/// An upload whose body is on its way. Dropped before [`Upload::finish`], it comes to nothing.
#[derive(Debug)]
pub struct Upload {
    pieces: mpsc::Sender<Piece>,
    sender: Sender,
    outcome: JoinHandle<Result<Uploaded, UploadError>>,
}

impl Upload {
    /// Hands over the next bytes. `false`: the upload has failed already; `finish` says why.
    pub async fn send(&self, chunk: Bytes) -> bool {
        self.pieces.send(Piece::Chunk(chunk)).await.is_ok()
    }

    /// Waits until the upload's task wants no more of the body, whatever the reason.
    pub async fn ended(&self) {
        self.pieces.closed().await;
    }

    /// The body is complete: waits until it is durable and visible.
    pub async fn finish(self) -> Result<Uploaded, UploadError> {
        // A task that has ended already has its own answer.
        let _ = self.pieces.send(Piece::End).await;
        let outcome = self.outcome.await;
        drop(self.sender);
        outcome.unwrap_or(Err(UploadError::Lost))
    }

    /// The body broke off: waits for the answer to that.
    pub async fn abandon(self) -> Result<Uploaded, UploadError> {
        drop((self.pieces, self.sender));
        self.outcome.await.unwrap_or(Err(UploadError::Lost))
    }
}

impl Gateway {
    /// Begins an upload that was admitted.
    pub fn upload(self: &Arc<Self>, leave: Leave) -> Upload {
        let (pieces, arriving) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let patience = body::patience(self.uploads.body_idle_timeout, leave.facts.rewinds);
        let received = self.metrics.upload_bytes.clone();
        let (body, sender) = Body::new(arriving, leave.facts.len, patience, received);
        let gateway = Arc::clone(self);
        let outcome = self.engine.spawn(on_behalf(async move {
            let Leave {
                key,
                facts,
                place,
                _turn,
                _entered,
            } = leave;
            let ended = match &key {
                Key::Nar(nar) => gateway.take_nar(nar, &facts, place, body).await,
                Key::Document(document) => gateway.take_document(document, &facts, body).await,
            };
            let told = ended.as_ref().copied();
            gateway.note(&key, &facts.by, Some(facts.len), told);
            ended
        }));
        Upload {
            pieces,
            sender,
            outcome,
        }
    }

    /// Counts an upload that ended and writes its line in the log.
    fn note(&self, key: &Key, by: &str, len: Option<u64>, ended: Result<Uploaded, &UploadError>) {
        let kind = match key {
            Key::Nar(_) => Kind::Nar,
            Key::Document(document) => kind_of(document),
        };
        let outcome = match ended {
            Ok(Uploaded::Created) => UploadOutcome::Created,
            Ok(Uploaded::Existing) => UploadOutcome::Existing,
            Err(cause) => cause.outcome(),
        };
        self.metrics.uploads.of((kind, outcome)).inc();
        audit::put(by, key.object(), len, outcome, ended.err());
    }
}
