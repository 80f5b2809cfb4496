//! The bucket: an S3 (R2 or any other), or a directory. One request each, no retries, no limits;
//! those are the facade's, and alike for both kinds.
//!
//! Keys are plain text here, because a probe and `narwharf check` use names that no client can ask
//! for. Whoever calls from outside `origin` goes through `Origin`, which takes checked keys only.

pub mod directory;
pub mod s3;
pub mod wait;

use bytes::Bytes;

use super::ask::{Ask, StoreBody, StoreFacts, Stored};
use super::error::{OpenError, OriginError};
use super::limit::{Class, Slot};
use crate::clock::Clock;
use crate::config::{self, BucketKind};
use crate::metrics::Metrics;
use crate::metrics::labels::{Operation, PriceClass};
use crate::object::ObjectMeta;
use crate::range::ByteRange;

/// Either kind of bucket.
pub enum Bucket {
    S3(s3::S3),
    Directory(directory::Directory),
}

/// What a GET found.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time is on its way to its reader, and nearly all are objects"
)]
pub enum Got {
    Object(Opened),
    NotModified,
}

/// An object whose head is here and whose body is about to come.
pub struct Opened {
    pub meta: ObjectMeta,
    /// The piece asked for; `None`: all of it.
    pub range: Option<ByteRange>,
    pub body: Body,
}

/// Where the bytes come from.
pub enum Body {
    S3(s3::Reader),
    File(directory::Reader),
}

impl Body {
    /// The next piece, never empty, of the `left` bytes still to come; `None`: the end as the
    /// sender sees it. Errors: what broke, in words.
    pub async fn next(&mut self, left: u64) -> Result<Option<Bytes>, String> {
        match self {
            Self::S3(reader) => reader.next().await,
            Self::File(reader) => reader.next(left).await,
        }
    }
}

impl Bucket {
    /// Errors: a directory that neither exists nor can be made. An S3 server is not asked yet.
    pub fn open(settings: &config::Bucket, clock: Clock) -> Result<Self, OpenError> {
        Ok(match &settings.kind {
            BucketKind::S3 {
                endpoint,
                name,
                region,
                prefix,
                access_key_id,
                secret_access_key,
            } => {
                let access = s3::Access {
                    endpoint,
                    bucket: name,
                    region,
                    prefix,
                    key_id: access_key_id,
                    secret: secret_access_key,
                };
                Self::S3(s3::S3::open(&access, settings, clock))
            }
            BucketKind::Directory { path } => {
                let deadlines = wait::Deadlines::of(settings);
                Self::Directory(directory::Directory::open(path, deadlines)?)
            }
        })
    }

    /// `None`: the bucket says that there is no such object.
    pub async fn get(&self, key: &str, ask: &Ask, slot: &Slot) -> Result<Option<Got>, OriginError> {
        match self {
            Self::S3(bucket) => bucket.get(key, ask).await,
            Self::Directory(bucket) => bucket.get(key, ask, slot).await,
        }
    }

    /// `None`: the bucket says that there is no such object.
    pub async fn head(&self, key: &str, slot: &Slot) -> Result<Option<ObjectMeta>, OriginError> {
        match self {
            Self::S3(bucket) => bucket.head(key).await,
            Self::Directory(bucket) => bucket.head(key, slot).await,
        }
    }

    pub async fn put(
        &self,
        key: &str,
        body: &StoreBody,
        about: &StoreFacts,
        slot: &Slot,
    ) -> Result<Stored, OriginError> {
        match self {
            Self::S3(bucket) => bucket.put(key, body, about).await,
            Self::Directory(bucket) => bucket.put(key, body, about, slot).await,
        }
    }

    /// An object that is not there is removed already.
    pub async fn delete(&self, key: &str, slot: &Slot) -> Result<(), OriginError> {
        match self {
            Self::S3(bucket) => bucket.delete(key).await,
            Self::Directory(bucket) => bucket.delete(key, slot).await,
        }
    }

    /// Counts what a request costs at R2 (documentation, "Pricing"): writes and lists are class A,
    /// reads class B, deletes free. A directory costs nothing.
    pub fn count_cost(&self, metrics: &Metrics, operation: Operation) {
        let class = match (self, operation) {
            (Self::Directory(_), _) | (_, Operation::Delete) => return,
            (_, Operation::Get | Operation::Head) => PriceClass::B,
            (_, Operation::Put | Operation::List | Operation::Multipart) => PriceClass::A,
        };
        metrics.bucket_operations.of((class,)).inc();
    }
}

/// Uploads of at most so many bytes count as small: a narinfo or listing, not a NAR.
const SMALL_UPLOAD: u64 = 1024 * 1024;

/// Whose share an upload uses.
pub fn upload_class(body: &StoreBody) -> Class {
    if body.len() <= SMALL_UPLOAD {
        Class::Document
    } else {
        Class::Nar
    }
}

/// An encoding as it is worth keeping: `aws-chunked` is a framing of S3's wire and not of the
/// object, and `identity` and `none` mean nothing.
pub fn clean_encoding(stored: &str) -> Option<String> {
    let real: Vec<&str> = stored
        .split(',')
        .map(str::trim)
        .filter(|coding| {
            !["", "aws-chunked", "identity", "none"]
                .iter()
                .any(|nothing| coding.eq_ignore_ascii_case(nothing))
        })
        .collect();
    (!real.is_empty()).then(|| real.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_that_mean_nothing_are_dropped() {
        for nothing in [
            "",
            "identity",
            "none",
            "aws-chunked",
            "AWS-Chunked, ",
            "Identity",
        ] {
            assert_eq!(clean_encoding(nothing), None, "{nothing:?}");
        }
        assert_eq!(clean_encoding("xz").as_deref(), Some("xz"));
        assert_eq!(clean_encoding("aws-chunked,gzip").as_deref(), Some("gzip"));
        assert_eq!(clean_encoding("gzip, br").as_deref(), Some("gzip, br"));
    }
}
