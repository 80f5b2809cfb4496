//! GET and HEAD: what is asked for, conditions and ranges applied, and the answer to it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::http::header::{HeaderMap, IF_MATCH, IF_NONE_MATCH, RANGE};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;

use crate::gateway::Encoding;
use crate::gateway::document::Page;
use crate::gateway::error::GatewayError;
use crate::gateway::served::{Answered, How};
use crate::lookup::Lookup;
use crate::metrics::labels::Source;
use crate::nix::key::{DocumentKey, DocumentKind, Key, NarKey};
use crate::object::{Document, ETag};
use crate::range::{ByteRange, RangeRequest};

use super::auth::{self, Denied, Scope};
use super::conditional::{self, Condition};
use super::error::Refusal;
use super::reply::{self, Reply};
use super::routes::{Route, Routed};
use super::{Front, Refused, negotiate};

/// How long `/ready` waits for the bucket's sign of life.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

impl Front {
    /// Answers a read of any route, once it is authorised.
    pub(super) async fn read(
        &self,
        request: &HttpRequest,
        routed: Routed,
    ) -> Result<Reply, Refused> {
        let open = matches!(routed.route, Route::Health | Route::Ready | Route::Metrics);
        if !open {
            let allowed =
                self.authorise(&routed, request.headers(), Scope::Read, request.peer_addr());
            allowed.map_err(Refused::plainly)?;
        }
        match routed.route {
            Route::Home if negotiate::wants_html(request.headers()) => {
                Ok(Reply::own(self.pages.home()))
            }
            Route::Home | Route::CacheInfo => Ok(Reply::own(self.pages.cache_info())),
            Route::Health => Ok(Reply::own(self.pages.health(&self.clock))),
            Route::Ready => Ok(Reply::own(self.ready().await)),
            Route::Metrics => self
                .metrics_page(request.headers())
                .map(Reply::own)
                .map_err(Refused::plainly),
            Route::Object(Key::Document(key)) => self.document(request, &key).await,
            Route::Object(Key::Nar(key)) => self.nar(request, &key).await,
        }
    }

    async fn ready(&self) -> HttpResponse {
        // A bucket that does not answer in time is shown as it was last seen.
        let _ = tokio::time::timeout(PROBE_PATIENCE, self.gateway.feel_pulse(true)).await;
        let draining = self.draining.load(Ordering::Relaxed);
        self.pages
            .ready(&self.gateway.readiness(), draining, &self.clock)
    }

    pub(super) fn metrics_page(&self, headers: &HeaderMap) -> Result<HttpResponse, Refusal> {
        if let Some(token) = &self.metrics_token {
            let denied = |denied| Refusal::Denied {
                denied,
                scope: Scope::Read,
            };
            let shown = auth::shown(headers).map_err(denied)?;
            if !bool::from(shown.as_bytes().ct_eq(token.expose_secret().as_bytes())) {
                return Err(denied(Denied::Unknown));
            }
        }
        let text = self.metrics.render();
        Ok(reply::text(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            "no-store",
            text,
        ))
    }

    async fn document(&self, request: &HttpRequest, key: &DocumentKey) -> Result<Reply, Refused> {
        let Answered { answer, how } = self.gateway.document(key).await;
        let page = found(answer, how)?;
        let fallback_type = content_type(key.kind());
        let response = match page {
            Page::Held(held) => {
                let remaining = self.gateway.remaining(&held);
                let decoded = self.decoded(request.headers(), &held.document).await;
                let decoded = decoded.map_err(|refusal| Refused { refusal, how })?;
                // A decoded document is another representation, and has no tag to compare.
                let tag = decoded.is_none().then_some(&held.tag);
                match conditional_on(request, tag, how)? {
                    Condition::NotModified => reply::document_unchanged(
                        &held.document,
                        &held.tag,
                        remaining,
                        self.sharing,
                        fallback_type,
                    ),
                    Condition::Proceed | Condition::Failed => reply::document(
                        &held.document,
                        &held.tag,
                        decoded,
                        remaining,
                        self.sharing,
                        fallback_type,
                    ),
                }
            }
            Page::Large(body) => {
                let pieces = self.gateway.large_pieces(key, &body).await;
                let pieces = pieces.map_err(|cause| Refused {
                    refusal: Refusal::Unknown(cause),
                    how,
                })?;
                reply::large_document(&body.meta, self.sharing, fallback_type, pieces)
            }
        };
        Ok(Reply {
            response,
            how,
            source: how.document_source(),
        })
    }

    /// The document without its Content-Encoding, if the client cannot take that off.
    async fn decoded(
        &self,
        headers: &HeaderMap,
        document: &Document,
    ) -> Result<Option<bytes::Bytes>, Refusal> {
        let Some(stored) = &document.content_encoding else {
            return Ok(None);
        };
        if negotiate::accepts_encoding(headers, stored) {
            return Ok(None);
        }
        match Encoding::parse(stored) {
            Ok(Some(encoding)) => match encoding.decode(&document.bytes).await {
                Ok(plain) => Ok(Some(plain)),
                Err(cause) => {
                    tracing::warn!(%cause, encoding = encoding.as_str(), "a stored document cannot be decoded");
                    Err(Refusal::NotDecodable)
                }
            },
            Ok(None) | Err(_) => Ok(None),
        }
    }

    async fn nar(&self, request: &HttpRequest, key: &NarKey) -> Result<Reply, Refused> {
        if request.method() == Method::HEAD {
            let Answered { answer, how } = self.gateway.head_nar(key).await;
            let facts = found(answer, how)?;
            let nothing = || Box::pin(futures_util::stream::empty());
            let response = match conditional_on(request, facts.tag.as_ref(), how)? {
                Condition::NotModified => reply::nar_unchanged(&facts, self.sharing),
                Condition::Proceed | Condition::Failed => {
                    let range = asked_range(request, facts.tag.as_ref(), facts.len, how)?;
                    reply::nar(&facts, range, self.sharing, nothing())
                }
            };
            return Ok(Reply {
                response,
                how,
                source: Source::None,
            });
        }
        let Answered { answer, how } = self.gateway.nar(key).await;
        let nar = found(answer, how)?;
        let (facts, source) = (nar.facts.clone(), nar.source());
        let response = match conditional_on(request, facts.tag.as_ref(), how)? {
            Condition::NotModified => reply::nar_unchanged(&facts, self.sharing),
            Condition::Proceed | Condition::Failed => {
                let range = asked_range(request, facts.tag.as_ref(), facts.len, how)?;
                let pieces = self.gateway.nar_pieces(key, nar, range).await;
                let pieces = pieces.map_err(|cause| Refused {
                    refusal: Refusal::Unknown(cause),
                    how,
                })?;
                reply::nar(&facts, range, self.sharing, pieces)
            }
        };
        Ok(Reply {
            response,
            how,
            source,
        })
    }
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

fn conditional_on(
    request: &HttpRequest,
    tag: Option<&ETag>,
    how: How,
) -> Result<Condition, Refused> {
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
    request: &HttpRequest,
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
