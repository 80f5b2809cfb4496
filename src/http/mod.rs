//! LAYER 1: from a request's text to a journey of the gateway, and from its outcome to an answer.
//!
//! Everything a client says is parsed here, once; what goes down are keys and ranges that need no
//! second look. Everything the gateway says becomes a status in one table (`error.rs`) and headers
//! in one file (`reply.rs`).

mod auth;
mod client;
mod conditional;
mod error;
mod negotiate;
mod observe;
mod pages;
mod receive;
mod reply;
mod routes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::http::header::{HeaderMap, IF_MATCH, IF_NONE_MATCH, RANGE};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::clock::Clock;
use crate::config::{Config, Namespaces};
use crate::gateway::document::Page;
use crate::gateway::served::{Answered, How};
use crate::gateway::upload::{Admitted, Uploaded};
use crate::gateway::{Encoding, Gateway};
use crate::lookup::Lookup;
use crate::metrics::Metrics;
use crate::metrics::labels::{Kind, Source};
use crate::nix::key::{DocumentKey, DocumentKind, Key, NarKey};
use crate::object::{Document, ETag};
use crate::range::{ByteRange, RangeRequest};

use auth::{Auth, Denied, Scope};
use client::Client;
use conditional::Condition;
use error::Refusal;
use observe::{Observed, RequestIds};
use pages::Pages;
use receive::Decided;
use reply::{Reply, Sharing};
use routes::{Route, Routed};

/// Methods of what can be read and not written.
pub const READ_METHODS: &str = "GET, HEAD";

/// Methods of what can be uploaded.
const OBJECT_METHODS: &str = "GET, HEAD, PUT";

/// How long `/ready` waits for the bucket's sign of life.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// What all workers share to answer requests.
#[derive(Debug)]
pub struct Front {
    gateway: Arc<Gateway>,
    metrics: Arc<Metrics>,
    clock: Clock,
    auth: Auth,
    pages: Pages,
    ids: RequestIds,
    namespaces: Namespaces,
    sharing: Sharing,
    access_log: bool,
    /// Whether `/metrics` is served on the listener the request came by.
    metrics_here: bool,
    metrics_token: Option<SecretString>,
    draining: AtomicBool,
}

/// Which of the two faces a listener shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Everything, and `/metrics` unless it has a listener of its own.
    Cache,
    /// `/metrics` alone.
    Metrics,
}

