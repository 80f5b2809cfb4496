//! What R2 refuses, and in which words: statuses and codes where it differs from Amazon's S3.
//!
//! Sources: Cloudflare R2 docs, "Error codes" (R2's number, S3 code, HTTP status) and "S3 API
//! compatibility" (which headers of an action are not implemented).

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::Options;
use super::store::ObjectMeta;
use super::uploads::UploadError;

/// The one account that may use the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
}

/// R2 does not implement these, in any action; it says so instead of ignoring them.
const REFUSED_HEADERS: [&str; 15] = [
    "x-amz-acl",
    "x-amz-bypass-governance-retention",
    "x-amz-expected-bucket-owner",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write-acp",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-request-payer",
    "x-amz-security-token",
    "x-amz-server-side-encryption",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
];

/// Looks up the secret that a request must have been signed with.
pub struct Keys(pub Credentials);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.0.access_key_id {
            Ok(SecretKey::from(self.0.secret_access_key.clone()))
        } else {
            Err(refusal(
                "Unauthorized",
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
            ))
        }
    }
}

/// The door: asked for every request whose signature was right or that had none.
pub struct Door {
    pub bucket: String,
    pub public_reads: bool,
}

#[async_trait::async_trait]
impl S3Access for Door {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let is_read = matches!(cx.s3_op().name(), "GetObject" | "HeadObject");
        if cx.credentials().is_none() && !(self.public_reads && is_read) {
            return Err(s3_error!(InvalidArgument, "Authorization"));
        }
        if let Some(bucket) = cx.s3_path().get_bucket_name()
            && bucket != self.bucket
        {
            return Err(s3_error!(
                NoSuchBucket,
                "The specified bucket does not exist."
            ));
        }
        let headers = cx.headers();
        for name in REFUSED_HEADERS {
            if let Some(value) = headers.get(name) {
                return Err(unimplemented_header(name, value));
            }
        }
        if matches!(cx.s3_op().name(), "PutObject" | "UploadPart") {
            refuse_framing(headers)?;
            if !headers.contains_key(CONTENT_LENGTH) {
                return Err(s3_error!(
                    MissingContentLength,
                    "You must provide the Content-Length HTTP header."
                ));
            }
        }
        Ok(())
    }
}

/// R2's emulator stores the framing of `aws-chunked` bodies as if it were the object. A client
/// that sends it would corrupt a cache there, so here it is an error, never a stored object.
fn refuse_framing(headers: &HeaderMap) -> S3Result<()> {
    let framed = |name: &str, sign: &str| {
        headers.get_all(name).iter().find(|value| {
            value
                .to_str()
                .is_ok_and(|text| text.to_ascii_lowercase().contains(sign))
        })
    };
    if let Some(value) = framed(CONTENT_ENCODING.as_str(), "aws-chunked") {
        return Err(unimplemented_header(CONTENT_ENCODING.as_str(), value));
    }
    if let Some(value) = framed("x-amz-content-sha256", "streaming-") {
        return Err(unimplemented_header("x-amz-content-sha256", value));
    }
    Ok(())
}

fn unimplemented_header(name: &str, value: &HeaderValue) -> S3Error {
    let value = String::from_utf8_lossy(value.as_bytes());
    s3_error!(
        NotImplemented,
        "Header '{name}' with value '{value}' not implemented"
    )
}

/// At most one write a second to the same key, when switched on.
#[derive(Default)]
pub struct WriteLimit {
    last: Option<Mutex<HashMap<String, Instant>>>,
}

impl WriteLimit {
    pub fn new(on: bool) -> Self {
        Self {
            last: on.then(Mutex::default),
        }
    }

    /// Errors: 429 when `key` was written less than a second before `now`.
    pub fn admit(&self, key: &str, now: Instant) -> S3Result<()> {
        let Some(last) = &self.last else {
            return Ok(());
        };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, at| now.saturating_duration_since(*at) < Duration::from_secs(1));
        if last.contains_key(key) {
            return Err(refusal(
                "TooManyRequests",
                StatusCode::TOO_MANY_REQUESTS,
                "Reduce your concurrent request rate for the same object.",
            ));
        }
        last.insert(key.to_owned(), now);
        Ok(())
    }
}

/// An error of R2's own, with a code that Amazon's list does not have.
fn refusal(code: &'static str, status: StatusCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

pub fn no_such_key() -> S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist.")
}

pub fn precondition_failed() -> S3Error {
    s3_error!(
        PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold."
    )
}

/// 304, with the validators that RFC 9110 §15.4.5 wants in it.
pub fn not_modified(meta: &ObjectMeta) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    let mut headers = HeaderMap::new();
    if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", meta.etag)) {
        headers.insert(ETAG, etag);
    }
    error.set_headers(headers);
    error
}

/// A store's own trouble, told to the client as 500; wanted where a condition may refuse as well.
pub struct Refused(pub S3Error);

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self(S3Error::internal_error(error))
    }
}

impl From<UploadError> for Refused {
    fn from(error: UploadError) -> Self {
        let code = match &error {
            UploadError::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            UploadError::NoSuchPart | UploadError::UnequalParts => S3ErrorCode::InvalidPart,
            UploadError::PartOrder => S3ErrorCode::InvalidPartOrder,
            UploadError::PartTooSmall => S3ErrorCode::EntityTooSmall,
        };
        Self(S3Error::with_message(code, error.to_string()))
    }
}

impl From<Refused> for S3Error {
    fn from(refused: Refused) -> Self {
        refused.0
    }
}

/// The S3 service behind the door, with its signatures checked.
pub fn guarded(api: impl s3s::S3, options: &Options) -> Arc<s3s::service::S3Service> {
    let mut builder = s3s::service::S3ServiceBuilder::new(api);
    builder.set_auth(Keys(options.credentials.clone()));
    builder.set_access(Door {
        bucket: options.bucket.clone(),
        public_reads: options.public_reads,
    });
    Arc::new(builder.build())
}
