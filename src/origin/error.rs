//! Why an origin gave no answer. "No such object" is an answer, and therefore not in here.
//!
//! Causes from below are kept as text, so that an error can be cloned to everybody who waited for
//! the same object. No variant carries anything secret: a key, a status, a code, an address.

use std::time::Duration;

use crate::metrics::labels::{OriginOutcome, UnknownReason};

/// Why the bucket gave no answer, or not the one that was needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// A deadline passed; `wait` names which.
    #[error("the bucket was silent for {after:?} ({wait}) on {key}")]
    Timeout {
        key: String,
        wait: Wait,
        after: Duration,
    },
    /// No connection, or it broke before an answer's head was there.
    #[error("no answer from the bucket on {key}: {cause}")]
    Connect { key: String, cause: String },
    /// 401 or 403. Says nothing about whether the object exists.
    #[error("the bucket refused {key}: status {status}, {code}")]
    Refused {
        key: String,
        status: u16,
        code: String,
    },
    /// 429, or `SlowDown`.
    #[error("the bucket asks for fewer requests, on {key} (status {status})")]
    Throttled {
        key: String,
        status: u16,
        /// The answer's `Retry-After`, when it was a number of seconds.
        retry_after: Option<Duration>,
    },
    /// Any other status that is no answer: 5xx, a redirect, a 400.
    #[error("the bucket failed on {key}: status {status}, {code}")]
    Server {
        key: String,
        status: u16,
        code: String,
    },
    /// An answer that cannot be what was asked for: HTML, no length, another range.
    #[error("the bucket's answer on {key} makes no sense: {why}")]
    Garbage { key: String, why: String },
    /// A body ended before, or went on after, its announced length.
    #[error("the body of {key} broke after {received} of {expected} bytes: {cause}")]
    Broken {
        key: String,
        received: u64,
        expected: u64,
        cause: String,
    },
    /// 412: the object is no longer the version that `if_match` named.
    #[error("{key} is no longer the object it was")]
    PreconditionFailed { key: String },
    /// 416: the object has none of the bytes asked for.
    #[error("{key} has none of the bytes asked for")]
    OutOfRange { key: String },
    /// The bucket itself is not there, which says nothing about any object.
    #[error("the bucket {bucket} does not exist")]
    NoBucket { bucket: String },
    /// The directory bucket's file system failed.
    #[error("the bucket's directory failed on {key}: {cause}")]
    Disk { key: String, cause: String },
    /// An upload in parts that the bucket does not know: completed by a try whose answer was lost,
    /// or aborted by somebody else.
    #[error("the bucket knows of no such upload of {key}")]
    NoUpload { key: String },
    /// The file to be uploaded could not be read, or is shorter than announced.
    #[error("the upload of {key} could not be read: {cause}")]
    BadUpload { key: String, cause: String },
    /// Nothing but failure for a while; nobody was asked this time.
    #[error("the bucket has done nothing but fail for {failing:?}; {key} was not asked for")]
    BreakerOpen { key: String, failing: Duration },
    /// All requests together have retried as often as they may for the moment; nobody was asked.
    #[error("no retry is left for {key} just now")]
    NoRetryLeft { key: String },
    /// As many requests as `bucket.max_requests` allows were under way all the while.
    #[error("no request to the bucket came free for {key} within {after:?}")]
    Busy { key: String, after: Duration },
}

/// What a deadline was set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The head of an answer.
    FirstByte,
    /// The next piece of a body that is being read.
    NextByte,
    /// The next piece of a body that is being sent.
    Progress,
    /// The answer to a body that was sent.
    Acknowledgement,
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FirstByte => "first byte",
            Self::NextByte => "next byte",
            Self::Progress => "upload progress",
            Self::Acknowledgement => "acknowledgement of an upload",
        })
    }
}

