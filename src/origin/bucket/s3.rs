//! The bucket in R2 or any other S3, through the AWS SDK: the one place that knows it.
//!
//! Of the SDK we take signing, parsing and connections, and leave its policies off: no retries, no
//! guard against stalled streams, no read timeout, no checksums unless an operation demands them
//! (with its default, uploads are framed as `aws-chunked`, which some servers store as data).
//! Credentials are given and never looked for, since a session token from the environment makes R2
//! answer 400. Documents and NARs have a client each: over HTTP/2 one client means one connection,
//! and a narinfo must not queue behind a NAR in it.

mod answer;
mod multipart;
mod place;
mod upload;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::endpoint::ResolveEndpoint;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig, retry::RetryConfig,
};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use self::answer::{Head, Said, judge};
use self::place::Place;
use super::super::ask::{Ask, StoreBody, StoreFacts, Stored};
use super::super::error::{OriginError, Wait, chain};
use super::super::limit::Class;
use super::wait::{Deadlines, Progress, while_it_moves, within};
use super::{Body, Got, Opened, upload_class};
use crate::clock::Clock;
use crate::config;
use crate::object::{ETag, ObjectMeta};
use crate::range::RangeRequest;

/// Idle connections are closed after this; R2 and S3 keep theirs longer.
const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// For so long after an answer that only an existing bucket gives, the bucket is taken to exist.
const BUCKET_SEEN: Duration = Duration::from_secs(60);

/// Where a bucket is, and with what right.
pub struct Access<'a> {
    /// `http` or `https`; a path ends in `/`.
    pub endpoint: &'a Url,
    pub bucket: &'a str,
    pub region: &'a str,
    /// Put before each key as it is.
    pub prefix: &'a str,
    pub key_id: &'a str,
    pub secret: &'a SecretString,
}

/// One bucket of an S3 server.
pub struct S3 {
    documents: Client,
    nars: Client,
    bucket: String,
    prefix: String,
    deadlines: Deadlines,
    clock: Clock,
    /// When an answer last showed that the bucket exists.
    seen: Mutex<Option<Instant>>,
}

impl S3 {
    /// Connects to nothing yet.
    pub fn open(access: &Access<'_>, settings: &config::Bucket, clock: Clock) -> Self {
        Self {
            documents: client(access, settings),
            nars: client(access, settings),
            bucket: access.bucket.to_owned(),
            prefix: access.prefix.to_owned(),
            deadlines: Deadlines::of(settings),
            clock,
            seen: Mutex::new(None),
        }
    }

    /// One GET, no stat first.
    pub async fn get(&self, key: &str, ask: &Ask) -> Result<Option<Got>, OriginError> {
        let request = self
            .client(ask.class)
            .get_object()
            .bucket(&self.bucket)
            .key(self.place(key))
            .set_range(ask.range.map(range_header))
            .set_if_match(ask.if_match.as_ref().map(ETag::to_header))
            .set_if_none_match(ask.if_none_match.as_ref().map(ETag::to_header));
        let after = self.deadlines.first_byte(ask.class);
        let output = match within(after, Wait::FirstByte, key, request.send()).await? {
            Ok(output) => output,
            Err(error) => {
                return match self.heard(judge(key, &self.bucket, &error)) {
                    Said::NoSuchKey => Ok(None),
                    Said::NotModified if ask.if_none_match.is_some() => Ok(Some(Got::NotModified)),
                    Said::NotModified => Err(unasked(key, 304)),
                    Said::NotFound => Err(OriginError::Garbage {
                        key: key.to_owned(),
                        why: "a 404 that does not say NoSuchKey".to_owned(),
                    }),
                    Said::Failed(cause) => Err(cause),
                };
            }
        };
        let (meta, range) = Head::of_get(&output).read(key, ask)?;
        self.bucket_is_there();
        Ok(Some(Got::Object(Opened {
            meta,
            range,
            body: Body::S3(Reader(output.body)),
        })))
    }

