//! Answers about objects: what the gateway found becomes a whole, a piece, a 304 or a refusal.
//!
//! A document leaves as it is stored if the client can read its Content-Encoding, and decoded
//! otherwise; those are two representations, and only the stored one has a tag. A NAR leaves as it
//! is, always.

use actix_http::Request;
use actix_web::http::Method;
use actix_web::http::header::{IF_MATCH, IF_NONE_MATCH, RANGE};
use actix_web::{HttpMessage, HttpResponse};
use futures_util::stream::empty;

use crate::body::{Pieces, memory_pieces};
use crate::gateway::Encoding;
use crate::gateway::document::{Handover, Held, Page};
use crate::gateway::error::GatewayError;
use crate::gateway::served::{Answered, How};
use crate::lookup::Lookup;
use crate::metrics::labels::Source;
use crate::nix::key::{DocumentKey, DocumentKind, NarKey};
use crate::object::{self, ETag};
use crate::range::{ByteRange, RangeRequest};

use super::conditional::{self, Condition};
use super::error::Refusal;
use super::past::Past;
use super::reply::{self, About, Reply};
use super::{Front, Refused, negotiate};

impl Front {
    /// Answers GET and HEAD of a document.
    pub(super) async fn document(
        &self,
        request: &Request,
        key: &DocumentKey,
    ) -> Result<Reply, Refused> {
        let Answered { answer, how } = self.gateway.document(key).await;
        let response = match found(answer, how)? {
            Page::Held(held) => self.held(request, key, &held, how).await?,
            Page::Large(large) => Box::pin(self.large(request, key, &large, how)).await?,
        };
        Ok(Reply {
            response,
            how,
            source: how.document_source(),
            past: None,
        })
    }

    async fn held(
        &self,
        request: &Request,
        key: &DocumentKey,
        held: &Held,
        how: How,
    ) -> Result<HttpResponse, Refused> {
        let document = &held.document;
        let taken_off = taken_off(request, document.content_encoding.as_deref());
        let about = self.about(key, held, taken_off.is_some());
        if conditional_on(request, about.own_tag(), how)? == Condition::NotModified {
            return Ok(reply::document_unchanged(about));
        }
        let Some(encoding) = taken_off else {
            return Ok(reply::document(about, document.bytes.clone()));
        };
        // Once for its length, and to know that it can be, and then as the client takes it: a few
        // bytes may stand for many, and each slow client would hold them all, and not a window of them.
        let packed = &document.bytes;
        let measuring = Box::pin(encoding.decoded_len(packed.clone()));
        let len = measuring.await.map_err(|cause| {
            tracing::warn!(key = %key.object(), %cause, "a stored document cannot be decoded");
            Refused {
                refusal: Refusal::NotDecodable,
                how,
            }
        })?;
        let pieces = match *request.method() {
            Method::HEAD => nothing(),
            _ => encoding.decoding(memory_pieces(packed.clone())),
        };
        Ok(reply::document_in_pieces(about, Some(len), pieces))
    }

