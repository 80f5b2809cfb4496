//! How answers look: their headers, and their bodies.

use std::time::{Duration, SystemTime};

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderName, HeaderValue, HttpDate, LAST_MODIFIED, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;

use crate::body::{Pieces, Reading};
use crate::gateway::error::UploadError;
use crate::gateway::served::{How, NarFacts};
use crate::metrics::labels::Source;
use crate::nix;
use crate::object::{Document, ETag, ObjectMeta};
use crate::range::ByteRange;

use super::client::Client;
use super::error::{self, Refusal};

pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub const TEXT: &str = "text/plain; charset=utf-8";
const NAR: &str = "application/x-nix-nar";
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// An answer, and what the log and the metrics want to know of it.
#[derive(Debug)]
pub struct Reply {
    pub response: HttpResponse,
    pub how: How,
    pub source: Source,
}

impl Reply {
    /// An answer that no cache has a part in.
    pub fn own(response: HttpResponse) -> Self {
        Self {
            response,
            how: How::Own,
            source: Source::None,
        }
    }
}

/// Who may keep an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    Public,
    /// `auth.public_reads = false` (`design.md` §10.14).
    Private,
}

impl Sharing {
    fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }

    fn for_at_most(self, age: Duration) -> String {
        format!("{}, max-age={}", self.word(), age.as_secs())
    }
}

/// A small answer of our own making.
pub fn text(
    status: StatusCode,
    content_type: &'static str,
    cache: &str,
    body: impl Into<Bytes>,
) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CACHE_CONTROL, cache))
        .body(body.into())
}

/// Cache info is made from settings, so it may be kept for an hour.
pub fn cache_info(body: Bytes, sharing: Sharing) -> HttpResponse {
    let cache = sharing.for_at_most(Duration::from_secs(3600));
    text(StatusCode::OK, nix::cache_info::CONTENT_TYPE, &cache, body)
}

/// A document with the bytes it came with, or with those `decoded` from them.
pub fn document(
    document: &Document,
    tag: &ETag,
    decoded: Option<Bytes>,
    remaining: Duration,
    sharing: Sharing,
    fallback_type: &'static str,
) -> HttpResponse {
    let mut builder = HttpResponse::Ok();
    describe_document(
        &mut builder,
        document,
        tag,
        decoded.is_none(),
        remaining,
        sharing,
        fallback_type,
    );
    builder.body(decoded.unwrap_or_else(|| document.bytes.clone()))
}

/// 304 to a condition on a document.
pub fn document_unchanged(
    document: &Document,
    tag: &ETag,
    remaining: Duration,
    sharing: Sharing,
    fallback_type: &'static str,
) -> HttpResponse {
    let mut builder = HttpResponse::NotModified();
    describe_document(
        &mut builder,
        document,
        tag,
        true,
        remaining,
        sharing,
        fallback_type,
    );
    builder.finish()
}

fn describe_document(
    builder: &mut HttpResponseBuilder,
    document: &Document,
    tag: &ETag,
    as_stored: bool,
    remaining: Duration,
    sharing: Sharing,
    fallback_type: &'static str,
) {
    builder.insert_header((
        CONTENT_TYPE,
        document.content_type.as_deref().unwrap_or(fallback_type),
    ));
    builder.insert_header((CACHE_CONTROL, sharing.for_at_most(remaining)));
    if let Some(encoding) = &document.content_encoding {
        builder.insert_header((VARY, "Accept-Encoding"));
        if as_stored {
            builder.insert_header((CONTENT_ENCODING, encoding.as_str()));
        }
    }
    // Two encodings of a document are two representations, so only the stored one has its tag.
    if as_stored {
        builder.insert_header((ETAG, tag.to_header()));
    }
    insert_date(builder, document.last_modified);
}