    /// A 404 to a HEAD has no body to say what is missing, the object or the whole bucket, so
    /// unless the bucket was seen of late, a GET of the first byte has to tell.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, OriginError> {
        let request = self
            .documents
            .head_object()
            .bucket(&self.bucket)
            .key(self.place(key));
        let after = self.deadlines.first_byte(Class::Document);
        let error = match within(after, Wait::FirstByte, key, request.send()).await? {
            Ok(output) => {
                let (meta, _) = Head::of_head(&output).read(key, &Ask::document())?;
                self.bucket_is_there();
                return Ok(Some(meta));
            }
            Err(error) => error,
        };
        match self.heard(judge(key, &self.bucket, &error)) {
            Said::NotFound | Said::NoSuchKey if self.bucket_was_seen() => Ok(None),
            Said::NotFound | Said::NoSuchKey => match self.get(key, &first_byte_of()).await? {
                None => Ok(None),
                Some(Got::Object(opened)) => Ok(Some(opened.meta)),
                Some(Got::NotModified) => Err(unasked(key, 304)),
            },
            Said::NotModified => Err(unasked(key, 304)),
            Said::Failed(cause) => Err(cause),
        }
    }

    /// One PUT with a known length. Its acknowledgement means that the object is durable.
    pub async fn put(
        &self,
        key: &str,
        body: &StoreBody,
        about: &StoreFacts,
    ) -> Result<Stored, OriginError> {
        let progress = Progress::of(body.len());
        let request = self
            .client(upload_class(body))
            .put_object()
            .bucket(&self.bucket)
            .key(self.place(key))
            .content_length(body.len().try_into().unwrap_or(i64::MAX))
            .set_content_type(about.content_type.clone())
            .set_content_encoding(about.content_encoding.clone())
            .set_if_none_match(about.create_only.then(|| "*".to_owned()))
            .body(upload::body(body, &progress));
        match while_it_moves(self.deadlines, key, &progress, request.send()).await? {
            Ok(output) => {
                self.bucket_is_there();
                Ok(Stored {
                    etag: acknowledged(key, output.e_tag())?,
                    existed: false,
                })
            }
            Err(error) => match self.heard(judge(key, &self.bucket, &error)) {
                Said::Failed(OriginError::PreconditionFailed { .. }) if about.create_only => {
                    Ok(Stored {
                        etag: None,
                        existed: true,
                    })
                }
                Said::Failed(cause) => Err(upload::blame(&error, cause)),
                Said::NotModified => Err(unasked(key, 304)),
                Said::NoSuchKey | Said::NotFound => Err(unasked(key, 404)),
            },
        }
    }

    /// One DELETE.
    pub async fn delete(&self, key: &str) -> Result<(), OriginError> {
        let request = self
            .documents
            .delete_object()
            .bucket(&self.bucket)
            .key(self.place(key));
        let after = self.deadlines.first_byte(Class::Document);
        match within(after, Wait::FirstByte, key, request.send()).await? {
            Ok(_) => Ok(()),
            Err(error) => match self.heard(judge(key, &self.bucket, &error)) {
                Said::NoSuchKey => Ok(()),
                Said::Failed(cause) => Err(cause),
                Said::NotModified => Err(unasked(key, 304)),
                Said::NotFound => Err(unasked(key, 404)),
            },
        }
    }

    /// Whether keys may be listed. Without that right S3 answers 403 instead of 404 for an object
    /// that is not there (S3 API, GetObject, "Permissions"), and absence can never be told.
    pub async fn list(&self) -> Result<(), OriginError> {
        const WHAT: &str = "a list of keys";
        let request = self
            .documents
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(&self.prefix)
            .max_keys(1);
        let after = self.deadlines.first_byte(Class::Nar);
        match within(after, Wait::FirstByte, WHAT, request.send()).await? {
            Ok(_) => Ok(()),
            Err(error) => match self.heard(judge(WHAT, &self.bucket, &error)) {
                Said::Failed(cause) => Err(cause),
                Said::NotModified => Err(unasked(WHAT, 304)),
                Said::NoSuchKey | Said::NotFound => Err(unasked(WHAT, 404)),
            },
        }
    }

    fn client(&self, class: Class) -> &Client {
        match class {
            Class::Document => &self.documents,
            Class::Nar => &self.nars,
        }
    }

    fn place(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Notes what an answer tells about the bucket itself.
    fn heard(&self, said: Said) -> Said {
        match &said {
            Said::NoSuchKey
            | Said::NotModified
            | Said::Failed(
                OriginError::PreconditionFailed { .. } | OriginError::OutOfRange { .. },
            ) => self.bucket_is_there(),
            Said::Failed(OriginError::NoBucket { .. }) => *self.seen() = None,
            Said::NotFound | Said::Failed(_) => {}
        }
        said
    }

    fn bucket_is_there(&self) {
        *self.seen() = Some(self.clock.now());
    }

    fn bucket_was_seen(&self) -> bool {
        let now = self.clock.now();
        self.seen()
            .is_some_and(|at| now.saturating_duration_since(at) < BUCKET_SEEN)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.seen.lock().expect("no panic while the time is held")
    }
}

