//! What lies in the bucket where a NAR was to go: the same, another, or what an answer that got lost
//! has left in doubt.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::super::Gateway;
use super::super::error::UploadError;
use super::super::source::Source;
use super::Uploaded;
use crate::lookup::Lookup;
use crate::nix::hash::Sha256Hash;
use crate::nix::key::NarKey;
use crate::object::ETag;
use crate::origin::{Ask, Fetched, Hold, OriginError};

/// A body that arrived whole.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    pub len: u64,
    pub digest: Sha256Hash,
}

/// A NAR that the bucket holds now.
pub struct Landed {
    pub uploaded: Uploaded,
    pub etag: Option<ETag>,
}

/// What lies in the bucket, beside what was uploaded.
pub enum Compared {
    Same(Option<ETag>),
    Other,
    Nothing,
}

impl Gateway {
    /// A write failed whose answer may only have been lost: what lies in the bucket tells.
    pub(super) async fn after_doubt(
        self: &Arc<Self>,
        key: &NarKey,
        content: Content,
        cause: OriginError,
        hold: &Hold,
    ) -> Result<Landed, UploadError> {
        if cause.leaves_doubt()
            && let Ok(Compared::Same(etag)) = self.compare(key, content, hold).await
        {
            tracing::info!(key = %key.object(), %cause, "the bucket has it all the same");
            return Ok(created(etag));
        }
        Err(cause.into())
    }

    /// Compares the object in the bucket with what was uploaded: by its length where its name is
    /// its hash, else by reading it.
    pub(super) async fn compare(
        self: &Arc<Self>,
        key: &NarKey,
        uploaded: Content,
        hold: &Hold,
    ) -> Result<Compared, UploadError> {
        let at = key.object();
        if key.content_hash().is_some() {
            return match self.origin.head_within(at, hold).await {
                Lookup::Found(meta) if meta.len == uploaded.len => Ok(Compared::Same(meta.etag)),
                Lookup::Found(_) => Ok(Compared::Other),
                Lookup::Absent => Ok(Compared::Nothing),
                Lookup::Unknown(cause) => Err(cause.into()),
            };
        }
        let stream = match self.origin.fetch_within(at, &Ask::nar(), hold).await {
            Lookup::Found(Fetched::Object(stream)) => stream,
            Lookup::Found(Fetched::NotModified) | Lookup::Absent => return Ok(Compared::Nothing),
            Lookup::Unknown(cause) => return Err(cause.into()),
        };
        if stream.meta.len != uploaded.len {
            return Ok(Compared::Other);
        }
        let mut source = Source::over(self, at, stream, true).patient_for(self.uploads.hold);
        let mut hasher = Sha256::new();
        while let Some(chunk) = source.chunk().await.map_err(UploadError::Bucket)? {
            hasher.update(&chunk);
        }
        let held = Sha256Hash::from_bytes(hasher.finalize().into());
        Ok(if held == uploaded.digest {
            Compared::Same(source.version().etag.clone())
        } else {
            Compared::Other
        })
    }
}

pub fn created(etag: Option<ETag>) -> Landed {
    Landed {
        uploaded: Uploaded::Created,
        etag,
    }
}

/// What it means that the name was taken.
pub fn existing(key: &NarKey, there: Compared) -> Result<Landed, UploadError> {
    match there {
        Compared::Same(etag) => Ok(Landed {
            uploaded: Uploaded::Existing,
            etag,
        }),
        Compared::Other | Compared::Nothing => Err(UploadError::Conflict {
            key: key.object().clone(),
        }),
    }
}
