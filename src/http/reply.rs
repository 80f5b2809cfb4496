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
const NO_STORE: Value<'static> = Value::Static("no-store");

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
    /// `Cache-Control` of what may be kept for so long.
    pub fn for_at_most(self, age: Duration) -> Value<'static> {
        let before = match self {
            Self::Public => "public, max-age=",
            Self::Private => "private, max-age=",
        };
        Value::Counted(before, age.as_secs())
    }

    /// `Cache-Control` of what may be kept and must be asked about each time.
    pub fn revalidated(self) -> Value<'static> {
        Value::Static(match self {
            Self::Public => "public, no-cache",
            Self::Private => "private, no-cache",
        })
    }
}

/// A header field's value, on its way to wherever an answer is made.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Our own words.
    Static(&'static str),
    /// And a number behind them.
    Counted(&'static str, u64),
    /// Prepared for a header, and shared.
    Shared(&'a Bytes),
    /// Somebody else's words. What no header can carry is as if it had not been said.
    Text(&'a str),
}

/// Where the header fields of an answer are put.
pub trait Fields {
    fn put(&mut self, name: HeaderName, value: Value<'_>);
}

impl Fields for HeaderMap {
    fn put(&mut self, name: HeaderName, value: Value<'_>) {
        let value = match value {
            Value::Static(text) => Some(HeaderValue::from_static(text)),
            Value::Counted(before, number) => {
                let text = [before, itoa::Buffer::new().format(number)].concat();
                HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
            }
            Value::Shared(text) => HeaderValue::from_maybe_shared(text.clone()).ok(),
            Value::Text(text) => HeaderValue::from_str(text).ok(),
        };
        if let Some(value) = value {
            self.insert(name, value);
        }
    }
}

/// As they go over the wire, each behind the end of the line before.
impl Fields for Vec<u8> {
    fn put(&mut self, name: HeaderName, value: Value<'_>) {
        let before = self.len();
        self.extend_from_slice(b"\r\n");
        self.extend_from_slice(name.as_str().as_bytes());
        self.extend_from_slice(b": ");
        match value {
            Value::Static(text) => self.extend_from_slice(text.as_bytes()),
            Value::Counted(text, number) => {
                self.extend_from_slice(text.as_bytes());
                self.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
            Value::Shared(text) => self.extend_from_slice(text),
            Value::Text(text) if HeaderValue::from_str(text).is_ok() => {
                self.extend_from_slice(text.as_bytes());
            }
            Value::Text(_) => self.truncate(before),
        }
    }
}

/// A small answer of our own making, true at this moment only.
pub fn text(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> HttpResponse {
    let mut response = HttpResponse::with_body(status, BoxBody::new(body.into()));
    let fields = response.headers_mut();
    fields.put(CONTENT_TYPE, Value::Static(content_type));
    fields.put(CACHE_CONTROL, NO_STORE);
    response
}

/// Cache info is made from settings, so it may be kept for an hour.
pub fn cache_info(body: Bytes, sharing: Sharing) -> HttpResponse {
    let mut response = text(StatusCode::OK, nix::cache_info::CONTENT_TYPE, body);
    let cache = sharing.for_at_most(Duration::from_secs(3600));
    response.headers_mut().put(CACHE_CONTROL, cache);
    response
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
    pub cache: Value<'static>,
}

impl About<'_> {
    /// The tag of what this client gets. Two encodings of a document are two representations, and
    /// nobody keeps a tag for the decoded one.
    pub fn own_tag(&self) -> Option<&ETag> {
        self.tag.filter(|_| !self.decoded)
    }

    pub fn describe(&self, fields: &mut impl Fields) {
        put_tag(fields, self.own_tag());
        put_date(fields, self.last_modified.as_ref());
        let own = self.content_type.filter(|own| *own != self.fallback_type);
        let own = own.filter(|own| HeaderValue::from_str(own).is_ok());
        let fallback = Value::Static(self.fallback_type);
        fields.put(CONTENT_TYPE, own.map_or(fallback, Value::Text));
        fields.put(CACHE_CONTROL, self.cache);
        if let Some(encoding) = self.content_encoding {
            fields.put(VARY, Value::Static("Accept-Encoding"));
            if !self.decoded {
                fields.put(CONTENT_ENCODING, Value::Text(encoding));
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

/// A document as it comes: too large to keep, or decoded on its way. `len`: `None` where only its end will
/// tell.
pub fn document_in_pieces(about: About<'_>, len: Option<u64>, pieces: Pieces) -> HttpResponse {
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
    about.describe(response.headers_mut());
    response
}

/// What an answer about a NAR says whatever its status: GET and HEAD alike.
pub fn describe_nar(fields: &mut impl Fields, facts: &NarFacts, sharing: Sharing) {
    put_tag(fields, facts.tag.as_ref());
    put_date(
        fields,
        facts.last_modified.and_then(object::http_date).as_ref(),
    );
    fields.put(CONTENT_TYPE, Value::Static(NAR));
    fields.put(ACCEPT_RANGES, Value::Static("bytes"));
    // Without a hash in the name nobody can promise that the bytes never change.
    let cache = match (facts.immutable, sharing) {
        (true, Sharing::Public) => "public, max-age=31536000, immutable",
        (true, Sharing::Private) => "private, max-age=31536000, immutable",
        (false, Sharing::Public) => "public, max-age=3600",
        (false, Sharing::Private) => "private, max-age=3600",
    };
    fields.put(CACHE_CONTROL, Value::Static(cache));
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
    let mut response = HttpResponse::with_body(status, BoxBody::new(line(refusal, request_id)));
    let fields = response.headers_mut();
    describe_text(fields);
    if about_nar {
        // Nix resumes a download only if the last answer, an error included, promised ranges.
        fields.put(ACCEPT_RANGES, Value::Static("bytes"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        fields.put(RETRY_AFTER, Value::Static(error::RETRY_AFTER));
    }
    if status == StatusCode::UNAUTHORIZED {
        fields.put(WWW_AUTHENTICATE, Value::Static("Basic realm=\"narwharf\""));
    }
    match refusal {
        Refusal::Unsatisfiable(unmet) => {
            fields.put(CONTENT_RANGE, Value::Counted("bytes */", unmet.len));
        }
        Refusal::Method { allow } | Refusal::UploadsOff { allow } => {
            fields.put(ALLOW, Value::Static(allow));
        }
        _ => {}
    }
    response
}

/// What a refusal says.
pub fn line(refusal: &Refusal, request_id: &str) -> String {
    format!("{refusal} ({request_id})\n")
}

/// What a line of our own says of itself: it is true at this moment only.
pub fn describe_text(fields: &mut impl Fields) {
    fields.put(CONTENT_TYPE, Value::Static(TEXT));
    fields.put(CACHE_CONTROL, NO_STORE);
}

fn put_tag(fields: &mut impl Fields, tag: Option<&ETag>) {
    if let Some(tag) = tag {
        fields.put(ETAG, Value::Shared(tag.shared()));
    }
}

fn put_date(fields: &mut impl Fields, date: Option<&Bytes>) {
    if let Some(date) = date {
        fields.put(LAST_MODIFIED, Value::Shared(date));
    }
}
