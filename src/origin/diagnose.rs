//! Looks at the bucket for `narwharf check`, and says in one line each what is wrong and what to do.
//!
//! One step after the other, each once and without retries; what makes the next ones pointless ends
//! the list. The last step writes a small object under a name that no client can ask for, reads it
//! back and removes it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::ask::{Ask, StoreBody, StoreFacts};
use super::bucket::wait::within;
use super::bucket::{Bucket, Got};
use super::error::{OriginError, Wait};
use super::limit::Slot;
use crate::clock::Clock;
use crate::config::{self, BucketKind, Finding};

/// Looks whether the bucket can be reached, read, listed and written with these settings.
pub async fn diagnose(settings: &config::Bucket) -> Vec<Finding> {
    let place = place(settings);
    let bucket = match Bucket::open(settings, Clock::default()) {
        Ok(bucket) => bucket,
        Err(cause) => {
            let advice = "make the directory, or set bucket.path to one that can be made";
            return vec![failed("bucket", format!("{cause}; {advice}"))];
        }
    };
    let slot = Slot::alone();
    let mut findings = Vec::new();
    match bucket.get(super::PROBED, &Ask::document(), &slot).await {
        Ok(_) | Err(OriginError::OutOfRange { .. }) => {
            findings.push(ok("bucket readable", place));
        }
        Err(cause) => {
            let what = if matches!(cause, OriginError::Refused { .. }) {
                "bucket credentials"
            } else {
                "bucket reachable"
            };
            findings.push(failed(what, advise(&cause, settings)));
            return findings;
        }
    }
    if let Bucket::S3(s3) = &bucket {
        findings.push(match s3.list().await {
            Ok(()) => ok(
                "bucket listable",
                "absent objects can be told from forbidden ones",
            ),
            Err(cause) => failed("bucket listable", advise(&cause, settings)),
        });
    }
    let idle = settings.idle_timeout;
    findings.push(match round_trip(&bucket, &slot, idle).await {
        Ok(()) => ok("bucket writable", "a small object was written, read back and removed"),
        Err(Trip::Failed(cause)) => failed("bucket writable", advise(&cause, settings)),
        Err(Trip::Differs) => failed(
            "bucket writable",
            "the object read back is not the one that was written; something between narwharf and the bucket changes bodies",
        ),
    });
    findings
}

/// Why the round trip was none.
enum Trip {
    Failed(OriginError),
    Differs,
}

impl From<OriginError> for Trip {
    fn from(cause: OriginError) -> Self {
        Self::Failed(cause)
    }
}

async fn round_trip(bucket: &Bucket, slot: &Slot, idle: Duration) -> Result<(), Trip> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let key = format!("narwharf-check-{:x}", now.as_nanos());
    let written = Bytes::from(format!("narwharf check, {} s since 1970\n", now.as_secs()));
    let about = StoreFacts {
        content_type: Some("text/plain".to_owned()),
        ..StoreFacts::default()
    };
    let body = StoreBody::Bytes(written.clone());
    bucket.put(&key, &body, &about, slot).await?;
    let read = read_back(bucket, &key, slot, written.len() as u64, idle).await;
    bucket.delete(&key, slot).await?;
    match read? {
        Some(read) if read == written => Ok(()),
        _ => Err(Trip::Differs),
    }
}

async fn read_back(
    bucket: &Bucket,
    key: &str,
    slot: &Slot,
    len: u64,
    idle: Duration,
) -> Result<Option<Vec<u8>>, OriginError> {
    let Some(Got::Object(mut opened)) = bucket.get(key, &Ask::document(), slot).await? else {
        return Ok(None);
    };
    if opened.meta.len != len {
        return Ok(None);
    }
    let mut read = Vec::new();
    while (read.len() as u64) < len {
        let next = opened.body.next(len - read.len() as u64);
        let next = within(idle, Wait::NextByte, key, next).await?;
        let piece = next.map_err(|cause| OriginError::Broken {
            key: key.to_owned(),
            received: read.len() as u64,
            expected: len,
            cause,
        })?;
        match piece {
            Some(piece) => read.extend_from_slice(&piece),
            None => return Ok(None),
        }
    }
    Ok(Some(read))
}

