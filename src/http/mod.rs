//! LAYER 1: from a request's text to a journey of the gateway, and from its outcome to an answer.
//!
//! Everything a client says is parsed here, once; what goes down are keys and ranges that need no
//! second look. Everything the gateway says becomes a status in one table (`error.rs`) and headers
//! in one file (`reply.rs`).

mod auth;
mod client;
mod conditional;
mod error;
mod front_page;
mod leaving;
mod negotiate;
mod objects;
mod observe;
mod pages;
mod past;
mod read;
mod receive;
mod remove;
mod reply;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;

use actix_http::{Payload, Request};
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::{HttpMessage, HttpResponse};
use secrecy::SecretString;

use crate::asker::asking;
use crate::clock::Clock;
use crate::config::{Config, Namespaces, Token};
use crate::gateway::Gateway;
use crate::gateway::error::UploadError;
use crate::gateway::served::How;
use crate::gateway::upload::{Admitted, Uploaded};
use crate::metrics::Metrics;
use crate::metrics::labels::{Kind, Source};

use auth::{Auth, Denied, Scope};
use client::Client;
use error::Refusal;
use leaving::Leaving;
use observe::{Observed, RequestIds, Watched};
use pages::Pages;
use receive::Decided;
use reply::{Reply, Sharing};
use routes::{Route, Routed};

/// Methods of what can be read and not written.
pub const READ_METHODS: &str = "GET, HEAD";

/// Methods of what can be uploaded.
const OBJECT_METHODS: &str = "GET, HEAD, PUT";

/// Methods of what can be deleted and not uploaded.
const REMOVABLE: &str = "GET, HEAD, DELETE";

/// Methods of what can be uploaded and deleted.
const ALL_METHODS: &str = "GET, HEAD, PUT, DELETE";

