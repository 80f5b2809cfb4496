//! The bucket: an S3 (R2 or any other), or a directory. One request each, no retries, no limits;
//! those are the facade's, and alike for both kinds.
//!
//! Keys are plain text here, because a probe and `narwharf check` use names that no client can ask
//! for. Whoever calls from outside `origin` goes through `Origin`, which takes checked keys only.

pub mod directory;
pub mod s3;
pub mod wait;

use std::sync::Arc;
use std::time::SystemTime;

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

/// An upload in parts that is under way.
#[derive(Debug, Clone)]
pub enum UploadId {
    S3(String),
    Directory(Arc<directory::Assembly>),
}

impl UploadId {
    /// Whether both name the same upload at a bucket that has names for them.
    pub fn is(&self, other: &Self) -> bool {
        matches!((self, other), (Self::S3(one), Self::S3(other)) if one == other)
    }
}

/// The acknowledgement of one part, needed to complete its upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartTag {
    S3(String),
    /// A directory has the part at its place and needs no tag.
    Written,
}

impl PartTag {
    fn as_s3(&self) -> Option<&str> {
        match self {
            Self::S3(tag) => Some(tag),
            Self::Written => None,
        }
    }
}

/// One part of an object.
#[derive(Debug, Clone)]
pub struct Part {
    /// Counted from 0.
    pub index: u32,
    /// Its first byte's place in the object.
    pub start: u64,
    pub body: StoreBody,
}

/// An upload in parts that somebody began and did not end.
#[derive(Debug, Clone)]
pub struct Leftover {
    pub key: String,
    pub id: UploadId,
    pub begun: SystemTime,
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

    /// Begins an upload in parts.
    pub async fn create_upload(
        &self,
        key: &str,
        about: &StoreFacts,
        slot: &Slot,
    ) -> Result<UploadId, OriginError> {
        match self {
            Self::S3(bucket) => bucket.create_upload(key, about).await,
            Self::Directory(bucket) => {
                let assembly = bucket.create_upload(key, about, slot).await?;
                Ok(UploadId::Directory(Arc::new(assembly)))
            }
        }
    }

    /// Sends one part, which may be sent again.
    pub async fn put_part(
        &self,
        key: &str,
        id: &UploadId,
        part: &Part,
        slot: &Slot,
    ) -> Result<PartTag, OriginError> {
        match (self, id) {
            (Self::S3(bucket), UploadId::S3(id)) => {
                let number = i32::try_from(part.index).unwrap_or(i32::MAX - 1) + 1;
                bucket.put_part(key, id, number, &part.body).await
            }
            (Self::Directory(bucket), UploadId::Directory(assembly)) => {
                bucket
                    .put_part(key, assembly, part.start, &part.body, slot)
                    .await?;
                Ok(PartTag::Written)
            }
            _ => Err(another_buckets(key)),
        }
    }

    /// Makes the object of its parts, whose tags come in their order. `create_only` holds for a
    /// directory; S3's condition on this operation is not to be relied on.
    pub async fn complete_upload(
        &self,
        key: &str,
        id: &UploadId,
        tags: &[PartTag],
        slot: &Slot,
    ) -> Result<Stored, OriginError> {
        match (self, id) {
            (Self::S3(bucket), UploadId::S3(id)) => Ok(Stored {
                etag: bucket.complete_upload(key, id, tags).await?,
                existed: false,
            }),
            (Self::Directory(bucket), UploadId::Directory(assembly)) => {
                bucket.complete_upload(key, assembly, slot).await
            }
            _ => Err(another_buckets(key)),
        }
    }

    /// Gives an upload in parts up; one that is not known is given up already.
    pub async fn abort_upload(
        &self,
        key: &str,
        id: &UploadId,
        slot: &Slot,
    ) -> Result<(), OriginError> {
        match (self, id) {
            (Self::S3(bucket), UploadId::S3(id)) => bucket.abort_upload(key, id).await,
            (Self::Directory(bucket), UploadId::Directory(assembly)) => {
                bucket.abort_upload(key, assembly, slot).await
            }
            _ => Err(another_buckets(key)),
        }
    }

    /// Uploads in parts, of keys that begin with `below`, that were begun and not ended. A directory
    /// sweeps its own at its start.
    pub async fn open_uploads(&self, below: &str) -> Result<Vec<Leftover>, OriginError> {
        match self {
            Self::S3(bucket) => bucket.open_uploads(below).await,
            Self::Directory(_) => Ok(Vec::new()),
        }
    }

    /// Whether an upload in parts has any yet.
    pub async fn has_parts(&self, key: &str, id: &UploadId) -> Result<bool, OriginError> {
        match (self, id) {
            (Self::S3(bucket), UploadId::S3(id)) => bucket.has_parts(key, id).await,
            _ => Err(another_buckets(key)),
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

/// An upload's id never leaves the origin that gave it, so this is never met; were it, the upload
/// would be unknown here.
fn another_buckets(key: &str) -> OriginError {
    OriginError::NoUpload {
        key: key.to_owned(),
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