    /// `decoded`: its encoding is taken off for this client.
    pub(super) fn about<'a>(&self, key: &DocumentKey, held: &'a Held, decoded: bool) -> About<'a> {
        let document = &held.document;
        About {
            content_type: document.content_type.as_deref(),
            fallback_type: content_type(key.kind()),
            content_encoding: document.content_encoding.as_deref(),
            decoded,
            tag: Some(&held.tag),
            last_modified: held.last_modified.clone(),
            cache: self.sharing.for_at_most(self.gateway.remaining(held)),
        }
    }

    /// A document too large to keep goes by as it comes from the bucket, decoded on the way if it
    /// must be; damage or a bomb is then found too late for a status, and cuts the answer short.
    async fn large(
        &self,
        request: &Request,
        key: &DocumentKey,
        large: &Handover,
        how: How,
    ) -> Result<HttpResponse, Refused> {
        let meta = &large.meta;
        let taken_off = taken_off(request, meta.content_encoding.as_deref());
        let about = About {
            content_type: meta.content_type.as_deref(),
            fallback_type: content_type(key.kind()),
            content_encoding: meta.content_encoding.as_deref(),
            decoded: taken_off.is_some(),
            tag: meta.etag.as_ref(),
            last_modified: meta.last_modified.and_then(object::http_date),
            cache: self.sharing.revalidated(),
        };
        if conditional_on(request, about.own_tag(), how)? == Condition::NotModified {
            return Ok(reply::document_unchanged(about));
        }
        let len = taken_off.is_none().then_some(meta.len);
        if request.method() == Method::HEAD {
            return Ok(reply::document_in_pieces(about, len, nothing()));
        }
        let pieces = self.gateway.large_pieces(key, large).await;
        let pieces = pieces.map_err(|cause| Refused {
            refusal: Refusal::Unknown(cause),
            how,
        })?;
        let pieces = match taken_off {
            None => pieces,
            Some(encoding) => encoding.decoding(pieces),
        };
        Ok(reply::document_in_pieces(about, len, pieces))
    }

    /// Answers GET and HEAD of a NAR.
    pub(super) async fn nar(&self, request: &Request, key: &NarKey) -> Result<Reply, Refused> {
        if request.method() == Method::HEAD {
            let Answered { answer, how } = Box::pin(self.gateway.head_nar(key)).await;
            let facts = found(answer, how)?;
            let response = match conditional_on(request, facts.tag.as_ref(), how)? {
                Condition::NotModified => reply::nar_unchanged(&facts, self.sharing),
                Condition::Proceed | Condition::Failed => {
                    let range = asked_range(request, facts.tag.as_ref(), facts.len, how)?;
                    reply::nar(&facts, range, self.sharing, nothing(), None)
                }
            };
            return Ok(Reply {
                response,
                how,
                source: Source::None,
                past: None,
            });
        }
        let Answered { answer, how } = self.gateway.nar(key).await;
        let nar = found(answer, how)?;
        let (facts, source) = (nar.facts.clone(), nar.source());
        let past = request.conn_data().map(Past::by);
        let response = match conditional_on(request, facts.tag.as_ref(), how)? {
            Condition::NotModified => reply::nar_unchanged(&facts, self.sharing),
            Condition::Proceed | Condition::Failed => {
                let range = asked_range(request, facts.tag.as_ref(), facts.len, how)?;
                let pieces = self.gateway.nar_pieces(nar, range).await;
                let pieces = pieces.map_err(|cause| Refused {
                    refusal: Refusal::Unknown(cause),
                    how,
                })?;
                reply::nar(&facts, range, self.sharing, pieces, past.as_ref())
            }
        };
        Ok(Reply {
            response,
            how,
            source,
            past,
        })
    }
}

fn nothing() -> Pieces {
    Box::pin(empty())
}

/// The stored Content-Encoding that has to be taken off for this client. One that nobody here
/// knows stays on, whatever the client says.
fn taken_off(request: &Request, stored: Option<&str>) -> Option<Encoding> {
    let stored = stored?;
    if negotiate::accepts_encoding(request.headers(), stored) {
        return None;
    }
    Encoding::parse(stored).ok().flatten()
}

fn found<T>(answer: Lookup<T, GatewayError>, how: How) -> Result<T, Refused> {
    match answer {
        Lookup::Found(value) => Ok(value),
        Lookup::Absent => Err(Refused {
            refusal: Refusal::Absent,
            how,
        }),
        Lookup::Unknown(cause) => Err(Refused {
            refusal: Refusal::Unknown(cause),
            how,
        }),
    }
}

fn conditional_on(request: &Request, tag: Option<&ETag>, how: How) -> Result<Condition, Refused> {
    let headers = request.headers();
    if !headers.contains_key(IF_MATCH) && !headers.contains_key(IF_NONE_MATCH) {
        return Ok(Condition::Proceed);
    }
    match conditional::judge(request, tag) {
        Condition::Failed => Err(Refused {
            refusal: Refusal::PreconditionFailed,
            how,
        }),
        other => Ok(other),
    }
}

/// The piece that is asked for; `None`: the whole.
fn asked_range(
    request: &Request,
    tag: Option<&ETag>,
    len: u64,
    how: How,
) -> Result<Option<ByteRange>, Refused> {
    let mut values = request.headers().get_all(RANGE);
    let (Some(value), None) = (values.next(), values.next()) else {
        return Ok(None);
    };
    let Some(asked) = value.to_str().ok().and_then(RangeRequest::parse) else {
        return Ok(None);
    };
    if !conditional::may_range(request, tag) {
        return Ok(None);
    }
    asked.within(len).map(Some).map_err(|unmet| Refused {
        refusal: Refusal::Unsatisfiable(unmet),
        how,
    })
}

/// What a document is served as when its uploader did not say.
fn content_type(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Narinfo => "text/x-nix-narinfo",
        DocumentKind::Log => "text/plain; charset=utf-8",
        DocumentKind::Listing
        | DocumentKind::Realisation
        | DocumentKind::BuildTrace
        | DocumentKind::DebugInfo => "application/json",
    }
}