/// What an answer about a NAR says whatever its status: GET and HEAD alike.
fn describe_nar(builder: &mut HttpResponseBuilder, facts: &NarFacts, sharing: Sharing) {
    builder.insert_header((CONTENT_TYPE, NAR));
    builder.insert_header((ACCEPT_RANGES, "bytes"));
    let word = sharing.word();
    // Without a hash in the name nobody can promise that the bytes never change.
    builder.insert_header((
        CACHE_CONTROL,
        if facts.immutable {
            format!("{word}, max-age=31536000, immutable")
        } else {
            format!("{word}, max-age=3600")
        },
    ));
    if let Some(tag) = &facts.tag {
        builder.insert_header((ETAG, tag.to_header()));
    }
    insert_date(builder, facts.last_modified);
}

/// A NAR, whole or a piece of it. HEAD gets the same head, and pieces that nobody reads.
pub fn nar(
    facts: &NarFacts,
    range: Option<ByteRange>,
    sharing: Sharing,
    pieces: Pieces,
) -> HttpResponse {
    let mut builder = HttpResponse::build(match range {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    });
    describe_nar(&mut builder, facts, sharing);
    if let Some(range) = range {
        builder.insert_header((CONTENT_RANGE, range.content_range(facts.len)));
    }
    let len = range.map_or(facts.len, ByteRange::size);
    builder.body(SizedStream::new(len, Reading::new(pieces)))
}

/// 304 to a condition on a NAR.
pub fn nar_unchanged(facts: &NarFacts, sharing: Sharing) -> HttpResponse {
    let mut builder = HttpResponse::NotModified();
    describe_nar(&mut builder, facts, sharing);
    builder.finish()
}

/// A document too large to keep, as it comes from the bucket.
pub fn large_document(
    meta: &ObjectMeta,
    sharing: Sharing,
    fallback_type: &'static str,
    pieces: Pieces,
) -> HttpResponse {
    let mut builder = HttpResponse::Ok();
    builder.insert_header((
        CONTENT_TYPE,
        meta.content_type.as_deref().unwrap_or(fallback_type),
    ));
    builder.insert_header((CACHE_CONTROL, format!("{}, no-cache", sharing.word())));
    if let Some(encoding) = &meta.content_encoding {
        builder.insert_header((CONTENT_ENCODING, encoding.as_str()));
        builder.insert_header((VARY, "Accept-Encoding"));
    }
    if let Some(tag) = &meta.etag {
        builder.insert_header((ETAG, tag.to_header()));
    }
    insert_date(&mut builder, meta.last_modified);
    builder.body(SizedStream::new(meta.len, Reading::new(pieces)))
}

/// A refusal: its status, one line of text, and the headers that go with it.
pub fn refusal(
    refusal: &Refusal,
    client: Client,
    request_id: &str,
    about_nar: bool,
) -> HttpResponse {
    let status = refusal.status(client);
    let mut builder = HttpResponse::build(status);
    builder
        .insert_header((CONTENT_TYPE, TEXT))
        .insert_header((CACHE_CONTROL, NO_STORE));
    if about_nar {
        // Nix resumes a download only if the last answer, an error included, promised ranges.
        builder.insert_header((ACCEPT_RANGES, "bytes"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        builder.insert_header((RETRY_AFTER, error::RETRY_AFTER));
    }
    if status == StatusCode::UNAUTHORIZED {
        builder.insert_header((WWW_AUTHENTICATE, "Basic realm=\"narwharf\""));
    }
    match refusal {
        Refusal::Unsatisfiable(unmet) => {
            builder.insert_header((CONTENT_RANGE, format!("bytes */{}", unmet.len)));
        }
        Refusal::Method { allow } => {
            builder.insert_header((ALLOW, *allow));
        }
        Refusal::Upload(UploadError::Disabled) => {
            builder.insert_header((ALLOW, super::READ_METHODS));
        }
        _ => {}
    }
    builder.body(format!("{refusal} ({request_id})\n"))
}

fn insert_date(builder: &mut HttpResponseBuilder, date: Option<SystemTime>) {
    if let Some(date) = date {
        builder.insert_header((LAST_MODIFIED, HttpDate::from(date)));
    }
}
