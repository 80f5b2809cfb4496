//! Why a journey ended without an answer, and why an upload was not taken.
//!
//! Statuses are not decided here: `http/error.rs` holds the one table.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::labels::{UnknownReason, UploadOutcome};
use crate::nix::hash::Sha256Hash;
use crate::nix::key::ObjectKey;
use crate::nix::narinfo::NarinfoError;
use crate::origin::OriginError;
use crate::pace;

use super::flights::NoAnswer;

/// Why nobody could say whether an object is there, or could not give it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GatewayError {
    #[error("{0}")]
    Origin(Arc<OriginError>),
    #[error("{key}: what the bucket holds cannot be served: {why}")]
    Corrupt { key: ObjectKey, why: String },
    /// It was wrong a moment ago and is the same still.
    #[error("{key}: its bytes were wrong, and the bucket still holds the same; asked again soon")]
    Resting { key: ObjectKey },
    #[error("{key}: {why}")]
    NoAnswer { key: ObjectKey, why: NoAnswer },
    #[error("{key}: the disk tier failed: {why}")]
    Disk {
        key: ObjectKey,
        why: Arc<std::io::Error>,
    },
}

impl GatewayError {
    /// The bytes are not those that the object is to have.
    pub fn wrong_bytes(key: &ObjectKey, expected: Sha256Hash, got: Sha256Hash) -> Self {
        Self::Corrupt {
            key: key.clone(),
            why: format!("its SHA-256 is {got} instead of {expected}"),
        }
    }

    /// The cause in the words of the metrics.
    pub fn reason(&self) -> UnknownReason {
        match self {
            Self::Origin(cause) => cause.reason(),
            Self::Corrupt { .. } | Self::Resting { .. } => UnknownReason::Corrupt,
            Self::NoAnswer {
                why: NoAnswer::Late(_),
                ..
            } => UnknownReason::Timeout,
            Self::NoAnswer {
                why: NoAnswer::Lost | NoAnswer::Abandoned,
                ..
            }
            | Self::Disk { .. } => UnknownReason::Internal,
        }
    }
}

impl From<OriginError> for GatewayError {
    fn from(cause: OriginError) -> Self {
        Self::Origin(Arc::new(cause))
    }
}

/// Why an upload was not taken. The text is shown to the uploader, so it says what to do.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("the request needs a Content-Length")]
    LengthMissing,
    #[error("{len} bytes are more than the {limit} that are taken here{setting}")]
    TooLarge {
        len: u64,
        limit: u64,
        setting: &'static str,
    },
    #[error("the body ended after {got} of {want} bytes; nothing was stored")]
    Cut { got: u64, want: u64 },
    #[error("no body byte for {0:?}; nothing was stored")]
    Idle(Duration),
    #[error("the body came at less than {} kB/s; nothing was stored", pace::LEAST_RATE / 1000)]
    Slow,
    #[error("the body's SHA-256 is {got}, the name says {want}; nothing was stored")]
    WrongHash { got: String, want: String },
    #[error("{key} exists with other bytes and its name is no hash; choose another name")]
    Conflict { key: ObjectKey },
    #[error("the bucket does not hold {url}; upload the NAR before its narinfo")]
    MissingNar { url: String },
    #[error("the bucket's {url} has {held} bytes, the narinfo says FileSize {said}")]
    OtherNar { url: String, held: u64, said: u64 },
    #[error("not a narinfo: {0}")]
    Narinfo(#[from] NarinfoError),
    #[error(
        "the narinfo's URL {url} is no key of this cache; expected nar/<name>.nar[.<compression>]"
    )]
    ForeignUrl { url: String },
    #[error("no trusted signature: signed by {seen}; accepted here: {accepted}")]
    Untrusted { seen: String, accepted: String },
    #[error("Content-Encoding {0} is not supported; send zstd, br, gzip, xz, bzip2 or none")]
    Encoding(String),
    #[error("a NAR is kept as it comes: send it without Content-Encoding {0}")]
    EncodedNar(String),
    #[error("the body is not {0} data")]
    BadEncoding(String),
    #[error("the body has more than the {most} bytes that are taken here, once decoded")]
    UnpacksTooLarge { most: u64 },
    #[error("there is no room for the upload, neither on the gateway's disk nor in its memory")]
    NoRoom,
    /// The cause is for the log, not for the uploader.
    #[error("the gateway's disk failed; nothing was stored")]
    Disk(std::io::Error),
    /// The cause is for the log, not for the uploader.
    #[error("the bucket behind this gateway failed; try again in a while")]
    Bucket(GatewayError),
    #[error("too many uploads at once")]
    Busy,
    #[error("another upload of {key} has been under way for long; try again in a while")]
    InLine { key: ObjectKey },
    #[error("the upload's task ended without an answer")]
    Lost,
}

impl UploadError {
    /// How such an upload ended, in the words of the metrics.
    pub fn outcome(&self) -> UploadOutcome {
        match self {
            Self::Cut { .. } | Self::Idle(_) | Self::Slow => UploadOutcome::Cut,
            Self::Bucket(_)
            | Self::NoRoom
            | Self::Disk(_)
            | Self::Busy
            | Self::InLine { .. }
            | Self::Lost => UploadOutcome::Failed,
            Self::LengthMissing
            | Self::TooLarge { .. }
            | Self::WrongHash { .. }
            | Self::Conflict { .. }
            | Self::MissingNar { .. }
            | Self::OtherNar { .. }
            | Self::Narinfo(_)
            | Self::ForeignUrl { .. }
            | Self::Untrusted { .. }
            | Self::Encoding(_)
            | Self::EncodedNar(_)
            | Self::BadEncoding(_)
            | Self::UnpacksTooLarge { .. } => UploadOutcome::Refused,
        }
    }

    /// For the log: with what the uploader is not told.
    pub fn in_full(&self) -> String {
        match self {
            Self::Bucket(cause) => format!("{self}: {cause}"),
            Self::Disk(cause) => format!("{self}: {cause}"),
            _ => self.to_string(),
        }
    }
}

impl From<OriginError> for UploadError {
    fn from(cause: OriginError) -> Self {
        Self::Bucket(cause.into())
    }
}