/// A body from S3.
pub struct Reader(ByteStream);

impl Reader {
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match self.0.next().await {
                None => return Ok(None),
                Some(Ok(piece)) if piece.is_empty() => continue,
                Some(Ok(piece)) => return Ok(Some(piece)),
                Some(Err(cause)) => return Err(chain(&cause)),
            }
        }
    }
}

/// An SDK client with connections of its own.
fn client(access: &Access<'_>, settings: &config::Bucket) -> Client {
    let secret = access.secret.expose_secret();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(settings.connect_timeout)
        .build();
    let region = Region::new(access.region.to_owned());
    let place = Place::find(access, &region).map(ResolveEndpoint::into_shared_resolver);
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(connections(settings, access.endpoint.scheme() == "https"))
        .endpoint_url(access.endpoint.as_str())
        .region(region)
        .force_path_style(true)
        .credentials_provider(Credentials::new(
            access.key_id,
            secret,
            None,
            None,
            "narwharf",
        ))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    config.set_endpoint_resolver(place);
    Client::from_conf(config.build())
}

/// A bounded pool: no more connections are open than slots are held, nor kept idle.
fn connections(settings: &config::Bucket, tls: bool) -> SharedHttpClient {
    // Reading the machine's certificates is for those who need them: it fails where there are none.
    let trusted = match tls {
        true => TrustStore::default(),
        false => TrustStore::empty(),
    };
    let context = TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .expect("a trust store without certificates of ours is always sound");
    aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(settings.max_requests.get())
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https()
}

fn range_header(range: RangeRequest) -> String {
    match range {
        RangeRequest::Closed { first, last } => format!("bytes={first}-{last}"),
        RangeRequest::From { first } => format!("bytes={first}-"),
        RangeRequest::Suffix { bytes } => format!("bytes=-{bytes}"),
    }
}

fn first_byte_of() -> Ask {
    Ask {
        range: Some(RangeRequest::Closed { first: 0, last: 0 }),
        ..Ask::document()
    }
}

/// The tag by which the bucket acknowledges a write. Every S3 sends one (S3 API, PutObject), so a 200
/// without it is somebody else's: a portal's page, a proxy's. Whether the object is there is in doubt.
fn acknowledged(key: &str, tag: Option<&str>) -> Result<Option<ETag>, OriginError> {
    match tag {
        Some(tag) => Ok(ETag::from_header(tag)),
        None => Err(OriginError::Garbage {
            key: key.to_owned(),
            why: "a write was acknowledged without an ETag".to_owned(),
        }),
    }
}

/// An answer to a question that was not put.
fn unasked(key: &str, status: u16) -> OriginError {
    OriginError::Garbage {
        key: key.to_owned(),
        why: format!("status {status} is no answer to this request"),
    }
}
