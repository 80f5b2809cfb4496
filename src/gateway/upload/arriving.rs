//! A NAR's body on its way in: hashed, spooled to the disk or held in memory, and handed over to
//! whoever sends it on, part by part as its bytes come.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::super::error::UploadError;
use super::body::{Body, CHUNKS_IN_FLIGHT};
use super::sending::{Outlet, Sending};
use crate::nix::hash::Sha256Hash;
use crate::tier::disk::BlobWriter;

/// The body's arrival, unless the bucket refuses its parts for good before.
pub async fn unless_refused<T>(
    arriving: impl Future<Output = Result<T, UploadError>>,
    sending: &mut Option<Sending>,
) -> Result<T, UploadError> {
    let Some(sending) = sending else {
        return arriving.await;
    };
    let mut arriving = pin!(arriving);
    tokio::select! {
        biased;
        refused = sending.failed() => Err(refused),
        arrived = &mut arriving => arrived,
    }
}

/// Runs the body into a temporary blob, which hashes it, and hands its parts over as they come.
pub async fn spool(
    mut body: Body,
    writer: BlobWriter,
    outlet: Option<Outlet>,
) -> Result<BlobWriter, UploadError> {
    let (chunks, writing) = mpsc::channel::<Bytes>(CHUNKS_IN_FLIGHT);
    let written = tokio::task::spawn_blocking(move || write_all(writing, writer, outlet));
    let received = async {
        while let Some(chunk) = body.next().await? {
            if chunks.send(chunk).await.is_err() {
                break; // The disk failed, which the writer says itself.
            }
        }
        Ok(())
    }
    .await;
    drop(chunks);
    let written = written.await.map_err(|_| UploadError::Lost)?;
    received.and(written.map_err(UploadError::Disk))
}

fn write_all(
    mut arriving: mpsc::Receiver<Bytes>,
    mut writer: BlobWriter,
    mut outlet: Option<Outlet>,
) -> std::io::Result<BlobWriter> {
    while let Some(chunk) = arriving.blocking_recv() {
        writer.write(&chunk)?;
        if let Some(outlet) = &mut outlet {
            outlet.written(&writer.reader(), writer.written());
        }
    }
    Ok(writer)
}

/// Cuts the body into parts as they are wanted. Returns its hash.
pub async fn cut(mut body: Body, outlet: &mut Outlet) -> Result<Sha256Hash, UploadError> {
    let (mut hasher, mut part) = (Sha256::new(), BytesMut::new());
    while let Some(mut chunk) = body.next().await? {
        hasher.update(&chunk);
        while let Some(wanted) = outlet.wants()
            && !chunk.is_empty()
        {
            if part.is_empty() {
                // A buffer of its own, and no larger than was reserved for it.
                part = BytesMut::with_capacity(wanted as usize);
            }
            let missing = wanted as usize - part.len();
            part.extend_from_slice(&chunk.split_to(missing.min(chunk.len())));
            if part.len() as u64 == wanted {
                let whole = std::mem::take(&mut part).freeze();
                body.unless_gone(outlet.put(whole)).await?;
            }
        }
    }
    Ok(Sha256Hash::from_bytes(hasher.finalize().into()))
}