/// What a header field takes besides its name and its value: the colon, a blank, the line's end.
const FIELD_OVERHEAD: usize = 4;

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
    leaving: Leaving,
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
            auth: Auth::new(&config.auth),
            pages: Pages::new(config, sharing, &clock),
            ids: RequestIds::new(),
            namespaces: config.cache.namespaces.clone(),
            sharing,
            access_log: config.log.access,
            metrics_here: config.metrics.enabled && config.metrics.listen.is_none(),
            metrics_token: config.metrics.token.clone(),
            leaving: Leaving::default(),
            clock,
        }
    }

    /// Takes note of how fast things go; once a second.
    pub fn tick(&self) {
        self.pages.tick(&self.metrics, &self.clock);
    }

    /// From now on these tokens count and no others.
    pub fn replace_tokens(&self, tokens: &[Token]) {
        self.auth.replace(tokens);
    }

    /// From now on `/ready` says that this server is leaving, and so does every answer.
    pub fn begin_draining(&self) {
        self.leaving.begin();
    }

    /// Waits until idle connections may be closed without cutting off somebody who pushes.
    pub async fn until_quiet(&self) {
        self.leaving.until_quiet().await;
    }

    /// Answers a request that came by a listener of the cache.
    pub async fn handle(&self, mut request: Request) -> HttpResponse<Watched> {
        let payload = request.take_payload();
        let pushes = request.method() == Method::PUT;
        if pushes {
            self.leaving.note_push();
        }
        let mut seen = self.observe(request.method(), request.uri());
        let decided = if pushes {
            request.extensions_mut().remove::<Decided>()
        } else {
            None
        };
        let found = self.find(request.method(), request.uri(), request.headers());
        let reply = match found {
            Ok(routed) => {
                seen.kind = routed.route.kind();
                let about_nar = seen.kind == Kind::Nar;
                let answer = self.answer(&request, routed, decided, payload);
                match asking(Arc::clone(&seen.id), answer).await {
                    Ok(reply) => reply,
                    Err(refused) => {
                        let client = Client::of(request.headers());
                        self.refuse(refused, client, &mut seen, about_nar)
                    }
                }
            }
            Err(refusal) => {
                Box::pin(receive::drain(payload)).await;
                let client = Client::of(request.headers());
                self.refuse(Refused::plainly(refusal), client, &mut seen, false)
            }
        };
        if pushes {
            self.leaving.note_push();
        }
        self.leaving.mark(seen.answer(reply))
    }

    /// Decides on an upload before `100 Continue`. `Err` is the final answer; on `Ok` the client may
    /// send its body, and the decision travels with the request.
    pub async fn expect(&self, request: Request) -> Result<Request, HttpResponse> {
        if request.method() != Method::PUT {
            return Ok(request);
        }
        let mut seen = self.observe(request.method(), request.uri());
        let found = self.find(request.method(), request.uri(), request.headers());
        let decided = match found {
            Ok(routed) => {
                seen.kind = routed.route.kind();
                let decision = self.decide(&routed, request.headers(), request.peer_addr(), true);
                asking(Arc::clone(&seen.id), decision).await
            }
            Err(refusal) => Err(refusal),
        };
        match decided {
            Ok(Some(Admitted::Existing)) => Err(seen
                .answer(Reply::own(receive::taken(Uploaded::Existing)))
                .map_into_boxed_body()),
            Ok(Some(Admitted::Wanted(leave))) => {
                seen.withdraw();
                request.extensions_mut().insert(Decided { leave });
                Ok(request)
            }
            Ok(None) => {
                seen.withdraw();
                Ok(request)
            }
            Err(refusal) => {
                let about_nar = seen.kind == Kind::Nar;
                // Nothing of the body was read, so any client can come back with it.
                let (client, refused) = (Client::Nix, Refused::plainly(refusal));
                let reply = self.refuse(refused, client, &mut seen, about_nar);
                Err(seen.answer(reply).map_into_boxed_body())
            }
        }
    }

    /// Answers a request that came by the metrics' own listener.
    pub async fn handle_metrics(&self, request: Request) -> HttpResponse<Watched> {
        let mut seen = self.observe(request.method(), request.uri());
        let answered = match (request.path(), reads(request.method())) {
            ("/metrics", true) => self.metrics_page(request.headers()),
            ("/metrics", false) => Err(Refusal::Method {
                allow: READ_METHODS,
            }),
            _ => Err(Refusal::NoRoute),
        };
        let reply = match answered {
            Ok(response) => Reply::own(response),
            Err(refusal) => {
                let (client, refused) = (Client::of(request.headers()), Refused::plainly(refusal));
                self.refuse(refused, client, &mut seen, false)
            }
        };
        seen.answer(reply)
    }

    fn observe(&self, method: &Method, uri: &Uri) -> Observed {
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

    fn find(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Routed, Refusal> {
        let of_fields = |(name, value): (&HeaderName, &HeaderValue)| {
            name.as_str().len() + value.len() + FIELD_OVERHEAD
        };
        if headers.len() > error::MAX_FIELDS
            || headers.iter().map(of_fields).sum::<usize>() > error::MAX_HEAD
        {
            return Err(Refusal::HeadTooLarge);
        }
        if uri
            .path_and_query()
            .is_some_and(|target| target.as_str().len() > error::MAX_TARGET)
        {
            return Err(Refusal::TargetTooLong);
        }
        let query = match *method {
            Method::DELETE => remove::split_query(uri.query()).0,
            _ => uri.query(),
        };
        let routed = routes::route(uri.path(), query, &self.namespaces, reads(method));
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
        request: &Request,
        routed: Routed,
        decided: Option<Decided>,
        payload: Payload,
    ) -> Result<Reply, Refused> {
        if reads(request.method()) {
            // A body that nobody asked for would cost the connection if it stayed unread.
            if request.headers().contains_key(CONTENT_LENGTH) || request.chunked().unwrap_or(false)
            {
                Box::pin(receive::drain(payload)).await;
            }
            return self.read(request, routed).await;
        }
        // Boxed, as is all that few requests come to: a future is as large as the largest of its
        // branches, and is moved several times before it is polled.
        Box::pin(self.change(request, routed, decided, payload)).await
    }

    async fn change(
        &self,
        request: &Request,
        routed: Routed,
        decided: Option<Decided>,
        payload: Payload,
    ) -> Result<Reply, Refused> {
        if request.method() == Method::DELETE && self.takes_removals() {
            let (_, from_bucket) = remove::split_query(request.uri().query());
            let removed = self.remove(request, &routed, from_bucket).await;
            receive::drain(payload).await;
            return removed;
        }
        let admitted = match (request.method(), decided) {
            (&Method::PUT, Some(Decided { leave })) => Ok(Some(Admitted::Wanted(leave))),
            (&Method::PUT, None) => {
                self.decide(&routed, request.headers(), request.peer_addr(), false)
                    .await
            }
            _ => Err(Refusal::Method {
                allow: self.allowed(&routed.route),
            }),
        };
        match admitted {
            Ok(Some(Admitted::Wanted(leave))) => {
                let taken = receive::take(&self.gateway, *leave, payload).await;
                let uploaded = taken.map_err(|cause| Refused::plainly(Refusal::Upload(cause)))?;
                Ok(Reply::own(receive::taken(uploaded)))
            }
            Ok(Some(Admitted::Existing) | None) => {
                receive::drain(payload).await;
                Ok(Reply::own(receive::taken(Uploaded::Existing)))
            }
            Err(refusal) => {
                receive::drain(payload).await;
                Err(Refused::plainly(refusal))
            }
        }
    }

    fn allowed(&self, route: &Route) -> &'static str {
        let puts = self.gateway.takes_uploads();
        match route {
            Route::Object(_) => match (puts, self.takes_removals()) {
                (true, true) => ALL_METHODS,
                (true, false) => OBJECT_METHODS,
                (false, true) => REMOVABLE,
                (false, false) => READ_METHODS,
            },
            Route::CacheInfo if puts => OBJECT_METHODS,
            Route::CacheInfo | Route::Home | Route::Health | Route::Ready | Route::Metrics => {
                READ_METHODS
            }
        }
    }

    /// Decides on a PUT, whose body `waits` for that or comes at once. `None`: it is accepted and
    /// ignored.
    async fn decide(
        &self,
        routed: &Routed,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
        waits: bool,
    ) -> Result<Option<Admitted>, Refusal> {
        let writable = matches!(routed.route, Route::Object(_) | Route::CacheInfo);
        if !writable {
            return Err(Refusal::Method {
                allow: READ_METHODS,
            });
        }
        if !self.gateway.takes_uploads() {
            return Err(Refusal::Upload(UploadError::Disabled));
        }
        let by = self.authorise(routed, headers, Scope::Write, peer)?;
        let by = by.unwrap_or_default();
        match &routed.route {
            Route::Object(key) => {
                let admitted = receive::decide(&self.gateway, key, headers, waits, by).await;
                admitted.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The name of the token that allows it; `None`: nobody need ask.
    fn authorise(
        &self,
        routed: &Routed,
        headers: &HeaderMap,
        scope: Scope,
        peer: Option<SocketAddr>,
    ) -> Result<Option<Arc<str>>, Refusal> {
        let namespace = routed.namespace.as_ref();
        let namespace = namespace.map(|namespace| namespace.as_str());
        let denied = match self.auth.check(headers, scope, namespace) {
            Ok(by) => return Ok(by),
            Err(denied) => denied,
        };
        self.metrics.auth_failures.of((denied.into(),)).inc();
        if denied != Denied::Unknown {
            return Err(Refusal::Denied { denied, scope });
        }
        if self.auth.note_unknown(peer.map(|peer| peer.ip())) {
            tracing::warn!(from = ?peer, ?scope, "an unknown token was shown");
            return Err(Refusal::Denied { denied, scope });
        }
        let denied = Denied::TooMany;
        Err(Refusal::Denied { denied, scope })
    }

    fn refuse(
        &self,
        refused: Refused,
        client: Client,
        seen: &mut Observed,
        about_nar: bool,
    ) -> Reply {
        let Refused { refusal, how } = refused;
        if let Some(reason) = refusal.unknown_reason() {
            self.metrics.unknown_answers.of((reason,)).inc();
        }
        seen.refused(&refusal);
        let response = reply::refusal(&refusal, client, &seen.id, about_nar);
        Reply {
            response,
            how,
            source: Source::None,
            past: None,
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

fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}