impl OriginError {
    /// Whether the same request, made again at once, may well succeed. A refusal will not change,
    /// a changed object needs another question, and an open breaker or a full house has already
    /// waited as long as it should.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Connect { .. }
            | Self::Throttled { .. }
            | Self::Garbage { .. }
            | Self::Broken { .. }
            | Self::Disk { .. } => true,
            // 409 is ConditionalRequestConflict: two conditional writes met (S3 API, PutObject).
            Self::Server { status, .. } => *status >= 500 || matches!(status, 408 | 409),
            Self::Refused { .. }
            | Self::PreconditionFailed { .. }
            | Self::OutOfRange { .. }
            | Self::NoBucket { .. }
            | Self::NoUpload { .. }
            | Self::BadUpload { .. }
            | Self::BreakerOpen { .. }
            | Self::NoRetryLeft { .. }
            | Self::Busy { .. } => false,
        }
    }

    /// Whether a write that ended so may have been carried out all the same, its answer being lost.
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Connect { .. }
            | Self::Server { .. }
            | Self::Garbage { .. }
            | Self::Broken { .. }
            | Self::NoUpload { .. }
            | Self::Disk { .. } => true,
            Self::Refused { .. }
            | Self::Throttled { .. }
            | Self::PreconditionFailed { .. }
            | Self::OutOfRange { .. }
            | Self::NoBucket { .. }
            | Self::BadUpload { .. }
            | Self::BreakerOpen { .. }
            | Self::NoRetryLeft { .. }
            | Self::Busy { .. } => false,
        }
    }

    /// Whether the bucket is well and merely has another object than the caller thought.
    pub(super) fn is_about_the_object(&self) -> bool {
        matches!(
            self,
            Self::PreconditionFailed { .. } | Self::OutOfRange { .. } | Self::NoUpload { .. }
        )
    }

    /// Whether somebody answered with sense, so that asking again does not mean waiting in vain.
    /// A refusal is such an answer, though it is bad news all the same.
    pub(super) fn is_answer(&self) -> bool {
        self.is_about_the_object() || matches!(self, Self::Refused { .. })
    }

    /// Whether this is the bucket's fault at all, and not of our own making.
    pub(super) fn is_the_buckets(&self) -> bool {
        !matches!(
            self,
            Self::BadUpload { .. }
                | Self::BreakerOpen { .. }
                | Self::NoRetryLeft { .. }
                | Self::Busy { .. }
        )
    }

    /// The label under which a client's 503 counts.
    pub fn reason(&self) -> UnknownReason {
        match self {
            Self::Timeout { .. } => UnknownReason::Timeout,
            Self::Connect { .. } => UnknownReason::Connect,
            Self::Refused { .. } | Self::NoBucket { .. } => UnknownReason::Refused,
            Self::Throttled { .. } => UnknownReason::Throttled,
            Self::Server { .. }
            | Self::Broken { .. }
            | Self::Disk { .. }
            | Self::NoUpload { .. } => UnknownReason::Server,
            Self::Garbage { .. } => UnknownReason::Garbage,
            Self::PreconditionFailed { .. } | Self::OutOfRange { .. } => UnknownReason::Corrupt,
            Self::BadUpload { .. } => UnknownReason::Internal,
            Self::BreakerOpen { .. } => UnknownReason::BreakerOpen,
            Self::NoRetryLeft { .. } | Self::Busy { .. } => UnknownReason::Busy,
        }
    }

    /// The label under which one request to the bucket counts.
    pub(super) fn outcome(&self) -> OriginOutcome {
        match self {
            Self::Timeout { .. } => OriginOutcome::Timeout,
            Self::Refused { .. } => OriginOutcome::Refused,
            Self::Throttled { .. } => OriginOutcome::Throttled,
            Self::PreconditionFailed { .. } => OriginOutcome::Precondition,
            _ => OriginOutcome::Failed,
        }
    }
}

/// The bucket cannot be used at all with these settings.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("bucket.path {path}: {cause}")]
    Directory {
        path: std::path::PathBuf,
        cause: std::io::Error,
    },
}

/// An error and all its causes in one line, a cause that only repeats its parent left out.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text.replace(['\n', '\r'], " ")
}
