//! How answers look: their headers, and their bodies.

use std::time::Duration;

use actix_web::body::{BodyStream, SizedStream};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderName, HeaderValue, LAST_MODIFIED, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;

use crate::body::{Pieces, Reading};
use crate::gateway::error::UploadError;
use crate::gateway::served::{How, NarFacts};
use crate::metrics::labels::Source;
use crate::nix;
use crate::object::{self, ETag};
use crate::range::ByteRange;

use super::client::Client;
use super::error::{self, Refusal};
use super::past::Past;

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
    /// Where its body goes past the codec, if it does.
    pub past: Option<Past>,
}

impl Reply {
    /// An answer that no cache has a part in.
    pub fn own(response: HttpResponse) -> Self {
        Self {
            response,
            how: How::Own,
            source: Source::None,
            past: None,
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
    /// `Cache-Control` of what may be kept for so long. Made for each answer, so at the cost of one
    /// allocation.
    pub fn for_at_most(self, age: Duration) -> HeaderValue {
        let before = match self {
            Self::Public => "public, max-age=",
            Self::Private => "private, max-age=",
        };
        let mut digits = itoa::Buffer::new();
        let text = [before, digits.format(age.as_secs())].concat();
        shared(text.into()).expect("letters, digits and signs are visible ASCII")
    }

    /// `Cache-Control` of what may be kept and must be asked about each time.
    pub fn revalidated(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Public => "public, no-cache",
            Self::Private => "private, no-cache",
        })
    }
}

/// A small answer of our own making, true at this moment only.
pub fn text(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> HttpResponse {
    own(status, content_type, NO_STORE, body.into())
}

/// Cache info is made from settings, so it may be kept for an hour.
pub fn cache_info(body: Bytes, sharing: Sharing) -> HttpResponse {
    let cache = sharing.for_at_most(Duration::from_secs(3600));
    own(StatusCode::OK, nix::cache_info::CONTENT_TYPE, cache, body)
}

fn own(
    status: StatusCode,
    content_type: &'static str,
    cache: HeaderValue,
    body: Bytes,
) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CACHE_CONTROL, cache))
        .body(body)
}

/// What an answer about a document says besides its bytes.
#[derive(Debug)]
pub struct About<'a> {
    pub content_type: Option<&'a str>,
    /// Served where the uploader said none.
    pub fallback_type: &'static str,
    /// As it is stored. `None`: the bytes are as they are.
    pub content_encoding: Option<&'a str>,
    /// Whether that encoding is taken off for this client.
    pub decoded: bool,
    /// Of the stored bytes.
    pub tag: Option<&'a ETag>,
    /// As a header carries it.
    pub last_modified: Option<Bytes>,
    /// `Cache-Control`.
    pub cache: HeaderValue,
}

impl About<'_> {
    /// The tag of what this client gets. Two encodings of a document are two representations, and
    /// nobody keeps a tag for the decoded one.
    pub fn own_tag(&self) -> Option<&ETag> {
        self.tag.filter(|_| !self.decoded)
    }

    fn describe(&self, builder: &mut HttpResponseBuilder) {
        match self.content_type {
            Some(own) if own != self.fallback_type => builder.insert_header((CONTENT_TYPE, own)),
            _ => {
                builder.insert_header((CONTENT_TYPE, HeaderValue::from_static(self.fallback_type)))
            }
        };
        builder.insert_header((CACHE_CONTROL, &self.cache));
        if let Some(encoding) = self.content_encoding {
            builder.insert_header((VARY, "Accept-Encoding"));
            if !self.decoded {
                builder.insert_header((CONTENT_ENCODING, encoding));
            }
        }
        if let Some(tag) = self.own_tag() {
            insert_tag(builder, tag);
        }
        insert_date(builder, self.last_modified.as_ref());
    }
}

/// A document that is here.
pub fn document(about: &About<'_>, bytes: Bytes) -> HttpResponse {
    let mut builder = HttpResponse::Ok();
    about.describe(&mut builder);
    builder.body(bytes)
}

/// 304 to a condition on a document.
pub fn document_unchanged(about: &About<'_>) -> HttpResponse {
    let mut builder = HttpResponse::NotModified();
    about.describe(&mut builder);
    builder.finish()
}

/// A document too large to keep, as it comes. `len`: `None` where only its end will tell.
pub fn large_document(about: &About<'_>, len: Option<u64>, pieces: Pieces) -> HttpResponse {
    let mut builder = HttpResponse::Ok();
    about.describe(&mut builder);
    match len {
        Some(len) => builder.body(SizedStream::new(len, Reading::new(pieces))),
        None => builder.body(BodyStream::new(Reading::new(pieces))),
    }
}

/// What an answer about a NAR says whatever its status: GET and HEAD alike.
fn describe_nar(builder: &mut HttpResponseBuilder, facts: &NarFacts, sharing: Sharing) {
    builder.insert_header((CONTENT_TYPE, HeaderValue::from_static(NAR)));
    builder.insert_header((ACCEPT_RANGES, HeaderValue::from_static("bytes")));
    // Without a hash in the name nobody can promise that the bytes never change.
    let cache = match (facts.immutable, sharing) {
        (true, Sharing::Public) => "public, max-age=31536000, immutable",
        (true, Sharing::Private) => "private, max-age=31536000, immutable",
        (false, Sharing::Public) => "public, max-age=3600",
        (false, Sharing::Private) => "private, max-age=3600",
    };
    builder.insert_header((CACHE_CONTROL, HeaderValue::from_static(cache)));
    if let Some(tag) = &facts.tag {
        insert_tag(builder, tag);
    }
    let last_modified = facts.last_modified.map(object::http_date);
    insert_date(builder, last_modified.as_ref());
}

/// A NAR, whole or a piece of it. HEAD gets the same head, and pieces that nobody reads. `past`:
/// where the connection takes the pieces from; without, the codec is given their bytes.
pub fn nar(
    facts: &NarFacts,
    range: Option<ByteRange>,
    sharing: Sharing,
    pieces: Pieces,
    past: Option<&Past>,
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
    match past {
        Some(past) => builder.no_chunking(len).body(past.body(pieces, len)),
        None => builder.body(SizedStream::new(len, Reading::new(pieces))),
    }
}

/// 304 to a condition on a NAR.
pub fn nar_unchanged(facts: &NarFacts, sharing: Sharing) -> HttpResponse {
    let mut builder = HttpResponse::NotModified();
    describe_nar(&mut builder, facts, sharing);
    builder.finish()
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

fn insert_tag(builder: &mut HttpResponseBuilder, tag: &ETag) {
    if let Some(value) = shared(tag.to_shared()) {
        builder.insert_header((ETAG, value));
    }
}

fn insert_date(builder: &mut HttpResponseBuilder, date: Option<&Bytes>) {
    if let Some(value) = date.cloned().and_then(shared) {
        builder.insert_header((LAST_MODIFIED, value));
    }
}

/// A text as a header's value, without copying it. `None`: it is not visible ASCII.
fn shared(text: Bytes) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(text).ok()
}