impl Front {
    pub fn new(
        config: &Config,
        gateway: Arc<Gateway>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Self {
        let sharing = if config.auth.public_reads {
            Sharing::Public
        } else {
            Sharing::Private
        };
        Self {
            gateway,
            metrics,
            clock,
            auth: Auth::new(&config.auth),
            pages: Pages::new(&config.cache, &config.signing.trusted_public_keys, sharing),
            ids: RequestIds::new(),
            namespaces: config.cache.namespaces.clone(),
            sharing,
            access_log: config.log.access,
            metrics_here: config.metrics.enabled && config.metrics.listen.is_none(),
            metrics_token: config.metrics.token.clone(),
            draining: AtomicBool::new(false),
        }
    }

    /// From now on `/ready` says that this server is leaving.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Answers a request that came by a listener of the cache.
    pub async fn handle(&self, request: HttpRequest, payload: Payload) -> HttpResponse {
        let mut seen = self.observe(request.method(), request.uri());
        let decided = request.extensions().get::<Decided>().cloned();
        let reply = match self.find(request.method(), request.uri()) {
            Ok(routed) => {
                seen.kind = routed.route.kind();
                let about_nar = seen.kind == Kind::Nar;
                match self.answer(&request, routed, decided, payload).await {
                    Ok(reply) => reply,
                    Err(refused) => self.refuse(refused, request.headers(), &seen, about_nar),
                }
            }
            Err(refusal) => {
                receive::drain(payload).await;
                self.refuse(Refused::plainly(refusal), request.headers(), &seen, false)
            }
        };
        seen.answer(reply)
    }

    /// Decides on an upload before `100 Continue`. `Err` is the final answer; on `Ok` the client may
    /// send its body, and the decision travels with the request.
    pub async fn expect(
        &self,
        request: actix_http::Request,
    ) -> Result<actix_http::Request, HttpResponse> {
        if request.method() != Method::PUT {
            return Ok(request);
        }
        let mut seen = self.observe(request.method(), request.uri());
        let decided = match self.find(request.method(), request.uri()) {
            Ok(routed) => {
                seen.kind = routed.route.kind();
                self.decide(&routed, request.headers(), request.peer_addr())
                    .await
            }
            Err(refusal) => Err(refusal),
        };
        match decided {
            Ok(Some(Admitted::Existing)) => {
                Err(seen.answer(Reply::own(receive::taken(Uploaded::Existing))))
            }
            Ok(Some(admitted)) => {
                seen.withdraw();
                request.extensions_mut().insert(Decided { admitted });
                Ok(request)
            }
            Ok(None) => {
                seen.withdraw();
                Ok(request)
            }
            Err(refusal) => {
                let about_nar = seen.kind == Kind::Nar;
                let reply = self.refuse(
                    Refused::plainly(refusal),
                    request.headers(),
                    &seen,
                    about_nar,
                );
                Err(seen.answer(reply))
            }
        }
    }

    /// Answers a request that came by the metrics' own listener.
    pub async fn handle_metrics(&self, request: HttpRequest) -> HttpResponse {
        let seen = self.observe(request.method(), request.uri());
        let answered = match (request.path(), reads(request.method())) {
            ("/metrics", true) => self.metrics_page(request.headers()),
            ("/metrics", false) => Err(Refusal::Method {
                allow: READ_METHODS,
            }),
            _ => Err(Refusal::NoRoute),
        };
        let reply = match answered {
            Ok(response) => Reply::own(response),
            Err(refusal) => self.refuse(Refused::plainly(refusal), request.headers(), &seen, false),
        };
        seen.answer(reply)
    }

    fn observe(&self, method: &Method, uri: &actix_web::http::Uri) -> Observed {
        let target = uri.path_and_query().map_or("*", |target| target.as_str());
        let target = target.get(..error::MAX_TARGET).unwrap_or(target).to_owned();
        Observed::begin(
            Arc::clone(&self.metrics),
            self.access_log,
            self.ids.next(),
            method,
            target,
        )
    }

    fn find(&self, method: &Method, uri: &actix_web::http::Uri) -> Result<Routed, Refusal> {
        if uri
            .path_and_query()
            .is_some_and(|target| target.as_str().len() > error::MAX_TARGET)
        {
            return Err(Refusal::TargetTooLong);
        }
        let routed = routes::route(uri.path(), uri.query(), &self.namespaces, reads(method));
        match routed {
            Some(Routed {
                route: Route::Metrics,
                ..
            }) if !self.metrics_here => Err(Refusal::NoRoute),
            Some(routed) => Ok(routed),
            None => Err(Refusal::NoRoute),
        }
    }

    async fn answer(
        &self,
        request: &HttpRequest,
        routed: Routed,
        decided: Option<Decided>,
        payload: Payload,
    ) -> Result<Reply, Refused> {
        if reads(request.method()) {
            return self.read(request, routed).await;
        }
        let admitted = match (request.method(), decided) {
            (&Method::PUT, Some(decided)) => Ok(Some(decided.admitted)),
            (&Method::PUT, None) => {
                self.decide(&routed, request.headers(), request.peer_addr())
                    .await
            }
            _ => Err(Refusal::Method {
                allow: self.allowed(&routed.route),
            }),
        };
        match (admitted, routed.route) {
            (Ok(Some(Admitted::Wanted { len })), Route::Object(key)) => {
                let taken =
                    receive::take(&self.gateway, key, len, request.headers(), payload).await;
                let uploaded = taken.map_err(|cause| Refused::plainly(Refusal::Upload(cause)))?;
                Ok(Reply::own(receive::taken(uploaded)))
            }
            (Ok(_), _) => {
                receive::drain(payload).await;
                Ok(Reply::own(receive::taken(Uploaded::Existing)))
            }
            (Err(refusal), _) => {
                receive::drain(payload).await;
                Err(Refused::plainly(refusal))
            }
        }
    }

    fn allowed(&self, route: &Route) -> &'static str {
        match route {
            Route::Object(_) | Route::CacheInfo if self.gateway.takes_uploads() => OBJECT_METHODS,
            Route::Object(_)
            | Route::CacheInfo
            | Route::Home
            | Route::Health
            | Route::Ready
            | Route::Metrics => READ_METHODS,
        }
    }