fn place(settings: &config::Bucket) -> String {
    match &settings.kind {
        BucketKind::Directory { path } => path.display().to_string(),
        BucketKind::S3 { endpoint, name, .. } => format!("{name} at {endpoint}"),
    }
}

/// What happened, and what to do about it.
fn advise(cause: &OriginError, settings: &config::Bucket) -> String {
    let advice = match cause {
        OriginError::Connect { cause, .. } => of_connection(cause),
        OriginError::Timeout { .. } => {
            "it took the connection and said nothing: is bucket.endpoint an S3 server, and the line up?"
        }
        OriginError::Refused { status, code, .. } => of_refusal(*status, code),
        OriginError::NoBucket { .. } => match settings.kind {
            BucketKind::S3 { .. } => "create it, or correct bucket.name",
            BucketKind::Directory { .. } => "is its disk mounted?",
        },
        OriginError::Garbage { .. } => {
            "this is no S3 server: bucket.endpoint is wrong, or a proxy stands in between"
        }
        OriginError::Server { status, code, .. } => of_status(*status, code),
        OriginError::Throttled { .. } => "wait a little and check again",
        OriginError::Disk { .. } => {
            "check the owner and mode of bucket.path, and that its disk is well and has room"
        }
        OriginError::Broken { .. } => "the connection does not last: check the line and any proxy",
        OriginError::PreconditionFailed { .. }
        | OriginError::OutOfRange { .. }
        | OriginError::NoUpload { .. }
        | OriginError::BadUpload { .. }
        | OriginError::BreakerOpen { .. }
        | OriginError::NoRetryLeft { .. }
        | OriginError::Busy { .. } => "check again",
    };
    format!("{cause}; {advice}")
}

/// The words are those of the resolver, the kernel and rustls.
fn of_connection(cause: &str) -> &'static str {
    let cause = cause.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    if says(&["dns", "lookup address", "resolve"]) {
        "the host of bucket.endpoint is unknown: correct it, or the resolver"
    } else if says(&["refused"]) {
        "nothing listens there: correct the host and port of bucket.endpoint"
    } else if says(&["certificate", "unknownissuer"]) {
        "its certificate is not trusted here: correct bucket.endpoint, or install the authority's certificate"
    } else if says(&["tls", "invalidcontenttype", "corrupt message", "handshake"]) {
        "it does not speak TLS: should bucket.endpoint begin with http://?"
    } else if says(&["timed out", "timeout"]) {
        "nothing answers there: correct bucket.endpoint, or a firewall drops the packets"
    } else {
        "correct bucket.endpoint, or see what stands between"
    }
}

/// Codes: S3 API, "Error responses"; R2 answers an unknown key id with 401 `Unauthorized`.
fn of_refusal(status: u16, code: &str) -> &'static str {
    match (status, code) {
        (_, "SignatureDoesNotMatch") => {
            "bucket.secret_access_key is not the secret of bucket.access_key_id"
        }
        (401, _) | (_, "InvalidAccessKeyId") => {
            "bucket.access_key_id is unknown there: correct it, or make a new token"
        }
        (_, "RequestTimeTooSkewed") => "the clock of this machine is wrong: set it",
        (_, "ExpiredToken") => "the token has expired: make a new one",
        (_, "NotImplemented" | "MethodNotAllowed") => "the server does not offer this operation",
        _ => "the token lacks this right: it needs to read, list and write objects of this bucket",
    }
}

fn of_status(status: u16, code: &str) -> &'static str {
    match (status, code) {
        (400, "AuthorizationHeaderMalformed" | "InvalidRegionName") => "correct bucket.region",
        (300..=399, _) => "the bucket lives elsewhere: correct bucket.endpoint and bucket.region",
        (400..=499, _) => "this may be no S3 server: correct bucket.endpoint",
        _ => "the server is in trouble: see its status page and check again",
    }
}

fn ok(what: &str, seen: impl Into<String>) -> Finding {
    Finding {
        what: what.to_owned(),
        outcome: Ok(seen.into()),
    }
}

fn failed(what: &str, why: impl Into<String>) -> Finding {
    Finding {
        what: what.to_owned(),
        outcome: Err(why.into()),
    }
}
