//! What can be asked of an origin, and what comes back besides the bytes.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::error::OriginError;
use super::limit::Class;
use super::stream::ObjectStream;
use crate::object::ETag;
use crate::range::RangeRequest;

/// How an object is asked for. Start from [`Ask::document`] or [`Ask::nar`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub class: Class,
    /// A piece of the object instead of the whole.
    pub range: Option<RangeRequest>,
    /// Only this version; another one is [`OriginError::PreconditionFailed`].
    pub if_match: Option<ETag>,
    /// Unless it is still this version, which is [`Fetched::NotModified`].
    pub if_none_match: Option<ETag>,
    pub tries: Tries,
}

/// How often to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// Again after transient failures, for `bucket.hold`.
    WithinHold,
    /// Once; the caller has its own way of going on.
    One,
    /// Once, as a retry: it goes on with what broke, so the retry budget pays for it.
    Again,
}

impl Ask {
    /// The whole of a document, with retries.
    pub fn document() -> Self {
        Self::whole(Class::Document)
    }

    /// The whole of a NAR, with retries.
    pub fn nar() -> Self {
        Self::whole(Class::Nar)
    }

    fn whole(class: Class) -> Self {
        Self {
            class,
            range: None,
            if_match: None,
            if_none_match: None,
            tries: Tries::WithinHold,
        }
    }
}

/// The answer to a fetch of an object that is there.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time is on its way to its reader, and nearly all are objects"
)]
pub enum Fetched {
    Object(ObjectStream),
    /// It is still the version that `if_none_match` named.
    NotModified,
}

/// The bytes of an upload, readable again for each try.
#[derive(Debug, Clone)]
pub enum StoreBody {
    /// `len` bytes of a file from `start`, read by position, so that its cursor is nobody's.
    File {
        file: Arc<File>,
        start: u64,
        len: u64,
    },
    Bytes(Bytes),
}

impl StoreBody {
    /// In bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is kept with an uploaded object, and under which condition it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreFacts {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// Leave an object that is already there as it is (`If-None-Match: *`).
    pub create_only: bool,
}

/// A write that the bucket acknowledged, and that is therefore durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The new version's tag; `None` where the bucket gave none, or nothing was written.
    pub etag: Option<ETag>,
    /// With `create_only`: there was an object already and it was left alone. After a lost answer
    /// this may be the object that this very upload wrote.
    pub existed: bool,
}

/// How the bucket has been doing lately, for `/ready`.
#[derive(Debug, Clone)]
pub struct Health {
    /// When the bucket last gave a sensible answer; `None`: never yet.
    pub last_success: Option<Instant>,
    /// When it last did not, and why; `None`: it always has.
    pub last_failure: Option<(Instant, OriginError)>,
    /// Whether requests are being turned away without asking.
    pub breaker_open: bool,
}

impl Health {
    /// Whether the last thing heard was an answer. Before anything was heard: no.
    pub fn is_up(&self) -> bool {
        match (&self.last_success, &self.last_failure) {
            (Some(_), None) => true,
            (Some(good), Some((bad, _))) => good > bad,
            (None, _) => false,
        }
    }
}
