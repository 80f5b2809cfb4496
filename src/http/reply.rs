//! How answers look: their headers, and their bodies.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodyStream, BoxBody, MessageBody, SizedStream};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, RETRY_AFTER, VARY,
    WWW_AUTHENTICATE,
};
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

    fn describe(self, response: &mut HttpResponse) {
        let headers = response.headers_mut();
        insert_tag(headers, self.own_tag());
        insert_date(headers, self.last_modified);
        // What an uploader said and no header can carry is as if it had said nothing.
        let own = self.content_type.filter(|own| *own != self.fallback_type);
        let own = own.and_then(|own| HeaderValue::from_str(own).ok());
        let fallback = || HeaderValue::from_static(self.fallback_type);
        headers.insert(CONTENT_TYPE, own.unwrap_or_else(fallback));
        headers.insert(CACHE_CONTROL, self.cache);
        if let Some(encoding) = self.content_encoding {
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
            let encoding = HeaderValue::from_str(encoding).ok();
            if let Some(encoding) = encoding.filter(|_| !self.decoded) {
                headers.insert(CONTENT_ENCODING, encoding);
            }
        }
    }
}

/// A document that is here.
pub fn document(about: About<'_>, bytes: Bytes) -> HttpResponse {
    described(about, StatusCode::OK, bytes)
}

/// 304 to a condition on a document.
pub fn document_unchanged(about: About<'_>) -> HttpResponse {
    described(
        about,
        StatusCode::NOT_MODIFIED,
        actix_web::body::None::new(),
    )
}

/// A document too large to keep, as it comes. `len`: `None` where only its end will tell.
pub fn large_document(about: About<'_>, len: Option<u64>, pieces: Pieces) -> HttpResponse {
    match len {
        Some(len) => {
            let body = SizedStream::new(len, Reading::new(pieces));
            described(about, StatusCode::OK, body)
        }
        None => described(about, StatusCode::OK, BodyStream::new(Reading::new(pieces))),
    }
}

fn described(
    about: About<'_>,
    status: StatusCode,
    body: impl MessageBody + 'static,
) -> HttpResponse {
    let mut response = HttpResponse::with_body(status, BoxBody::new(body));
    about.describe(&mut response);
    response
}

/// What an answer about a NAR says whatever its status: GET and HEAD alike.
fn describe_nar(headers: &mut HeaderMap, facts: &NarFacts, sharing: Sharing) {
    insert_tag(headers, facts.tag.as_ref());
    insert_date(headers, facts.last_modified.map(object::http_date));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(NAR));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Without a hash in the name nobody can promise that the bytes never change.
    let cache = match (facts.immutable, sharing) {
        (true, Sharing::Public) => "public, max-age=31536000, immutable",
        (true, Sharing::Private) => "private, max-age=31536000, immutable",
        (false, Sharing::Public) => "public, max-age=3600",
        (false, Sharing::Private) => "private, max-age=3600",
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
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
    let status = match range {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    };
    let len = range.map_or(facts.len, ByteRange::size);
    let body = match past {
        Some(past) => BoxBody::new(past.body(pieces, len)),
        None => BoxBody::new(SizedStream::new(len, Reading::new(pieces))),
    };
    let mut response = HttpResponse::with_body(status, body);
    if past.is_some() {
        // Of such a body the codec sees no byte, and could not tell its length.
        response.head_mut().no_chunking(true);
        response.headers_mut().insert(CONTENT_LENGTH, len.into());
    }
    describe_nar(response.headers_mut(), facts, sharing);
    if let Some(range) = range {
        let value = HeaderValue::try_from(range.content_range(facts.len));
        let value = value.expect("digits and signs are visible ASCII");
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
    response
}

/// 304 to a condition on a NAR.
pub fn nar_unchanged(facts: &NarFacts, sharing: Sharing) -> HttpResponse {
    let mut response = HttpResponse::new(StatusCode::NOT_MODIFIED);
    describe_nar(response.headers_mut(), facts, sharing);
    response
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

fn insert_tag(headers: &mut HeaderMap, tag: Option<&ETag>) {
    if let Some(value) = tag.and_then(|tag| shared(tag.to_shared())) {
        headers.insert(ETAG, value);
    }
}

fn insert_date(headers: &mut HeaderMap, date: Option<Bytes>) {
    if let Some(value) = date.and_then(shared) {
        headers.insert(LAST_MODIFIED, value);
    }
}

/// A text as a header's value, without copying it. `None`: it is not visible ASCII.
fn shared(text: Bytes) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(text).ok()
}