    /// Decides on a PUT. `None`: it is accepted and ignored.
    async fn decide(
        &self,
        routed: &Routed,
        headers: &HeaderMap,
        peer: Option<std::net::SocketAddr>,
    ) -> Result<Option<Admitted>, Refusal> {
        let writable = matches!(routed.route, Route::Object(_) | Route::CacheInfo);
        if !writable {
            return Err(Refusal::Method {
                allow: READ_METHODS,
            });
        }
        if !self.gateway.takes_uploads() {
            return Err(Refusal::Upload(
                crate::gateway::error::UploadError::Disabled,
            ));
        }
        self.authorise(routed, headers, Scope::Write, peer)?;
        match &routed.route {
            Route::Object(key) => receive::decide(&self.gateway, key, headers).await.map(Some),
            _ => Ok(None),
        }
    }

    fn authorise(
        &self,
        routed: &Routed,
        headers: &HeaderMap,
        scope: Scope,
        peer: Option<std::net::SocketAddr>,
    ) -> Result<(), Refusal> {
        let namespace = routed
            .namespace
            .as_ref()
            .map(|namespace| namespace.as_str());
        let denied = match self.auth.check(headers, scope, namespace) {
            Ok(_) => return Ok(()),
            Err(denied) => denied,
        };
        self.metrics.auth_failures.of((denied.into(),)).inc();
        if denied == Denied::Unknown && self.auth.note_unknown(peer.map(|peer| peer.ip())) {
            tracing::warn!(from = ?peer, ?scope, "an unknown token was shown");
        }
        Err(Refusal::Denied { denied, scope })
    }

    async fn read(&self, request: &HttpRequest, routed: Routed) -> Result<Reply, Refused> {
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
        let _ = tokio::time::timeout(PROBE_PATIENCE, self.gateway.probe()).await;
        let draining = self.draining.load(Ordering::Relaxed);
        self.pages
            .ready(&self.gateway.readiness(), draining, &self.clock)
    }

    fn metrics_page(&self, headers: &HeaderMap) -> Result<HttpResponse, Refusal> {
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

    fn refuse(
        &self,
        refused: Refused,
        headers: &HeaderMap,
        seen: &Observed,
        about_nar: bool,
    ) -> Reply {
        let Refused { refusal, how } = refused;
        if let Some(reason) = refusal.unknown_reason() {
            self.metrics.unknown_answers.of((reason,)).inc();
            tracing::debug!(id = seen.id, ?refusal, "nobody could say");
        }
        let response = reply::refusal(&refusal, Client::of(headers), &seen.id, about_nar);
        Reply {
            response,
            how,
            source: Source::None,
        }
    }
}

/// A refusal, and how it came about: a 404 may be a negative hit.
#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    how: How,
}

impl Refused {
    fn plainly(refusal: Refusal) -> Self {
        Self {
            refusal,
            how: How::Own,
        }
    }
}

fn found<T>(
    answer: Lookup<T, crate::gateway::error::GatewayError>,
    how: How,
) -> Result<T, Refused> {
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

fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
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
